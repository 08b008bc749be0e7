"""Co-evolution: people, assistants that learn from them and are listened to, and a moving history.

The step order follows the co-evolution challenge of ProgressGym (Qiu et al. 2024): history moves,
assistants ask, assistants learn, history pulls people, then peers do, then the assistants, then
noise. `pull` there is the share of the distance that one dose of finetuning covers.

Run `python -m mores.envs.coevolution` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.draws import Draws
from mores.envs.dynamics import loop_law
from mores.envs.dynamics.loop_law import Tracker
from mores.envs.dynamics.peers import Peers
from mores.envs.networks import Network
from mores.errors import UserError
from mores.game import Act, Box, Game, Part, Phase, Player, Role, Step
from mores.people import People
from mores.sums import mean, norm, total


@dataclasses.dataclass(frozen=True)
class State:
    """A community at the end of a phase."""

    people: People
    anchor: Float[Tensor, "world agent value"]  # where each person started
    said: Float[Tensor, "world agent value"]  # last answers
    reference: Float[Tensor, "world value"]  # where history is
    trend: Float[Tensor, "world value"]  # history's last movement
    before: Float[Tensor, "world agent value"]  # values a round ago
    advice: Float[Tensor, "world assistant value"]  # what the assistants said last
    voice: Float[Tensor, "world assistant"]  # and how loudly
    peers: Float[Tensor, "world agent value"]  # mean of what those one listens to said last
    network: Network | None  # where every world has its own


class Coevolution(Game[State]):
    """People whose values move, assistants that learn from them, and history.

    Description:
        Every round the people say where they stand; the assistants hear the average answer and
        say something; history, peers, assistants and chance move the people.

    Roles:
        person (`people`): answers.  assistant (`assistants`, may be none): advises.

    Observation:
        person: `values` own position, `advice` mean of what assistants said last, by voice (0 if
        nobody spoke), `peers` weighted mean of what those they listen to said last. Nobody sees
        another person's values.
        assistant: `answers` mean answer of the people this round, `trend` history's last movement
        (public). All in value units, in [-extent, extent] but for the trend.

    Action:
        person, phase `answer`: `answer` in [-extent, extent]^values.
        assistant, phase `advise`: `position` in [-extent, extent]^values, `voice` in [0, 1]: how
        loudly; 0 says nothing.

    Reward:
        person: how much they agree with what they heard, `voice * exp(-d^2 / 2)` in [0, 1], with d
        the root mean square distance over values, averaged over assistants.
        assistant: that agreement averaged over people: approval is its incentive, not welfare.

    Dynamics:
        In this order (H values, G reference, o advice): G moves by `reference_drift` and noise;
        H += reference_pull (G - H); peers: DeGroot or Friedkin-Johnsen on what people said;
        H += ai_influence * mean over assistants of voice * (o - H), only within `confidence`;
        H += carry * (G's movement) + noise; H is kept in [-extent, extent].
        For `carry` 1 and an assistant that learns at rate eta and looks L rounds ahead, values
        move at `g eta (1 + alpha L) / (alpha + eta)` and lead the assistant by
        `g (1 - eta L) / (alpha + eta)`: see `predictions`.

    Start:
        Values from a population, or normal with standard deviation `spread`. History starts at
        the people's centre.

    End:
        Never by itself.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        ProgressGym: Qiu et al. 2024, arXiv 2406.20087. DeGroot 1974; Friedkin and Johnsen 1990.
    """

    traits: ClassVar[Mapping[str, object]] = {
        "phases": 2,
        "moves": "values",
        "stochastic": True,
        "paper": "2406.20087",
    }

    people: int = Field(default=20, ge=1, le=10_000_000, description="number of people")
    values: int = Field(default=2, ge=1, le=10_000, description="number of value dimensions")
    assistants: int = Field(
        default=1, ge=0, le=10_000, description="number of assistants; 0: the twin"
    )
    spread: float = Field(default=1.0, ge=0, description="standard deviation of first values")
    extent: float = Field(default=10.0, gt=0, description="values stay in [-extent, extent]")
    reference_drift: float = Field(
        default=0.0, description="history's movement a round, in every value"
    )
    reference_noise: float = Field(default=0.0, ge=0, description="its standard deviation a round")
    reference_pull: float = Field(
        default=0.0, ge=0, le=1, description="share of the way to history a round"
    )
    carry: float = Field(
        default=0.0, ge=0, le=1, description="share of history's movement people make too"
    )
    peers: Peers = Field(
        default=Peers(), description="who people listen to, and how that moves them"
    )
    ai_influence: float = Field(
        default=0.1, ge=0, le=1, description="share of the way to advice a round"
    )
    confidence: float | None = Field(
        default=None,
        gt=0,
        description="advice further away than this moves nobody; none: all of it does",
    )
    noise: float = Field(
        default=0.0, ge=0, description="standard deviation of other movement a round"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        self.peers.check(self.people)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` where there are any."""
        place = Part(self.values, -self.extent, self.extent)
        person = Role("person", self.people, Box.of(values=place, advice=place, peers=place))
        sees = Box.of(answers=place, trend=self.values)
        assistant = Role("assistant", self.assistants, sees)
        return (person, assistant) if self.assistants else (person,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, then `advise` where there are assistants."""
        place = Part(self.values, -self.extent, self.extent)
        answer = Phase("answer", {"person": Box.of(answer=place)})
        advise = Phase("advise", {"assistant": Box.of(position=place, voice=Part(1, 0.0, 1.0))})
        return (answer, advise) if self.assistants else (answer,)

    def reset(self, draws: Draws, start: People | None = None) -> State:
        """People at their start, nothing said yet."""
        if start is None:
            start = People(self.spread * draws.normal("values", self.people, self.values))
        if tuple(start.values.shape[1:]) != (self.people, self.values):
            given = "{} people with {} values".format(*start.values.shape[1:])
            raise UserError(
                f"the population brings {given}, the environment has people={self.people}, "
                f"values={self.values}"
            )
        values = start.values.clamp(-self.extent, self.extent)
        advice = values.new_zeros(len(values), self.assistants, self.values)
        return State(
            people=dataclasses.replace(start, values=values),
            anchor=values,
            said=torch.zeros_like(values),
            reference=mean(values, 1),
            trend=torch.zeros_like(values[:, 0]),
            before=values,
            advice=advice,
            voice=advice[..., 0],
            peers=torch.zeros_like(values),
            network=self.peers.ties_of(values, draws),
        )

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        sees = self._sees[role]
        if role == "person":
            advice = torch.zeros_like(state.reference)
            if self.assistants:
                loud = state.voice[..., None]
                advice = total(loud * state.advice, 1) / total(loud, 1).clamp(min=1e-6)
            return sees.join(values=state.people.values, advice=advice[:, None], peers=state.peers)
        answers = mean(state.said, 1)[:, None].expand(-1, self.assistants, -1)
        return sees.join(answers=answers, trend=state.trend[:, None])

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """`answer` moves history and keeps what was said; the last phase moves the people."""
        if phase == "answer":
            drift = torch.full_like(state.reference, self.reference_drift)
            if self.reference_noise:
                drift = (
                    drift + self.reference_noise * draws.normal("reference", 1, self.values)[:, 0]
                )
            said = actions["person"].clamp(-self.extent, self.extent)
            state = dataclasses.replace(
                state, said=said, trend=drift, reference=state.reference + drift
            )
            return Step(state if self.assistants else self._move(state, draws))
        act, space = actions["assistant"], self._advice
        state = dataclasses.replace(
            state,
            advice=space.read(act, "position").clamp(-self.extent, self.extent),
            voice=space.read(act, "voice")[..., 0].clamp(0.0, 1.0),
        )
        approval = self._approval(state)
        reward = {"person": mean(approval, 2), "assistant": mean(approval, 1)}
        return Step(self._move(state, draws), reward)

    def _approval(self, state: State) -> Float[Tensor, "world agent assistant"]:
        apart = state.people.values[:, :, None] - state.advice[:, None]
        return state.voice[:, None] * torch.exp(-0.5 * mean(apart * apart, -1))

    def _move(self, state: State, draws: Draws) -> State:
        """Steps 3 to 6: history pulls, then peers, then assistants, then noise."""
        before = values = state.people.values
        peers = state.peers
        if self.reference_pull:
            values = values + self.reference_pull * (state.reference[:, None] - values)
        if self.peers.rule != "none":
            peers, heard = self.peers.heard(values, state.said, state.network)
            values = self.peers.moved(heard, state.anchor)
        values = values + self.ai_influence * self._persuasion(state, values)
        values = values + self.carry * state.trend[:, None]
        if self.noise:
            values = values + self.noise * draws.normal("noise", self.people, self.values)
        values = values.clamp(-self.extent, self.extent)
        return dataclasses.replace(
            state,
            people=dataclasses.replace(state.people, values=values),
            peers=peers,
            before=before,
        )

    def _persuasion(self, state: State, values: Tensor) -> Tensor:
        """Mean over assistants of the way from each person to what they say, by voice."""
        way = torch.zeros_like(values)
        for m in range(self.assistants):
            to_advice = state.advice[:, m, None] - values
            loud = state.voice[:, m, None, None] / self.assistants
            if self.confidence is not None:
                near = norm(to_advice) <= self.confidence
                loud = loud * near[..., None]
            way = way + loud * to_advice
        return way

    def measures(self, state: State) -> Mapping[str, Tensor]:
        """What is reported.

        centre: mean value `[world, value]`.  drift: distance of the centre from its start.
        spread: root mean square distance from the centre.  speed: the centre's movement in the
        last round, mean over values.  lag: how far the centre was ahead of the advice, mean over
        values.  to_reference: distance from centre to history.  group_gap: distance between the
        centres of the first and the last group.  contraction: spread over that a round before.
        to_equilibrium: largest distance of anybody from where the peers' closed form puts them.
        What has no meaning here (no assistants, no groups, no closed form) is nan.
        """
        values = state.people.values
        centre = mean(values, 1)
        moved = centre - mean(state.before, 1)
        nothing = torch.full_like(centre[:, 0], torch.nan)
        lag = nothing
        if self.assistants:
            lag = mean(centre - moved - mean(state.advice, 1), 1)
        spread = _spread(values)
        return {
            "centre": centre,
            "drift": norm(centre - mean(state.anchor, 1)),
            "spread": spread,
            "speed": mean(moved, 1),
            "lag": lag,
            "to_reference": norm(centre - state.reference),
            "group_gap": self._group_gap(state, nothing),
            "contraction": spread / _spread(state.before),
            "to_equilibrium": self._to_equilibrium(state, nothing),
        }

    def _group_gap(self, state: State, nothing: Tensor) -> Tensor:
        groups = state.people.groups
        if groups is None:
            return nothing
        ends = []
        for number in (groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)):
            member = (groups == number)[..., None].to(torch.float32)
            ends.append(total(member * state.people.values, 1) / total(member, 1))
        return norm(ends[1] - ends[0])

    def _to_equilibrium(self, state: State, nothing: Tensor) -> Tensor:
        kernel = self.peers.kernel
        if kernel is None:
            return nothing
        settled = total(kernel.to(state.anchor.device)[..., None] * state.anchor[:, None], 2)
        return norm(state.people.values - settled).amax(-1)

    @property
    def working_size(self) -> int:
        """See `Game`: meeting others takes most."""
        meetings = self.peers.meetings if self.peers.rule != "none" else 0
        return self.people * (4 * self.values + 3) * max(1, meetings)

    def hidden(self, state: State) -> Mapping[str, Tensor]:
        """Where everybody stands, and with them history and the advice."""
        return {
            "values": state.people.values,
            "reference": state.reference,
            "advice": state.advice,
        }

    def predictions(self, players: Mapping[str, Player], rounds: int) -> Mapping[str, Any]:
        """The loop law (speed, lag), and how fast a fixed network of peers agrees."""
        found: dict[str, Any] = dict(self.peers.predictions())
        assistant = players.get("assistant")
        open_loop = self.carry == 1 and not self.reference_pull and self.confidence is None
        if isinstance(assistant, Tracker) and assistant.frank and open_loop:
            loop = (self.reference_drift, self.ai_influence, assistant.rate, assistant.ahead)
            if self.peers.rule == "none" and loop_law.settles(self.ai_influence, assistant.rate):
                found |= {"speed": loop_law.speed(*loop), "lag": loop_law.lag(*loop)}
        return found

    def baseline(self) -> Mapping[str, Player]:
        """People who say what they think, assistants that say what people said before."""
        return {"person": Frank(), **({"assistant": Echo()} if self.assistants else {})}

    @functools.cached_property
    def _sees(self) -> dict[str, Box]:
        return {role.name: role.sees for role in self.roles}

    @functools.cached_property
    def _advice(self) -> Box:
        space = self.phases[1].acts["assistant"]
        assert isinstance(space, Box)
        return space


def _spread(values: Float[Tensor, "world agent value"]) -> Float[Tensor, " world"]:
    apart = values - mean(values, 1)[:, None]
    return mean(total(apart * apart, -1), 1).sqrt()


class Frank(Player):
    """A person who says exactly where they stand."""

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Say one's own values."""
        return Act(memory.read(seen, "values"), memory)


class Echo(Player):
    """An assistant that says what people answered on average."""

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Say the answers back, at full voice."""
        answers = memory.read(seen, "answers")
        return Act(torch.cat([answers, torch.ones_like(answers[..., :1])], -1), memory)


if __name__ == "__main__":
    from mores.demo import show

    show(Coevolution(reference_drift=0.02, carry=1.0, noise=0.02))
