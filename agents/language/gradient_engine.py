"""Scores of given texts with gradients: the engine of readouts while a language model learns.

Readouts turn scores into log-probabilities of options (`Readout.requests`, `Readout.read`). Here a
score is a tensor with a gradient to the adapters, so that the log-probabilities of a readout are
the differentiable function of the adapters that acting uses, whatever the readout.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from mores.agents.language.adapters import BASE_MODEL, StackedLoRA
from mores.agents.language.closed_replies import closed_reply_logps
from mores.agents.language.kept_states import KeptStates
from mores.agents.language.language_model import (
    Conversation,
    Engine,
    GenerateRequest,
    GumbelFunction,
    Reply,
    Score,
    ScoreRequest,
)
from mores.core.errors import UserError


class RequestTokens(NamedTuple):
    """Tokens of a request: of its conversation, and of each continuation."""

    prompt: list[int]
    replies: list[list[int]]


class GradientEngine(Engine):
    """Engine for scores with gradients. It generates nothing.

    Args:
        engine: engine of the base model, for tokens.
        adapters: the adapters.
        rows: see `closed_reply_logps`.
        kept: states of lower layers, in place of whole forward passes.
    """

    def __init__(
        self,
        engine: Any,
        adapters: StackedLoRA,
        rows: int | None = None,
        kept: KeptStates | None = None,
    ) -> None:
        super().__init__()
        self.engine, self.adapters, self.rows, self.kept = engine, adapters, rows, kept

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Scores whose log-probabilities are tensors."""
        tokens = [request_tokens(self.engine, request) for request in requests]
        index = [
            BASE_MODEL if request.adapter < 0 else request.adapter
            for request, each in zip(requests, tokens, strict=True)
            for _ in each.replies
        ]
        prompts = [each.prompt for each in tokens for _ in each.replies]
        replies = [reply for each in tokens for reply in each.replies]
        models = next(iter(self.adapters.parameters.values())).new_tensor(index).long()
        if self.kept is not None:
            logps = self.kept.closed_reply_logps(self.adapters, prompts, replies, models)
        else:
            logps = closed_reply_logps(
                self.adapters.model, self.adapters, prompts, replies, models, rows=self.rows
            )
        found, start = [], 0
        for each in tokens:
            own = logps[start : start + len(each.replies)]
            found.append(Score(tuple(own.unbind()), tuple(map(len, each.replies))))
            start += len(each.replies)
        return found

    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        """Not available.

        Raises:
            UserError: always.
        """
        raise UserError("scores with gradients only", code="unsupported", path="readout")

    def count_tokens(self, conversation: Conversation) -> int:
        """See `Engine`."""
        return self.engine.count_tokens(conversation)


@functools.lru_cache(maxsize=65_536)
def request_tokens(engine: Any, request: ScoreRequest) -> RequestTokens:
    """Tokens of a request to the engine of a local model, as the engine scores it."""
    replies = [list(engine.chat.reply(c, request.with_end)) for c in request.continuations]
    return RequestTokens(list(engine.prompt(request.conversation)), replies)
