"""A table's state as named tensors, and back: to stop in the middle of an episode and play on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core import pytree
from mores.core.errors import UserError

Table = Any  # `mores.sim.simulator.Table`, which imports this module


def state_dict(table: Table) -> dict[str, Tensor]:
    """All that is needed to play on from here, as named tensors."""
    if table.seed is None:
        raise UserError("a table that was not reset has nothing to save", code="wrong_order")
    over = table._nobody if table.over is None else table.over
    clock = torch.tensor([table._at, table.over is not None])
    seed = torch.tensor([table.seed & 0xFFFFFFFF, (table.seed >> 32) & 0xFFFFFFFF])
    held = {
        "state": table.state,
        "memory": table.memory,
        "owed": table.books.owed,
        "earned": table.books.earned,
        "told": table.books.told,
        "over": over,
        "clock": clock,
        "seed": seed,
        "episode": table.episode,
        "round": table.round,
        **_identity(table),
    }
    return {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in pytree.flatten(held).items()
    }


def load_state_dict(table: Table, saved: Mapping[str, Tensor]) -> None:
    """Play on from a saved state of a table made with the same arguments.

    Raises:
        UserError: it was saved from another kind of table.
    """
    before = dict(table.__dict__)
    try:
        _load(table, saved)
    except (KeyError, ValueError) as error:
        table.__dict__ = before
        raise UserError(
            f"this was saved from another table: {error.args[0]}", code="incompatible"
        ) from None


def _identity(table: Table) -> dict[str, Tensor]:
    """What a saved state must have in common with the table it is loaded into."""
    return {
        "replicate": table.worlds.replicate,
        "world": table.worlds.world,
        "stage and rounds": torch.tensor([table.stage, table.rounds]),
    }


def _told(role: str, table: Table, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a learner was told in this round so far: only what was saved knows its names."""
    start = f"told/{role}/"
    return {
        path.removeprefix(start): told.to(table.device).clone()
        for path, told in saved.items()
        if path.startswith(start)
    }


def _load(table: Table, saved: Mapping[str, Tensor]) -> None:
    for name, mine in _identity(table).items():
        if not torch.equal(pytree.restore(mine, saved, name), mine):
            raise ValueError(f"{name} differ: {saved[name].tolist()}, here {mine.tolist()}")
    low, high = (int(word) for word in saved["seed"])
    table.reset(high << 32 | low)
    table.episode = pytree.restore(table.episode, saved, "episode")
    table._open_span(pytree.restore(table.round, saved, "round").cpu())
    table.state = pytree.restore(table.state, saved, "state")
    table.memory = pytree.restore(table.memory, saved, "memory")
    table.join()
    table.books.owed = pytree.restore(table.books.owed, saved, "owed")
    table.books.earned = pytree.restore(table.books.earned, saved, "earned")
    table.books.told = {name: _told(name, table, saved) for name in table.books.told}
    table._at, some_over = (int(number) for number in saved["clock"])
    table.over = saved["over"].to(table.device).clone() if some_over else None
    unknown = saved.keys() - state_dict(table).keys()
    if unknown:
        where = min(unknown)
        raise ValueError(f"no place for {where!r}: memories have all their tensors from start")
