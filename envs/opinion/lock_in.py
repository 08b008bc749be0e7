"""Lock-in: people and assistants that treat each other's beliefs as independent evidence.

Qiu, He, Chugh and Kleiman-Weiner 2025 (arXiv 2506.06166). All agents estimate one number from
private noisy evidence and from the *aggregate* beliefs of others, which already contain the agent's
own evidence (`mores.envs.dynamics.belief_pooling`). All beliefs converge to the truth if the
spectral radius of the trust matrix is below 1; above it, some never do. For N people and M
assistants that trust each other the condition is `N M * trust_in_people * trust_in_ai < 1`.

Demo: `python -m mores.envs.opinion.lock_in`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import MAX_FLOAT32
from mores.core.deterministic_sum import mean, total
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.person_parameters import (
    PersonParameter,
    add_parameters,
    person_number,
    person_parameters,
)
from mores.core.plain_text import read_parts
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Part
from mores.core.turn_text import TurnText
from mores.envs.dynamics import belief_pooling
from mores.envs.dynamics.belief_pooling import Beliefs
from mores.envs.opinion import lock_in_text as texts
from mores.registry.varying import PersonNumber

REPORT_LIMIT = 8.0  # standard deviations of the first evidence


@dataclasses.dataclass(frozen=True)
class LockInState:
    """Evidence and beliefs. In the agent dimension people are followed by assistants."""

    truth: Float[Tensor, " world"]
    mean_evidence: Float[Tensor, "world agent"]  # mean of the agent's private observations
    evidence_precision: Float[
        Tensor, " world"
    ]  # precision of `mean_evidence`, equal for all agents
    beliefs: Beliefs
    beliefs_lag1: Beliefs  # one round ago
    beliefs_lag2: Beliefs  # two rounds ago
    reports: Float[Tensor, "world agent"]  # last reports; initially 0
    traits: Mapping[str, Float[Tensor, "world person"]]  # samples of person parameters


class LockIn(Environment[LockInState]):
    """People and assistants that pool each other's beliefs as evidence.

    Description:
        Each round every agent reports a belief, receives one private observation of the truth, and
        updates its belief by that observation and the reports of the other role. Left out: trust
        that changes, a truth that changes, networks among people, and evidence beyond one number.

    Roles:
        person (`num_people`): trusts assistants.
        assistant (`num_assistants`, 0: none): trusts people.

    Observation (both roles, unbounded, units of the estimated number):
        belief         1   mean of the agent's aggregate belief
        mean_evidence  1   mean of the agent's private observations
        mean_report    1   mean of the other role's last reports; 0 if there are none

    Action:
        Both roles, phase report: `report`, the belief shown to the other role, within
        `report_limit` of 0: 8 standard deviations of an agent's first piece of evidence, which
        honest reports never reach. It is pooled with the precision of the agent's actual belief.

    Reward:
        Minus the squared error of the agent's own belief.

    Dynamics:
        The recursion of `belief_pooling`, in float32 without overflow. Agents of the same role do
        not trust each other; `self_trust` is the trust of an agent in its own last belief.

    Start:
        Truth normal with standard deviation `truth_std`; beliefs 0 with `prior_precision`.

    End:
        Never (truncation only).

    Parameters:
        See the fields: each has its range and meaning.

    References:
        Qiu et al. 2025, arXiv 2506.06166. The exact standard deviations of the locked belief and
        the float32 form are derived here, not in the paper.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "changes": "beliefs",
        "stochastic": True,
        "paper": "2506.06166",
    }

    num_people: int = Field(default=20, ge=1, le=1_000_000, description="number of people")
    num_assistants: int = Field(default=1, ge=0, le=10_000, description="number of assistants")
    trust_in_ai: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.2, description="trust of each person in each assistant"
    )
    trust_in_people: float = Field(
        default=0.2, ge=0, description="trust of each assistant in each person"
    )
    self_trust: float = Field(
        default=0.0, ge=0, description="trust of each agent in its own last belief"
    )
    evidence_noise_std: float = Field(
        default=1.0, gt=0, description="standard deviation of one observation"
    )
    truth_std: float = Field(default=1.0, ge=0, description="standard deviation of the truth")
    prior_precision: float = Field(default=0.0, ge=0, description="precision of the initial belief")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` if there are assistants."""
        space = Box.of(belief=1, mean_evidence=1, mean_report=1)
        person = Role("person", self.num_people, space)
        assistant = Role("assistant", self.num_assistants, space)
        return (person, assistant) if self.num_assistants else (person,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All agents report simultaneously."""
        space = Box.of(report=Part(1, -self.report_limit, self.report_limit))
        return (Phase("report", {role.name: space for role in self.roles}),)

    @property
    def report_limit(self) -> float:
        """Largest absolute report, in units of the estimated number.

        A truthful report is an average of evidence, earlier reports and the prior mean 0.
        """
        evidence_std = math.hypot(self.truth_std, self.evidence_noise_std)
        return min(REPORT_LIMIT * evidence_std, MAX_FLOAT32)

    @functools.cached_property
    def _role_names(self) -> tuple[str, ...]:
        return tuple(role.name for role in self.roles)

    @functools.cached_property
    def _differing(self) -> dict[str, PersonParameter]:
        """Person parameters by path."""
        return person_parameters({"trust_in_ai": self.trust_in_ai})

    @property
    def loop_gain(self) -> float:
        """Growth factor of precision in two rounds; lock-in above 1. NaN if people differ in trust.

        In that case the factor of a world uses the mean of `trust_in_ai` over its people.
        """
        if self._differing:
            return math.nan
        return self.num_people * self.num_assistants * self.trust_in_people * self.trust_in_ai

    def reset(self, streams: RandomStreams, people: People | None = None) -> LockInState:
        """Initial state: the prior, no evidence."""
        if people is not None:
            raise UserError(
                "lock_in accepts no population: its people have no values",
                code="unsupported",
                path="population",
            )
        truth = self.truth_std * streams.normal("truth")[:, 0, 0]
        zero = torch.zeros_like(truth)
        zeros = zero[:, None].expand(-1, self.num_people + self.num_assistants).clone()
        prior = Beliefs(zeros, zeros + self.prior_precision, zero, zero + 1.0)
        traits: Mapping[str, Tensor] = {}
        if self._differing:
            people = People(zeros[:, : self.num_people, None])
            traits = add_parameters(people, self._differing, streams).traits
        precision = zero + self.prior_precision
        return LockInState(truth, zeros, precision, prior, prior, prior, zeros, traits)

    def observe(self, state: LockInState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        agents, senders = slice(0, self.num_people), slice(self.num_people, None)
        if role == "assistant":
            agents, senders = senders, agents
        reports = state.reports[:, senders]
        mean_report = mean(reports, 1) if reports.shape[1] else torch.zeros_like(state.truth)
        belief, evidence = state.beliefs.mean[:, agents], state.mean_evidence[:, agents]
        return torch.stack([belief, evidence, mean_report[:, None].expand(belief.shape)], -1)

    def step(
        self, state: LockInState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[LockInState]:
        """One round of the recursion; the other role pools the report instead of the belief."""
        num_agents = self.num_people + self.num_assistants
        noise = self.evidence_noise_std * streams.normal("evidence", num_agents)[..., 0]
        observation_precision = 1.0 / self.evidence_noise_std**2
        precision = state.evidence_precision + observation_precision
        innovation = state.truth[:, None] + noise - state.mean_evidence
        weight = (observation_precision / precision)[:, None]
        evidence = state.mean_evidence + innovation * weight
        reports = torch.cat([actions[name][..., 0] for name in self._role_names], 1)
        beliefs = belief_pooling.update_beliefs(
            state.beliefs, evidence, precision, *self._received_beliefs(state, reports)
        )
        past = state.beliefs, state.beliefs_lag1
        next_state = LockInState(
            state.truth, evidence, precision, beliefs, *past, reports, state.traits
        )
        return StepResult(next_state, self._reward(beliefs.mean - state.truth[:, None]))

    def _reward(self, error: Tensor) -> dict[str, Tensor]:
        rewards = -(error * error)
        by_role = {"person": rewards[:, : self.num_people]}
        if self.num_assistants:
            by_role["assistant"] = rewards[:, self.num_people :]
        return by_role

    def _received_beliefs(
        self, state: LockInState, reports: Float[Tensor, "world agent"]
    ) -> tuple[Tensor, Tensor]:
        """Precision, and precision times report, that each agent receives: `W q`, `W (nu q)`."""
        beliefs, people = state.beliefs, self.num_people
        precision = beliefs.scaled_precision
        own_precision = precision if self.self_trust == 1 else self.self_trust * precision
        own_moment = own_precision * beliefs.mean
        if not self.num_assistants:
            return own_precision, own_moment
        trust_in_ai = person_number(self.trust_in_ai, state.traits, "trust_in_ai")
        sent = torch.stack([precision, precision * reports], -1)  # world agent moment
        from_people = self.trust_in_people * total(sent[:, :people], 1)[:, None]
        from_ai = (
            trust_in_ai * total(sent[:, people:], 1)[:, None]
        )  # world agent moment; 1 agent if trust is equal
        received = torch.cat(
            [from_ai.expand(-1, people, -1), from_people.expand(-1, self.num_assistants, -1)], 1
        )
        return own_precision + received[..., 0], own_moment + received[..., 1]

    def metrics(self, state: LockInState) -> Mapping[str, Tensor]:
        """Metrics of each world. Without assistants the first person replaces the first assistant.

        ai_error: belief of the first assistant minus the truth.  people_error: people's mean belief
        minus the truth.  people_rmse: root mean square error of people's beliefs.  disagreement:
        standard deviation of people's beliefs.  private_error: error of the first person's private
        evidence.  overconfidence: log10 of `|error| sqrt(q)`, the first assistant's error in
        units of its own standard error; people_overconfidence: the first person's.
        precision_growth: precision of the first assistant over that two rounds ago.  all_finite: 1
        if all beliefs are finite, else 0.
        """
        first = self.num_people if self.num_assistants else 0
        now, past = state.beliefs, state.beliefs_lag2
        error = now.mean - state.truth[:, None]
        people = error[:, : self.num_people]
        mean_error = mean(people, 1)
        deviation = people - mean_error[:, None]
        overconfidence = torch.log10(error.abs()) + 0.5 * now.log10_precision
        log_scale_growth = (now.log2_scale - past.log2_scale) * math.log(2.0)
        log_growth = (
            torch.log(now.scaled_precision[:, first])
            - torch.log(past.scaled_precision[:, first])
            + log_scale_growth
        )
        return {
            "ai_error": error[:, first],
            "people_error": mean_error,
            "people_rmse": mean(people * people, 1).sqrt(),
            "disagreement": mean(deviation * deviation, 1).sqrt(),
            "private_error": state.mean_evidence[:, 0] - state.truth,
            "overconfidence": overconfidence[:, first],
            "people_overconfidence": overconfidence[:, 0],
            "precision_growth": torch.exp(log_growth),
            "all_finite": torch.isfinite(now.mean).all(1).to(torch.float32),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Range of `all_finite`."""
        return {"all_finite": (0.0, 1.0)}

    def latent(self, state: LockInState) -> Mapping[str, Tensor]:
        """The truth, and the beliefs of all agents."""
        return {"truth": state.truth, "belief": state.beliefs.mean}

    def people(self, state: LockInState) -> People:
        """People whose one value is their belief."""
        return People(state.beliefs.mean[:, : self.num_people, None], state.traits)

    def role_rules(self, role: str) -> str:
        """Evidence, trust and the report."""
        trust = self.trust_in_people if role == "assistant" else self.trust_in_ai
        known = float(trust) if isinstance(trust, (int, float)) else None
        numbers = (self.num_people, self.num_assistants)
        return texts.rules(role, *numbers, known, self.evidence_noise_std)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Belief, evidence and the reports of the other role."""
        seen = read_parts(self.roles[0].observation_space, observation)
        return texts.turn(seen, "people" if role == "assistant" else "assistants")

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Closed forms for truthful reports.

        spectral_radius: of the trust matrix.  precision_growth: asymptotic growth factor of an
        assistant's precision in two rounds, if above 1.  ai_error, people_rmse: exact standard
        deviation of an assistant's and of a person's error, by rounds.
        """
        if self._differing:
            return {}
        gain = self.loop_gain
        result: dict[str, Any] = {"spectral_radius": self.self_trust + math.sqrt(gain)}
        if self.num_assistants and not self.self_trust and not self.prior_precision:
            people, assistants = self.num_people, self.num_assistants
            noise = self.evidence_noise_std
            result["people_rmse"] = belief_pooling.belief_error_std(
                rounds, people, assistants, self.trust_in_ai, gain, noise
            )
            result["ai_error"] = belief_pooling.belief_error_std(
                rounds, assistants, people, self.trust_in_people, gain, noise
            )
            if gain > 1:
                result["precision_growth"] = gain
        return result

    def default_policies(self) -> Mapping[str, Any]:
        """Truthful reports of all agents."""
        return {role.name: "truthful_report" for role in self.roles}


class TruthfulReport(Policy):
    """Agent that reports its belief."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; requires a `belief`."""
        require_observation_parts("truthful_report", role, "belief")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Report the belief."""
        return ActionOutput(state.read(observation, "belief"), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(LockIn())
