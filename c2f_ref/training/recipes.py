"""How long and how fast to train: recipes are data. And what the default recipe adds to the paper:

hard negatives, epochs that learn from pairs their graph does not have, and factors of the bias, as
arguments of `method.train_stage`. With the published schedule each of them is what the paper does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import method
from ..interactions import Interactions
from ..method import Float64Array, MethodError, Settings, SettingsError, State, Triples

__all__ = [
    "DEMO_SETTINGS", "RECIPES", "Additions", "Recipe", "Schedule", "hardest_negatives",
    "norm_adjacency_of", "with_overrides",
]  # fmt: skip
COUNTS = ["batch", "n_negatives", "n_candidates", "draws_per_epoch", "max_epochs"]
COUNTS += ["max_fixed_epochs", "evaluate_every", "patience", "selection_k"]
OPTIONAL = ("last_lr", "draws_per_epoch", "max_fixed_epochs")
"""Fields that may be None."""
STEPS_PER_CHOICE = 10
"""For this many steps negatives are chosen by the embeddings before the first of them."""


@dataclass(frozen=True, kw_only=True)
class Schedule(method.Schedule):
    """How long and how fast to train one stage; every default is the published one.

    Errors: SettingsError for a number that cannot be trained with.
    Source: equation (26); what is not in the paper says so.
    """

    last_lr: float | None = None
    """Adam's rate in the last possible step, reached along half a cosine; None: constant, as
    published."""
    bias_lr: float = 1.0
    """How many times as fast the bias learns as the tables. Published: 1."""
    bias_scales: tuple[float, ...] = (1.0,)
    """Factors of b that every evaluation tries; the best by validation NDCG is part of the model
    that may be chosen, while training goes on with b as it is. Published: 1 alone."""
    n_candidates: int = 1
    """Unseen items of which the best scored becomes a triple's negative in phase 2, see
    `hardest_negatives`, by embeddings that are at most 9 steps old. Published: 1, so as drawn."""
    disjoint_share: float = 0.0
    """Share of the training pairs that an epoch of phase 2 learns from and does not have in its
    graph, drawn anew for each epoch (Zhang and Chen 2018). Published: 0, so all pairs do both."""
    draws_per_epoch: int | None = None
    """Users drawn in an epoch; None: as many as there are training pairs, as published."""
    max_fixed_epochs: int | None = None
    """Epochs after which phase 2 begins at the latest; None: when patience ends, as published."""

    def __post_init__(self) -> None:
        scales = self.bias_scales
        if not isinstance(scales, (list, tuple)) or not scales:
            raise SettingsError(f"bias_scales must be one or more numbers, got {scales!r}")
        object.__setattr__(self, "bias_scales", tuple(scales))  # JSON has lists alone
        for name, given in vars(self).items():
            if given is None and name in OPTIONAL:
                continue
            for value in given if name == "bias_scales" else [given]:
                is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if name in COUNTS:
                    expected = "a whole number in [1, 2**31)"
                    is_right = is_number and isinstance(value, int) and 1 <= value < 2**31
                elif name == "disjoint_share":
                    expected, is_right = "a number in [0, 1)", is_number and 0 <= value < 1
                else:
                    expected = "a finite number above 0"
                    is_right = is_number and 0 < value < math.inf
                if not is_right:
                    raise SettingsError(f"{name} must be {expected}, got {given!r}")

    @property
    def max_steps(self) -> int:
        """Steps at most, of a schedule that has `draws_per_epoch`."""
        draws = self.draws_per_epoch or 0
        return self.last_evaluation * -(-draws * self.n_negatives // self.batch)

    def rates(self, n_steps: int) -> tuple[float, float]:
        """Adam's rates after `n_steps` steps: for the tables and for the bias.

        last + (first - last) (1 + cos(pi step / max_steps)) / 2
        """
        lr = self.lr
        if self.last_lr is not None:
            cosine = math.cos(math.pi * n_steps / self.max_steps)
            lr = self.last_lr + (self.lr - self.last_lr) * 0.5 * (1.0 + cosine)
        return lr, lr * self.bias_lr

    def ends_first_phase(self, epoch: int, n_misses: int) -> bool:
        """Whether phase 2 begins with this epoch."""
        is_late = self.max_fixed_epochs is not None and epoch >= self.max_fixed_epochs
        return is_late or super().ends_first_phase(epoch, n_misses)


CHOICES = {"bias_start": ("normal", "zero", "popularity"), "sparse_pca_solver": ("lars", "cd")}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train both stages; the defaults are the published Gowalla run.

    Errors: SettingsError for a value that a field does not take.
    """

    coarse: Schedule = Schedule(batch=8192, lr=1e-3)
    """The coarse stage."""
    fine: Schedule = Schedule(batch=32768, lr=3e-3)
    """The fine stage."""
    bias_start: str = "normal"
    """b at first: "normal", from N(0, 1) as published; "zero"; or "popularity", the logarithm of 1
    + an item's training pairs."""
    sparse_pca_solver: str = "lars"
    """How scikit-learn solves the sparse PCA that E_f starts from: "lars" as published, or "cd",
    faster."""

    def __post_init__(self) -> None:
        for name in ("coarse", "fine"):
            if not isinstance(getattr(self, name), Schedule):
                raise SettingsError(f"{name} must be a Schedule, got {getattr(self, name)!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                wrong = getattr(self, name)
                raise SettingsError(f"{name} must be one of {', '.join(choices)}, got {wrong!r}")


# The model of "published" on two cores in minutes: large batches with one negative each, a bias
# that starts from popularity instead of noise, and very high rates that fall along a cosine to
# almost nothing. At the first refreshes coarse rows are then large and S_c small, which leaves no
# row without an entity; 100 steps with a refreshed S_c lead as far as 800 at a tenth of the rate.
_LARGE_STEPS = Schedule(batch=65536, lr=1.0, n_negatives=1, draws_per_epoch=50 * 65536)
_SHORT = replace(_LARGE_STEPS, max_fixed_epochs=4, evaluate_every=2, selection_k=20)
_COARSE = replace(_SHORT, max_epochs=13, last_lr=0.001, bias_lr=0.1, n_candidates=8)
_COARSE = replace(_COARSE, disjoint_share=0.3, bias_scales=(1.0, 1.25, 1.5, 1.75, 2.0))
# The fine stage, whose bias learns again next to frozen coarse rows, does best with negatives,
# graph and epochs as published.
_FINE = replace(_SHORT, max_epochs=17, lr=0.04, last_lr=0.0005, bias_lr=0.5)
_FINE = replace(_FINE, bias_scales=(0.9, 1.0, 1.1, 1.2, 1.3))
RECIPES = {
    "published": Recipe(),
    "laptop": Recipe(coarse=_COARSE, fine=_FINE, bias_start="popularity", sparse_pca_solver="cd"),
    # For `DEMO_SETTINGS` on planted pairs: few, large steps, so that both stages reach their
    # patience in seconds.
    "demo": Recipe(
        coarse=Schedule(batch=2048, lr=0.02, max_epochs=300),
        fine=Schedule(batch=4096, lr=0.01, max_epochs=300),
    ),
}
DEMO_SETTINGS = Settings(n_coarse=24, n_fine=12, dim=32, n_layers=2)
"""As many coarse rows as planted subgroups and half as many fine rows; everything else as
published."""
STAGES = ("coarse", "fine")


def with_overrides(
    settings: Settings, recipe: Recipe, overrides: Sequence[str]
) -> tuple[Settings, Recipe]:
    """Settings and recipe with every `name=value` put where there is such a field.

    A value is a number, a word, a list, `inf` or `None`. A field of `Schedule` is set with
    `coarse.`, `fine.` or, in both stages, `both.` before its name.

    Errors: SettingsError for an unknown name, with the nearest ones, or for a value that the field
    does not take.
    """
    targets: dict[str, list[str]] = {name: ["settings"] for name in vars(settings)}
    targets |= {name: ["recipe"] for name in CHOICES}
    for prefix, stages in (("coarse", ["coarse"]), ("fine", ["fine"]), ("both", STAGES)):
        targets |= {f"{prefix}.{name}": list(stages) for name in vars(recipe.coarse)}
    changes: dict[str, dict[str, Any]] = {"settings": {}, "recipe": {}, "coarse": {}, "fine": {}}
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise SettingsError(f"a setting is given as name=value, got {override!r}")
        if name not in targets:
            of_stages = [each for each in targets if each.endswith(f".{name}")]
            near = ", ".join(of_stages or get_close_matches(name, targets, 3, 0))
            why = "is a setting of each stage" if of_stages else "is not a setting"
            raise SettingsError(f"{name!r} {why}: did you mean {near}?")
        value: Any = None if text == "None" else text
        for read in (float, json.loads):  # `.1` and `inf` are no JSON
            with suppress(ValueError, RecursionError):
                value = read(text)
        for target in targets[name]:
            changes[target][name.rpartition(".")[2]] = value
    of_both = {stage: replace(getattr(recipe, stage), **changes[stage]) for stage in STAGES}
    return replace(settings, **changes["settings"]), replace(recipe, **of_both, **changes["recipe"])


def graph_of(pairs: Interactions) -> sparse.csr_array:
    """The bipartite graph of these pairs (N, N). Source: equation (1)."""
    return method.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items)


def norm_adjacency_of(pairs: Interactions, dtype: npt.DTypeLike) -> sparse.csr_array:
    """A (N, N) of this dtype, with 32-bit indices where they suffice. Source: equation (2)."""
    graph = method.normalise(graph_of(pairs))
    index = np.int32 if graph.nnz <= np.iinfo(np.int32).max else np.int64
    parts = graph.data.astype(dtype), graph.indices.astype(index), graph.indptr.astype(index)
    return sparse.csr_array(parts, shape=graph.shape)


def hardest_negatives(
    triples: Triples, entities: Any, bias: Float64Array, seen: sparse.csr_array, n_candidates: int,
    *, ops: Any = method,
) -> Triples:  # fmt: skip
    """The triples, each with the best scored of its candidates as its negative.

        j_t' = argmax of s(u_t, j) over j in {j_t, j_(t+1), ..., j_(t+n-1)} that u_t has not seen

    The candidates behind the last triple are those of the first ones. They were drawn uniformly
    from what their own users have not seen, so no generator is asked again.

    Shapes: triples (B,) each, entities as `ops` gives them, bias (N,), seen (U, I) of ones ->
    triples.
    Edge: ties go to the first candidate; n_candidates == 1 gives the triples as they are.
    Errors: MethodError for n_candidates < 1.
    Source: dynamic negative sampling, Zhang et al. 2013; not in the paper.
    """
    if n_candidates < 1:
        raise MethodError(f"n_candidates must be at least 1, got {n_candidates}")
    users, positives, chosen = triples.users, triples.positives, triples.negatives.copy()
    best = ops.score_pairs(entities, bias, 0.0, seen.shape[0], users, chosen)
    for shift in range(1, n_candidates):
        others = np.roll(triples.negatives, -shift)
        scores = ops.score_pairs(entities, bias, 0.0, seen.shape[0], users, others)
        harder = np.flatnonzero(scores > best)
        if harder.size:  # a sparse array cannot be indexed by nothing
            harder = harder[np.ravel(seen[users[harder], others[harder]]) == 0]
            chosen[harder], best[harder] = others[harder], scores[harder]
    return Triples(users, positives, chosen)


class Additions:
    """Arguments of `method.train_stage` that follow from a schedule and training pairs."""

    def __init__(self, schedule: Schedule, train: Interactions, ops: Any) -> None:
        """`self.schedule` is the one given, with its `draws_per_epoch` for these pairs.

        Edge: a schedule that ends before its second evaluation is evaluated after its last epoch.
        """
        if schedule.last_evaluation == 0:
            n = schedule.max_epochs
            schedule = replace(schedule, evaluate_every=n, max_epochs=n + 1)
        draws = schedule.draws_per_epoch or train.n_pairs
        self.schedule = replace(schedule, draws_per_epoch=draws)
        self.train, self.ops, self.seen = train, ops, train.matrix()
        self.entities: Any = None

    def draw_epoch(
        self, stage: Any, plan: Any, state: State, rng: np.random.Generator
    ) -> tuple[Any, Any, Triples]:
        """The triples of an epoch, and the stage and plan of the graph that they are trained on.

        With a `disjoint_share`, positives of phase 2 are this share of the training pairs, and the
        graph has all others.
        """
        draw = self.schedule.draws_per_epoch, self.schedule.n_negatives
        if state.phase == 2 and self.schedule.disjoint_share > 0:
            is_apart = rng.random(self.train.n_pairs) < self.schedule.disjoint_share
            if is_apart.any():
                graph = self.train.select(~is_apart)
                adjacency = norm_adjacency_of(graph, stage.norm_adjacency.dtype)
                part = replace(stage, norm_adjacency=adjacency)
                apart = self.train.select(is_apart).matrix()
                triples = self.ops.sample_triples(apart, *draw, rng=rng)
                if triples.users.size:  # a sparse array cannot be indexed by nothing
                    is_unseen = np.ravel(self.seen[triples.users, triples.negatives]) == 0
                    triples = Triples(*(column[is_unseen] for column in triples))
                return part, part.prepare(state.assignment), triples
        return stage, plan, self.ops.sample_triples(self.seen, *draw, rng=rng)

    def choose(self, stage: Any, plan: Any, state: State, batch: Triples, number: int) -> Triples:
        """Hard negatives in phase 2, where the schedule has several candidates."""
        if state.phase == 1 or self.schedule.n_candidates == 1:
            return batch
        if number % STEPS_PER_CHOICE == 0:
            self.entities = stage.embed(plan, state.tables)
        bias, n_candidates = state.tables[-1], self.schedule.n_candidates
        return hardest_negatives(batch, self.entities, bias, self.seen, n_candidates, ops=self.ops)

    def judge(self, held_out: sparse.csr_array) -> method.stages.Judge:
        """Validation NDCG, of the first best of the schedule's factors of the bias."""
        by_ndcg = method.judge_by_ndcg(self.ops, self.seen, held_out, self.schedule.selection_k)
        scales = self.schedule.bias_scales

        def best(entities: Any, tables: tuple[Any, ...]) -> tuple[float, tuple[Any, ...]]:
            *others, bias = tables
            scaled = ((*others, bias * bias.dtype.type(scale)) for scale in scales)
            return max((by_ndcg(entities, each) for each in scaled), key=lambda judged: judged[0])

        return best
