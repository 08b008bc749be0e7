"""Memory of language agents: the messages that they received and sent, as tensors.

An agent remembers its last `memory_turns` turns word by word: the message that it was asked, as
bytes, and its reply. A reply that the model generated is kept as the engine's codes (its tokens),
and never tokenized again; a reply that was read from probabilities is kept as the bytes of its
text. What becomes of older turns is stated by `memory_summary`:

    none         they are forgotten;
    first_turns  the first `memory_first_turns` turns of the episode are kept, the others forgotten;
    generated    when the window is full, the agent writes a summary of its summary so far and of
                 the older half of the window, which is then forgotten.

All tensors lead with world and agent. With the window they are of fixed size, so that a state can
be saved, restored, and reset in some worlds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mores.agents.language.language_model import Conversation, Engine, Message
from mores.core.errors import UserError

SummaryRule = Literal["none", "first_turns", "generated"]
NO_CODE = -1  # after the last code or byte
ASK_SUMMARY = (
    "Summarize for yourself what has happened so far and what you want to remember. "
    "Write a few sentences and nothing else."
)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Remembered turns of agents.

    Attributes:
        asked: bytes of the user's message of each turn; a turn has the slot `number % turns`, after
            the slots of the first turns.
        replied: codes of each reply, or bytes of its text.
        is_text: whether a reply is kept as bytes.
        summary: codes of the summary; empty: none.
        count: number of turns since the episode began.
        start: number of the first turn in the window.
    """

    asked: Int[Tensor, "world agent turn byte"]
    replied: Int[Tensor, "world agent turn code"]
    is_text: Bool[Tensor, "world agent turn"]
    summary: Int[Tensor, "world agent code"]
    count: Int[Tensor, "world agent"]
    start: Int[Tensor, "world agent"]


@dataclasses.dataclass(frozen=True)
class RememberedReply:
    """A reply to remember: codes of the engine, or a text."""

    codes: tuple[int, ...] = ()
    text: str | None = None


@dataclasses.dataclass(frozen=True)
class MemorySettings:
    """Size of the window and rule for what is older.

    Attributes:
        turns: turns in the window; 0: no memory.
        first_turns: first turns of the episode that are kept.
        summary: the rule.
        message_bytes: largest size of a message.
        reply_codes: largest number of codes of a reply or summary, and bytes of a reply.
    """

    turns: int
    first_turns: int
    summary: SummaryRule
    message_bytes: int
    reply_codes: int

    def empty(self, num_worlds: int, num_agents: int, device: torch.device | str) -> Memory:
        """Memory without turns."""
        size, slots = (num_worlds, num_agents), self.first_turns + self.turns

        def codes(*dims: int, dtype: torch.dtype) -> Tensor:
            return torch.full((*size, *dims), NO_CODE, dtype=dtype, device=device)

        zero = torch.zeros(size, dtype=torch.int64, device=device)
        return Memory(
            codes(slots, self.message_bytes, dtype=torch.int16),
            codes(slots, self.reply_codes, dtype=torch.int32),
            torch.zeros(*size, slots, dtype=torch.bool, device=device),
            codes(self.reply_codes, dtype=torch.int32),
            zero,
            zero.clone(),
        )

    def slot(self, turn: int) -> int:
        """Slot of a turn."""
        if turn < self.first_turns:
            return turn
        return self.first_turns + turn % self.turns


class MemoryReader:
    """Memory of the agents of a role while they act.

    Args:
        memory: the memory before the turn. It is not modified.
        settings: window and rule.
        engine: engine of the model.
    """

    def __init__(self, memory: Memory, settings: MemorySettings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        on_host = {f.name: getattr(memory, f.name) for f in dataclasses.fields(memory)}
        self._device = memory.count.device
        self._tensors = {name: tensor.cpu().clone() for name, tensor in on_host.items()}

    @property
    def memory(self) -> Memory:
        """The memory after what was remembered."""
        return Memory(**{name: x.to(self._device) for name, x in self._tensors.items()})

    def conversation(self, row: tuple[int, int]) -> Conversation:
        """Remembered messages of an agent, oldest first."""
        first, window, left_out = self._turns(row)
        messages = [message for turn in first for message in self._turn(row, turn)]
        if summary := _codes(self._tensors["summary"][row]):
            messages += [Message("user", ASK_SUMMARY), self._engine.reply_message(summary)]
        elif first and left_out and window:
            note = f"({left_out} {'turn is' if left_out == 1 else 'turns are'} left out here.)"
            asked, reply = self._turn(row, window[0])
            messages += [Message("user", f"{note}\n{asked.text}"), reply]
            window = window[1:]
        return (*messages, *(message for turn in window for message in self._turn(row, turn)))

    def _turns(self, row: tuple[int, int]) -> tuple[list[int], list[int], int]:
        """Numbers of the first turns, of those in the window, and how many are between them."""
        count = int(self._tensors["count"][row])
        first = list(range(min(count, self._settings.first_turns)))
        start = max(len(first), int(self._tensors["start"][row]), count - self._settings.turns)
        return first, list(range(start, count)), start - len(first)

    def _turn(self, row: tuple[int, int], turn: int) -> tuple[Message, Message]:
        slot = self._settings.slot(turn)
        asked = bytes(_codes(self._tensors["asked"][row][slot])).decode()
        codes = _codes(self._tensors["replied"][row][slot])
        if bool(self._tensors["is_text"][row][slot]):
            return Message("user", asked), Message("assistant", bytes(codes).decode())
        return Message("user", asked), self._engine.reply_message(codes)

    # --- what is remembered ----------------------------------------------------------------------

    def remember(self, row: tuple[int, int], asked: str, reply: RememberedReply) -> None:
        """Add a turn.

        Raises:
            UserError: the message or the reply is longer than there is room for.
        """
        settings, tensors = self._settings, self._tensors
        count = int(tensors["count"][row])
        slot = settings.slot(count)
        content = asked.encode(errors="replace")
        codes: Sequence[int] = reply.codes
        if reply.text is not None:
            codes = reply.text.encode(errors="replace")
        _set(tensors["asked"][row][slot], content, "message")
        _set(tensors["replied"][row][slot], codes, "reply")
        tensors["is_text"][row][slot] = reply.text is not None
        tensors["count"][row] = count + 1
        if settings.summary != "generated":
            tensors["start"][row] = max(0, count + 1 - settings.turns)

    def summary_turns(self, row: tuple[int, int]) -> int:
        """Number of turns that must be summarized before the next one; 0: none."""
        if self._settings.summary != "generated":
            return 0
        held = int(self._tensors["count"][row]) - int(self._tensors["start"][row])
        return (self._settings.turns + 1) // 2 if held >= self._settings.turns else 0

    def summary_conversation(self, row: tuple[int, int]) -> Conversation:
        """The messages to be summarized, and the request to do so."""
        start = int(self._tensors["start"][row])
        messages = list[Message]()
        if summary := _codes(self._tensors["summary"][row]):
            messages += [Message("user", ASK_SUMMARY), self._engine.reply_message(summary)]
        for turn in range(start, start + self.summary_turns(row)):
            messages += self._turn(row, turn)
        return (*messages, Message("user", ASK_SUMMARY))

    def summarize(self, row: tuple[int, int], codes: Sequence[int]) -> None:
        """Replace the older turns by a summary."""
        self._tensors["start"][row] += self.summary_turns(row)
        _set(self._tensors["summary"][row], codes, "summary")


def _codes(row: Int[Tensor, " code"]) -> list[int]:
    codes = row.tolist()
    return codes[: codes.index(NO_CODE)] if NO_CODE in codes else codes


def _set(row: Int[Tensor, " code"], codes: Sequence[int], what: str) -> None:
    """Write codes into a row; nothing is ever cut without a word."""
    if len(codes) > len(row):
        raise UserError(
            f"a {what} of {len(codes)} bytes or codes is longer than the memory has room for, "
            f"{len(row)}: raise memory_bytes",
            code="too_large",
            path="memory_bytes",
        )
    row.fill_(NO_CODE)
    row[: len(codes)] = torch.tensor(list(codes), dtype=row.dtype)
