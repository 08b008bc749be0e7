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
    """

    def __init__(
        self,
        worlds: Worlds,
        count: int,
        streams: Callable[[Worlds, Tensor], RandomStreams],
        initial: Callable[[RandomStreams], Tree],
    ) -> None:
        self._count, self._streams, self._initial = count, streams, initial
        self._worlds = torch.arange(len(worlds)).repeat_interleave(count)
        self._slots = torch.arange(len(self._worlds)) % count  # slot of an episode: it modulo count
        self._addresses = worlds
        self._episode = torch.full_like(self._worlds, -1)  # of each slot
        self._tree: Tree = None

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

    def take(self, worlds: Tensor, episode: Tensor, episodes: Tensor) -> Tree:
        """What these worlds begin these episodes with.

        Args:
            worlds: their indices, on the host.
            episode: episode of each, on the host.
            episodes: episodes in which all worlds are after it, on the host.
        """
        slots = worlds * self._count + episode % self._count
        if bool((self._episode[slots] != episode).any()):
            first = episodes + 1
            first[worlds] = episode
            self._fill(first)
        return pytree.take_rows(self._tree, slots.to(self._device))

    def _fill(self, first: Tensor) -> None:
        """Compute what is missing of the episodes from `first` on."""
        first = first[self._worlds]
        wanted = first + (self._slots - first) % self._count
        missing = (self._episode != wanted).nonzero()[:, 0]
        worlds, address = self._worlds[missing], self._addresses
        draw = None if address.draw is None else address.draw[worlds]
        own = Worlds(address.replicate[worlds], address.world[worlds], draw)
        streams = self._streams(own, wanted[missing])
        with torch.no_grad():  # several restarts take from one computation
            tree = self._initial(streams)
        self._device = streams.device
        if len(missing) < len(self._episode):
            tree = pytree.replace_rows(self._tree, tree, missing.to(self._device))
        self._tree, self._episode[missing] = tree, wanted[missing]
