"""Cache of the numbers of random streams, several rounds at once.

The cost of few numbers is the number of operations, so the numbers of several rounds, of streams
whose cached rounds end together, and of streams that are expected to be drawn are generated at once.
When some worlds restart in another episode, only their numbers are generated anew. This changes the
cost, never the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.stream_numbers import Request, WorldKeys, generate

MAX_CACHED_WORDS = 2**18  # per request, over all rounds, worlds and agents


class DrawCounter:
    """Number of blocks of random numbers that were generated."""

    def __init__(self) -> None:
        self.count = 0


class _Rounds:
    """Cached rounds of a request: a contiguous range of offsets."""

    __slots__ = ("growth", "last", "numbers", "start")

    def __init__(self, start: int, numbers: Tensor) -> None:
        self.start, self.numbers = start, numbers  # [round, world, agent, width]
        self.growth = len(numbers)  # twice as many rounds are generated next
        self.last = start - 1  # last offset that was drawn

    @property
    def end(self) -> int:
        return self.start + len(self.numbers)


class StreamCache:
    """Numbers of a batch of worlds, addressed by request and by rounds since `keys.first_round`.

    Args:
        keys: addresses of the worlds.
        draws: counts what is generated.
        expected: requests that are likely to be made; they are generated with the first one.
    """

    def __init__(
        self, keys: WorldKeys, draws: DrawCounter, expected: Sequence[Request] = ()
    ) -> None:
        self.keys, self.draws = keys, draws
        self._expected = expected
        self._cached: dict[Request, _Rounds] = {}
        self._drawn: dict[Request, None] = {}
        self._restarted: np.ndarray | None = None  # worlds whose cached numbers are of the past
        self._ended_rounds = 0  # length of their last episodes
        self._earliest = 0  # offset before which numbers are not cached

    @property
    def requests(self) -> tuple[Request, ...]:
        """Requests that were made, for `expected`."""
        return tuple(self._drawn)

    def restart(self, worlds: np.ndarray, episode: np.ndarray, offset: int) -> StreamCache:
        """A cache with these worlds in other episodes, which begin at `offset`.

        It takes over the cached numbers; this one generates its own again if they are drawn.
        """
        new = StreamCache(self.keys.restart(worlds, episode, offset), self.draws)
        new._cached, self._cached = self._cached, {}
        new._drawn = self._drawn
        new._restarted, new._earliest = worlds, offset
        new._ended_rounds = int(self.keys.first_round[worlds].mean()) + offset
        if self._restarted is not None:
            new._restarted = np.union1d(worlds, self._restarted)
            new._ended_rounds = max(new._ended_rounds, self._ended_rounds)
            self._restarted = None
        return new

    def draw(self, request: Request, offset: int) -> Float[Tensor, "world agent width"]:
        """Numbers of one round."""
        if not isinstance(request.agents, int) or offset < self._earliest:
            self.draws.count += 1
            return generate(self.keys, [(request, 1)], offset)[0][0]
        if self._restarted is not None:
            self._replace_restarted(self._restarted, offset)
            self._restarted = None
        cached = self._cached.get(request)
        if cached is None or not cached.start <= offset < cached.end:
            self._drawn[request] = None
            cached = self._generate(request, offset)
        if offset > cached.last:
            cached.last = offset
        return cached.numbers[offset - cached.start]

    def _generate(self, request: Request, offset: int) -> _Rounds:
        """Cache a request from `offset` on, and others that will be needed as well."""
        cached = self._cached
        wanted = dict.fromkeys([request, *(r for r in self._expected if r not in cached)])
        self._expected = ()
        wanted |= dict.fromkeys(
            each for each, rounds in cached.items() if rounds.end == offset == rounds.last + 1
        )
        self._cache_anew({each: self._rounds_to_cache(each, offset) for each in wanted}, offset)
        return cached[request]

    def _cache_anew(self, rounds: dict[Request, int], offset: int) -> None:
        self.draws.count += len(rounds)
        numbers = generate(self.keys, list(rounds.items()), offset)
        for request, part in zip(rounds, numbers, strict=True):
            self._cached[request] = _Rounds(offset, part)

    def _rounds_to_cache(self, request: Request, offset: int) -> int:
        """Twice the previous number while rounds are consecutive, within `MAX_CACHED_WORDS`."""
        cached = self._cached.get(request)
        whole_block = max(1, 4 // max(request.width, 1))  # fewer would leave words unused
        consecutive = cached is not None and cached.end == offset
        wanted = 2 * cached.growth if cached is not None and consecutive else whole_block
        return max(whole_block, min(wanted, self._capacity(request)))

    def _capacity(self, request: Request) -> int:
        """Largest number of rounds to cache."""
        words = len(self.keys) * request.num_agents * request.width
        return max(1, MAX_CACHED_WORDS // max(1, words))

    def _replace_restarted(self, worlds: np.ndarray, offset: int) -> None:
        """Replace cached numbers of restarted worlds from `offset` on.

        If many worlds restart, or few rounds passed, cached rounds are dropped that would probably
        be replaced again.
        """
        num_worlds = len(self.keys)
        limit = max(num_worlds // len(worlds), self._ended_rounds, 1)
        if len(worlds) == num_worlds:
            ready = [r for r, rounds in self._cached.items() if rounds.last >= offset - 1]
            self._cached = {}
            self._cache_anew({r: min(limit, self._capacity(r)) for r in ready}, offset)
            return
        kept = {r: c for r, c in self._cached.items() if c.end >= offset and c.last >= offset - 1}
        self._cached = kept
        parts = {
            request: min(limit, cached.end - offset)
            for request, cached in kept.items()
            if cached.end > offset
        }
        if not parts:
            return
        self.draws.count += len(parts)
        new = generate(self.keys.take(worlds), list(parts.items()), offset)
        indices = torch.from_numpy(worlds).to(self.keys.device)
        for (request, rounds), numbers in zip(parts.items(), new, strict=True):
            cached = kept[request]
            index = offset - cached.start
            if index + rounds < len(cached.numbers):
                cached.growth = max(1, rounds // 2)
            if cached.last >= offset:  # earlier streams drew them: those tensors do not change
                cached.numbers, index = cached.numbers[index:].clone(), 0
                cached.start, cached.last = offset, offset - 1
            cached.numbers = cached.numbers[: index + rounds]
            # `.data`: drawn rounds, which a graph may have saved, are other parts of this memory
            cached.numbers.data[index:].index_copy_(1, indices, numbers)
