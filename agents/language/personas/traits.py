"""Persona from traits and groups of the people of a population."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mores.agents.language.personas.persona import Persona, PersonTurn
from mores.agents.language.personas.phrases import Phrases
from mores.agents.language.placeholders import check_placeholders, fill
from mores.core.errors import ParameterError, did_you_mean
from mores.core.turn_text import format_number
from mores.registry.varying import PersonNumber


class TraitsPersona(Persona):
    """A text with the person's traits.

        persona:
          kind: traits
          content: You are $age years old and $party.
          traits:
            age: {kind: column, name: age}
            party: {kind: by_group, values: {democrats: 0, republicans: 1}}
          phrases:
            party: {cuts: [0.5], phrases: [a Democrat, a Republican]}

    Traits are sampled once at the start of an episode, for the people who are then there.
    """

    content: str = Field(description="text, with $name in place of each trait")
    traits: dict[str, Annotated[float, PersonNumber()]] = Field(
        min_length=1, description="number of each person by name: a column, by group, ..."
    )
    phrases: dict[str, Phrases] = Field(
        default_factory=dict, description="cut points and phrases of traits, by name"
    )

    def model_post_init(self, context: Any) -> None:
        """Check names."""
        for name in self.phrases:
            if name not in self.traits:
                message = f"there is no trait {name!r:.60}{did_you_mean(name, self.traits)}"
                raise ParameterError("phrases", name, message=message, code="unknown_name")
        check_placeholders("content", self.content, self.traits)

    def text(self, person: PersonTurn) -> str:
        """The text with the person's traits: phrases, or numbers with four digits."""
        found = {}
        for name, given in self.traits.items():
            number, table = person.number(given), self.phrases.get(name)
            found[name] = format_number(number) if table is None else table.phrase(number)
        return fill(self.content, found)
