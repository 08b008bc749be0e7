"""mores: communities of people, principals, supervisors and AI agents whose values move.

Importing it makes every environment known to Gymnasium (`mores/LockIn-v0`) and to PettingZoo
(`mores/lock_in_v0`), and imports nothing heavy: what is named here is loaded when it is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mores.analysis.run_reader import open_run as open_run
    from mores.clients.gymnasium import Env as Env
    from mores.clients.gymnasium_vector import VectorEnv as VectorEnv
    from mores.clients.pettingzoo import AEC as AEC
    from mores.clients.pettingzoo import Parallel as Parallel
    from mores.clients.stable_baselines3 import VecEnv as SB3VecEnv  # noqa: F401
    from mores.clients.torchrl import TorchRLEnv as TorchRLEnv
    from mores.core.environment import Act as Act
    from mores.core.environment import Box as Box
    from mores.core.environment import Discrete as Discrete
    from mores.core.environment import Game as Game
    from mores.core.environment import MultiDiscrete as MultiDiscrete
    from mores.core.environment import Outcome as Outcome
    from mores.core.environment import Part as Part
    from mores.core.environment import Phase as Phase
    from mores.core.environment import Player as Player
    from mores.core.environment import Role as Role
    from mores.core.environment import Step as Step
    from mores.core.errors import UserError as UserError
    from mores.core.people import People as People
    from mores.core.random_streams import Draws as Draws
    from mores.core.random_streams import Worlds as Worlds
    from mores.experiments.run import run as run_scenario
    from mores.experiments.scenario.loading import load as load_scenario
    from mores.experiments.trained import load_trained as load_trained
    from mores.experiments.training import train as train
    from mores.registry import make_game as make_game
    from mores.registry import make_player as make_player
    from mores.registry import make_population as make_population
    from mores.sim.simulation import play as play
    from mores.sim.simulator import Table as Table

_WHERE = {
    "AEC": "mores.clients.pettingzoo:AEC",
    "Act": "mores.core.environment:Act",
    "Box": "mores.core.environment:Box",
    "Discrete": "mores.core.environment:Discrete",
    "Draws": "mores.core.random_streams:Draws",
    "Env": "mores.clients.gymnasium:Env",
    "Game": "mores.core.environment:Game",
    "MultiDiscrete": "mores.core.environment:MultiDiscrete",
    "Outcome": "mores.core.environment:Outcome",
    "Parallel": "mores.clients.pettingzoo:Parallel",
    "Part": "mores.core.environment:Part",
    "People": "mores.core.people:People",
    "Phase": "mores.core.environment:Phase",
    "Player": "mores.core.environment:Player",
    "Role": "mores.core.environment:Role",
    "SB3VecEnv": "mores.clients.stable_baselines3:VecEnv",
    "Step": "mores.core.environment:Step",
    "Table": "mores.sim.simulator:Table",
    "TorchRLEnv": "mores.clients.torchrl:TorchRLEnv",
    "UserError": "mores.core.errors:UserError",
    "VectorEnv": "mores.clients.gymnasium_vector:VectorEnv",
    "Worlds": "mores.core.random_streams:Worlds",
    "load_scenario": "mores.experiments.scenario.loading:load",
    "load_trained": "mores.experiments.trained:load_trained",
    "make_game": "mores.registry:make_game",
    "make_player": "mores.registry:make_player",
    "make_population": "mores.registry:make_population",
    "open_run": "mores.analysis.run_reader:open_run",
    "play": "mores.sim.simulation:play",
    "run_scenario": "mores.experiments.run:run",
    "train": "mores.experiments.training:train",
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
from mores.clients import registration  # noqa: E402

for _kind in registry.ENVIRONMENTS:
    registration.announce(_kind)


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
        registration.announce(kind)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        from mores.core.errors import did_you_mean

        raise AttributeError(f"mores has no {name!r}{did_you_mean(name, [*_WHERE, 'register'])}")
    module, _, attribute = _WHERE[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
