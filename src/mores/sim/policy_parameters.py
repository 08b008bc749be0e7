"""Person parameters of policies, such as the answer noise of a response model.

They are sampled at the start of an episode, from the people of the environment. A copy of the
policy acts, in which each of them is a tensor (`mores.core.person_parameters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core import stream_addresses as addresses
from mores.core.environment import Environment, Role
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.person_parameters import (
    PerDraw,
    PersonParameter,
    person_parameters,
    resolve_parameters,
    sample_parameters,
)
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams

PERSON = "person"  # name of the role of people, in an environment that has such a role
Samples = dict[str, dict[str, Tensor]]  # by role and path, `[world, agent]`


class PolicyParameters:
    """Person parameters of the policies of a simulator.

    Args:
        policies: policies by role.
        roles: roles by name.
    """

    def __init__(self, policies: Mapping[str, Policy], roles: Mapping[str, Role]) -> None:
        self._policies, self._roles = policies, roles
        found = {role: person_parameters({"": policy}) for role, policy in policies.items()}
        self._differing: dict[str, dict[str, PersonParameter]] = {
            role: parameters for role, parameters in found.items() if parameters
        }

    def sample(self, environment: Environment[Any], state: Any, streams: RandomStreams) -> Samples:
        """A sample of each parameter, for the worlds of a state at the start of an episode.

        Raises:
            UserError: the agents of the role are not the people of the environment.
        """
        if not self._differing:
            return {}
        people = environment.people(state)
        sampled: Samples = {}
        for role, parameters in self._differing.items():
            agents = self._agents_as_people(role, parameters, people, streams)
            scope = streams.child(f"{addresses.POLICY}/{role}")
            sampled[role] = sample_parameters(agents, parameters, scope)
        return sampled

    def resolve(self, samples: Samples, streams: RandomStreams) -> dict[str, Policy]:
        """Policies by role, with tensors of these samples in place of person parameters."""
        resolved = {
            role: resolve_parameters(self._policies[role], samples[role], "", streams)
            for role in self._differing
        }
        return {**self._policies, **resolved}

    def _agents_as_people(
        self,
        role: str,
        parameters: Mapping[str, PersonParameter],
        people: People | None,
        streams: RandomStreams,
    ) -> People:
        """The agents of a role as people: those of the environment, or people without values.

        The people of the environment are the agents of its role `person`; if it has no such role,
        those of any role with as many agents as there are people.
        """
        count = self._roles[role].num_agents
        without_values = People(torch.zeros(streams.num_worlds, count, 0, device=streams.device))
        if people is None or all(isinstance(each, PerDraw) for each in parameters.values()):
            return without_values
        if PERSON in self._roles and role != PERSON:
            message = f"{role}: parameters that differ between people need the role {PERSON}"
            raise UserError(message, code="unsupported", path=f"policies.{role}")
        if people.values.shape[1] != count:
            message = f"{role}: parameters that differ between people need a role of people; "
            message += f"there are {people.values.shape[1]} people and {count} agents"
            raise UserError(message, code="unsupported", path=f"policies.{role}")
        return people
