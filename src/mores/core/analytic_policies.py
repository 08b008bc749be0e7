"""What exact formulas of environments read from policies. A policy subclasses what it offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

from mores.core.channel import Channel

MAX_LINEUP_WORLDS = 256  # longest period over worlds of `AutomatonPolicy.automata_by_world`


@runtime_checkable
class Automaton(Protocol):
    """Strategy with a finite number of states; the initial state is 0."""

    @property
    def cooperation_probabilities(self) -> tuple[float, ...]:
        """Probability of cooperation (option 0) by state; otherwise it takes the last option."""
        ...

    @property
    def transitions(self) -> tuple[tuple[int, int, int, int], ...]:
        """Next states, by state: both cooperated, only itself, only the others, none.

        Itself: it took option 0. The others: their mean cooperation is at least `threshold`.
        """
        ...

    @property
    def threshold(self) -> float:
        """Smallest mean cooperation of the others that counts as cooperation, in [0, 1].

        Cooperation of an action is 1 for option 0, 0 for the last option of the agent with most
        options, and linear between.
        """
        ...


AgentAutomata = tuple[Automaton | None, ...]  # by agent; None: it follows no automaton


class AutomatonPolicy(ABC):
    """Policy under which all or some agents follow automata."""

    @abstractmethod
    def automata_by_world(self, num_agents: int) -> tuple[AgentAutomata, ...] | None:
        """Automata of the agents in world 0, 1, ... of a replicate, for one period.

        None: not known, or the period is above `MAX_LINEUP_WORLDS`.
        """


class TrackingParameters(NamedTuple):
    """Parameters of linear tracking: a' = a + `learning_rate` (answers + `horizon` trend - a)."""

    learning_rate: float
    forecast_horizon: float


class LinearTracker(ABC):
    """Assistant that may advise a linearly tracked estimate at intensity 1."""

    @property
    @abstractmethod
    def tracking(self) -> TrackingParameters | None:
        """Parameters of the estimate that it advises. None: it advises something else."""


class Annotation(NamedTuple):
    """How a person answers: channels that read utilities proportional to rewards."""

    utility_scale: float
    choice: Channel
    rating: Channel


class AnnotatingPolicy(ABC):
    """Person who chooses between options and rates them through channels."""

    @property
    @abstractmethod
    def annotation(self) -> Annotation:
        """Utility of one unit of reward, and the channels."""
