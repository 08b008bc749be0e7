"""An engine of a local model with the adapters of one learner.

The base model is in memory once, whatever learners use it. Each acts through an engine of its own,
which sets its adapters on the shared engine during a call. So requests of different learners are
never in one call, and adapter indices of a request refer to this learner's adapters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mores.agents.language.adapters import StackedLoRA
from mores.agents.language.gradient_engine import GradientEngine
from mores.agents.language.kept_states import KeptStates
from mores.agents.language.language_model import (
    Conversation,
    Engine,
    GenerateRequest,
    GumbelFunction,
    Message,
    Reply,
    Score,
    ScoreRequest,
)


class AdaptedEngine(Engine):
    """Engine with adapters.

    Args:
        engine: engine of the base model, with the attribute `adapters`.
        adapters: the adapters that indices of requests refer to.
        kept: states of lower layers, from which texts are scored; `None`: the engine scores them.

    Attributes:
        near_tie: that of the engine of the base model, see `Engine`.
    """

    def __init__(self, engine: Any, adapters: StackedLoRA, kept: KeptStates | None = None) -> None:
        super().__init__()
        self.engine, self.adapters, self.kept = engine, adapters, kept
        self.usage, self.vocabulary_size = engine.usage, engine.vocabulary_size
        self.near_tie = engine.near_tie

    @contextlib.contextmanager
    def _with_adapters(self) -> Iterator[None]:
        """The adapters on the shared engine, and those from before afterwards."""
        before = self.engine.adapters
        self.engine.adapters = self.adapters
        try:
            yield
        finally:
            self.engine.adapters = before

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Engine`."""
        if self.kept is not None:
            return self._score_with_kept_states(requests, self.kept)
        with self._with_adapters():
            return self.engine.score(requests)

    def _score_with_kept_states(
        self, requests: Sequence[ScoreRequest], kept: KeptStates
    ) -> list[Score]:
        """Scores of texts from kept states, each distinct request computed once."""
        unique = list(dict.fromkeys(requests))
        # `GradientEngine` also reads kept states; acting needs no gradient.
        with torch.no_grad():
            found = GradientEngine(self.engine, self.adapters, kept=kept).score(unique)
        scores = {
            request: Score(tuple(map(float, score.logps)), score.num_tokens)
            for request, score in zip(unique, found, strict=True)
        }
        return [scores[request] for request in requests]

    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        """See `Engine`."""
        with self._with_adapters():
            return self.engine.generate(requests, gumbel)

    def count_tokens(self, conversation: Conversation) -> int:
        """See `Engine`."""
        return self.engine.count_tokens(conversation)

    def reply_codes(self, reply: Reply) -> Sequence[int]:
        """See `Engine`."""
        return self.engine.reply_codes(reply)

    def reply_message(self, codes: Sequence[int]) -> Message:
        """See `Engine`."""
        return self.engine.reply_message(codes)
