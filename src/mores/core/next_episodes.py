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

from mores.core.episode_slots import EmptySlots, EpisodeSlots
from mores.core.stream_numbers import Request, WorldKeys, generate

MAX_WORDS = 2**18  # of all worlds and episodes that are held
MAX_EPISODES = 16  # of a world


class Beginning(NamedTuple):
    """Beginnings of the episodes of some worlds: words of their keys, and numbers by request."""

    words: np.ndarray  # [2, world]
    numbers: Mapping[Request, Tensor]  # [round, world, agent, width], not contiguous


class NextEpisodes:
    """Beginnings of the next episodes of all worlds.

    Args:
        keys: addresses of the worlds.
        rounds: number of rounds to hold of each request.
        count: number of episodes of a world.
    """

    def __init__(self, keys: WorldKeys, rounds: Mapping[Request, int], count: int) -> None:
        self._rounds, self._slots = dict(rounds), EpisodeSlots(len(keys), count)
        self._words = np.zeros((2, len(self._slots)), np.uint64)
        self._numbers = {
            r: torch.empty(len(self._slots), n, r.num_agents, r.width, device=keys.device)
            for r, n in self._rounds.items()
        }

    @staticmethod
    def of(
        keys: WorldKeys, initial: Collection[Request], later: Collection[Request], rounds: int
    ) -> NextEpisodes | None:
        """Those with these numbers; `None`: there are too many to gain.

        Args:
            keys: addresses of the worlds.
            initial: requests in the first round of an episode only.
            later: requests in the first `rounds` rounds.
            rounds: number of rounds.
        """
        held = dict.fromkeys(initial, 1) | dict.fromkeys(later, rounds)
        words = len(keys) * sum(n * r.num_agents * r.width for r, n in held.items())
        count = min(MAX_WORDS // max(words, 1), MAX_EPISODES)
        return NextEpisodes(keys, held, count) if count else None

    def suits(self, rounds: int, requests: Iterable[Request]) -> bool:
        """Whether all requests are held, and those of several rounds for about `rounds`."""
        held = self._rounds
        longest = max(held.values(), default=0)
        return all(r in held for r in requests) and longest <= 4 * rounds <= 8 * longest

    def take(
        self,
        keys: WorldKeys,
        worlds: np.ndarray,
        episode: np.ndarray,
        requests: Mapping[Request, int],
    ) -> Beginning:
        """Beginnings of these episodes.

        Args:
            keys: addresses of all worlds, in their present episodes.
            worlds, episode: worlds, and the episode of each.
            requests: number of rounds of each request; fewer if fewer are held.
        """
        if empty := self._slots.to_fill(worlds, episode, keys.episode):
            self._fill(keys, empty)
        slots = self._slots.of(worlds, episode)
        held = {
            r: self._numbers[r].narrow(1, 0, min(n, self._rounds[r])) for r, n in requests.items()
        }
        if len(slots) == 1:  # fewer operations
            slot = int(slots[0])
            numbers = {r: part.narrow(0, slot, 1).clone() for r, part in held.items()}
        else:
            indices = torch.from_numpy(slots).to(keys.device)
            numbers = {r: part.index_select(0, indices) for r, part in held.items()}
        by_round = {request: part.transpose(0, 1) for request, part in numbers.items()}
        return Beginning(self._words[:, slots], by_round)

    def _fill(self, keys: WorldKeys, empty: EmptySlots) -> None:
        """Generate the numbers of empty slots."""
        slots, worlds, episode = empty
        words = keys.words_of(worlds, episode)
        self._words[:, slots] = words
        own = dataclasses.replace(
            keys.take(worlds), episode=episode, words=words, first_round=np.zeros_like(episode)
        )
        indices = torch.from_numpy(slots).to(keys.device)
        new = generate(own, list(self._rounds.items()), 0)
        for request, part in zip(self._rounds, new, strict=True):
            self._numbers[request].index_copy_(0, indices, part.transpose(0, 1))
        self._slots.hold(empty)
