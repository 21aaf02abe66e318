"""The model: one form for what is the same, round trips, bytes counted, and what is not a model."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.audit import peak_of
from support.models import model_of, parts_of
from support.strategies import draw_model, models, rngs

from c2f_ref import method
from c2f_ref.method import MethodError, Settings, stored_bytes_bound
from c2f_ref.model import FORMAT, Model, load_model, save_model
from c2f_ref.store import StoreError, pack_text, write_store

DTYPES = st.sampled_from(
    [(np.float64, None), (np.float32, None), (np.float32, np.float16), (np.float64, np.float32)]
)
KINDS = ("compressed", "dense", "coarse alone")
TWICE = sparse.csr_array((np.ones(24), np.repeat(range(12), 2) % 4, np.arange(13) * 2), (12, 4))
"""An assignment with each entry given twice."""


@pytest.fixture(scope="module")
def model() -> Model:
    """Sizes: 5 users, 7 items, C = 4, F = 3, D = 6."""
    return model_of(draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1)))


def given_parts(model: Model) -> dict[str, Any]:
    """The arguments of `Model.of` that give this model."""
    names = (
        "settings user_ids item_ids seen bias coarse coarse_assignment fine fine_assignment "
        "provenance"
    )
    return {name: getattr(model, name) for name in names.split()}


def made_of(kind: str) -> Model:
    """A model with a fine table in either form, or without one."""
    drawn = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1))
    sparse_fine = np.where(np.arange(18).reshape(3, 6) % 3 == 1, 2.0, 0.0)
    fine = sparse_fine if kind == "compressed" else np.full((3, 6), -3.0)
    return model_of(drawn._replace(fine=fine), "int", has_fine=kind != "coarse alone")


def assert_none(model: Model, changes: dict[str, Any], words: str) -> None:
    """With these arrays, None for one left out, it is no model."""
    arrays = {
        name: part for name, part in (dict(model.arrays) | changes).items() if part is not None
    }
    with pytest.raises(MethodError, match=words):
        replace(model, arrays=arrays)


def assert_no_model(
    path: Path, model: Model, words: str, *, arrays: Any = None, **header: Any
) -> None:
    """A file of this model with other arrays, settings or provenance is refused, and named."""
    whole = {"settings": vars(model.settings), "provenance": {}} | header
    write_store(path / "m.npz", FORMAT, whole, dict(model.arrays) if arrays is None else arrays)
    with pytest.raises(StoreError, match=rf"m\.npz: expected a model: .*{words}"):
        load_model(path / "m.npz")


# Round trips


@given(models(), st.sampled_from(["int", "unsigned", "text"]), st.booleans(), DTYPES)
def test_what_is_saved_is_loaded_bit_for_bit(
    tmp_path_factory: Any, drawn: Any, ids: str, has_fine: bool, dtypes: Any
) -> None:
    """Through a file, through pickle, and taken apart into SciPy arrays and made again."""
    saved = model_of(drawn, ids, has_fine=has_fine, dtype=dtypes[0], table_dtype=dtypes[1])
    save_model(tmp_path_factory.getbasetemp() / "a model", saved)
    loaded = load_model(tmp_path_factory.getbasetemp() / "a model")
    for again in (loaded, pickle.loads(pickle.dumps(saved)), Model.of(**given_parts(loaded))):
        assert parts_of(again) == parts_of(saved)
        assert list(again.arrays) == list(saved.arrays)


@given(models(), st.booleans())
def test_scipy_arrays_are_those_that_were_given(drawn: Any, has_fine: bool) -> None:
    made = model_of(drawn, has_fine=has_fine)
    assert (made.n_users, made.n_items) == (drawn.n_users, drawn.n_items)
    expected = np.zeros((drawn.n_users, drawn.n_items))
    expected[drawn.users, drawn.items] = 1.0
    assert np.array_equal(made.seen.toarray(), expected)
    assert made.seen.indices.dtype == made.seen.indptr.dtype == np.int32
    pairs = [(made.coarse_assignment, drawn.coarse_assignment)]
    if has_fine:
        assert made.fine is not None
        live = np.abs(drawn.fine) > drawn.settings.threshold
        assert np.array_equal(made.fine, np.where(live, drawn.fine, 0.0))
        pairs.append((made.fine_assignment, drawn.fine_assignment))
    else:
        assert made.fine is made.fine_assignment is None
    for got, given_matrix in pairs:
        assert np.array_equal(got.toarray(), given_matrix.toarray())
    assert made.user_ids.tolist() == [f"Zoë {number}" for number in range(drawn.n_users)]


def test_exact_zeros_of_an_assignment_stay_stored(model: Model) -> None:
    assignment = model.coarse_assignment.copy()
    assignment.data[[0, 3]] = 0.0, -0.0
    made = Model.of(**given_parts(model) | {"coarse_assignment": assignment})
    assert made.coarse_assignment.nnz == 24
    assert made.coarse_assignment.data.tobytes() == assignment.data.tobytes()


def test_numbers_that_json_does_not_know_survive(model: Model, tmp_path: Path) -> None:
    odd = {"threshold": math.inf, "clip_limit": math.inf, "pinv_rtol": 0.1 + 0.2}
    settings = replace(model.settings, **odd)
    save_model(tmp_path / "m", Model.of(**given_parts(model) | {"settings": settings}))
    assert load_model(tmp_path / "m").settings == settings


def test_a_model_without_users_and_pairs_survives(tmp_path: Path) -> None:
    empty = Model.of(
        settings=Settings(n_coarse=2, n_fine=0, dim=3),
        user_ids=np.array([], dtype=np.int64),
        item_ids=np.array([], dtype=np.str_),
        seen=sparse.csr_array((0, 0)),
        bias=np.zeros(0),
        coarse=np.ones((2, 3)),
        coarse_assignment=sparse.csr_array((0, 2)),
    )
    save_model(tmp_path / "m", empty)
    assert parts_of(load_model(tmp_path / "m")) == parts_of(empty)
    assert empty.item_ids.dtype.kind == "U"
    assert "0 training pairs" in empty.describe_stored()


# One form


def test_what_changes_no_recommendation_is_put_into_one_form(model: Model) -> None:
    seen = sparse.csr_array(
        (np.array([3.0, -1.0, 0.0, 2.0, 2.0]), [4, 1, 0, 2, 2], [0, 2, 2, 3, 3, 5]), shape=(5, 7)
    )
    backwards = model.coarse_assignment.copy()
    for name in ("data", "indices"):
        array = getattr(backwards, name).reshape(-1, 2)[:, ::-1].ravel()
        setattr(backwards, name, array)
    threshold, fine = model.settings.threshold, model.fine.copy()
    fine[0, :4] = [threshold, -threshold, threshold / 2, np.nextafter(threshold, 2)]
    changed = {"seen": seen, "coarse_assignment": backwards, "fine": fine, "bias": np.arange(12.0)}
    given = Model.of(**given_parts(model) | changed)
    rows, columns = given.seen.nonzero()
    assert list(zip(rows, columns, strict=True)) == [(0, 1), (0, 4), (2, 0), (4, 2)]
    assert given.bias.tolist() == [0.0] * 5 + [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    same = {name: given_parts(model)[name] for name in ("seen", "fine", "bias")}
    assert parts_of(Model.of(**given_parts(given) | same)) == parts_of(model)
    assert given.fine[0, :4].tolist() == [0.0, 0.0, 0.0, np.nextafter(threshold, 2)]
    assert np.array_equal(given.fine[1:], model.fine[1:])


@given(models())
def test_the_form_changes_no_recommendation(drawn: Any) -> None:
    """Lists by the method, from the parts as they were drawn and as the model holds them."""
    made, users = model_of(drawn), np.arange(drawn.n_users)
    lists = []
    for part in (drawn, made):
        assignments = part.coarse_assignment, part.fine_assignment
        plan = method.prepare_fine(
            drawn.norm_adjacency, *assignments, drawn.n_users, drawn.settings
        )
        entities = method.embed_fine(plan, part.coarse, part.fine)[0]
        lists.append(method.rank_items(entities, part.bias, drawn.n_users, users, made.seen, 4))
    assert np.array_equal(lists[0][0], lists[1][0])
    np.testing.assert_allclose(lists[0][1], lists[1][1], rtol=1e-12, atol=1e-12)


# Narrower types


@given(models(), st.sampled_from([np.float16, np.float32]))
def test_rounded_tables_are_the_nearest_and_nothing_else_changes(drawn: Any, dtype: Any) -> None:
    made = model_of(drawn)
    rounded = made.with_tables(dtype)
    assert rounded.coarse.dtype == rounded.fine.dtype == dtype
    assert np.array_equal(rounded.coarse, made.coarse.astype(dtype))
    assert np.array_equal(rounded.fine, made.fine.astype(dtype))  # none is near the threshold
    kept = made.arrays.keys() - {"coarse", "fine", "fine.values", "fine.columns", "fine.starts"}
    assert all(parts_of(rounded)[name] == parts_of(made)[name] for name in kept)
    other = made.with_tables(np.float64, np.float32)
    narrow = (other.bias, other.coarse_assignment, other.fine_assignment)
    assert {part.dtype for part in narrow} == {np.dtype(np.float32)}
    assert parts_of(other.with_tables(np.float64, np.float32)) == parts_of(other)


def test_an_entry_that_is_rounded_to_the_threshold_becomes_zero(model: Model) -> None:
    settings, fine = replace(model.settings, threshold=1.0), np.full((3, 6), 1 + 2**-12)
    near = Model.of(**given_parts(model) | {"settings": settings, "fine": fine})
    assert (near.with_tables(np.float32).fine == np.float32(1 + 2**-12)).all()
    assert (near.with_tables(np.float16).fine == 0).all()


def test_an_entry_too_large_for_half_precision_is_named(model: Model) -> None:
    large = Model.of(**given_parts(model) | {"coarse": model.coarse + 70000.0})
    with pytest.raises(MethodError, match="coarse must be finite, got inf"):
        large.with_tables(np.float16)


# Bytes


@given(models(), DTYPES, st.sampled_from(["int", "unsigned", "text"]), st.booleans(), rngs())
def test_counted_bytes_are_those_of_the_arrays_and_never_above_the_promise(
    drawn: Any, dtypes: Any, ids: str, has_fine: bool, rng: np.random.Generator
) -> None:
    """Each term by its formula in README equation (31); ids as UTF-8 and where they begin."""
    drawn = drawn._replace(fine=drawn.fine * rng.choice([0.1, 1.0, 10.0]))
    made = model_of(drawn, ids, has_fine=has_fine, dtype=dtypes[0], table_dtype=dtypes[1])
    terms, settings, value = made.stored_bytes(), made.settings, np.dtype(dtypes[0]).itemsize
    table = made.coarse.itemsize
    n_live = 0 if made.fine is None else int(np.count_nonzero(made.fine))
    packed = n_live * (table + 1) + settings.n_fine + 1
    n_entities, n_pairs = drawn.n_entities, made.seen.nnz
    assert terms == {
        "coarse": settings.n_coarse * settings.dim * table,
        "fine": min(settings.n_fine * settings.dim * table, packed) if has_fine else 0,
        "coarse_assignment": n_entities * settings.coarse_per_entity * (value + 1),
        "fine_assignment": has_fine * settings.n_coarse * settings.fine_per_coarse * (value + 1),
        "bias": drawn.n_items * value,
        "ids": sum(a.nbytes for name, a in made.arrays.items() if name.startswith("ids")),
        "graph": n_pairs + drawn.n_users + 1,
    }
    id_bytes = -(-terms["ids"] // n_entities)
    bound = stored_bytes_bound(
        settings, drawn.n_users, drawn.n_items, id_bytes, n_pairs=n_pairs, dtype=dtypes[0],
        table_dtype=dtypes[1],
    )  # fmt: skip
    assert bound.keys() == terms.keys()
    assert all(terms[name] <= bound[name] for name in terms)


def test_bytes_of_text_ids_are_those_of_utf_8_and_of_where_they_begin(model: Model) -> None:
    """5 times `Zoë n` of 6 bytes and 6 starts; 7 times `in` of 2 bytes and 8 starts."""
    assert model.stored_bytes()["ids"] == 5 * 6 + 6 + 7 * 2 + 8
    words = model.describe_stored()
    assert f"ids {5 * 6 + 6 + 7 * 2 + 8}" in words
    assert f"{sum(model.stored_bytes().values()):,} bytes stored" in words


def test_one_long_id_among_many_makes_no_large_file(tmp_path: Path) -> None:
    """In fixed width 5,000 ids of 20,000 characters would take 400 MB."""
    content, starts = pack_text(["x" * 20_000, *map(str, range(4999))])
    arrays = {
        "bias": np.zeros(5000),
        "coarse": np.ones((2, 3)),
        "coarse_assignment.columns": np.zeros((5001, 1), dtype=np.uint8),
        "coarse_assignment.values": np.ones((5001, 1)),
        "graph.columns": np.zeros(0, dtype=np.uint16),
        "graph.starts": np.zeros(2, dtype=np.uint8),
        "ids.items": content,
        "ids.items.starts": starts,
        "ids.users": np.zeros(1, dtype=np.int64),
    }
    made = Model(Settings(n_coarse=2, n_fine=0, dim=3, coarse_per_entity=1), arrays)
    assert peak_of(lambda: save_model(tmp_path / "m", made)) < 2 * 10**6
    assert (tmp_path / "m").stat().st_size < 2 * 10**5
    assert peak_of(lambda: load_model(tmp_path / "m")) < 2 * 10**6


# What is not a model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bias": np.zeros(11)}, r"bias must have shape \(12,\), got \(11,\)"),
        ({"bias": np.zeros(12, dtype=np.float16)}, "bias must be float32 or float64, got float16"),
        ({"bias": np.append(np.zeros(11), np.nan)}, "bias must be finite"),
        ({"coarse": np.zeros((4, 5))}, r"coarse must have shape \(4, 6\), got \(4, 5\)"),
        ({"coarse": np.zeros((4, 6), dtype=np.int64)}, "coarse must be float16 or .*, got int64"),
        ({"fine": np.full((4, 6), 2.0)}, r"fine must have shape \(3, 6\)"),
        ({"fine": np.full((3, 6), 2)}, "fine.* must be float16 or float32 or .*, got int64"),
        ({"fine": np.full((3, 6), np.inf)}, "fine.* must be finite"),
        ({"user_ids": np.arange(6)}, r"seen must have shape \(6, 7\)"),
        ({"user_ids": np.zeros(5, dtype=np.int64)}, "ids.users must be .* none twice"),
        ({"user_ids": ["a", "b", "a", "c", "d"]}, "ids.users must be .* none twice"),
        ({"user_ids": ["a", "b", "\ud800", "c", "d"]}, "ids.users: text must be Unicode"),
        ({"item_ids": np.linspace(0, 1, 7)}, "ids.items must be integers or text"),
        ({"item_ids": np.arange(7).reshape(7, 1)}, "ids.items must be .*, in one row"),
        ({"fine": None}, "fine.*missing"),
        ({"fine_assignment": None}, "fine.*(missing|more than a model has)"),
        ({"fine_assignment": sparse.csr_array((3, 4))}, r"must have shape \(4, 3\)"),
        ({"coarse_assignment": sparse.csr_array((12, 3))}, r"must have shape \(12, 4\)"),
        ({"coarse_assignment": sparse.csr_array((12, 4))}, "2 entries a row, got 0 to 0"),
        ({"coarse_assignment": sparse.csr_array(np.ones((12, 4)))}, "2 entries a row, got 4 to 4"),
        ({"coarse_assignment": sparse.csr_array(np.eye(12, 4, 1) + np.eye(12, 4))}, "got 0 to 2"),
        ({"fine_assignment": sparse.csr_array(np.ones((4, 3), int))}, "must be float32 or float64"),
        ({"fine_assignment": sparse.csr_array(np.full((4, 3), np.nan))}, "values must be finite"),
        ({"coarse_assignment": TWICE}, r"coarse_assignment\.columns must ascend in every row"),
        ({"provenance": {"seed": 3}}, "provenance must be text by name"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_make_no_model(model: Model, changes: Any, words: str) -> None:
    with pytest.raises(MethodError, match=words):
        Model.of(**given_parts(model) | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_must_be_there_and_of_its_shape_type_and_range(kind: str) -> None:
    """Columns and starts are the narrowest, values and tables floats, ids integers or text."""
    model = made_of(kind)
    for name, array in model.arrays.items():
        assert_none(model, {name: None}, name.partition(".")[0])
        shapes = array[:-1], np.concatenate([array, array[-1:]]), array[None], array[:0]
        for changed in shapes:
            assert_none(model, {name: changed}, "must ")
        if name in ("ids.users", "ids.items"):
            continue
        is_index = name.endswith(("columns", "starts"))
        kept = {"<f4"} | ({"<f2"} if name.partition(".")[0] in ("coarse", "fine") else set())
        for dtype in {"<i8", "|i1", "<u2", "<f2", "<f4"} - (set() if is_index else kept):
            assert_none(model, {name: array.astype(dtype)}, f"{name} must be|ids.* must")
        for value in () if is_index else (np.nan, np.inf, -np.inf):
            changed = array.copy()
            changed.flat[-1] = value
            assert_none(model, {name: changed}, f"{name} must be finite, got {value}")
    assert_none(model, {"ids.users": np.linspace(0, 1, 5)}, "ids.users must be integers or text")
    for name in ("seen", "ids.more", "coarse.values"):
        assert_none(model, {name: np.ones(3)}, f"{name}.*: more than a model has")


def test_a_fine_table_in_both_forms_is_refused(tmp_path: Path) -> None:
    """By the file of such a model too, with its name."""
    model = made_of("compressed")
    both = {**model.arrays, "fine": np.full((3, 6), 2.0)}
    assert_none(model, both, "fine.columns.*more than a model has")
    assert_no_model(tmp_path, model, "fine.columns.*more than a model has", arrays=both)


@pytest.mark.parametrize(
    ("name", "size"), [("graph", 7), ("coarse_assignment", 4), ("fine_assignment", 3), ("fine", 6)]
)
def test_columns_outside_the_matrix_or_out_of_order_are_refused(name: str, size: int) -> None:
    """255 is what -1 has become. Columns may fall only where a row ends and the next begins."""
    model = made_of("compressed")
    columns, starts = model.arrays[f"{name}.columns"], model._rows(name)[1]
    for outside in (size, 255):
        wrong = columns.copy()
        wrong.flat[-1] = outside
        words = f"{name}.columns must be below {size}, got {outside}"
        assert_none(model, {f"{name}.columns": wrong}, words)
    rows = [(first, last) for first, last in pairwise(starts.tolist()) if last - first > 1]
    assert len(rows) > 1
    for place in [place for first, last in rows for place in range(first, last - 1)]:
        for swap in ([place + 1, place], [place, place]):
            wrong = columns.copy()
            wrong.flat[[place, place + 1]] = columns.flat[swap]
            assert_none(
                model, {f"{name}.columns": wrong}, f"{name}.columns must ascend in every row"
            )


@pytest.mark.parametrize("name", ["graph.starts", "fine.starts"])
def test_starts_that_do_not_lead_from_0_to_the_last_entry_are_refused(name: str) -> None:
    model = made_of("compressed")
    starts = model.arrays[name]
    for place, value in (0, 1), (-1, starts[-1] - 1), (-1, 255), (1, 255), (1, starts[2] + 1):
        wrong = starts.copy()
        wrong[place] = value
        assert_none(model, {name: wrong}, f"{name} must ascend from 0 to")


def test_fine_entries_that_no_training_leaves_are_refused() -> None:
    """Not above the threshold, in either form, or too many in a row; dense zeros are fine."""
    for kind, name in (("compressed", "fine.values"), ("dense", "fine")):
        model = made_of(kind)
        threshold = model.settings.threshold
        for value in [threshold, -threshold / 2, *([0.0] if kind == "compressed" else [])]:
            wrong = model.arrays[name].copy()
            wrong.flat[2] = value
            words = "fine must have at most 6 entries a row, each above the threshold"
            assert_none(model, {name: wrong}, words)
        fewer = replace(model.settings, sparse_pca_components=1)
        with pytest.raises(MethodError, match="fine must have at most 1 entries a row"):
            replace(model, settings=fewer)
    holes = made_of("dense").arrays["fine"].copy()
    holes[1, 2] = 0.0
    replace(made_of("dense"), arrays={**made_of("dense").arrays, "fine": holes})


def test_a_fine_table_that_would_be_huge_is_not_made_while_a_file_is_checked(
    tmp_path: Path,
) -> None:
    """F D = 10^10 entries, none of which is stored."""
    arrays = dict(made_of("compressed").arrays)
    n_fine, dim = 10**5, 10**5
    settings = replace(made_of("compressed").settings, n_fine=n_fine, dim=dim, n_coarse=1,
                       coarse_per_entity=1)  # fmt: skip
    arrays |= {
        "coarse": np.zeros((1, dim), dtype=np.float16),
        "coarse_assignment.columns": np.zeros((12, 1), dtype=np.uint8),
        "coarse_assignment.values": np.ones((12, 1)),
        "fine.columns": np.zeros(0, dtype=np.uint32),
        "fine.starts": np.zeros(n_fine + 1, dtype=np.uint8),
        "fine.values": np.zeros(0),
        "fine_assignment.columns": np.arange(3, dtype=np.uint32)[None],
        "fine_assignment.values": np.ones((1, 3)),
    }
    header = {"settings": vars(settings), "provenance": {}}
    write_store(tmp_path / "m", FORMAT, header, arrays)
    assert peak_of(lambda: load_model(tmp_path / "m")) < 10**7


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"settings": []}, ""),
        ({"settings": {}}, ""),
        ({"settings": {"n_hidden": 3}}, "n_hidden"),
        ({"provenance": {"seed": 3}}, "provenance must be text by name"),
    ],
)
def test_another_header_is_refused(tmp_path: Path, header: Any, words: str) -> None:
    assert_no_model(tmp_path, made_of("dense"), words, **header)


@pytest.mark.parametrize("value", [-1, 0.5, "2", True, [], float("nan"), 5, 2**40, 10**30, 10**400])
def test_settings_that_the_arrays_do_not_have_are_refused(tmp_path: Path, value: Any) -> None:
    model = made_of("compressed")
    counts = ("n_coarse", "n_fine", "dim", "coarse_per_entity", "fine_per_coarse")
    for name in (*counts, *(("threshold", "bridge_weight") if value not in (0.5, 5) else ())):
        is_high = name == "threshold" and value in (2**40, 10**30)
        words = "each above the threshold" if is_high else ""
        assert_no_model(tmp_path, model, words, settings=vars(model.settings) | {name: value})


def test_a_model_of_the_coarse_stage_alone_may_have_settings_with_fine_rows() -> None:
    model = made_of("coarse alone")
    assert model.settings.n_fine == 3
    for n_fine in (0, 8):
        assert replace(model, settings=replace(model.settings, n_fine=n_fine)).fine is None


def test_wider_matrices_have_wider_columns(model: Model) -> None:
    """256 items take one byte a column, 257 take two; 255 pairs one byte a start, 256 take two."""
    for n_items, n_pairs, widths in ((256, 255, (1, 1)), (257, 255, (2, 1)), (256, 256, (1, 2))):
        seen = sparse.csr_array(np.arange(n_items)[None] < n_pairs)
        changed = {
            "user_ids": [7],
            "item_ids": np.arange(n_items),
            "seen": seen,
            "bias": np.zeros(n_items + 1),
            "coarse_assignment": sparse.csr_array(np.ones((n_items + 1, 2)) @ np.eye(2, 4, 1)),
        }
        arrays = Model.of(**given_parts(model) | changed).arrays
        assert tuple(arrays[f"graph.{part}"].itemsize for part in ("columns", "starts")) == widths
