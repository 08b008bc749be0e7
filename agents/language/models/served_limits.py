"""The pace of calls to a server: requests and tokens per minute, over all processes of a store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from mores.agents.language.models.served_store import ReplyStore

BURST_SECONDS = 1.0  # calls of one second may start at once: the rest is spread over the minute


@dataclasses.dataclass(frozen=True)
class RateLimit:
    """Largest rates; `None`: no limit.

    Attributes:
        requests_per_minute: calls sent, repeated ones included.
        tokens_per_minute: estimated tokens of conversations, and the most tokens of replies.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Pace:
    """The start times of calls to one server.

    Args:
        store: where processes agree on them.
        server: address of the server.
        limit: the rates.
        clock: seconds.
    """

    def __init__(
        self,
        store: ReplyStore,
        server: str,
        limit: RateLimit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._server, self._limit, self._clock = store, server, limit, clock

    def wait(self, tokens: int) -> float:
        """Seconds until a call may start; its place is reserved."""
        now, limit = self._clock(), self._limit
        intervals = (
            60 / limit.requests_per_minute if limit.requests_per_minute else 0.0,
            60 * tokens / limit.tokens_per_minute if limit.tokens_per_minute else 0.0,
        )
        start = self._store.reserve_time(self._server, now, intervals, BURST_SECONDS)
        return max(0.0, start - now)

    def pause(self, seconds: float) -> None:
        """Start no call for some seconds: the server asks for it."""
        self._store.pause(self._server, self._clock() + seconds)
