"""A turn of an agent as text: for language models, and for people who read along.

An environment describes what an agent observes and what it is asked (`Environment.describe`), and
turns a reply into an action (`Environment.parse_reply`). Both are functions of the observation and
the action mask alone, so that no text can contain what the agent does not observe.

Actions that are text themselves, messages, are `MultiDiscrete` spaces of bytes (`message_space`):
environments stay programs on tensors, and every client can send and receive them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.errors import UserError
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part, Space

ReplyForm = Literal["choice", "probabilities", "numbers", "message"]
NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
END_OF_MESSAGE = 256  # the code of all positions after the last byte


@dataclasses.dataclass(frozen=True)
class TurnText:
    """Text of one turn of an agent.

    Attributes:
        situation: what the agent observes, in words and numbers.
        question: what it is asked to decide.
        form: what the action is. choice: one of the options, a `Discrete` action; probabilities:
            the probability of each option, a `Box` action with at least one number per option, for
            answers that are measured and act on nothing; numbers: one number for each of a `Box` or
            `MultiDiscrete` action; message: free text, in a `message_space`.
        options: text of each option, in the order of the action's options.
        statements: for attitudes, a sentence in the first person that a person who selects the
            option would say; one for each option, or none.
        ordered: whether the options are points of a scale, in order.
        baseline_situation: the situation without what the answer may depend on, such as messages
            that an agent read; the likelihood of statements is compared with that in it. Default:
            the situation, without the persona alone.
        about_self: what the agent is told of itself, such as what it believes. Language models have
            it after their persona; like the persona it is not in a baseline.
    """

    situation: str
    question: str
    form: ReplyForm
    options: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    ordered: bool = False
    baseline_situation: str | None = None
    about_self: str = ""


@runtime_checkable
class RoleText(Protocol):
    """Text of a role of an environment: `Role.text`."""

    @property
    def rules(self) -> str:
        """See `Environment.role_rules`."""
        ...

    def describe(
        self,
        phase: str,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
    ) -> TurnText:
        """See `Environment.describe`."""
        ...

    def parse_reply(
        self, phase: str, reply: str, action_mask: Bool[Tensor, " option"] | None
    ) -> Tensor | None:
        """See `Environment.parse_reply`."""
        ...

    def message_score(
        self, phase: str, observation: Float[Tensor, " size"], message: str
    ) -> float | None:
        """See `Environment.message_score`."""
        ...


@dataclasses.dataclass(frozen=True)
class EnvironmentRoleText:
    """Text of a role, by the methods of its environment."""

    environment: Any  # an `Environment`, whose module imports this one
    role: str

    @property
    def rules(self) -> str:
        """See `Environment.role_rules`."""
        return self.environment.role_rules(self.role)

    def describe(self, phase: str, observation: Tensor, action_mask: Tensor | None) -> TurnText:
        """See `Environment.describe`."""
        return self.environment.describe(self.role, phase, observation, action_mask)

    def parse_reply(self, phase: str, reply: str, action_mask: Tensor | None) -> Tensor | None:
        """See `Environment.parse_reply`."""
        return self.environment.parse_reply(self.role, phase, reply, action_mask)

    def message_score(self, phase: str, observation: Tensor, message: str) -> float | None:
        """See `Environment.message_score`."""
        return self.environment.message_score(self.role, phase, observation, message)


def format_number(value: float, digits: int = 4) -> str:
    """A number as text, with this many significant digits."""
    return f"{value:.{digits}g}"


def observation_lines(space: Box, observation: Float[Tensor, " size"]) -> list[str]:
    """The parts of an observation by name, one line each."""
    return [
        f"{part}: {' '.join(map(format_number, space.read(observation, part).tolist()))}"
        for part in space.parts
    ]


def generic_turn(space: Space, observation_space: Box, observation: Tensor) -> TurnText:
    """Text of a turn from the names of the parts alone."""
    situation = "\n".join(observation_lines(observation_space, observation))
    if isinstance(space, Discrete):
        options = tuple(f"option {option}" for option in range(space.num_options))
        return TurnText(situation, "Which option do you choose?", "choice", options)
    if is_message_space(space):
        question = f"Write a message of at most {space.size} bytes."
        return TurnText(situation, question, "message")
    if isinstance(space, MultiDiscrete):
        ranges = ", ".join(f"0 to {count - 1}" for count in space.num_options)
        question = f"Make {space.size} choices, each a whole number: {ranges}."
        return TurnText(situation, question, "numbers")
    ranges = "; ".join(
        f"{name}: {part.size} from {format_number(part.low)} to {format_number(part.high)}"
        for name, part in space.parts.items()
    )
    return TurnText(situation, f"State {space.size} numbers ({ranges}).", "numbers")


def reply_form(turn: TurnText) -> str:
    """The sentence that states the form of a reply."""
    if turn.form == "choice":
        return "Answer with the number of an option, and nothing else."
    if turn.form == "probabilities":
        order = "in the order of their numbers"
        return f"Answer with the probability of each option, {order}, and nothing else."
    return "Answer with numbers, and nothing else." if turn.form == "numbers" else ""


def written_turn(turn: TurnText, action_mask: Bool[Tensor, " option"] | None = None) -> str:
    """A turn as one text: situation, question, legal options by number, and the reply's form.

    Args:
        turn: the turn.
        action_mask: legal options; `None`: all.
    """
    options = [
        f"{option + 1}. {text}"
        for option, text in enumerate(turn.options)
        if turn.form != "choice" or action_mask is None or bool(action_mask[option])
    ]
    parts = [turn.situation, turn.question, *options, reply_form(turn)]
    return "\n".join(part for part in parts if part)


# --- replies --------------------------------------------------------------------------------------


def parse_action(
    space: Space, reply: str, action_mask: Bool[Tensor, " option"] | None = None
) -> Tensor | None:
    """Action of a reply: a message, or numbers and nothing else; `None` if it is invalid."""
    if is_message_space(space):
        assert isinstance(space, MultiDiscrete)
        return encode_message(reply, space.size)
    return parse_numbers(space, reply, action_mask)


def parse_numbers(
    space: Space, reply: str, action_mask: Bool[Tensor, " option"] | None = None
) -> Tensor | None:
    """Action of a reply that consists of numbers and nothing else; `None` if it is invalid.

    An option is a number from 1 on, as the options are listed; the choices of a `MultiDiscrete`
    space are numbers from 0 on, the numbers of a `Box` lie within its limits.
    """
    words = reply.replace(",", " ").split()
    count = 1 if isinstance(space, Discrete) else space.size
    if len(words) != count or not all(NUMBER_PATTERN.fullmatch(word) for word in words):
        return None
    numbers = [float(word) for word in words]
    if not all(map(math.isfinite, numbers)):
        return None
    if isinstance(space, Box):
        bounded = zip(numbers, space.low, space.high, strict=True)
        if not all(low <= x <= high for x, low, high in bounded):
            return None
        return torch.tensor(numbers, dtype=torch.float32)
    sizes = (space.num_options,) if isinstance(space, Discrete) else space.num_options
    first = 1 if isinstance(space, Discrete) else 0
    chosen, offset = [], 0
    for number, size in zip(numbers, sizes, strict=True):
        option = number - first
        if option != int(option) or not 0 <= option < size:
            return None
        if action_mask is not None and not bool(action_mask[offset + int(option)]):
            return None
        chosen.append(int(option))
        offset += size
    return torch.tensor(chosen[0] if isinstance(space, Discrete) else chosen)


def parse_probabilities(space: Box, reply: str, num_options: int) -> Tensor | None:
    """Action of a reply that states the probability of each option of a turn.

    Further options of the space, of turns with more options, have probability 0.

    Raises:
        UserError: the turn has more options than the space has numbers.
    """
    if num_options > space.size:
        message = f"a turn has {num_options} options, and its action only {space.size} numbers"
        raise UserError(message, code="wrong_shape", path="options")
    found = parse_numbers(Box.of(probabilities=Part(num_options, 0.0, 1.0)), reply)
    return None if found is None else torch.nn.functional.pad(found, (0, space.size - num_options))


def unparsed_action(space: Space) -> Tensor:
    """An action outside the space, for external agents: it is projected to a legal one, flagged."""
    if isinstance(space, Discrete):
        return torch.tensor(-1)
    if isinstance(space, Box):
        return torch.full((space.size,), math.nan)
    return torch.full((space.size,), -1)


# --- messages -------------------------------------------------------------------------------------


def message_space(max_bytes: int) -> MultiDiscrete:
    """Space of texts of at most `max_bytes` bytes in UTF-8."""
    return MultiDiscrete((END_OF_MESSAGE + 1,) * max_bytes)


def is_message_space(space: Space) -> bool:
    """Whether the actions of a space are messages."""
    return isinstance(space, MultiDiscrete) and set(space.num_options) == {END_OF_MESSAGE + 1}


def encode_message(text: str, max_bytes: int) -> Int[Tensor, " byte"]:
    """A text as codes of its bytes, cut after the last whole character that fits."""
    codes = text.encode()[:max_bytes].decode(errors="ignore").encode()
    message = torch.full((max_bytes,), END_OF_MESSAGE)
    message[: len(codes)] = torch.tensor(list(codes), dtype=torch.int64)
    return message


def decode_message(codes: Tensor | Sequence[float]) -> str:
    """The text of codes `[byte]`, integers or floats. Invalid bytes become replacement characters.

    The text is whatever an agent sent: data to show, never code or markup.
    """
    values = codes.tolist() if isinstance(codes, Tensor) else list(codes)
    content = []
    for value in values:
        if not 0 <= value < END_OF_MESSAGE:
            break
        content.append(int(value))
    return bytes(content).decode(errors="replace")
