"""mores: communities of people, principals, supervisors and AI agents whose values move.

The import registers every environment with Gymnasium (`mores/LockIn-v1`) and PettingZoo
(`mores/lock_in_v1`). It imports nothing heavy: a public name is loaded at its first use.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mores.clients.gymnasium import GymnasiumEnv as GymnasiumEnv
    from mores.clients.gymnasium_vector import GymnasiumVectorEnv as GymnasiumVectorEnv
    from mores.clients.pettingzoo import PettingZooAECEnv as PettingZooAECEnv
    from mores.clients.pettingzoo import PettingZooParallelEnv as PettingZooParallelEnv
    from mores.clients.stable_baselines3 import SB3VecEnv as SB3VecEnv
    from mores.clients.torchrl import TorchRLEnv as TorchRLEnv
    from mores.core.channel import Channel as Channel
    from mores.core.environment import Environment as Environment
    from mores.core.environment import Phase as Phase
    from mores.core.environment import Role as Role
    from mores.core.environment import StepResult as StepResult
    from mores.core.environment import Transition as Transition
    from mores.core.errors import UserError as UserError
    from mores.core.learner import Learner as Learner
    from mores.core.learner import TrainingDiagnostics as TrainingDiagnostics
    from mores.core.people import People as People
    from mores.core.people import Population as Population
    from mores.core.policy import ActionOutput as ActionOutput
    from mores.core.policy import Policy as Policy
    from mores.core.random_streams import RandomStreams as RandomStreams
    from mores.core.random_streams import Worlds as Worlds
    from mores.core.spaces import Box as Box
    from mores.core.spaces import Discrete as Discrete
    from mores.core.spaces import MultiDiscrete as MultiDiscrete
    from mores.core.spaces import Part as Part
    from mores.experiments.inspect_tasks import inspect_task as inspect_task
    from mores.experiments.results.run_reader import open_run as open_run
    from mores.experiments.run import extend as extend
    from mores.experiments.run import run_scenario as run_scenario
    from mores.experiments.scenario.loading import load_scenario as load_scenario
    from mores.experiments.training import load_trained as load_trained
    from mores.experiments.training import train as train
    from mores.registry import make_environment as make_environment
    from mores.registry import make_policy as make_policy
    from mores.registry import make_population as make_population
    from mores.sim.simulation import simulate as simulate
    from mores.sim.simulator import Simulator as Simulator

_EXPORTS = {
    "ActionOutput": "mores.core.policy",
    "Box": "mores.core.spaces",
    "Channel": "mores.core.channel",
    "Discrete": "mores.core.spaces",
    "Environment": "mores.core.environment",
    "GymnasiumEnv": "mores.clients.gymnasium",
    "GymnasiumVectorEnv": "mores.clients.gymnasium_vector",
    "Learner": "mores.core.learner",
    "MultiDiscrete": "mores.core.spaces",
    "Part": "mores.core.spaces",
    "People": "mores.core.people",
    "PettingZooAECEnv": "mores.clients.pettingzoo",
    "PettingZooParallelEnv": "mores.clients.pettingzoo",
    "Phase": "mores.core.environment",
    "Policy": "mores.core.policy",
    "Population": "mores.core.people",
    "RandomStreams": "mores.core.random_streams",
    "Role": "mores.core.environment",
    "SB3VecEnv": "mores.clients.stable_baselines3",
    "Simulator": "mores.sim.simulator",
    "StepResult": "mores.core.environment",
    "TorchRLEnv": "mores.clients.torchrl",
    "TrainingDiagnostics": "mores.core.learner",
    "Transition": "mores.core.environment",
    "UserError": "mores.core.errors",
    "Worlds": "mores.core.random_streams",
    "extend": "mores.experiments.run",
    "inspect_task": "mores.experiments.inspect_tasks",
    "load_scenario": "mores.experiments.scenario.loading",
    "load_trained": "mores.experiments.training",
    "make_environment": "mores.registry",
    "make_policy": "mores.registry",
    "make_population": "mores.registry",
    "open_run": "mores.experiments.results.run_reader",
    "run_scenario": "mores.experiments.run",
    "simulate": "mores.sim.simulation",
    "train": "mores.experiments.training",
}
__all__ = [  # all but SB3VecEnv and TorchRLEnv, which need optional dependencies
    "ActionOutput",
    "Box",
    "Channel",
    "Discrete",
    "Environment",
    "GymnasiumEnv",
    "GymnasiumVectorEnv",
    "Learner",
    "MultiDiscrete",
    "Part",
    "People",
    "PettingZooAECEnv",
    "PettingZooParallelEnv",
    "Phase",
    "Policy",
    "Population",
    "RandomStreams",
    "Role",
    "Simulator",
    "StepResult",
    "TrainingDiagnostics",
    "Transition",
    "UserError",
    "Worlds",
    "extend",
    "load_scenario",
    "load_trained",
    "make_environment",
    "make_policy",
    "make_population",
    "open_run",
    "register",
    "run_scenario",
    "simulate",
    "train",
]

for _folder in ("envs", "agents", "scenarios"):
    if not (Path(__file__).parent / _folder).is_dir():
        raise ImportError(
            f"mores/{_folder} must be a link to a folder and is not: this checkout turned links "
            "into text files. Clone again with `git clone -c core.symlinks=true`, or install a "
            "wheel (on Windows, WSL does both)."
        )

from mores import registry  # noqa: E402 (after the check, whose message it would preempt)
from mores.clients import registration  # noqa: E402

for _kind in registry.REGISTRIES["environment"]:
    registration.register_environment(_kind)


def register(registry_name: str, kind: str, entry: Any = registry.NOT_GIVEN) -> Any:
    """Add a user's class or function, or its location `module:Name`, under a name.

    Without `entry` it is a decorator: `@mores.register("policy", "my_policy")`. An environment is
    also registered with Gymnasium and PettingZoo: `my_env` becomes `mores/MyEnv-v0` and
    `mores/my_env_v0`.

    Args:
        registry_name: one of `mores.registry.REGISTRIES`, such as "environment" or "policy".
        kind: letters, digits and underscores.
        entry: the class or function, or its location.

    Returns:
        The entry, or the decorator.

    Raises:
        UserError: the name is taken or not an identifier.
    """
    if entry is registry.NOT_GIVEN:
        checked = registry.register(registry_name, kind)
        return lambda decorated: (checked(decorated), register(registry_name, kind, decorated))[1]
    registry.register(registry_name, kind, entry)
    if registry_name == "environment":
        registration.register_environment(kind)
    return entry


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        from mores.core.errors import did_you_mean

        raise AttributeError(f"mores has no {name!r}{did_you_mean(name, [*_EXPORTS, 'register'])}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
