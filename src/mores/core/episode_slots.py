"""Slots for what the next episodes of every world begin with, a fixed number for each world.

Episode e of a world has the slot e % count of that world.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class EmptySlots(NamedTuple):
    """Slots to fill, and the world and the episode of each."""

    slots: Int[np.ndarray, " slot"]
    worlds: Int[np.ndarray, " slot"]
    episode: Int[np.ndarray, " slot"]


class EpisodeSlots:
    """Which episodes of which worlds are held.

    Args:
        num_worlds: number of worlds.
        count: number of episodes of a world.
    """

    def __init__(self, num_worlds: int, count: int) -> None:
        self._count = count
        self._worlds = np.repeat(np.arange(num_worlds), count)
        self._position = np.arange(len(self._worlds)) % count  # of an episode: its number % count
        self._episode = np.full(len(self._worlds), -1)  # -1: none

    def __len__(self) -> int:
        return len(self._worlds)

    def of(
        self, worlds: Int[np.ndarray, " some"], episode: Int[np.ndarray, " some"]
    ) -> Int[np.ndarray, " some"]:
        """Slots of an episode of each of these worlds."""
        return worlds * self._count + episode % self._count

    def to_fill(
        self,
        worlds: Int[np.ndarray, " some"],
        episode: Int[np.ndarray, " some"],
        episodes: Int[np.ndarray, " world"],
    ) -> EmptySlots | None:
        """Slots to fill, if an episode of these worlds is not held: see `hold`.

        Args:
            worlds, episode: worlds, and the episode of each that is needed.
            episodes: present episode of every world; of the others the later ones are to be held.
        """
        if not (self._episode[self.of(worlds, episode)] != episode).any():
            return None
        first = episodes + 1
        first[worlds] = episode
        first = first[self._worlds]
        wanted = first + (self._position - first) % self._count
        slots = (self._episode != wanted).nonzero()[0]
        return EmptySlots(slots, self._worlds[slots], wanted[slots])

    def hold(self, filled: EmptySlots) -> None:
        """Record that these slots were filled."""
        self._episode[filled.slots] = filled.episode
