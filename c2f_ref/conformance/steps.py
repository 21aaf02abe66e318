"""Eight training steps of either stage: the contract of an implementation, run as training runs it.

A tie at the cut of the refresh would let two right implementations go different ways from there. None of the ten files has
one (the smallest gap is 3e-7 of the largest candidate), so what comes after a refresh is compared place by place.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from c2f_ref import spec

from .vectors import Vectors, as_triples


def coarse_steps(ops: ModuleType, v: Vectors) -> dict[str, Any]:
    """The coarse stage from `coarse.in.*`, S_c refreshed on the way: every array that the steps must give, by its name.

    Source: coarse stage, steps 6 and 7.
    """
    lr, refresh_at, settings = _training(v, "coarse")
    coarse, fine, bias, assignment, fine_assignment = v.start("coarse")
    plan = ops.prepare_coarse(v.matrix("norm_adjacency"), assignment, v.n_users, settings)
    coarse_state, bias_state = spec.start_adam(coarse), spec.start_adam(bias)
    losses = []
    for step, batch in enumerate(v.array("coarse.traj.triples")):
        loss, grad_coarse, grad_bias = ops.coarse_loss_and_grad(plan, coarse, bias, as_triples(batch))
        losses.append(loss)
        if step == refresh_at:  # the step's own gradient remains that of the old assignment
            assignment = ops.refresh_coarse(*ops.embed_coarse(plan, coarse), settings.coarse_per_entity)
            plan = ops.prepare_coarse(v.matrix("norm_adjacency"), assignment, v.n_users, settings)
        coarse, coarse_state = ops.adam_step(coarse, grad_coarse, coarse_state, lr, settings)
        bias, bias_state = ops.adam_step(bias, grad_bias, bias_state, lr, settings)
    return {
        "coarse.traj.loss": losses,
        "coarse.traj.coarse_meta": coarse,
        "coarse.traj.linear_weight": bias[:, None],
        "coarse.traj.coarse_assignment": assignment,
        # Nothing in this stage reads the fine table: it must be recorded as it was given.
        "coarse.traj.fine_meta": fine,
        "coarse.traj.fine_assignment": fine_assignment,
        # The fine stage starts where these steps ended.
        "fine_init.coarse_meta": coarse,
        "fine_init.coarse_assignment": assignment,
    }


def fine_steps(ops: ModuleType, v: Vectors) -> dict[str, Any]:
    """The fine stage from `fine.in.*`, S_f refreshed on the way: every array that the steps must give, by its name.

    Source: fine stage, steps 1 and 7.
    """
    lr, refresh_at, settings = _training(v, "fine")
    coarse, fine, bias, coarse_assignment, assignment = v.start("fine")
    plan = ops.prepare_fine(v.matrix("norm_adjacency"), coarse_assignment, assignment, v.n_users, settings)
    coarse_state, fine_state, bias_state = (spec.start_adam(table) for table in (coarse, fine, bias))
    losses = []
    for step, batch in enumerate(v.array("fine.traj.triples")):
        loss, grad_coarse, grad_fine, grad_bias = ops.fine_loss_and_grad(plan, coarse, fine, bias, as_triples(batch))
        losses.append(loss)
        if step == refresh_at:  # the step's own gradient remains that of the old assignment
            assignment = ops.refresh_fine(*ops.embed_fine(plan, coarse, fine), settings.fine_per_coarse)
            plan = ops.prepare_fine(v.matrix("norm_adjacency"), coarse_assignment, assignment, v.n_users, settings)
        coarse, coarse_state = ops.adam_step(coarse, grad_coarse, coarse_state, 0.0, settings)  # D7
        fine, fine_state = ops.adam_step(fine, grad_fine, fine_state, lr, settings)
        bias, bias_state = ops.adam_step(bias, grad_bias, bias_state, lr, settings)
    return {
        "fine.traj.loss": losses,
        "fine.traj.coarse_meta": coarse,
        "fine.traj.fine_meta": fine,
        "fine.traj.linear_weight": bias[:, None],
        "fine.traj.coarse_assignment": coarse_assignment,
        "fine.traj.fine_assignment": assignment,
    }


def _training(v: Vectors, stage: str) -> tuple[float, int, spec.Settings]:
    """(lr, step before which the assignment is refreshed, settings) of a stage's training steps."""
    settings = replace(v.settings, clip_limit=float(v.array(f"{stage}.traj.clip")))
    return float(v.array(f"{stage}.traj.lr")), int(v.array(f"{stage}.traj.refresh_at")), settings
