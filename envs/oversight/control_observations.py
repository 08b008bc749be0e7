"""Observations of the roles of `control`, in an episode and as a table of all of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.spaces import Box, Part
from mores.envs.oversight.control_game import ControlGame
from mores.envs.oversight.control_state import ControlState
from mores.envs.oversight.protocols.delegated import AuditorAction
from mores.envs.oversight.protocols.protocol import ControlProtocol


class TableIndex(NamedTuple):
    """Task, audits left and class of observations."""

    task: Int[Tensor, "*shape"]
    audits: Int[Tensor, "*shape"]
    kind: Int[Tensor, "*shape"]


def table_index(
    space: Box, game: ControlGame, observation: Float[Tensor, "*shape size"]
) -> TableIndex:
    """Index of observations in a table of a policy. After the last task: that of the last."""
    elapsed = space.read(observation, "tasks_elapsed")[..., 0]
    task = (elapsed * game.episode.num_tasks).round().long()
    task = task.clamp(max=game.episode.num_tasks - 1)
    audits = kind = torch.zeros_like(task)
    if "audits_left" in space.parts:
        m = max(game.num_audit_states - 1, 1)
        audits = (space.read(observation, "audits_left")[..., 0] * m).round().long().clamp(min=0)
    if "task_class" in space.parts:
        kind = space.read(observation, "task_class").argmax(-1)
    return TableIndex(task, audits, kind)


class ControlObservations:
    """Observations of `untrusted` and `auditor`.

    Args:
        game: the game.
        protocols: protocols that the attacker tells apart: the options of a vote, or the only one.
        informed: whether it observes their numbers and the audits left.
    """

    def __init__(
        self, game: ControlGame, protocols: Sequence[ControlProtocol], informed: bool
    ) -> None:
        self._game, self._informed = game, informed
        self._limited = game.episode.num_audits is not None
        numbers = [list(each.parameters.values()) for each in protocols]
        self.protocol_numbers = torch.tensor(numbers)  # [option, number]
        classes = game.episode.classes
        settings = [each.setting for each in classes]
        self._detectability = torch.tensor([each.detectability for each in settings])
        self._success = torch.tensor([each.success_chance for each in settings])

    @property
    def num_options(self) -> int:
        """Number of protocols that the attacker tells apart."""
        return len(self.protocol_numbers)

    def _shared_parts(self, informed: bool) -> dict[str, Part]:
        parts = {"tasks_elapsed": Part(1, 0.0, 1.0), "in_service": Part(1, 0.0, 1.0)}
        if len(self._game.episode.classes) > 1:
            parts["task_class"] = Part(len(self._game.episode.classes), 0.0, 1.0)
        if self._limited and informed:
            parts["audits_left"] = Part(1, 0.0, 1.0)
        return parts

    @functools.cached_property
    def untrusted_space(self) -> Box:
        """Observation space of `untrusted`."""
        levels = self._detectability.shape[1]
        parts = self._shared_parts(self._informed)
        parts["attack_mode"] = Part(1, 0.0, 1.0)
        parts["detectability"] = Part(levels, 0.0)
        parts["success_chance"] = Part(levels, 0.0, 1.0)
        if self._informed and self.protocol_numbers.shape[1]:
            parts["protocol"] = Part(self.protocol_numbers.shape[1])
        return Box.of(**parts)

    @functools.cached_property
    def auditor_space(self) -> Box:
        """Observation space of `auditor`."""
        score = {"score": Part(1)} if self._game.variants[0].auditor == "score" else {}
        return Box.of(**self._shared_parts(True), **score)

    def _shared(self, space: Box, state: ControlState) -> dict[str, Tensor]:
        elapsed = state.tasks_done.to(torch.float32) / self._game.episode.num_tasks
        values = {"tasks_elapsed": elapsed, "in_service": state.in_service.to(torch.float32)}
        if "audits_left" in space.parts:
            m = max(self._game.episode.num_audits or 0, 1)
            values["audits_left"] = state.audits_left.to(torch.float32) / m
        parts = {name: x[:, None, None] for name, x in values.items()}
        if "task_class" in space.parts:
            identity = torch.eye(len(self._game.episode.classes), device=elapsed.device)
            parts["task_class"] = identity[state.next_class][:, None]
        return parts

    def of_untrusted(self, state: ControlState, num_draws: int) -> Float[Tensor, "world draw size"]:
        """Observation of `untrusted`, the same for all draws."""
        space, device = self.untrusted_space, state.tasks_done.device
        parts = self._shared(space, state)
        parts["attack_mode"] = state.attack_mode.to(torch.float32)[:, None, None]
        parts["detectability"] = self._detectability.to(device)[state.next_class][:, None]
        parts["success_chance"] = self._success.to(device)[state.next_class][:, None]
        if "protocol" in space.parts:
            option = state.variant if self.num_options > 1 else torch.zeros_like(state.variant)
            parts["protocol"] = self.protocol_numbers.to(device)[option][:, None]
        return space.join(**parts).expand(-1, num_draws, -1)

    def of_auditor(self, state: ControlState) -> Float[Tensor, "world one size"]:
        """Observation of `auditor`."""
        parts: dict[str, Tensor] = self._shared(self.auditor_space, state)
        if "score" in self.auditor_space.parts:
            parts["score"] = state.task.score[:, :1, None]
        return self.auditor_space.join(**parts)

    def _grid(self, options: int, scores: int) -> Mapping[str, Tensor]:
        """Index of each dimension of a table, `[query]`: option, task, audits, class, score."""
        sizes = (options, *self.table_shape, scores)
        index = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")
        names = ("option", "task", "audits", "kind", "score")
        return {name: x.flatten() for name, x in zip(names, index, strict=True)}

    @property
    def table_shape(self) -> tuple[int, int, int]:
        """Numbers of tasks, of values of the audits left, and of classes."""
        game = self._game
        return game.episode.num_tasks, game.num_audit_states, len(game.episode.classes)

    def _table_parts(self, space: Box, grid: Mapping[str, Tensor]) -> dict[str, Tensor]:
        elapsed = grid["task"].to(torch.float32)[:, None] / self._game.episode.num_tasks
        parts = {"tasks_elapsed": elapsed, "in_service": torch.ones_like(elapsed)}
        if "audits_left" in space.parts:
            m = max(self._game.episode.num_audits or 0, 1)
            parts["audits_left"] = grid["audits"].to(torch.float32)[:, None] / m
        if "task_class" in space.parts:
            parts["task_class"] = torch.eye(self.table_shape[2])[grid["kind"]]
        return parts

    @functools.cached_property
    def untrusted_table(self) -> Float[Tensor, "1 1 query size"]:
        """Every observation in service in an attack run: by option, task, audits left and class."""
        grid, space = self._grid(self.num_options, 1), self.untrusted_space
        parts = self._table_parts(space, grid)
        parts["attack_mode"] = torch.ones_like(parts["tasks_elapsed"])
        parts["detectability"] = self._detectability[grid["kind"]]
        parts["success_chance"] = self._success[grid["kind"]]
        if "protocol" in space.parts:
            parts["protocol"] = self.protocol_numbers[grid["option"]]
        return space.join(**parts)[None, None]

    @functools.cached_property
    def auditor_table(self) -> Float[Tensor, "1 1 query size"]:
        """Every observation in service: by task, audits left, class and bin of the score."""
        protocol, space = self._game.variants[0], self.auditor_space
        scores = protocol.bin_scores if isinstance(protocol, AuditorAction) else None
        grid = self._grid(1, 1 if scores is None else len(scores))
        parts = self._table_parts(space, grid)
        if scores is not None:
            parts["score"] = torch.tensor(scores, dtype=torch.float32)[grid["score"]][:, None]
        return space.join(**parts)[None, None]
