"""State and metrics of the environment `coevolution`. Positions are in value units."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total
from mores.core.people import People
from mores.core.people_statistics import group_gap, rms_distance
from mores.envs.dynamics.audience import ReceivedAdvice
from mores.envs.dynamics.trait_state import TraitState
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.envs.opinion.progress_challenges import ChallengeRecord


@dataclasses.dataclass(frozen=True)
class CoevolutionState:
    """State at the end of a phase. Agents are people; `assistant_agent`: see `Audiences`."""

    people: People
    trait_state: TraitState  # disposition and temporary deviation of people's values
    trust: Float[Tensor, "world agent assistant"]  # of each person in each assistant, in [0, 1]
    anchor: Float[Tensor, "world agent value"]  # initial disposition of each person
    initial_mean: Float[Tensor, "world value"]  # initial mean value
    initial_mean_disposition: Float[Tensor, "world value"]
    answers: Float[Tensor, "world agent value"]  # last answers
    history_position: Float[Tensor, "world value"]
    trend: Float[Tensor, "world value"]  # last movement of history
    previous_values: Float[Tensor, "world agent value"]  # values one round ago
    advice: Float[Tensor, "world assistant_agent value"]  # last advice, to each audience
    intensity: Float[Tensor, "world assistant_agent"]  # of the last advice, in [0, 1]
    neighbor_mean: Float[Tensor, "world agent value"]  # weighted mean of neighbors' last answers
    graph: InfluenceGraph | None  # None: all worlds share one, or no peer influence
    rule_state: Any  # state of the update rule of `peers`
    rounds_elapsed: Int[Tensor, " world"]  # movements of history so far
    challenge_record: ChallengeRecord | None  # what a challenge scores; None: no challenge


def community_metrics(
    state: CoevolutionState,
    received: ReceivedAdvice,
    equilibrium_matrix: Float[Tensor, "agent agent"] | None,
) -> dict[str, Float[Tensor, "world *value"]]:
    """The metrics of `Coevolution.metrics` other than scores of challenges.

    Args:
        state: state at the end of a round.
        received: the last advice that each person received.
        equilibrium_matrix: weights of initial values (columns) in the equilibrium values of
            `peers`; None: unknown (`UpdateRule.equilibrium_matrix`).
    """
    values = state.people.values
    mean_value = mean(values, 1)
    movement = mean_value - mean(state.previous_values, 1)
    lag = trust = gap = torch.full_like(mean_value[:, 0], torch.nan)
    if state.advice.shape[1]:
        advice = mean(mean(received.position, 2), 1)  # world value
        lag = mean(mean_value - movement - advice, 1)
        trust = mean(mean(state.trust, 2), 1)
    if state.people.groups is not None:
        gap = group_gap(values, state.people.groups)
    return {
        "mean_value": mean_value,
        "drift": norm(mean_value - state.initial_mean),
        "disposition_drift": norm(
            mean(state.trait_state.disposition, 1) - state.initial_mean_disposition
        ),
        "rms_distance": rms_distance(values),
        "velocity": mean(movement, 1),
        "tracking_lag": lag,
        "trust": trust,
        "distance_to_history": norm(mean_value - state.history_position),
        "group_gap": gap,
        "contraction_factor": rms_distance(values) / rms_distance(state.previous_values),
        "distance_to_equilibrium": distance_to_equilibrium(
            values, state.anchor, equilibrium_matrix
        ),
    }


def distance_to_equilibrium(
    values: Float[Tensor, "world agent value"],
    anchor: Float[Tensor, "world agent value"],
    equilibrium_matrix: Float[Tensor, "agent agent"] | None,
) -> Float[Tensor, " world"]:
    """Largest Euclidean distance of a person from the equilibrium, value units; NaN if unknown.

    Args:
        values: values of people.
        anchor: initial dispositions, which determine the equilibrium.
        equilibrium_matrix: see `community_metrics`.
    """
    if equilibrium_matrix is None:
        return torch.full_like(values[:, 0, 0], torch.nan)
    equilibrium = total(equilibrium_matrix.to(anchor.device)[..., None] * anchor[:, None], 2)
    return norm(values - equilibrium).amax(-1)
