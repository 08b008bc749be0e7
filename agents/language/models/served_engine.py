"""The engine of a served model: requests of the policies as calls to a server."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from mores.agents.language.language_model import (
    Conversation,
    Engine,
    GenerateRequest,
    GumbelFunction,
    Message,
    Reply,
    Score,
    ScoreRequest,
    TokenCount,
)
from mores.agents.language.models.served_answers import chat_reply, model_names
from mores.agents.language.models.served_budget import Amount, estimate_tokens, most_tokens
from mores.agents.language.models.served_calls import Answer, Call, Caller
from mores.agents.language.models.served_scoring import Scorer, Scoring, find_scorer
from mores.agents.language.models.served_tokens import LocalTokenizer, messages_json
from mores.core.errors import UserError, printable

MAX_STOPS = 4  # that providers accept; replies are cut here in any case


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Parameters of requests.

    Attributes:
        limit_name: name of the parameter that limits the tokens of a reply.
        send_seed: whether a seed is sent.
        extra: further parameters of the request.
    """

    limit_name: str
    send_seed: bool
    extra: dict[str, Any]


class ServedEngine(Engine):
    """A model behind an OpenAI-compatible server.

    The server draws the replies, so that arms share no Gumbel noise and are reported as not
    coupled. Each request has a seed computed from its address, which is the same in all arms: a
    rerun is reproducible if the server honours seeds.

    Args:
        caller: makes the calls.
        model: name of the model; empty: the only one that the server has.
        sampling: parameters of requests.
        scoring: method of scoring.
        tokenizer: folder of the model's tokenizer; empty: none.
        top: number of likely tokens that the server is asked for.
    """

    couples: ClassVar[bool] = False

    def __init__(
        self,
        caller: Caller,
        model: str,
        sampling: Sampling,
        scoring: Scoring = "auto",
        tokenizer: str = "",
        top: int = 20,
    ) -> None:
        super().__init__()
        self.caller, self.sampling = caller, sampling
        self._scoring: Scoring = scoring
        self._model, self._top = model, top
        self._tokenizer = LocalTokenizer(tokenizer) if tokenizer else None
        self._scorer: Scorer | None = None
        self._has_asked = False

    @property
    def model(self) -> str:
        """Name of the model, as the server knows it."""
        if not self._model:
            (answer,) = self.caller([Call("models", None, model_names, is_same_in_cells=True)])
            names = answer["names"] if answer else []
            if len(names) != 1:
                listed = ", ".join(sorted(names)[:8]) or "none"
                raise UserError(
                    f"the server {self.caller.url} has {len(names)} models "
                    f"({printable(listed, 300)}): name "
                    "one as `model`, or after # in its address",
                    code="missing",
                    path="model",
                )
            self._model = names[0]
        return self._model

    @property
    def scores(self) -> bool:  # type: ignore[override]  # a constant of other engines
        """Whether continuations can be scored: the server is asked at the first use."""
        return self._find_scorer() is not None

    def _find_scorer(self) -> Scorer | None:
        if not self._has_asked:
            parameters = {**self.sampling.extra, "model": self.model, self.sampling.limit_name: 1}
            self._scorer = find_scorer(
                self.caller, self.model, self._scoring, self._tokenizer, parameters, self._top
            )
            self._has_asked = True
        return self._scorer

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Engine`.

        With `next_token`, a label that the server does not list gets an upper bound of its
        log-probability: see `served_scoring`.
        """
        for request in requests:
            _refuse_adapter(request.adapter)
        scorer = self._find_scorer()
        if scorer is None:
            raise UserError(
                f"the server {self.caller.url} returns no log-probabilities of given texts: use "
                "the readout free_text; if its /completions has `echo`, set `tokenizer`",
                code="unsupported",
                path="readout",
            )
        scores = scorer.score(requests)
        self._count(scores)
        return scores

    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        """See `Engine`; `gumbel` is not used."""
        answers = self.caller([self._call(request) for request in requests])
        found = [answer for answer in answers if answer is not None]
        pairs = zip(requests, found, strict=True)
        replies = [self._reply(request, answer) for request, answer in pairs]
        self._count(replies)
        return replies

    def _reply(self, request: GenerateRequest, answer: Answer) -> Reply:
        names = "prompt_tokens", "cached_tokens", "reply_tokens"
        counted = self.caller.prices.count(*(answer[name] for name in names))
        text = _cut(answer["text"], request.stop)
        return Reply(text, is_complete=answer["complete"], counted=counted)

    def _call(self, request: GenerateRequest) -> Call:
        _refuse_adapter(request.adapter)
        if request.reply_start:
            raise UserError(
                "a served model cannot continue a given reply: look-ahead needs a local model",
                code="unsupported",
                path="reply_start",
            )
        conversation, model = request.conversation, self.model
        if self.caller.keeps and request.temperature > 0 and not request.address:
            raise UserError(
                "a drawn reply that is kept needs an address, so that two agents with equal "
                "prompts have two replies",
                code="missing",
                path="address",
            )
        body: dict[str, Any] = {
            **self.sampling.extra,
            "model": model,
            "messages": messages_json(conversation),
            "temperature": request.temperature,
            self.sampling.limit_name: request.max_new_tokens,
        }
        if request.stop:
            body["stop"] = list(request.stop[:MAX_STOPS])
        if self.sampling.send_seed and request.address and request.temperature > 0:
            body["seed"] = seed_of(request.address)

        def parse(data: Any) -> Answer:
            return chat_reply(data, model)

        most, reply = most_tokens(conversation), request.max_new_tokens
        estimate = estimate_tokens(conversation) + reply
        return Call("chat/completions", body, parse, request.address, most, reply, estimate)

    def _count(self, results: Sequence[Reply] | Sequence[Score]) -> None:
        """Add to `usage`. A stored reply adds the tokens and the cost of a new one."""
        usage = self.usage
        usage.requests += len(results)
        for result in results:
            counted = result.counted or TokenCount()
            usage.prompt_tokens += counted.prompt_tokens
            usage.computed_tokens += counted.prompt_tokens - counted.cached_tokens
            usage.reply_tokens += counted.reply_tokens
            usage.cost += counted.cost
        usage.retries, usage.cache_hits = self.caller.num_retries, self.caller.num_kept

    def estimate(self, requests: Sequence[GenerateRequest | ScoreRequest]) -> Amount:
        """Calls, tokens and cost of requests, before they are made; nothing is sent.

        Tokens of conversations are estimated (`count_tokens`), tokens of replies are the most that
        they can have. A continuation that is scored counts as a call with its conversation.
        """
        total, prices = Amount(), self.caller.prices
        for request in requests:
            prompt = self.count_tokens(request.conversation)
            if isinstance(request, GenerateRequest):
                total += prices.amount(1, prompt, request.max_new_tokens)
                continue
            for text in request.continuations:
                reply = estimate_tokens((Message("assistant", text),))
                total += prices.amount(1, prompt + reply, 1)
        return total

    def spent(self) -> Amount:
        """What was spent on this model, over all processes and runs that share its store."""
        return self.caller.store.spent(self.caller.ledger_name)

    def count_tokens(self, conversation: Conversation) -> int:
        """Number of tokens; without the tokenizer an estimate, four bytes a token."""
        if self._tokenizer is not None:
            return len(self._tokenizer.prompt(conversation))
        return estimate_tokens(conversation)

    def reply_codes(self, reply: Reply) -> Sequence[int]:
        """The bytes of the reply: the server's tokens are not known."""
        return tuple(reply.text.encode())

    def reply_message(self, codes: Sequence[int]) -> Message:
        """See `Engine`."""
        return Message("assistant", bytes(codes).decode(errors="replace"))


def seed_of(address: str) -> int:
    """Seed of a draw, from 0 to 2^31 - 1: all servers take it."""
    return int.from_bytes(hashlib.sha256(address.encode()).digest()[:4], "big") >> 1


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _refuse_adapter(adapter: int) -> None:
    if adapter >= 0:
        raise UserError(
            "a served model has no adapters here: give the name under which the server has one as "
            "`model`",
            code="unsupported",
            path="adapter",
        )
