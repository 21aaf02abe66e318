"""A further user from a few items, all that is trained as it is. Not part of the paper."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from .. import spec
from ..bundle import Model
from ..interactions import Interactions
from ..spec import Float64Array, IntArray
from ..training import embed_model


@dataclass(frozen=True)
class FoldIn:
    """What embeds users that a model was not trained with.

        H_new = r v / |v|,  v = sum over the user's items of M_i / sqrt(d_i D_i),  r = mean of |H_u| over users

    with d_i the users of item i, D_i its row sum in [A, S_c], and M the model's embeddings with a layer less. v has the direction,
    exactly, of what propagation gives a node with edges to these items and no coarse rows, all other nodes being as they are: the
    mean of its layers 1 to L. Its length would be too short beside the biases, for want of coarse rows.

    Shapes: weights (I,), 1 / sqrt(d_i D_i), or 0 where there is no such root; means (I, D), M, or 0 of a model without layers.
    """

    weights: Float64Array
    means: Float64Array
    radius: float

    @classmethod
    def of(cls, model: Model, pairs: Interactions, entities: Float64Array, ops: ModuleType) -> FoldIn:
        """Of a model, the pairs that it propagates over and what it propagates to, H (N, D)."""
        adjacency = spec.normalise(spec.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items))
        degrees = (adjacency.sum(axis=1) + model.coarse_assignment.astype(np.float64).sum(axis=1))[pairs.n_users :]
        products = np.bincount(pairs.items, minlength=pairs.n_items) * degrees
        weights = np.where(products > 0, 1.0 / np.sqrt(np.where(products > 0, products, 1.0)), 0.0)
        means = np.zeros_like(entities[pairs.n_users :])
        if model.settings.n_layers > 0:
            shallow = replace(model, settings=replace(model.settings, n_layers=model.settings.n_layers - 1))
            means = embed_model(shallow, ops=ops)[pairs.n_users :]
        return cls(weights, means, float(np.linalg.norm(entities[: pairs.n_users], axis=1).mean()))

    def embed(self, items: IntArray) -> Float64Array:
        """H_new (D,) of somebody with these items, positions, each once; v = 0 gives 0."""
        direction: Float64Array = np.einsum("i,id->d", self.weights[items], self.means[items])
        length = np.linalg.norm(direction)
        return direction * (self.radius / length) if length > 0 else direction
