"""Random draws that depend on who asks, when and what for, and on nothing else.

Every number is a word of Philox4x32-10 (`mores.core.philox`). The *key* is made from (seed, replicate,
world, stage, episode); the *counter* from (position in a stream, agent, purpose). A purpose and
an agent together have one endless stream per episode; a draw of `width` numbers in round `t`
reads positions `t * width ... (t + 1) * width - 1` of it, so all four words of a block are used.
It follows that a world draws the same numbers alone or among others, on one device or several,
in any order, and that two arms of an experiment share them: their contrast is sharp.

An eager Philox costs many small operations, so streams are computed some rounds ahead and kept.
That changes the cost, never the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.philox import MASK, philox_numpy, philox_torch

Transform = Callable[..., list[Tensor]]  # four words to four numbers

MAX_CACHED_WORDS = 2**18  # at most so many words of one stream family are kept ahead


@dataclasses.dataclass(frozen=True)
class Worlds:
    """Which worlds are played: the replicate each belongs to, and its number within it.

    A replicate is an independent repetition of the experiment; its worlds share its learners.
    """

    replicate: Int[Tensor, " world"]
    world: Int[Tensor, " world"]

    @staticmethod
    def of(worlds: int | Sequence[int] | Worlds) -> Worlds:
        """A number `n` means replicates 0 ... n-1; a list names replicates: `[37]` replays one."""
        if isinstance(worlds, Worlds):
            return worlds
        chosen = range(worlds) if isinstance(worlds, int) else worlds
        replicate = torch.tensor(list(chosen), dtype=torch.int64)
        return Worlds(replicate, torch.zeros_like(replicate))

    @staticmethod
    def grid(replicates: int | Sequence[int], worlds: int = 1) -> Worlds:
        """`worlds` parallel copies of each replicate, replicate by replicate."""
        replicate = Worlds.of(replicates).replicate
        return Worlds(
            replicate.repeat_interleave(worlds), torch.arange(worlds).repeat(len(replicate))
        )

    def __len__(self) -> int:
        return len(self.replicate)


@dataclasses.dataclass(frozen=True)
class _RoundSpan:
    """A stretch of rounds over which no world was reset: keys, first rounds, numbers kept ahead."""

    key: tuple[Tensor, Tensor]  # two words a world, [world]
    first_round: Tensor  # round at which each world enters the stretch, [world]
    common_first_round: int | None  # the same as a number where all worlds agree
    cache: dict[tuple[str, str, int, int], tuple[int, Tensor]]
    replicate: Int[Tensor, " world"]
    world: Int[Tensor, " world"]  # its number within the replicate


class RandomStreams:
    """The draws of a batch of worlds at one moment. Immutable; `child` and `at` give others.

    Do not write into the tensors it returns.
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
    ) -> RandomStreams:
        """Draws of these worlds from `round` of `episode` on.

        `seed` is taken modulo 2^64; `episode` and `round` are one number or one a world.
        """
        which = Worlds.of(worlds)
        zero = torch.zeros_like(which.replicate)
        shared_first = round if isinstance(round, int) else None
        counter = (which.replicate, which.world, zero + stage, zero + episode)
        seed_words = (zero + (seed & MASK), zero + ((seed >> 32) & MASK))
        key_0, key_1, _, _ = _philox(counter, seed_words)
        key = (key_0.to(device), key_1.to(device))
        first = (zero + round).to(device)
        which = Worlds(which.replicate.to(device), which.world.to(device))
        return RandomStreams(_RoundSpan(key, first, shared_first, {}, which.replicate, which.world))

    @property
    def num_worlds(self) -> int:
        """How many worlds are drawn for."""
        return len(self._span.first_round)

    @property
    def replicate(self) -> Int[Tensor, " world"]:
        """The replicate of each world: the worlds of one share their learners."""
        return self._span.replicate

    @property
    def world(self) -> Int[Tensor, " world"]:
        """The number of each world within its replicate."""
        return self._span.world

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self._span.first_round.device

    @property
    def round(self) -> Int[Tensor, " world"]:
        """The round each world is in."""
        return self._span.first_round + self._offset

    def at(self, offset: int) -> RandomStreams:
        """The same draws `offset` rounds after the first round of these."""
        return RandomStreams(self._span, offset, self._scope)

    def child(self, name: str) -> RandomStreams:
        """Draws of a part of the house: its purposes never meet those of another part."""
        return RandomStreams(self._span, self._offset, f"{self._scope}/{name}")

    def take(self, indices: Int[Tensor, " some"]) -> RandomStreams:
        """Draws of some of the worlds, by their place among these."""
        span = self._span
        key_0, key_1 = span.key
        some = _RoundSpan(
            (key_0[indices], key_1[indices]),
            span.first_round[indices],
            span.common_first_round,
            {},
            span.replicate[indices],
            span.world[indices],
        )
        return RandomStreams(some, self._offset, self._scope)

    def uniform(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Numbers in [0, 1), 24 bits each. `agents`: how many, or their numbers `[agent]`."""
        return self._draw(stream, agents, width, _uniform)

    def normal(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Standard normal numbers by Box and Muller's transform; none is beyond 6.8."""
        return self._draw(stream, agents, width, _normal)

    def gumbel(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Standard Gumbel numbers: `argmax(logits + gumbel)` is a draw from `softmax(logits)`."""
        return self._draw(stream, agents, width, _gumbel)

    def categorical(
        self, stream: str, logits: Float[Tensor, "world agent option"]
    ) -> Int[Tensor, "world agent"]:
        """One of several unordered options, coupled across arms by shared Gumbel numbers."""
        noise = self.gumbel(stream, logits.shape[1], logits.shape[2])
        return (logits + noise).argmax(-1)

    def ordered_categorical(
        self, stream: str, probabilities: Float[Tensor, "world agent option"]
    ) -> Int[Tensor, "world agent"]:
        """One of several ordered options by the inverse distribution function of one uniform."""
        u = self.uniform(stream, probabilities.shape[1])
        below = probabilities.cumsum(-1)[..., :-1]
        return (u >= below).sum(-1)

    def _draw(self, stream: str, agents: int | Tensor, width: int, transform: Transform) -> Tensor:
        span, name = self._span, f"{self._scope}/{stream}"
        if not isinstance(agents, int):
            return self._generate(name, agents, width, self._offset, 1, transform)[0]
        place = (name, transform.__name__, agents, width)
        start, kept = span.cache.get(place, (0, None))
        index = self._offset - start
        if kept is None or not 0 <= index < len(kept):
            rounds = self._rounds_to_cache(kept, index, agents, width)
            kept = self._generate(
                name, torch.arange(agents), width, self._offset, rounds, transform
            )
            span.cache[place] = (self._offset, kept)
            index = 0
        return kept[index]

    def _rounds_to_cache(self, cached: Tensor | None, index: int, agents: int, width: int) -> int:
        """Twice as many as last time while the rounds run on, within `MAX_CACHED_WORDS` words."""
        whole_block = max(1, 4 // max(width, 1))  # fewer would leave words of a block unused
        run_on = cached is not None and index == len(cached)
        wanted = 2 * len(cached) if cached is not None and run_on else whole_block
        room = MAX_CACHED_WORDS // max(1, self.num_worlds * agents * width)
        return max(whole_block, min(wanted, room))

    def _generate(
        self,
        name: str,
        agents: Tensor,
        width: int,
        offset: int,
        rounds: int,
        transform: Transform,
    ) -> Float[Tensor, "round world agent width"]:
        """Numbers of `rounds` rounds from `offset` on, for the named purpose."""
        span, device = self._span, self.device
        count = rounds * width
        first = (span.first_round + offset) * width  # position in the stream, [world]
        inside = 3  # at most, of its block, before that position
        if span.common_first_round is not None:
            inside = (span.common_first_round + offset) * width % 4
        blocks = -(-(inside + count) // 4)
        block = (first // 4)[:, None, None] + torch.arange(blocks, device=device)
        agent = agents.to(device).reshape(1, -1, 1)
        tag_low, tag_high = _stream_id(name)
        key_0, key_1 = (k[:, None, None] for k in span.key)
        zero = torch.zeros((), dtype=torch.int64, device=device)
        words = _philox((block, agent, zero + tag_low, zero + tag_high), (key_0, key_1))
        shape = (len(span.first_round), agent.shape[1], blocks)
        made = transform(*words)
        numbers = torch.stack([number.expand(shape) for number in made], -1).flatten(2)
        if span.common_first_round is not None:
            numbers = numbers[..., inside : inside + count]
        else:
            places = (first % 4)[:, None, None] + torch.arange(count, device=device)
            numbers = numbers.gather(2, places.expand(*shape[:2], count))
        numbers = numbers.unflatten(2, (rounds, width))  # world agent round width
        return numbers.permute(2, 0, 1, 3).contiguous()


@functools.cache
def _stream_id(name: str) -> tuple[int, int]:
    """Two 32-bit words for a purpose: 64 bits, so that two purposes do not meet by chance."""
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
    """Pairs of words to pairs of normals: all 32 bits serve the radius, so tails reach 6.8."""
    numbers = []
    for radius_word, angle_word in (words[:2], words[2:]):
        radius = torch.sqrt(-2.0 * torch.log((radius_word.to(torch.float32) + 0.5) * 2.0**-32))
        angle = (angle_word >> 8).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
        numbers += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return numbers


def _gumbel(*words: Tensor) -> list[Tensor]:
    """23 bits: with 24 the largest uniform would round to one, and its logarithm vanish."""
    uniforms = [((word >> 9).to(torch.float32) + 0.5) * 2.0**-23 for word in words]
    return [-torch.log(-torch.log(u)) for u in uniforms]
