"""Numbers of random streams: Philox words at addresses, transformed to a distribution.

The *key* of a word is a function of (seed, replicate, world, stage, episode), its *counter* of
(position in the stream, agent, stream name): see `mores.core.random_streams`. A word is an unsigned
number of 32 bits, a block the four words that Philox computes from one counter. Numbers of several
streams are generated in one call, since the time to generate few numbers is that of the calls.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.philox import MASK, philox_numpy, philox_torch

Transform = Callable[[Int[Tensor, "*shape word"]], Float[Tensor, "*shape word"]]

MAX_CACHED_COUNTERS = 2**11  # blocks of a request whose counters are kept
ROW_BLOCKS = 2**13  # of rows that are generated at once: their arrays stay in the cache of a core
MAX_JOINT_BLOCKS = 2**15  # of several streams in one call; with more, calls cost little


class Request(NamedTuple):
    """Numbers that are drawn from a stream in one round.

    Attributes:
        name: name of the stream with its scope.
        transform: function from words to as many numbers of a distribution.
        agents: number of agents, or their indices.
        width: number of numbers for each agent.
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
    """Addresses of the random numbers of a batch of worlds. Arrays are on the host.

    Attributes:
        seed, stage: seed and stage of all worlds.
        replicate, world: replicate of each world, and number of the world within the replicate.
        draw: draw of uncertain parameters of each world, which is not part of the address.
        episode: episode of each world.
        first_round: round of each world at offset 0.
        device: device of the numbers.
        words: two words of the key of each world, `[2, world]`.
    """

    seed: int
    stage: int
    replicate: np.ndarray
    world: np.ndarray
    draw: np.ndarray
    episode: np.ndarray
    first_round: np.ndarray
    device: torch.device
    words: np.ndarray

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
        return WorldKeys(seed, stage, replicate, world, draw, episode, first_round, device, words)

    def __len__(self) -> int:
        return len(self.first_round)

    def take(self, worlds: np.ndarray) -> WorldKeys:
        """Keys of some of the worlds, by index."""
        return dataclasses.replace(
            self,
            replicate=self.replicate[worlds],
            world=self.world[worlds],
            draw=self.draw[worlds],
            episode=self.episode[worlds],
            first_round=self.first_round[worlds],
            words=self.words[:, worlds],
        )

    def words_of(self, worlds: np.ndarray, episode: np.ndarray) -> np.ndarray:
        """Words of the keys of these worlds in these episodes, `[2, world]`."""
        replicate, world = self.replicate[worlds], self.world[worlds]
        return _key_words(self.seed, self.stage, replicate, world, episode)

    def restart(
        self, worlds: np.ndarray, episode: np.ndarray, offset: int, words: np.ndarray
    ) -> WorldKeys:
        """Keys with these worlds in other episodes, with these words, which begin at an offset."""
        episodes, first, all_words = self.episode.copy(), self.first_round.copy(), self.words.copy()
        episodes[worlds], first[worlds], all_words[:, worlds] = episode, -offset, words
        where = self.seed, self.stage, self.replicate, self.world, self.draw
        return WorldKeys(*where, episodes, first, self.device, all_words)

    @functools.cached_property
    def distinct(self) -> tuple[WorldKeys, Int[Tensor, " world"]] | None:
        """Keys of the distinct addresses, and the index of each world's address among them.

        Worlds in several draws of uncertain parameters may have equal addresses. None: all differ.
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


def generate(keys: WorldKeys, requests: Sequence[tuple[Request, int]], offset: int) -> list[Tensor]:
    """Random numbers of several requests, `[round, world, agent, width]` each.

    Args:
        keys: addresses of the worlds.
        requests: requests, each with its number of rounds.
        offset: first of the rounds, counted from `keys.first_round`.
    """
    if not requests:
        return []
    if keys.distinct is not None:
        distinct, index = keys.distinct
        with torch.inference_mode(False), torch.no_grad():
            return [n.index_select(1, index) for n in generate(distinct, requests, offset)]
    layouts = [_Layout.of(keys, request, rounds, offset) for request, rounds in requests]
    numbers: dict[int, Tensor] = {}
    # neither is a graph recorded nor an inference tensor made: the numbers are cached
    with torch.inference_mode(False), torch.no_grad():
        for group in _groups(layouts, len(keys)):
            words, start = _words(keys, [layouts[index] for index in group]), 0
            for transform, run in itertools.groupby(
                group, lambda index: layouts[index].request.transform
            ):
                indices = list(run)
                sizes = [layouts[index].num_blocks for index in indices]
                part = words[:, start : start + sum(sizes)].flatten(1)
                start += sum(sizes)
                parts = transform(part).split([4 * size for size in sizes], 1)
                for index, each in zip(indices, parts, strict=True):
                    numbers[index] = layouts[index].arrange(each)
    return [numbers[index] for index in range(len(layouts))]


def generate_rows(
    keys: WorldKeys, name: str, agents: np.ndarray, width: int, transform: Transform, offset: int
) -> Float[Tensor, "row width"]:
    """Numbers of single agents in one round: those that `generate` gives for world and agent.

    For many numbers a row: as few rows are generated at once as fit into the cache of a core.

    Args:
        keys: address of the world of each row.
        name: name of the stream with its scope.
        agents: index of the agent of each row.
        width: number of numbers of a row.
        transform: function from each word to a number.
        offset: the round, counted from `keys.first_round`.
    """
    layout = _Layout.of(keys, Request(name, transform, 1, width), 1, offset)
    first = np.broadcast_to(layout.first, len(keys))
    size = max(1, ROW_BLOCKS // layout.blocks)
    with torch.inference_mode(False), torch.no_grad():
        numbers = torch.empty(len(keys), layout.blocks, 4, device=keys.device)
        for start in range(0, len(keys), size):
            rows = slice(start, start + size)
            words = _row_words(keys, rows, name, agents[rows], first[rows] // 4, layout.blocks)
            for index, word in enumerate(words):
                numbers[rows, :, index] = transform(word)
        return layout.arrange(numbers.flatten(1))[0, :, 0]


def _row_words(
    keys: WorldKeys,
    rows: slice,
    name: str,
    agents: np.ndarray,
    first_block: np.ndarray,
    blocks: int,
) -> list[Int[Tensor, "row block"]]:
    """The four words of each block of one agent a row."""
    block = first_block[:, None] + np.arange(blocks)
    low, high = (np.full((1, 1), word, np.int64) for word in stream_id(name))
    counter = (block, agents.astype(np.int64)[:, None], low, high)
    key = keys.words[:, rows, None]
    if keys.device.type == "cpu":
        unsigned = [part.view(np.uint64) for part in counter]
        words = philox_numpy(tuple(unsigned), (key[0], key[1]))  # type: ignore[arg-type]
        return [torch.from_numpy(word.view(np.int64)) for word in words]
    on_device = [torch.from_numpy(part).to(keys.device) for part in counter]
    device_key = torch.from_numpy(key.view(np.int64)).to(keys.device)
    found = philox_torch(tuple(on_device), (device_key[0], device_key[1]))  # type: ignore[arg-type]
    return list(torch.broadcast_tensors(*found))


class _Layout(NamedTuple):
    """Position of the numbers of one request among the blocks of its agents."""

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
        """Counters of the blocks: see `_counter`."""
        request, agents = self.request, self.request.agents
        name = stream_id(request.name)
        if isinstance(agents, int) and self.num_blocks <= MAX_CACHED_COUNTERS:
            return _cached_counter(name, agents, self.blocks)
        return _counter(name, request.agent_indices, self.blocks)

    def arrange(
        self, numbers: Float[Tensor, "world number"]
    ) -> Float[Tensor, "round world agent width"]:
        """The requested numbers among those of whole blocks, ordered by round and agent."""
        request, rounds = self.request, self.rounds
        numbers = numbers.unflatten(1, (request.num_agents, 4 * self.blocks))
        skipped, count = self.first % 4, rounds * request.width
        if (skipped == skipped[0]).all():
            numbers = numbers.narrow(2, int(skipped[0]), count)
        else:
            positions = torch.from_numpy(skipped[:, None] + np.arange(count)).to(numbers.device)
            numbers = numbers.gather(2, positions[:, None].expand(*numbers.shape[:2], count))
        numbers = numbers.unflatten(2, (rounds, request.width))  # world agent round width
        return numbers.permute(2, 0, 1, 3).contiguous()


def _counter(name: tuple[int, int], agents: np.ndarray, blocks: int) -> np.ndarray:
    """Counters `[4, block]`: index of the block, agent, and two words of the stream name."""
    counter = np.empty((4, len(agents), blocks), np.int64)
    counter[0] = np.arange(blocks)
    counter[1] = agents[:, None]
    counter[2], counter[3] = name
    return counter.reshape(4, -1)


@functools.lru_cache(maxsize=256)
def _cached_counter(name: tuple[int, int], agents: int, blocks: int) -> np.ndarray:
    return _counter(name, np.arange(agents), blocks)


def _groups(layouts: Sequence[_Layout], num_worlds: int) -> Iterator[list[int]]:
    """Indices of layouts whose words are generated together; equal transforms are neighbors."""
    transforms = list(dict.fromkeys(layout.request.transform for layout in layouts))
    order = sorted(
        range(len(layouts)), key=lambda index: transforms.index(layouts[index].request.transform)
    )
    group, size = list[int](), 0
    for index in order:
        blocks = layouts[index].num_blocks * num_worlds
        if group and size + blocks > MAX_JOINT_BLOCKS:
            yield group
            group, size = [], 0
        group.append(index)
        size += blocks
    yield group


def _words(keys: WorldKeys, layouts: Sequence[_Layout]) -> Int[Tensor, "world block 4"]:
    """Words of the blocks of all requests, concatenated."""
    counter = [layout.counter() for layout in layouts]
    counter = counter[0] if len(counter) == 1 else np.concatenate(counter, 1)
    first = [layout.first // 4 for layout in layouts]
    if keys.device.type != "cpu" or torch.compiler.is_compiling():
        return _device_words(keys, counter, first, [layout.num_blocks for layout in layouts])
    block = np.empty((max(map(len, first)), counter.shape[1]), np.int64)
    start = 0
    for layout, first_block in zip(layouts, first, strict=True):
        end = start + layout.num_blocks
        np.add(first_block[:, None], counter[0, start:end], out=block[:, start:end])
        start = end
    agent, low, high = counter[1:].view(np.uint64)
    key_0, key_1 = keys.words[:, :, None]
    words = np.empty((len(keys), counter.shape[1], 4), np.uint64)
    parts = philox_numpy((block.view(np.uint64), agent, low, high), (key_0, key_1))
    for index, part in enumerate(parts):
        words[..., index] = part
    return torch.from_numpy(words.view(np.int64))


def _device_words(
    keys: WorldKeys, counter: np.ndarray, first: Sequence[np.ndarray], sizes: Sequence[int]
) -> Int[Tensor, "world block 4"]:
    """`_words` on a device, with one host-to-device copy for counters and one for worlds."""
    request = np.repeat(np.arange(len(sizes)), sizes)
    on_device = torch.from_numpy(np.concatenate([counter, request[None]])).to(keys.device)
    offset, agent, low, high, request = on_device
    first_blocks = torch.from_numpy(np.stack(np.broadcast_arrays(*first), 1)).to(keys.device)
    block = first_blocks.index_select(1, request) + offset
    key_0, key_1 = keys.device_words[:, :, None]
    words = philox_torch((block, agent, low, high), (key_0, key_1))
    return torch.stack([word.expand(len(keys), -1) for word in words], -1)


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
    """Uniform numbers in [0, 1), multiples of 2^-24."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def normal(words: Int[Tensor, "*shape word"]) -> Float[Tensor, "*shape word"]:
    """Standard normal numbers by the Box-Muller transform: two words give two numbers.

    The radius uses all 32 bits of its word, so that the largest absolute value is 6.8.
    """
    radius_word, angle_word = words[..., 0::2], words[..., 1::2]
    radius = torch.sqrt(-2.0 * torch.log((radius_word.to(torch.float32) + 0.5) * 2.0**-32))
    angle = (angle_word >> 8).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1).flatten(-2)


def gumbel(words: Int[Tensor, "*shape word"]) -> Float[Tensor, "*shape word"]:
    """Standard Gumbel numbers from the highest 23 bits of each word.

    With 24 bits the largest uniform number would be rounded to 1, whose logarithm is 0.
    """
    return -torch.log(-torch.log(((words >> 9).to(torch.float32) + 0.5) * 2.0**-23))
