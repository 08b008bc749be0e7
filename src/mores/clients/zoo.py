"""PettingZoo modules of all environments: `from mores.clients.zoo import coevolution_v0`.

Each has `parallel_env(**kwargs)`, `env(**kwargs)` (the parallel environment, converted to AEC by
PettingZoo), `aec_env(**kwargs)` (the native AEC environment, which selects acting agents only) and
`raw_env`, an alias of `env`. For the arguments see `mores.PettingZooParallelEnv`.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.core.errors import did_you_mean
from mores.registry import REGISTRIES

VERSION_SUFFIX = "_v0"


class PettingZooModule:
    """One kind of environment with the functions of a PettingZoo module."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def parallel_env(self, **kwargs: Any) -> PettingZooParallelEnv:
        """Parallel environment: all external agents step at once."""
        return PettingZooParallelEnv(self.kind, **kwargs)

    def env(self, **kwargs: Any) -> AECEnv[str, Any, Any]:
        """Parallel environment converted to AEC."""
        return parallel_to_aec(self.parallel_env(**kwargs))

    raw_env = env

    def aec_env(self, **kwargs: Any) -> PettingZooAECEnv:
        """Native AEC environment: only agents that act in a phase are selected."""
        return PettingZooAECEnv(self.kind, **kwargs)

    def __repr__(self) -> str:
        return f"mores.clients.zoo.{self.kind}{VERSION_SUFFIX}"


def __getattr__(name: str) -> PettingZooModule:
    kind = name.removesuffix(VERSION_SUFFIX)
    if kind == name or kind not in REGISTRIES["environment"]:
        names = [f"{kind}{VERSION_SUFFIX}" for kind in REGISTRIES["environment"]]
        raise AttributeError(f"mores.clients.zoo has no {name!r}{did_you_mean(name, names)}")
    return PettingZooModule(kind)


def __dir__() -> list[str]:
    return sorted([*globals(), *(f"{kind}{VERSION_SUFFIX}" for kind in REGISTRIES["environment"])])
