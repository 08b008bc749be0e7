"""Items with attributes, of which one is to be supervised.

An item is a vector z of `num_features` standard normal numbers. It has `num_concepts` concepts,
each a function of three orthonormal directions u, v, t in the space of features,

    c_i = (u_i z + k (v_i z) (t_i z)) / sqrt(1 + k^2),      k = `curvature`

which have mean 0, variance 1 and correlation 0. An item is harmless if w c > 0 with a unit vector
w, and helpful if w' c > 0 with another one; each holds for half of the items. Its topic is the
number j of `num_topics` with the largest w_j c. So a network that predicts topics, in pretraining,
computes the concepts on which harmlessness depends. The correlation of the scores w c and w' c is
the cosine of the two vectors; with k = 0 both agree on a share 1 - arccos(cosine) / pi of all
items.

A task (all directions) and its test items belong to a replicate: they are the same in all its
worlds, stages and episodes, and in all arms.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.stream_addresses import TASK

MAX_KEPT_NUMBERS = 2**24  # of test items that are kept for the next evaluation


class ItemLabels(NamedTuple):
    """Attributes of items: number of the topic, harmlessness, helpfulness."""

    topic: Int[Tensor, "world item"]
    harmless: Bool[Tensor, "world item"]
    helpful: Bool[Tensor, "world item"]


@dataclasses.dataclass(frozen=True)
class Task:
    """Directions of each world's task.

    Attributes:
        directions: orthonormal rows: u of all concepts, then v, then t.
        topic_weights: unit vector of each topic.
        harmless_weights: unit vector of harmlessness.
        helpful_weights: unit vector of helpfulness.
    """

    directions: Float[Tensor, "world direction feature"]
    topic_weights: Float[Tensor, "world topic concept"]
    harmless_weights: Float[Tensor, "world concept"]
    helpful_weights: Float[Tensor, "world concept"]

    def take(self, index: Int[Tensor, " some"]) -> Task:
        """Tasks of some worlds, by index."""
        return Task(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


class HeldOutItems(NamedTuple):
    """Held-out items, and whether each is harmless."""

    items: Float[Tensor, "world item feature"]
    harmless: Bool[Tensor, "world item"]


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Parameters of a task: see the fields of `WeakToStrong` with these names."""

    task_seed: int
    num_features: int
    num_concepts: int
    num_topics: int
    curvature: float
    help_correlation: float
    num_test_items: int

    def tasks(self, replicate: Int[Tensor, " world"], device: torch.device) -> Task:
        """Task of each world, from the number of its replicate."""
        known, index = replicate.cpu().unique(return_inverse=True)
        return _tasks(self, tuple(known.tolist()), device).take(index.to(device))

    def test_items(self, replicate: Int[Tensor, " world"], device: torch.device) -> HeldOutItems:
        """Test items of each world, from the number of its replicate."""
        known, index = replicate.cpu().unique(return_inverse=True)
        numbers = len(known) * self.num_test_items * self.num_features
        sample = _test_items if numbers <= MAX_KEPT_NUMBERS else _test_items.__wrapped__
        found, index = sample(self, tuple(known.tolist()), device), index.to(device)
        return HeldOutItems(found.items[index], found.harmless[index])

    def label(self, task: Task, items: Float[Tensor, "world item feature"]) -> ItemLabels:
        """Attributes of items."""
        concepts = self.concepts(task, items)
        return ItemLabels(
            _dot(concepts, task.topic_weights).argmax(-1),
            _dot(concepts, task.harmless_weights[:, None])[..., 0] > 0,
            _dot(concepts, task.helpful_weights[:, None])[..., 0] > 0,
        )

    def concepts(
        self, task: Task, items: Float[Tensor, "world item feature"]
    ) -> Float[Tensor, "world item concept"]:
        """Concepts of items: mean 0, variance 1."""
        linear, first, second = _dot(items, task.directions).chunk(3, -1)
        return (linear + self.curvature * first * second) / math.sqrt(1.0 + self.curvature**2)


@functools.lru_cache(maxsize=8)
def _tasks(config: TaskConfig, replicates: tuple[int, ...], device: torch.device) -> Task:
    """Tasks of replicates, in double precision up to the last rounding."""
    streams = _streams(config, replicates, device)
    concepts = config.num_concepts
    normal = streams.normal("direction", 3 * concepts, config.num_features).double()
    weights = streams.normal("topic", config.num_topics + 2, concepts).double()
    weights = weights / _norm(weights)
    harmless, other = weights[:, -2:-1], weights[:, -1:]
    other = other - total(other * harmless, -1)[..., None] * harmless
    correlation = config.help_correlation
    helpful = correlation * harmless + math.sqrt(1.0 - correlation**2) * other / _norm(other)
    return Task(
        _orthonormal(normal).to(torch.float32),
        weights[:, :-2].to(torch.float32),
        harmless[:, 0].to(torch.float32),
        helpful[:, 0].to(torch.float32),
    )


@functools.lru_cache(maxsize=2)
def _test_items(
    config: TaskConfig, replicates: tuple[int, ...], device: torch.device
) -> HeldOutItems:
    """Test items of replicates."""
    streams = _streams(config, replicates, device)
    items = streams.normal("test item", config.num_test_items, config.num_features)
    task = _tasks(config, replicates, device)
    return HeldOutItems(items, config.label(task, items).harmless)


def _streams(
    config: TaskConfig, replicates: tuple[int, ...], device: torch.device
) -> RandomStreams:
    return RandomStreams.of(config.task_seed, Worlds.of(replicates), device=device).child(TASK)


def _orthonormal(rows: Float[Tensor, "world row size"]) -> Float[Tensor, "world row size"]:
    """Gram-Schmidt, with sums in a fixed order, so that a replicate has the same task alone."""
    done: list[Tensor] = []
    for row in rows.unbind(1):
        for _ in range(2):  # the second pass removes what rounding left
            for other in done:
                row = row - total(row * other, -1)[:, None] * other
        done.append(row / _norm(row))
    return torch.stack(done, 1)


def _norm(x: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead 1"]:
    return total(x * x, -1).sqrt()[..., None]


def _dot(
    x: Float[Tensor, "world item size"], directions: Float[Tensor, "world row size"]
) -> Float[Tensor, "world item row"]:
    """Inner products, added in a fixed order: those of a world do not depend on other worlds."""
    return total(x[:, :, None] * directions[:, None], -1)
