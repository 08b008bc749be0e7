"""A table's state as named tensors, and back: to stop in the middle of an episode and play on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core import pytree
from mores.core.errors import UserError

Simulator = Any  # `mores.sim.simulator.Simulator`, which imports this module


def state_dict(simulator: Simulator) -> dict[str, Tensor]:
    """All that is needed to play on from here, as named tensors."""
    if simulator.seed is None:
        raise UserError("a table that was not reset has nothing to save", code="wrong_order")
    over = simulator._no_worlds if simulator.finished is None else simulator.finished
    clock = torch.tensor([simulator._phase_index, simulator.finished is not None])
    seed = torch.tensor([simulator.seed & 0xFFFFFFFF, (simulator.seed >> 32) & 0xFFFFFFFF])
    held = {
        "state": simulator.state,
        "memory": simulator.policy_states,
        "owed": simulator.reward_ledger.pending_reward,
        "earned": simulator.reward_ledger.earned,
        "told": simulator.reward_ledger.told,
        "over": over,
        "clock": clock,
        "seed": seed,
        "episode": simulator.episode,
        "round": simulator.round,
        **_identity(simulator),
    }
    return {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in pytree.flatten(held).items()
    }


def load_state_dict(simulator: Simulator, saved: Mapping[str, Tensor]) -> None:
    """Play on from a saved state of a table made with the same arguments.

    Raises:
        UserError: it was saved from another kind of table.
    """
    before = dict(simulator.__dict__)
    try:
        _load(simulator, saved)
    except (KeyError, ValueError) as error:
        simulator.__dict__ = before
        raise UserError(
            f"this was saved from another table: {error.args[0]}", code="incompatible"
        ) from None


def _identity(simulator: Simulator) -> dict[str, Tensor]:
    """What a saved state must have in common with the table it is loaded into."""
    return {
        "replicate": simulator.worlds.replicate,
        "world": simulator.worlds.world,
        "stage and rounds": torch.tensor([simulator.stage, simulator.rounds]),
    }


def _saved_feedback(
    role: str, simulator: Simulator, saved: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What a learner was told in this round so far: only what was saved knows its names."""
    start = f"told/{role}/"
    return {
        path.removeprefix(start): told.to(simulator.device).clone()
        for path, told in saved.items()
        if path.startswith(start)
    }


def _load(simulator: Simulator, saved: Mapping[str, Tensor]) -> None:
    for name, mine in _identity(simulator).items():
        if not torch.equal(pytree.restore(mine, saved, name), mine):
            raise ValueError(f"{name} differ: {saved[name].tolist()}, here {mine.tolist()}")
    low, high = (int(word) for word in saved["seed"])
    simulator.reset(high << 32 | low)
    simulator.episode = pytree.restore(simulator.episode, saved, "episode")
    simulator._open_span(pytree.restore(simulator.round, saved, "round").cpu())
    simulator.state = pytree.restore(simulator.state, saved, "state")
    simulator.policy_states = pytree.restore(simulator.policy_states, saved, "memory")
    simulator.share_parameters()
    simulator.reward_ledger.pending_reward = pytree.restore(
        simulator.reward_ledger.pending_reward, saved, "owed"
    )
    simulator.reward_ledger.earned = pytree.restore(simulator.reward_ledger.earned, saved, "earned")
    simulator.reward_ledger.told = {
        name: _saved_feedback(name, simulator, saved) for name in simulator.reward_ledger.told
    }
    simulator._phase_index, some_over = (int(number) for number in saved["clock"])
    simulator.finished = saved["over"].to(simulator.device).clone() if some_over else None
    unknown = saved.keys() - state_dict(simulator).keys()
    if unknown:
        where = min(unknown)
        raise ValueError(f"no place for {where!r}: memories have all their tensors from start")
