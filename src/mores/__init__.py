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
    from mores.clients.gymnasium import GymnasiumEnv as GymnasiumEnv
    from mores.clients.gymnasium_vector import GymnasiumVectorEnv as GymnasiumVectorEnv
    from mores.clients.pettingzoo import PettingZooAECEnv as PettingZooAECEnv
    from mores.clients.pettingzoo import PettingZooParallelEnv as PettingZooParallelEnv
    from mores.clients.stable_baselines3 import SB3VecEnv as SB3VecEnv  # noqa: F401
    from mores.clients.torchrl import TorchRLEnv as TorchRLEnv
    from mores.core.environment import ActionOutput as ActionOutput
    from mores.core.environment import Box as Box
    from mores.core.environment import Discrete as Discrete
    from mores.core.environment import Environment as Environment
    from mores.core.environment import MultiDiscrete as MultiDiscrete
    from mores.core.environment import Part as Part
    from mores.core.environment import Phase as Phase
    from mores.core.environment import Policy as Policy
    from mores.core.environment import Role as Role
    from mores.core.environment import StepResult as StepResult
    from mores.core.environment import Transition as Transition
    from mores.core.errors import UserError as UserError
    from mores.core.people import People as People
    from mores.core.random_streams import RandomStreams as RandomStreams
    from mores.core.random_streams import Worlds as Worlds
    from mores.experiments.run import run_scenario as run_scenario
    from mores.experiments.scenario.loading import load_scenario as load_scenario
    from mores.experiments.trained import load_trained as load_trained
    from mores.experiments.training import train as train
    from mores.registry import make_environment as make_environment
    from mores.registry import make_policy as make_policy
    from mores.registry import make_population as make_population
    from mores.sim.simulation import simulate as simulate
    from mores.sim.simulator import Simulator as Simulator

_EXPORTS = {
    "PettingZooAECEnv": "mores.clients.pettingzoo:PettingZooAECEnv",
    "ActionOutput": "mores.core.environment:ActionOutput",
    "Box": "mores.core.environment:Box",
    "Discrete": "mores.core.environment:Discrete",
    "RandomStreams": "mores.core.random_streams:RandomStreams",
    "GymnasiumEnv": "mores.clients.gymnasium:GymnasiumEnv",
    "Environment": "mores.core.environment:Environment",
    "MultiDiscrete": "mores.core.environment:MultiDiscrete",
    "Transition": "mores.core.environment:Transition",
    "PettingZooParallelEnv": "mores.clients.pettingzoo:PettingZooParallelEnv",
    "Part": "mores.core.environment:Part",
    "People": "mores.core.people:People",
    "Phase": "mores.core.environment:Phase",
    "Policy": "mores.core.environment:Policy",
    "Role": "mores.core.environment:Role",
    "SB3VecEnv": "mores.clients.stable_baselines3:SB3VecEnv",
    "StepResult": "mores.core.environment:StepResult",
    "Simulator": "mores.sim.simulator:Simulator",
    "TorchRLEnv": "mores.clients.torchrl:TorchRLEnv",
    "UserError": "mores.core.errors:UserError",
    "GymnasiumVectorEnv": "mores.clients.gymnasium_vector:GymnasiumVectorEnv",
    "Worlds": "mores.core.random_streams:Worlds",
    "load_scenario": "mores.experiments.scenario.loading:load_scenario",
    "load_trained": "mores.experiments.trained:load_trained",
    "make_environment": "mores.registry:make_environment",
    "make_policy": "mores.registry:make_policy",
    "make_population": "mores.registry:make_population",
    "open_run": "mores.analysis.run_reader:open_run",
    "simulate": "mores.sim.simulation:simulate",
    "run_scenario": "mores.experiments.run:run_scenario",
    "train": "mores.experiments.training:train",
}
__all__ = [  # all but SB3VecEnv and TorchRLEnv, which others must be installed for
    "PettingZooAECEnv",
    "ActionOutput",
    "Box",
    "Discrete",
    "RandomStreams",
    "GymnasiumEnv",
    "Environment",
    "MultiDiscrete",
    "Transition",
    "PettingZooParallelEnv",
    "Part",
    "People",
    "Phase",
    "Policy",
    "Role",
    "StepResult",
    "Simulator",
    "UserError",
    "GymnasiumVectorEnv",
    "Worlds",
    "load_scenario",
    "load_trained",
    "make_environment",
    "make_policy",
    "make_population",
    "open_run",
    "simulate",
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
    registration.register_environment(_kind)


def register(registry_name: registry.RegistryName, kind: str, entry_point: str | type) -> None:
    """Add a class of your own, or its `module:Class`, under a name.

    An environment is also made known to Gymnasium and PettingZoo: `my_game` becomes
    `mores/MyGame-v0` and `mores/my_game_v0`.

    Args:
        registry_name: "environment", "policy" or "population".
        kind: letters, digits and underscores.
        entry_point: the class, or where it is.

    Raises:
        UserError: the name is taken, or is none.
    """
    registry.register(registry_name, kind, entry_point)
    if registry_name == "environment":
        registration.register_environment(kind)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        from mores.core.errors import did_you_mean

        raise AttributeError(f"mores has no {name!r}{did_you_mean(name, [*_EXPORTS, 'register'])}")
    module, _, attribute = _EXPORTS[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
