"""An environment as text, and replies as actions: plain, strict, and open to subclasses.

The prompt lists an agent's observation part by part, by the environment's names, with unscaled
numbers, and the legal options by number. A reply is an option's number, or the numbers of a box or
of several choices, and nothing else: a reply with further words is invalid. The prompt contains
nothing that the agent does not observe.

    You play the role of agent.
    phase work
    cost: 0.4283
    offer: 0.5
    options: 0 1 2
    Answer with the number of an option.

Subclass `Prompter` to describe an environment better: every method can be overridden alone.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError, did_you_mean
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space

NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Prompter:
    """Writer of prompts for a language model, and parser of its replies.

    Args:
        about: first text of the prompt: the rules and the aims.
        option_descriptions: by phase, a description of each option, listed after its number.
        digits: significant digits of numbers.
    """

    about: str = ""
    option_descriptions: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    digits: int = 4

    def opening(self, role: Role) -> str:
        """Text that comes once, before the first observation."""
        line = f"You play the role of {role.name}."
        return f"{self.about}\n{line}" if self.about else line

    def describe(
        self,
        role: Role,
        phase: Phase,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
    ) -> str:
        """Text of one turn of an agent: its observation, and its actions.

        Args:
            role: role of the agent.
            phase: phase of the turn.
            observation: of the agent.
            action_mask: its legal options; `None`: all.
        """
        lines = [f"phase {phase.name}"]
        for part in role.observation_space.parts:
            values = role.observation_space.read(observation, part).tolist()
            lines.append(f"{part}: {' '.join(map(self.format_number, values))}")
        lines += self.describe_actions(phase, phase.action_spaces[role.name], action_mask)
        return "\n".join(lines)

    def describe_actions(
        self, phase: Phase, space: Space, action_mask: Bool[Tensor, " option"] | None
    ) -> list[str]:
        """Lines that state the possible replies."""
        if isinstance(space, Discrete):
            names = self.describe_options(phase, space)
            legal = [
                f"{label} {names[option]}" if names else label
                for option, label in enumerate(self.option_labels(space))
                if action_mask is None or bool(action_mask[option])
            ]
            separator = ", " if names else " "
            return [f"options: {separator.join(legal)}", "Answer with the number of an option."]
        if isinstance(space, MultiDiscrete):
            counts = " ".join(f"0-{options - 1}" for options in space.num_options)
            return [f"choices: {counts}", f"Answer with {space.size} numbers, one a choice."]
        number = self.format_number
        ranges = "; ".join(
            f"{name}: {part.size} from {number(part.low)} to {number(part.high)}"
            for name, part in space.parts.items()
        )
        return [f"numbers: {ranges}", f"Answer with {space.size} numbers."]

    def describe_options(self, phase: Phase, space: Discrete) -> Sequence[str]:
        """Descriptions of the options of a phase; empty if it has none.

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

    def format_number(self, value: float) -> str:
        """A number as text."""
        return f"{value:.{self.digits}g}"

    def option_labels(self, space: Discrete) -> tuple[str, ...]:
        """The reply that selects each option."""
        return tuple(str(option) for option in range(space.num_options))

    def parse_reply(
        self, space: Space, reply: str, action_mask: Bool[Tensor, " option"] | None
    ) -> Tensor | None:
        """Action of a reply: an option `[]`, or numbers `[size]`; `None` if it is invalid.

        Args:
            space: action space.
            reply: the text.
            action_mask: legal options, of several choices one after the other; `None`: all.
        """
        if isinstance(space, Discrete):
            labels = self.option_labels(space)
            if reply.strip() not in labels:
                return None
            option = labels.index(reply.strip())
            legal = action_mask is None or bool(action_mask[option])
            return torch.tensor(option) if legal else None
        words = reply.replace(",", " ").split()
        if len(words) != space.size or not all(NUMBER_PATTERN.fullmatch(word) for word in words):
            return None
        numbers = [float(word) for word in words]
        if isinstance(space, MultiDiscrete):
            return _parse_multi_discrete(space, numbers, action_mask)
        bounded = zip(numbers, space.low, space.high, strict=True)
        if not all(math.isfinite(x) and low <= x <= high for x, low, high in bounded):
            return None
        return torch.tensor(numbers, dtype=torch.float32)

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


def unparsed_action(space: Space) -> Tensor:
    """An action outside the space: the simulator projects it to a legal one, and flags it."""
    if isinstance(space, Discrete):
        return torch.tensor(-1)
    if isinstance(space, Box):
        return torch.full((space.size,), math.nan)
    return torch.full((space.size,), -1)


def _parse_multi_discrete(
    space: MultiDiscrete, numbers: Sequence[float], action_mask: Tensor | None
) -> Tensor | None:
    """Several choices at once: whole numbers, all of legal options."""
    offset = 0
    for number, options in zip(numbers, space.num_options, strict=True):
        if number != int(number) or not 0 <= number < options:
            return None
        if action_mask is not None and not bool(action_mask[offset + int(number)]):
            return None
        offset += options
    return torch.tensor([int(number) for number in numbers])
