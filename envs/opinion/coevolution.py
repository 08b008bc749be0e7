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
from mores.core.environment import Box, Environment, Part, Phase, Policy, Role, StepResult
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics import advice, cohorts
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.history import History
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion import coevolution_state, progress_challenges, tracking_lag
from mores.envs.opinion.coevolution_state import CoevolutionState
from mores.envs.opinion.progress_challenges import Challenge
from mores.envs.opinion.scripted_policies import MeanEcho, Truthful
from mores.envs.opinion.tracking_lag import LinearTracker


class Coevolution(Environment[CoevolutionState]):
    """People whose values move, assistants that learn from them, and history.

    Description:
        Every round the people say where they stand; the assistants hear the average answer and
        say something; history, peers, assistants and chance move the people.

    Roles:
        person (`people`): answers.  assistant (`num_assistants`, may be none): advises.

    Observation:
        person: `values` own position, `advice` mean of what assistants said last, by voice (0 if
        nobody spoke), `peers` weighted mean of what those they listen to said last; where people
        differ in it, `restlessness`, their own, at least 0. Nobody sees another person's values.
        assistant: `answers` mean answer of the people this round, `trend` history's last movement
        (public). In a challenge also `first`, the first row of history, which an assistant may
        start as, and `forecast_horizon`, how many rounds ahead it is to aim. With `oracle: true` also
        `target`, where history is, or in predict will be. All in value units, in
        [-extent, extent] but for the trend.

    Action:
        person, phase `answer`: `answer` in [-extent, extent]^values.
        assistant, phase `advise`: `position` in [-extent, extent]^values, `intensity` in [0, 1]: how
        loudly; 0 says nothing.

    Reward:
        person: how much they agree with what they heard, `voice * exp(-d^2 / 2)` in [0, 1], with d
        the root mean square distance over values, averaged over assistants.
        assistant: that agreement averaged over people: approval is its incentive, not welfare.

    Dynamics:
        In this order (H values, G reference, o advice): G moves, by drift and noise or along a
        table; people answer; what is temporary in H fades (`person`); H += history.pull (G - H);
        peers: DeGroot or Friedkin-Johnsen on what people said; H += ai_influence * mean over
        assistants of voice * trust * (o - H), only within `confidence_bound`; H += history.carry * (G's
        movement) + noise; of all that movement a share settles (`person`), by default all of it;
        H is kept in [-extent, extent]; trust is learned (`trust`); newcomers take seats
        (`cohorts`). Friedkin-Johnsen ties people to their start; where they have dispositions that
        they return to, these tie them, and it goes `susceptibility` of the way to what is heard.
        In follow and predict people answer after history has pulled them.
        For `carry` 1 and an assistant that learns at rate eta and looks L rounds ahead, values
        move at `g eta (1 + alpha L) / (alpha + eta)` and lead the assistant by
        `g (1 - eta L) / (alpha + eta)`: see `analytic_values`.

    Start:
        Values from a population, or normal with standard deviation `initial_std`. History starts at
        the people's centre; with a table at its first row, and the people around it.

    End:
        In a challenge when history has no further row to judge by; else never by itself.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        ProgressGym: Qiu et al. 2024, arXiv 2406.20087. DeGroot 1974; Friedkin and Johnsen 1990.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 2,
        "moves": "values",
        "stochastic": True,
        "paper": "2406.20087",
    }

    num_people: int = Field(default=20, ge=1, le=10_000_000, description="number of people")
    num_values: int = Field(
        default=2, ge=1, le=10_000, description="number of value dimensions; default: a table's own"
    )
    num_assistants: int = Field(
        default=1, ge=0, le=10_000, description="number of assistants; 0: the twin"
    )
    initial_std: float = Field(
        default=1.0, ge=0, description="standard deviation of first values; with a table 0"
    )
    value_limit: float = Field(default=10.0, gt=0, description="values stay in [-extent, extent]")
    history: History = Field(default=History(), description="how history moves, and people with it")
    challenge: Challenge = Field(
        default="none",
        description="follow history, predict it, or coevolve: with a table (progress_by_eye) and "
        "pulls of its own, as far as they are not given",
    )
    forecast_horizon: int = Field(default=1, ge=1, description="predict: how many rounds ahead")
    observe_target: bool = Field(
        default=False, description="assistants see the `target`: where history is or will be"
    )
    peers: Peers = Field(
        default=Peers(), description="who people listen to, and how that moves them"
    )
    trait_state: TraitStateDynamics = Field(
        default=TraitStateDynamics(),
        description="how a person's values stay and move: all settles by default",
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
    confidence_bound: float | None = Field(
        default=None,
        gt=0,
        description="advice further away than this moves nobody; none: all of it does",
    )
    noise_std: float = Field(
        default=0.0, ge=0, description="standard deviation of other movement a round"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        return progress_challenges.fill_defaults(data) if isinstance(data, dict) else data

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        self.peers.check_parameters(self.num_people)
        progress_challenges.check_challenge(
            self.challenge, self.forecast_horizon, self.history, self.num_values, self.value_limit
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` where there are any."""
        place = Part(self.num_values, -self.value_limit, self.value_limit)
        own = {"relative_volatility": 1} if self.trait_state.volatility_heterogeneity else {}
        sees = Box.of(values=place, advice=place, neighbor_mean=place, **own)
        person = Role("person", self.num_people, sees)
        more = progress_challenges.extra_parts(
            self.challenge, self.history, self.observe_target, place
        )
        sees = Box.of(mean_answer=place, trend=self.num_values, **more)
        assistant = Role("assistant", self.num_assistants, sees)
        return (person, assistant) if self.num_assistants else (person,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, then `advise` where there are assistants."""
        place = Part(self.num_values, -self.value_limit, self.value_limit)
        answer = Phase("answer", {"person": Box.of(answer=place)})
        advise = Phase("advise", {"assistant": Box.of(position=place, intensity=Part(1, 0.0, 1.0))})
        return (answer, advise) if self.num_assistants else (answer,)

    def reset(self, streams: RandomStreams, people: People | None = None) -> CoevolutionState:
        """People at their start, nothing said yet."""
        if people is None:
            people = People(
                self.initial_std * streams.normal("values", self.num_people, self.num_values)
            )
            if self.history.trajectory_values is not None:
                first = self.history.trajectory_values[0].to(people.values.device)
                people = People(people.values + first)
        if tuple(people.values.shape[1:]) != (self.num_people, self.num_values):
            given = "{} people with {} values".format(*people.values.shape[1:])
            raise UserError(
                f"the population brings {given}, the environment has people={self.num_people}, "
                f"values={self.num_values}",
                code="wrong_shape",
                path="num_people",
            )
        held = self.trait_state.initial_state(people.values, streams.child("person"))
        held = self.trait_state.clamp(held, -self.value_limit, self.value_limit)
        values = held.values
        silence = values.new_zeros(len(values), self.num_assistants, self.num_values)
        when = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        tabled = self.history.trajectory_values is not None
        return CoevolutionState(
            people=dataclasses.replace(people, values=values),
            trait_state=held,
            trust=self.trust.initial_state(values, silence),
            anchor=held.disposition,
            initial_mean=mean(values, 1),
            initial_mean_disposition=mean(held.disposition, 1),
            answers=torch.zeros_like(values),
            history_position=self.history.position_at(when) if tabled else mean(values, 1),
            trend=torch.zeros_like(values[:, 0]),
            previous_values=values,
            advice=silence,
            intensity=silence[..., 0],
            neighbor_mean=torch.zeros_like(values),
            graph=self.peers.sample_graph(values, streams),
            rounds_elapsed=when,
            challenge_record=progress_challenges.initial_record(
                self._num_scored_rounds, values, self.num_assistants
            ),
        )

    def observe(self, state: CoevolutionState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        sees = self._observation_spaces[role]
        if role == "person":
            values = state.people.values
            if self.challenge in ("follow", "predict"):
                values = self.history.attract(
                    values, self.history.position_at(state.rounds_elapsed + 1)
                )
            heard = advice.mean_advice(state.advice, state.intensity)[
                :, None
            ]  # 0 where there is nobody
            own = {"relative_volatility": state.trait_state.relative_volatility[..., None]}
            own = own if "relative_volatility" in sees.parts else {}
            return sees.join(values=values, advice=heard, neighbor_mean=state.neighbor_mean, **own)
        more = progress_challenges.extra_observation(
            sees,
            self.challenge,
            self.forecast_horizon,
            self.history,
            state.history_position,
            state.rounds_elapsed,
        )
        answers = mean(state.answers, 1)[:, None].expand(-1, self.num_assistants, -1)
        return sees.join(mean_answer=answers, trend=state.trend[:, None], **more)

    def step(
        self,
        state: CoevolutionState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[CoevolutionState]:
        """`answer` moves history and keeps what was said; the last phase moves the people."""
        if phase == "answer":
            reference, trend = self.history.step(
                state.history_position, state.rounds_elapsed, streams
            )
            said = actions["person"].clamp(-self.value_limit, self.value_limit)
            state = dataclasses.replace(
                state,
                answers=said,
                trend=trend,
                history_position=reference,
                rounds_elapsed=state.rounds_elapsed + 1,
            )
            return (
                StepResult(state)
                if self.num_assistants
                else self._finish_round(self._move_people(state, streams), {})
            )
        act, space = actions["assistant"], self._advice_space
        state = dataclasses.replace(
            state,
            advice=space.read(act, "position").clamp(-self.value_limit, self.value_limit),
            intensity=space.read(act, "intensity")[..., 0].clamp(0.0, 1.0),
        )
        approval = advice.approval(state.people.values, state.advice, state.intensity)
        reward = {"person": mean(approval, 2), "assistant": mean(approval, 1)}
        return self._finish_round(self._move_people(state, streams), reward)

    def _move_people(self, state: CoevolutionState, streams: RandomStreams) -> CoevolutionState:
        """Steps 3 to 7: history pulls, then peers, assistants and chance; newcomers take seats."""
        peers = state.neighbor_mean
        held = self.trait_state.advance_round(state.trait_state, streams.child("person"))
        values = self.history.attract(held.values, state.history_position)
        if self.peers.rule != "none":
            anchor = (
                values if self.trait_state.mean_reverting else state.anchor
            )  # reverting ties them enough
            peers, heard = self.peers.peer_means(values, state.answers, state.graph)
            values = self.peers.step(heard, anchor)
        way = advice.advice_displacement(
            values, state.advice, state.intensity, state.trust, self.confidence_bound
        )
        values = values + self.ai_influence * way
        values = values + self.history.drift_share * state.trend[:, None]
        if self.noise_std:
            values = values + self.noise_std * streams.normal(
                "noise", self.num_people, self.num_values
            )
        held = self.trait_state.displace(held, values - held.values)
        held = self.trait_state.clamp(held, -self.value_limit, self.value_limit)
        people = dataclasses.replace(state.people, values=held.values)
        trust = state.trust
        if self.trust.learning_rate:
            evidence = self.trust.evidence(people.values, state.advice)
            trust = self.trust.update(trust, evidence, state.intensity)
        before = state.people.values
        state = dataclasses.replace(
            state,
            people=people,
            trait_state=held,
            trust=trust,
            neighbor_mean=peers,
            previous_values=before,
        )
        return (
            self._replace_people(state, streams.child("cohort")) if self.cohorts.turnover else state
        )

    def _replace_people(self, state: CoevolutionState, streams: RandomStreams) -> CoevolutionState:
        """Newcomers take the seats of some people."""
        fresh = self.trust.initial_state(state.people.values, state.advice)

        def taught(values: Tensor) -> Tensor:
            return advice.advice_displacement(
                values, state.advice, state.intensity, fresh, self.confidence_bound
            )

        new = self.cohorts.sample_newcomers(state.trait_state.disposition, taught, streams)
        held = self.trait_state.replace(state.trait_state, new.is_new, new.disposition, streams)
        held = self.trait_state.clamp(held, -self.value_limit, self.value_limit)
        people = cohorts.replace_people(state.people, new)
        return dataclasses.replace(
            state,
            people=dataclasses.replace(people, values=held.values),
            trait_state=held,
            trust=torch.where(new.is_new[..., None], fresh, state.trust),
            anchor=torch.where(new.is_new[..., None], held.disposition, state.anchor),
        )

    def _finish_round(
        self, state: CoevolutionState, reward: Mapping[str, Tensor]
    ) -> StepResult[CoevolutionState]:
        """The round's end: what a challenge judges is kept, and after its last round it is over."""
        if state.challenge_record is None:
            return StepResult(state, reward)
        paths = progress_challenges.record_round(
            state.challenge_record, state.rounds_elapsed, state.people.values, state.advice
        )
        over = state.rounds_elapsed >= self._num_scored_rounds
        return StepResult(dataclasses.replace(state, challenge_record=paths), reward, over)

    def metrics(self, state: CoevolutionState) -> Mapping[str, Tensor]:
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
        kernel = self.peers.equilibrium_matrix if self._moved_by_peers_only else None
        return {
            **coevolution_state.community_metrics(state, kernel),
            **self._challenge_metrics(state),
        }

    def _challenge_metrics(self, state: CoevolutionState) -> dict[str, Tensor]:
        """Of a challenge."""
        if state.challenge_record is None:
            return progress_challenges.undefined_scores(state.history_position)
        return progress_challenges.challenge_scores(
            self.challenge,
            self.forecast_horizon,
            self.history,
            state.challenge_record,
            state.rounds_elapsed,
        )._asdict()

    @property
    def elements_per_world(self) -> int:
        """See `Environment`: meeting others takes most."""
        meetings = self.peers.num_candidates if self.peers.rule != "none" else 0
        return self.num_people * (4 * self.num_values + 3) * max(1, meetings)

    def latent(self, state: CoevolutionState) -> Mapping[str, Tensor]:
        """Where everybody stands, and with them history and the advice."""
        return {
            "values": state.people.values,
            "disposition": state.trait_state.disposition,
            "history_position": state.history_position,
            "advice": state.advice,
        }

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """The loop law (speed, lag), and how fast a fixed network of peers agrees."""
        found: dict[str, Any] = (
            dict(self.peers.analytic_values()) if self._moved_by_peers_only else {}
        )
        assistant = policies.get("assistant")
        history = self.history
        open_loop = (
            history.drift_share == 1
            and not history.attraction
            and history.trajectory_values is None
        )
        trusting = self.trust.initial_trust == 1 and not self.trust.learning_rate
        heeded = self.confidence_bound is None and trusting and self._displacements_persist
        if isinstance(assistant, LinearTracker) and assistant.is_truthful and open_loop and heeded:
            loop = (
                history.drift,
                self.ai_influence,
                assistant.learning_rate,
                assistant.forecast_horizon,
            )
            if self.peers.rule == "none" and tracking_lag.converges(
                self.ai_influence, assistant.learning_rate
            ):
                found |= {"velocity": tracking_lag.velocity(*loop), "tracking_lag": tracking_lag.lag(*loop)}
        return found

    @property
    def _displacements_persist(self) -> bool:
        """Whether people are where they were moved to, and nowhere else."""
        person = self.trait_state
        return not (person.mean_reverting or person.disposition_noise_std or self.cohorts.turnover)

    @property
    def _moved_by_peers_only(self) -> bool:
        """Whether nothing but peers can move people."""
        history = self.history.attraction or self.history.drift_share
        heeded = self.num_assistants and self.ai_influence
        return self._displacements_persist and not (history or heeded or self.noise_std)

    def default_policies(self) -> Mapping[str, Policy]:
        """People who say what they think, assistants that say what people said before."""
        return {"person": Truthful(), **({"assistant": MeanEcho()} if self.num_assistants else {})}

    @functools.cached_property
    def _observation_spaces(self) -> dict[str, Box]:
        return {role.name: role.observation_space for role in self.roles}

    @functools.cached_property
    def _advice_space(self) -> Box:
        space = self.phases[1].action_spaces["assistant"]
        assert isinstance(space, Box)
        return space

    @functools.cached_property
    def _num_scored_rounds(self) -> int:
        return progress_challenges.num_scored_rounds(
            self.challenge, self.forecast_horizon, self.history
        )


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Coevolution(history=History(drift=0.02, drift_share=1.0), noise_std=0.02))
