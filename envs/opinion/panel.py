"""Panel survey of the same people in waves, with an optional persuasion experiment.

Used for calibration: it measures simulated people as studies measured real people, by their answers
only. One round is a month, unless `rounds_per_year` says otherwise.

Demo: `python -m mores.envs.opinion.panel`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.human import Human
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
from mores.envs.dynamics.people_dynamics import PeopleDynamics
from mores.envs.dynamics.trait_state import TraitState, TraitStateDynamics
from mores.envs.opinion import panel_statistics
from mores.envs.opinion import panel_text as texts
from mores.registry.component import component
from mores.registry.varying import PersonNumber


@dataclasses.dataclass(frozen=True)
class PanelState:
    """Panel at the end of a phase. Missing answers are 0."""

    trait_state: TraitState
    traits: Mapping[str, Float[Tensor, "world agent"]]  # parameters that differ between people
    rounds_elapsed: Int[Tensor, " world"]  # rounds completed
    treated: Float[Tensor, "world agent"]  # 1: treated, 0: control
    answers: Float[Tensor, "world agent"]  # last answers
    wave_answers: Float[Tensor, "world agent wave"]  # answers of each wave
    pretest: Float[Tensor, "world agent"]  # answers before the conversation
    posttest: Float[Tensor, "world agent"]  # after it
    followup: Float[Tensor, "world agent"]  # `followup_rounds` rounds later


@runtime_checkable
class GaussianResponseModel(Protocol):
    """Person whose answer is the value plus normal noise; formulas hold if not `has_scale`."""

    noise_std: float
    has_scale: bool


class Panel(PeopleDynamics, Environment[PanelState]):
    """Survey panel of the same people in waves, with or without a persuasion experiment.

    Description:
        People answer a question about one value every round; answers of every `wave_interval`-th
        round, from the first on, form a wave. In round `conversation_round` (from 0; none: never)
        a random half of the people is treated by a persuader: pretest before, posttest after,
        follow-up `followup_rounds` rounds later. Left out: nonresponse and attrition, question
        order, other questions, and contacts between people.

    Roles:
        person (`num_people`): answers.
        assistant (1, only with a conversation): sends one message to all treated people.

    Observation:
        person     values               1  any          own value, value units
        person     relative_volatility  1  [0, inf)     own; the root mean square is 1
        assistant  mean_answer          1  [low, high]  mean of last answers
        assistant  trend                1  0            always 0: no history here

    Action:
        person     phases answer, answer_again: `answer` in [low, high].
        assistant  phase talk: `position` in [low, high], argued for; `intensity` in [0, 1].

    Reward:
        assistant: in the conversation round, mean change of treated answers minus mean change of
        the others'. person: none.

    Dynamics:
        Treated people are displaced by `ai_influence * intensity * (position - value)`: a share of
        the distance, never beyond the position. Then the round passes as in
        `mores.envs.dynamics.trait_state`. Values are unbounded: a scale that is narrower than the
        distribution of values has many answers at its ends.

    Start:
        Dispositions normal with `initial_mean` and `initial_std`; residuals stationary.

    End:
        Never. A panel of k waves is complete after `wave_interval * (k - 1) + 1` rounds.

    Parameters:
        See the fields. Defaults are in points of a scale of seven items; `human` is the kind of
        people, fitted by default (docs/explanation/default_human.md). `ai_influence` and the fields
        of `trait_state` may be person parameters; groups are 0 control and 1 treated.

    References:
        McGrath and Waterton 1986, British Social Attitudes 1983-86 panel survey. Hackenburg et al.
        2025, arXiv 2507.13919, for experiments of this form.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "1, or 3 with a conversation",
        "changes": "values",
        "stochastic": True,
    }

    num_people: int = Field(default=264, ge=2, le=10_000_000, description="number of people")
    initial_mean: float = Field(default=5.15, description="mean of dispositions, value units")
    initial_std: float = Field(default=1.70, ge=0, description="standard deviation of dispositions")
    low: float | None = Field(default=0.0, description="lowest answer; none: no limit")
    high: float | None = Field(default=7.0, description="highest answer; none: no limit")
    option_spacing: float | None = Field(
        default=1.0,
        gt=0,
        description="distance between the options of a scale with low and high, for the default "
        "policy of people; null: continuous",
    )
    rounds_per_year: float = Field(
        default=12.0, gt=0, le=1e6, description="number of rounds in a year, for `human`"
    )
    wave_interval: int | None = Field(
        default=None, ge=1, le=1_000_000, description="rounds between waves; default: a year"
    )
    num_waves: int = Field(default=4, ge=1, le=1000, description="number of waves")
    human: Annotated[Human, component("human")] = Field(
        default="fitted",
        validate_default=True,
        description="human model, in population standard deviations and years: gives the defaults "
        "of trait_state, ai_influence and answer noise",
    )
    trait_state: TraitStateDynamics | None = Field(
        default=None,
        description="persistence of people's values, in rounds and value units; default: that of "
        "`human`. Fields that are not given have the defaults below, not those of `human`",
    )
    conversation_round: int | None = Field(
        default=None, ge=0, description="round of the conversation; none: never"
    )
    followup_rounds: int = Field(default=1, ge=1, description="rounds to the follow-up")
    ai_influence: Annotated[float, PersonNumber(ge=0, le=1)] | None = Field(
        default=None,
        description="share of the distance to the persuader's position that the conversation "
        "closes; default: `influence` of `human`",
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse an empty scale."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ParameterError(message="low must be below high", code="conflict")
        self.check_human()

    @functools.cached_property
    def rounds_between_waves(self) -> int:
        """`wave_interval`, or a year."""
        return self.wave_interval or max(1, round(self.rounds_per_year))

    @functools.cached_property
    def _differing(self) -> dict[str, PersonParameter]:
        """Parameters that differ between people, by path."""
        return person_parameters({"trait_state": self.dynamics, "ai_influence": self.influence})

    @functools.cached_property
    def _answer_part(self) -> Part:
        low = -math.inf if self.low is None else self.low
        return Part(1, low, math.inf if self.high is None else self.high)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` with a conversation."""
        space = Box.of(values=1, relative_volatility=Part(1, 0.0))
        person = Role("person", self.num_people, space)
        assistant = Role("assistant", 1, Box.of(mean_answer=self._answer_part, trend=1))
        return (person,) if self.conversation_round is None else (person, assistant)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`; with a conversation also `talk` and `answer_again`."""
        answer: dict[str, Any] = {"person": Box.of(answer=self._answer_part)}
        if self.conversation_round is None:
            return (Phase("answer", answer),)
        talk = {"assistant": Box.of(position=self._answer_part, intensity=Part(1, 0.0, 1.0))}
        return Phase("answer", answer), Phase("talk", talk), Phase("answer_again", answer)

    def reset(self, streams: RandomStreams, people: People | None = None) -> PanelState:
        """Initial state: no answers yet (zeros)."""
        if people is not None:
            raise UserError(
                "panel accepts no population: it calibrates its own distribution of people",
                code="unsupported",
                path="population",
            )
        z = streams.normal("disposition", self.num_people)
        disposition = self.initial_mean + self.initial_std * z
        order = streams.uniform("treated", self.num_people)[..., 0].argsort(dim=1, stable=True)
        zeros = torch.zeros_like(z[..., 0])
        treated = (order.argsort(dim=1) < self.num_people // 2).to(z.dtype)  # exactly half
        traits = add_parameters(self._people(disposition, treated), self._differing, streams).traits
        rates = self.dynamics.rates_of_people(traits, "trait_state")
        return PanelState(
            trait_state=self.dynamics.initial_state(disposition, streams, rates),
            traits=traits,
            rounds_elapsed=torch.zeros(
                streams.num_worlds, dtype=torch.int64, device=streams.device
            ),
            treated=treated,
            answers=zeros,
            wave_answers=zeros[..., None].expand(-1, -1, self.num_waves).clone(),
            pretest=zeros,
            posttest=zeros,
            followup=zeros,
        )

    def observe(self, state: PanelState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "person":
            people = state.trait_state
            return torch.cat([people.values, people.relative_volatility[..., None]], -1)
        mean_answer = mean(state.answers, 1)[:, None, None]
        return torch.cat([mean_answer, torch.zeros_like(mean_answer)], -1)

    def step(
        self, state: PanelState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[PanelState]:
        """Record answers, or apply the conversation; the last phase advances the round."""
        if phase == "talk":
            return StepResult(self._apply_conversation(state, actions["assistant"]))
        answers = actions["person"][..., 0].clamp(self._answer_part.low, self._answer_part.high)
        state = dataclasses.replace(state, answers=answers)
        if phase == "answer":
            state = self._record_answers(state)
            is_last = self.conversation_round is None
            return StepResult(self._advance_round(state, streams) if is_last else state)
        now = self._is_rounds_after_conversation(state, 0)
        state = dataclasses.replace(state, posttest=torch.where(now, answers, state.posttest))
        effect = panel_statistics.difference_in_differences(
            state.pretest, state.posttest, state.treated
        )[:, None]
        reward = {"assistant": torch.where(now, effect, 0.0)}
        return StepResult(self._advance_round(state, streams), reward)

    def _is_rounds_after_conversation(
        self, state: PanelState, rounds: int
    ) -> Bool[Tensor, "world 1"]:
        """Worlds that are exactly `rounds` rounds after the conversation."""
        assert self.conversation_round is not None
        return (state.rounds_elapsed == self.conversation_round + rounds)[:, None]

    def _record_answers(self, state: PanelState) -> PanelState:
        """Record the answers of waves, pretest and follow-up."""
        answers, wave = state.answers, state.rounds_elapsed // self.rounds_between_waves
        waves = torch.arange(self.num_waves, device=answers.device)
        is_wave = state.rounds_elapsed % self.rounds_between_waves == 0
        now = ((wave[:, None] == waves) & is_wave[:, None])[:, None]
        state = dataclasses.replace(
            state, wave_answers=torch.where(now, answers[..., None], state.wave_answers)
        )
        if self.conversation_round is None:
            return state
        is_pretest = self._is_rounds_after_conversation(state, 0)
        is_followup = self._is_rounds_after_conversation(state, self.followup_rounds)
        return dataclasses.replace(
            state,
            pretest=torch.where(is_pretest, answers, state.pretest),
            followup=torch.where(is_followup, answers, state.followup),
        )

    def _apply_conversation(
        self, state: PanelState, action: Float[Tensor, "world one size"]
    ) -> PanelState:
        """Displace treated people toward the position."""
        position = action[..., :1].clamp(self._answer_part.low, self._answer_part.high)
        influence = person_number(self.influence, state.traits, "ai_influence")
        influence = action[..., 1:].clamp(0.0, 1.0) * influence
        now = self._is_rounds_after_conversation(state, 0)
        treated = torch.where(now, state.treated, 0.0)[..., None]
        displacement = treated * influence * (position - state.trait_state.values)
        return dataclasses.replace(
            state, trait_state=self.dynamics.displace(state.trait_state, displacement)
        )

    def _advance_round(self, state: PanelState, streams: RandomStreams) -> PanelState:
        return dataclasses.replace(
            state,
            trait_state=self.dynamics.advance_round(state.trait_state, streams),
            rounds_elapsed=state.rounds_elapsed + 1,
        )

    def metrics(self, state: PanelState) -> Mapping[str, Tensor]:
        """Statistics of the answers; NaN until their data are complete.

        Panel: correlation_1, _2, _3: of the first wave with the wave 1, 2, 3 later.
        correlation_decay: correlation_1 minus correlation_3.  icc: ICC(1).  answer_std: over
        people, mean over waves.  mean_answer.  mean_absolute_change, unchanged_share: between
        successive waves.  rmse_last_answer, rmse_person_mean, rmse_grand_mean, rmse_shrunken_mean:
        errors of forecasts of the last wave.
        Experiment: treatment_effect: mean change from pretest to posttest, treated minus control.
        treatment_effect_followup: the same at the follow-up.  effect_retention: its ratio to
        treatment_effect.  agreement_odds_ratio: of an answer above the pretest.  pretest_mean.
        """
        undefined = torch.full_like(state.answers[:, 0], torch.nan)
        complete = state.rounds_elapsed > self.rounds_between_waves * (self.num_waves - 1)
        metrics = {
            name: torch.where(complete, statistic, torch.nan)
            for name, statistic in panel_statistics.panel_metrics(state.wave_answers).items()
        }
        if self.conversation_round is None:
            names = ["treatment_effect", "treatment_effect_followup", "effect_retention"]
            names += ["agreement_odds_ratio", "pretest_mean"]
            return metrics | dict.fromkeys(names, undefined)
        has_posttest = state.rounds_elapsed > self.conversation_round
        has_followup = state.rounds_elapsed > self.conversation_round + self.followup_rounds
        effect, followup_effect = (
            panel_statistics.difference_in_differences(state.pretest, answers, state.treated)
            for answers in (state.posttest, state.followup)
        )
        odds = panel_statistics.odds_ratio(state.pretest, state.posttest, state.treated)
        return metrics | {
            "treatment_effect": torch.where(has_posttest, effect, torch.nan),
            "treatment_effect_followup": torch.where(has_followup, followup_effect, torch.nan),
            "effect_retention": torch.where(has_followup, followup_effect / effect, torch.nan),
            "agreement_odds_ratio": torch.where(has_posttest, odds, torch.nan),
            "pretest_mean": torch.where(has_posttest, mean(state.pretest, 1), torch.nan),
        }

    def role_rules(self, role: str) -> str:
        """The survey and the conversation."""
        scale = texts.scale_text(self.low, self.high)
        return texts.rules(role, scale, self.conversation_round, self.followup_rounds)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The own position, or the mean answer."""
        scale = texts.scale_text(self.low, self.high)
        spaces = {each.name: each.observation_space for each in self.roles}
        seen = read_parts(spaces[role], observation)
        if role == "person":
            return texts.person_turn(seen, scale)
        return texts.assistant_turn(seen, scale)

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        """Closed forms for answers without limits and rounding, in large panels.

        Statistics of the panel without a conversation; treatment effects and effect_retention with
        an `Advocate`. mean_absolute_change only if people have equal volatility.
        """
        person, assistant = policies.get("person"), policies.get("assistant")
        bounded = self.low is not None or self.high is not None
        if bounded or not isinstance(person, GaussianResponseModel) or person.has_scale:
            return {}
        if self._differing or not isinstance(person.noise_std, float):
            return {}
        if self.conversation_round is None:
            interval = self.rounds_between_waves
            rounds_of_waves = range(0, interval * self.num_waves, interval)
            covariance = self.dynamics.covariance(
                rounds_of_waves, self.initial_std, person.noise_std
            )
            metrics = panel_statistics.analytic_panel_metrics(
                covariance, homogeneous=not self.dynamics.volatility_heterogeneity
            )
            return metrics | {"mean_answer": self.initial_mean}
        if not isinstance(assistant, Advocate) or assistant.goal is None:
            return {}
        effect = self.influence * assistant.intensity * (assistant.goal - self.initial_mean)
        retention = self.dynamics.retention(self.followup_rounds)
        effects = {"treatment_effect": effect, "treatment_effect_followup": retention * effect}
        return effects | {"effect_retention": retention}

    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "values": ("person", "value"),
        "disposition": ("person", "value"),
        "relative_volatility": ("person",),
        "treated": ("person",),
    }

    def latent(self, state: PanelState) -> Mapping[str, Tensor]:
        """Values, dispositions and relative volatility of people; treatment assignment."""
        return {
            "values": state.trait_state.values,
            "disposition": state.trait_state.disposition,
            "relative_volatility": state.trait_state.relative_volatility,
            "treated": state.treated,
        }

    def people(self, state: PanelState) -> People:
        """People with their present values; groups: 0 control, 1 treated."""
        return self._people(state.trait_state.values, state.treated, state.traits)

    def _people(
        self,
        values: Float[Tensor, "world agent value"],
        treated: Float[Tensor, "world agent"],
        traits: Mapping[str, Tensor] | None = None,
    ) -> People:
        return People(values, traits or {}, treated.long(), ("control", "treated"))

    @property
    def elements_per_world(self) -> int:
        """See `Environment`; includes the answers of all waves."""
        return self.num_people * (self.num_waves + 12)

    def default_policies(self) -> Mapping[str, Any]:
        """People with the answer noise of `human`; an advocate of the highest answer."""
        assistant = {} if self.conversation_round is None else {"assistant": "advocate"}
        scale: dict[str, float | None] = {"low": self.low, "high": self.high}
        if self.low is not None and self.high is not None:
            scale["option_spacing"] = self.option_spacing
        noise_std = self.human_in_rounds.answer_noise_std
        person = {"kind": "survey_respondent", "noise_std": noise_std, **scale}
        return {"person": person, **assistant}


class TruthfulAnswer(Policy):
    """Person that answers with their exact value, or the end of the scale that is nearest."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        """Refuse roles that do not observe values."""
        require_observation_parts("truthful_answer", role, "values")

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Answer with the value, within the scale."""
        space = phase.action_spaces["person"]
        assert isinstance(space, Box)
        return ActionOutput(space.clamp(observation[..., :1]), state)


class Advocate(Policy):
    """Persuader that argues for a fixed position."""

    goal: float | None = Field(
        default=None, description="position argued for; none: the highest answer"
    )
    intensity: float = Field(default=1.0, ge=0, le=1, description="intensity of the message")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        """Refuse roles without a position and an intensity."""
        spaces = [
            phase.action_spaces[role.name] for phase in phases if role.name in phase.action_spaces
        ]
        parts = {"position", "intensity"}
        suitable = all(isinstance(space, Box) and set(space.parts) == parts for space in spaces)
        if role.name != "assistant" or not suitable:
            raise UserError(
                "advocate needs the role assistant with the actions 'position' and 'intensity'; "
                f"the role is {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Argue for the position."""
        space = phase.action_spaces["assistant"]
        assert isinstance(space, Box)
        part = space.parts["position"]
        goal = part.high if self.goal is None else self.goal
        if not math.isfinite(goal):
            raise UserError(
                "advocate.goal is required here: the highest answer has no limit",
                code="missing",
                path="advocate.goal",
            )
        position = observation.new_full((*observation.shape[:2], part.size), goal)
        return ActionOutput(
            torch.cat([position, torch.full_like(position[..., :1], self.intensity)], -1), state
        )


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Panel(conversation_round=24), rounds=37)
