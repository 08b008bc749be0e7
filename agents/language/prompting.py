"""Turns as prompts for dialogues with a language model, and replies as actions.

The text is that of the environment (`Environment.role_rules`, `Environment.describe`): rules once,
then in every turn what the agent observes, what it is asked, and its legal options by number, from
1 on. A reply is an option's number, the numbers of the action, or a message, and nothing else: a
reply with further words is invalid.

    You play a game of several rounds with another player. ...
    Last round: you: cooperate; the other player: defect.
    What do you choose?
    1. cooperate: you get 3 if the other chooses cooperate, 0 if the other chooses defect
    2. defect: you get 5 if the other chooses cooperate, 1 if the other chooses defect
    Answer with the number of an option, and nothing else.

`about` replaces the rules, `option_descriptions` the options of a phase. Subclass `Prompter` to
describe an environment otherwise: every method can be overridden alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError, did_you_mean
from mores.core.spaces import Discrete
from mores.core.turn_text import TurnText, generic_turn, parse_action, written_turn


@dataclasses.dataclass(frozen=True)
class Prompter:
    """Writer of prompts for a language model, and parser of its replies.

    Args:
        about: first text of the prompt, in place of the rules of the role.
        option_descriptions: by phase, a description of each option, in place of the environment's.
    """

    about: str = ""
    option_descriptions: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def opening(self, role: Role) -> str:
        """Text that comes once, before the first turn."""
        rules = self.about or ("" if role.text is None else role.text.rules)
        return rules or f"You play the role of {role.name}."

    def turn(
        self,
        role: Role,
        phase: Phase,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
    ) -> TurnText:
        """What an agent observes and is asked.

        Args:
            role: role of the agent, with its text; without it, parts and options have their names.
            phase: phase of the turn.
            observation: of the agent.
            action_mask: its legal options; `None`: all.
        """
        space = phase.action_spaces[role.name]
        if role.text is None:
            turn = generic_turn(space, role.observation_space, observation)
        else:
            turn = role.text.describe(phase.name, observation, action_mask)
        if isinstance(space, Discrete) and (names := self.describe_options(phase, space)):
            return dataclasses.replace(turn, options=tuple(names), statements=())
        return turn

    def describe(
        self,
        role: Role,
        phase: Phase,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
    ) -> str:
        """The turn as one text, with the form of the reply. Arguments: see `turn`."""
        return written_turn(self.turn(role, phase, observation, action_mask), action_mask)

    def describe_options(self, phase: Phase, space: Discrete) -> Sequence[str]:
        """Own descriptions of the options of a phase; empty if it has none.

        Raises:
            UserError: there are more or fewer descriptions than options.
        """
        names = self.option_descriptions.get(phase.name, ())
        if names and len(names) != space.num_options:
            raise UserError(
                f"phase {phase.name!r} has {space.num_options} options, and {len(names)} "
                f"descriptions: {list(names)}",
                code="wrong_shape",
                path=f"option_descriptions.{phase.name}",
            )
        return names

    def option_labels(self, space: Discrete) -> tuple[str, ...]:
        """The reply that selects each option, for closed choices."""
        return tuple(str(option + 1) for option in range(space.num_options))

    def parse_reply(
        self, role: Role, phase: Phase, reply: str, action_mask: Bool[Tensor, " option"] | None
    ) -> Tensor | None:
        """Action of a reply: an option `[]`, or numbers `[size]`; `None` if it is invalid.

        Not called at turns of form `probabilities`: `parse_probabilities` parses their replies.

        Args:
            role: role of the agent.
            phase: phase of the turn.
            reply: the text.
            action_mask: legal options, of several choices one after the other; `None`: all.
        """
        if role.text is None:
            return parse_action(phase.action_spaces[role.name], reply, action_mask)
        return role.text.parse_reply(phase.name, reply, action_mask)

    def check(self, phases: Sequence[Phase], role: Role) -> None:
        """Refuse descriptions of phases or options that do not exist.

        Raises:
            UserError: there is such a description.
        """
        spaces = {phase.name: phase.action_spaces.get(role.name) for phase in phases}
        for name in self.option_descriptions:
            if name not in spaces:
                raise UserError(
                    f"option_descriptions: no phase {name!r}{did_you_mean(name, spaces)}",
                    code="unknown_name",
                    path=f"option_descriptions.{name}",
                )
        for phase in phases:
            space = spaces[phase.name]
            if isinstance(space, Discrete):
                self.describe_options(phase, space)
