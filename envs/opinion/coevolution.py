"""Co-evolution: people, assistants that learn from them and are listened to, and a moving history.

The step order follows the co-evolution challenge of ProgressGym (Qiu et al. 2024): history moves,
assistants ask, assistants learn, history pulls people, then peers do, then the assistants, then
noise. Its challenges are set by `challenge`: docs/explanation/progress.md.

Run `python -m mores.envs.opinion.coevolution` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import Box, Game, Part, Phase, Player, Role, Step
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import Draws
from mores.envs.dynamics import advice, cohorts
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.history import History
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.trait_state import Settled
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion import coevolution_state, progress_challenges, tracking_lag
from mores.envs.opinion.coevolution_state import State
from mores.envs.opinion.progress_challenges import Challenge
from mores.envs.opinion.scripted_policies import Echo, Frank
from mores.envs.opinion.tracking_lag import Tracker


class Coevolution(Game[State]):
    """People whose values move, assistants that learn from them, and history.

    Description:
        Every round the people say where they stand; the assistants hear the average answer and
        say something; history, peers, assistants and chance move the people.

    Roles:
        person (`people`): answers.  assistant (`assistants`, may be none): advises.

    Observation:
        person: `values` own position, `advice` mean of what assistants said last, by voice (0 if
        nobody spoke), `peers` weighted mean of what those they listen to said last; where people
        differ in it, `restlessness`, their own, at least 0. Nobody sees another person's values.
        assistant: `answers` mean answer of the people this round, `trend` history's last movement
        (public). In a challenge also `first`, the first row of history, which an assistant may
        start as, and `ahead`, how many rounds ahead it is to aim. With `oracle: true` also
        `target`, where history is, or in predict will be. All in value units, in
        [-extent, extent] but for the trend.

    Action:
        person, phase `answer`: `answer` in [-extent, extent]^values.
        assistant, phase `advise`: `position` in [-extent, extent]^values, `voice` in [0, 1]: how
        loudly; 0 says nothing.

    Reward:
        person: how much they agree with what they heard, `voice * exp(-d^2 / 2)` in [0, 1], with d
        the root mean square distance over values, averaged over assistants.
        assistant: that agreement averaged over people: approval is its incentive, not welfare.

    Dynamics:
        In this order (H values, G reference, o advice): G moves, by drift and noise or along a
        table; people answer; what is temporary in H fades (`person`); H += history.pull (G - H);
        peers: DeGroot or Friedkin-Johnsen on what people said; H += ai_influence * mean over
        assistants of voice * trust * (o - H), only within `confidence`; H += history.carry * (G's
        movement) + noise; of all that movement a share settles (`person`), by default all of it;
        H is kept in [-extent, extent]; trust is learned (`trust`); newcomers take seats
        (`cohorts`). Friedkin-Johnsen ties people to their start; where they have dispositions that
        they return to, these tie them, and it goes `susceptibility` of the way to what is heard.
        In follow and predict people answer after history has pulled them.
        For `carry` 1 and an assistant that learns at rate eta and looks L rounds ahead, values
        move at `g eta (1 + alpha L) / (alpha + eta)` and lead the assistant by
        `g (1 - eta L) / (alpha + eta)`: see `predictions`.

    Start:
        Values from a population, or normal with standard deviation `spread`. History starts at
        the people's centre; with a table at its first row, and the people around it.

    End:
        In a challenge when history has no further row to judge by; else never by itself.

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
    values: int = Field(
        default=2, ge=1, le=10_000, description="number of value dimensions; default: a table's own"
    )
    assistants: int = Field(
        default=1, ge=0, le=10_000, description="number of assistants; 0: the twin"
    )
    spread: float = Field(
        default=1.0, ge=0, description="standard deviation of first values; with a table 0"
    )
    extent: float = Field(default=10.0, gt=0, description="values stay in [-extent, extent]")
    history: History = Field(default=History(), description="how history moves, and people with it")
    challenge: Challenge = Field(
        default="none",
        description="follow history, predict it, or coevolve: with a table (progress_by_eye) and "
        "pulls of its own, as far as they are not given",
    )
    ahead: int = Field(default=1, ge=1, description="predict: how many rounds ahead")
    oracle: bool = Field(
        default=False, description="assistants see the `target`: where history is or will be"
    )
    peers: Peers = Field(
        default=Peers(), description="who people listen to, and how that moves them"
    )
    person: Settled = Field(
        default=Settled(), description="how a person's values stay and move: all settles by default"
    )
    trust: Trust = Field(
        default=Trust(), description="people's trust in assistants: full, and for ever, by default"
    )
    cohorts: Cohorts = Field(
        default=Cohorts(), description="how generations follow each other: nobody goes by default"
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

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        return progress_challenges.defaults(given) if isinstance(given, dict) else given

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        self.peers.check(self.people)
        progress_challenges.check(
            self.challenge, self.ahead, self.history, self.values, self.extent
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` where there are any."""
        place = Part(self.values, -self.extent, self.extent)
        own = {"restlessness": 1} if self.person.volatility_spread else {}
        sees = Box.of(values=place, advice=place, peers=place, **own)
        person = Role("person", self.people, sees)
        more = progress_challenges.sight(self.challenge, self.history, self.oracle, place)
        sees = Box.of(answers=place, trend=self.values, **more)
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
            if self.history.course is not None:
                first = self.history.course[0].to(start.values.device)
                start = People(start.values + first)
        if tuple(start.values.shape[1:]) != (self.people, self.values):
            given = "{} people with {} values".format(*start.values.shape[1:])
            raise UserError(
                f"the population brings {given}, the environment has people={self.people}, "
                f"values={self.values}",
                code="wrong_shape",
                path="people",
            )
        held = self.person.begin(start.values, draws.within("person"))
        held = self.person.kept_within(held, -self.extent, self.extent)
        values = held.values
        silence = values.new_zeros(len(values), self.assistants, self.values)
        when = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        tabled = self.history.course is not None
        return State(
            people=dataclasses.replace(start, values=values),
            held=held,
            trust=self.trust.begin(values, silence),
            anchor=held.disposition,
            origin=mean(values, 1),
            settled_origin=mean(held.disposition, 1),
            said=torch.zeros_like(values),
            reference=self.history.at(when) if tabled else mean(values, 1),
            trend=torch.zeros_like(values[:, 0]),
            before=values,
            advice=silence,
            voice=silence[..., 0],
            peers=torch.zeros_like(values),
            network=self.peers.ties_of(values, draws),
            when=when,
            paths=progress_challenges.begin(self._judged_rounds, values, self.assistants),
        )

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        sees = self._sees[role]
        if role == "person":
            values = state.people.values
            if self.challenge in ("follow", "predict"):
                values = self.history.pulled(values, self.history.at(state.when + 1))
            heard = advice.heard(state.advice, state.voice)[:, None]  # 0 where there is nobody
            own = {"restlessness": state.held.restlessness[..., None]}
            own = own if "restlessness" in sees.parts else {}
            return sees.join(values=values, advice=heard, peers=state.peers, **own)
        more = progress_challenges.seen(
            sees, self.challenge, self.ahead, self.history, state.reference, state.when
        )
        answers = mean(state.said, 1)[:, None].expand(-1, self.assistants, -1)
        return sees.join(answers=answers, trend=state.trend[:, None], **more)

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """`answer` moves history and keeps what was said; the last phase moves the people."""
        if phase == "answer":
            reference, trend = self.history.moved(state.reference, state.when, draws)
            said = actions["person"].clamp(-self.extent, self.extent)
            state = dataclasses.replace(
                state, said=said, trend=trend, reference=reference, when=state.when + 1
            )
            return Step(state) if self.assistants else self._ended(self._move(state, draws), {})
        act, space = actions["assistant"], self._advice
        state = dataclasses.replace(
            state,
            advice=space.read(act, "position").clamp(-self.extent, self.extent),
            voice=space.read(act, "voice")[..., 0].clamp(0.0, 1.0),
        )
        approval = advice.approval(state.people.values, state.advice, state.voice)
        reward = {"person": mean(approval, 2), "assistant": mean(approval, 1)}
        return self._ended(self._move(state, draws), reward)

    def _move(self, state: State, draws: Draws) -> State:
        """Steps 3 to 7: history pulls, then peers, assistants and chance; newcomers take seats."""
        peers = state.peers
        held = self.person.passed(state.held, draws.within("person"))
        values = self.history.pulled(held.values, state.reference)
        if self.peers.rule != "none":
            anchor = values if self.person.reverts else state.anchor  # reverting ties them enough
            peers, heard = self.peers.heard(values, state.said, state.network)
            values = self.peers.moved(heard, anchor)
        way = advice.persuasion(values, state.advice, state.voice, state.trust, self.confidence)
        values = values + self.ai_influence * way
        values = values + self.history.carry * state.trend[:, None]
        if self.noise:
            values = values + self.noise * draws.normal("noise", self.people, self.values)
        held = self.person.pushed(held, values - held.values)
        held = self.person.kept_within(held, -self.extent, self.extent)
        people = dataclasses.replace(state.people, values=held.values)
        trust = state.trust
        if self.trust.rate:
            evidence = self.trust.evidence(people.values, state.advice)
            trust = self.trust.learned(trust, evidence, state.voice)
        before = state.people.values
        state = dataclasses.replace(
            state, people=people, held=held, trust=trust, peers=peers, before=before
        )
        return self._succeed(state, draws.within("cohort")) if self.cohorts.turnover else state

    def _succeed(self, state: State, draws: Draws) -> State:
        """Newcomers take the seats of some people."""
        fresh = self.trust.begin(state.people.values, state.advice)

        def taught(values: Tensor) -> Tensor:
            return advice.persuasion(values, state.advice, state.voice, fresh, self.confidence)

        new = self.cohorts.newcomers(state.held.disposition, taught, draws)
        held = self.person.replaced(state.held, new.born, new.disposition, draws)
        held = self.person.kept_within(held, -self.extent, self.extent)
        people = cohorts.succeeded(state.people, new)
        return dataclasses.replace(
            state,
            people=dataclasses.replace(people, values=held.values),
            held=held,
            trust=torch.where(new.born[..., None], fresh, state.trust),
            anchor=torch.where(new.born[..., None], held.disposition, state.anchor),
        )

    def _ended(self, state: State, reward: Mapping[str, Tensor]) -> Step[State]:
        """The round's end: what a challenge judges is kept, and after its last round it is over."""
        if state.paths is None:
            return Step(state, reward)
        paths = progress_challenges.keep(state.paths, state.when, state.people.values, state.advice)
        over = state.when >= self._judged_rounds
        return Step(dataclasses.replace(state, paths=paths), reward, over)

    def measures(self, state: State) -> Mapping[str, Tensor]:
        """What is reported.

        centre: mean value `[world, value]`.  drift: distance of the centre from its start.
        settled_drift: the same of dispositions: what of it would stay.  trust: mean over people
        and assistants.
        spread: root mean square distance from the centre.  speed: the centre's movement in the
        last round, mean over values.  lag: how far the centre was ahead of the advice, mean over
        values.  to_reference: distance from centre to history.  group_gap: distance between the
        centres of the first and the last group.  contraction: spread over that a round before.
        to_equilibrium: largest distance of anybody from where the peers' closed form puts them.
        score: of the challenge so far, as ProgressGym has it.  skill, centred_cosine: the same
        about where history began.  evaluations: rounds judged so far (`mores.envs.dynamics.
        challenges` has the formulas).
        What has no meaning here (no assistants, no groups, no closed form, no challenge) is nan.
        """
        kernel = self.peers.kernel if self._only_peers else None
        return {**coevolution_state.measures(state, kernel), **self._scores(state)}

    def _scores(self, state: State) -> dict[str, Tensor]:
        """Of a challenge."""
        if state.paths is None:
            return progress_challenges.unjudged(state.reference)
        return progress_challenges.scores(
            self.challenge, self.ahead, self.history, state.paths, state.when
        )._asdict()

    @property
    def working_size(self) -> int:
        """See `Game`: meeting others takes most."""
        meetings = self.peers.meetings if self.peers.rule != "none" else 0
        return self.people * (4 * self.values + 3) * max(1, meetings)

    def hidden(self, state: State) -> Mapping[str, Tensor]:
        """Where everybody stands, and with them history and the advice."""
        return {
            "values": state.people.values,
            "disposition": state.held.disposition,
            "reference": state.reference,
            "advice": state.advice,
        }

    def predictions(self, players: Mapping[str, Player], rounds: int) -> Mapping[str, Any]:
        """The loop law (speed, lag), and how fast a fixed network of peers agrees."""
        found: dict[str, Any] = dict(self.peers.predictions()) if self._only_peers else {}
        assistant = players.get("assistant")
        history = self.history
        open_loop = history.carry == 1 and not history.pull and history.course is None
        trusting = self.trust.start == 1 and not self.trust.rate
        heeded = self.confidence is None and trusting and self._settles
        if isinstance(assistant, Tracker) and assistant.frank and open_loop and heeded:
            loop = (history.drift, self.ai_influence, assistant.rate, assistant.ahead)
            if self.peers.rule == "none" and tracking_lag.settles(
                self.ai_influence, assistant.rate
            ):
                found |= {"speed": tracking_lag.speed(*loop), "lag": tracking_lag.lag(*loop)}
        return found

    @property
    def _settles(self) -> bool:
        """Whether people are where they were moved to, and nowhere else."""
        person = self.person
        return not (person.reverts or person.disposition_noise or self.cohorts.turnover)

    @property
    def _only_peers(self) -> bool:
        """Whether nothing but peers can move people."""
        history = self.history.pull or self.history.carry
        heeded = self.assistants and self.ai_influence
        return self._settles and not (history or heeded or self.noise)

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

    @functools.cached_property
    def _judged_rounds(self) -> int:
        return progress_challenges.steps(self.challenge, self.ahead, self.history)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Coevolution(history=History(drift=0.02, carry=1.0), noise=0.02))
