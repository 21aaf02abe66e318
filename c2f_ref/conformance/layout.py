"""What a file of known answers holds: one random model, every number of it made by the official code.

Names of arrays are those of the official code: `coarse_meta` is our `coarse`, `fine_meta` our `fine`, `linear_weight` our
`bias` and `gate` our `bridge_weight`; `traj` is eight training steps. A kind is `int`, `float` or `sparse`.
"""

STAGES = ("coarse", "fine")
SPARSE_PARTS = ("row", "col", "val", "shape")

_STAGE_INPUTS = {
    "in.coarse_meta": "float CD",
    "in.fine_meta": "float FD",
    "in.linear_weight": "float N1",
    "in.linear_bias": "float 1",
    "in.coarse_assignment": "sparse NC",
    "in.fine_assignment": "sparse CF",
    "traj.triples": "int TS3",
    "traj.lr": "float",
    "traj.clip": "float",
    "traj.refresh_at": "int",
}
_STAGE_OUTPUTS = {
    "expanded_graph": "sparse GG",
    "ego": "float ND",
    "entity_out": "float ND",
    "coarse_out": "float CD",
    "fine_out": "float FD",
    "bpr": "float",
    "reg": "float",
    "loss": "float",
    "grad.coarse_meta": "float CD",
    "grad.linear_weight": "float N1",
    "grad.linear_bias": "float 1",
    "next_coarse_assignment": "sparse NC",
    "traj.loss": "float T",
    "traj.coarse_meta": "float CD",
    "traj.fine_meta": "float FD",
    "traj.linear_weight": "float N1",
    "traj.coarse_assignment": "sparse NC",
    "traj.fine_assignment": "sparse CF",
}

INPUTS = {
    "interactions.user": "int P",
    "interactions.item": "int P",
    "triples": "int B3",
    **{f"{stage}.{name}": form for stage in STAGES for name, form in _STAGE_INPUTS.items()},
    "eval.test.user": "int Q",
    "eval.test.item": "int Q",
    "eval.ks": "int K",
    "fine_init.positions": "int FJ",
}
"""What an operation is given, beside `config`: kind and shape. A file whose J is D has no positions: they are all columns."""

OUTPUTS = {
    "norm_adjacency": "sparse NN",
    **{f"{stage}.{name}": form for stage in STAGES for name, form in _STAGE_OUTPUTS.items()},
    "fine.grad.fine_meta": "float FD",
    "fine.next_fine_assignment": "sparse CF",
    "eval.scores": "float UI",
    "eval.recall": "float K",
    "eval.ndcg": "float K",
    "fine_init.rows": "int F",
    "fine_init.coarse_meta": "float CD",
    "fine_init.coarse_assignment": "sparse NC",
    "fine_init.entity_fine_affinity": "sparse NF",
    "fine_init.fine_assignment": "sparse CF",
    "fine_init.fine_meta": "float FD",
}
"""What some operation must give: kind and shape. U, I, N, C, F, D as everywhere; G = N + C + F nodes, J SparsePCA
components; T steps of S triples, P and Q pairs, B triples and K cuts take their size from the first array that has them."""


def stored_names(forms: dict[str, str]) -> set[str]:
    """Names under which a file holds these arrays: a sparse one has four parts."""
    return {f"{key}.{part}" if form.startswith("sparse") else key for key, form in forms.items() for part in SPARSE_PARTS}
