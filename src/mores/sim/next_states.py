"""Initial states of the next episodes of every world, computed ahead for many restarts at once.

The cost of the initial state of few worlds is the number of operations. What begins an episode
depends on the address of its random numbers only (seed, replicate, world, stage, episode), so that
it can be computed for several episodes of all worlds together, and a restart copies its worlds'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mores.core import pytree
from mores.core.episode_slots import EmptySlots, EpisodeSlots
from mores.core.random_streams import RandomStreams, Worlds

MAX_ELEMENTS = 2**20  # of tensors, of all worlds and episodes that are held
MAX_EPISODES = 16  # of a world

Tree = Any  # a tree of tensors: `mores.core.pytree`


class NextStates:
    """What the next episodes of all worlds begin with.

    Args:
        worlds: addresses of the worlds.
        count: number of episodes of a world to hold.
        streams: makes the streams of worlds at the beginning of episodes, `[world]` on the host.
        initial: computes a tree from the streams.

    Attributes:
        tree: what was computed, with a row for each world and episode that is held.
    """

    def __init__(
        self,
        worlds: Worlds,
        count: int,
        streams: Callable[[Worlds, Tensor], RandomStreams],
        initial: Callable[[RandomStreams], Tree],
    ) -> None:
        self._worlds, self._streams, self._initial = worlds, streams, initial
        self._slots = EpisodeSlots(len(worlds), count)
        self.tree: Tree = None

    @staticmethod
    def num_episodes(tree: Tree, num_worlds: int) -> int:
        """Number of episodes of a world to hold, of trees like this one.

        0: they are too large to gain, or gradients are followed through the steps of an episode.
        """
        held = pytree.flatten(tree, include_persistent=False).values()
        tensors = {id(tensor): tensor for tensor in held}
        if any(tensor.requires_grad for tensor in tensors.values()):
            return 0
        elements = sum(tensor.numel() for tensor in tensors.values())
        return min(MAX_ELEMENTS // max(elements, num_worlds), MAX_EPISODES)

    def rows(self, worlds: Tensor, episode: Tensor, episodes: Tensor) -> Tensor:
        """Rows of `tree`, on the host, with what these worlds begin these episodes with.

        Args:
            worlds: their indices, on the host.
            episode: episode of each, on the host.
            episodes: of all worlds, on the host; later ones are computed if any is missing.
        """
        indices, numbers = worlds.numpy(), episode.numpy()
        if empty := self._slots.to_fill(indices, numbers, episodes.numpy()):
            self._fill(empty)
        return torch.from_numpy(self._slots.of(indices, numbers))

    def _fill(self, empty: EmptySlots) -> None:
        """Compute the trees of empty slots."""
        worlds = self._worlds.take(torch.from_numpy(empty.worlds))
        streams = self._streams(worlds, torch.from_numpy(empty.episode))
        with torch.no_grad():  # several restarts take from one computation
            tree = self._initial(streams)
        if len(empty.slots) < len(self._slots):
            indices = torch.from_numpy(empty.slots).to(streams.device)
            tree = pytree.replace_rows(self.tree, tree, indices)
        self.tree = tree
        self._slots.hold(empty)
