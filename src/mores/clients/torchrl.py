"""Many seats in many worlds at once as a TorchRL environment, without a loop in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from jaxtyping import Bool
from torch import Tensor

from mores.clients import gymnasium_spaces, resolve
from mores.clients.resolve import SpecMapping
from mores.core.arguments import check_names
from mores.core.environment import Box, Environment, Policy
from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.sim.action_masks import NumOptions
from mores.sim.simulator import ExternalTurn, Population, Simulator

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import (
        Bounded,
        Categorical,
        Composite,
        MultiCategorical,
        TensorSpec,
        Unbounded,
    )
    from torchrl.envs import EnvBase
except ImportError as error:
    raise UserError(
        f"TorchRL is not installed ({error}): pip install mores[rl]",
        code="not_installed",
        path="torchrl",
    ) from None


class TorchRLEnv(EnvBase):
    """Seats of a game as groups of a multi-agent environment with batch size `[worlds]`.

    One step is one phase in which somebody outside acts. Each role is a group with entries
    `observation`, `action` and `reward` that lead with `[worlds, seats]`; `mask`: whether the
    group acts in this phase (else its action is ignored); `projected`: whether the last action was
    out of range or illegal and had to be changed; and `action_mask` where actions are choices,
    those of several choices one after the other. `done`, `terminated` and `truncated` stand at
    the root: a world ends for all its seats.

    Worlds move together through the phases of a round. A world that ends begins anew at once;
    TorchRL is shown its last sight first, and the new one when it resets that world. A world that
    has not ended cannot be reset alone.

    Args:
        environment: the name of an environment (`mores list`), or a game.
        worlds: how many are played at once, or which replicates.
        external: roles (`person`) and seats (`person_3`) that the client plays; by default all
            roles for which no player is named.
        policies: by role, for the seats inside: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        rounds: length of an episode.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        metrics: names of measures to put under `measures`. They may tell what seats must not see.
        device: where tensors live.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        worlds: int | Sequence[int] | Worlds = 1,
        external: Sequence[str] | None = None,
        policies: Mapping[str, Policy | SpecMapping] | None = None,
        rounds: int = 100,
        population: Population | SpecMapping | None = None,
        metrics: Sequence[str] = (),
        device: torch.device | str = "cpu",
        **parameters: Any,
    ) -> None:
        which = Worlds.of(worlds)
        super().__init__(device=device, batch_size=torch.Size([len(which)]))
        self.environment, self.metric_names = (
            resolve.resolve_environment(environment, parameters),
            tuple(check_names("measures", metrics)),
        )
        out = resolve.resolve_external_agents(self.environment, external, policies)
        self.simulator = Simulator(
            self.environment,
            resolve.resolve_policies(self.environment, policies),
            out,
            which,
            rounds,
            autoreset=True,
            population=resolve.resolve_population(population),
            device=device,
        )
        self._num_options = {
            role: options
            for role in out
            if (
                options := gymnasium_spaces.num_options(
                    gymnasium_spaces.action_space(self.environment, role)
                )
            )
            is not None
        }
        self._generator: np.random.Generator | None = None
        self._at_start: Bool[Tensor, " world"] | None = None  # worlds in which nobody has acted yet
        self._make_specs()

    # --- what TorchRL calls -------------------------------------------------------------------

    def _set_seed(self, seed: int | None) -> None:
        self._generator, _ = seeding.np_random(seed)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        asked = None if tensordict is None else tensordict.get("_reset", None)
        wanted = self._all_worlds() if asked is None else asked.reshape(-1)
        begun = torch.zeros_like(wanted) if self._at_start is None else self._at_start
        waiting = wanted & ~begun
        if asked is None or (bool(wanted.all()) and bool(waiting.any())):
            if self._generator is None:
                self._set_seed(None)
            assert self._generator is not None
            self.simulator.reset(int(self._generator.integers(2**63 - 1)))
            self._at_start = self._all_worlds()
        elif bool(waiting.any()):
            raise UserError(
                "worlds move together: one that has not ended cannot be reset without the others",
                code="unsupported",
                path="_reset",
            )
        return self._observation_tensordict(None)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        acting = self.simulator.acting_roles
        turn = self.simulator.step({role: tensordict.get((role, "action")) for role in acting})
        over = turn.terminated | turn.truncated
        self._at_start = over
        found = self._observation_tensordict(turn)
        for role, numbers in self.simulator.external.items():
            found.set((role, "reward"), turn.reward[role][:, numbers, None])
        found.set("done", over[:, None].clone())
        found.set("terminated", turn.terminated[:, None].clone())
        found.set("truncated", turn.truncated[:, None].clone())
        return found

    # --- what is seen -------------------------------------------------------------------------

    def _observation_tensordict(self, turn: ExternalTurn | None) -> TensorDict:
        """What all groups see; in worlds that have just ended, what they last saw."""
        groups: dict[str, Any] = {}
        for role, numbers in self.simulator.external.items():
            seen = self.simulator.observe(role)[:, numbers]
            if turn is not None and turn.final_observation is not None:
                over = (turn.terminated | turn.truncated)[:, None, None]
                seen = torch.where(over, turn.final_observation[role][:, numbers], seen)
            shape = (*self.batch_size, len(numbers))
            nothing = torch.zeros(shape, dtype=torch.bool, device=self.device)
            group = {
                "observation": seen,
                "mask": nothing | (role in self.simulator.acting_roles),
                "repaired": nothing if turn is None else turn.projected.get(role, nothing),
            }
            if role in self._num_options:
                mask = self.simulator.action_mask(role, self._num_options[role])[:, numbers]
                choices = self.full_action_spec[role, "action"]
                assert isinstance(choices, Categorical)
                choices.update_mask(mask)
                group["action_mask"] = mask.clone()
            groups[role] = TensorDict(group, batch_size=shape, device=self.device)
        if self.metric_names:
            groups["measures"] = TensorDict(self._metrics(turn), batch_size=self.batch_size)
        return TensorDict(groups, batch_size=self.batch_size, device=self.device)

    def _metrics(self, turn: ExternalTurn | None) -> dict[str, Tensor]:
        told = resolve.selected_metrics(self.simulator, self.simulator.state, self.metric_names)
        if turn is None or turn.final_state is None:
            return told
        over = turn.terminated | turn.truncated
        last = resolve.selected_metrics(self.simulator, turn.final_state, self.metric_names)
        return {
            name: torch.where(over.view(-1, *[1] * (now.dim() - 1)), last[name], now)
            for name, now in told.items()
        }

    def _all_worlds(self) -> Bool[Tensor, " world"]:
        return torch.ones(self.batch_size, dtype=torch.bool, device=self.device)

    # --- specifications ------------------------------------------------------------------------

    def _make_specs(self) -> None:
        actions, sights, rewards = {}, {}, {}
        for role, numbers in self.simulator.external.items():
            shape = torch.Size((*self.batch_size, len(numbers)))
            seen = self._box_spec(self.simulator.roles[role].observation_space, shape)
            group: dict[str, TensorSpec] = {
                "observation": seen,
                "mask": self._bool_spec(shape),
                "repaired": self._bool_spec(shape),
            }
            if role in self._num_options:
                action: TensorSpec = self._discrete_spec(self._num_options[role], shape)
                length = action.to_one_hot_spec().shape[-1]
                group["action_mask"] = self._bool_spec(torch.Size((*shape, length)))
            else:
                space = next(
                    p.action_spaces[role]
                    for p in self.environment.phases
                    if role in p.action_spaces
                )
                assert isinstance(space, Box)
                action = self._box_spec(space, shape)
            reward = Unbounded(torch.Size((*shape, 1)), device=self.device)
            sights[role] = Composite(group, shape=shape, device=self.device)
            actions[role] = Composite({"action": action}, shape=shape, device=self.device)
            rewards[role] = Composite({"reward": reward}, shape=shape, device=self.device)
        if self.metric_names:
            self.simulator.reset(0)  # only a state tells the shapes of its measures
            told = {
                n: Unbounded(m.shape, device=self.device) for n, m in self._metrics(None).items()
            }
            sights["measures"] = Composite(told, shape=self.batch_size, device=self.device)
        ends = torch.Size((*self.batch_size, 1))
        names = ("done", "terminated", "truncated")
        done = {name: self._bool_spec(ends) for name in names}
        self.observation_spec = Composite(sights, shape=self.batch_size, device=self.device)
        self.action_spec = Composite(actions, shape=self.batch_size, device=self.device)
        self.reward_spec = Composite(rewards, shape=self.batch_size, device=self.device)
        self.done_spec = Composite(done, shape=self.batch_size, device=self.device)

    def _bool_spec(self, shape: torch.Size) -> Categorical:
        return Categorical(2, shape=shape, dtype=torch.bool, device=self.device)

    def _discrete_spec(self, num_options: NumOptions, leading: torch.Size) -> Categorical:
        if isinstance(num_options, int):
            return Categorical(num_options, leading, self.device, torch.int64)
        shape = torch.Size((*leading, len(num_options)))
        return MultiCategorical(num_options, shape, self.device, torch.int64)

    def _box_spec(self, box: Box, leading: torch.Size) -> TensorSpec:
        shape = torch.Size((*leading, box.size))
        low, high = (torch.tensor(bound).expand(shape) for bound in (box.low, box.high))
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            return Unbounded(shape, device=self.device)  # sampling from half a line has no sense
        return Bounded(low, high, shape, device=self.device, dtype=torch.float32)
