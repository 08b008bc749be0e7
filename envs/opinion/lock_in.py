"""Lock-in: people and assistants who count each other's beliefs as evidence, more than once.

Qiu, He, Chugh and Kleiman-Weiner 2025 (arXiv 2506.06166). Everybody estimates one number from
noisy evidence of their own, and also trusts the *aggregate* beliefs of others, in which their own
evidence is already contained (`mores.envs.dynamics.belief_pooling`). All converge to the truth if the
spectral radius of the trust matrix is below 1; above it, some never do. For N people and M
assistants who trust each other that is `N M * trust_in_people * trust_in_ai` against 1.

Run `python -m mores.envs.opinion.lock_in` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import (
    ActionOutput,
    Box,
    Environment,
    Part,
    Phase,
    Policy,
    Role,
    StepResult,
    require_observation_parts,
)
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics import belief_pooling
from mores.envs.dynamics.belief_pooling import Beliefs


@dataclasses.dataclass(frozen=True)
class LockInState:
    """Evidence and beliefs of people (first) and assistants (after them)."""

    truth: Float[Tensor, " world"]
    mean_evidence: Float[Tensor, "world agent"]  # mean of private evidence
    evidence_precision: Float[Tensor, " world"]  # of that evidence, the same for all
    beliefs: Beliefs
    beliefs_lag1: Beliefs  # those of one round ago
    beliefs_lag2: Beliefs  # those of two rounds ago
    reports: Float[Tensor, "world agent"]  # what was reported last; 0 before anything was


class LockIn(Environment[LockInState]):
    """People and assistants who take each other's beliefs for evidence.

    Description:
        Everybody reports a belief, gets one more piece of private evidence, and updates on that
        evidence and on the reports of those they trust.

    Roles:
        person (`people`): trusts assistants.  assistant (`num_assistants`, may be none): trusts people.

    Observation:
        `belief` own aggregate belief, `evidence` mean of own private evidence, `reports` mean of
        what those one listens to reported last. In units of the estimated number; no bounds.

    Action:
        `report_path` in [-1e6, 1e6]: the belief to be told to others. Its precision goes with it.

    Reward:
        Minus the squared error of one's own belief: everybody wants to be right.

    Dynamics:
        The recursion of the module docstring, in float32 without overflow. People do not listen
        to people, nor assistants to assistants; `self_trust` is trust in one's own last aggregate.

    Start:
        Truth normal with standard deviation `truth_std`; no evidence, unless `prior_precision`.

    End:
        Never by itself.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        Qiu et al. 2025, arXiv 2506.06166. The exact standard deviations of the locked belief and
        the float32 form are derived here, not in the paper.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "moves": "beliefs",
        "stochastic": True,
        "paper": "2506.06166",
    }

    num_people: int = Field(default=20, ge=1, le=1_000_000, description="number of people")
    num_assistants: int = Field(default=1, ge=0, le=10_000, description="number of assistants")
    trust_in_ai: float = Field(default=0.2, ge=0, description="of each person in each assistant")
    trust_in_people: float = Field(
        default=0.2, ge=0, description="of each assistant in each person"
    )
    self_trust: float = Field(
        default=0.0, ge=0, description="of everybody in their own last belief"
    )
    evidence_noise_std: float = Field(
        default=1.0, gt=0, description="standard deviation of one observation"
    )
    truth_std: float = Field(default=1.0, ge=0, description="standard deviation of the truth")
    prior_precision: float = Field(default=0.0, ge=0, description="of the first belief, which is 0")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` where there are any."""
        sees = Box.of(belief=1, mean_evidence=1, mean_report=1)
        person = Role("person", self.num_people, sees)
        return (
            (person, Role("assistant", self.num_assistants, sees))
            if self.num_assistants
            else (person,)
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Everybody reports at once."""
        space = Box.of(report=Part(1, -1e6, 1e6))
        return (Phase("report", {role.name: space for role in self.roles}),)

    @functools.cached_property
    def _role_names(self) -> tuple[str, ...]:
        return tuple(role.name for role in self.roles)

    @property
    def loop_gain(self) -> float:
        """By how much precision grows in two rounds of mutual trust: lock-in if above 1."""
        return self.num_people * self.num_assistants * self.trust_in_people * self.trust_in_ai

    def reset(self, streams: RandomStreams, people: People | None = None) -> LockInState:
        """Nobody knows anything but the prior."""
        if people is not None:
            raise UserError(
                "lock_in takes no people from a population: beliefs begin with evidence",
                code="unsupported",
                path="num_people",
            )
        truth = self.truth_std * streams.normal("truth")[:, 0, 0]
        zero = torch.zeros_like(truth)
        nothing = zero[:, None].expand(-1, self.num_people + self.num_assistants).clone()
        prior = Beliefs(nothing, nothing + self.prior_precision, zero, zero + 1.0)
        return LockInState(
            truth, nothing, zero + self.prior_precision, prior, prior, prior, nothing
        )

    def observe(self, state: LockInState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        mine, theirs = slice(0, self.num_people), slice(self.num_people, None)
        if role == "assistant":
            mine, theirs = theirs, mine
        others = state.reports[:, theirs]
        told = mean(others, 1) if others.shape[1] else torch.zeros_like(state.truth)
        belief, evidence = state.beliefs.mean[:, mine], state.mean_evidence[:, mine]
        return torch.stack([belief, evidence, told[:, None].expand(belief.shape)], -1)

    def step(
        self, state: LockInState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[LockInState]:
        """One round of the recursion; what was reported stands for the reporter's belief."""
        everybody = self.num_people + self.num_assistants
        noise = self.evidence_noise_std * streams.normal("evidence", everybody)[..., 0]
        news = 1.0 / self.evidence_noise_std**2
        precision = state.evidence_precision + news
        surprise = state.truth[:, None] + noise - state.mean_evidence
        evidence = state.mean_evidence + surprise * (news / precision)[:, None]
        told = torch.cat([actions[name][..., 0] for name in self._role_names], 1)
        heard_weight, heard_moment = self._received_beliefs(state.beliefs, told)
        beliefs = belief_pooling.update_beliefs(
            state.beliefs, evidence, precision, heard_weight, heard_moment
        )
        after = LockInState(
            state.truth, evidence, precision, beliefs, state.beliefs, state.beliefs_lag1, told
        )
        return StepResult(after, self._reward(beliefs.mean - state.truth[:, None]))

    def _reward(self, error: Tensor) -> dict[str, Tensor]:
        loss = error * error
        reward = {"person": -loss[:, : self.num_people]}
        if self.num_assistants:
            reward["assistant"] = -loss[:, self.num_people :]
        return reward

    def _received_beliefs(
        self, beliefs: Beliefs, reports: Float[Tensor, "world agent"]
    ) -> tuple[Tensor, Tensor]:
        """Precision, and precision times report, that everybody takes over from those trusted."""
        weight, people = beliefs.scaled_precision, self.num_people
        own_weight, own_moment = self.self_trust * weight, self.self_trust * weight * beliefs.mean
        if not self.num_assistants:
            return own_weight, own_moment
        moment = weight * reports

        def exchanged(x: Tensor) -> Tensor:
            from_people = self.trust_in_people * total(x[:, :people], 1)
            from_ai = self.trust_in_ai * total(x[:, people:], 1)
            return torch.cat(
                [
                    from_ai[:, None].expand(-1, people),
                    from_people[:, None].expand(-1, self.num_assistants),
                ],
                1,
            )

        return own_weight + exchanged(weight), own_moment + exchanged(moment)

    def metrics(self, state: LockInState) -> Mapping[str, Tensor]:
        """What is reported; in communities without assistants a person stands in for one.

        ai_error: the first assistant's belief minus the truth.  people_error: people's mean belief
        minus the truth.  people_rmse: root mean square error of people's beliefs.  disagreement:
        standard deviation of people's beliefs.  lone_error: error of the first person's private
        evidence.  overconfidence: log10 of `|error| sqrt(q)`, the first assistant's error in
        standard errors by its own lights; people_overconfidence: the first person's.  growth: the
        first assistant's precision over that two rounds ago.  finite: 1 while all beliefs are.
        """
        first = self.num_people if self.num_assistants else 0
        now, past = state.beliefs, state.beliefs_lag2
        error = now.mean - state.truth[:, None]
        people = error[:, : self.num_people]
        centre = mean(people, 1)
        apart = people - centre[:, None]
        sure = torch.log10(error.abs()) + 0.5 * now.log10_precision
        doublings = (now.log2_scale - past.log2_scale) * math.log(2.0)
        grown = (
            torch.log(now.scaled_precision[:, first])
            - torch.log(past.scaled_precision[:, first])
            + doublings
        )
        return {
            "ai_error": error[:, first],
            "people_error": centre,
            "people_rmse": mean(people * people, 1).sqrt(),
            "disagreement": mean(apart * apart, 1).sqrt(),
            "private_error": state.mean_evidence[:, 0] - state.truth,
            "overconfidence": sure[:, first],
            "people_overconfidence": sure[:, 0],
            "precision_growth": torch.exp(grown),
            "all_finite": torch.isfinite(now.mean).all(1).to(torch.float32),
        }

    def latent(self, state: LockInState) -> Mapping[str, Tensor]:
        """The truth, and everybody's belief."""
        return {"truth": state.truth, "belief": state.beliefs.mean}

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """If everybody reports what they believe.

        spectral_radius: of the trust matrix.  growth: of an assistant's precision over two rounds
        in the long run (if above 1).  ai_error, people_rmse: exact standard deviation of an
        assistant's and of a person's error after each number of rounds.
        """
        gain = self.loop_gain
        found: dict[str, Any] = {"spectral_radius": self.self_trust + math.sqrt(gain)}
        if self.num_assistants and not self.self_trust and not self.prior_precision:
            sides = [
                (self.num_people, self.trust_in_ai),
                (self.num_assistants, self.trust_in_people),
            ]
            (people, in_ai), (assistants, in_people) = sides
            noise = self.evidence_noise_std
            found["people_rmse"] = belief_pooling.belief_error_std(
                rounds, people, assistants, in_ai, gain, noise
            )
            found["ai_error"] = belief_pooling.belief_error_std(
                rounds, assistants, people, in_people, gain, noise
            )
            if gain > 1:
                found["precision_growth"] = gain
        return found

    def default_policies(self) -> Mapping[str, Policy]:
        """Everybody reports what they believe."""
        return {role.name: TruthfulReport() for role in self.roles}


class TruthfulReport(Policy):
    """Somebody who reports the belief they hold."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        require_observation_parts("report", role, "belief")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Report it."""
        return ActionOutput(state.read(observation, "belief"), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(LockIn())
