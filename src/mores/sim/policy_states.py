"""What players know, from episode to episode and from stage to stage.

Stages may have different players at the same role. A player finds what another one learned there if
both keep it alike: if the class that first defines `again` is the same for both (two recipes of one
learner). Otherwise it starts anew, and the other finds its own where it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mores.core.environment import Game, Player

Memories = dict[str, Any]  # by role, and by what the player is


def brought(memories: Memories, players: Mapping[str, Player]) -> dict[str, Any]:
    """What these players know from before, by role."""
    keys = {role: key_of(role, player) for role, player in players.items()}
    return {role: memories[key] for role, key in keys.items() if key in memories}


def keep(memories: Memories, players: Mapping[str, Player], memory: Mapping[str, Any]) -> None:
    """Keep what these players know now, by role; those who forget between episodes know nothing."""
    for role, player in players.items():
        if player.can("again"):
            memories[key_of(role, player)] = memory[role]


def key_of(role: str, player: Player) -> str:
    """Under which name a player's memory is kept: players with the same one go on from another."""
    kinds = [kind for kind in type(player).__mro__ if issubclass(kind, Player)]
    own = [kind for kind in kinds if kind is not Player and "again" in vars(kind)]
    kind = own[-1] if own else type(player)
    return f"{role}: {kind.__module__}.{kind.__qualname__}"


def untrained(role: str, player: Player, taught: Iterable[Player]) -> bool:
    """Whether a learner plays as it was made, although others learned at the same role, or nobody.

    A learner goes on from what was learned in its place: one in a cast from what was learned at the
    same seats of a cast, one alone from what was learned alone.
    """
    known = {(key_of(role, other), place) for other in taught for place in other.places}
    return not {(key_of(role, player), place) for place in player.places} <= known


def going_on(
    game: Game[Any], baseline: Mapping[str, Player], taught: Mapping[str, Player]
) -> dict[str, Player]:
    """Who plays in an environment where nobody else is asked for, by role.

    Its baseline, except where somebody learned whom the baseline would not go on from.

    Args:
        game: the environment.
        baseline: its baseline.
        taught: who learned before, by role.
    """
    found, roles = dict(baseline), {role.name for role in game.roles}
    for role, player in taught.items():
        usual = baseline.get(role)
        goes_on = usual is not None and usual.places and not untrained(role, usual, [player])
        if role in roles and not goes_on:
            found[role] = player
    return found
