"""The two stages: what each trains, and how its assignment is refreshed.

Nothing here computes: every number comes from the implementation `ops` (`c2f_ref.spec`, or any module with the names of
`c2f_ref.spec.CONTRACT`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import spec
from ..interactions import Interactions
from ..spec import Float64Array, Settings, Triples

Tables: TypeAlias = tuple[Float64Array, ...]


def norm_adjacency_of(pairs: Interactions, dtype: npt.DTypeLike) -> sparse.csr_array:
    """A (N, N) with these numbers; with indices of 32 bits where they suffice, which SciPy would not choose by itself."""
    graph = spec.normalise(spec.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items))
    index = np.int32 if graph.nnz <= np.iinfo(np.int32).max else np.int64
    parts = graph.data.astype(dtype), graph.indices.astype(index), graph.indptr.astype(index)
    return sparse.csr_array(parts, shape=graph.shape)


def default_ops() -> ModuleType:
    """The implementation that trains and serves unless another is given: `c2f_ref.fast`, loaded when it is first asked for.

    Edge: where numba is not installed, the specification.
    """
    if not find_spec("numba"):
        return spec
    from .. import fast

    return fast


class Stage(Protocol):
    """What `run_stage` needs to know of a stage, which is a dataclass with `norm_adjacency` among its fields."""

    @property
    def name(self) -> str:
        """How callbacks are told of it."""

    @property
    def norm_adjacency(self) -> sparse.csr_array:
        """A (N, N), of the pairs that embeddings propagate over."""

    def prepare(self, assignment: sparse.csr_array, previous: Any = None) -> Any:
        """The implementation's plan for the graph with this assignment; it may take over from an earlier one."""

    def embed(self, plan: Any, tables: Tables) -> Float64Array:
        """Propagated entities (N, D)."""

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss of a batch and its gradient in the trained tables; the last of these is the bias."""

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        """The assignment anew, from the forward pass of these tables."""


@dataclass(frozen=True)
class CoarseStage:
    """Trains (E_c, b) and refreshes S_c. Source: coarse stage."""

    norm_adjacency: sparse.csr_array
    n_users: int
    settings: Settings
    ops: ModuleType
    name: str = "coarse"

    def prepare(self, assignment: sparse.csr_array, previous: Any = None) -> Any:
        """Graph of entities and coarse nodes."""
        return self.ops.prepare_coarse(self.norm_adjacency, assignment, self.n_users, self.settings, previous)

    def embed(self, plan: Any, tables: Tables) -> Float64Array:
        """Propagated entities (N, D)."""
        entities: Float64Array = self.ops.embed_coarse(plan, tables[0])[0]
        return entities

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss and (grad_coarse, grad_bias)."""
        loss, *grads = self.ops.coarse_loss_and_grad(plan, *tables, triples)
        return loss, tuple(grads)

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        """S_c anew."""
        entities, coarse = self.ops.embed_coarse(plan, tables[0])
        return self.ops.refresh_coarse(entities, coarse, self.settings.coarse_per_entity, self.settings.pinv_rtol)


@dataclass(frozen=True)
class FineStage:
    """Trains (E_f, b) and refreshes S_f; E_c and S_c are frozen. Source: fine stage."""

    norm_adjacency: sparse.csr_array
    n_users: int
    coarse_assignment: sparse.csr_array
    coarse: Float64Array
    settings: Settings
    ops: ModuleType
    name: str = "fine"

    def prepare(self, assignment: sparse.csr_array, previous: Any = None) -> Any:
        """Graph of entities, coarse and fine nodes."""
        return self.ops.prepare_fine(self.norm_adjacency, self.coarse_assignment, assignment, self.n_users, self.settings, previous)

    def embed(self, plan: Any, tables: Tables) -> Float64Array:
        """Propagated entities (N, D)."""
        entities: Float64Array = self.ops.embed_fine(plan, self.coarse, tables[0])[0]
        return entities

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss and (grad_fine, grad_bias)."""
        fine, bias = tables
        loss, _, grad_fine, grad_bias = self.ops.fine_loss_and_grad(plan, self.coarse, fine, bias, triples)
        return loss, (grad_fine, grad_bias)

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        """S_f anew, the weight-bridging update."""
        propagated = self.ops.embed_fine(plan, self.coarse, tables[0])
        return self.ops.refresh_fine(*propagated, self.settings.fine_per_coarse, self.settings.pinv_rtol)
