"""Persona from the person's own values, as the person observes them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mores.agents.language.personas.persona import Persona, PersonTurn
from mores.agents.language.personas.phrases import Phrases
from mores.agents.language.placeholders import check_placeholders, fill
from mores.core.environment import Role
from mores.core.errors import UserError
from mores.core.policy import require_observation_parts


class ObservedPersona(Persona):
    """The person's values in words.

    The part of the observation is read at every turn, so that the persona follows values that
    move. Nobody observes another person's values, and so no persona contains them.

        persona:
          kind: observed
          values:
            - {cuts: [0], phrases: [You are left-wing., You are right-wing.]}
    """

    part: str = Field(default="values", description="part of the observation that holds the values")
    values: tuple[Phrases | None, ...] = Field(
        min_length=1, description="cut points and phrases of each value; null: it is left out"
    )
    content: str = Field(
        default="$all", description="text; $all: all phrases, $value_0 ...: the phrase of a value"
    )

    def model_post_init(self, context: Any) -> None:
        """Check the placeholders."""
        check_placeholders("content", self.content, self._names)

    @property
    def _names(self) -> list[str]:
        return ["all", *(f"value_{i}" for i, each in enumerate(self.values) if each is not None)]

    def check(self, role: Role) -> None:
        """Check that the values are observed, and that there are as many."""
        require_observation_parts("the persona", role, self.part)
        size = role.observation_space.parts[self.part].size
        if size != len(self.values):
            raise UserError(
                f"the persona has phrases of {len(self.values)} values, and {role.name} observes "
                f"{size} in {self.part!r}",
                code="wrong_shape",
                path=f"policies.{role.name}",
            )

    def text(self, person: PersonTurn) -> str:
        """The text with the phrases of the values that the person observes now."""
        numbers = person.space.read(person.observation, self.part).tolist()
        found = {
            f"value_{i}": table.phrase(number)
            for i, (table, number) in enumerate(zip(self.values, numbers, strict=True))
            if table is not None
        }
        return fill(self.content, {"all": " ".join(found.values()), **found})
