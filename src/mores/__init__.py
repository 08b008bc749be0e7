"""mores: communities of people, principals, supervisors and AI agents whose values move.

Importing it makes every environment known to Gymnasium (`mores/LockIn-v0`) and to PettingZoo
(`mores/lock_in_v0`), and imports nothing heavy: what is named here is loaded when it is used.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mores.analysis.open_run import open_run as open_run
    from mores.draws import Draws as Draws
    from mores.draws import Worlds as Worlds
    from mores.errors import UserError as UserError
    from mores.game import Act as Act
    from mores.game import Box as Box
    from mores.game import Discrete as Discrete
    from mores.game import Game as Game
    from mores.game import MultiDiscrete as MultiDiscrete
    from mores.game import Outcome as Outcome
    from mores.game import Part as Part
    from mores.game import Phase as Phase
    from mores.game import Player as Player
    from mores.game import Role as Role
    from mores.game import Step as Step
    from mores.people import People as People
    from mores.play import play as play
    from mores.registry import make_game as make_game
    from mores.registry import make_player as make_player
    from mores.registry import make_population as make_population
    from mores.run import run as run_scenario
    from mores.scenario.load import load as load_scenario
    from mores.table import Table as Table
    from mores.train import train as train
    from mores.trained import load_trained as load_trained
    from mores.views.gym import Env as Env
    from mores.views.pettingzoo import AEC as AEC
    from mores.views.pettingzoo import Parallel as Parallel
    from mores.views.stable_baselines3 import VecEnv as SB3VecEnv  # noqa: F401
    from mores.views.torchrl import TorchRLEnv as TorchRLEnv
    from mores.views.vector import VectorEnv as VectorEnv

_WHERE = {
    "AEC": "mores.views.pettingzoo:AEC",
    "Act": "mores.game:Act",
    "Box": "mores.game:Box",
    "Discrete": "mores.game:Discrete",
    "Draws": "mores.draws:Draws",
    "Env": "mores.views.gym:Env",
    "Game": "mores.game:Game",
    "MultiDiscrete": "mores.game:MultiDiscrete",
    "Outcome": "mores.game:Outcome",
    "Parallel": "mores.views.pettingzoo:Parallel",
    "Part": "mores.game:Part",
    "People": "mores.people:People",
    "Phase": "mores.game:Phase",
    "Player": "mores.game:Player",
    "Role": "mores.game:Role",
    "SB3VecEnv": "mores.views.stable_baselines3:VecEnv",
    "Step": "mores.game:Step",
    "Table": "mores.table:Table",
    "TorchRLEnv": "mores.views.torchrl:TorchRLEnv",
    "UserError": "mores.errors:UserError",
    "VectorEnv": "mores.views.vector:VectorEnv",
    "Worlds": "mores.draws:Worlds",
    "load_scenario": "mores.scenario.load:load",
    "load_trained": "mores.trained:load_trained",
    "make_game": "mores.registry:make_game",
    "make_player": "mores.registry:make_player",
    "make_population": "mores.registry:make_population",
    "open_run": "mores.analysis.open_run:open_run",
    "play": "mores.play:play",
    "run_scenario": "mores.run:run",
    "train": "mores.train:train",
}
__all__ = [  # all but SB3VecEnv and TorchRLEnv, which others must be installed for
    "AEC",
    "Act",
    "Box",
    "Discrete",
    "Draws",
    "Env",
    "Game",
    "MultiDiscrete",
    "Outcome",
    "Parallel",
    "Part",
    "People",
    "Phase",
    "Player",
    "Role",
    "Step",
    "Table",
    "UserError",
    "VectorEnv",
    "Worlds",
    "load_scenario",
    "load_trained",
    "make_game",
    "make_player",
    "make_population",
    "open_run",
    "play",
    "register",
    "run_scenario",
    "train",
]

for _folder in ("envs", "agents", "scenarios"):
    if not (Path(__file__).parent / _folder).is_dir():
        raise ImportError(
            f"mores/{_folder} should be a link to a folder and is none: this checkout turned links "
            "into text files. Clone again with `git clone -c core.symlinks=true`, or install a "
            "wheel (on Windows, WSL does both)."
        )

from mores import registry  # noqa: E402 (after the check, whose message would not be seen else)
from mores.views import ids  # noqa: E402

for _kind in registry.ENVIRONMENTS:
    ids.announce(_kind)


def register(shelf: registry.Shelf, kind: str, made: str | type) -> None:
    """Add a class of your own, or its `module:Class`, under a name.

    An environment is also made known to Gymnasium and PettingZoo: `my_game` becomes
    `mores/MyGame-v0` and `mores/my_game_v0`.

    Args:
        shelf: "environment", "player" or "population".
        kind: letters, digits and underscores.
        made: the class, or where it is.

    Raises:
        UserError: the name is taken, or is none.
    """
    registry.register(shelf, kind, made)
    if shelf == "environment":
        ids.announce(kind)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        from mores.errors import did_you_mean

        raise AttributeError(f"mores has no {name!r}{did_you_mean(name, [*_WHERE, 'register'])}")
    module, _, attribute = _WHERE[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


class _Package(types.ModuleType):
    """`mores.play` is the function: importing the module of that name must not cover it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("play", "train") and isinstance(value, types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
