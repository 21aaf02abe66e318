"""A module held against the official code's answers, a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from types import ModuleType

from . import answers, steps
from .checks import Check
from .report import MISSING, Report, Result
from .vectors import VectorError, Vectors, read_vectors

OPERATIONS = {
    function.__name__: function
    for function in (
        answers.bipartite,
        answers.normalise,
        answers.expand_coarse,
        answers.expand_fine,
        answers.part_affinity,
        answers.start_fine_assignment,
        answers.refresh_coarse,
        answers.refresh_fine,
        answers.sparse_pca_scores,
        answers.scatter_scores,
        answers.ego_embed,
        answers.propagate_coarse,
        answers.propagate_fine,
        answers.score_pairs,
        answers.score_pairs_vjp,
        answers.bpr_loss,
        answers.ego_penalty,
        answers.rank_items,
        answers.recall_at_k,
        answers.ndcg_at_k,
        answers.embed_coarse,
        answers.embed_fine,
        answers.coarse_loss_and_grad,
        answers.fine_loss_and_grad,
        steps.adam_step,
    )
}
"""Functions under test by their name in `c2f_ref.spec`, in its reading order, the training steps last.

`sample_triples` is not here: what it draws is random, and no file records it. Pull-backs without a line of their own are
tested within the losses."""


def run(module: ModuleType, folder: str | PathLike[str]) -> Report:
    """Hold `module` against every .npz file in `folder`.

    Errors: VectorError when there is none, or for the first that cannot be used.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise VectorError(f"{folder}: no .npz file in this folder")
    results = {operation: Result(operation) for operation in OPERATIONS}
    for vectors in [read_vectors(path) for path in paths]:
        for check in checks_of(module, vectors):
            n_checks = int(check.expected is not None)
            results[check.operation] = results[check.operation].with_check(*check.judge(), n_checks)
    return Report(module.__name__, f"{len(paths)} files of known answers", tuple(results.values()))


def checks_of(module: ModuleType, vectors: Vectors) -> Iterator[Check]:
    """Hold every operation of `OPERATIONS` against one file: a check for each array that it gives.

    Edge: a name that the module lacks, or an exception that it raises, is a check that fails.
    """
    file = vectors.path.name
    for operation, answer_with in OPERATIONS.items():
        if not hasattr(module, operation):
            yield Check(operation, file, error=f"{MISSING} {operation}")
            continue
        try:
            for key, got, tied, iterated in answer_with(module, vectors):
                yield Check(operation, file, key, got, vectors.array(key), tied, iterated)
        except (Exception, SystemExit) as error:  # whatever someone's module raises
            yield Check(operation, file, error=f"{type(error).__name__}: {error}")
