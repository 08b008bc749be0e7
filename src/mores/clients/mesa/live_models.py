"""Mesa models in memory, found by the state that they are in.

A Mesa model is changed by its step, the state of an environment is data. Therefore the state has
only the address of a model: its seed, the number of completed rounds, and a digest of the actions
so far, which together determine it. A model in memory saves the work of making it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SPARE_MODELS = 64  # in memory beyond two for each world of the largest batch

Actions = Mapping[str, np.ndarray]  # of one world, by role: `[agent]` or `[agent, size]`


class Address(NamedTuple):
    """What determines the state of a model, for one class and one set of parameters.

    Attributes:
        seed: seed of the model.
        rounds: number of completed rounds.
        history: digest of the actions of these rounds; 0: none.
    """

    seed: int
    rounds: int = 0
    history: int = 0

    def after(self, actions: Actions) -> Address:
        """The address a round later."""
        return Address(self.seed, self.rounds + 1, _digest(self.history, actions))


@dataclasses.dataclass
class LiveModel:
    """A model in memory.

    Attributes:
        model: the model.
        addresses: addresses of all states that it was in, from its start on.
        actions: actions of each round.
        rewards: rewards of the last round, by role.
    """

    model: Any
    addresses: list[Address]
    actions: list[Actions] = dataclasses.field(default_factory=list)
    rewards: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def address(self) -> Address:
        """The address of its present state."""
        return self.addresses[-1]


class LiveModels:
    """The models in memory, of which those that were used last are kept.

    Copies and pickles of an environment have none: their models are made again.

    Mesa 3.3 holds every model in a table of its class `Agent`, for ever. A model that is no longer
    needed is emptied, so that its memory is free.
    """

    def __init__(self) -> None:
        self._models: dict[int, LiveModel] = {}  # by the identity of the model, oldest first
        self._by_address: dict[Address, list[LiveModel]] = {}
        self._largest_batch = 0
        self._examples: list[LiveModel] = []
        weakref.finalize(self, _empty_all, self._models, self._examples).atexit = False

    def __reduce__(self) -> tuple[type[LiveModels], tuple[()]]:
        return LiveModels, ()

    def example(self, make: Callable[[], LiveModel]) -> LiveModel:
        """A model at its start that is never stepped, made at the first call."""
        if not self._examples:
            self._examples.append(make())
        return self._examples[0]

    def take(self, address: Address) -> LiveModel | None:
        """A model in this state, which is taken out; None: there is none."""
        found = self.find(address)
        if found is not None:
            self._remove(found)
        return found

    def find(self, address: Address) -> LiveModel | None:
        """A model in this state."""
        models = self._by_address.get(address)
        return models[0] if models else None

    def actions_of(self, address: Address) -> list[Actions] | None:
        """Actions that led to a state; None: no model in memory was in it."""
        for each in self._models.values():
            if address.rounds < len(each.addresses) and each.addresses[address.rounds] == address:
                return each.actions[: address.rounds]
        return None

    def put(self, live: LiveModel, num_worlds: int) -> None:
        """Add a model; forget the oldest ones if there are too many.

        Args:
            live: the model.
            num_worlds: number of worlds of the batch that it belongs to.
        """
        self._models[id(live.model)] = live
        self._by_address.setdefault(live.address, []).append(live)
        self._largest_batch = max(self._largest_batch, num_worlds)
        while len(self._models) > 2 * self._largest_batch + SPARE_MODELS:
            oldest = next(iter(self._models.values()))
            self._remove(oldest)
            vars(oldest.model).clear()

    def _remove(self, live: LiveModel) -> None:
        del self._models[id(live.model)]
        models = self._by_address[live.address]
        del models[[id(each) for each in models].index(id(live))]
        if not models:
            del self._by_address[live.address]


def _empty_all(models: Mapping[int, LiveModel], examples: Sequence[LiveModel]) -> None:
    """Empty the models of an environment that is gone."""
    for live in (*models.values(), *examples):
        vars(live.model).clear()


def _digest(history: int, actions: Actions) -> int:
    """Digest of actions after others, from 0 to 2^63 - 1; the same if there are no actions."""
    if not actions:
        return history
    digest = hashlib.blake2b(history.to_bytes(8, "little"), digest_size=8)
    for role in sorted(actions):
        digest.update(role.encode() + b"\0" + np.ascontiguousarray(actions[role]).tobytes())
    return int.from_bytes(digest.digest(), "little") >> 1
