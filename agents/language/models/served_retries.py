"""When a failed call is repeated: exponential backoff, with jitter that the request determines.

Before repetition k = 0, 1, ... a call waits

    min(longest, first * 2^k) * (1/2 + u/2),   u in [0, 1) from the SHA-256 of (key of the call, k),

or as long as the server asks for (Retry-After), whichever is longer; if it asks for more than an
hour, the run stops instead. Jitter keeps calls that failed
together from coming back together; a rerun waits the same times. The time limit of a call doubles
after each repetition that it ended, up to eight times, so that a slow server is not asked in vain.
"""

from __future__ import annotations

import dataclasses
import hashlib

LONGEST_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0  # that a server may ask for
MOST_TIME_LIMITS = 8


@dataclasses.dataclass(frozen=True)
class RetryRule:
    """How often and when failed calls are repeated.

    Attributes:
        max_retries: repetitions of a call.
        first_seconds: wait before the first repetition, before jitter.
    """

    max_retries: int
    first_seconds: float

    def delay(self, key: str, repetition: int, retry_after: float | None = None) -> float:
        """Seconds to wait before a repetition, counted from 0."""
        digest = hashlib.sha256(f"{key} {repetition}".encode()).digest()
        uniform = int.from_bytes(digest[:8], "big") / 2**64
        longest = min(LONGEST_SECONDS, self.first_seconds * 2.0 ** min(repetition, 60))
        return max(longest * (0.5 + uniform / 2), retry_after or 0.0)


def time_limit(seconds: float, time_outs: int) -> float:
    """Seconds that a call may take after so many time-outs."""
    return seconds * min(MOST_TIME_LIMITS, 2**time_outs)
