"""Coevolution: people, assistants that learn from them and influence them, and external history.

The order of a round follows the coevolution challenge of ProgressGym (Qiu et al. 2024): history, a
trajectory of values outside the community, moves; people answer; assistants learn and advise; then
people's values change. `challenge` selects ProgressGym's challenges: docs/explanation/progress.md.

Demo: `python -m mores.envs.opinion.coevolution`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from mores.core.analytic_policies import LinearTracker
from mores.core.deterministic_sum import mean
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.human import Human
from mores.core.names import (
    PersonNames,
    ValueNames,
    check_num_names,
    check_num_people,
    fill_num_values,
)
from mores.core.parameter_tensor import ParameterTensor
from mores.core.people import People, Population
from mores.core.person_parameters import (
    PersonParameter,
    add_parameters,
    person_number,
    person_parameters,
    resolve_parameters,
)
from mores.core.plain_text import read_parts
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Part
from mores.core.turn_text import TurnText
from mores.core.value_checking import values_are_checked
from mores.envs.dynamics import advice, cohorts
from mores.envs.dynamics.audience import (
    Audience,
    Audiences,
    ReceivedAdvice,
    check_groups,
    num_audiences,
)
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.history import History
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.people_dynamics import PeopleDynamics
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.graphs.influence_graph import MAX_CLOSED_FORM, InfluenceGraph
from mores.envs.opinion import coevolution_state, progress_challenges, tracking_lag
from mores.envs.opinion import coevolution_text as texts
from mores.envs.opinion.coevolution_state import CoevolutionState
from mores.envs.opinion.progress_challenges import Challenge
from mores.registry.component import component
from mores.registry.varying import PersonNumber

MAX_OUTSIDE = 0.05  # share of initial values beyond the limit that is no mistake of units


class Coevolution(PeopleDynamics, Environment[CoevolutionState]):
    """Values of people who are influenced by AI assistants, peers and external history.

    Description:
        A value is one coordinate of a person's attitudes. Every round people report their values,
        assistants observe answers and advise, and history, peers, advice and noise change people's
        values. History is a trend outside the community. An assistant observes the mean answer of
        each `audience` (everybody, each group, or each person) and gives each its own advice.
        `human` is the human model: how stable values are, how noisy answers are and how far a
        conversation moves a person; the default is fitted to survey data. Parameters may differ
        between people (`mores.core.person_parameters`). Left out: language and topics; membership
        in several groups; choice of assistants; changes of the graph; effects of people on history;
        costs of advice.

    Roles:
        person (`num_people`): answers
        assistant (`num_assistants` times the number of audiences; 0: none): advises. One agent
            for each assistant and audience, assistant by assistant: with A audiences,
            `assistant_0` to `assistant_<A-1>` are the first assistant. A learner shares parameters
            among the agents of the role as in every environment (`parameter_sharing`).

    Observation (value units; n = `num_values`, b = `value_limit`; no values of other persons):
        person     values               n  [-b, b]     the person's; in the challenges follow and
                                                       predict after step 3
        person     advice               n  [-b, b]     last advice, mean weighted by intensity, or 0
        person     neighbor_mean        n  [-b, b]     weighted mean of neighbors' last answers
        person     relative_volatility  1  [0, inf)    the person's, relative to the root mean
                                                       square over people; only if
                                                       volatility_heterogeneity > 0
        assistant  mean_answer          n  [-b, b]     mean of this round's answers of the audience;
                                                       of everybody if its group is empty
        assistant  community_mean       n  [-b, b]     mean answer of everybody; only if `audience`
                                                       is not everybody
        assistant  trend                n  (-inf, inf) last movement of history
        assistant  initial_history      n  [-b, b]     first row of history; in challenges
        assistant  forecast_horizon     1  [0, rows)   rounds to forecast ahead; in challenges
        assistant  target               n  [-b, b]     position of history (in predict, at the
                                                       horizon); only with `observe_target`

    Action:
        person     phase answer: `answer`, n numbers in [-b, b], the reported values
        assistant  phase advise: `position`, n numbers in [-b, b], the advice; `intensity` in
                   [0, 1], its weight (0: no advice)

    Reward:
        Approval of an assistant by a person is `intensity * exp(-d^2 / 2)`, in [0, 1], with d the
        root mean square over value dimensions of advice minus values before step 2. A person's
        reward is its mean over assistants, that of an agent of an assistant its mean over the
        people of the audience (0 if its group is empty).

    Dynamics (H values of a person, G history, o advice), in this order:
        1. G moves by drift and noise, or to the next row; people answer; assistants advise.
        2. The deviation of H from the person's disposition decays and gets noise (`trait_state`).
        3. H += history.attraction (G - H).
        4. The update rule of `peers` moves H by the answers of the people to whom a person
           listens. Its anchor is the initial disposition, or H after step 3 if values revert to
           dispositions.
        5. H += ai_influence * mean over assistants of intensity * trust * (o - H), where the
           Euclidean distance |o - H| is at most confidence_bound. o is the advice to the person's
           audience, trust the person's trust in the assistant.
        6. H += history.drift_share * (movement of G) + noise. If values revert, only a share of
           the change in steps 3 to 6 moves the disposition (`trait_state`). H is clamped to
           [-b, b].
        7. Trust is updated (`trust`); newcomers replace people (`cohorts`). A newcomer has the
           group of its parent. If each person is an audience, the newcomer takes the audience of
           the person that it replaces, and `cohorts.tutoring_share` refers to the advice to it.
        Steady state of one trusted assistant that tracks truthful answers with learning rate eta
        and forecasts L rounds, without attraction and peers: with drift g, `drift_share` 1 and
        influence alpha the velocity is `g eta (1 + alpha L) / (alpha + eta)`, and the mean leads
        the assistant by `g (1 - eta L) / (alpha + eta)`: `analytic_values`. Both hold for every
        audience. Deviations from its mean are multiplied by 1 - alpha every round.

    Start:
        Values from a population, else normal with standard deviation `initial_std` around 0, or
        around the first row of a trajectory. History: that row, else the people's mean.

    End:
        In a challenge it terminates after the last scored round; else never (truncation only).

    Parameters:
        The fields of this class, each with range and meaning. Trust, influence, confidence bound,
        noise, persistence, attraction to history and parameters of update rules may be person
        parameters; their samples are traits of the people, named by the path of the field.

    References:
        ProgressGym: Qiu et al. 2024, arXiv 2406.20087. DeGroot 1974; Friedkin and Johnsen 1990.
    """

    model_config = ConfigDict(populate_by_name=True)  # a copy has the fields by their own names

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 2,
        "changes": "values",
        "stochastic": True,
        "paper": "2406.20087",
    }

    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mean_value": ("value",),
        "values": ("person", "value"),
        "disposition": ("person", "value"),
        "history_position": ("value",),
        "advice": ("assistant", "value"),
    }

    num_people: int = Field(default=20, ge=1, le=10_000_000, description="number of people")
    num_values: int = Field(
        default=2,
        ge=1,
        le=10_000,
        description="number of value dimensions; default with a trajectory: that of the trajectory",
    )
    names_of_values: ValueNames = Field(
        default=(),
        alias="value_names",
        description="names of the values, or a named set (schwartz10, schwartz4); sets num_values; "
        "replaced by the names of a population that has them",
    )
    person_names: PersonNames = Field(
        default=(),
        description="names of the people in their order, for a graph file that names them; "
        "default: those of the population",
    )
    num_assistants: int = Field(default=1, ge=0, le=10_000, description="number of assistants")
    audience: Audience = Field(
        default="everybody",
        description="people whose answers an assistant observes as one mean and to whom it gives "
        "one advice: everybody, each group, or each person",
    )
    num_groups: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="number of groups of people, for audience: group; default: that of the "
        "population",
    )
    initial_std: float = Field(
        default=1.0,
        ge=0,
        description="standard deviation of initial values; default with a trajectory: 0",
    )
    value_limit: float = Field(
        default=10.0, gt=0, description="values are clamped to [-limit, limit]"
    )
    history: History = Field(
        default=History(), description="trend outside the community, and its effect on people"
    )
    challenge: Challenge = Field(
        default="none",
        description="ProgressGym challenge: follow, predict or coevolve; sets defaults of history "
        "(progressgym_digitized), history.attraction and ai_influence",
    )
    forecast_horizon: int = Field(
        default=1, ge=1, description="challenge predict: number of rounds to forecast ahead"
    )
    observe_target: bool = Field(
        default=False, description="whether assistants observe `target`, the position to predict"
    )
    peers: Peers = Field(default=Peers(), description="peer influence; default: none")
    human: Annotated[Human, component("human")] = Field(
        default="fitted",
        validate_default=True,
        description="human model, in population standard deviations and years: gives the defaults "
        "of trait_state, ai_influence and answer noise; default in a challenge: idealised",
    )
    rounds_per_year: float = Field(
        default=12.0, gt=0, le=1e6, description="number of rounds in a year, for `human`"
    )
    population_std: float | None = Field(
        default=None,
        ge=0,
        description="standard deviation of the population's dispositions, value units: the unit of "
        "`human`; default: that of the population, else initial_std",
    )
    trait_state: TraitStateDynamics | None = Field(
        default=None,
        description="persistence of changes of values, in rounds and value units; default: that of "
        "`human`. Fields that are not given have the defaults below, not those of `human`",
    )
    trust: Trust = Field(default=Trust(), description="trust in assistants; default: full")
    cohorts: Cohorts = Field(default=Cohorts(), description="replacement of people; default: none")
    ai_influence: Annotated[float, PersonNumber(ge=0, le=1)] | None = Field(
        default=None,
        description="share of the distance to advice closed per round; default: `influence` of "
        "`human`",
    )
    confidence_bound: Annotated[float, PersonNumber(gt=0)] | None = Field(
        default=None,
        description="Euclidean distance from values to advice beyond which advice has no effect, "
        "value units; null: none",
    )
    noise_std: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of noise of values per round, value units"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        data = fill_num_values(data)
        return progress_challenges.fill_defaults(data) if isinstance(data, dict) else data

    def model_post_init(self, context: Any) -> None:
        """Check that the parameters are compatible."""
        check_num_people(self.person_names, self.num_people)
        self.peers.check_parameters(self.num_people, self.person_names)
        check_num_names(self.names_of_values, self.num_values)
        progress_challenges.check_challenge(
            self.challenge, self.forecast_horizon, self.history, self.num_values, self.value_limit
        )
        num_audiences(self.audience, self.num_people, self.num_groups)
        self.check_human()
        if self.challenge != "none" and self.audience != "everybody":
            raise ParameterError(
                "audience",
                message=f"challenge {self.challenge} scores advice to everybody; "
                f"audience is {self.audience}",
                code="conflict",
            )

    @functools.cached_property
    def _differing(self) -> dict[str, PersonParameter]:
        """Person parameters by path."""
        names = ("confidence_bound", "noise_std", "trust", "history", "peers", "cohorts")
        fields = {name: getattr(self, name) for name in names}
        return person_parameters(
            {**fields, "trait_state": self.dynamics, "ai_influence": self.influence}
        )

    def _resolved(
        self, name: str, traits: Mapping[str, Tensor], streams: RandomStreams | None = None
    ) -> Any:
        """The config of a field, with tensors in place of person parameters."""
        config = getattr(self, name)
        return resolve_parameters(config, traits, name, streams) if self._differing else config

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, and `assistant` if there are assistants."""
        part = Part(self.num_values, -self.value_limit, self.value_limit)
        extra = {"relative_volatility": 1} if self.dynamics.volatility_heterogeneity else {}
        space = Box.of(values=part, advice=part, neighbor_mean=part, **extra)
        person = Role("person", self.num_people, space)
        extra = progress_challenges.extra_parts(
            self.challenge, self.history, self.observe_target, part
        )
        community = {} if self.audience == "everybody" else {"community_mean": part}
        space = Box.of(mean_answer=part, **community, trend=self.num_values, **extra)
        assistant = Role("assistant", self._audiences.num_agents, space)
        return (person, assistant) if self.num_assistants else (person,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, then `advise` if there are assistants."""
        part = Part(self.num_values, -self.value_limit, self.value_limit)
        answer = Phase("answer", {"person": Box.of(answer=part)})
        advise = Phase("advise", {"assistant": Box.of(position=part, intensity=Part(1, 0.0, 1.0))})
        return (answer, advise) if self.num_assistants else (answer,)

    @property
    def value_names(self) -> tuple[str, ...]:
        """See `Environment`."""
        return self.names_of_values

    @functools.cached_property
    def _value_labels(self) -> list[str]:
        return texts.value_labels(self.names_of_values, self.num_values)

    def role_rules(self, role: str) -> str:
        """Values, advice and approval."""
        numbers = (self.num_people, self.num_assistants)
        settings = (self.value_limit, *numbers, self.audience, self.challenge)
        return texts.rules(role, self._value_labels, *settings)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Own values, advice and neighbors, or the answers and the trend."""
        seen = read_parts(self._observation_spaces[role], observation)
        if role == "person":
            numbers = (self.value_limit, self.num_assistants)
            return texts.person_turn(seen, self._value_labels, *numbers)
        return texts.assistant_turn(seen, self._value_labels, self.value_limit)

    def reset(self, streams: RandomStreams, people: People | None = None) -> CoevolutionState:
        """Initial state: no answers and no advice yet (zeros)."""
        if people is None:
            people = People(
                self.initial_std * streams.normal("values", self.num_people, self.num_values)
            )
            if self.history.trajectory_values is not None:
                first = self.history.trajectory_values[0].to(people.values.device)
                people = People(people.values + first)
        if tuple(people.values.shape[1:]) != (self.num_people, self.num_values):
            sizes = "{} people with {} values".format(*people.values.shape[1:])
            raise UserError(
                f"the population has {sizes}; the environment has num_people={self.num_people}, "
                f"num_values={self.num_values}",
                code="wrong_shape",
                path="population",
            )
        if values_are_checked():
            self._check_limit(people)
        if self.audience == "group":
            check_groups(people, self._audiences.num_audiences)
        people = add_parameters(people, self._differing, streams)
        rates = self.dynamics.rates_of_people(people.traits, "trait_state")
        trait_state = self.dynamics.initial_state(people.values, streams.child("person"), rates)
        trait_state = self.dynamics.clamp(trait_state, -self.value_limit, self.value_limit)
        values = trait_state.values
        no_advice = values.new_zeros(len(values), self._audiences.num_agents, self.num_values)
        start = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        has_rows = self.history.trajectory_values is not None
        graph = rule_state = None
        if self.peers.rule is not None:
            if self._shared_graph is None:
                graph = self.peers.world_graphs(values, streams)
            rule_state = self.peers.rule.initial_state(
                values, graph or self._graph_on(values.device), streams.child("rule")
            )
        return CoevolutionState(
            people=dataclasses.replace(people, values=values),
            trait_state=trait_state,
            trust=self._initial_trust(people, no_advice),
            anchor=trait_state.disposition,
            initial_mean=mean(values, 1),
            initial_mean_disposition=mean(trait_state.disposition, 1),
            answers=torch.zeros_like(values),
            history_position=self.history.position_at(start) if has_rows else mean(values, 1),
            trend=torch.zeros_like(values[:, 0]),
            previous_values=values,
            advice=no_advice,
            intensity=no_advice[..., 0],
            neighbor_mean=torch.zeros_like(values),
            graph=graph,
            rule_state=rule_state,
            rounds_elapsed=start,
            challenge_record=progress_challenges.initial_record(
                self._num_scored_rounds, values, self.num_assistants
            ),
        )

    def _check_limit(self, people: People) -> None:
        """Refuse people of whom many would be moved to the limit, as if a scale had another unit.

        Raises:
            UserError: more than `MAX_OUTSIDE` of the values are beyond `value_limit`.
        """
        outside = (people.values.abs() > self.value_limit).to(torch.float64).mean().item()
        if outside > MAX_OUTSIDE:
            largest = people.values.abs().max().item()
            raise UserError(
                f"value_limit: {100 * outside:.3g} % of people's initial values are beyond "
                f"{self.value_limit:g} and would be moved there; the largest is {largest:.4g}",
                code="out_of_range",
                path="value_limit",
            )

    def observe(self, state: CoevolutionState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        space = self._observation_spaces[role]
        if role == "person":
            values = state.people.values
            if self.challenge in ("follow", "predict"):
                history = self._resolved("history", state.people.traits)
                values = history.attract(values, history.position_at(state.rounds_elapsed + 1))
            received = advice.mean_advice(*self._received(state))
            extra = {"relative_volatility": state.trait_state.relative_volatility[..., None]}
            extra = extra if "relative_volatility" in space.parts else {}
            return space.join(
                values=values, advice=received, neighbor_mean=state.neighbor_mean, **extra
            )
        extra = progress_challenges.extra_observation(
            space,
            self.challenge,
            self.forecast_horizon,
            self.history,
            state.history_position,
            state.rounds_elapsed,
        )
        community_mean = mean(state.answers, 1)[:, None]
        mean_answer = community_mean
        if "community_mean" in space.parts:
            extra["community_mean"] = community_mean
            mean_answer = self._audiences.mean_by_audience(
                state.answers, state.people.groups, community_mean
            )
        mean_answer = mean_answer[:, :, None].expand(-1, -1, self.num_assistants, -1)
        mean_answer = self._audiences.by_agent(mean_answer)
        return space.join(mean_answer=mean_answer, trend=state.trend[:, None], **extra)

    def step(
        self,
        state: CoevolutionState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[CoevolutionState]:
        """`answer` moves history and records answers; the last phase moves the people."""
        if phase == "answer":
            history = self._resolved("history", state.people.traits, streams)
            position, trend = history.step(state.history_position, state.rounds_elapsed, streams)
            state = dataclasses.replace(
                state,
                answers=actions["person"].clamp(-self.value_limit, self.value_limit),
                trend=trend,
                history_position=position,
                rounds_elapsed=state.rounds_elapsed + 1,
            )
            if self.num_assistants:
                return StepResult(state)
            return self._finish_round(self._move_people(state, streams), {})
        action, space = actions["assistant"], self._advice_space
        action = space.clamp(action)
        state = dataclasses.replace(
            state,
            advice=space.read(action, "position"),
            intensity=space.read(action, "intensity")[..., 0],
        )
        approval = advice.approval(state.people.values, *self._received(state))
        by_audience = self._audiences.mean_by_audience(approval, state.people.groups, 0.0)
        reward = {"person": mean(approval, 2), "assistant": self._audiences.by_agent(by_audience)}
        return self._finish_round(self._move_people(state, streams), reward)

    def _move_people(self, state: CoevolutionState, streams: RandomStreams) -> CoevolutionState:
        """Steps 2 to 7 of the dynamics."""
        neighbor_mean, rule_state = state.neighbor_mean, state.rule_state
        traits = state.people.traits
        history = self._resolved("history", traits, streams)
        trait_state = self.dynamics.advance_round(state.trait_state, streams.child("person"))
        values_before = trait_state.values
        values = history.attract(values_before, state.history_position)
        if self.peers.rule is not None:
            # mean reversion already anchors people at their dispositions
            anchor = values if self.dynamics.mean_reverting else state.anchor
            graph = state.graph or self._graph_on(values.device)
            values, neighbor_mean, rule_state = self._resolved("peers", traits).move(
                values, state.answers, anchor, graph, state.rule_state, streams.child("rule")
            )
        if self.num_assistants:
            displacement = advice.advice_displacement(
                values,
                *self._received(state),
                None if self._trust_is_full else state.trust,
                person_number(self.confidence_bound, traits, "confidence_bound"),
            )
            values = values + person_number(self.influence, traits, "ai_influence") * displacement
        if self.history.drift_share:
            moved = state.trend[:, None]
            if self.history.drift_share != 1:
                moved = history.drift_share * moved
            values = values + moved
        noise_std = person_number(self.noise_std, traits, "noise_std")
        if isinstance(noise_std, Tensor) or noise_std:
            values = values + noise_std * streams.normal("noise", self.num_people, self.num_values)
        trait_state = self.dynamics.displace(trait_state, values - values_before)
        trait_state = self.dynamics.clamp(trait_state, -self.value_limit, self.value_limit)
        people = dataclasses.replace(state.people, values=trait_state.values)
        trust = state.trust
        if self.trust.learns:
            rule, received = self._resolved("trust", traits), self._received(state)
            evidence = rule.evidence(people.values, received.position)
            trust = rule.update(trust, evidence, received.intensity)
        state = dataclasses.replace(
            state,
            people=people,
            trait_state=trait_state,
            trust=trust,
            neighbor_mean=neighbor_mean,
            rule_state=rule_state,
            previous_values=state.people.values,
        )
        if not self.cohorts.turnover:
            return state
        return self._replace_people(state, streams.child("cohort"))

    def _replace_people(self, state: CoevolutionState, streams: RandomStreams) -> CoevolutionState:
        """Replace some people by newcomers."""
        old = state.people
        trust_before = self._initial_trust(old, state.advice)
        bound = person_number(self.confidence_bound, old.traits, "confidence_bound")

        def displacement(values: Tensor, parent: Tensor) -> Tensor:
            groups = None if old.groups is None else old.groups.gather(1, parent)
            received = self._audiences.received(state.advice, state.intensity, groups)
            trust = cohorts.parent_values(trust_before, parent)
            limit = bound
            if isinstance(bound, Tensor):
                limit = ParameterTensor.of(cohorts.parent_values(bound, parent))
            return advice.advice_displacement(values, *received, trust, limit)

        succession = self._resolved("cohorts", old.traits, streams)
        newcomers = succession.sample_newcomers(
            state.trait_state.disposition, displacement, streams
        )
        is_new = newcomers.is_new
        people = cohorts.replace_people(old, newcomers)
        rates = self.dynamics.rates_of_people(people.traits, "trait_state")
        trait_state = self.dynamics.replace(
            state.trait_state, is_new, newcomers.disposition, streams, rates
        )
        trait_state = self.dynamics.clamp(trait_state, -self.value_limit, self.value_limit)
        initial_trust = self._initial_trust(people, state.advice)
        return dataclasses.replace(
            state,
            people=dataclasses.replace(people, values=trait_state.values),
            trait_state=trait_state,
            trust=torch.where(is_new[..., None], initial_trust, state.trust),
            anchor=torch.where(is_new[..., None], trait_state.disposition, state.anchor),
        )

    def _initial_trust(
        self, people: People, last_advice: Float[Tensor, "world assistant_agent value"]
    ) -> Float[Tensor, "world agent assistant"]:
        """Trust of new people in each assistant; `last_advice` only gives the number of them."""
        rule = self._resolved("trust", people.traits)
        return rule.initial_state(people.values, last_advice[:, : self.num_assistants])

    def _finish_round(
        self, state: CoevolutionState, reward: Mapping[str, Tensor]
    ) -> StepResult[CoevolutionState]:
        """Result of the last phase; a challenge records the round and terminates after its last."""
        if state.challenge_record is None:
            return StepResult(state, reward)
        record = progress_challenges.record_round(
            state.challenge_record, state.rounds_elapsed, state.people.values, state.advice
        )
        terminated = state.rounds_elapsed >= self._num_scored_rounds
        return StepResult(dataclasses.replace(state, challenge_record=record), reward, terminated)

    def metrics(self, state: CoevolutionState) -> Mapping[str, Tensor]:
        """Metrics of each world, value units unless stated; NaN if undefined here.

        mean_value: mean of people's values `[world, value]`
        drift: distance of the mean value from its start
        disposition_drift: distance of the mean disposition, the permanent part, from its start
        rms_distance: root mean square over people of the distance from the mean value
        velocity: movement of the mean value in the last round, mean over value dimensions
        tracking_lag: mean value before that movement minus the advice received, mean over people,
            assistants and value dimensions
        trust: mean over people and assistants, in [0, 1]
        distance_to_history: distance of the mean value from history
        group_gap: distance between the mean values of the first and the last group of people
        contraction_factor: rms_distance divided by rms_distance one round before
        distance_to_equilibrium: largest distance of a person from the equilibrium of `peers`
        cosine_score, skill_score, centered_cosine: in a challenge, over the rounds scored so far:
            ProgressGym's score, and two relative to history's first row (`progress_challenges`)
        rounds_scored: in a challenge
        """
        return {
            **coevolution_state.community_metrics(
                state, self._received(state), self._equilibrium_matrix
            ),
            **self._challenge_metrics(state),
        }

    def _challenge_metrics(self, state: CoevolutionState) -> dict[str, Tensor]:
        """Scores of the challenge; NaN without one."""
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
        """See `Environment`."""
        per_person = 4 * self.num_values + 3
        if self.peers.rule is not None:
            per_person += self.peers.graph.elements_per_person
        if self.audience == "everybody":
            return self.num_people * per_person
        advice = self.num_values + 1
        per_person += self.num_assistants * advice  # received advice
        per_agent = self.roles[-1].observation_space.size + 2 * advice
        return self.num_people * per_person + self._audiences.num_agents * per_agent

    def latent(self, state: CoevolutionState) -> Mapping[str, Tensor]:
        """Values and dispositions of people, history's position, and the advice.

        values, disposition: of people `[world, person, value]`
        history_position: `[world, value]`
        advice: last position of each agent of the role assistant `[world, agent, value]`
        """
        return {
            "values": state.people.values,
            "disposition": state.trait_state.disposition,
            "history_position": state.history_position,
            "advice": state.advice,
        }

    def check_population(self, population: Population) -> None:
        """Refuse people of other names than a graph file's: see `Peers.check_population`."""
        self.peers.check_population(population, self.person_names)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on the graph of the peers."""
        return self.peers.remarks(self.num_people, self.person_names)

    def people(self, state: CoevolutionState) -> People:
        """People with their present values."""
        return state.people

    def influence_graph(self, state: CoevolutionState) -> InfluenceGraph | None:
        """Graph of the peers, if there is a rule."""
        if self.peers.rule is None:
            return None
        return state.graph or self._graph_on(state.people.values.device)

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Velocity and tracking lag of a linear tracker, and analytic values of the update rule.

        velocity, tracking_lag: in the steady state, if people answer truthfully, trust is 1 and
        history drifts (class docstring). The others: `UpdateRule.analytic_values`, if the graph is
        shared by all worlds and small.
        """
        result: dict[str, Any] = {}
        if self._closed_form_graph is not None and self.peers.rule is not None:
            result |= self.peers.rule.analytic_values(self._closed_form_graph)
        assistant = policies.get("assistant")
        history = self.history
        pure_drift = (
            history.drift_share == 1
            and not history.attraction
            and history.trajectory_values is None
        )
        linear = self.confidence_bound is None and self._trust_is_full
        linear = linear and self._displacements_persist
        linear = linear and pure_drift and self.peers.rule is None
        linear = linear and isinstance(self.influence, float) and isinstance(history.drift, float)
        tracking = assistant.tracking if isinstance(assistant, LinearTracker) else None
        if linear and tracking is not None:
            alpha, eta = self.influence, tracking.learning_rate
            loop = (history.drift, alpha, eta, tracking.forecast_horizon)
            if tracking_lag.converges(alpha, eta):
                result["velocity"] = tracking_lag.velocity(*loop)
                result["tracking_lag"] = tracking_lag.lag(*loop)
        return result

    def _received(self, state: CoevolutionState) -> ReceivedAdvice:
        """The last advice that each person received."""
        return self._audiences.received(state.advice, state.intensity, state.people.groups)

    @functools.cached_property
    def _audiences(self) -> Audiences:
        """The audiences of the assistants."""
        count = num_audiences(self.audience, self.num_people, self.num_groups)
        return Audiences(self.audience, self.num_assistants, count)

    @functools.cached_property
    def _trust_is_full(self) -> bool:
        """Whether trust is always 1."""
        return self.trust.initial_trust == 1 and not self.trust.learns

    @property
    def _displacements_persist(self) -> bool:
        """Whether values change by influence and drift alone, and permanently."""
        dynamics = self.dynamics
        noise = dynamics.disposition_noise_std
        return not (dynamics.mean_reverting or noise or self.cohorts.turnover)

    @property
    def _moved_by_peers_only(self) -> bool:
        """Whether only peers move people."""
        history = self.history.attraction or self.history.drift_share
        assistants = self.num_assistants and self.influence
        return self._displacements_persist and not (history or assistants or self.noise_std)

    @functools.cached_property
    def _shared_graph(self) -> InfluenceGraph | None:
        """The graph of all worlds; None: each has its own, or there is none."""
        return self.peers.shared_graph(self.num_people, self.person_names)

    @functools.cached_property
    def _graph_by_device(self) -> dict[torch.device, InfluenceGraph]:
        return {}

    def _graph_on(self, device: torch.device) -> InfluenceGraph:
        """The graph of all worlds on a device."""
        if device not in self._graph_by_device:
            assert self._shared_graph is not None
            self._graph_by_device[device] = self._shared_graph.to(device)
        return self._graph_by_device[device]

    @functools.cached_property
    def _closed_form_graph(self) -> InfluenceGraph | None:
        """The graph of all worlds if only the rule moves people and there are few of them."""
        if not self._moved_by_peers_only or self.num_people > MAX_CLOSED_FORM:
            return None
        return self._shared_graph

    @functools.cached_property
    def _equilibrium_matrix(self) -> Tensor | None:
        """Weights of initial values (columns) in equilibrium values; None: unknown."""
        if self._closed_form_graph is None or self.peers.rule is None:
            return None
        matrix = self.peers.rule.equilibrium_matrix(self._closed_form_graph)
        return None if matrix is None else torch.from_numpy(matrix).to(torch.float32)

    def default_policies(self) -> Mapping[str, Any]:
        """People with the answer noise of `human`; assistants that repeat the mean answer."""
        assistant = {"assistant": "mean_echo"} if self.num_assistants else {}
        noise_std = self.human_in_rounds.answer_noise_std
        person: Any = "truthful"
        if isinstance(noise_std, PersonParameter) or noise_std > 0:
            person = {"kind": "survey_respondent", "noise_std": noise_std}
        return {"person": person, **assistant}

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
