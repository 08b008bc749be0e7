"""Every environment as PettingZoo has its own: `from mores.clients.zoo import coevolution_v0`.

Each has `parallel_env(**kwargs)`, `env(**kwargs)` (the parallel form, turned into an AEC
environment by PettingZoo), `aec_env(**kwargs)` (the native one: only who acts is asked) and
`raw_env`, which is `env`. For the arguments see `mores.Parallel`.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from mores.clients.pettingzoo import AEC, Parallel
from mores.core.errors import did_you_mean
from mores.registry import ENVIRONMENTS

VERSION = "_v0"


class Kind:
    """One kind of environment, in the form of PettingZoo's modules."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def parallel_env(self, **kwargs: Any) -> Parallel:
        """All outside seats act at once."""
        return Parallel(self.kind, **kwargs)

    def env(self, **kwargs: Any) -> AECEnv[str, Any, Any]:
        """The parallel form, one agent after the other."""
        return parallel_to_aec(self.parallel_env(**kwargs))

    raw_env = env

    def aec_env(self, **kwargs: Any) -> AEC:
        """The native form: only agents that act in a phase are asked in it."""
        return AEC(self.kind, **kwargs)

    def __repr__(self) -> str:
        return f"mores.clients.zoo.{self.kind}{VERSION}"


def __getattr__(name: str) -> Kind:
    kind = name.removesuffix(VERSION)
    if kind == name or kind not in ENVIRONMENTS:
        known = [f"{kind}{VERSION}" for kind in ENVIRONMENTS]
        raise AttributeError(f"mores.clients.zoo has no {name!r}{did_you_mean(name, known)}")
    return Kind(kind)


def __dir__() -> list[str]:
    return sorted([*globals(), *(f"{kind}{VERSION}" for kind in ENVIRONMENTS)])
