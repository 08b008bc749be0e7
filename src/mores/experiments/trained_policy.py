"""A trained policy outside of mores: actions for observations of any loop.

    policy = mores.load_trained("learners.safetensors").policy("assistant")
    action = policy(observation, info.get("action_mask"))

A call is a turn: a role that acts in several phases of a round is called once for each.

A policy of mores decides for all agents of a role in all worlds. Here every observation is a world,
in which all agents of the role observe the same; the action is that of one agent. Random numbers
come from streams of their own, so that equal calls with an equal seed give equal actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mores.core import stream_addresses as addresses
from mores.core.arguments import check_integer, check_seed
from mores.core.environment import Environment, Phase, get_role
from mores.core.errors import UserError, describe_value, did_you_mean
from mores.core.learner import Learner
from mores.core.person_parameters import person_parameters
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.spaces import Discrete
from mores.sim.action_masks import cut_action_mask, largest_num_options

ACTING_STAGE = 2  # index of a stage: not that of training or evaluation
Array = Any  # numpy array or torch tensor, of observations or actions


class TrainedPolicy:
    """Policy of a trained role, for one agent and one replicate.

    Args:
        environment: environment of the training.
        role: name of the role.
        policy: its policy.
        state_dict: parameters of the models of the replicate.
        replicate: number of the replicate.
        agent: index of the agent in the role.
        phase: name of the phase to act in; `None`: all in which the role acts, call after call.
        deterministic: take the likeliest action, or search as the policy's `search` states; else
            sample.
        seed: of its random numbers.

    Raises:
        UserError: an index or a name out of range; a parameter of the policy differs between
            people.
    """

    def __init__(
        self,
        environment: Environment[Any],
        role: str,
        policy: Policy,
        state_dict: Mapping[str, Tensor],
        replicate: int,
        agent: int = 0,
        phase: str | None = None,
        deterministic: bool = True,
        seed: int = 0,
    ) -> None:
        for path in person_parameters({"": policy}):
            raise UserError(
                f"policy of {role}: {path} differs between people, which only the environment has",
                code="unsupported",
                path=f"policies.{role}",
            )
        self._policy, self._state_dict = policy, dict(state_dict)
        self._role, self._phases = get_role(environment, role), environment.phases
        self._turns = _turns(environment, role, phase)
        spaces = [each.action_spaces[role] for each in _turns(environment, role, None)]
        self._padded = largest_num_options(spaces)  # options of a mask of a client
        self._replicate, self._seed = replicate, check_seed(seed)
        self._agent = check_integer("agent", agent, 0, self._role.num_agents - 1)
        if not isinstance(deterministic, bool):
            message = f"deterministic: true or false, not {deterministic!r:.40}"
            raise UserError(message, code="wrong_type", path="deterministic")
        self._search = deterministic and policy.searches
        self._state: Any = None
        self._streams: RandomStreams | None = None  # None: the next call begins an episode
        self._episode = self._num_calls = 0

    def __call__(self, observation: Array, action_mask: Array | None = None) -> Array:
        """Actions for one observation or a batch.

        Recurrent networks and other memory go on from the call before; see `reset`.

        Args:
            observation: `[size]` or `[batch, size]`, of numpy or torch.
            action_mask: legal options, `[option]` or `[batch, option]`; not 0 is legal; of several
                choices a tuple with a mask for each, as in `info` of `GymnasiumEnv`. It may be
                padded with illegal options to the largest phase of the role. `None`: all.

        Returns:
            Actions like the observation, `[]` or `[batch]`, or with one more dimension for boxes
            and several choices.

        Raises:
            UserError: another shape; the batch has another size than since the last `reset`.
        """
        obs, size = _tensor("observation", observation), self._role.observation_space.size
        if obs.dim() not in (1, 2) or obs.shape[-1] != size:
            raise UserError(
                f"observation: the shape must be [{size}] or [batch, {size}], not "
                f"{list(obs.shape)}",
                code="wrong_shape",
                path="observation",
            )
        batch = obs[None] if obs.dim() == 1 else obs
        num_calls = 0 if self._streams is None else self._num_calls
        num_rounds, turn = divmod(num_calls, len(self._turns))
        phase = self._turns[turn]
        mask = None if action_mask is None else self._mask(phase, action_mask, len(batch))
        streams = self._start(len(batch)) if self._streams is None else self._streams
        if len(batch) != streams.num_worlds:
            raise UserError(
                f"observation: a batch of {len(batch)}, after one of {streams.num_worlds}: call "
                "reset() first",
                code="wrong_shape",
                path="observation",
            )
        action = self._act(phase, batch.to(torch.float32), mask, streams.at(num_rounds))
        self._num_calls = num_calls + 1
        action = action if obs.dim() == 2 else action[0]
        return action if isinstance(observation, Tensor) else action.numpy()[()]

    def reset(self, reset_mask: Array | None = None) -> None:
        """Begin new episodes: forget what was observed.

        Args:
            reset_mask: entries of the batch whose episode ended, `[batch]`; `None`: all, and the
                next batch may have another size.

        Raises:
            UserError: the mask has another length than the batch, or a round of several turns is
                not over.
        """
        streams = self._streams
        if reset_mask is None or streams is None:
            self._streams = None
            return
        mask = _tensor("reset_mask", reset_mask).to(torch.bool)
        if mask.shape != (streams.num_worlds,):
            raise UserError(
                f"reset_mask: the shape must be [{streams.num_worlds}], not {list(mask.shape)}",
                code="wrong_shape",
                path="reset_mask",
            )
        if bool(mask.any()):
            num_rounds, turn = divmod(self._num_calls, len(self._turns))
            if turn:
                raise UserError(
                    f"reset_mask: {self._role.name} acts next in {self._turns[turn].name!r}: "
                    "entries can be reset alone between rounds only",
                    code="wrong_order",
                    path="reset_mask",
                )
            reset = streams.at(num_rounds).take(mask.nonzero()[:, 0])
            self._state = self._policy.on_episode_start(
                self._state, lambda: self._initial_state(reset), mask
            )

    def _start(self, num_worlds: int) -> RandomStreams:
        """Begin an episode for every entry of a batch."""
        replicate = torch.full((num_worlds,), self._replicate, dtype=torch.int64)
        worlds = Worlds(replicate, torch.arange(num_worlds))
        self._num_calls = 0
        self._streams = RandomStreams.of(
            self._seed, worlds, stage=ACTING_STAGE, episode=self._episode
        )
        self._episode += 1
        self._state = self._initial_state(self._streams)
        return self._streams

    def _initial_state(self, streams: RandomStreams) -> Any:
        streams = streams.child(addresses.EPISODE_START)
        streams = streams.child(f"{addresses.POLICY}/{self._role.name}")
        state = self._policy.initial_state(self._role, self._phases, streams)
        if isinstance(self._policy, Learner) and self._state_dict:
            state = self._policy.load_state_dict(state, self._state_dict)
        return state

    @torch.no_grad()
    def _act(
        self, phase: Phase, batch: Tensor, mask: Tensor | None, streams: RandomStreams
    ) -> Tensor:
        agents = self._role.num_agents
        obs = batch[:, None].expand(-1, agents, -1)
        if mask is not None:
            mask = mask[:, None].expand(-1, agents, -1)
        stream = streams.child(f"{addresses.POLICY}/{self._role.name}/{phase.name}")
        options = {"search": True} if self._search else {}
        output = self._policy.act(phase, obs, mask, self._state, stream, **options)
        self._state = output.state
        return output.action[:, self._agent].detach().clone()

    def _mask(self, phase: Phase, action_mask: Array, batch_size: int) -> Tensor:
        parts = action_mask if isinstance(action_mask, tuple) else (action_mask,)
        rows = [torch.as_tensor(np.asarray(part)).reshape(-1, np.shape(part)[-1]) for part in parts]
        mask = torch.cat(rows, -1) != 0
        space = phase.action_spaces[self._role.name]
        if self._padded is not None and mask.shape[1] == np.sum(self._padded):
            mask = cut_action_mask(space, mask, self._padded)
        num_options = space.num_options if isinstance(space, Discrete) else None
        if len(mask) != batch_size or num_options not in (None, mask.shape[1]):
            shape = f"[{batch_size}, {num_options or 'option'}]"
            raise UserError(
                f"action_mask: the shape must be {shape}, not {list(mask.shape)}",
                code="wrong_shape",
                path="action_mask",
            )
        return mask


def replicate_parameters(
    role: str, tensors: Mapping[str, Tensor], replicates: list[int], replicate: int
) -> dict[str, Tensor]:
    """Parameters of the models of one replicate, on the CPU.

    Args:
        role: name of the role.
        tensors: a `Learner.state_dict`: the models of a replicate stand side by side.
        replicates: numbers of all replicates, in order.
        replicate: the one to take.

    Raises:
        UserError: no such replicate; the number of models is no multiple of that of replicates.
    """
    if replicate not in replicates:
        raise UserError(
            f"replicate: no {replicate!r:.20}; the training has {len(replicates)}, "
            f"{replicates[0]} to {replicates[-1]}",
            code="out_of_range",
            path="replicate",
        )
    index, rows = replicates.index(replicate), {}
    for name, tensor in tensors.items():
        if len(tensor) % len(replicates):
            raise UserError(
                f"policy of {role}: {name} of its state_dict has {len(tensor)} models for "
                f"{len(replicates)} replicates",
                code="unsupported",
                path=f"policies.{role}",
            )
        models = len(tensor) // len(replicates)
        rows[name] = tensor[index * models : (index + 1) * models].detach().cpu().clone()
    return rows


def _tensor(argument: str, given: Any) -> Tensor:
    """An argument as a tensor of real numbers.

    Raises:
        UserError: it is none.
    """
    try:
        tensor = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):  # as torch refuses texts, objects, ragged lists
        tensor = None
    if tensor is None or tensor.is_complex():
        message = f"{argument}: an array of numbers is needed, not {describe_value(given)}"
        raise UserError(message, code="wrong_type", path=argument)
    return tensor


def _turns(environment: Environment[Any], role: str, name: str | None) -> tuple[Phase, ...]:
    """Phases of a round in which a policy is called: all of the role, or one.

    Raises:
        UserError: the role does not act in a phase of that name.
    """
    phases = {p.name: p for p in environment.phases if role in p.action_spaces}
    if name is not None and name not in phases:
        raise UserError(
            f"phase: {role} does not act in {name!r:.60}{did_you_mean(name, phases)}",
            code="unknown_name",
            path="phase",
        )
    return tuple(phases.values()) if name is None else (phases[name],)
