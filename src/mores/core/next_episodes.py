"""Prefetched random numbers of the first rounds of the next episodes of every world.

Worlds that begin another episode need few numbers, and the time to generate few numbers is that of
the calls. One call therefore generates the numbers of several future episodes of all worlds; a
world that begins an episode gets a copy of its numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mores.core.stream_numbers import Request, WorldKeys, generate

MAX_WORDS = 2**16  # of all worlds and episodes that are held
MAX_EPISODES = 16  # of a world
MANY_ROUNDS, FEW_ROUNDS = 32, 8  # of an episode


class Beginning(NamedTuple):
    """Beginnings of the episodes of some worlds: words of their keys, and numbers by request."""

    words: np.ndarray  # [2, world]
    numbers: Mapping[Request, Tensor]  # [round, world, agent, width]


class NextEpisodes:
    """Beginnings of the next episodes of all worlds.

    Args:
        keys: addresses of the worlds.
        initial: requests in the first round of an episode only.
        later: requests in every round.
        rounds: typical length of an episode.
    """

    def __init__(
        self,
        keys: WorldKeys,
        initial: Collection[Request],
        later: Collection[Request],
        rounds: float,
    ) -> None:
        self.length, count = self.size(len(keys), initial, later, rounds)
        self._rounds = dict.fromkeys(initial, 1) | dict.fromkeys(later, self.length)
        self._count = count
        self._worlds = np.repeat(np.arange(len(keys)), count)
        self._episode = np.full(len(self._worlds), -1)  # of each slot, which is episode % count
        self._words = np.zeros((2, len(self._worlds)), np.uint64)
        self._numbers = {
            r: torch.empty(n, len(self._worlds), r.num_agents, r.width, device=keys.device)
            for r, n in self._rounds.items()
        }

    @staticmethod
    def size(
        num_worlds: int, initial: Collection[Request], later: Collection[Request], rounds: float
    ) -> tuple[int, int]:
        """Rounds of an episode, and episodes of a world, to hold; 0: too many numbers to gain."""
        at_start, in_round = (
            sum(request.num_agents * request.width for request in part) for part in (initial, later)
        )
        for length in (MANY_ROUNDS, FEW_ROUNDS) if rounds > FEW_ROUNDS else (FEW_ROUNDS,):
            words = num_worlds * (at_start + length * in_round)
            if count := min(MAX_WORDS // max(words, 1), MAX_EPISODES):
                return length, count
        return 0, 0

    def includes(self, requests: Iterable[Request]) -> bool:
        """Whether these requests are held."""
        return all(request in self._rounds for request in requests)

    def take(
        self,
        keys: WorldKeys,
        worlds: np.ndarray,
        episode: np.ndarray,
        requests: Iterable[Request],
    ) -> Beginning:
        """Beginnings of these episodes; `keys`: addresses of all worlds, in their present ones."""
        slots = worlds * self._count + episode % self._count
        if (self._episode[slots] != episode).any():
            first = keys.episode + 1
            first[worlds] = episode
            self._fill(keys, first)
        indices = torch.from_numpy(slots).to(keys.device)
        numbers = {r: self._numbers[r].index_select(1, indices) for r in requests}
        return Beginning(self._words[:, slots], numbers)

    def _fill(self, keys: WorldKeys, first: np.ndarray) -> None:
        """Generate what is missing of the episodes from `first` on."""
        first = first[self._worlds]
        slot = np.arange(len(self._worlds)) % self._count
        wanted = first + (slot - first) % self._count
        missing = (self._episode != wanted).nonzero()[0]
        worlds, episode = self._worlds[missing], wanted[missing]
        words = keys.words_of(worlds, episode)
        self._episode[missing], self._words[:, missing] = episode, words
        own = dataclasses.replace(
            keys.take(worlds), episode=episode, words=words, first_round=np.zeros_like(episode)
        )
        indices = torch.from_numpy(missing).to(keys.device)
        new = generate(own, list(self._rounds.items()), 0)
        for request, part in zip(self._rounds, new, strict=True):
            self._numbers[request].index_copy_(1, indices, part)
