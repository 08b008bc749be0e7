"""Panel: the same people are asked again and again, and half of them may talk with a persuader.

The instrument by which people are calibrated: it measures simulated people as studies measured real
ones, from their answers alone. One round is a month.

Run `python -m mores.envs.opinion.panel` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import (
    ActionOutput,
    Box,
    Environment,
    Part,
    Phase,
    Policy,
    Role,
    StepResult,
)
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics.trait_state import TraitState, TraitStateDynamics
from mores.envs.opinion import panel_statistics


@dataclasses.dataclass(frozen=True)
class PanelState:
    """A panel at the end of a phase. Answers not given yet are 0."""

    trait_state: TraitState
    rounds_elapsed: Int[Tensor, " world"]  # rounds completed
    treated: Float[Tensor, "world agent"]  # 1 for those who are to talk, else 0
    answers: Float[Tensor, "world agent"]  # last answers
    wave_answers: Float[Tensor, "world agent wave"]  # answers in each wave of the panel
    pretest: Float[Tensor, "world agent"]  # answers just before the conversation,
    posttest: Float[Tensor, "world agent"]  # just after it,
    followup: Float[Tensor, "world agent"]  # and `followup` rounds on


@runtime_checkable
class GaussianResponseModel(Protocol):
    """A person who says their value plus normal noise; formulas hold where it is on no scale."""

    noise_std: float
    has_scale: bool


class Panel(Environment[PanelState]):
    """A survey of the same people in waves, with or without an experiment in it.

    Description:
        People answer a question about one value every round; every `wave_interval` rounds, from the first
        on, the answers are kept as a wave. In round `conversation_round` (counted from 0; none: never) a
        random half of the people talks with a persuader. All are asked just before and just after,
        and `followup_rounds` rounds on.

    Roles:
        person (`people`): answers.  assistant (1, only with a conversation): talks with the treated
        half, all of whom it tells the same.

    Observation:
        person: `values` own value, value units; `restlessness` how changeable they are themselves,
        at least 0, 1 is the root mean square.
        assistant: `answers` mean of the last answers, in [low, high]; `trend`, always 0: nothing
        moves people here but talk.

    Action:
        person, phases `answer` and `answer_again`: `answer` in [low, high].
        assistant, phase `talk`: `position` in [low, high] that it argues for; `intensity` in [0, 1].

    Reward:
        assistant: after the conversation, by how much more the answers of those it talked with rose
        than those of the others. person: none.

    Dynamics:
        Those talked with are pushed by `influence * voice * (position - value)`; a push is a share
        of the way, so that nobody is talked past the position. Then the round passes: see
        `mores.envs.dynamics.trait_state`. Values have no bounds: a scale that ends before people do
        has many answers at its end.

    Start:
        Dispositions normal with `initial_mean` and `initial_std`; temporary states as they usually are.

    End:
        Never by itself. A panel of k waves is complete after `every * (k - 1) + 1` rounds.

    Parameters:
        See the fields. The defaults are in points of a scale of seven items: what was fitted to
        which figures is in docs/explanation/default_human.md.

    References:
        McGrath and Waterton 1986, British Social Attitudes 1983-86 panel survey. Hackenburg et al.
        2025, arXiv 2507.13919, for experiments of this form.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "1, or 3 with a conversation",
        "moves": "values",
        "stochastic": True,
    }

    num_people: int = Field(default=264, ge=2, le=10_000_000, description="number of people")
    initial_mean: float = Field(default=5.15, description="mean of dispositions, value units")
    initial_std: float = Field(default=1.70, ge=0, description="standard deviation of dispositions")
    low: float | None = Field(default=0.0, description="lowest answer possible; none: no limit")
    high: float | None = Field(default=7.0, description="highest answer possible; none: no limit")
    wave_interval: int = Field(
        default=12, ge=1, le=1_000_000, description="rounds from wave to wave"
    )
    num_waves: int = Field(default=4, ge=1, le=1000, description="waves of the panel that are kept")
    trait_state: TraitStateDynamics = Field(
        default=TraitStateDynamics(
            half_life=0.5, permanent_share=0.20, volatility=1.01, volatility_heterogeneity=1.06
        ),
        description="how people's values stay and move",
    )
    conversation_round: int | None = Field(
        default=None, ge=0, description="round in which half of them talk; none: never"
    )
    followup_rounds: int = Field(
        default=1, ge=1, description="rounds from there to the last question"
    )
    ai_influence: float = Field(
        default=0.337, ge=0, le=1, description="share of the way to the position that talk moves"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse a scale that is none."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ParameterError(message="low must be below high", code="conflict")

    @functools.cached_property
    def _answer_part(self) -> Part:
        low = -math.inf if self.low is None else self.low
        return Part(1, low, math.inf if self.high is None else self.high)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` where there is a conversation."""
        sees = Box.of(values=1, relative_volatility=Part(1, 0.0))
        person = Role("person", self.num_people, sees)
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
        """People at their start, nothing asked yet."""
        if people is not None:
            raise UserError(
                "panel makes its own people: their distribution is what it calibrates",
                code="unsupported",
                path="num_people",
            )
        z = streams.normal("disposition", self.num_people)
        held = self.trait_state.initial_state(self.initial_mean + self.initial_std * z, streams)
        order = streams.uniform("treated", self.num_people)[..., 0].argsort(dim=1, stable=True)
        none = torch.zeros_like(z[..., 0])
        return PanelState(
            trait_state=held,
            rounds_elapsed=torch.zeros(
                streams.num_worlds, dtype=torch.int64, device=streams.device
            ),
            treated=(order.argsort(dim=1) < self.num_people // 2).to(z.dtype),  # exactly half
            answers=none,
            wave_answers=none[..., None].expand(-1, -1, self.num_waves).clone(),
            pretest=none,
            posttest=none,
            followup=none,
        )

    def observe(self, state: PanelState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "person":
            return torch.cat(
                [state.trait_state.values, state.trait_state.relative_volatility[..., None]], -1
            )
        answers = mean(state.answers, 1)[:, None, None]
        return torch.cat([answers, torch.zeros_like(answers)], -1)

    def step(
        self, state: PanelState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[PanelState]:
        """Answers are kept, talk moves the treated, and after the last phase a round passes."""
        if phase == "talk":
            return StepResult(self._apply_conversation(state, actions["assistant"]))
        said = actions["person"][..., 0].clamp(self._answer_part.low, self._answer_part.high)
        state = dataclasses.replace(state, answers=said)
        if phase == "answer":
            state = self._record_answers(state)
            return StepResult(
                state
                if self.conversation_round is not None
                else self._advance_round(state, streams)
            )
        now = self._is_rounds_after_conversation(state, 0)
        state = dataclasses.replace(state, posttest=torch.where(now, said, state.posttest))
        gain = panel_statistics.difference_in_differences(
            state.pretest, state.posttest, state.treated
        )[:, None]
        reward = {"assistant": torch.where(now, gain, 0.0)}
        return StepResult(self._advance_round(state, streams), reward)

    def _is_rounds_after_conversation(
        self, state: PanelState, rounds: int
    ) -> Bool[Tensor, "world 1"]:
        """Where it is so many rounds after the conversation."""
        assert self.conversation_round is not None
        return (state.rounds_elapsed == self.conversation_round + rounds)[:, None]

    def _record_answers(self, state: PanelState) -> PanelState:
        """The answers of a wave, and those around a conversation."""
        said, number = state.answers, state.rounds_elapsed // self.wave_interval
        slots = torch.arange(self.num_waves, device=said.device)
        now = (number[:, None] == slots) & (state.rounds_elapsed % self.wave_interval == 0)[:, None]
        state = dataclasses.replace(
            state, wave_answers=torch.where(now[:, None], said[..., None], state.wave_answers)
        )
        if self.conversation_round is None:
            return state
        return dataclasses.replace(
            state,
            pretest=torch.where(self._is_rounds_after_conversation(state, 0), said, state.pretest),
            followup=torch.where(
                self._is_rounds_after_conversation(state, self.followup_rounds),
                said,
                state.followup,
            ),
        )

    def _apply_conversation(
        self, state: PanelState, action: Float[Tensor, "world one size"]
    ) -> PanelState:
        """Those who talk go a share of the way to the position."""
        position = action[..., :1].clamp(self._answer_part.low, self._answer_part.high)
        loud = action[..., 1:].clamp(0.0, 1.0) * self.ai_influence
        hear = torch.where(self._is_rounds_after_conversation(state, 0), state.treated, 0.0)[
            ..., None
        ]
        push = hear * loud * (position - state.trait_state.values)
        return dataclasses.replace(
            state, trait_state=self.trait_state.displace(state.trait_state, push)
        )

    def _advance_round(self, state: PanelState, streams: RandomStreams) -> PanelState:
        held = self.trait_state.advance_round(state.trait_state, streams)
        return dataclasses.replace(state, trait_state=held, rounds_elapsed=state.rounds_elapsed + 1)

    def metrics(self, state: PanelState) -> Mapping[str, Tensor]:
        """What a study of these people finds, from their answers; nan until it can.

        Of the panel, once all waves are in: correlation_1, _2, _3 of the first wave with the one so
        many waves later; decay, the first of these less the last; icc; sd over people, mean over
        waves; mean_answer; mean_change (its size) and unchanged (share) from wave to wave;
        rmse_last, rmse_person_mean, rmse_grand_mean, rmse_shrunk of forecasts of the last wave.
        Of the conversation: effect, the rise in the answers of those talked with beyond that of the
        others, just after; effect_later, the same `followup_rounds` rounds on; remainder, their ratio, which
        is near the ratio of their means where many take part; agree_more_odds, the odds ratio of
        an answer higher than before; before_answer, mean answer of all just before.
        """
        nothing = torch.full_like(state.answers[:, 0], torch.nan)
        done = state.rounds_elapsed > self.wave_interval * (self.num_waves - 1)
        found = {
            name: torch.where(done, figure, torch.nan)
            for name, figure in panel_statistics.panel_metrics(state.wave_answers).items()
        }
        if self.conversation_round is None:
            names = ("treatment_effect", "treatment_effect_followup", "effect_retention", "agreement_odds_ratio", "pretest_mean")
            return found | dict.fromkeys(names, nothing)
        asked = state.rounds_elapsed > self.conversation_round
        asked_later = state.rounds_elapsed > self.conversation_round + self.followup_rounds
        effect = panel_statistics.difference_in_differences(
            state.pretest, state.posttest, state.treated
        )
        effect_later = panel_statistics.difference_in_differences(
            state.pretest, state.followup, state.treated
        )
        odds = panel_statistics.odds_ratio(state.pretest, state.posttest, state.treated)
        return found | {
            "treatment_effect": torch.where(asked, effect, torch.nan),
            "treatment_effect_followup": torch.where(asked_later, effect_later, torch.nan),
            "effect_retention": torch.where(asked_later, effect_later / effect, torch.nan),
            "agreement_odds_ratio": torch.where(asked, odds, torch.nan),
            "pretest_mean": torch.where(asked, mean(state.pretest, 1), torch.nan),
        }

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        """Closed forms for answers without scale: all but limits and rounding is in them.

        The panel's figures where nobody talks; effect, effect_later and remainder where it is an
        `Advocate` who does. For large panels; mean_change only where people are equally restless.
        """
        person, assistant = policies.get("person"), policies.get("assistant")
        limited = self.low is not None or self.high is not None
        if limited or not isinstance(person, GaussianResponseModel) or person.has_scale:
            return {}
        if self.conversation_round is None:
            asked = range(0, self.wave_interval * self.num_waves, self.wave_interval)
            covariance = self.trait_state.covariance(asked, self.initial_std, person.noise_std)
            found = panel_statistics.analytic_panel_metrics(
                covariance, homogeneous=not self.trait_state.volatility_heterogeneity
            )
            return found | {"mean_answer": self.initial_mean}
        if not isinstance(assistant, Advocate) or assistant.goal is None:
            return {}
        effect = self.ai_influence * assistant.intensity * (assistant.goal - self.initial_mean)
        remainder = self.trait_state.retention(self.followup_rounds)
        return {"treatment_effect": effect, "treatment_effect_followup": remainder * effect, "effect_retention": remainder}

    def latent(self, state: PanelState) -> Mapping[str, Tensor]:
        """What people hold, who was talked with, how restless each is."""
        return {
            "values": state.trait_state.values,
            "disposition": state.trait_state.disposition,
            "relative_volatility": state.trait_state.relative_volatility,
            "treated": state.treated,
        }

    @property
    def elements_per_world(self) -> int:
        """See `Environment`: answers of all waves are kept."""
        return self.num_people * (self.num_waves + 12)

    def default_policies(self) -> Mapping[str, Policy]:
        """People who say what they think; an advocate of the highest answer."""
        talks = {} if self.conversation_round is None else {"assistant": Advocate()}
        return {"person": TruthfulAnswer(), **talks}


class TruthfulAnswer(Policy):
    """A person who says exactly where they stand."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Say one's own value."""
        return ActionOutput(observation[..., :1], state)


class Advocate(Policy):
    """A persuader who argues for the same position whatever people say."""

    goal: float | None = Field(
        default=None, description="the position argued for; none: the highest answer possible"
    )
    intensity: float = Field(default=1.0, ge=0, le=1, description="how loudly")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        """It must be an assistant who argues."""
        spaces = [
            phase.action_spaces[role.name] for phase in phases if role.name in phase.action_spaces
        ]
        argues = all(isinstance(s, Box) and set(s.parts) == {"position", "intensity"} for s in spaces)
        if role.name != "assistant" or not argues:
            raise UserError(
                "advocate needs an assistant that has a 'position' and a 'voice'",
                code="unsupported",
                path=f"players.{role.name}",
            )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Name the position."""
        space = phase.action_spaces["assistant"]
        assert isinstance(space, Box)
        part = space.parts["position"]
        goal = part.high if self.goal is None else self.goal
        if not math.isfinite(goal):
            raise UserError(
                "advocate needs a goal: the highest answer has no limit here",
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
