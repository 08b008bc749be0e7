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
from mores.core.environment import Act, Box, Game, Part, Phase, Player, Role, Step
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import Draws
from mores.envs.dynamics.trait_state import Held, Settled
from mores.envs.opinion import panel_statistics


@dataclasses.dataclass(frozen=True)
class State:
    """A panel at the end of a phase. Answers not given yet are 0."""

    held: Held
    round: Int[Tensor, " world"]  # rounds completed
    treated: Float[Tensor, "world agent"]  # 1 for those who are to talk, else 0
    said: Float[Tensor, "world agent"]  # last answers
    waves: Float[Tensor, "world agent wave"]  # answers in each wave of the panel
    before: Float[Tensor, "world agent"]  # answers just before the conversation,
    after: Float[Tensor, "world agent"]  # just after it,
    later: Float[Tensor, "world agent"]  # and `later` rounds on


@runtime_checkable
class Answering(Protocol):
    """A person who says their value plus normal noise; formulas hold where it is on no scale."""

    noise: float
    on_any_scale: bool


class Panel(Game[State]):
    """A survey of the same people in waves, with or without an experiment in it.

    Description:
        People answer a question about one value every round; every `every` rounds, from the first
        on, the answers are kept as a wave. In round `conversation` (counted from 0; none: never) a
        random half of the people talks with a persuader. All are asked just before and just after,
        and `later` rounds on.

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
        assistant, phase `talk`: `position` in [low, high] that it argues for; `voice` in [0, 1].

    Reward:
        assistant: after the conversation, by how much more the answers of those it talked with rose
        than those of the others. person: none.

    Dynamics:
        Those talked with are pushed by `influence * voice * (position - value)`; a push is a share
        of the way, so that nobody is talked past the position. Then the round passes: see
        `mores.envs.dynamics.trait_state`. Values have no bounds: a scale that ends before people do
        has many answers at its end.

    Start:
        Dispositions normal with `mean` and `spread`; temporary states as they usually are.

    End:
        Never by itself. A panel of k waves is complete after `every * (k - 1) + 1` rounds.

    Parameters:
        See the fields. The defaults are in points of a scale of seven items: what was fitted to
        which figures is in docs/explanation/default_human.md.

    References:
        McGrath and Waterton 1986, British Social Attitudes 1983-86 panel survey. Hackenburg et al.
        2025, arXiv 2507.13919, for experiments of this form.
    """

    traits: ClassVar[Mapping[str, object]] = {
        "phases": "1, or 3 with a conversation",
        "moves": "values",
        "stochastic": True,
    }

    people: int = Field(default=264, ge=2, le=10_000_000, description="number of people")
    mean: float = Field(default=5.15, description="mean of dispositions, value units")
    spread: float = Field(default=1.70, ge=0, description="standard deviation of dispositions")
    low: float | None = Field(default=0.0, description="lowest answer possible; none: no limit")
    high: float | None = Field(default=7.0, description="highest answer possible; none: no limit")
    every: int = Field(default=12, ge=1, le=1_000_000, description="rounds from wave to wave")
    waves: int = Field(default=4, ge=1, le=1000, description="waves of the panel that are kept")
    person: Settled = Field(
        default=Settled(half_life=0.5, settling=0.20, volatility=1.01, volatility_spread=1.06),
        description="how people's values stay and move",
    )
    conversation: int | None = Field(
        default=None, ge=0, description="round in which half of them talk; none: never"
    )
    later: int = Field(default=1, ge=1, description="rounds from there to the last question")
    influence: float = Field(
        default=0.337, ge=0, le=1, description="share of the way to the position that talk moves"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse a scale that is none."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ParameterError(message="low must be below high", code="conflict")

    @functools.cached_property
    def _place(self) -> Part:
        low = -math.inf if self.low is None else self.low
        return Part(1, low, math.inf if self.high is None else self.high)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` where there is a conversation."""
        sees = Box.of(values=1, restlessness=Part(1, 0.0))
        person = Role("person", self.people, sees)
        assistant = Role("assistant", 1, Box.of(answers=self._place, trend=1))
        return (person,) if self.conversation is None else (person, assistant)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`; with a conversation also `talk` and `answer_again`."""
        answer: dict[str, Any] = {"person": Box.of(answer=self._place)}
        if self.conversation is None:
            return (Phase("answer", answer),)
        talk = {"assistant": Box.of(position=self._place, voice=Part(1, 0.0, 1.0))}
        return Phase("answer", answer), Phase("talk", talk), Phase("answer_again", answer)

    def reset(self, draws: Draws, start: People | None = None) -> State:
        """People at their start, nothing asked yet."""
        if start is not None:
            raise UserError(
                "panel makes its own people: their distribution is what it calibrates",
                code="unsupported",
                path="people",
            )
        z = draws.normal("disposition", self.people)
        held = self.person.begin(self.mean + self.spread * z, draws)
        order = draws.uniform("treated", self.people)[..., 0].argsort(dim=1, stable=True)
        none = torch.zeros_like(z[..., 0])
        return State(
            held=held,
            round=torch.zeros(draws.worlds, dtype=torch.int64, device=draws.device),
            treated=(order.argsort(dim=1) < self.people // 2).to(z.dtype),  # exactly half
            said=none,
            waves=none[..., None].expand(-1, -1, self.waves).clone(),
            before=none,
            after=none,
            later=none,
        )

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "person":
            return torch.cat([state.held.values, state.held.restlessness[..., None]], -1)
        answers = mean(state.said, 1)[:, None, None]
        return torch.cat([answers, torch.zeros_like(answers)], -1)

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """Answers are kept, talk moves the treated, and after the last phase a round passes."""
        if phase == "talk":
            return Step(self._talked(state, actions["assistant"]))
        said = actions["person"][..., 0].clamp(self._place.low, self._place.high)
        state = dataclasses.replace(state, said=said)
        if phase == "answer":
            state = self._kept(state)
            return Step(state if self.conversation is not None else self._passed(state, draws))
        now = self._at(state, 0)
        state = dataclasses.replace(state, after=torch.where(now, said, state.after))
        gain = panel_statistics.gain(state.before, state.after, state.treated)[:, None]
        reward = {"assistant": torch.where(now, gain, 0.0)}
        return Step(self._passed(state, draws), reward)

    def _at(self, state: State, rounds: int) -> Bool[Tensor, "world 1"]:
        """Where it is so many rounds after the conversation."""
        assert self.conversation is not None
        return (state.round == self.conversation + rounds)[:, None]

    def _kept(self, state: State) -> State:
        """The answers of a wave, and those around a conversation."""
        said, number = state.said, state.round // self.every
        slots = torch.arange(self.waves, device=said.device)
        now = (number[:, None] == slots) & (state.round % self.every == 0)[:, None]
        state = dataclasses.replace(
            state, waves=torch.where(now[:, None], said[..., None], state.waves)
        )
        if self.conversation is None:
            return state
        return dataclasses.replace(
            state,
            before=torch.where(self._at(state, 0), said, state.before),
            later=torch.where(self._at(state, self.later), said, state.later),
        )

    def _talked(self, state: State, act: Float[Tensor, "world one size"]) -> State:
        """Those who talk go a share of the way to the position."""
        position = act[..., :1].clamp(self._place.low, self._place.high)
        loud = act[..., 1:].clamp(0.0, 1.0) * self.influence
        hear = torch.where(self._at(state, 0), state.treated, 0.0)[..., None]
        push = hear * loud * (position - state.held.values)
        return dataclasses.replace(state, held=self.person.pushed(state.held, push))

    def _passed(self, state: State, draws: Draws) -> State:
        held = self.person.passed(state.held, draws)
        return dataclasses.replace(state, held=held, round=state.round + 1)

    def measures(self, state: State) -> Mapping[str, Tensor]:
        """What a study of these people finds, from their answers; nan until it can.

        Of the panel, once all waves are in: correlation_1, _2, _3 of the first wave with the one so
        many waves later; decay, the first of these less the last; icc; sd over people, mean over
        waves; mean_answer; mean_change (its size) and unchanged (share) from wave to wave;
        rmse_last, rmse_person_mean, rmse_grand_mean, rmse_shrunk of forecasts of the last wave.
        Of the conversation: effect, the rise in the answers of those talked with beyond that of the
        others, just after; effect_later, the same `later` rounds on; remainder, their ratio, which
        is near the ratio of their means where many take part; agree_more_odds, the odds ratio of
        an answer higher than before; before_answer, mean answer of all just before.
        """
        nothing = torch.full_like(state.said[:, 0], torch.nan)
        done = state.round > self.every * (self.waves - 1)
        found = {
            name: torch.where(done, figure, torch.nan)
            for name, figure in panel_statistics.of_panel(state.waves).items()
        }
        if self.conversation is None:
            names = ("effect", "effect_later", "remainder", "agree_more_odds", "before_answer")
            return found | dict.fromkeys(names, nothing)
        asked = state.round > self.conversation
        asked_later = state.round > self.conversation + self.later
        effect = panel_statistics.gain(state.before, state.after, state.treated)
        effect_later = panel_statistics.gain(state.before, state.later, state.treated)
        odds = panel_statistics.odds_ratio(state.before, state.after, state.treated)
        return found | {
            "effect": torch.where(asked, effect, torch.nan),
            "effect_later": torch.where(asked_later, effect_later, torch.nan),
            "remainder": torch.where(asked_later, effect_later / effect, torch.nan),
            "agree_more_odds": torch.where(asked, odds, torch.nan),
            "before_answer": torch.where(asked, mean(state.before, 1), torch.nan),
        }

    def predictions(self, players: Mapping[str, Player], rounds: int) -> Mapping[str, float]:
        """Closed forms for answers without scale: all but limits and rounding is in them.

        The panel's figures where nobody talks; effect, effect_later and remainder where it is an
        `Advocate` who does. For large panels; mean_change only where people are equally restless.
        """
        person, assistant = players.get("person"), players.get("assistant")
        limited = self.low is not None or self.high is not None
        if limited or not isinstance(person, Answering) or person.on_any_scale:
            return {}
        if self.conversation is None:
            asked = range(0, self.every * self.waves, self.every)
            covariance = self.person.covariance(asked, self.spread, person.noise)
            found = panel_statistics.expected(covariance, alike=not self.person.volatility_spread)
            return found | {"mean_answer": self.mean}
        if not isinstance(assistant, Advocate) or assistant.goal is None:
            return {}
        effect = self.influence * assistant.voice * (assistant.goal - self.mean)
        remainder = self.person.remainder(self.later)
        return {"effect": effect, "effect_later": remainder * effect, "remainder": remainder}

    def hidden(self, state: State) -> Mapping[str, Tensor]:
        """What people hold, who was talked with, how restless each is."""
        return {
            "values": state.held.values,
            "disposition": state.held.disposition,
            "restlessness": state.held.restlessness,
            "treated": state.treated,
        }

    @property
    def working_size(self) -> int:
        """See `Game`: answers of all waves are kept."""
        return self.people * (self.waves + 12)

    def baseline(self) -> Mapping[str, Player]:
        """People who say what they think; an advocate of the highest answer."""
        talks = {} if self.conversation is None else {"assistant": Advocate()}
        return {"person": Plain(), **talks}


class Plain(Player):
    """A person who says exactly where they stand."""

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Any, draws: Draws
    ) -> Act:
        """Say one's own value."""
        return Act(seen[..., :1], memory)


class Advocate(Player):
    """A persuader who argues for the same position whatever people say."""

    goal: float | None = Field(
        default=None, description="the position argued for; none: the highest answer possible"
    )
    voice: float = Field(default=1.0, ge=0, le=1, description="how loudly")

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> None:
        """It must be an assistant who argues."""
        spaces = [phase.acts[role.name] for phase in phases if role.name in phase.acts]
        argues = all(isinstance(s, Box) and set(s.parts) == {"position", "voice"} for s in spaces)
        if role.name != "assistant" or not argues:
            raise UserError(
                "advocate needs an assistant that has a 'position' and a 'voice'",
                code="unsupported",
                path=f"players.{role.name}",
            )

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Any, draws: Draws
    ) -> Act:
        """Name the position."""
        space = phase.acts["assistant"]
        assert isinstance(space, Box)
        part = space.parts["position"]
        goal = part.high if self.goal is None else self.goal
        if not math.isfinite(goal):
            raise UserError(
                "advocate needs a goal: the highest answer has no limit here",
                code="missing",
                path="advocate.goal",
            )
        position = seen.new_full((*seen.shape[:2], part.size), goal)
        return Act(
            torch.cat([position, torch.full_like(position[..., :1], self.voice)], -1), memory
        )


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Panel(conversation=24), rounds=37)
