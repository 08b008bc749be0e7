"""Replies to prompts whose keys and values are known, token by token for all rows at once.

Each token is argmax(logits / temperature + Gumbel) over the whole vocabulary, so that it has the
distribution softmax(logits / temperature); at temperature 0 it is the likeliest. A row that has
ended is a row of padding until so many have ended that the others fit into a smaller pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.language.language_model import GumbelFunction, Reply
from mores.agents.language.models.chat_tokens import ChatTokens
from mores.agents.language.models.key_values import KeyValues
from mores.agents.language.models.local_forward import Forward
from mores.agents.language.models.local_prefill import Prefilled


@dataclasses.dataclass
class Drawn:
    """A reply while it is generated.

    Attributes:
        index: index of its request.
        temperature: divisor of logits.
        max_tokens: largest number of tokens.
        stop: texts at which it ends.
    """

    index: int
    temperature: float
    max_tokens: int
    stop: tuple[str, ...]
    tokens: list[int] = dataclasses.field(default_factory=list)
    logps: list[float] = dataclasses.field(default_factory=list)
    near_ties: int = 0
    is_complete: bool = False

    def add(self, token: int, logp: float, near_tie: bool, chat: ChatTokens) -> bool:
        """Add a token; return whether the reply ends with it."""
        self.tokens.append(token)
        self.logps.append(logp)
        self.near_ties += near_tie
        self.is_complete = chat.is_end(token) or (
            bool(self.stop) and any(text in chat.decode(self.tokens) for text in self.stop)
        )
        return self.is_complete or len(self.tokens) >= self.max_tokens

    def reply(self, chat: ChatTokens) -> Reply:
        """The reply, cut before the first of the texts at which it ends."""
        text = chat.decode(self.tokens)
        text = text[: min((text.find(stop) for stop in self.stop if stop in text), default=None)]
        return Reply(text, tuple(self.tokens), self.is_complete, tuple(self.logps), self.near_ties)


def generate_batch(
    forward: Forward,
    chat: ChatTokens,
    done: Prefilled,
    rows: Sequence[tuple[int, Drawn]],
    columns: int,
    block: int,
    gumbel: GumbelFunction | None,
    near_tie: float,
) -> int:
    """Generate replies, at most as many as a pass has rows.

    Args:
        forward: the model.
        chat: its tokenizer.
        done: the prompts.
        rows: row of the prompt, and empty reply, of each.
        columns: slots of a prompt.
        block: visible slots of replies grow by this number.
        gumbel: numbers of the requests.
        near_tie: differences of logits that rounding may cause; tokens that are decided by less,
            over their temperature, are counted.

    Returns:
        The number of computed tokens.
    """
    prompt_rows = [row for row, _ in rows]
    active = [each for _, each in rows]
    logits = done.logits[torch.tensor(prompt_rows, device=forward.device)]
    lengths = [len(done.prompts[row].tokens) for row in prompt_rows]
    adapters = [done.prompts[row].adapter for row in prompt_rows]
    buffer, places = done.buffer, prompt_rows  # places: row of the buffer of each active reply
    if prompt_rows != list(range(len(prompt_rows))) or len(rows) < len(done.prompts):
        buffer, places = _packed(forward, buffer, prompt_rows)
    computed, step = 0, 0
    while True:
        ended = _draw(chat, logits, active, step, gumbel, near_tie)
        going = [index for index, end in enumerate(ended) if not end]
        if not going:
            return computed
        active = [active[index] for index in going]
        lengths = [lengths[index] for index in going]
        adapters = [adapters[index] for index in going]
        places = [places[index] for index in going]
        if forward.padded(len(going)) < buffer.rows:
            buffer, places = _packed(forward, buffer, places)
        computed += len(active)
        tokens = torch.zeros(buffer.rows, 1, dtype=torch.int64)
        positions = torch.zeros(buffer.rows, 1, dtype=torch.int64)
        row_adapters = [adapters[0]] * buffer.rows
        for place, each, length, adapter in zip(places, active, lengths, adapters, strict=True):
            tokens[place, 0], positions[place, 0] = each.tokens[-1], length + step
            row_adapters[place] = adapter
        start = columns + step
        logits = forward(
            tokens.to(forward.device),
            torch.ones_like(tokens, dtype=torch.bool).to(forward.device),
            positions.to(forward.device),
            row_adapters,
            buffer,
            start,
            columns + -(-(step + 1) // block) * block,
            [(place, 0) for place in places],
        )
        step += 1


def _packed(
    forward: Forward, buffer: KeyValues, rows: Sequence[int]
) -> tuple[KeyValues, list[int]]:
    """The buffer with these rows only, padded with the first of them, and their new places."""
    padding = forward.padded(len(rows)) - len(rows)
    index = torch.tensor([*rows, *[rows[0]] * padding], device=forward.device)
    return buffer.take(index, buffer.slots), list(range(len(rows)))


def _draw(
    chat: ChatTokens,
    logits: Float[Tensor, "row token"],
    replies: Sequence[Drawn],
    step: int,
    gumbel: GumbelFunction | None,
    near_tie: float,
) -> list[bool]:
    """Draw the next token of each reply; whether each has ended."""
    temperatures = torch.tensor([each.temperature for each in replies], device=logits.device)
    drawn = (temperatures > 0).nonzero()[:, 0].tolist()
    divisors = torch.where(temperatures > 0, temperatures, 1.0)
    scaled = logits
    if any(each.temperature not in (0, 1) for each in replies):
        scaled = logits / divisors[:, None]
    perturbed = scaled
    if drawn:
        assert gumbel is not None
        noise = gumbel([replies[row].index for row in drawn], step).to(logits.device)
        if len(drawn) == len(replies):
            perturbed = scaled + noise
        else:
            perturbed = scaled.index_add(0, torch.tensor(drawn, device=logits.device), noise)
    best, tokens = perturbed.max(-1)
    second = perturbed.scatter(-1, tokens[:, None], float("-inf")).amax(-1)
    logps = scaled.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    close = best - second < near_tie / divisors
    return [
        each.add(token, logp, tie, chat)
        for each, token, logp, tie in zip(
            replies, tokens.tolist(), logps.tolist(), close.tolist(), strict=True
        )
    ]
