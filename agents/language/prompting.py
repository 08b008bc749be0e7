"""A game told in words, and replies read: plainly, strictly, and to be overridden.

What a seat sees is told part by part, as the game names them, with numbers as they are; what it may
do is listed, option by number. A reply is an option's number, or the numbers of a box or of several
choices, and nothing else: who says more was not understood. Nothing is told that the seat does not
see.

    You play the role of agent.
    phase work
    cost: 0.4283
    offer: 0.5
    options: 0 1 2
    Answer with the number of an option.

Subclass `Prompter` to tell a game better: every method stands for itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.environment import Box, Discrete, MultiDiscrete, Phase, Role, Space
from mores.core.errors import UserError, did_you_mean

NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Prompter:
    """How a game is told to a language model, and how its replies are read.

    Args:
        about: what is said first of all: the rules, what is at stake.
        option_descriptions: by phase, what each option is called; it is listed behind the option's number.
        digits: significant digits of numbers.
    """

    about: str = ""
    option_descriptions: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    digits: int = 4

    def opening(self, role: Role) -> str:
        """What is told once, before the first sight."""
        plays = f"You play the role of {role.name}."
        return f"{self.about}\n{plays}" if self.about else plays

    def describe(
        self,
        role: Role,
        phase: Phase,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
    ) -> str:
        """What a seat is told when it must act.

        Args:
            role: of the seat.
            phase: in which it acts.
            observation: what it sees.
            action_mask: options open to it; `None`: all.
        """
        lines = [f"phase {phase.name}"]
        for part in role.observation_space.parts:
            numbers = " ".join(
                self.format_number(x)
                for x in role.observation_space.read(observation, part).tolist()
            )
            lines.append(f"{part}: {numbers}")
        return "\n".join(
            [*lines, *self.describe_actions(phase, phase.action_spaces[role.name], action_mask)]
        )

    def describe_actions(
        self, phase: Phase, space: Space, action_mask: Bool[Tensor, " option"] | None
    ) -> list[str]:
        """Lines that say what may be answered."""
        if isinstance(space, Discrete):
            names = self.describe_options(phase, space)
            listed = [
                f"{label} {names[option]}" if names else label
                for option, label in enumerate(self.option_labels(space))
                if action_mask is None or bool(action_mask[option])
            ]
            between = ", " if names else " "
            return [f"options: {between.join(listed)}", "Answer with the number of an option."]
        if isinstance(space, MultiDiscrete):
            counts = " ".join(f"0-{options - 1}" for options in space.num_options)
            return [f"choices: {counts}", f"Answer with {space.size} numbers, one a choice."]
        ranges = "; ".join(
            f"{name}: {part.size} from {self.format_number(part.low)} to {self.format_number(part.high)}"
            for name, part in space.parts.items()
        )
        return [f"numbers: {ranges}", f"Answer with {space.size} numbers."]

    def describe_options(self, phase: Phase, space: Discrete) -> Sequence[str]:
        """What the options of a phase are called; empty where they have no names.

        Raises:
            UserError: there are more or fewer names than options.
        """
        names = self.option_descriptions.get(phase.name, ())
        if names and len(names) != space.num_options:
            raise UserError(
                f"phase {phase.name!r} has {space.num_options} options, and {len(names)} names: "
                f"{list(names)}",
                code="wrong_shape",
                path=f"options.{phase.name}",
            )
        return names

    def format_number(self, value: float) -> str:
        """A number in words."""
        return f"{value:.{self.digits}g}"

    def option_labels(self, space: Discrete) -> tuple[str, ...]:
        """The reply that stands for each option."""
        return tuple(str(option) for option in range(space.num_options))

    def parse_reply(
        self, space: Space, reply: str, action_mask: Bool[Tensor, " option"] | None
    ) -> Tensor | None:
        """What a reply does: an option `[]`, or numbers `[size]`; `None` if it cannot be read.

        Args:
            space: what may be done.
            reply: the text.
            action_mask: open options, of several choices one after the other; `None`: all.
        """
        if isinstance(space, Discrete):
            labels = self.option_labels(space)
            if reply.strip() not in labels:
                return None
            option = labels.index(reply.strip())
            open_now = action_mask is None or bool(action_mask[option])
            return torch.tensor(option) if open_now else None
        words = reply.replace(",", " ").split()
        if len(words) != space.size or not all(NUMBER_PATTERN.fullmatch(word) for word in words):
            return None
        numbers = [float(word) for word in words]
        if isinstance(space, MultiDiscrete):
            return _parse_multi_discrete(space, numbers, action_mask)
        inside = zip(numbers, space.low, space.high, strict=True)
        if not all(math.isfinite(x) and low <= x <= high for x, low, high in inside):
            return None
        return torch.tensor(numbers, dtype=torch.float32)

    def check(self, phases: Sequence[Phase], role: Role) -> None:
        """Refuse names for phases that there are not, or of options that there are not.

        Raises:
            UserError: that is so.
        """
        spaces = {phase.name: phase.action_spaces.get(role.name) for phase in phases}
        for name in self.option_descriptions:
            if name not in spaces:
                raise UserError(
                    f"options of no phase {name!r}{did_you_mean(name, spaces)}",
                    code="unknown_name",
                    path=f"options.{name}",
                )
        for phase in phases:
            space = spaces[phase.name]
            if isinstance(space, Discrete):
                self.describe_options(phase, space)


def unparsed_action(space: Space) -> Tensor:
    """An act that no space has: the table puts a legal one in its place, and says so."""
    if isinstance(space, Discrete):
        return torch.tensor(-1)
    if isinstance(space, Box):
        return torch.full((space.size,), math.nan)
    return torch.full((space.size,), -1)


def _parse_multi_discrete(
    space: MultiDiscrete, numbers: Sequence[float], action_mask: Tensor | None
) -> Tensor | None:
    """Several choices at once: whole numbers, all of open options."""
    at = 0
    for number, options in zip(numbers, space.num_options, strict=True):
        if number != int(number) or not 0 <= number < options:
            return None
        if action_mask is not None and not bool(action_mask[at + int(number)]):
            return None
        at += options
    return torch.tensor([int(number) for number in numbers])
