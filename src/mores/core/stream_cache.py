"""Cache of random streams, which generates the numbers of several rounds in one call.

The time to generate few numbers is that of the calls, not of the numbers. One call therefore
generates the numbers of several rounds, and those of all streams whose cached rounds end in the
same round. If some worlds begin another episode, only their numbers are replaced. The cache changes
the run time, never the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.next_episodes import NextEpisodes
from mores.core.stream_numbers import Request, Transform, WorldKeys, generate, generate_rows

MAX_CACHED_WORDS = 2**18  # per request, over all rounds, worlds and agents
# Words that are generated in the time that a call takes for any number of them (measured on a CPU).
WORDS_PER_CALL = 12_000
MAX_EPISODE_FACTOR = 4.0  # rounds to generate of an episode, in typical lengths


class DrawCounter:
    """Number of tensors of random numbers that were generated; 0: a simulation is deterministic."""

    def __init__(self) -> None:
        self.count = 0


class _Rounds:
    """Cached rounds of a request: a contiguous range of offsets."""

    __slots__ = ("end", "growth", "last", "numbers", "start")

    def __init__(self, start: int, numbers: Tensor) -> None:
        self.start, self.numbers = start, numbers  # [round, world, agent, width]
        self.growth = numbers.shape[0]  # twice as many rounds are generated next
        self.last = start - 1  # last offset that was drawn
        self.end = start + self.growth


class StreamCache:
    """Numbers of a batch of worlds, addressed by request and by rounds since `keys.first_round`.

    Args:
        keys: addresses of the worlds.
        draws: counter of the generated tensors.
    """

    def __init__(self, keys: WorldKeys, draws: DrawCounter) -> None:
        self.keys, self.draws = keys, draws
        self._cached: dict[Request, _Rounds] = {}
        self._earliest = 0  # offset before which numbers are not cached
        self._episode_rounds = 0.0  # typical length of an episode
        self._ahead: NextEpisodes | None = None
        self._restarted = False  # only then is it known what is drawn first
        self._restarts_in_part = False  # whether some worlds restarted alone

    @property
    def requests(self) -> tuple[Request, ...]:
        """Requests whose numbers are in the cache; an argument of `restart`."""
        return tuple(self._cached)

    def draw(self, request: Request, offset: int) -> Float[Tensor, "world agent width"]:
        """Numbers of one round."""
        if not isinstance(request.agents, int) or offset < self._earliest:
            self.draws.count += 1
            return generate(self.keys, [(request, 1)], offset)[0][0]
        cached = self._cached.get(request)
        if cached is None or not cached.start <= offset < cached.end:
            # Other requests whose cached rounds end here are generated in the same call.
            due = [r for r, c in self._cached.items() if c.end == offset == c.last + 1]
            rounds = {r: self._rounds_to_cache(r, offset) for r in dict.fromkeys([request, *due])}
            self._cache(rounds, generate(self.keys, list(rounds.items()), offset), offset)
            cached = self._cached[request]
        if offset > cached.last:
            cached.last = offset
        return cached.numbers[offset - cached.start]

    def draw_rows(
        self,
        name: str,
        transform: Transform,
        worlds: np.ndarray,
        agents: np.ndarray,
        width: int,
        offset: int,
    ) -> Float[Tensor, "row width"]:
        """Numbers of single agents of some worlds in one round; none are cached."""
        self.draws.count += 1
        return generate_rows(self.keys.take(worlds), name, agents, width, transform, offset)

    def _cache(self, rounds: Iterable[Request], numbers: Sequence[Tensor], offset: int) -> None:
        for request, part in zip(rounds, numbers, strict=True):
            self._cached[request] = _Rounds(offset, part.contiguous())
        self.draws.count += len(numbers)

    def _rounds_to_cache(self, request: Request, offset: int) -> int:
        """Twice the previous number while rounds are consecutive, within `MAX_CACHED_WORDS`.

        If worlds restart alone, not more rounds than `_rounds_between_restarts`.
        """
        cached = self._cached.get(request)
        whole_block = max(1, 4 // max(request.width, 1))  # fewer would leave words unused
        consecutive = cached is not None and cached.end == offset
        wanted = 2 * cached.growth if cached is not None and consecutive else whole_block
        if self._restarts_in_part:
            wanted = min(wanted, self._rounds_between_restarts())
        return max(whole_block, min(wanted, self._capacity(request)))

    def _rounds_between_restarts(self) -> int:
        """Number of rounds to generate at once while worlds restart one by one.

        Those of a world after its restart are generated twice, on average half of them. With n
        rounds at once, c words a round and W worlds with episodes of T rounds, a round costs
        `WORDS_PER_CALL / n + W c n / (2 T)` words beyond the necessary ones: the minimum.
        """
        words = self._words_per_round()
        return math.ceil(math.sqrt(2 * WORDS_PER_CALL * self._episode_rounds / max(words, 1)))

    def _rounds_of_episode(self) -> int:
        """Number of rounds of an episode to generate when all worlds restart at once.

        If lengths T are geometric, the rounds beyond m T are needed with probability exp(-m) and
        cost a call; every m costs T rounds. Few words: the minimum; many: the typical length.
        """
        words = self._words_per_round() * self._episode_rounds
        factor = math.log(WORDS_PER_CALL / max(words, 1))
        return math.ceil(self._episode_rounds * min(max(factor, 1.0), MAX_EPISODE_FACTOR))

    def _words_per_round(self) -> int:
        """Numbers of all worlds that are drawn in a round."""
        return len(self.keys) * sum(r.num_agents * r.width for r in self._cached)

    def _capacity(self, request: Request) -> int:
        """Largest number of rounds to cache."""
        words = len(self.keys) * request.num_agents * request.width
        return max(1, MAX_CACHED_WORDS // max(1, words))

    # --- worlds that begin another episode ---------------------------------------------------

    def restart(
        self,
        worlds: np.ndarray,
        episode: np.ndarray,
        offset: int,
        expected: Sequence[Request] = (),
    ) -> tuple[StreamCache, Callable[[], StreamCache]]:
        """Caches with some worlds in other episodes, which begin at `offset`: of all, and of those.

        The first takes over the cached numbers, and this one generates its own again if they are
        drawn. The second has the numbers that are `expected` to be drawn from it.
        """
        ended_rounds = float(self.keys.first_round[worlds].sum()) / len(worlds) + offset
        typical = 0.75 * self._episode_rounds + 0.25 * ended_rounds
        self._episode_rounds = typical if self._episode_rounds else ended_rounds
        self._restarts_in_part |= len(worlds) < len(self.keys)
        parts = self._rounds_to_replace(len(worlds), offset)
        initial = dict.fromkeys(expected, 1)
        ahead, beginning = self._episodes_ahead(initial), None
        if ahead is not None:
            beginning = ahead.take(self.keys, worlds, episode, initial | parts)
        words = self.keys.words_of(worlds, episode) if beginning is None else beginning.words
        new = StreamCache(self.keys.restart(worlds, episode, offset, words), self.draws)
        if beginning is None:
            started_keys = new.keys.take(worlds)
            numbers = generate(started_keys, [*initial.items(), *parts.items()], offset)
        else:
            started_keys = None
            # clones: the others are written to when worlds restart again
            numbers = [beginning.numbers[request][:1].clone() for request in initial]
            numbers += [beginning.numbers[request] for request in parts]
        new._cached, self._cached = self._cached, {}
        new._earliest, new._episode_rounds = offset, self._episode_rounds
        new._ahead, new._restarted = ahead, True
        new._restarts_in_part = self._restarts_in_part
        if len(worlds) == len(self.keys):
            new._cached = {}
            new._cache(parts, numbers[len(initial) :], offset)
        else:
            new._replace(worlds, parts, numbers[len(initial) :], offset)

        def started() -> StreamCache:
            keys = new.keys.take(worlds) if started_keys is None else started_keys
            cache = StreamCache(keys, self.draws)
            cache._cache(initial, numbers[: len(initial)], offset)
            return cache

        return new, started

    def _episodes_ahead(self, initial: Collection[Request]) -> NextEpisodes | None:
        """Prepared beginnings of episodes with these requests and those that are cached.

        `None`: there are so many numbers that nothing is gained, or not yet any restart before.
        """
        ahead, self._ahead = self._ahead, None
        if not self._restarted:
            return None
        later, rounds = self._cached.keys(), self._rounds_to_restart()
        if ahead is not None and ahead.suits(rounds, [*initial, *later]):
            return ahead
        return NextEpisodes.of(self.keys, initial, later, rounds)

    def _rounds_to_restart(self) -> int:
        """Number of rounds to have of an episode that begins."""
        if self._restarts_in_part:
            return self._rounds_between_restarts()
        return self._rounds_of_episode()

    def _rounds_to_replace(self, num_restarted: int, offset: int) -> dict[Request, int]:
        """Number of rounds from `offset` on to generate for the restarted worlds, by request.

        Cached rounds are dropped that would probably be replaced again. What was not drawn in the
        last round is dropped altogether.
        """
        self._cached = {  # without those that were drawn ahead and begin in a later round
            r: c
            for r, c in self._cached.items()
            if c.start <= offset <= c.end and c.last >= offset - 1
        }
        limit = self._rounds_to_restart()
        if num_restarted == len(self.keys):
            return {r: min(limit, self._capacity(r)) for r in self._cached}
        return {r: min(limit, c.end - offset) for r, c in self._cached.items() if c.end > offset}

    def _replace(
        self,
        worlds: np.ndarray,
        rounds: Iterable[Request],
        numbers: Sequence[Tensor],
        offset: int,
    ) -> None:
        """Replace cached numbers of some worlds from `offset` on, and drop later rounds.

        `numbers`: of each request, `[round, world, agent, width]`.
        """
        indices = torch.from_numpy(worlds).to(self.keys.device)
        for request, new in zip(rounds, numbers, strict=True):
            cached = self._cached[request]
            index, length = offset - cached.start, new.shape[0]
            if offset + length < cached.end:
                cached.growth = max(1, length // 2)
            if cached.last >= offset:  # earlier streams drew them: those tensors do not change
                cached.numbers, index = cached.numbers[index:].clone(), 0
                cached.start, cached.last = offset, offset - 1
            if offset + length < cached.end:
                cached.numbers, cached.end = cached.numbers[: index + length], offset + length
            # `.data`: drawn rounds, which a graph may have saved, are other parts of this memory
            cached.numbers.data[index:].index_copy_(1, indices, new)
        self.draws.count += len(numbers)
