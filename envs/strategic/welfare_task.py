"""Payoffs of one conversation between a user and an assistant: correctness, delay, words.

A request is definite or vague. A direct answer of n hundred words is correct with probability
`p A(n)`, where p is `accuracy_definite` or `accuracy_vague` and `A(n) = 1 - exp(-n / words_scale)`
(1 without a scale). The acts of the assistant:

    direct          answer
    clarify         question first: the request becomes definite, the user waits one turn
    answer_and_ask  answer with a follow-up question; the user of a vague request whose answer is
                    wrong replies, waits one turn, and gets an answer to a definite request

    U = w_u correct + window_u(n) - delay_cost turns - followup_cost [asks] - reading_cost words
    L = w_l correct + window_l(n) - price words

`words` are all words that the assistant writes, in hundreds. The length windows are those of
GTAlign (arXiv 2510.08872, official code): `weight sigmoid(k (n - low)) sigmoid(k (high - n))`. It
rewards lengths by windows and has no A(n).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError

ACTS = ("direct", "clarify", "answer_and_ask")
DIRECT, CLARIFY, ANSWER_AND_ASK = range(3)
NUM_ACTS = len(ACTS)


class LengthWindow(Config):
    """Reward of an answer's length: near `weight` between `low` and `high`, smooth at both ends."""

    weight: float = Field(default=0.2, ge=0, description="reward well within the window")
    low: float = Field(default=0.2, ge=0, description="lower end, hundred words")
    high: float = Field(default=5.0, ge=0, description="upper end, hundred words")
    steepness: float = Field(default=0.5, gt=0, le=100, description="k, 1/hundred words")

    def model_post_init(self, context: object) -> None:
        """Refuse an empty window."""
        if self.low >= self.high:
            raise ParameterError(message="low must be below high", code="conflict")

    def value(self, words: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Reward of an answer of so many hundred words."""
        above = 1.0 + torch.exp(self.steepness * (self.low - words))
        below = 1.0 + torch.exp(self.steepness * (words - self.high))
        return self.weight / (above * below)


class Outcome(NamedTuple):
    """Result of conversations; all of one shape.

    Attributes:
        user, assistant: utilities U and L.
        accuracy: whether, or with which probability, the final answer is correct.
        words: words written by the assistant, hundreds.
    """

    user: Float[Tensor, "*shape"]
    assistant: Float[Tensor, "*shape"]
    accuracy: Float[Tensor, "*shape"]
    words: Float[Tensor, "*shape"]


class Costs(NamedTuple):
    """What differs between people, in utility: per turn, and per hundred words read or written."""

    delay: Float[Tensor, "*shape"]
    reading: Float[Tensor, "*shape"]
    price: Float[Tensor, "*shape"]

    def expand_right(self, dims: int) -> Costs:
        """The same with `dims` dimensions of length 1 at the end."""
        return Costs(*(x[(..., *[None] * dims)] for x in self))


class WelfareTask(Config):
    """Accuracies, lengths and weights of a conversation, the same for all people."""

    accuracy_definite: float = Field(
        default=0.9, ge=0, le=1, description="probability of a correct answer, definite request"
    )
    accuracy_vague: float = Field(
        default=0.4, ge=0, le=1, description="probability of a correct answer, vague request"
    )
    followup_cost: float = Field(
        default=0.03, ge=0, description="cost of reading a follow-up question, utility"
    )
    words_scale: float | None = Field(
        default=1.0, gt=0, description="tau of A(n), hundred words; null: A(n) = 1"
    )
    question_words: float = Field(
        default=0.3, ge=0, description="words of a clarifying question, hundreds"
    )
    followup_words: float = Field(
        default=0.6, ge=0, description="words of a follow-up question, hundreds"
    )
    user_accuracy_weight: float = Field(
        default=1.0, ge=0, description="utility of a correct answer to the user"
    )
    assistant_accuracy_weight: float = Field(
        default=1.0, ge=0, description="utility of a correct answer to the operator"
    )
    user_window: LengthWindow | None = Field(
        default=None, description="the user's reward of the length; null: none"
    )
    assistant_window: LengthWindow | None = Field(
        default=None, description="the operator's reward of the length; null: none"
    )

    def length_factor(self, words: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A(n) of answers of n hundred words."""
        if self.words_scale is None:
            return torch.ones_like(words)
        return 1.0 - torch.exp(words * (-1.0 / self.words_scale))

    def correct_probabilities(
        self,
        is_vague: Float[Tensor, "*#shape"],
        act: Int[Tensor, "*#shape"],
        words: Float[Tensor, "*#shape"],
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*#shape"]]:
        """Probabilities that the first answer is correct, and the one after a user's reply."""
        clarifies = (act == CLARIFY).to(words.dtype)
        stays_vague = is_vague * (1.0 - clarifies)
        second = self.accuracy_definite * self.length_factor(words)
        lost = self.accuracy_definite - self.accuracy_vague
        first = (self.accuracy_definite - lost * stays_vague) * self.length_factor(words)
        return first, second

    def outcome(
        self,
        is_vague: Float[Tensor, "*#shape"],
        act: Int[Tensor, "*#shape"],
        words: Float[Tensor, "*#shape"],
        costs: Costs,
        draws: tuple[Tensor, Tensor] | None = None,
    ) -> Outcome:
        """Outcomes of conversations; all arguments broadcast.

        Args:
            is_vague: 1 for vague requests, 0 for definite ones.
            act: index in `ACTS`.
            words: length of an answer, hundreds.
            costs: of the people.
            draws: uniform numbers, which decide whether the first and the second answer are
                correct; None: expected outcomes.
        """
        clarifies = (act == CLARIFY).to(words.dtype)
        asks = (act == ANSWER_AND_ASK).to(words.dtype)
        first, second = self.correct_probabilities(is_vague, act, words)
        if draws is not None:
            first, second = (
                (draws[0] < first).to(words.dtype),
                (draws[1] < second).to(words.dtype),
            )
        replies = asks * is_vague * (1.0 - first)
        accuracy = first + replies * second
        total_words = words * (1.0 + replies)
        total_words = total_words + self.question_words * clarifies + self.followup_words * asks
        user = self.user_accuracy_weight * accuracy - costs.delay * (clarifies + replies)
        user = user - self.followup_cost * asks - costs.reading * total_words
        assistant = self.assistant_accuracy_weight * accuracy - costs.price * total_words
        if self.user_window is not None:
            user = user + self.user_window.value(words)
        if self.assistant_window is not None:
            assistant = assistant + self.assistant_window.value(words)
        return Outcome(*torch.broadcast_tensors(user, assistant, accuracy, total_words))

    def expected_value(
        self,
        value: Callable[[Tensor, Tensor], Tensor],
        is_vague: Float[Tensor, "*#shape"],
        act: Int[Tensor, "*#shape"],
        words: Float[Tensor, "*#shape"],
        costs: Costs,
        drawn_outcomes: bool,
    ) -> Float[Tensor, "*shape"]:
        """Expectation of a function of U and L over what is paid.

        With `drawn_outcomes` each conversation pays the value of answers that are right or wrong:
        E[value(U, L)], a sum over the four cases. Without, it pays value(E[U], E[L]). They are
        equal for linear functions only.

        Args:
            value: function of U and L, elementwise.
            is_vague, act, words, costs: as of `outcome`.
            drawn_outcomes: as the environment's parameter.
        """
        if not drawn_outcomes:
            cells = self.outcome(is_vague, act, words, costs)
            return value(cells.user, cells.assistant)
        probabilities = self.correct_probabilities(is_vague, act, words)
        expected = torch.zeros_like(probabilities[0])
        for case in itertools.product((True, False), repeat=2):  # numbers below and above any p
            draws = tuple(torch.full_like(words, -1.0 if correct else 2.0) for correct in case)
            first, second = (
                p if correct else 1.0 - p for p, correct in zip(probabilities, case, strict=True)
            )
            cells = self.outcome(is_vague, act, words, costs, (draws[0], draws[1]))
            expected = expected + first * second * value(cells.user, cells.assistant)
        return expected

    def payoff_matrix(
        self, words: Float[Tensor, "*#shape"] | float, costs: Costs
    ) -> Float[Tensor, "*shape cell"]:
        """Expected utilities in the six cells of request and act, 12 numbers.

        In the order of request (definite, vague), act, and assistant before user, as in GTAlign.

        Args:
            words: length of an answer, hundreds.
            costs: of the people, `[*shape]`.
        """
        length = torch.as_tensor(words, dtype=costs.price.dtype, device=costs.price.device)
        vague, act = type_and_act(costs.price)
        cells = self.outcome(vague, act, length[(..., None, None)], costs.expand_right(2))
        return torch.stack([cells.assistant, cells.user], -1).flatten(-3)


def type_and_act(like: Tensor) -> tuple[Float[Tensor, "type 1"], Int[Tensor, " act"]]:
    """Whether requests are vague, `[type, 1]`, and acts, `[act]`: together all six cells."""
    vague = torch.tensor([[0.0], [1.0]], dtype=like.dtype, device=like.device)
    return vague, torch.arange(NUM_ACTS, device=like.device)
