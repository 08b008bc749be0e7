"""Who sits where: every seat has somebody, and nobody sits where there is no seat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.environment import Phase, Policy, Role
from mores.core.errors import UserError, did_you_mean


def check_agent_assignment(
    roles: Mapping[str, Role],
    phases: Sequence[Phase],
    policies: Mapping[str, Policy],
    external: Mapping[str, Sequence[int]],
) -> None:
    """Refuse a seating that does not fit the game.

    Args:
        roles: the game's, by name.
        phases: the game's.
        policies: who fills the seats of a role.
        external: numbers of the seats that are filled from outside, by role.

    Raises:
        UserError: unknown roles or seats, seats twice, seats for nobody.
    """
    for name in [*policies, *external]:
        if name not in roles:
            raise UserError(
                f"no role {name!r} in this game{did_you_mean(name, roles)}",
                code="unknown_name",
                path=f"{'players' if name in policies else 'outside'}.{name}",
            )
    for name, seats in external.items():
        count = roles[name].num_agents
        inside = all(0 <= seat < count for seat in seats)
        if len(set(seats)) < len(seats) or not inside:
            raise UserError(
                f"seats of {name!r} run from 0 to {count - 1}, each once: {seats}",
                code="duplicate" if inside else "out_of_range",
                path=f"outside.{name}",
            )
        if not any(name in phase.action_spaces for phase in phases):
            raise UserError(
                f"{name!r} acts in no phase: nobody outside can sit there",
                code="unsupported",
                path=f"outside.{name}",
            )
    for name, role in roles.items():
        if name not in policies and len(external.get(name, ())) < role.num_agents:
            raise UserError(
                f"nobody plays {name!r}: give it a player, or seat it outside",
                code="missing",
                path=f"players.{name}",
            )
