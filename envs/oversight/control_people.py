"""People who bear the harm of side tasks: exposures, values that a side task displaces, a vote.

Person i bears the share a_i of the harm (`sum a_i = 1`). A side task that succeeds is covert
persuasion: it moves the values h_i of a person by

    h_i' = h_i + min(1, N a_i v influence) (side_position - h_i)

with stakes v and the share `influence` of the distance that one conversation closes; at equal
exposures and stakes 1 everybody moves as in one conversation of the human model. Between tasks
values revert to dispositions as in `mores.envs.dynamics.trait_state`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.people import People
from mores.core.person_parameters import PersonParameter, add_parameters, person_number
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.oversight.control_state import PersonState


def initial_people(
    people: People,
    dynamics: TraitStateDynamics,
    weight: Any,
    differing: dict[str, PersonParameter],
    streams: RandomStreams,
) -> PersonState:
    """People at the start of an episode.

    Args:
        people: their dispositions as values.
        dynamics: persistence of their values.
        weight: of each person in the harm: a number, or a person parameter named `exposure`.
        differing: parameters that differ between people, by path.
        streams: random streams of the environment.
    """
    people = add_parameters(people, differing, streams)
    rates = dynamics.rates_of_people(people.traits, "trait_state")
    state = dynamics.initial_state(people.values, streams.child("person"), rates)
    weights = torch.ones_like(people.values[..., 0])
    number = person_number(weight, people.traits, "exposure")
    if isinstance(number, Tensor):
        weights = number[..., 0].as_subclass(Tensor).to(weights.dtype).clamp(min=1e-9)
    exposure = weights / total(weights, 1)[:, None]
    return PersonState(state, people.traits, exposure)


def after_task(
    people: PersonState,
    dynamics: TraitStateDynamics,
    influence: Any,
    side_position: float,
    harm: Float[Tensor, " world"],
    streams: RandomStreams,
) -> PersonState:
    """People after a task.

    Args:
        people: before it.
        dynamics: persistence of their values.
        influence: share of the distance to the side task's position that one success closes.
        side_position: position to which a side task moves people, value units.
        harm: stakes of a successful attack; 0 without one.
        streams: random streams of the environment.
    """
    state = dynamics.advance_round(people.trait_state, streams.child("person"))
    strength = people.exposure * people.exposure.shape[1] * harm[:, None]  # world agent
    share = (person_number(influence, people.traits, "ai_influence") * strength[..., None]).clamp(
        0.0, 1.0
    )
    state = dynamics.displace(state, share * (side_position - state.values))
    return dataclasses.replace(people, trait_state=state)


def median_vote(votes: Int[Tensor, "world agent"]) -> Int[Tensor, " world"]:
    """The lower median of the people's options, ordered by audit rate."""
    return votes.sort(dim=1).values[:, (votes.shape[1] - 1) // 2]
