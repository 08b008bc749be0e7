"""Cache of Mesa models by the state that they are in.

The step of a Mesa model changes the model; the state of an environment is data that no step
changes. Therefore the state has only the key of a model: its seed, the number of completed rounds
and a digest of the actions so far, which together determine it. A cached model need not be
simulated again.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SPARE_MODELS = 64  # cached models in addition to two per world of the largest batch

HISTORY_BYTES = 2**28  # of the actions of removed models
BYTES_PER_ROUND = 700  # of a round in these histories, in addition to its arrays

Actions = Mapping[str, np.ndarray]  # of one world, by role: `[agent]` or `[agent, size]`


class ModelKey(NamedTuple):
    """Seed, completed rounds and digest of the actions.

    They determine the state of a model of one class and parameters.

    Attributes:
        seed: seed of the model.
        rounds: number of completed rounds.
        history: digest of the actions of these rounds; 0: none.
    """

    seed: int
    rounds: int = 0
    history: int = 0

    def after(self, actions: Actions) -> ModelKey:
        """The key a round later."""
        return ModelKey(self.seed, self.rounds + 1, _digest(self.history, actions))


@dataclasses.dataclass
class CachedModel:
    """A model with its history.

    Attributes:
        model: the model.
        keys: keys of all states that it was in, from its start on.
        actions: actions of each round.
        rewards: rewards of the last round, by role.
    """

    model: Any
    keys: list[ModelKey]
    actions: list[Actions] = dataclasses.field(default_factory=list)
    rewards: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> ModelKey:
        """The key of its current state."""
        return self.keys[-1]


class ActionHistories:
    """Actions that led to the states of models that are no longer in memory.

    For every state the key of the round before and the actions since then: histories with the same
    start share it. The least recently added rounds are removed beyond `HISTORY_BYTES`.
    """

    def __init__(self) -> None:
        self._rounds: collections.OrderedDict[ModelKey, tuple[ModelKey, Actions]]
        self._rounds = collections.OrderedDict()
        self._num_bytes = 0

    def add(self, cached: CachedModel) -> None:
        """Add the history of a model whose agents acted."""
        if not any(cached.actions):
            return  # its key is enough to simulate it again
        for before, after, actions in zip(
            cached.keys[:-1], cached.keys[1:], cached.actions, strict=True
        ):
            if after not in self._rounds:
                self._num_bytes += _num_bytes(actions)
            self._rounds[after] = before, actions
            self._rounds.move_to_end(after)
        while self._num_bytes > HISTORY_BYTES:
            _, (_, actions) = self._rounds.popitem(last=False)
            self._num_bytes -= _num_bytes(actions)

    def get(self, key: ModelKey) -> list[Actions] | None:
        """Actions from the start of the episode to a state; None: they are unknown."""
        found: list[Actions] = []
        while key.rounds:
            if key not in self._rounds:
                return None
            key, actions = self._rounds[key]
            found.append(actions)
        return found[::-1]


class ModelCache:
    """Models in memory; the least recently added ones are removed.

    The actions that led to a removed model are kept, so that it can be simulated again. The cache
    of a copied or unpickled environment is empty.

    Mesa 3.3 keeps a reference to every model in `Agent`, so its memory is never freed.
    `vars(model).clear()` frees the contents of a model that is no longer cached.
    """

    def __init__(self) -> None:
        self._models: dict[int, CachedModel] = {}  # by the identity of the model, oldest first
        self._by_key: dict[ModelKey, list[CachedModel]] = {}
        self._largest_batch = 0
        self._initial: list[CachedModel] = []
        self._histories = ActionHistories()
        weakref.finalize(self, _clear_all, self._models, self._initial).atexit = False

    def __reduce__(self) -> tuple[type[ModelCache], tuple[()]]:
        return ModelCache, ()

    def initial_model(self, make: Callable[[], CachedModel]) -> CachedModel:
        """A model at its start that is never stepped, made at the first call."""
        if not self._initial:
            self._initial.append(make())
        return self._initial[0]

    def pop(self, key: ModelKey) -> CachedModel | None:
        """Remove and return a model in the state of a key; None: there is none."""
        models = self._by_key.get(key)
        if not models:
            return None
        found = models[0]
        self._remove(found)
        return found

    def actions_of(self, key: ModelKey) -> list[Actions] | None:
        """Actions that led to a state; None: they are unknown."""
        for each in self._models.values():
            if key.rounds < len(each.keys) and each.keys[key.rounds] == key:
                return each.actions[: key.rounds]
        return self._histories.get(key)

    def add(self, cached: CachedModel, num_worlds: int) -> None:
        """Add a model; remove the oldest ones if there are too many.

        Args:
            cached: the model.
            num_worlds: number of worlds of the batch that it belongs to.
        """
        self._models[id(cached.model)] = cached
        self._by_key.setdefault(cached.key, []).append(cached)
        self._largest_batch = max(self._largest_batch, num_worlds)
        while len(self._models) > 2 * self._largest_batch + SPARE_MODELS:
            oldest = next(iter(self._models.values()))
            self._remove(oldest)
            self._histories.add(oldest)
            vars(oldest.model).clear()

    def _remove(self, cached: CachedModel) -> None:
        del self._models[id(cached.model)]
        models = self._by_key[cached.key]
        del models[[id(each) for each in models].index(id(cached))]
        if not models:
            del self._by_key[cached.key]


def _clear_all(models: Mapping[int, CachedModel], initial: Sequence[CachedModel]) -> None:
    """Free the contents of the models of an environment that no longer exists."""
    for cached in (*models.values(), *initial):
        vars(cached.model).clear()


def _digest(history: int, actions: Actions) -> int:
    """Digest of actions after others, from 0 to 2^63 - 1; the same if there are no actions."""
    if not actions:
        return history
    digest = hashlib.blake2b(history.to_bytes(8, "little"), digest_size=8)
    for role in sorted(actions):
        digest.update(role.encode() + b"\0" + np.ascontiguousarray(actions[role]).tobytes())
    return int.from_bytes(digest.digest(), "little") >> 1


def _num_bytes(actions: Actions) -> int:
    """Memory of a round in `ActionHistories`, about."""
    return BYTES_PER_ROUND + sum(array.nbytes for array in actions.values())
