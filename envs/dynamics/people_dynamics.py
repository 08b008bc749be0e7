"""Dynamics of people from a human model, or from an environment's own numbers in its place."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mores.core.human import Human, HumanInRounds
from mores.envs.dynamics.trait_state import TraitStateDynamics


class PeopleDynamics:
    """Base of environments that have the fields `human`, `rounds_per_year`, `trait_state` and
    `ai_influence`, the last two in rounds and value units: if given, they replace `human`'s.

    The unit of `human` is their field `population_std`, if they have one and it is given, else
    `initial_std`.
    """

    if TYPE_CHECKING:
        human: Human
        rounds_per_year: float
        initial_std: float
        trait_state: TraitStateDynamics | None
        ai_influence: Any

    @property
    def human_std(self) -> float:
        """Standard deviation that is the unit of `human`, value units."""
        population_std: float | None = getattr(self, "population_std", None)
        return self.initial_std if population_std is None else population_std

    @functools.cached_property
    def human_in_rounds(self) -> HumanInRounds:
        """Parameters of `human` in rounds and value units."""
        return self.human.in_rounds(self.rounds_per_year, self.human_std)

    @functools.cached_property
    def dynamics(self) -> TraitStateDynamics:
        """Persistence of changes of values: `trait_state`, or that of `human`."""
        return self.trait_state or TraitStateDynamics.of_human(self.human_in_rounds)

    @functools.cached_property
    def influence(self) -> Any:
        """`ai_influence`, or that of `human`: a number or a person parameter."""
        return self.human_in_rounds.influence if self.ai_influence is None else self.ai_influence

    def check_human(self) -> None:
        """Check that `human` can be used in these units, unless `trait_state` replaces it.

        Raises:
            ParameterError: a number of the human is out of range in rounds and value units.
        """
        if self.trait_state is None:
            TraitStateDynamics.check_human(self.human, self.rounds_per_year, self.human_std)
