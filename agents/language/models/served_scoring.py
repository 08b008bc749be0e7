"""Scorers: log-probabilities of given replies, computed by a server.

| method | needs | scores |
|---|---|---|
| prompt | `/v1/completions` with `echo` and `logprobs` on lists of tokens; tokens from a local tokenizer or the server's `/tokenize` (vLLM; SGLang with a tokenizer) | any text, exactly |
| next_token | `/v1/chat/completions` with `logprobs` and `top_logprobs` (some paid APIs) | labels of one token |

A server that ignores such a parameter answers without an error (`transformers serve`, llama.cpp with
`echo`): a test request checks each method once, before the first score.

**Bound of `next_token`.** The probability of a label is the sum over listed tokens that equal it
apart from whitespace. A label outside the list has at most the probability of the last listed token,
and at most 1 minus the sum of the list: its score is the smaller of the two, an upper bound. With 20
tokens it is usually below .001. If no label is listed, all scores would be bounds: this is an error.

The bound holds for labels of one token. A local tokenizer checks the number of tokens. Without it, a
label outside the list may have several tokens, of which the first is listed (`1` of `10`). The total
probability of listed prefixes of the label is then added to its bound; .01 or more is an error.
"""  # noqa: E501

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from mores.agents.language.language_model import Score, ScoreRequest, TokenCount
from mores.agents.language.models.served_answers import (
    UnusableAnswer,
    echoed_logps,
    next_token_logps,
)
from mores.agents.language.models.served_budget import estimate_tokens, most_tokens
from mores.agents.language.models.served_calls import Answer, Call, Caller
from mores.agents.language.models.served_tokens import (
    LocalTokenizer,
    ScoredTokens,
    ServerTokenizer,
    TokenSource,
    messages_json,
)
from mores.core.errors import UserError, printable

Scoring = Literal["auto", "prompt", "next_token"]
PROBE = "Yes or no?"
MAX_PREFIX_PROBABILITY = 0.01  # of listed tokens that are prefixes of an unlisted label


class Scorer(ABC):
    """Interface of a scoring method."""

    def __init__(self, caller: Caller, model: str) -> None:
        self.caller, self.model = caller, model

    @abstractmethod
    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-probabilities of the continuations of each request."""

    def call(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers to calls, none of which is optional."""
        return [answer for answer in self.caller(calls) if answer is not None]

    def token_count(self, answers: Sequence[Answer]) -> TokenCount:
        """Number of tokens and price of the answers to one request."""
        count = self.caller.prices.count
        names = "prompt_tokens", "cached_tokens", "reply_tokens"
        return sum((count(*(each[n] for n in names)) for each in answers), TokenCount())


class PromptScorer(Scorer):
    """Scorer of whole texts: sends them as a prompt, whose log-probabilities the server returns."""

    def __init__(self, caller: Caller, model: str, source: TokenSource) -> None:
        super().__init__(caller, model)
        self.source = source

    @classmethod
    def is_available(cls, caller: Caller, model: str) -> bool:
        """Whether the server returns log-probabilities of a prompt."""
        body = {**cls.parameters(model), "prompt": PROBE}

        def parse(data: Any) -> Answer:
            try:  # every prompt has more than one token; the first has no probability
                return echoed_logps(data, model, 1, 2)
            except UnusableAnswer:
                return {"logps": []}

        call = Call("completions", body, parse, "", 64, 1, optional=True, is_same_in_cells=True)
        (answer,) = caller([call])
        return bool(answer and answer["logps"])

    @staticmethod
    def parameters(model: str) -> dict[str, Any]:
        """Parameters of the request. It generates one token, since servers require at least one."""
        return {"model": model, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Scorer`."""
        tokens = self.source.tokens(requests)
        calls = [
            self._call(request, each)
            for request, continuations in zip(requests, tokens, strict=True)
            for each in continuations
        ]
        answers, scores = iter(self.call(calls)), []
        for continuations in tokens:
            received = list(itertools.islice(answers, len(continuations)))
            logps = tuple(math.fsum(answer["logps"]) for answer in received)
            lengths = tuple(len(each.reply) for each in continuations)
            scores.append(Score(logps, lengths, self.token_count(received)))
        return scores

    def _call(self, request: ScoreRequest, tokens: ScoredTokens) -> Call:
        first, last = len(tokens.prompt), len(tokens.prompt) + len(tokens.reply)
        body = {**self.parameters(self.model), "prompt": tokens.prompt + tokens.reply}

        def parse(data: Any) -> Answer:
            return echoed_logps(data, self.model, first, last)

        return Call("completions", body, parse, request.address, last, 1, last + 1)


class NextTokenScorer(Scorer):
    """Scorer of one-token labels by the most probable next tokens (`top_logprobs`)."""

    def __init__(
        self,
        caller: Caller,
        model: str,
        parameters: dict[str, Any],
        top: int,
        tokenizer: LocalTokenizer | None = None,
    ) -> None:
        super().__init__(caller, model)
        self._tokenizer = tokenizer
        self._parameters = {**parameters, "logprobs": True, "top_logprobs": top, "temperature": 1}

    def is_available(self) -> bool:
        """Whether the server returns `top_logprobs`."""
        messages = [{"role": "user", "content": PROBE}]

        def parse(data: Any) -> Answer:
            try:
                return next_token_logps(data, self.model)
            except UnusableAnswer:
                return {"tokens": []}

        body = {**self._parameters, "messages": messages}
        call = Call(
            "chat/completions", body, parse, "", 64, 1, optional=True, is_same_in_cells=True
        )
        (answer,) = self.caller([call])
        return bool(answer and answer["tokens"])

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Scorer`."""
        for request in requests:
            for text in request.continuations:
                if request.with_end or len(text.split()) != 1 or len(text) > 12:
                    raise self._no_label(text)
            if self._tokenizer is not None:
                (tokens,) = self._tokenizer.tokens([request])
                for text, each in zip(request.continuations, tokens, strict=True):
                    if len(each.reply) != 1:
                        raise self._no_label(text)
        answers = self.call([self._call(request) for request in requests])
        return [
            self._score(request, answer) for request, answer in zip(requests, answers, strict=True)
        ]

    def _call(self, request: ScoreRequest) -> Call:
        conversation = request.conversation
        body = {**self._parameters, "messages": messages_json(conversation)}

        def parse(data: Any) -> Answer:
            return next_token_logps(data, self.model)

        most, estimate = most_tokens(conversation), estimate_tokens(conversation) + 1
        return Call("chat/completions", body, parse, request.address, most, 1, estimate)

    def _no_label(self, text: str) -> UserError:
        return UserError(
            f"the server {self.caller.url} scores labels of one token only, of which none begins "
            f"another, and not {printable(text, 40)!r}: use the readout free_text, or letters or "
            "yes_no",
            code="unsupported",
            path="readout",
        )

    def _score(self, request: ScoreRequest, answer: Answer) -> Score:
        tokens = [(token, logp) for token, logp in answer["tokens"]]
        for label in request.continuations:
            if (
                self._tokenizer is None
                and _prefix_probability(label, tokens) >= MAX_PREFIX_PROBABILITY
            ):
                raise self._no_label(label)
        logps = label_logps(request.continuations, tokens)
        if logps is None:
            listed = ", ".join(repr(printable(token, 12)) for token, _ in answer["tokens"][:5])
            raise UserError(
                f"none of the labels {', '.join(request.continuations)} is a likely next token of "
                f"{printable(self.model, 200)} (likely are {listed}): use the readout free_text",
                code="unsupported",
                path="readout",
            )
        return Score(logps, (1,) * len(logps), self.token_count([answer]))


def label_logps(
    labels: Sequence[str], tokens: Sequence[tuple[str, float]]
) -> tuple[float, ...] | None:
    """Log-probability of each label, or its upper bound; `None` if no label is listed.

    Args:
        labels: labels of one token each.
        tokens: most probable next tokens with their log-probabilities.
    """
    found = [[logp for token, logp in tokens if token.strip() == label.strip()] for label in labels]
    if not any(found):
        return None
    rest = 1 - math.fsum(math.exp(logp) for _, logp in tokens)
    bound = min(min(logp for _, logp in tokens), math.log(rest) if rest > 1e-9 else -20.0)
    return tuple(
        _log_sum(logps) if logps else math.log(math.exp(bound) + _prefix_probability(label, tokens))
        for label, logps in zip(labels, found, strict=True)
    )


def _prefix_probability(label: str, tokens: Sequence[tuple[str, float]]) -> float:
    """Total probability of listed prefixes of a label; 0 if the label itself is listed."""
    texts = [(token.strip(), logp) for token, logp in tokens]
    if any(text == label.strip() for text, _ in texts):
        return 0.0
    return math.fsum(math.exp(p) for text, p in texts if text and label.strip().startswith(text))


def _log_sum(logps: Sequence[float]) -> float:
    largest = max(logps)
    return largest + math.log(math.fsum(math.exp(logp - largest) for logp in logps))


def find_scorer(
    caller: Caller,
    model: str,
    scoring: Scoring,
    tokenizer: LocalTokenizer | None,
    parameters: dict[str, Any],
    top: int,
) -> Scorer | None:
    """Best scoring method that the server supports; `None`: none, or not the requested one."""
    if scoring in ("auto", "prompt") and PromptScorer.is_available(caller, model):
        source: TokenSource | None = tokenizer
        if source is None:
            server = ServerTokenizer(caller, model)
            source = server if server.is_available() else None
        if source is not None:
            return PromptScorer(caller, model, source)
    if scoring in ("auto", "next_token"):
        scorer = NextTokenScorer(caller, model, parameters, top, tokenizer)
        if scorer.is_available():
            return scorer
    return None
