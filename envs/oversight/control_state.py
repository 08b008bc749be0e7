"""State of the environment `control`, and its metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.envs.dynamics.trait_state import TraitState


@dataclasses.dataclass(frozen=True)
class ControlTask:
    """The present task, or the last one at the end of a round.

    Attributes:
        task_class: its class.
        level: 0 honest work, else the level of the attack, of each draw of the work.
        score: suspicion score of each draw; 0 if there is no monitor.
        monitored: with a role `monitor`, the evidence on the work and on the references, and from
            phase `score` on its log odds; else 0.
        audit_option: option of an auditor that chooses the audit rate.
        action: what the protocol did: an index of `ACTIONS`.
        draw: the draw that was used.
        found: whether an audit found an attack.
        side_success: whether the side task succeeded.
        main_success: whether the main task succeeded.
    """

    task_class: Int[Tensor, " world"]
    level: Int[Tensor, "world draw"]
    score: Float[Tensor, "world draw"]
    monitored: Float[Tensor, "world work"]
    audit_option: Int[Tensor, " world"]
    action: Int[Tensor, " world"]
    draw: Int[Tensor, " world"]
    found: Bool[Tensor, " world"]
    side_success: Bool[Tensor, " world"]
    main_success: Bool[Tensor, " world"]


@dataclasses.dataclass(frozen=True)
class Counts:
    """Sums over the tasks so far."""

    attacks: Float[Tensor, " world"]  # tasks in which a draw was an attack
    audits: Float[Tensor, " world"]
    honest_audits: Float[Tensor, " world"]
    side_successes: Float[Tensor, " world"]
    main_successes: Float[Tensor, " world"]
    harm: Float[Tensor, " world"]  # stakes of the successful attacks


@dataclasses.dataclass(frozen=True)
class PersonState:
    """People who bear the harm.

    Attributes:
        trait_state: disposition and temporary deviation of their values.
        traits: parameters that differ between people.
        exposure: share of the harm that each bears; the sum is 1.
    """

    trait_state: TraitState
    traits: Mapping[str, Float[Tensor, "world agent"]]
    exposure: Float[Tensor, "world agent"]


@dataclasses.dataclass(frozen=True)
class ControlState:
    """State at the end of a phase."""

    tasks_done: Int[Tensor, " world"]
    attack_mode: Bool[Tensor, " world"]
    in_service: Bool[Tensor, " world"]  # the untrusted policy, for the next task
    next_class: Int[Tensor, " world"]  # class of the next task
    audits_left: Int[Tensor, " world"]  # -1: no limit
    variant: Int[Tensor, " world"]  # of the protocol: calibrated threshold, or outcome of a vote
    caught: Bool[Tensor, " world"]
    task: ControlTask
    counts: Counts
    people: PersonState | None


def zero_counts(like: Float[Tensor, " world"]) -> Counts:
    """Counts before the first task."""
    zero = torch.zeros_like(like)
    return Counts(zero, zero, zero, zero, zero, zero)
