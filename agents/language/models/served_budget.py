"""Prices of tokens, budgets, and estimates of what requests will use.

A call is paid in advance: before it is sent, the most that it can use is added to what was spent;
when the answer arrives, this is corrected by the server's own count. A call that could pass a limit
is therefore never sent. A call that failed without an answer, and one that was in flight when its
process was killed, keeps the advance, since the server may have computed it. So does an answer that
states no plausible count: the advance is then its number of tokens in costs and metrics as well.
"""

from __future__ import annotations

import dataclasses
import math

from mores.agents.language.language_model import Conversation, TokenCount

BYTES_PER_TOKEN = 4  # of English text, roughly; other languages have fewer
TOKENS_PER_MESSAGE = 4  # of a chat template around each message, roughly
MOST_TOKENS_PER_MESSAGE = 32


@dataclasses.dataclass(frozen=True)
class Amount:
    """What calls used.

    Attributes:
        requests: calls sent, repeated ones included.
        prompt_tokens: tokens of conversations.
        reply_tokens: generated tokens.
        cost: price of the tokens, in the currency of the price list.
    """

    requests: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    cost: float = 0.0

    @property
    def row(self) -> tuple[int, int, int, float]:
        """The quantities, in this order."""
        return self.requests, self.prompt_tokens, self.reply_tokens, self.cost

    def __add__(self, other: Amount) -> Amount:
        """The sum, quantity by quantity."""
        return Amount(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.reply_tokens + other.reply_tokens,
            self.cost + other.cost,
        )

    def __sub__(self, other: Amount) -> Amount:
        """The difference, quantity by quantity."""
        return Amount(
            self.requests - other.requests,
            self.prompt_tokens - other.prompt_tokens,
            self.reply_tokens - other.reply_tokens,
            self.cost - other.cost,
        )


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of what may be spent; `None`: none.

    Attributes:
        max_cost: in the currency of the price list.
        max_requests: calls sent, repeated ones included.
        max_tokens: of conversations and replies together.
    """

    max_cost: float | None = None
    max_requests: int | None = None
    max_tokens: int | None = None

    def reason_against(self, total: Amount) -> str:
        """Which limit a total passes; empty if none."""
        tokens = total.prompt_tokens + total.reply_tokens
        for name, used in (
            ("max_requests", total.requests),
            ("max_tokens", tokens),
            ("max_cost", total.cost),
        ):
            limit = getattr(self, name)
            if limit is not None and used > limit:
                return f"{name} {limit:g}"
        return ""


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in one currency."""

    per_million_input: float = 0.0
    per_million_output: float = 0.0

    def cost(self, prompt_tokens: int, reply_tokens: int) -> float:
        """Price of tokens."""
        price = prompt_tokens * self.per_million_input + reply_tokens * self.per_million_output
        return price / 1e6

    def count(self, prompt_tokens: int, cached_tokens: int, reply_tokens: int) -> TokenCount:
        """A count of a server, with its price."""
        cost = self.cost(prompt_tokens, reply_tokens)
        return TokenCount(prompt_tokens, cached_tokens, reply_tokens, cost)

    def amount(self, requests: int, prompt_tokens: int, reply_tokens: int) -> Amount:
        """An amount with its cost."""
        cost = self.cost(prompt_tokens, reply_tokens)
        return Amount(requests, prompt_tokens, reply_tokens, cost)


def estimate_tokens(conversation: Conversation) -> int:
    """Tokens of a conversation, from its length: four bytes a token, four tokens a message."""
    return sum(
        math.ceil(len(message.text.encode()) / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE
        for message in conversation
    )


def most_tokens(conversation: Conversation) -> int:
    """Tokens that a conversation has at most: one a byte, and 32 a message for the template."""
    return sum(len(message.text.encode()) + MOST_TOKENS_PER_MESSAGE for message in conversation)
