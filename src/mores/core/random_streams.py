"""Random streams: numbers addressed by world, agent, round and stream name, and nothing else.

Every number is a word of Philox4x32-10 (`mores.core.philox`). The *key* is a function of (seed,
replicate, world, stage, episode), the *counter* of (position in the stream, agent, stream name).
Each stream name and agent have one endless stream per episode; a draw of `width` numbers in round
`t` reads its positions `t * width ... (t + 1) * width - 1`, so all four words of a block are used.
A world therefore draws the same numbers alone or among others, on one device or several, in any
order, and the arms of an experiment share them, which makes contrasts between arms precise.

Numbers of several rounds are computed at once and cached (`mores.core.stream_cache`). This changes
the cost, never the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core import stream_numbers
from mores.core.arguments import check_integer, check_seed
from mores.core.errors import UserError
from mores.core.stream_cache import DrawCounter, StreamCache
from mores.core.stream_numbers import Request, Transform, WorldKeys

__all__ = ["DrawCounter", "RandomStreams", "Request", "Restart", "Worlds", "uniform_index"]


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

    @property
    def repetition(self) -> Int[Tensor, " world"]:
        """Number of the independent repetition of each world: a replicate, in one draw."""
        draw = torch.zeros_like(self.replicate) if self.draw is None else self.draw
        return torch.stack([draw, self.replicate]).unique(dim=1, return_inverse=True)[1]

    def take(self, rows: slice | Int[Tensor, " some"]) -> Worlds:
        """Some of the worlds, by index."""
        draw = None if self.draw is None else self.draw[rows]
        return Worlds(self.replicate[rows], self.world[rows], draw)


def uniform_index(n: int, uniform: Tensor) -> Tensor:
    """Uniform index below `n`, from uniform numbers in [0, 1)."""
    return (uniform * n).long().clamp(max=n - 1)


class RandomStreams:
    """Random streams of a batch of worlds at one round. Immutable.

    Do not write into the returned tensors: they are cached.
    """

    __slots__ = ("_cache", "_offset", "_scope")

    def __init__(self, cache: StreamCache, offset: int = 0, scope: str = "") -> None:
        self._cache, self._offset, self._scope = cache, offset, scope

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
        draw = zero if worlds.draw is None else worlds.draw
        keys = WorldKeys.of(
            seed,
            stage,
            worlds.replicate.numpy(),
            worlds.world.numpy(),
            draw.numpy(),
            (zero + torch.as_tensor(episode).cpu()).numpy(),
            (zero + torch.as_tensor(round).cpu()).numpy(),
            torch.empty(0, device=device).device,  # with the index of the current accelerator
        )
        return RandomStreams(StreamCache(keys, DrawCounter() if draws is None else draws))

    @property
    def num_worlds(self) -> int:
        """Number of worlds."""
        return len(self._cache.keys)

    @property
    def replicate(self) -> Int[Tensor, " world"]:
        """The replicate of each world; the worlds of a replicate share learned models."""
        return torch.from_numpy(self._cache.keys.replicate).to(self.device)

    @property
    def world(self) -> Int[Tensor, " world"]:
        """The number of each world within its replicate."""
        return torch.from_numpy(self._cache.keys.world).to(self.device)

    @property
    def draw(self) -> Int[Tensor, " world"]:
        """The draw of uncertain parameters of each world."""
        return torch.from_numpy(self._cache.keys.draw).to(self.device)

    @property
    def device(self) -> torch.device:
        """Device of the numbers."""
        return self._cache.keys.device

    @property
    def round(self) -> Int[Tensor, " world"]:
        """The round of each world."""
        return self._cache.keys.round_tensor + self._offset

    @property
    def max_round(self) -> int:
        """The largest round of a world, without a read of a device."""
        return self._cache.keys.max_first_round + self._offset

    @property
    def requests(self) -> tuple[Request, ...]:
        """What was drawn from these streams and their children, for `restart`."""
        return self._cache.requests

    def address(self, index: int) -> str:
        """Address of the draws of a world by its index, as text: the same in all arms."""
        keys = self._cache.keys
        numbers = {
            "seed": keys.seed,
            "stage": keys.stage,
            "replicate": keys.replicate[index],
            "world": keys.world[index],
            "draw": keys.draw[index],
            "episode": keys.episode[index],
            "round": keys.first_round[index] + self._offset,
        }
        return " ".join([*(f"{name} {n}" for name, n in numbers.items()), self._scope])

    def at(self, offset: int) -> RandomStreams:
        """The same streams, `offset` rounds after those for which `of` made them."""
        return RandomStreams(self._cache, offset, self._scope)

    def next_round(self) -> RandomStreams:
        """The same streams, a round later."""
        return self.at(self._offset + 1)

    def child(self, name: str) -> RandomStreams:
        """Streams of a component: its stream names are distinct from those of other components."""
        return RandomStreams(self._cache, self._offset, f"{self._scope}/{name}")

    def take(self, indices: Int[Tensor, " some"]) -> RandomStreams:
        """Streams of some of the worlds, by index."""
        keys = self._cache.keys.take(indices.cpu().numpy())
        return RandomStreams(StreamCache(keys, self._cache.draws), self._offset, self._scope)

    def restart(
        self,
        indices: Int[Tensor, " some"],
        episode: Int[Tensor, " some"],
        expected: Sequence[Request] = (),
    ) -> Restart:
        """Streams in which some of the worlds are in round 0 of other episodes, from now on.

        Args:
            indices: of the worlds that restart, in increasing order, on the host.
            episode: new episode of each, on the host.
            expected: what will be drawn in the restarted worlds before the other worlds draw
                anything: it is generated at once, if it was in `requests` at an earlier restart.
        """
        cache, started = self._cache.restart(
            indices.numpy(), episode.numpy(), self._offset, expected
        )
        streams = RandomStreams(cache, self._offset, self._scope)
        return Restart(streams, lambda: RandomStreams(started(), self._offset, self._scope))

    def uniform(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Numbers in [0, 1), 24 bits each. `agents`: their count, or their indices `[agent]`."""
        return self._draw(stream, agents, width, stream_numbers.uniform)

    def normal(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Standard normal numbers by the Box-Muller transform, all within +-6.8."""
        return self._draw(stream, agents, width, stream_numbers.normal)

    def gumbel(
        self, stream: str, agents: int | Tensor = 1, width: int = 1
    ) -> Float[Tensor, "world agent width"]:
        """Standard Gumbel numbers: `argmax(logits + gumbel)` has distribution `softmax(logits)`."""
        return self._draw(stream, agents, width, stream_numbers.gumbel)

    def gumbel_rows(
        self,
        stream: str,
        worlds: Int[Tensor, " row"],
        agents: Int[Tensor, " row"],
        width: int,
    ) -> Float[Tensor, "row width"]:
        """`gumbel` of single agents of single worlds, by index: as many numbers as tokens.

        Row i is `take(worlds[i:i+1]).gumbel(stream, agents[i:i+1], width)`. For rows of thousands
        of numbers, which are not cached.
        """
        where, who = worlds.cpu().numpy(), agents.cpu().numpy()
        name = f"{self._scope}/{stream}"
        return self._cache.draw_rows(name, stream_numbers.gumbel, where, who, width, self._offset)

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
        request = Request(f"{self._scope}/{stream}", transform, agents, width)
        return self._cache.draw(request, self._offset)


class Restart:
    """Streams after some worlds restarted.

    Attributes:
        streams: of all worlds.
    """

    def __init__(self, streams: RandomStreams, restarted: Callable[[], RandomStreams]) -> None:
        self.streams, self._restarted = streams, restarted

    @functools.cached_property
    def restarted(self) -> RandomStreams:
        """Of the restarted worlds."""
        return self._restarted()

    @property
    def requests(self) -> tuple[Request, ...]:
        """What was drawn from the streams of the restarted worlds."""
        return self.restarted.requests if "restarted" in self.__dict__ else ()
