"""What was learned in a cell, who stopped, and who never began: taken at the end of every stage.

checkpoints/<stage>.<role>.safetensors   what `Player.learned` names, each led by the policies
checkpoints/<stage>.<role>.json          whose they are: kind, parameters, names, shapes
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from mores.core.environment import Ability, Player, role_named
from mores.experiments.results.cell_result import Checkpoint, Stopped
from mores.experiments.scenario.cell import Cell, Staged
from mores.experiments.scenario.expansion import whole_part
from mores.sim.policy_states import Memories, key_of
from mores.sim.training_status import Taught, learned_by, taught

CHECKPOINTS = "checkpoints"
FORMAT = 1


class Learned:
    """Collects what the learners of a cell have learned, chunk after chunk.

    Args:
        cell: which.
        replicates: that are played in it, in order.
    """

    def __init__(self, cell: Cell, replicates: Sequence[int]) -> None:
        self._cell, self._replicates = cell, list(replicates)
        self._tensors: dict[tuple[str, str], dict[str, Tensor]] = {}  # by stage and role
        self._about: dict[tuple[str, str], dict[str, Any]] = {}
        self.stopped: dict[tuple[str, str], str] = {}  # by role and line the stage that told it
        self._taught: dict[tuple[str, str], Taught] = {}  # by stage and role

    def take(self, number: int, staged: Staged, memories: Memories) -> None:
        """Look at what the learners of a stage know at its end.

        Raises:
            UserError: what a player says it learned does not fit together.
        """
        for role in staged.stage.learn:
            player = staged.players.get(role)
            key = None if player is None else key_of(role, player)
            able: Ability = "learn" if staged.stage.loop == "improve" else "fit"
            if player is None or key not in memories or not player.can(able):
                continue  # an arm in which nobody learns
            memory, place = memories[key], (staged.stage.name, role)
            for line in player.troubles(memory):
                self.stopped.setdefault((role, line), staged.stage.name)
            found = learned_by(role, player, memory)
            for one in taught(staged.stage.name, role, player, memory, found):
                self._add(one)
            if not found:
                continue
            before = self._tensors.get(place)
            if before is not None:
                found = {name: torch.cat([before[name], part]) for name, part in found.items()}
            self._tensors[place] = found
            self._about[place] = self._told(number, staged, role, player, found)

    def _add(self, one: Taught) -> None:
        """Count the policies of one more chunk."""
        place = (one.stage, one.role)
        if place in self._taught:
            before = self._taught[place]
            sums = {n: getattr(one, n) + getattr(before, n) for n in ("policies", "taught", "idle")}
            one = dataclasses.replace(one, **sums, why=before.why or one.why)
        self._taught[place] = one

    def _told(
        self, number: int, staged: Staged, role: str, player: Player, found: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        asked = self._cell.asked(number).players.get(role)
        return {
            "format": FORMAT,
            "cell": self._cell.id,
            "stage": staged.stage.name,
            "number": number,
            "loop": staged.stage.loop,
            "role": role,
            "seats": role_named(staged.game, role).count,
            "replicates": self._replicates,
            "policies": _policies(found),
            "player": whole_part(asked, player),
            "tensors": {
                name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).split(".")[-1]}
                for name, tensor in found.items()
            },
            "mores": metadata.version("mores"),
        }

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What was learned, stage by stage."""
        return tuple(
            Checkpoint(*place, tensors, self._about[place])
            for place, tensors in self._tensors.items()
        )

    @property
    def learners(self) -> int:
        """How many policies learned, of all roles."""
        most: dict[str, int] = {}
        for (_, role), tensors in self._tensors.items():
            most[role] = max(most.get(role, 0), _policies(tensors))
        return sum(most.values())

    @property
    def troubles(self) -> tuple[Stopped, ...]:
        """Learners that stopped early."""
        return tuple(Stopped(stage, role, line) for (role, line), stage in self.stopped.items())

    @property
    def taught(self) -> tuple[Taught, ...]:
        """Who learned anything."""
        return tuple(self._taught.values())

    # --- to stop, and go on later --------------------------------------------------------------

    def taken(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was collected so far: tensors by path, and the rest as JSON."""
        places = list(self._tensors)
        tensors = {
            f"{n}/{name}": tensor
            for n, place in enumerate(places)
            for name, tensor in self._tensors[place].items()
        }
        stopped = [[role, line, stage] for (role, line), stage in self.stopped.items()]
        about = [[*place, self._about[place]] for place in places]
        taught = [list(dataclasses.astuple(one)) for one in self._taught.values()]
        return tensors, {"places": about, "stopped": stopped, "taught": taught}

    def put_back(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Have what was collected before."""
        for number, (stage, role, told) in enumerate(about["places"]):
            names = list(told["tensors"])
            found = {name: tensors[f"{number}/{name}"].clone() for name in names}
            self._tensors[stage, role], self._about[stage, role] = found, told
        self.stopped = {(role, line): stage for role, line, stage in about["stopped"]}
        self._taught = {(one[0], one[1]): Taught(*one) for one in about["taught"]}


def write_checkpoints(folder: Path, checkpoints: Sequence[Checkpoint]) -> None:
    """Write what was learned into a cell's folder."""
    from safetensors.torch import save_file

    if not checkpoints:
        return
    (folder / CHECKPOINTS).mkdir()
    for one in checkpoints:
        name = f"{one.stage}.{quote(one.role, safe='')}"
        save_file(dict(one.tensors), folder / CHECKPOINTS / f"{name}.safetensors")
        text = json.dumps(one.about, indent=1, ensure_ascii=False)
        (folder / CHECKPOINTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _policies(tensors: Mapping[str, Tensor]) -> int:
    return len(next(iter(tensors.values())))
