"""Language models as the language policies use them: scores of given texts, and generation.

A `LanguageModel` is a specification (registry `language_model`: local weights, a server, a tiny
random model); its `engine` holds what is loaded or connected, once per process. An engine gets all
requests of a phase in one call, from all agents, worlds and replicates, and returns results in
their order. A result depends on its request alone, not on the other requests of the call.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Message:
    """A message of a conversation.

    Attributes:
        role: who speaks: system (the rules), user (the environment), assistant (the agent).
        text: the text. It is data: an engine passes it on, and executes or interprets nothing.
        token_ids: tokens that the model generated for it, end token included; they are kept, so
            that the text is never tokenized again. Empty: the text is tokenized.
    """

    role: Literal["system", "user", "assistant"]
    text: str
    token_ids: tuple[int, ...] = ()


Conversation = tuple[Message, ...]


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
    """A conversation that ends with a user message, and texts that could be the next reply.

    Attributes:
        conversation: the messages.
        continuations: replies to be scored, at least one.
        with_end: whether the end of the reply is scored with each continuation. Labels of which
            one is a prefix of another need it.
        adapter: index of the adapter of the agent's model; -1: the base model.
        address: which measurement this is; see `GenerateRequest`. Scores are not drawn, so that
            equal requests may share an address.
    """

    conversation: Conversation
    continuations: tuple[str, ...]
    with_end: bool = False
    adapter: int = -1
    address: str = ""


@dataclasses.dataclass(frozen=True)
class TokenCount:
    """Tokens and their price, as a server counts them.

    Attributes:
        prompt_tokens: tokens of the conversation.
        cached_tokens: those of them that the server did not compute again.
        reply_tokens: generated tokens.
        cost: in the currency of the price list. A reply that was kept costs what it cost when it
            was computed, so that a run that is repeated or resumed has the same metrics.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    reply_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: TokenCount) -> TokenCount:
        """The sum, quantity by quantity."""
        return TokenCount(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reply_tokens + other.reply_tokens,
            self.cost + other.cost,
        )


@dataclasses.dataclass(frozen=True)
class Score:
    """Log-probability of each continuation, summed over its tokens, and its number of tokens.

    Log-probabilities are numbers, or tensors without dimension: with gradients, while a model
    learns. `counted` is the count of a server; `None` in process.
    """

    logps: tuple[float | Tensor, ...]
    num_tokens: tuple[int, ...]
    counted: TokenCount | None = None


@dataclasses.dataclass(frozen=True)
class GenerateRequest:
    """A conversation that ends with a user message, to be continued by a reply.

    Attributes:
        conversation: the messages.
        max_new_tokens: largest number of tokens of the reply.
        temperature: divisor of logits; 0: the likeliest token.
        adapter: index of the adapter of the agent's model; -1: the base model.
        stop: texts at which the reply ends; the text is cut before them.
        address: which draw this is: role, replicate, world, agent, episode, round, phase and call,
            the same in all arms. Models that run elsewhere derive their seed from it and keep
            replies under it. Two draws of one run never have one address.
        reply_start: tokens with which the reply begins, for searches; the result has the tokens
            after them.
    """

    conversation: Conversation
    max_new_tokens: int
    temperature: float = 1.0
    adapter: int = -1
    stop: tuple[str, ...] = ()
    address: str = ""
    reply_start: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reply:
    """A generated reply.

    Attributes:
        text: the text, without the end token.
        token_ids: its tokens, end token included if the model generated it.
        is_complete: whether it ended by itself, and not at the limit of tokens.
        logps: log-probability of each token under the sampling distribution, if known.
        near_ties: number of tokens where the two largest of logit / temperature + Gumbel noise
            differ by less than `Engine.near_tie` / temperature; at temperature 0, where the two
            largest logits differ by less than `Engine.near_tie`.
        counted: tokens and price by the count of a server; `None` in process.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    is_complete: bool = True
    logps: tuple[float, ...] = ()
    near_ties: int = 0
    counted: TokenCount | None = None


@dataclasses.dataclass(frozen=True)
class TokenCandidate:
    """A token that may come next.

    Attributes:
        token: the token.
        logp: its log-probability at temperature 1.
        is_end: whether it ends the reply.
    """

    token: int
    logp: float
    is_end: bool


# Gumbel noise (`coupling`) `[row, token of the vocabulary]` of some requests of a call, by their
# indices, at a position of the reply. Every number is addressed by its agent, call and position, so
# that it is the same in all arms of an experiment and in any batch.
GumbelFunction = Callable[[Sequence[int], int], Float[Tensor, "row token"]]


@dataclasses.dataclass
class Usage:
    """What an engine was asked and what it computed, since the process started.

    Attributes:
        requests: number of requests.
        prompt_tokens: tokens of conversations.
        computed_tokens: tokens that were computed and not shared or cached.
        reply_tokens: generated tokens.
        cost: price of served tokens, in the currency of the price list.
        retries: calls that were repeated after a failure.
        cache_hits: requests answered from a cache on disk.
    """

    requests: int = 0
    prompt_tokens: int = 0
    computed_tokens: int = 0
    reply_tokens: int = 0
    cost: float = 0.0
    retries: int = 0
    cache_hits: int = 0


class Engine(ABC):
    """A language model that is loaded or connected.

    Attributes:
        couples: whether replies are drawn with Gumbel numbers of the caller. If not, arms share no
            random numbers: their results are marked as not coupled.
        scores: whether continuations can be scored. If not, choices are read from replies.
        near_tie: difference of two logits that rounding may cause, of another batch, machine or
            library: tokens and choices that are decided by less, at their temperature, are counted.
        vocabulary_size: tokens of the vocabulary, each with Gumbel noise of its own; 0 if
            `couples` is false.
        usage: counts of requests and tokens.
    """

    couples: ClassVar[bool] = True
    scores: ClassVar[bool] = True
    near_tie: float = 1e-4

    def __init__(self) -> None:
        self.usage = Usage()
        self.vocabulary_size = 0

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-probabilities of the continuations of each request.

        Raises:
            UserError: the model cannot score, or a conversation is longer than its context.
        """
        raise UserError(
            f"{type(self).__name__} cannot score given texts: use the readout free_text",
            code="unsupported",
            path="readout",
        )

    @abstractmethod
    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        """Replies, drawn with the caller's Gumbel numbers.

        Args:
            requests: the requests.
            gumbel: required if `couples` and a temperature is positive; else ignored.

        Raises:
            UserError: a conversation is longer than the model's context; a server failed.
        """

    def next_tokens(
        self, requests: Sequence[GenerateRequest], count: int
    ) -> list[list[TokenCandidate]]:
        """The likeliest next tokens of each request, at most `count`, the likeliest first.

        Raises:
            UserError: the model does not give them.
        """
        raise UserError(
            f"{type(self).__name__} does not give the likeliest tokens: use another search",
            code="unsupported",
            path="model",
        )

    @abstractmethod
    def count_tokens(self, conversation: Conversation) -> int:
        """Number of tokens of a conversation; of a server, an estimate."""

    def reply_codes(self, reply: Reply) -> Sequence[int]:
        """The reply as numbers for the memory of an agent: its tokens, or bytes without any."""
        return reply.token_ids

    def reply_message(self, codes: Sequence[int]) -> Message:
        """The message of a reply that was stored as `reply_codes`."""
        raise NotImplementedError


class LanguageModel(Config, ABC):
    """Specification of a language model: what is needed to load it or to connect to it.

    Attributes:
        couples: `Engine.couples` of its engine.
    """

    tags: ClassVar[Mapping[str, object]] = {}
    couples: ClassVar[bool] = True

    @abstractmethod
    def engine(self) -> Engine:
        """The engine, loaded or connected at the first call and shared in the process.

        Raises:
            UserError: a library, file or server is missing.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, str]:
        """What determines the numbers: sha256 of weights, tokenizer, chat template, dtype, padded
        shapes; of a server its address and the name of the model. Part of the digest of a cell.
        """


TokenIds = Int[Tensor, "row position"]
