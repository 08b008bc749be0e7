"""A community of people, assistants and history: its state, and how it lies."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total
from mores.core.people import People
from mores.envs.dynamics.trait_state import Held
from mores.envs.graphs.influence_graph import Network
from mores.envs.opinion.progress_challenges import Paths


@dataclasses.dataclass(frozen=True)
class State:
    """A community at the end of a phase."""

    people: People
    held: Held  # what their values are made of
    trust: Float[Tensor, "world agent assistant"]  # of each person in each assistant
    anchor: Float[Tensor, "world agent value"]  # where each person started
    origin: Float[Tensor, "world value"]  # where the centre started
    settled_origin: Float[Tensor, "world value"]  # and that of dispositions
    said: Float[Tensor, "world agent value"]  # last answers
    reference: Float[Tensor, "world value"]  # where history is
    trend: Float[Tensor, "world value"]  # history's last movement
    before: Float[Tensor, "world agent value"]  # values a round ago
    advice: Float[Tensor, "world assistant value"]  # what the assistants said last
    voice: Float[Tensor, "world assistant"]  # and how loudly
    peers: Float[Tensor, "world agent value"]  # mean of what those one listens to said last
    network: Network | None  # where every world has its own
    when: Int[Tensor, " world"]  # rounds of history passed
    paths: Paths | None  # what a challenge judges


def measures(
    state: State, kernel: Float[Tensor, "agent agent"] | None
) -> dict[str, Float[Tensor, "world *value"]]:
    """How the community lies: see `Coevolution.measures`.

    Args:
        state: the community.
        kernel: where everybody ends, as weights of everybody's start, where theory says it.
    """
    values = state.people.values
    centre = mean(values, 1)
    moved = centre - mean(state.before, 1)
    lag = trust = torch.full_like(centre[:, 0], torch.nan)
    if state.advice.shape[1]:
        lag = mean(centre - moved - mean(state.advice, 1), 1)
        trust = mean(mean(state.trust, 2), 1)
    return {
        "centre": centre,
        "drift": norm(centre - state.origin),
        "settled_drift": norm(mean(state.held.disposition, 1) - state.settled_origin),
        "spread": spread(values),
        "speed": mean(moved, 1),
        "lag": lag,
        "trust": trust,
        "to_reference": norm(centre - state.reference),
        "group_gap": group_gap(state.people),
        "contraction": spread(values) / spread(state.before),
        "to_equilibrium": to_equilibrium(values, state.anchor, kernel),
    }


def spread(values: Float[Tensor, "world agent value"]) -> Float[Tensor, " world"]:
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


def to_equilibrium(
    values: Float[Tensor, "world agent value"],
    anchor: Float[Tensor, "world agent value"],
    kernel: Float[Tensor, "agent agent"] | None,
) -> Float[Tensor, " world"]:
    """Largest distance of anybody from where the kernel puts them; nan without one."""
    if kernel is None:
        return torch.full_like(values[:, 0, 0], torch.nan)
    settled = total(kernel.to(anchor.device)[..., None] * anchor[:, None], 2)
    return norm(values - settled).amax(-1)
