"""Groups of agents in TorchRL: which external agents share one entry of a TensorDict.

The simulator has one tensor per role, `[world, agent, ...]`; a TorchRL environment has one entry
per group. By default a group is a role. Other groups divide a role, or join roles whose agents have
equally long observations and the same action space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mores.clients.resolve import AgentId
from mores.core.arguments import check_names
from mores.core.errors import UserError, did_you_mean

RESERVED = ("done", "terminated", "truncated", "metrics", "next", "_reset")  # entries at the root
Place = tuple[str, int]  # role or group, and the index of an agent in its tensors


@runtime_checkable
class GroupMapType(Protocol):
    """TorchRL's `MarlGroupMapType`: a rule that groups agents by their names."""

    def get_group_map(self, agent_names: list[str]) -> dict[str, list[str]]:
        """Names of the agents of each group."""
        ...


class AgentGroups:
    """Conversion between tensors of roles and tensors of groups.

    Args:
        external: indices of the external agents, by role.
        group_map: names of the agents of each group, in their order in its tensors; a rule such as
            `MarlGroupMapType.ALL_IN_ONE_GROUP`; `None`: a group per role.
        device: device of the tensors.

    Raises:
        UserError: an agent is unknown, in no group or in several, or a name cannot be used.
    """

    def __init__(
        self,
        external: Mapping[str, Sequence[int]],
        group_map: Mapping[str, Sequence[str]] | GroupMapType | None,
        device: torch.device,
    ) -> None:
        by_role = {
            role: [AgentId(role, index).name for index in indices]
            for role, indices in external.items()
        }
        self.names = _group_names(by_role, group_map)
        in_role, in_group = _places(by_role), _places(self.names)
        self._from_roles = {
            group: _Gather([in_role[name] for name in names], _sizes(by_role), device)
            for group, names in self.names.items()
        }
        self._from_groups = {
            role: _Gather([in_group[name] for name in names], _sizes(self.names), device)
            for role, names in by_role.items()
        }

    def roles(self, group: str) -> list[str]:
        """Roles of the agents of a group."""
        return self._from_roles[group].sources

    def of_group(self, group: str, of_role: Callable[[str], Tensor]) -> Tensor:
        """Tensor of a group, `[world, agent, ...]`, from those of the roles' external agents."""
        return self._from_roles[group](of_role)

    def of_role(self, role: str, of_group: Callable[[str], Tensor]) -> Tensor:
        """Tensor of a role's external agents, `[world, agent, ...]`, from those of the groups."""
        return self._from_groups[role](of_group)


class _Gather:
    """Selection of agents from the tensors of several roles or groups.

    Args:
        places: place of each selected agent.
        sizes: number of agents of every role or group.
        device: device of the tensors.
    """

    def __init__(
        self, places: Sequence[Place], sizes: Mapping[str, int], device: torch.device
    ) -> None:
        self.sources = list(dict.fromkeys(source for source, _ in places))
        starts, start = {}, 0
        for source in self.sources:
            starts[source], start = start, start + sizes[source]
        indices = [starts[source] + index for source, index in places]
        self._indices: Tensor | None = None  # None: all agents of the sources, in their order
        if indices != list(range(start)):
            self._indices = torch.tensor(indices, device=device)

    def __call__(self, of_source: Callable[[str], Tensor]) -> Tensor:
        tensors = [of_source(source) for source in self.sources]
        joined = tensors[0] if len(tensors) == 1 else torch.cat(tensors, 1)
        return joined if self._indices is None else joined.index_select(1, self._indices)


def _group_names(
    by_role: Mapping[str, Sequence[str]],
    group_map: Mapping[str, Sequence[str]] | GroupMapType | None,
) -> dict[str, list[str]]:
    """Names of the agents of each group."""
    known = [name for names in by_role.values() for name in names]
    if group_map is None:
        group_map = by_role
    elif isinstance(group_map, GroupMapType):
        group_map = group_map.get_group_map(known)
    if not isinstance(group_map, Mapping):
        message = f"group_map: a mapping of groups to names of agents, not {group_map!r:.60}"
        raise UserError(message, code="wrong_type", path="group_map")
    groups = {str(group): names for group, names in group_map.items()}
    used: dict[str, str] = {}
    for group, names in groups.items():
        path = f"group_map.{group}"
        check_names(path, names)
        if group in RESERVED:
            message = f"{path}: TorchRL's own entry has this name: choose another"
            raise UserError(message, code="invalid_value", path=path)
        if not names:
            raise UserError(f"{path}: a group needs an agent", code="missing", path=path)
        for name in names:
            if name not in known:
                message = f"{path}: no external agent {name!r}{did_you_mean(name, known)}"
                raise UserError(message, code="unknown_name", path=path)
            if name in used:
                message = f"{path}: {name!r} is in group {used[name]!r} already"
                raise UserError(message, code="duplicate", path=path)
            used[name] = group
    if missing := [name for name in known if name not in used]:
        raise UserError(
            f"group_map: {missing[0]!r} is in no group: add it, or leave it out of external",
            code="missing",
            path="group_map",
        )
    return {group: list(names) for group, names in groups.items()}


def _places(names: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """Place of every agent, by its name."""
    return {
        name: (source, index)
        for source, agents in names.items()
        for index, name in enumerate(agents)
    }


def _sizes(names: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Number of agents of every role or group."""
    return {source: len(agents) for source, agents in names.items()}
