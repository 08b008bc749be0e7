"""Random streams: published words of Philox, distributions, independence, shared numbers."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from scipy import stats

from mores.core.philox import philox_numpy, philox_torch
from mores.core.random_streams import RandomStreams, Request, Worlds
from tests.refusals import refused

ONES = 0xFFFFFFFF
# Random123 (Salmon et al.), kat_vectors, philox4x32-10: counter, key, words
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
LEVEL = 1e-4  # significance level of each test; seeds are fixed, so results are reproducible


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_words(counter, key, words):
    tensors = philox_torch(
        tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key)
    )
    arrays = philox_numpy(
        tuple(np.array([c], np.uint64) for c in counter),
        tuple(np.array([k], np.uint64) for k in key),
    )
    assert tuple(w.item() for w in tensors) == words
    assert tuple(w.item() for w in arrays) == words


def _random_words(size: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2**32, size, dtype=np.uint64) for _ in range(6)]


def _numpy_words(words: list[np.ndarray]) -> list[np.ndarray]:
    c0, c1, c2, c3, k0, k1 = words
    return list(philox_numpy((c0, c1, c2, c3), (k0, k1)))


def _tensors(words: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(word.astype(np.int64)) for word in words]


@pytest.mark.parametrize("size", [1, 3, 7, 8, 15, 17, 31, 33, 63, 1000, 4099])
def test_torch_and_numpy_give_the_same_words(size):
    words = _random_words(size, seed=size)
    c0, c1, c2, c3, k0, k1 = _tensors(words)
    tensors = philox_torch((c0, c1, c2, c3), (k0, k1))
    for tensor, array in zip(tensors, _numpy_words(words), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array.astype(np.int64))


@pytest.mark.full
@pytest.mark.skipif(
    shutil.which("g++") is None or " " in torch.__file__,
    reason="torch.compile needs a compiler, and a path without spaces",
)
def test_compiled_philox_gives_the_same_words():
    @torch.compile(dynamic=True, fullgraph=True)
    def compiled(c0, c1, c2, c3, k0, k1):
        return philox_torch((c0, c1, c2, c3), (k0, k1))

    for size in (2, 3, 7, 15, 16, 17, 31, 33, 100, 1001, 65_537):
        words = _random_words(size, seed=size)
        for tensor, array in zip(compiled(*_tensors(words)), _numpy_words(words), strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array.astype(np.int64))


def _round(streams: RandomStreams, round: int, kind: str, agents: int, width: int) -> np.ndarray:
    return getattr(streams.at(round), kind)("purpose", agents, width).double().numpy()


@pytest.mark.parametrize(
    ("kind", "distribution"),
    [("uniform", stats.uniform()), ("normal", stats.norm()), ("gumbel", stats.gumbel_r())],
)
def test_distributions(kind, distribution):
    numbers = np.concatenate(
        [_round(RandomStreams.of(5, 20), r, kind, 50, 3).ravel() for r in range(40)]
    )
    assert stats.kstest(numbers, distribution.cdf).pvalue > LEVEL


def _assert_independent(numbers: np.ndarray, others: np.ndarray) -> None:
    """No correlation of values or of absolute values."""
    for a, b in ((numbers, others), (abs(numbers), abs(others))):
        assert stats.pearsonr(a.ravel(), b.ravel()).pvalue > LEVEL


def test_independence_across_every_part_of_the_address():
    base = RandomStreams.of(5, 100)
    numbers = base.normal("a", 200)[..., 0].double().numpy()

    def normal(streams: RandomStreams, stream: str = "a") -> np.ndarray:
        return streams.normal(stream, 200)[..., 0].double().numpy()

    _assert_independent(numbers, normal(base, "b"))  # stream names
    _assert_independent(numbers, normal(base.child("part")))  # components
    _assert_independent(numbers, normal(base.at(1)))  # rounds
    _assert_independent(numbers[:, :-1], numbers[:, 1:])  # agents
    _assert_independent(numbers[:-1], numbers[1:])  # replicates
    _assert_independent(numbers, normal(RandomStreams.of(5, 100, episode=1)))
    _assert_independent(numbers, normal(RandomStreams.of(5, 100, stage=1)))
    _assert_independent(numbers, normal(RandomStreams.of(6, 100)))  # seeds
    worlds = normal(RandomStreams.of(5, Worlds.grid(50, 2))).reshape(50, 2, 200)
    _assert_independent(worlds[:, 0], worlds[:, 1])
    wide = base.normal("wide", 100, 8).double().numpy()
    for column in range(1, 8):
        _assert_independent(wide[..., 0], wide[..., column])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", ["uniform", "normal", "gumbel"])
def test_caching_changes_no_number(kind, width):
    cached = RandomStreams.of(3, 4)
    for round in range(40):
        new = RandomStreams.of(3, 4, round=round)  # empty cache
        by_world = RandomStreams.of(3, 4, round=torch.full((4,), round))  # worlds may differ
        expected = getattr(cached.at(round), kind)("x", 3, width)
        assert torch.equal(expected, getattr(new, kind)("x", 3, width))
        assert torch.equal(expected, getattr(by_world, kind)("x", 3, width))


def test_no_number_of_a_stream_is_repeated():
    for width in (1, 3, 4, 6):
        rounds = [RandomStreams.of(1, 1).at(r).uniform("x", 1, width).flatten() for r in range(500)]
        stream = torch.cat(rounds)
        # 24-bit numbers coincide by chance: expected number of pairs n^2 / 2^25
        repeats = len(stream) - len(stream.unique())
        assert repeats <= stats.poisson.ppf(1 - LEVEL, len(stream) ** 2 / 2**25)


def test_worlds_at_different_rounds_equal_single_worlds():
    rounds = torch.tensor([0, 5, 2, 9])
    for width in (1, 3, 4):
        batch = RandomStreams.of(8, 4, round=rounds)
        for offset in range(6):
            numbers = batch.at(offset).normal("x", 2, width)
            for world in range(4):
                single = RandomStreams.of(8, [world], round=int(rounds[world]) + offset)
                assert torch.equal(numbers[world : world + 1], single.normal("x", 2, width))


def test_agents_are_addressed_by_index():
    streams = RandomStreams.of(2, 3)
    numbers = streams.normal("x", 10, 2)
    some = streams.normal("x", torch.tensor([7, 2]), 2)
    assert torch.equal(some, numbers[:, [7, 2]])


def test_categorical_distributions():
    probabilities = torch.tensor([0.1, 0.6, 0.3])
    logits = probabilities.log().expand(200, 500, 3)
    for counts in (
        torch.bincount(RandomStreams.of(4, 200).categorical("x", logits).flatten(), minlength=3),
        torch.bincount(
            RandomStreams.of(4, 200).ordered_categorical("y", logits.exp()).flatten(), minlength=3
        ),
    ):
        expected = probabilities.double().numpy() * 100_000
        assert stats.chisquare(counts.numpy(), expected / expected.sum() * 1e5).pvalue > LEVEL


@pytest.mark.parametrize("seed", [2**64, -1])
def test_no_two_seeds_are_the_same(seed: int) -> None:
    with refused("out_of_range", "seed"):
        RandomStreams.of(seed, 2)
    assert not torch.equal(
        RandomStreams.of(0, 2).uniform("x"), RandomStreams.of(2**64 - 1, 2).uniform("x")
    )
    assert not torch.equal(
        RandomStreams.of(1, 2).uniform("x"), RandomStreams.of(1 + 2**32, 2).uniform("x")
    )


@pytest.mark.parametrize(("worlds", "share"), [(1, 0.2), (5, 0.15), (5, 0.9), (300, 0.02)])
def test_restarts_change_no_number(worlds: int, share: float) -> None:
    """Worlds that restart draw what new streams of their episode draw, all others what they drew.

    Neither streams of earlier rounds nor tensors that were drawn from them change.
    """
    rng, seed = np.random.default_rng(worlds), 3
    streams, episode, begun = (
        RandomStreams.of(seed, worlds),
        np.zeros(worlds, int),
        np.zeros(worlds, int),
    )
    requests = [("uniform", "a", 2, 1), ("normal", "b", 1, 3), ("gumbel", "a", 2, 4)]
    expected: tuple = ()
    earlier: list[tuple[RandomStreams, torch.Tensor, torch.Tensor]] = []

    def draw(given: RandomStreams, request: tuple[str, str, int, int]) -> torch.Tensor:
        return getattr(given, request[0])(*request[1:])

    def check(given: RandomStreams, which: np.ndarray, request: tuple[str, str, int, int]) -> None:
        new = RandomStreams.of(
            seed,
            which.tolist(),
            episode=torch.from_numpy(episode[which]),
            round=torch.from_numpy(now - begun[which]),
        )
        assert torch.equal(draw(given, request), draw(new, request))

    for now in range(50):
        drawn = [r for r in requests if r is not requests[2] or now % 7]  # one is left out at times
        for request in drawn:
            check(streams, np.arange(worlds), request)
        numbers = draw(streams, requests[0])
        earlier.append((streams, numbers, numbers.clone()))
        streams = streams.next_round()
        which = np.flatnonzero(rng.random(worlds) < share)
        if now % 11 == 0:  # drawn before the restart, in the round of the restart
            numbers = draw(streams, requests[1])
            earlier.append(
                (streams, draw(streams, requests[0]), draw(streams, requests[0]).clone())
            )
        if len(which):
            episode[which] += 1
            begun[which] = now + 1
            restart = streams.restart(
                torch.from_numpy(which), torch.from_numpy(episode[which]), expected
            )
            streams, started = restart.streams, restart.restarted
            now += 1
            check(started, which, ("normal", "start", 2, 2))
            expected = started.requests
    for past, numbers, before in earlier:
        assert torch.equal(numbers, before)
        assert torch.equal(draw(past, requests[0]), before)


def test_numbers_drawn_ahead_of_a_restart_are_no_others() -> None:
    """Streams of a later round may be drawn from before some worlds restart."""
    requests = ["a", "b"]
    streams = RandomStreams.of(3, 4)
    for later, name in enumerate(requests, 1):
        streams.at(later).uniform(name)  # alone, so that the cache begins in a later round
    streams = streams.restart(torch.tensor([1]), torch.tensor([5])).streams
    episode = torch.tensor([0, 5, 0, 0])
    for now in range(4):
        new = RandomStreams.of(3, 4, episode=episode, round=now)
        for name in requests:
            assert torch.equal(streams.at(now).uniform(name), new.uniform(name))
    # what the restarted worlds drew is not written to when worlds restart again
    requests_at_start: tuple[Request, ...] = ()
    for number in range(6, 10):
        streams.uniform("a")
        restart = streams.next_round().restart(
            torch.arange(4), torch.full((4,), number), requests_at_start
        )
        streams, requests_at_start = restart.streams, restart.restarted.requests
        numbers = restart.restarted.uniform("a")
        before = numbers.clone()
        streams.restart(torch.tensor([2]), torch.tensor([number + 1]))
        assert torch.equal(numbers, before)
