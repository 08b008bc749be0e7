"""An engine of a local model with the adapters of one learner.

The base model is in memory once, whatever learners use it. Each acts through an engine of its own,
which lends its adapters to the common one for the time of a call: calls of different learners are
never joined, and an index of an adapter means the same throughout a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from mores.agents.language.adapters import StackedLoRA
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
    """

    def __init__(self, engine: Any, adapters: StackedLoRA) -> None:
        super().__init__()
        self.engine, self.adapters = engine, adapters
        self.usage, self.vocabulary_size = engine.usage, engine.vocabulary_size

    @contextlib.contextmanager
    def _with_adapters(self) -> Iterator[None]:
        before = self.engine.adapters
        self.engine.adapters = self.adapters
        try:
            yield
        finally:
            self.engine.adapters = before

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Engine`."""
        with self._with_adapters():
            return self.engine.score(requests)

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
