"""Opinion dynamics on a graph with written messages, between people and with an assistant.

Values follow either the attitudes that policies state after reading (language models), or an update
rule of opinion dynamics on the same graph; both use the same random numbers. Prompts:
`message_topic`; senders and readers: `message_routing`; scripted policies: `message_policies`.

Demo: `python -m mores.envs.opinion.opinion_messages`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.human import Human
from mores.core.names import PersonNames, check_num_people
from mores.core.people import People, Population
from mores.core.people_statistics import rms_distance
from mores.core.plain_text import quoted
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Part
from mores.core.turn_text import END_OF_MESSAGE, TurnText, decode_message, message_space
from mores.envs.dynamics.friedkin_johnsen import FriedkinJohnsen
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.people_dynamics import PeopleDynamics
from mores.envs.dynamics.trait_state import TraitState, TraitStateDynamics
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.envs.graphs.networkx_generator import NetworkxGenerator
from mores.envs.opinion import message_routing
from mores.envs.opinion.message_policies import nearest_option
from mores.envs.opinion.message_topic import Topic
from mores.registry.component import component

MAX_RENDERED = 8  # people whose messages are shown
RING = NetworkxGenerator(generator="watts_strogatz", parameters={"k": 2, "p": 0.0})


@dataclasses.dataclass(frozen=True)
class OpinionMessagesState:
    """State at the end of a phase. Messages are codes of bytes (`mores.core.turn_text`)."""

    people: People  # with current values
    trait_state: TraitState  # used with value_source rule
    initial_values: Float[Tensor, "world agent value"]
    stated: Float[Tensor, "world agent option"]  # last stated probabilities of the options
    messages: Int[Tensor, "world agent byte"]  # last message of each person
    previous_messages: Int[Tensor, "world agent byte"]  # messages of the round before
    senders: Int[Tensor, "world reader message"]  # by reader: people, then assistants; -1: none
    replies: Int[Tensor, "world assistant byte"]  # last message of each assistant
    graph: InfluenceGraph | None  # None: all worlds share one graph
    rule_state: Any  # state of the update rule of `peers`
    rounds_elapsed: Int[Tensor, " world"]


class OpinionMessages(PeopleDynamics, Environment[OpinionMessagesState]):
    """Attitudes of people who exchange messages with neighbors on a graph and with an assistant.

    Description:
        People hold a value, their attitude on a scale of statements about one topic (`topic`).
        Every round each person writes a message, reads messages of at most `max_messages_read`
        graph neighbors and one of an assistant, and states its attitude. `value_source` selects the
        dynamics. stated: the value is the mean of the stated probabilities, so that messages have
        an effect only through the policy that reads them, for example a language model. rule:
        values change by the update rule of `peers` on the neighbors' stated attitudes, by the
        assistant's position, and by individual drift (`human`); the text of messages has no effect.
        Both have the same people, graph and random numbers. Left out: several topics, messages to
        some neighbors only, choice of neighbors or assistant, changes of the graph, deception about
        the sender. There is no protection against prompt injection: a policy that reads messages
        may follow instructions in them.

    Roles:
        person (`num_people`): states its attitude.
        writer (`num_people`): writes the messages of the person with the same index. It is a
            separate role, since an agent has one action space.
        assistant (1, or `num_people` with `audience: person`): replies.

    Observation (L = `value_limit`, B = `max_bytes`, m = `max_messages_read`; a message is a vector
    of byte values, padded with 256):
        person, writer  values         1     [-L, L]   own attitude, value units
        person, writer  initial_value  1     [-L, L]   at the start of the episode
        person, writer  own_message    B     [0, 256]  last message of the own writer
        person, writer  received_messages
                                       m B   [0, 256]  messages read last, in random order
        person, writer  reply          B     [0, 256]  last message of the assistant; empty without
                                                       `assistant_is_read`
        assistant       own_message    B     [0, 256]  own last message
        assistant       received_messages
                                       m B   [0, 256]  messages of a random sample of people; with
                                                       `audience: person` of its person alone

    Action (K statements of the topic):
        writer     phase write: `message_space(B)`, read by graph neighbors of the person and by the
                   assistant.
        assistant  phase reply: `message_space(B)`, read by its audience.
        person     phase state: `stated`, K numbers in [0, 1], the probabilities of the statements
                   (normalized; all 0 counts as uniform).

    Reward:
        assistant: closeness of its audience to `assistant_aim`, the mean of
        `1 - |value - aim| / (2 L)` after the round, in [0, 1]; 0 without an aim.
        person, writer: none.

    Dynamics (x value, s mean of the stated probabilities over evenly spaced positions -L ... L):
        value_source stated: x' = s.
        value_source rule: the deviation from the person's disposition reverts to 0 with noise
        (`trait_state`); the rule of `peers` moves x by all neighbors' s; then x +=
        ai_influence (o - x), unless the assistant's message is empty or not read. o is the position
        of `assistant_aim`, or without an aim the mean of s over the audience. A share of these
        changes is permanent (`trait_state`). x is clamped to [-L, L].

    Start:
        Dispositions from a population with one value, else normal with `initial_std` around 0;
        values add deviations as in `trait_state` and are clamped, with both value sources. No
        messages.

    End:
        Never (truncation only).

    Parameters:
        See the fields.

    References:
        DeGroot 1974; Friedkin and Johnsen 1990, for the rules. Chuang et al. 2024, arXiv
        2311.09618, simulate opinion dynamics with networks of language models.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 3,
        "changes": "values",
        "stochastic": True,
        "text": True,
    }
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mean_value": ("value",),
        "values": ("person", "value"),
        "attitude": ("person",),
    }

    num_people: int = Field(default=6, ge=2, le=1000, description="number of people")
    person_names: PersonNames = Field(
        default=(),
        description="names of the people in their order, for a graph file that names them; "
        "default: those of the population",
    )
    topic: Topic = Field(default=Topic(), description="question, and scale of attitudes in words")
    max_bytes: int = Field(default=120, ge=1, le=10_000, description="largest size of a message")
    max_messages_read: int = Field(
        default=2,
        ge=0,
        le=100,
        description="largest number of messages of people that an agent reads per round",
    )
    audience: Literal["everybody", "person"] = Field(
        default="everybody",
        description="recipients of the assistant's messages. everybody: one message to all people; "
        "person: a separate message to each",
    )
    assistant_aim: int | None = Field(
        default=None,
        ge=0,
        description="index of the statement, from 0, that the assistant's prompt tells it to argue "
        "for; null: the prompt tells it to stay neutral",
    )
    assistant_is_read: bool = Field(
        default=True, description="whether people read the assistant's messages"
    )
    value_source: Literal["stated", "rule"] = Field(
        default="rule",
        description="dynamics of values. stated: the value is the attitude that the person states; "
        "rule: it changes by `peers`, the assistant's position and `human`",
    )
    value_limit: float = Field(
        default=2.0, gt=0, description="values of the first and the last statement: -limit, limit"
    )
    initial_std: float = Field(
        default=1.0, ge=0, description="standard deviation of initial values, value units"
    )
    population_std: float | None = Field(
        default=None,
        ge=0,
        description="standard deviation of the population's dispositions, value units: the unit of "
        "`human`; default: that of the population, else initial_std",
    )
    peers: Peers = Field(
        default=Peers(rule=FriedkinJohnsen(susceptibility=0.15), graph=RING),
        description="directed graph of readers and senders, and update rule of values with "
        "value_source rule; its anchor is the value before the rule, or the initial one if changes "
        "persist",
    )
    human: Annotated[Human, component("human")] = Field(
        default="fitted",
        validate_default=True,
        description="human model of people with value_source rule, in population standard "
        "deviations and years: gives the defaults of trait_state and ai_influence",
    )
    rounds_per_year: float = Field(
        default=12.0, gt=0, le=1e6, description="number of rounds in a year, for `human`"
    )
    trait_state: TraitStateDynamics | None = Field(
        default=None,
        description="persistence of values, in rounds and value units; default: that of `human`. "
        "Fields that are not given have the defaults below, not those of `human`",
    )
    ai_influence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the distance to the assistant's position that a message closes, with "
        "value_source rule; default: `influence` of `human`",
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        if self.peers.rule is None:
            message = "needs a rule: the graph is also that of the messages"
            raise ParameterError("peers", "rule", message=message, code="missing")
        check_num_people(self.person_names, self.num_people)
        self.peers.check_parameters(self.num_people, self.person_names)
        if self.assistant_aim is not None and self.assistant_aim >= self.num_options:
            message = f"the topic has {self.num_options} statements, numbered from 0"
            raise ParameterError("assistant_aim", message=message, code="out_of_range")
        self.check_human()

    # --- parts ------------------------------------------------------------------------------------

    @property
    def num_options(self) -> int:
        """Number of statements of the scale."""
        return len(self.topic.statements)

    @functools.cached_property
    def option_values(self) -> Float[Tensor, " option"]:
        """Value of each statement, evenly spaced, value units."""
        step = 2.0 * self.value_limit / (self.num_options - 1)
        return torch.arange(self.num_options, dtype=torch.float32) * step - self.value_limit

    @functools.cached_property
    def num_assistants(self) -> int:
        """Number of agents of the role assistant."""
        return 1 if self.audience == "everybody" else self.num_people

    @functools.cached_property
    def _spaces(self) -> dict[str, Box]:
        value = Part(1, -self.value_limit, self.value_limit)
        message = Part(self.max_bytes, 0.0, float(END_OF_MESSAGE))
        received = Part(self.max_messages_read * self.max_bytes, 0.0, float(END_OF_MESSAGE))
        person = Box.of(
            values=value,
            initial_value=value,
            own_message=message,
            received_messages=received,
            reply=message,
        )
        assistant = Box.of(own_message=message, received_messages=received)
        return {"person": person, "writer": person, "assistant": assistant}

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`, `writer`, `assistant`."""
        counts = {"assistant": self.num_assistants}
        return tuple(
            Role(name, counts.get(name, self.num_people), space)
            for name, space in self._spaces.items()
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`write`, `reply`, `state`."""
        message = message_space(self.max_bytes)
        stated = Box.of(stated=Part(self.num_options, 0.0, 1.0))
        return (
            Phase("write", {"writer": message}),
            Phase("reply", {"assistant": message}),
            Phase("state", {"person": stated}),
        )

    @functools.cached_property
    def _shared_graph(self) -> InfluenceGraph | None:
        """Graph that all worlds share; None: each has its own."""
        return self.peers.shared_graph(self.num_people, self.person_names)

    @functools.cached_property
    def _shared_listening(self) -> Bool[Tensor, "one reader sender"] | None:
        """Matrix of readers and senders, shared by all worlds; None: each has its own graph."""
        graph = self._shared_graph
        return None if graph is None else message_routing.listening_matrix(graph)

    # --- dynamics ---------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> OpinionMessagesState:
        """Initial state: no messages yet, and the stated probabilities are those of the values."""
        if people is None:
            z = streams.normal("values", self.num_people, 1)
            people = People(self.initial_std * z)
        if tuple(people.values.shape[1:]) != (self.num_people, 1):
            sizes = "{} people with {} values".format(*people.values.shape[1:])
            raise UserError(
                f"the population has {sizes}; the environment has num_people={self.num_people} and "
                "one value, the attitude to its topic",
                code="wrong_shape",
                path="population",
            )
        limit, device = self.value_limit, people.values.device
        trait_state = self.dynamics.initial_state(people.values, streams.child("person"))
        trait_state = self.dynamics.clamp(trait_state, -limit, limit)
        values = trait_state.values
        people = dataclasses.replace(people, values=values)
        worlds = len(values)
        graph, rule_state = None, None
        if self._shared_graph is None:
            graph = self.peers.world_graphs(values, streams)
        if self.value_source == "rule":
            assert self.peers.rule is not None
            on_graph = graph or self._graph_on(device)
            rule_state = self.peers.rule.initial_state(values, on_graph, streams.child("rule"))

        def empty(*shape: int) -> Tensor:
            return torch.full((worlds, *shape), END_OF_MESSAGE, device=device)

        messages = empty(self.num_people, self.max_bytes)
        readers = self.num_people + self.num_assistants
        senders = torch.full((worlds, readers, self.max_messages_read), -1, device=device)
        return OpinionMessagesState(
            people=people,
            trait_state=trait_state,
            initial_values=values,
            stated=torch.zeros(worlds, self.num_people, self.num_options, device=device),
            messages=messages,
            previous_messages=messages,
            senders=senders,
            replies=empty(self.num_assistants, self.max_bytes),
            graph=graph,
            rule_state=rule_state,
            rounds_elapsed=torch.zeros(worlds, dtype=torch.int64, device=device),
        )

    def _graph_on(self, device: torch.device) -> InfluenceGraph:
        assert self._shared_graph is not None
        return self._shared_graph.to(device)

    def observe(self, state: OpinionMessagesState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        read = message_routing.read_messages(state.messages, state.senders, END_OF_MESSAGE)
        read = read.flatten(2).to(torch.float32)
        space = self._spaces[role]
        if role == "assistant":
            own = state.replies.to(torch.float32)
            return space.join(own_message=own, received_messages=read[:, self.num_people :])
        reply = state.replies.to(torch.float32).expand(-1, self.num_people, -1)
        if not self.assistant_is_read:
            reply = torch.full_like(reply, END_OF_MESSAGE)
        return space.join(
            values=state.people.values,
            initial_value=state.initial_values,
            own_message=state.messages.to(torch.float32),
            received_messages=read[:, : self.num_people],
            reply=reply,
        )

    def step(
        self,
        state: OpinionMessagesState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[OpinionMessagesState]:
        """State and reward after a phase: messages of `write` and `reply`, values of `state`."""
        if phase == "write":
            return StepResult(
                dataclasses.replace(
                    state,
                    messages=actions["writer"],
                    previous_messages=state.messages,
                    senders=self._draw_senders(state, streams),
                )
            )
        if phase == "reply":
            return StepResult(dataclasses.replace(state, replies=actions["assistant"]))
        stated = actions["person"].clamp(0.0, 1.0)
        mass = total(stated, -1)[..., None]
        stated = torch.where(mass > 0, stated / mass, 1.0 / self.num_options)
        state = dataclasses.replace(state, stated=stated, rounds_elapsed=state.rounds_elapsed + 1)
        if self.value_source == "rule":
            state = self._move_people(state, streams)
        else:
            people = dataclasses.replace(state.people, values=self._stated_values(state))
            state = dataclasses.replace(state, people=people)
        return StepResult(state, self._reward(state))

    def _draw_senders(
        self, state: OpinionMessagesState, streams: RandomStreams
    ) -> Int[Tensor, "world reader message"]:
        """Senders of the messages of this round, by reader: people, then assistants."""
        people, device = self.num_people, state.messages.device
        uniform = streams.uniform("heard", people + self.num_assistants, people)
        listens = self._shared_listening
        if state.graph is not None:
            listens = message_routing.listening_matrix(state.graph)
        assert listens is not None
        if self.audience == "everybody":
            to_assistant = torch.ones(1, people, dtype=torch.bool, device=device)
        else:
            to_assistant = torch.eye(people, dtype=torch.bool, device=device)
        to_assistant = to_assistant.expand(len(listens), -1, -1)
        listens = torch.cat([listens.to(device), to_assistant], 1)
        return message_routing.draw_senders(listens, uniform, self.max_messages_read)

    def _stated_values(self, state: OpinionMessagesState) -> Float[Tensor, "world agent 1"]:
        """Mean of the stated probabilities, value units."""
        options = self.option_values.to(state.stated.device)
        return total(state.stated * options, -1)[..., None]

    def _move_people(
        self, state: OpinionMessagesState, streams: RandomStreams
    ) -> OpinionMessagesState:
        """State with values updated by the rule (value_source rule)."""
        answers = self._stated_values(state)
        trait_state = self.dynamics.advance_round(state.trait_state, streams.child("person"))
        before = trait_state.values
        # mean reversion already anchors people at their dispositions
        anchor = before if self.dynamics.mean_reverting else state.initial_values
        graph = state.graph or self._graph_on(before.device)
        moved = self.peers.move(
            before, answers, anchor, graph, state.rule_state, streams.child("rule")
        )
        values = moved.values
        if self.assistant_is_read:
            has_text = (state.replies[..., :1] != END_OF_MESSAGE).to(values.dtype)
            has_text = has_text.expand(-1, self.num_people, -1)
            values = values + self.influence * has_text * (self._position(answers) - values)
        trait_state = self.dynamics.displace(trait_state, values - before)
        trait_state = self.dynamics.clamp(trait_state, -self.value_limit, self.value_limit)
        people = dataclasses.replace(state.people, values=trait_state.values)
        return dataclasses.replace(
            state, people=people, trait_state=trait_state, rule_state=moved.rule_state
        )

    def _position(
        self, answers: Float[Tensor, "world agent value"]
    ) -> Float[Tensor, "world agent value"]:
        """Position of the assistant's message to each person: its aim, or the audience's mean."""
        if self.assistant_aim is not None:
            return torch.zeros_like(answers) + self.option_values[self.assistant_aim]
        if self.audience == "person":
            return answers
        return mean(answers, 1)[:, None].expand_as(answers)

    def _reward(self, state: OpinionMessagesState) -> dict[str, Float[Tensor, "world agent"]]:
        if self.assistant_aim is None:
            return {}
        distance = (state.people.values[..., 0] - self.option_values[self.assistant_aim]).abs()
        near = 1.0 - distance / (2.0 * self.value_limit)
        return {"assistant": mean(near, 1)[:, None] if self.audience == "everybody" else near}

    # --- metrics ----------------------------------------------------------------------------------

    def metrics(self, state: OpinionMessagesState) -> Mapping[str, Tensor]:
        """Metrics of each world, in value units unless stated; NaN before the first message.

        mean_value: mean attitude `[world, value]`
        attitude: of each person `[world, person]`
        drift: absolute change of the mean attitude since the start of the episode
        rms_distance: root mean square distance of attitudes from their mean (disagreement)
        slope_on_initial: least squares slope of present on initial attitudes over the people of a
            world; 1 if nothing changed
        stated_std: standard deviation of the distribution that a person states, mean over people
        message_bytes, reply_bytes: mean size of people's and of the assistant's last messages
            (bytes)
        empty_message_share: share of people whose last message is empty
        distinct_message_share: number of distinct last messages, divided by the number of people
        repeated_message_share: share of people who wrote the same message as in the round before
        """
        values, options = state.people.values, self.option_values.to(state.stated.device)
        initial = state.initial_values
        deviation = initial - mean(initial, 1)[:, None]
        slope = total(deviation * values, 1) / total(deviation * deviation, 1)
        variance = total(state.stated * (options - self._stated_values(state)) ** 2, -1)
        has_stated = state.rounds_elapsed > 0
        size = (state.messages != END_OF_MESSAGE).to(values.dtype).sum(-1)
        replies = (state.replies != END_OF_MESSAGE).to(values.dtype).sum(-1)
        distinct = [
            ~(state.messages[:, :i] == state.messages[:, i : i + 1]).all(-1).any(-1)
            for i in range(self.num_people)
        ]
        repeated = (state.messages == state.previous_messages).all(-1)

        def mean_over_people(x: Tensor) -> Tensor:
            return torch.where(has_stated, mean(x.to(values.dtype), 1), torch.nan)

        return {
            "mean_value": mean(values, 1),
            "attitude": values[..., 0],
            "drift": norm(mean(values, 1) - mean(initial, 1)),
            "rms_distance": rms_distance(values),
            "slope_on_initial": slope[:, 0],
            "stated_std": torch.where(has_stated, mean(variance.sqrt(), 1), torch.nan),
            "message_bytes": mean_over_people(size),
            "reply_bytes": mean_over_people(replies),
            "empty_message_share": mean_over_people(size == 0),
            "distinct_message_share": mean_over_people(torch.stack(distinct, 1)),
            "repeated_message_share": mean_over_people(repeated),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Range of each bounded metric: shares in [0, 1], values within `value_limit`."""
        shares = ("empty_message_share", "distinct_message_share", "repeated_message_share")
        limits = dict.fromkeys(("mean_value", "attitude"), (-self.value_limit, self.value_limit))
        return {**dict.fromkeys(shares, (0.0, 1.0)), **limits}

    @property
    def elements_per_world(self) -> int:
        """See `Environment`; includes the matrix of readers and senders."""
        return super().elements_per_world + 4 * self.num_people**2

    def latent(self, state: OpinionMessagesState) -> Mapping[str, Tensor]:
        """Latent variables: the values of people."""
        return {"values": state.people.values}

    def check_population(self, population: Population) -> None:
        """Refuse people of other names than a graph file's: see `Peers.check_population`."""
        self.peers.check_population(population, self.person_names)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on the graph of the peers."""
        return self.peers.remarks(self.num_people, self.person_names)

    def people(self, state: OpinionMessagesState) -> People:
        """People with current attitudes."""
        return state.people

    def influence_graph(self, state: OpinionMessagesState) -> InfluenceGraph:
        """Graph of readers and senders."""
        return state.graph or self._graph_on(state.people.values.device)

    def default_policies(self) -> Mapping[str, Any]:
        """Scripted policies: people write and state their values, the assistant writes its aim."""
        topic = self.topic
        aim = "" if self.assistant_aim is None else topic.positions[self.assistant_aim]
        return {
            "person": "scale_answer",
            "writer": {"kind": "statement_writer", "statements": topic.statements},
            "assistant": {"kind": "fixed_message", "text": aim},
        }

    # --- text -------------------------------------------------------------------------------------

    def role_rules(self, role: str) -> str:
        """System prompt of a role: the situation, and the assistant's aim."""
        if role == "assistant":
            return self.topic.assistant_rules(self.assistant_aim)
        return "You live in a town and talk with your neighbors."

    def describe(
        self,
        role: str,
        phase: str,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None = None,
    ) -> TurnText:
        """Prompt of a turn: question, initial view in words and messages, not the present value.

        With value_source stated a person's memory therefore consists of its messages.
        """
        space = self._spaces[role]
        own = decode_message(space.read(observation, "own_message"))
        read = space.read(observation, "received_messages").unflatten(0, (-1, self.max_bytes))
        received = [text for text in map(decode_message, read) if text]
        if role == "assistant":
            return self.topic.assistant_turn(own, received)
        initial = space.read(observation, "initial_value")[0]
        limits = (-self.value_limit, self.value_limit)
        view = int(nearest_option(initial, *limits, self.num_options))
        reply = decode_message(space.read(observation, "reply"))
        situation = self.topic.situation(view, own, received, reply)
        if phase == "write":
            return self.topic.message_turn(situation)
        return self.topic.attitude_turn(situation)

    def render(self, state: OpinionMessagesState, world: int = 0) -> str:
        """Text with attitudes and messages of the first people, and messages of assistants.

        Unprintable characters of messages are escaped.
        """
        rounds = int(state.rounds_elapsed[world])
        lines = [f"{self.topic.question} {self.num_people} people, {rounds} rounds"]
        for person in range(min(self.num_people, MAX_RENDERED)):
            value = state.people.values[world, person, 0].item()
            text = decode_message(state.messages[world, person])
            lines.append(f"person {person}  {value:+.2f}  {quoted(text) if text else 'silent'}")
        if self.num_people > MAX_RENDERED:
            lines.append(f"({self.num_people - MAX_RENDERED} more)")
        note = "" if self.assistant_is_read else " (not read)"
        for number in range(min(self.num_assistants, MAX_RENDERED)):
            text = decode_message(state.replies[world, number])
            name = "assistant" if self.num_assistants == 1 else f"assistant {number}"
            lines.append(f"{name}{note}  {quoted(text) if text else 'silent'}")
        return "\n".join(lines)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(OpinionMessages(), rounds=24)
