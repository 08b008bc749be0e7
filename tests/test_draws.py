"""Draws: the published words of Philox, the distributions, and who shares numbers with whom."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from scipy import stats

from mores.core.philox import philox_numpy, philox_torch
from mores.core.random_streams import RandomStreams, Worlds

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
LEVEL = 1e-4  # of each test below; seeds are fixed, so a pass stays a pass


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    as_tensor = philox_torch(
        tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key)
    )
    as_array = philox_numpy(
        tuple(np.array([c], np.uint64) for c in counter),
        tuple(np.array([k], np.uint64) for k in key),
    )
    assert tuple(w.item() for w in as_tensor) == words
    assert tuple(w.item() for w in as_array) == words


def _random_words(size: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2**32, size, dtype=np.uint64) for _ in range(6)]


def _by_numpy(words: list[np.ndarray]) -> list[np.ndarray]:
    c0, c1, c2, c3, k0, k1 = words
    return list(philox_numpy((c0, c1, c2, c3), (k0, k1)))


def _tensors(words: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(word.astype(np.int64)) for word in words]


@pytest.mark.parametrize("size", [1, 3, 7, 8, 15, 17, 31, 33, 63, 1000, 4099])
def test_both_forms_give_the_same_words_at_ragged_sizes(size):
    words = _random_words(size, seed=size)
    c0, c1, c2, c3, k0, k1 = _tensors(words)
    found = philox_torch((c0, c1, c2, c3), (k0, k1))
    for mine, theirs in zip(found, _by_numpy(words), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.astype(np.int64))


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None or " " in torch.__file__,
    reason="torch.compile needs a compiler, and a path without spaces",
)
def test_compiled_gives_the_same_words_at_ragged_sizes():
    @torch.compile(dynamic=True, fullgraph=True)
    def compiled(c0, c1, c2, c3, k0, k1):
        return philox_torch((c0, c1, c2, c3), (k0, k1))

    for size in (2, 3, 7, 15, 16, 17, 31, 33, 100, 1001, 65_537):
        words = _random_words(size, seed=size)
        for mine, theirs in zip(compiled(*_tensors(words)), _by_numpy(words), strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs.astype(np.int64))


def _round(draws: RandomStreams, round: int, kind: str, agents: int, width: int) -> np.ndarray:
    return getattr(draws.at(round), kind)("purpose", agents, width).double().numpy()


@pytest.mark.parametrize(
    ("kind", "distribution"),
    [("uniform", stats.uniform()), ("normal", stats.norm()), ("gumbel", stats.gumbel_r())],
)
def test_distributions(kind, distribution):
    numbers = np.concatenate(
        [_round(RandomStreams.of(5, 20), r, kind, 50, 3).ravel() for r in range(40)]
    )
    assert stats.kstest(numbers, distribution.cdf).pvalue > LEVEL


def _independent(one: np.ndarray, other: np.ndarray) -> None:
    """Neither linearly nor in size related."""
    for a, b in ((one, other), (abs(one), abs(other))):
        assert stats.pearsonr(a.ravel(), b.ravel()).pvalue > LEVEL


def test_independence_across_all_that_a_draw_depends_on():
    base = RandomStreams.of(5, 100)
    numbers = base.normal("a", 200)[..., 0].double().numpy()

    def drawn(draws: RandomStreams, purpose: str = "a") -> np.ndarray:
        return draws.normal(purpose, 200)[..., 0].double().numpy()

    _independent(numbers, drawn(base, "b"))  # purposes
    _independent(numbers, drawn(base.child("part")))  # parts of the house
    _independent(numbers, drawn(base.at(1)))  # rounds
    _independent(numbers[:, :-1], numbers[:, 1:])  # agents
    _independent(numbers[:-1], numbers[1:])  # replicates
    _independent(numbers, drawn(RandomStreams.of(5, 100, episode=1)))
    _independent(numbers, drawn(RandomStreams.of(5, 100, stage=1)))
    _independent(numbers, drawn(RandomStreams.of(6, 100)))  # seeds
    worlds = drawn(RandomStreams.of(5, Worlds.grid(50, 2))).reshape(50, 2, 200)
    _independent(worlds[:, 0], worlds[:, 1])
    wide = base.normal("wide", 100, 8).double().numpy()
    for lane in range(1, 8):
        _independent(wide[..., 0], wide[..., lane])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", ["uniform", "normal", "gumbel"])
def test_drawing_ahead_changes_no_number(kind, width):
    running = RandomStreams.of(3, 4)
    for round in range(40):
        alone = RandomStreams.of(3, 4, round=round)  # begins here: nothing was drawn ahead
        uneven = RandomStreams.of(3, 4, round=torch.full((4,), round))  # the path for worlds apart
        expected = getattr(running.at(round), kind)("x", 3, width)
        assert torch.equal(expected, getattr(alone, kind)("x", 3, width))
        assert torch.equal(expected, getattr(uneven, kind)("x", 3, width))


def test_no_number_of_a_stream_is_used_twice():
    for width in (1, 3, 4, 6):
        rounds = [RandomStreams.of(1, 1).at(r).uniform("x", 1, width).flatten() for r in range(500)]
        stream = torch.cat(rounds)
        # 24-bit numbers meet by chance: expected pairs n^2 / 2^25
        repeats = len(stream) - len(stream.unique())
        assert repeats <= stats.poisson.ppf(1 - LEVEL, len(stream) ** 2 / 2**25)


def test_worlds_at_different_rounds_draw_what_each_would_alone():
    rounds = torch.tensor([0, 5, 2, 9])
    for width in (1, 3, 4):
        together = RandomStreams.of(8, 4, round=rounds)
        for later in range(6):
            numbers = together.at(later).normal("x", 2, width)
            for world in range(4):
                alone = RandomStreams.of(8, [world], round=int(rounds[world]) + later)
                assert torch.equal(numbers[world : world + 1], alone.normal("x", 2, width))


def test_agents_are_addressed_by_number_not_by_place():
    draws = RandomStreams.of(2, 3)
    everybody = draws.normal("x", 10, 2)
    some = draws.normal("x", torch.tensor([7, 2]), 2)
    assert torch.equal(some, everybody[:, [7, 2]])


def test_choices_follow_their_probabilities():
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


def test_seeds_are_taken_modulo_two_to_the_64():
    assert torch.equal(
        RandomStreams.of(-1, 2).uniform("x"), RandomStreams.of(2**64 - 1, 2).uniform("x")
    )
    assert not torch.equal(
        RandomStreams.of(1, 2).uniform("x"), RandomStreams.of(1 + 2**32, 2).uniform("x")
    )
