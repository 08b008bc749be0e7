"""Numbers of random streams: Philox words at addresses, transformed to a distribution.

The *key* of a word is a function of (seed, replicate, world, stage, episode), its *counter* of
(position in the stream, agent, stream name): see `mores.core.random_streams`. Numbers of several
streams are generated together, since the cost of few numbers is the number of operations.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.philox import MASK, philox_numpy, philox_torch

Transform = Callable[[Int[Tensor, "*shape word"]], Float[Tensor, "*shape word"]]

MAX_JOINT_BLOCKS = 2**15  # of several streams at once; with more, operations are not the cost


class Request(NamedTuple):
    """Numbers that are drawn from a stream in one round.

    Attributes:
        name: name of the stream with its scope.
        transform: function from the words of blocks to as many numbers.
        agents: number of agents, or their indices.
        width: numbers of an agent.
    """

    name: str
    transform: Transform
    agents: int | Tensor
    width: int

    @property
    def num_agents(self) -> int:
        """Number of agents."""
        return self.agents if isinstance(self.agents, int) else len(self.agents)

    @property
    def agent_indices(self) -> np.ndarray:
        """Index of each agent."""
        if isinstance(self.agents, int):
            return np.arange(self.agents)
        return self.agents.cpu().numpy()


@dataclasses.dataclass(frozen=True)
class WorldKeys:
    """Addresses of the numbers of a batch of worlds. Arrays are on the host.

    Attributes:
        seed, stage: of all worlds.
        replicate, world: replicate of each world, and its number within it.
        draw: its draw of uncertain parameters, which is no part of the address.
        words: two words of the key of each world, `[2, world]`.
        first_round: round of each world at offset 0.
        device: device of the numbers.
    """

    seed: int
    stage: int
    replicate: np.ndarray
    world: np.ndarray
    draw: np.ndarray
    words: np.ndarray
    first_round: np.ndarray
    device: torch.device

    @staticmethod
    def of(
        seed: int,
        stage: int,
        replicate: np.ndarray,
        world: np.ndarray,
        draw: np.ndarray,
        episode: np.ndarray,
        first_round: np.ndarray,
        device: torch.device,
    ) -> WorldKeys:
        """Keys of these worlds in these episodes."""
        words = _key_words(seed, stage, replicate, world, episode)
        return WorldKeys(seed, stage, replicate, world, draw, words, first_round, device)

    def __len__(self) -> int:
        return len(self.first_round)

    def take(self, worlds: np.ndarray) -> WorldKeys:
        """Keys of some of the worlds, by index."""
        return dataclasses.replace(
            self,
            replicate=self.replicate[worlds],
            world=self.world[worlds],
            draw=self.draw[worlds],
            words=self.words[:, worlds],
            first_round=self.first_round[worlds],
        )

    def restart(self, worlds: np.ndarray, episode: np.ndarray, offset: int) -> WorldKeys:
        """Keys with these worlds in other episodes, which begin at an offset."""
        words, first_round = self.words.copy(), self.first_round.copy()
        words[:, worlds] = _key_words(
            self.seed, self.stage, self.replicate[worlds], self.world[worlds], episode
        )
        first_round[worlds] = -offset
        return dataclasses.replace(self, words=words, first_round=first_round)

    @functools.cached_property
    def distinct(self) -> tuple[WorldKeys, Int[Tensor, " world"]] | None:
        """The keys without repetition, and the index of each world's among them.

        Worlds of several draws of uncertain parameters may have equal keys. None: none are equal.
        """
        if (self.draw == self.draw[0]).all():
            return None
        addresses = np.stack([*self.words, self.first_round.astype(np.uint64)])
        _, first, index = np.unique(addresses, axis=1, return_index=True, return_inverse=True)
        if len(first) == len(self):
            return None
        return self.take(first), torch.from_numpy(index.reshape(-1)).to(self.device)

    @functools.cached_property
    def round_tensor(self) -> Int[Tensor, " world"]:
        """`first_round` on the device."""
        return torch.from_numpy(self.first_round).to(self.device)

    @functools.cached_property
    def max_first_round(self) -> int:
        """The largest of `first_round`."""
        return int(self.first_round.max())

    @functools.cached_property
    def device_words(self) -> Int[Tensor, "2 world"]:
        """`words` on the device."""
        return torch.from_numpy(self.words.view(np.int64)).to(self.device)


def generate(
    keys: WorldKeys, requests: Sequence[tuple[Request, int]], offset: int
) -> list[Float[Tensor, "round world agent width"]]:
    """Numbers of streams for some rounds from an offset on.

    Args:
        keys: the worlds.
        requests: what is drawn in a round, and the number of rounds.
        offset: rounds since `keys.first_round`.
    """
    if keys.distinct is not None:
        distinct, index = keys.distinct
        with torch.inference_mode(False), torch.no_grad():
            return [n.index_select(1, index) for n in generate(distinct, requests, offset)]
    layouts = [_Layout.of(keys, request, rounds, offset) for request, rounds in requests]
    numbers: list[Tensor] = []
    # neither is a graph recorded nor an inference tensor made: the numbers are cached
    with torch.inference_mode(False), torch.no_grad():
        for group in _groups(layouts, len(keys)):
            words, start = _words(keys, group), 0
            for layout in group:
                numbers.append(layout.numbers(words[:, start : start + layout.num_blocks]))
                start += layout.num_blocks
    return numbers


class _Layout(NamedTuple):
    """Blocks of one request."""

    request: Request
    rounds: int
    first: np.ndarray  # position in the stream of each world's first number; of one if equal in all
    blocks: int  # of an agent

    @staticmethod
    def of(keys: WorldKeys, request: Request, rounds: int, offset: int) -> _Layout:
        first = keys.first_round
        if (first == first[0]).all():
            first = first[:1]
        first = (first + offset) * request.width
        skipped = int((first % 4).max())  # words of the first block before that position
        return _Layout(request, rounds, first, -(-(skipped + rounds * request.width) // 4))

    @property
    def num_blocks(self) -> int:
        return self.request.num_agents * self.blocks

    def counter(self) -> np.ndarray:
        """Block from the first, agent, and two words of the name, `[4, block]`."""
        agents = self.request.agent_indices
        counter = np.empty((4, len(agents), self.blocks), np.int64)
        counter[0] = np.arange(self.blocks)
        counter[1] = agents[:, None]
        counter[2], counter[3] = stream_id(self.request.name)
        return counter.reshape(4, -1)

    def numbers(
        self, words: Int[Tensor, "world block 4"]
    ) -> Float[Tensor, "round world agent width"]:
        request, rounds = self.request, self.rounds
        words = words.reshape(len(words), request.num_agents, 4 * self.blocks)
        numbers = request.transform(words)
        skipped, count = self.first % 4, rounds * request.width
        if (skipped == skipped[0]).all():
            numbers = numbers.narrow(2, int(skipped[0]), count)
        else:
            positions = torch.from_numpy(skipped[:, None] + np.arange(count)).to(words.device)
            numbers = numbers.gather(2, positions[:, None].expand(*numbers.shape[:2], count))
        numbers = numbers.unflatten(2, (rounds, request.width))  # world agent round width
        return numbers.permute(2, 0, 1, 3).contiguous()


def _groups(layouts: Sequence[_Layout], num_worlds: int) -> Iterator[list[_Layout]]:
    """Layouts whose words are generated together."""
    group, size = list[_Layout](), 0
    for layout in layouts:
        blocks = layout.num_blocks * num_worlds
        if group and size + blocks > MAX_JOINT_BLOCKS:
            yield group
            group, size = [], 0
        group.append(layout)
        size += blocks
    if group:
        yield group


def _words(keys: WorldKeys, layouts: Sequence[_Layout]) -> Int[Tensor, "world block 4"]:
    """Words of the blocks of all requests, one after the other."""
    counter = np.concatenate([layout.counter() for layout in layouts], 1)
    sizes = [layout.num_blocks for layout in layouts]
    first = np.stack(np.broadcast_arrays(*(layout.first // 4 for layout in layouts)), 1)
    if keys.device.type != "cpu" or torch.compiler.is_compiling():
        offset, agent, low, high = torch.from_numpy(counter).to(keys.device)
        request = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(keys.device)
        block = torch.from_numpy(first).to(keys.device).index_select(1, request) + offset
        key_0, key_1 = keys.device_words[:, :, None]
        words = philox_torch((block, agent, low, high), (key_0, key_1))
        return torch.stack([word.expand(len(keys), -1) for word in words], -1)
    block = (np.repeat(first, sizes, 1) + counter[0]).view(np.uint64)
    agent, low, high = counter[1:].view(np.uint64)
    key_0, key_1 = keys.words[:, :, None]
    words = np.empty((len(keys), counter.shape[1], 4), np.uint64)
    for index, word in enumerate(philox_numpy((block, agent, low, high), (key_0, key_1))):
        words[..., index] = word
    return torch.from_numpy(words.view(np.int64))


def _key_words(
    seed: int, stage: int, replicate: np.ndarray, world: np.ndarray, episode: np.ndarray
) -> np.ndarray:
    """Two words of the key of each world, `[2, world]`."""
    seed_words = np.array([seed & MASK, seed >> 32 & MASK], np.uint64)
    counter = (replicate, world, np.array([stage]), episode)
    words = philox_numpy(
        tuple(part.astype(np.uint64) for part in counter),  # type: ignore[arg-type]
        (seed_words[:1], seed_words[1:]),
    )
    return np.stack(words[:2])


@functools.cache
def stream_id(name: str) -> tuple[int, int]:
    """Two 32-bit words of a hash of the stream name: 64 bits make collisions improbable."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def uniform(words: Int[Tensor, "*shape word"]) -> Float[Tensor, "*shape word"]:
    """Numbers in [0, 1), 24 bits each."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def normal(words: Int[Tensor, "*shape word"]) -> Float[Tensor, "*shape word"]:
    """Pairs of words to pairs of normals; the radius uses all 32 bits, so tails reach 6.8."""
    radius_word, angle_word = words[..., 0::2], words[..., 1::2]
    radius = torch.sqrt(-2.0 * torch.log((radius_word.to(torch.float32) + 0.5) * 2.0**-32))
    angle = (angle_word >> 8).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1).flatten(-2)


def gumbel(words: Int[Tensor, "*shape word"]) -> Float[Tensor, "*shape word"]:
    """23 bits: with 24 the largest uniform would round to 1, and its logarithm to 0."""
    return -torch.log(-torch.log(((words >> 9).to(torch.float32) + 0.5) * 2.0**-23))
