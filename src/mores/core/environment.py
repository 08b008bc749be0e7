"""The environment contract: roles, phases, observations, rewards.

A *world* is one community. Many worlds are simulated at once: every tensor of a state leads with
the world dimension. A *round* is a sequence of *phases*; in a phase the agents of some *roles* act
simultaneously, on observations of the same state. An environment subclasses `Environment`, a
decision rule `mores.core.policy.Policy`; both are plain parameters plus pure functions.

Dimensions, in this order everywhere: world, agent, option | value.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from pydantic import ValidationError
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import UserError, did_you_mean, printable
from mores.core.graph import Graph
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.core.turn_text import (
    EnvironmentRoleText,
    RoleText,
    TurnText,
    generic_turn,
    parse_action,
)
from mores.core.validation_messages import validation_problems

ENVIRONMENT = "environment"  # among the names of roles whose draws the arms do not share
State = TypeVar("State")
ObservationModel = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Role:
    """A kind of agent.

    Attributes:
        name: identifier; agents are called `<name>_0`, `<name>_1`, ...
        num_agents: number of agents of this role in each world.
        observation_space: named parts of one agent's observation.
        observation_model: function `(observation, action) -> next observation`, where these two
            determine it (a writer observes the text written so far); policies search with it.
        text: what agents observe, as text, and their replies as actions. Set by the simulator,
            from `Environment.describe`.
    """

    name: str
    num_agents: int
    observation_space: Box
    observation_model: ObservationModel | None = None
    text: RoleText | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.observation_space, Box):
            message = f"role {self.name!r}: observation_space must be a Box, not "
            message += printable(repr(self.observation_space))
            raise UserError(message, code="wrong_type", path="observation_space")


@dataclasses.dataclass(frozen=True)
class Phase:
    """Part of a round: the roles that act simultaneously, and the action space of each."""

    name: str
    action_spaces: Mapping[str, Space]

    def __post_init__(self) -> None:
        for role, space in self.action_spaces.items():
            if not isinstance(space, (Discrete, MultiDiscrete, Box)):
                message = f"phase {self.name!r}: the action space of {role!r} must be a Discrete, "
                message += f"MultiDiscrete or Box, not {printable(repr(space))}"
                raise UserError(message, code="wrong_type", path="action_spaces")


@dataclasses.dataclass(frozen=True)
class StepResult(Generic[State]):
    """Result of one phase.

    Attributes:
        state: next state.
        reward: reward of each agent by role, `[world, agent]`. Missing roles earn 0.
        terminated: worlds whose episode ended, `[world]`. Read only in the last phase of a round.
        feedback: training signals beyond reward by role and name, `[world, agent, ...]`, for
            learners only. Names: `mores.agents.learning.batch`.
    """

    state: State
    reward: Mapping[str, Float[Tensor, "world agent"]] = dataclasses.field(default_factory=dict)
    terminated: Bool[Tensor, " world"] | None = None
    feedback: Mapping[str, Mapping[str, Tensor]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Transition:
    """Result of one round for the agents of a role, given to `Policy.update`.

    Attributes:
        reward: sum over the phases of the round.
        terminated: worlds whose episode ended by the environment's rules.
        truncated: worlds whose episode reached the limit of rounds.
        finished: worlds whose episode ended in an earlier round; they do not change.
        next_observation: observation in the first phase in which the role acts; in truncated
            worlds of the final state, before any reset.
        feedback: `StepResult.feedback` of all phases of the round.
    """

    reward: Float[Tensor, "world agent"]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    finished: Bool[Tensor, " world"]
    next_observation: Float[Tensor, "world agent size"]
    feedback: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def done(self) -> Bool[Tensor, " world"]:
        """Worlds whose episode ended in this round, terminated or truncated."""
        return self.terminated | self.truncated


@dataclasses.dataclass(frozen=True)
class PolicyQuery:
    """Observations on which the policy of a role is evaluated; nothing is drawn and nobody acts.

    Attributes:
        role: the role.
        phase: a phase in which it acts.
        observation: one or several observations for each agent. A view expanded over worlds and
            agents makes a learner evaluate each model once.
        action_mask: legal options of each of them; `None`: all.
        output: what is asked for. action: `Policy.expected_action`; features:
            `Policy.hidden_features`, and a policy without any has no answer.
    """

    role: str
    phase: str
    observation: Float[Tensor, "world agent query size"]
    action_mask: Bool[Tensor, "world agent query option"] | None = None
    output: Literal["action", "features"] = "action"


class Environment(Config, ABC, Generic[State]):
    """A community simulated in many worlds: parameters as fields, pure functions of the state.

    Static data (a network, a table) may be cached on the environment; all that changes is in the
    state, whose tensors have the world as first dimension. `mores.envs` holds examples.
    """

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`
    # Names of the dimensions after the world of metrics and latent quantities, by their name:
    # {"mean_value": ("value",), "values": ("person", "value")}. Values and groups have names.
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    random_source: ClassVar[str] = "the `streams` of the call"  # in messages: where to draw from
    solver_values: ClassVar[frozenset[str]] = frozenset()  # `analytic_values` from exact solvers

    def __class_getitem__(cls, typevar_values: Any) -> type[Any]:
        """The class itself: `Environment[State]` is for type checkers, not a pydantic generic."""
        return cls

    @property
    @abstractmethod
    def roles(self) -> tuple[Role, ...]:
        """Roles of the environment."""

    @property
    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Phases of a round, in order."""

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of people's values, if the population gives none. Empty: they have no names."""
        return ()

    @property
    def couples_arms(self) -> bool:
        """Whether its draws are those of `streams`, which all arms of an experiment share."""
        return True

    @abstractmethod
    def reset(self, streams: RandomStreams, people: People | None = None) -> State:
        """Initial state. `people`: people from a population or data; `None`: from parameters."""

    @abstractmethod
    def observe(self, state: State, role: str, phase: str) -> Float[Tensor, "world agent size"]:
        """Observation of every agent of a role. A person does not observe other people's values."""

    def action_mask(
        self, state: State, role: str, phase: str
    ) -> Bool[Tensor, "world agent option"] | None:
        """Legal options of every agent. `None`: all options are legal."""
        return None

    @abstractmethod
    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[State]:
        """Result of one phase. Pure: `state` is not modified.

        Use every stream name once: the same name in two phases of a round gives the same numbers.
        """

    @abstractmethod
    def metrics(self, state: State) -> Mapping[str, Float[Tensor, "world *agent"]]:
        """Quantities reported for each world, `[world]`, or its agents or values, `[world, n]`."""

    def missing_metric_hint(self, name: str) -> str:
        """Why an environment whose metrics depend on a user's code lacks one; empty: unknown."""
        return ""

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that `policy_metrics` returns."""
        return ()

    def policy_queries(self, state: State) -> Mapping[str, PolicyQuery]:
        """Observations on which policies are evaluated for `policy_metrics`, by any name."""
        return {}

    def policy_metrics(
        self, state: State, answers: Mapping[str, Float[Tensor, "world agent query option"]]
    ) -> Mapping[str, Float[Tensor, "world *agent"]]:
        """Metrics computed from what policies would do, not from what was drawn.

        The exact value of a policy, say, by a recursion over all of its observations: between
        trainings it varies, with the episodes that are played it does not.

        Args:
            state: the state.
            answers: `Policy.expected_action` for each of `policy_queries`, by its name, or
                `Policy.hidden_features` by the query's `output`, if the policy has any.
        """
        return {}

    def render(self, state: State, world: int = 0) -> str:
        """What happened in a world, in a few lines for a person to read. Empty: no text."""
        return ""

    def draw(self, state: State, axes: Any, world: int = 0) -> None:
        """Draw a world into matplotlib axes, for the largest part of a client's picture.

        Override to draw; without an override clients draw the values of people, or rewards, over
        rounds.

        Args:
            state: the state.
            axes: empty axes.
            world: the world.
        """

    def role_rules(self, role: str) -> str:
        """Text that an agent reads once: the situation, its aims, and what it is rewarded for.

        It is the same for all agents of the role in all rounds. Empty: no text.
        """
        return ""

    def describe(
        self,
        role: str,
        phase: str,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None = None,
    ) -> TurnText:
        """Text of one turn of an agent, for language models.

        Default: the parts of the observation by name.

        Args:
            role: the role.
            phase: a phase in which it acts.
            observation: of one agent.
            action_mask: its legal options; `None`: all.
        """
        space = _phase(self, phase).action_spaces[role]
        return generic_turn(space, get_role(self, role).observation_space, observation)

    def parse_reply(
        self,
        role: str,
        phase: str,
        reply: str,
        action_mask: Bool[Tensor, " option"] | None = None,
    ) -> Tensor | None:
        """The action that a reply in free text states; `None`: it states none.

        Default: the number of an option, from 1 on, or the numbers of the action, and nothing else;
        in a `message_space` the reply itself.
        The argument is data from a model or a person: it is compared, never evaluated.
        """
        return parse_action(_phase(self, phase).action_spaces[role], reply, action_mask)

    def message_score(
        self, role: str, phase: str, observation: Float[Tensor, " size"], message: str
    ) -> float | None:
        """Score of a message that the agent can compute itself, for searches before it is sent.

        A function of the observation and the message. `None`: the agent does not know any.
        """
        return None

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Smallest and largest possible value of metrics that have both, by name.

        Intervals of a bounded metric also count with values that no replicate had.
        """
        return {}

    @property
    def elements_per_world(self) -> int:
        """Approximate peak number of tensor elements per world; it sets the size of a chunk."""
        return sum(role.num_agents * role.observation_space.size for role in self.roles)

    def latent(self, state: State) -> Mapping[str, Tensor]:
        """Quantities that no policy may observe, for metrics and figures: `[world, ...]`."""
        return {}

    def with_population(
        self, population: Population, previous: Population | None = None
    ) -> Environment[State]:
        """The environment with what the population determines, in fields that were not set.

        These are `Population.environment_parameters`, and `population_std` where an environment has
        it, from `Population.value_std`.

        Args:
            population: source of the people.
            previous: the population that it replaces; fields as that one determined them count as
                not set.

        Raises:
            UserError: the environment has other fields that do not fit.
        """
        determined = determined_fields(population)
        before = {} if previous is None else determined_fields(previous)
        own = {name: getattr(self, name) for name in self.model_fields_set}
        own = {n: v for n, v in own.items() if n not in before or before[n] != v}
        missing = {
            name: value
            for name, value in determined.items()
            if name in type(self).model_fields and name not in own
        }
        is_same = own.keys() | missing.keys() == self.model_fields_set
        if is_same and all(getattr(self, name) == value for name, value in missing.items()):
            return self
        try:
            return type(self)(**own, **missing)
        except ValidationError as error:
            problem = validation_problems(error, type(self), {**own, **missing})[0]
            path = ".".join(map(str, problem.blamed_path))
            message = f"population: this environment cannot have its people: {path}: "
            message += problem.message
            raise UserError(message, code=problem.code, path="population") from None

    def check_population(self, population: Population) -> None:
        """Refuse people for whom this environment was not made, such as others than its graph's.

        Raises:
            UserError: `with_population` makes an environment for them.
        """

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on its data for the user, such as ties of a file that are left out.

        They are shown with those of the population: `Population.remarks`.
        """
        return ()

    def people(self, state: State) -> People | None:
        """People of a state, an input of registered metrics. `None`: people have no values."""
        return None

    def influence_graph(self, state: State) -> Graph | None:
        """Graph of who influences whom among the people of a state, for viewers and analyses.

        `None`: people do not influence each other along a graph.
        """
        return None

    def analytic_values(
        self, policies: Mapping[str, Any], rounds: int
    ) -> Mapping[str, float | Float[np.ndarray, " round"]]:
        """Theoretical values of metrics under these policies, by name; empty where unknown.

        A value is a number, or one number for each count of completed rounds, 0 to `rounds`.
        """
        return {}

    @property
    def min_rounds(self) -> int:
        """Rounds of an episode below which there is nothing to learn from."""
        return 1

    @classmethod
    def description_sections(cls) -> Mapping[str, str]:
        """Sections of `mores describe` by title, beyond docstrings: what only the class knows."""
        return {}

    def default_policies(self) -> Mapping[str, Any]:
        """A scripted policy for each role: its kind, or a mapping with its kind and parameters.

        The simulator builds them through the registry. A policy that is not registered is given as
        an object.
        """
        return {}


def determined_fields(population: Population) -> dict[str, Any]:
    """Fields of an environment that a population determines, where it has them."""
    std = {} if population.value_std is None else {"population_std": population.value_std}
    return {**population.environment_parameters(), **std}


def with_text(environment: Environment[Any], role: Role) -> Role:
    """The role, with the text of its environment."""
    return dataclasses.replace(role, text=EnvironmentRoleText(environment, role.name))


def _phase(environment: Environment[Any], name: str) -> Phase:
    for phase in environment.phases:
        if phase.name == name:
            return phase
    known = [phase.name for phase in environment.phases]
    raise KeyError(f"no phase {name!r}{did_you_mean(name, known)}")


def get_role(environment: Environment[Any], name: str) -> Role:
    """The role with that name."""
    for role in environment.roles:
        if role.name == name:
            return role
    known = [role.name for role in environment.roles]
    raise KeyError(f"no role {name!r}{did_you_mean(name, known)}")
