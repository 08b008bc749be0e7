"""A belief that is stated in the system message: the control of a claim about personas.

A readout that does not find the belief of a person who was told it measures no attitude. Stated
verbatim, the belief is the statement of an option, and a model can copy it; paraphrased, it must be
understood.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mores.agents.language.personas.persona import Persona, PersonTurn
from mores.agents.language.placeholders import check_placeholders, fill
from mores.core.errors import UserError
from mores.registry.varying import PersonNumber


class StatedBelief(Persona):
    """The statement of one option of the question, as the person's belief.

    In turns without options there is no belief, and no text.
    """

    option: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0, description="index of the option, from 0; it may differ between people"
    )
    wording: Literal["verbatim", "paraphrased"] = Field(
        default="verbatim", description="whether the statement of the option itself is used"
    )
    paraphrases: dict[str, str] = Field(
        default_factory=dict, description="paraphrase of each statement, by the statement"
    )
    content: str = Field(
        default="You believe the following: $belief", description="text, with $belief"
    )

    def model_post_init(self, context: object) -> None:
        """Check the placeholders."""
        check_placeholders("content", self.content, ["belief"])

    def text(self, person: PersonTurn) -> str:
        """The belief of the person about this turn's question.

        Raises:
            UserError: there is no such option, or no paraphrase of its statement.
        """
        texts = person.turn.statements or person.turn.options
        if not texts:
            return ""
        option = round(person.number(self.option))
        if option >= len(texts):
            raise UserError(
                f"stated_belief: there is no option {option}: the turn has {len(texts)}, from 0",
                code="out_of_range",
                path="persona.option",
            )
        belief = texts[option]
        if self.wording == "paraphrased":
            if belief not in self.paraphrases:
                raise UserError(
                    f"stated_belief: there is no paraphrase of {belief!r:.80}",
                    code="missing",
                    path="persona.paraphrases",
                )
            belief = self.paraphrases[belief]
        return fill(self.content, {"belief": belief})
