"""Random streams: numbers addressed by world, agent, round and stream name, and nothing else.

Every number is a word of Philox4x32-10 (`mores.core.philox`). The *key* is a function of (seed,
replicate, world, stage, episode), the *counter* of (position in the stream, agent, stream name).
Each stream name and agent have one endless stream per episode; a draw of `width` numbers in round
`t` reads its positions `t * width ... (t + 1) * width - 1`, so all four words of a block are used.
A world therefore draws the same numbers alone or among others, on one device or several, in any
order, and the arms of an experiment share them, which makes contrasts between arms precise.

An eager Philox costs many small operations, so numbers of several rounds are computed at once and
cached. This changes the cost, never the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.arguments import check_integer, check_seed
from mores.core.errors import UserError
from mores.core.philox import MASK, philox_numpy, philox_torch

Transform = Callable[..., list[Tensor]]  # four words to four numbers

MAX_CACHED_WORDS = 2**18  # per stream name, over all worlds and agents


@dataclasses.dataclass(frozen=True)
class Worlds:
    """Addresses of simulated worlds: the replicate of each, and its number within the replicate.

    A replicate is an independent repetition of the experiment; its worlds share learned models.

    Attributes:
        replicate: replicate of each world, from 0 to 2^32 - 1.
        world: its number within the replicate, in the same range.
        draw: number of its draw of uncertain parameters; None: 0 everywhere. It selects parameters
            and no random numbers: worlds of equal address in several draws have the same numbers.

    Raises:
        UserError: no worlds, or numbers that are not such addresses.
    """

    replicate: Int[Tensor, " world"]
    world: Int[Tensor, " world"]
    draw: Int[Tensor, " world"] | None = None

    def __post_init__(self) -> None:
        for name in ("replicate", "world", "draw"):
            numbers = getattr(self, name)
            if name == "draw" and numbers is None:
                continue
            if not isinstance(numbers, Tensor) or numbers.dtype is not torch.int64:
                message = f"worlds: {name} must be a tensor of int64"
                raise UserError(message, code="wrong_type", path="worlds")
            if numbers.dim() != 1 or numbers.shape != self.replicate.shape:
                message = f"worlds: {name} must have one number a world"
                raise UserError(message, code="wrong_shape", path="worlds")
            if not len(numbers):
                raise UserError("worlds: needs at least one", code="out_of_range", path="worlds")
            outside = numbers[(numbers < 0) | (numbers >= 2**32)]
            if len(outside):
                message = f"worlds: {name} must be from 0 to 2^32 - 1, not {outside[0].item()}"
                raise UserError(message, code="out_of_range", path="worlds")

    @staticmethod
    def of(worlds: int | Sequence[int] | Worlds) -> Worlds:
        """One world each of replicates 0 ... n-1 (a number), or of listed ones (`[37]`).

        Raises:
            UserError: no worlds, or numbers that are not whole or out of range.
        """
        if isinstance(worlds, Worlds):
            return worlds
        if isinstance(worlds, Iterable) and not isinstance(worlds, str):
            numbers = [check_integer("worlds", number, 0, 2**32 - 1) for number in worlds]
            replicate = torch.tensor(numbers, dtype=torch.int64)
        else:
            replicate = torch.arange(check_integer("worlds", worlds))
        return Worlds(replicate, torch.zeros_like(replicate))

    @staticmethod
    def grid(replicates: int | Sequence[int], worlds: int = 1) -> Worlds:
        """`worlds` worlds of each replicate, replicate by replicate.

        Raises:
            UserError: see `of`.
        """
        replicate, worlds = Worlds.of(replicates).replicate, check_integer("worlds", worlds)
        return Worlds(
            replicate.repeat_interleave(worlds), torch.arange(worlds).repeat(len(replicate))
        )

    def __len__(self) -> int:
        return len(self.replicate)

    def take(self, rows: slice) -> Worlds:
        """Some of the worlds."""
        draw = None if self.draw is None else self.draw[rows]
        return Worlds(self.replicate[rows], self.world[rows], draw)


class DrawCounter:
    """Number of blocks of random numbers that were generated."""

    def __init__(self) -> None:
        self.count = 0


@dataclasses.dataclass(frozen=True)
class _RoundSpan:
    """A span of rounds without a reset of any world: keys, first rounds and cached numbers."""

    key: tuple[Tensor, Tensor]  # two words per world, [world]
    first_round: Tensor  # round of each world at the start of the span, [world]
    common_first_round: int | None  # the same as a number if it is equal in all worlds
    cache: dict[tuple[str, str, int, int], tuple[int, Tensor]]
    replicate: Int[Tensor, " world"]
    world: Int[Tensor, " world"]  # its number within the replicate
    draw: Int[Tensor, " world"]  # its draw of uncertain parameters
    draws: DrawCounter
    copy_of: _Copies | None = None  # if several worlds have the same numbers


@dataclasses.dataclass(frozen=True)
class _Copies:
    """Worlds with the same numbers, which are generated once: the same replicate in many draws."""

    first: Int[Tensor, " distinct"]  # a world of each address
    index: Int[Tensor, " world"]  # position in `first` of the world with the same numbers


def uniform_index(n: int, uniform: Tensor) -> Tensor:
    """Uniform index below `n`, from uniform numbers in [0, 1)."""
    return (uniform * n).long().clamp(max=n - 1)


class RandomStreams:
    """Random streams of a batch of worlds at one round. Immutable.

    Do not write into the returned tensors: they are cached.
    """

    __slots__ = ("_offset", "_scope", "_span")

    def __init__(self, span: _RoundSpan, offset: int = 0, scope: str = "") -> None:
        self._span, self._offset, self._scope = span, offset, scope

    @staticmethod
    def of(
        seed: int,
        worlds: int | Sequence[int] | Worlds,
        *,
        stage: int = 0,
        episode: int | Tensor = 0,
        round: int | Tensor = 0,
        device: torch.device | str = "cpu",
        draws: DrawCounter | None = None,
    ) -> RandomStreams:
        """Streams of these worlds from `round` of `episode` on.

        `seed` is from 0 to 2^64 - 1; `episode` and `round` are one number, or one per world.
        `draws` counts what is drawn.

        Raises:
            UserError: a seed or world out of range.
        """
        worlds, seed = Worlds.of(worlds), check_seed(seed)
        zero = torch.zeros_like(worlds.replicate)
        common_first = round if isinstance(round, int) else None
        counter = (worlds.replicate, worlds.world, zero + stage, zero + episode)
        seed_words = (zero + (seed & MASK), zero + ((seed >> 32) & MASK))
        key_0, key_1, _, _ = _philox(counter, seed_words)
        key = (key_0.to(device), key_1.to(device))
        first = (zero + round).to(device)
        replicate, world = worlds.replicate.to(device), worlds.world.to(device)
        draw = torch.zeros_like(replicate) if worlds.draw is None else worlds.draw.to(device)
        draws = DrawCounter() if draws is None else draws
        copy_of = None
        if worlds.draw is not None and common_first is not None:
            distinct, index = torch.stack(counter).unique(dim=1, return_inverse=True)
            if distinct.shape[1] < len(worlds):
                one = torch.empty(distinct.shape[1], dtype=torch.int64)
                one[index] = torch.arange(len(worlds))
                copy_of = _Copies(one.to(device), index.to(device))
        span = _RoundSpan(key, first, common_first, {}, replicate, world, draw, draws, copy_of)
        return RandomStreams(span)

    @property
    def num_worlds(self) -> int:
        """Number of worlds."""
        return len(self._span.first_round)

    @property
    def replicate(self) -> Int[Tensor, " world"]:
        """The replicate of each world; the worlds of a replicate share learned models."""
        return self._span.replicate

    @property
    def world(self) -> Int[Tensor, " world"]:
        """The number of each world within its replicate."""
        return self._span.world

    @property
    def draw(self) -> Int[Tensor, " world"]:
        """The draw of uncertain parameters of each world."""
        return self._span.draw

    @property
    def device(self) -> torch.device:
        """Device of the numbers."""
        return self._span.first_round.device

    @property
    def round(self) -> Int[Tensor, " world"]:
        """The round of each world."""
        return self._span.first_round + self._offset

    def at(self, offset: int) -> RandomStreams:
        """The same streams, `offset` rounds after the start of the span."""
        return RandomStreams(self._span, offset, self._scope)

    def child(self, name: str) -> RandomStreams:
        """Streams of a component: its stream names are distinct from those of other components."""
        return RandomStreams(self._span, self._offset, f"{self._scope}/{name}")

    def take(self, indices: Int[Tensor, " some"]) -> RandomStreams:
        """Streams of some of the worlds, by index."""
        span = self._span
        key_0, key_1 = span.key
        selected = _RoundSpan(
            (key_0[indices], key_1[indices]),
            span.first_round[indices],
            span.common_first_round,
            {},
            span.replicate[indices],
            span.world[indices],
            span.draw[indices],
            span.draws,
        )
        return RandomStreams(selected, self._offset, self._scope)

    def uniform(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Numbers in [0, 1), 24 bits each. `agents`: their count, or their indices `[agent]`."""
        return self._draw(stream, agents, width, _uniform)

    def normal(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Standard normal numbers by the Box-Muller transform, all within +-6.8."""
        return self._draw(stream, agents, width, _normal)

    def gumbel(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Standard Gumbel numbers: `argmax(logits + gumbel)` has distribution `softmax(logits)`."""
        return self._draw(stream, agents, width, _gumbel)

    def categorical(
        self, stream: str, logits: Float[Tensor, "world agent option"]
    ) -> Int[Tensor, "world agent"]:
        """One of several unordered options; shared Gumbel numbers couple the choice across arms."""
        noise = self.gumbel(stream, logits.shape[1], logits.shape[2])
        return (logits + noise).argmax(-1)

    def ordered_categorical(
        self, stream: str, probabilities: Float[Tensor, "world agent option"]
    ) -> Int[Tensor, "world agent"]:
        """One of several ordered options: inverse distribution function of one uniform number."""
        u = self.uniform(stream, probabilities.shape[1])
        below = probabilities.cumsum(-1)[..., :-1]
        return (u >= below).sum(-1)

    def _draw(self, stream: str, agents: int | Tensor, width: int, transform: Transform) -> Tensor:
        span, name = self._span, f"{self._scope}/{stream}"
        if not isinstance(agents, int):
            return self._generate(name, agents, width, self._offset, 1, transform)[0]
        cache_key = (name, transform.__name__, agents, width)
        start, cached = span.cache.get(cache_key, (0, None))
        index = self._offset - start
        if cached is None or not 0 <= index < len(cached):
            rounds = self._rounds_to_cache(cached, index, agents, width)
            cached = self._generate(
                name, torch.arange(agents), width, self._offset, rounds, transform
            )
            span.cache[cache_key] = (self._offset, cached)
            index = 0
        return cached[index]

    def _rounds_to_cache(self, cached: Tensor | None, index: int, agents: int, width: int) -> int:
        """Twice the previous number while rounds are consecutive, within `MAX_CACHED_WORDS`."""
        whole_block = max(1, 4 // max(width, 1))  # fewer would leave words of a block unused
        consecutive = cached is not None and index == len(cached)
        wanted = 2 * len(cached) if cached is not None and consecutive else whole_block
        capacity = MAX_CACHED_WORDS // max(1, self.num_worlds * agents * width)
        return max(whole_block, min(wanted, capacity))

    def _generate(
        self,
        name: str,
        agents: Tensor,
        width: int,
        offset: int,
        rounds: int,
        transform: Transform,
    ) -> Float[Tensor, "round world agent width"]:
        """Numbers of a stream for `rounds` rounds from `offset` on."""
        span, device = self._span, self.device
        span.draws.count += 1
        count = rounds * width
        copies = span.copy_of
        first_round = span.first_round if copies is None else span.first_round[copies.first]
        first = (first_round + offset) * width  # position in the stream, [world]
        skipped = 3  # words of the first block before that position, at most
        if span.common_first_round is not None:
            skipped = (span.common_first_round + offset) * width % 4
        blocks = -(-(skipped + count) // 4)
        block = (first // 4)[:, None, None] + torch.arange(blocks, device=device)
        agent = agents.to(device).reshape(1, -1, 1)
        tag_low, tag_high = _stream_id(name)
        key = span.key if copies is None else tuple(k[copies.first] for k in span.key)
        key_0, key_1 = (k[:, None, None] for k in key)
        zero = torch.zeros((), dtype=torch.int64, device=device)
        words = _philox((block, agent, zero + tag_low, zero + tag_high), (key_0, key_1))
        shape = (len(first), agent.shape[1], blocks)
        columns = [number.expand(shape) for number in transform(*words)]
        numbers = torch.stack(columns, -1).flatten(2)
        if span.common_first_round is not None:
            numbers = numbers[..., skipped : skipped + count]
        else:
            positions = (first % 4)[:, None, None] + torch.arange(count, device=device)
            numbers = numbers.gather(2, positions.expand(*shape[:2], count))
        numbers = numbers.unflatten(2, (rounds, width))  # world agent round width
        numbers = numbers.permute(2, 0, 1, 3)
        return numbers.contiguous() if copies is None else numbers[:, copies.index]


@functools.cache
def _stream_id(name: str) -> tuple[int, int]:
    """Two 32-bit words of a hash of the stream name: 64 bits make collisions improbable."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, ...]:
    if counter[0].device.type != "cpu" or torch.compiler.is_compiling():
        return philox_torch(counter, key)
    arrays = [word.numpy().astype(np.uint64) for word in (*counter, *key)]
    words = philox_numpy((arrays[0], arrays[1], arrays[2], arrays[3]), (arrays[4], arrays[5]))
    return tuple(torch.from_numpy(word.view(np.int64)) for word in words)


def _uniform(*words: Tensor) -> list[Tensor]:
    return [(word >> 8).to(torch.float32) * 2.0**-24 for word in words]


def _normal(*words: Tensor) -> list[Tensor]:
    """Pairs of words to pairs of normals; the radius uses all 32 bits, so tails reach 6.8."""
    numbers = []
    for radius_word, angle_word in (words[:2], words[2:]):
        radius = torch.sqrt(-2.0 * torch.log((radius_word.to(torch.float32) + 0.5) * 2.0**-32))
        angle = (angle_word >> 8).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
        numbers += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return numbers


def _gumbel(*words: Tensor) -> list[Tensor]:
    """23 bits: with 24 the largest uniform would round to 1, and its logarithm to 0."""
    uniforms = [((word >> 9).to(torch.float32) + 0.5) * 2.0**-23 for word in words]
    return [-torch.log(-torch.log(u)) for u in uniforms]
