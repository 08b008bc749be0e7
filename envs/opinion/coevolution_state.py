"""A community of people, assistants and history: its state, and how it lies."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total
from mores.core.people import People
from mores.envs.dynamics.trait_state import TraitState
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.envs.opinion.progress_challenges import ChallengeRecord


@dataclasses.dataclass(frozen=True)
class CoevolutionState:
    """A community at the end of a phase."""

    people: People
    trait_state: TraitState  # what their values are made of
    trust: Float[Tensor, "world agent assistant"]  # of each person in each assistant
    anchor: Float[Tensor, "world agent value"]  # where each person started
    initial_mean: Float[Tensor, "world value"]  # where the centre started
    initial_mean_disposition: Float[Tensor, "world value"]  # and that of dispositions
    answers: Float[Tensor, "world agent value"]  # last answers
    history_position: Float[Tensor, "world value"]  # where history is
    trend: Float[Tensor, "world value"]  # history's last movement
    previous_values: Float[Tensor, "world agent value"]  # values a round ago
    advice: Float[Tensor, "world assistant value"]  # what the assistants said last
    intensity: Float[Tensor, "world assistant"]  # and how loudly
    neighbor_mean: Float[Tensor, "world agent value"]  # mean of what those one listens to said last
    graph: InfluenceGraph | None  # where every world has its own
    rounds_elapsed: Int[Tensor, " world"]  # rounds of history passed
    challenge_record: ChallengeRecord | None  # what a challenge judges


def community_metrics(
    state: CoevolutionState, equilibrium_matrix: Float[Tensor, "agent agent"] | None
) -> dict[str, Float[Tensor, "world *value"]]:
    """How the community lies: see `Coevolution.metrics`.

    Args:
        state: the community.
        equilibrium_matrix: where everybody ends, as weights of everybody's start, where theory says it.
    """
    values = state.people.values
    centre = mean(values, 1)
    moved = centre - mean(state.previous_values, 1)
    lag = trust = torch.full_like(centre[:, 0], torch.nan)
    if state.advice.shape[1]:
        lag = mean(centre - moved - mean(state.advice, 1), 1)
        trust = mean(mean(state.trust, 2), 1)
    return {
        "mean_value": centre,
        "drift": norm(centre - state.initial_mean),
        "disposition_drift": norm(
            mean(state.trait_state.disposition, 1) - state.initial_mean_disposition
        ),
        "rms_distance": rms_distance(values),
        "velocity": mean(moved, 1),
        "tracking_lag": lag,
        "trust": trust,
        "distance_to_history": norm(centre - state.history_position),
        "group_gap": group_gap(state.people),
        "contraction_factor": rms_distance(values) / rms_distance(state.previous_values),
        "distance_to_equilibrium": distance_to_equilibrium(values, state.anchor, equilibrium_matrix),
    }


def rms_distance(values: Float[Tensor, "world agent value"]) -> Float[Tensor, " world"]:
    """Root mean square distance of people from their centre."""
    apart = values - mean(values, 1)[:, None]
    return mean(total(apart * apart, -1), 1).sqrt()


def group_gap(people: People) -> Float[Tensor, " world"]:
    """Distance between the centres of the first and the last group; nan without groups."""
    if people.groups is None:
        return torch.full_like(people.values[:, 0, 0], torch.nan)
    groups, ends = people.groups, []
    for number in (groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)):
        member = (groups == number)[..., None].to(torch.float32)
        ends.append(total(member * people.values, 1) / total(member, 1))
    return norm(ends[1] - ends[0])


def distance_to_equilibrium(
    values: Float[Tensor, "world agent value"],
    anchor: Float[Tensor, "world agent value"],
    equilibrium_matrix: Float[Tensor, "agent agent"] | None,
) -> Float[Tensor, " world"]:
    """Largest distance of anybody from where the kernel puts them; nan without one."""
    if equilibrium_matrix is None:
        return torch.full_like(values[:, 0, 0], torch.nan)
    settled = total(equilibrium_matrix.to(anchor.device)[..., None] * anchor[:, None], 2)
    return norm(values - settled).amax(-1)
