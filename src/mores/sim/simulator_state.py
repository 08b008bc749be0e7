"""State of a simulator as named tensors, to stop and resume in the middle of an episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core import pytree
from mores.core.errors import UserError

Simulator = Any  # `mores.sim.simulator.Simulator`, which imports this module


def state_dict(simulator: Simulator) -> dict[str, Tensor]:
    """All tensors needed to resume the simulation, by name."""
    if simulator.seed is None:
        raise UserError("reset the simulator before saving its state", code="wrong_order")
    finished = simulator.finished
    if finished is None:
        finished = torch.zeros(len(simulator.worlds), dtype=torch.bool, device=simulator.device)
    clock = torch.tensor([simulator.phase_index, simulator.finished is not None])
    seed = torch.tensor([simulator.seed & 0xFFFFFFFF, (simulator.seed >> 32) & 0xFFFFFFFF])
    tree = {
        "state": simulator.state,
        "policy_states": simulator.policy_states,
        "pending_reward": simulator.reward_ledger.pending_reward,
        "policy_parameters": simulator.policy_parameters,
        "round_reward": simulator.reward_ledger.round_reward,
        "round_feedback": simulator.reward_ledger.round_feedback,
        "finished": finished,
        "clock": clock,
        "seed": seed,
        "episode": simulator.episode,
        "round": simulator.round,
        **_identity(simulator),
    }
    return {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in pytree.flatten(tree).items()
    }


def load_state_dict(simulator: Simulator, saved: Mapping[str, Tensor]) -> None:
    """Restore a saved state into a simulator constructed with the same arguments.

    Raises:
        UserError: the state is from a simulator with other arguments.
    """
    attributes = dict(simulator.__dict__)
    try:
        _load(simulator, saved)
    except (KeyError, ValueError) as error:
        simulator.__dict__ = attributes
        raise UserError(
            f"the state was saved from another simulator: {error.args[0]}", code="incompatible"
        ) from None


def _identity(simulator: Simulator) -> dict[str, Tensor]:
    """Values that must be equal in the saved state and in the simulator."""
    draw = simulator.worlds.draw
    return {
        **({} if draw is None else {"draw": draw}),
        "replicate": simulator.worlds.replicate,
        "world": simulator.worlds.world,
        "stage_and_rounds": torch.tensor([simulator.stage, simulator.rounds]),
    }


def _saved_feedback(
    role: str, simulator: Simulator, saved: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Feedback of a learner in the current round; its names are known from the saved state only."""
    prefix = f"round_feedback/{role}/"
    return {
        path.removeprefix(prefix): tensor.to(simulator.device).clone()
        for path, tensor in saved.items()
        if path.startswith(prefix)
    }


def _load(simulator: Simulator, saved: Mapping[str, Tensor]) -> None:
    for name, own in _identity(simulator).items():
        if not torch.equal(pytree.restore(own, saved, name), own):
            raise ValueError(f"{name} was {saved[name].tolist()}, is {own.tolist()}")
    low, high = (int(word) for word in saved["seed"])
    simulator.reset(high << 32 | low)
    simulator.episode = pytree.restore(simulator.episode, saved, "episode")
    simulator.start_streams(pytree.restore(simulator.round, saved, "round").cpu())
    simulator.state = pytree.restore(simulator.state, saved, "state")
    simulator.policy_states = pytree.restore(simulator.policy_states, saved, "policy_states")
    samples = pytree.restore(simulator.policy_parameters, saved, "policy_parameters")
    simulator.set_policy_parameters(samples)
    simulator.share_parameters()
    ledger = simulator.reward_ledger
    ledger.pending_reward = pytree.restore(ledger.pending_reward, saved, "pending_reward")
    ledger.round_reward = pytree.restore(ledger.round_reward, saved, "round_reward")
    ledger.round_feedback = {
        role: _saved_feedback(role, simulator, saved) for role in ledger.round_feedback
    }
    simulator.phase_index, any_finished = (int(number) for number in saved["clock"])
    simulator.finished = saved["finished"].to(simulator.device).clone() if any_finished else None
    unknown = saved.keys() - state_dict(simulator).keys()
    if unknown:
        path = min(unknown)
        raise ValueError(f"unknown tensor {path!r}: `initial_state` must create all tensors")
