"""The model file: round trips bit for bit, one form for what is the same, damage is told, saving never loses the old file.

What is true of every container: `test_container`; which arrays make no model: `test_stored`.
"""

from __future__ import annotations

import errno
import math
import os
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutate_bundles
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.audit import HARMLESS, events_of_reading
from support.faults import failing_at
from support.models import DENSE, SPARSE, model_of, parts_of
from support.strategies import draw_model, models, rngs

from c2f_ref import spec
from c2f_ref.bundle import Model, load_model, save_model
from c2f_ref.container import BundleError, read_container, write_container
from c2f_ref.spec import Settings, SpecError
from c2f_ref.stored import FORMAT, CompressedRows
from c2f_ref.training import embed_model

DTYPES = st.sampled_from([(np.float64, None), (np.float32, None), (np.float32, np.float16), (np.float64, np.float32)])


@pytest.fixture(scope="module")
def model() -> Model:
    """Sizes: 5 users, 7 items, C = 4, F = 3, D = 6."""
    return model_of(draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files of many examples."""
    return tmp_path_factory.mktemp("models")


# Round trips


@given(drawn=models(), ids=st.sampled_from(["int", "unsigned", "text"]), has_fine=st.booleans(), dtypes=DTYPES)
def test_what_is_saved_is_loaded_bit_for_bit(place: Path, drawn: Any, ids: str, has_fine: bool, dtypes: Any) -> None:
    saved = model_of(drawn, ids, has_fine=has_fine, dtype=dtypes[0], table_dtype=dtypes[1])
    save_model(place / "a model", saved)  # no suffix is put behind the name
    assert parts_of(load_model(place / "a model")) == parts_of(saved)
    assert os.listdir(place) == ["a model"]


def test_exact_zeros_of_an_assignment_stay_stored(model: Model, tmp_path: Path) -> None:
    assignment = model.coarse_assignment.copy()
    assignment.data[[0, 3]] = 0.0, -0.0
    save_model(tmp_path / "m", replace(model, coarse_assignment=assignment))
    loaded = load_model(tmp_path / "m").coarse_assignment
    assert loaded.nnz == 24
    assert loaded.data.tobytes() == assignment.data.tobytes()


def test_numbers_that_json_does_not_know_survive(model: Model, tmp_path: Path) -> None:
    odd = replace(model, settings=replace(model.settings, threshold=math.inf, clip_limit=math.inf, pinv_rtol=0.1 + 0.2))
    save_model(tmp_path / "m", odd)
    assert load_model(tmp_path / "m").settings == odd.settings


def test_a_model_without_users_and_pairs_survives(tmp_path: Path) -> None:
    empty = Model(
        settings=Settings(n_coarse=2, n_fine=0, dim=3),
        user_ids=np.array([], dtype=np.int64),
        item_ids=np.array([], dtype=np.int64),
        seen=sparse.csr_array((0, 0)),
        bias=np.zeros(0),
        coarse=np.ones((2, 3)),
        coarse_assignment=sparse.csr_array((0, 2)),
    )
    save_model(tmp_path / "m", empty)
    assert parts_of(load_model(tmp_path / "m")) == parts_of(empty)


def test_the_same_model_gives_the_same_bytes(model: Model, tmp_path: Path) -> None:
    for name in ("once", "again"):
        save_model(tmp_path / name, model)
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize(("share", "form"), [(1.0, np.ndarray), (0.3, CompressedRows)])
def test_the_fine_table_is_stored_in_the_smaller_form(model: Model, tmp_path: Path, share: float, form: type) -> None:
    """F D = 18 values of 8 bytes are 144; 5 values of 9 with their columns and 4 starts are 49."""
    table = np.where(np.arange(18).reshape(3, 6) < 18 * share - 0.5, 2.0, 0.0)
    save_model(tmp_path / "m", replace(model, fine=table))
    stored = replace(model, fine=table).stored()
    assert isinstance(stored.fine, form)
    assert sum(array.nbytes for array in (stored.fine if form is CompressedRows else [stored.fine])) == (144 if share == 1 else 49)
    assert np.array_equal(load_model(tmp_path / "m").fine, table)


# One form


def test_what_changes_no_recommendation_is_put_into_one_form(model: Model) -> None:
    seen = sparse.csr_array(
        (np.array([3.0, -1.0, 0.0, 2.0, 2.0]), np.array([4, 1, 0, 2, 2]), np.array([0, 2, 2, 3, 3, 5])), shape=(5, 7)
    )
    backwards = model.coarse_assignment.copy()
    backwards.data, backwards.indices = (array.reshape(-1, 2)[:, ::-1].ravel() for array in (backwards.data, backwards.indices))
    threshold, fine = model.settings.threshold, model.fine.copy()
    fine[0, :4] = [threshold, -threshold, threshold / 2, np.nextafter(threshold, 2)]
    given = replace(model, seen=seen, coarse_assignment=backwards, fine=fine, bias=np.arange(12.0) + 1)
    assert given.seen.toarray().tolist() == [[0, 1, 0, 0, 1, 0, 0], [0] * 7, [1] + [0] * 6, [0] * 7, [0, 0, 1, 0, 0, 0, 0]]
    assert given.seen.has_canonical_format
    assert given.bias.tolist() == [0.0] * 5 + [6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    assert parts_of(replace(given, seen=model.seen, fine=model.fine, bias=model.bias)) == parts_of(model)
    assert given.fine[0, :4].tolist() == [0.0, 0.0, 0.0, np.nextafter(threshold, 2)]
    assert np.array_equal(given.fine[1:], model.fine[1:])


def test_a_model_changes_nothing_that_it_is_made_of_and_shares_none_of_it_that_it_changes(model: Model) -> None:
    drawn = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1))  # read-only
    made = model_of(drawn)
    assert made.bias[:5].tolist() == [0.0] * 5
    assert drawn.bias[:5].all()
    assert not np.shares_memory(made.bias, drawn.bias)


@given(models())
def test_the_form_changes_no_recommendation(drawn: Any) -> None:
    """Scores of items, by the specification from the parts as they were drawn."""
    made = model_of(drawn)
    plan = spec.prepare_fine(drawn.norm_adjacency, drawn.coarse_assignment, drawn.fine_assignment, drawn.n_users, drawn.settings)
    entities = spec.embed_fine(plan, drawn.coarse, drawn.fine)[0]
    users = np.arange(drawn.n_users)
    expected = spec.rank_items(entities, drawn.bias, drawn.n_users, users, made.seen, 4)
    got = spec.rank_items(embed_model(made, ops=spec), made.bias, made.n_users, users, made.seen, 4)
    assert np.array_equal(got[0], expected[0])
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-12)


# Narrower types


@given(drawn=models(), dtype=st.sampled_from([np.float16, np.float32]))
def test_rounded_tables_are_the_nearest_and_nothing_else_changes(drawn: Any, dtype: Any) -> None:
    made = model_of(drawn)
    rounded = made.with_tables(dtype)
    assert rounded.coarse.dtype == rounded.fine.dtype == dtype
    assert np.array_equal(rounded.coarse, made.coarse.astype(dtype))
    assert np.array_equal(rounded.fine, made.fine.astype(dtype))  # none is near the threshold
    assert {name: part for name, part in parts_of(rounded).items() if name not in ("coarse", "fine")} == {
        name: part for name, part in parts_of(made).items() if name not in ("coarse", "fine")
    }
    other = made.with_tables(np.float64, np.float32)
    assert {part.dtype for part in (other.bias, other.coarse_assignment, other.fine_assignment)} == {np.dtype(np.float32)}
    assert parts_of(other.with_tables(np.float64, np.float32)) == parts_of(other)


def test_an_entry_that_is_rounded_to_the_threshold_becomes_zero(model: Model) -> None:
    near = replace(model, settings=replace(model.settings, threshold=1.0), fine=np.full((3, 6), 1 + 2**-12))
    assert (near.with_tables(np.float32).fine == np.float32(1 + 2**-12)).all()
    assert (near.with_tables(np.float16).fine == 0).all()


def test_an_entry_too_large_for_half_precision_is_told(model: Model) -> None:
    with pytest.raises(SpecError, match="coarse: must be finite, got inf"):
        replace(model, coarse=model.coarse + 70000.0).with_tables(np.float16)


def test_computing_takes_half_precision_as_the_numbers_it_holds(model: Model) -> None:
    """Not in half precision: the same embeddings as from the same numbers in float64."""
    narrow = model.with_tables(np.float16, np.float32)
    assert embed_model(narrow, ops=spec).dtype == np.float64
    assert np.array_equal(embed_model(narrow, ops=spec), embed_model(narrow.with_tables(np.float64, np.float64), ops=spec))


# What makes no model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bias": np.zeros(11)}, r"bias must have shape \(12,\), got \(11,\)"),
        ({"bias": np.zeros(12, dtype=np.float16)}, "bias: must be float32 or float64 of shape .*, got float16"),
        ({"bias": np.append(np.nan, np.zeros(11))}, "bias must be finite"),
        ({"coarse": np.zeros((4, 5))}, r"coarse: must be .* of shape \(4, 6\), got float64 of shape \(4, 5\)"),
        ({"coarse": np.zeros((4, 6), dtype=np.int64)}, "coarse: must be float16 or float32 or float64 of shape .*, got int64"),
        ({"fine": np.full((4, 6), 2.0)}, r"fine must have shape \(3, 6\)"),
        ({"fine": np.full((3, 6), 2)}, "fine: must be float16 or float32 or float64 of shape .*, got int64"),
        ({"fine": np.full((3, 6), np.inf)}, "fine must be finite"),
        ({"user_ids": np.arange(6)}, r"seen must have shape \(6, 7\)"),
        ({"user_ids": np.zeros(5, dtype=np.int64)}, "user_ids: must be integers or text, none of them twice, got int64"),
        ({"item_ids": np.linspace(0, 1, 7)}, "item_ids: must be integers or text, .*, got float64"),
        ({"item_ids": np.arange(7).reshape(7, 1)}, r"item_ids: must be integers or text, .* of shape \(7, 1\)"),
        ({"fine": None}, "both a fine table and a fine assignment, or neither"),
        ({"fine_assignment": None}, "both a fine table and a fine assignment, or neither"),
        ({"fine_assignment": sparse.csr_array((3, 4))}, r"fine_assignment must have shape \(4, 3\)"),
        ({"coarse_assignment": sparse.csr_array((12, 3))}, r"coarse_assignment must have shape \(12, 4\)"),
        ({"coarse_assignment": sparse.csr_array((12, 4))}, "coarse_assignment must have 2 entries in every row, got 0 to 0"),
        (
            {"coarse_assignment": sparse.csr_array(np.ones((12, 4)))},
            "coarse_assignment must have 2 entries in every row, got 4 to 4",
        ),
        (
            {"coarse_assignment": sparse.csr_array(np.eye(12, 4, 1) + np.eye(12, 4))},
            "must have 2 entries in every row, got 0 to 2",
        ),
        (
            {"fine_assignment": sparse.csr_array(np.ones((4, 3), dtype=np.int64))},
            "fine_assignment.values: must be float32 or float64",
        ),
        ({"fine_assignment": sparse.csr_array(np.full((4, 3), np.nan))}, "fine_assignment.values: must be finite, got nan"),
        ({"provenance": {"seed": 3}}, "header: provenance must be words by name"),
    ],
)
def test_parts_that_do_not_fit_make_no_model(model: Model, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        replace(model, **changes)


def test_ids_may_be_given_as_lists(model: Model, tmp_path: Path) -> None:
    given = replace(model, user_ids=model.user_ids.tolist(), item_ids=model.item_ids.tolist())
    save_model(tmp_path / "m", given)
    assert parts_of(load_model(tmp_path / "m")) == parts_of(model)


def test_an_entry_that_is_there_twice_in_a_row_makes_no_model(model: Model) -> None:
    twice = model.coarse_assignment.copy()
    twice.indices[1] = twice.indices[0]
    with pytest.raises(SpecError, match=r"coarse_assignment\.columns: must ascend in every row, none of them twice"):
        replace(model, coarse_assignment=twice)


def test_a_fine_row_with_more_entries_than_training_can_leave_makes_no_model(model: Model) -> None:
    """Entries that the threshold drops do not count."""
    settings = replace(model.settings, sparse_pca_components=2, threshold=1.0)
    fine = np.tile([2.0, -3.0, 0.5, 1.0, -1.0, 0.0], (3, 1))
    assert replace(model, settings=settings, fine=fine).stored_bytes()["fine"] == 6 * 9 + 4
    fine[1, 2] = 1.5
    with pytest.raises(SpecError, match="fine: a row must have at most 2 entries above the threshold, got 3"):
        replace(model, settings=settings, fine=fine)


# Damage


@pytest.mark.parametrize("number", range(4))
def test_20000_damaged_files_are_refused_or_unchanged(tmp_path: Path, number: int) -> None:
    """`python tests/mutate_bundles.py 1000000` makes a million. Here are the shares of four models."""
    rng = np.random.default_rng([20000, number])
    outcomes = mutate_bundles.run(tmp_path / "model.npz", mutate_bundles.models(rng)[number], 5000, rng=rng)
    assert outcomes.total() == 5000
    assert {name.split(": ")[0] for name in outcomes} == {damage.__name__ for damage in mutate_bundles.DAMAGES}
    assert {name.split(": ")[1] for name in outcomes} <= {"refused", "unchanged", "loaded"}
    assert {name for name in outcomes if name.endswith("loaded")} <= {"resign: loaded"}
    assert outcomes["resign: refused"] > 50


def test_no_damaged_file_makes_loading_take_more_than_twice_the_cap(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "m", model)
    content, rng, cap = (tmp_path / "m").read_bytes(), np.random.default_rng(6), 2**15
    assert len(content) < cap

    def load() -> None:
        with suppress(BundleError):
            load_model(tmp_path / "m", max_bytes=cap)

    load()  # what is set up once is set up
    damages = list(mutate_bundles.DAMAGES)
    tracemalloc.start()
    try:
        for number in range(400):
            (tmp_path / "m").unlink()
            (tmp_path / "m").write_bytes(damages[number % len(damages)](content, rng))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            load()
            assert tracemalloc.get_traced_memory()[1] - before < 2 * cap
    finally:
        tracemalloc.stop()


def test_a_loader_that_misses_damage_is_caught(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker itself: one that skips the hashes, one that lets another error out."""
    rng = np.random.default_rng(5)
    loads = mutate_bundles.load_model

    def careless(path: Path) -> Model:
        try:
            return loads(path)
        except BundleError:
            return replace(model, bias=model.bias + 1)

    def leaky(path: Path) -> Model:
        try:
            return loads(path)
        except BundleError as error:
            raise KeyError("bias") from error

    for loader, wrong in ((careless, AssertionError), (leaky, KeyError)):
        with monkeypatch.context() as patched:
            patched.setattr(mutate_bundles, "load_model", loader)
            with pytest.raises(wrong):
                mutate_bundles.run(tmp_path / "model.npz", model, 50, rng=rng)


def test_loading_opens_files_and_does_nothing_else(model: Model, tmp_path: Path) -> None:
    """Nothing is unpickled, compiled or run, and nobody is called, by good files and by damaged ones."""
    save_model(tmp_path / "good", model)
    content, rng, bad = (tmp_path / "good").read_bytes(), np.random.default_rng(4), []
    for number in range(40):
        damage = [damage for damage in mutate_bundles.DAMAGES if damage is not mutate_bundles.resign][number % 8]
        mutant = damage(content, rng)
        if mutant != content:
            bad.append(tmp_path / f"bad {number}")
            bad[-1].write_bytes(mutant)
    assert len(bad) > 30
    events = events_of_reading("c2f_ref.bundle", "load_model", good=tmp_path / "good", bad=bad)
    assert {"open"} <= events <= HARMLESS


def test_a_file_of_the_first_format_is_refused(model: Model, tmp_path: Path) -> None:
    with (tmp_path / "old").open("wb") as file:
        np.savez(file, header=np.array('{"format": "c2f-ref model 1"}'), **{name: getattr(model, name) for name in DENSE})
    with pytest.raises(BundleError, match=f"old: expected a file of format '{FORMAT}', .* or an older format"):
        load_model(tmp_path / "old")


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"text\n")
    write_container(tmp_path / "checkpoint", "c2f-ref checkpoint 2", {}, {})
    for name in ("text", "checkpoint"):
        with pytest.raises(BundleError, match=f"{name}: .*expected .*'{FORMAT}'"):
            load_model(tmp_path / name)


def test_no_file_is_an_os_error_and_one_above_the_cap_is_not_read(model: Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "absent")
    save_model(tmp_path / "m", model)
    with pytest.raises(BundleError, match="m: must have at most 1,000 bytes, got "):
        load_model(tmp_path / "m", max_bytes=1000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dims": 1}, "dims"),
        ({"l2_weight": -1.0}, "l2_weight must be in"),
        ({"clip_limit": "wide"}, "clip_limit must be of type float"),
        ({"coarse_per_entity": 5}, r"must be .* of shape|coarse_per_entity must be at most"),
    ],
)
def test_settings_that_are_none_of_the_method_are_told(model: Model, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """What inference needs is checked with NumPy alone, the rest here."""
    save_model(tmp_path / "m", model)
    header, arrays = read_container(tmp_path / "m", FORMAT)
    write_container(tmp_path / "m", FORMAT, header | {"settings": header["settings"] | changes}, arrays)
    with pytest.raises(BundleError, match=words) as caught:
        load_model(tmp_path / "m")
    assert str(caught.value).startswith(f"{tmp_path / 'm'}: ")


# Saving


def test_a_save_takes_the_place_of_the_old_file(model: Model, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        save_model(tmp_path / "m", replace(model, provenance={"seed": seed}))
        assert load_model(tmp_path / "m").provenance == {"seed": seed}


def test_a_folder_that_is_not_there_is_an_os_error(model: Model, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        save_model(tmp_path / "absent" / "m", model)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "damaged"), MemoryError("none")], ids=repr)
@pytest.mark.parametrize("has_old", [True, False])
def test_whatever_fails_while_saving_the_old_model_or_the_new_one_is_there(
    model: Model, tmp_path: Path, error: Exception, has_old: bool
) -> None:
    """Every write, read, flush and rename in turn; a write that fails has written half."""
    path, new = tmp_path / "m", replace(model, bias=model.bias + 1.0)
    save_model(tmp_path / "old", model)
    old, found = (tmp_path / "old").read_bytes(), []
    (tmp_path / "old").unlink()
    for place in range(1000):
        path.unlink(missing_ok=True)
        if has_old:
            path.write_bytes(old)
        with pytest.MonkeyPatch.context() as patched:
            calls = failing_at(patched, place, error)
            try:
                save_model(path, new)
            except (OSError, MemoryError) as caught:
                assert caught is error  # noqa: PT017
            else:
                break
        assert os.listdir(tmp_path) == (["m"] if path.exists() else [])
        found.append(parts_of(load_model(path)) if path.exists() else None)
    assert {"open", "write", "read", "fsync", "close", "replace"} == set(calls)
    before = [part == (parts_of(model) if has_old else None) for part in found]
    assert len(found) == len(calls)
    assert before == [True] * (len(calls) - 2) + [False] * 2
    assert found[-1] == parts_of(new)


# What is stored


def by_hand() -> Model:
    """U = 2, I = 3, C = 2, D = 3, F = 2; t = 2 and 2 fine rows for a coarse one; at threshold 1 two fine entries are left."""
    return Model(
        settings=Settings(n_coarse=2, n_fine=2, dim=3, fine_per_coarse=2, threshold=1.0),
        user_ids=np.arange(2, dtype=np.int32),
        item_ids=np.array(["a", "bb", "c"]),
        seen=sparse.csr_array(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])),
        bias=np.zeros(5, dtype=np.float32),
        coarse=np.ones((2, 3), dtype=np.float16),
        coarse_assignment=sparse.csr_array(np.full((5, 2), 0.5, dtype=np.float32)),
        fine=np.array([[1.5, 1.0, -1.0], [-2.0, 0.0, 0.5]]),
        fine_assignment=sparse.csr_array(np.full((2, 2), 0.5)),
    )


BY_HAND = {
    "coarse": 2 * 3 * 2,
    "fine": 2 * (8 + 1) + 3 * 1,
    "coarse_assignment": 5 * 2 * (4 + 1),
    "fine_assignment": 2 * 2 * (8 + 1),
    "bias": 3 * 4,
    "ids": 2 * 4 + 3 * 8,
    "graph": 3 * 1 + 3 * 1,
}


def test_stored_bytes_by_hand() -> None:
    assert by_hand().stored_bytes() == BY_HAND
    coarse_alone = replace(by_hand(), fine=None, fine_assignment=None)
    assert coarse_alone.stored_bytes() == BY_HAND | {"fine": 0, "fine_assignment": 0}


def test_what_is_stored_is_said_in_words() -> None:
    """Everything: 12 + 21 + 50 + 36 + 12 + 32 + 6 = 169. A vector for each of 5 entities: 5 * 3 * 2 = 30 bytes."""
    assert by_hand().describe_stored() == (
        "169 bytes stored (coarse 12, fine 21, coarse_assignment 50, fine_assignment 36, bias 12, ids 32, graph 6);\n"
        "the tables alone are 110.0 % of one vector per entity (30 bytes), everything is 563.3 %; "
        "inference propagates over the 3 training pairs"
    )


@given(drawn=models(), ids=st.sampled_from(["int", "unsigned", "text"]), has_fine=st.booleans(), dtypes=DTYPES, rng=rngs())
def test_the_arrays_of_the_file_are_as_many_bytes_as_counted_and_no_more_than_promised(
    place: Path, drawn: Any, ids: str, has_fine: bool, dtypes: Any, rng: np.random.Generator
) -> None:
    """By term, from the file; the threshold is drawn, so that more or less of the fine table is left."""
    drawn = drawn._replace(settings=replace(drawn.settings, threshold=float(rng.uniform(0, 2))))
    made = model_of(drawn, ids, has_fine=has_fine, dtype=dtypes[0], table_dtype=dtypes[1])
    save_model(place / "counted", made)
    counted: dict[str, int] = dict.fromkeys(BY_HAND, 0)
    for name, array in read_container(place / "counted", FORMAT)[1].items():
        term = name.split(".")[0]
        counted["ids" if term.endswith("_ids") else term.split("_")[0] if term.startswith("graph") else term] += array.nbytes
    assert made.stored_bytes() == counted
    bound = spec.stored_bytes_bound(
        made.settings,
        made.n_users,
        made.n_items,
        max(made.user_ids.itemsize, made.item_ids.itemsize),
        n_pairs=made.seen.nnz,
        dtype=dtypes[0],
        table_dtype=dtypes[1],
    )
    assert bound.keys() == counted.keys()
    assert all(counted[term] <= bound[term] for term in bound)
    equal = {"coarse", "coarse_assignment", "bias", "graph"} | ({"fine_assignment"} if has_fine else set())
    assert all(counted[term] == bound[term] for term in equal)


def test_every_part_of_a_model_is_compared() -> None:
    """The checker itself: `parts_of` has the fields of `Model`."""
    assert {*DENSE, *SPARSE, "settings", "provenance"} == set(Model.__dataclass_fields__)
