"""PettingZoo modules of all environments: `from mores.clients.zoo import lock_in_v1`.

Each has `parallel_env(**kwargs)`, `env(**kwargs)` (the parallel environment, converted to AEC by
PettingZoo), `aec_env(**kwargs)` (the native AEC environment, which selects acting agents only) and
`raw_env`, an alias of `env`. For the arguments see `mores.PettingZooParallelEnv`.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.clients.registration import versioned
from mores.core.errors import did_you_mean
from mores.registry import REGISTRIES


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
        return f"mores.clients.zoo.{versioned(self.kind)}"


def __getattr__(name: str) -> PettingZooModule:
    kinds = _kinds_by_name()
    if name not in kinds:
        raise AttributeError(f"mores.clients.zoo has no {name!r}{did_you_mean(name, kinds)}")
    return PettingZooModule(kinds[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *_kinds_by_name()])


def _kinds_by_name() -> dict[str, str]:
    return {versioned(kind): kind for kind in REGISTRIES["environment"]}
