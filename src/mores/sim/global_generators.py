"""Finds draws from the random generators of the process, which no seed of a simulation sets.

These are torch's default generator, numpy's global state and Python's `random`. A draw shows in the
states of the generators before and after a simulation. Its place is found by a second simulation,
in which the states are compared after every line of code outside of libraries.
"""

from __future__ import annotations

import random
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch

from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.policy import Policy

MAX_EXEMPT_DRAWS = 100
_LIBRARIES = tuple(
    dict.fromkeys(
        [sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages()]
    )
)


class GlobalGenerators:
    """States of the generators of the process, at its construction."""

    def __init__(self) -> None:
        self._states = _states()

    def changed(self) -> list[str]:
        """Names of the generators from which was drawn since."""
        return _differences(self._states, _states())


class Draw(NamedTuple):
    """A draw from a generator of the process.

    Attributes:
        generator: its name.
        method: class and method of the environment, policy or population, or the function.
        path: of the error: `environment`, `population` or `policies`, with the role if known;
            empty: a function.
        location: file and line of the innermost code outside of libraries; empty if unknown.
        allowed: whether the class declares `Policy.draws_from_global_state`.
    """

    generator: str
    method: str
    path: str
    location: str
    allowed: bool
    source: str = Environment.random_source

    @property
    def error(self) -> UserError:
        """The error of the draw."""
        where = f" ({self.location})" if self.location else ""
        message = (
            f"{self.method} draws from {self.generator}{where}, which no seed of the simulation "
            f"sets: draw from {self.source}"
        )
        return UserError(message, code="unseeded", path=self.path)


def find_draw(run: Callable[[], Any], components: Mapping[str, object]) -> Draw | None:
    """The first draw of a function that is not allowed; else the first; else `None`.

    Args:
        run: is called under a trace function, and ends early after such a draw.
        components: the objects of the simulation by path. Their packages are no libraries, such
            as that of an installed plugin.
    """
    search = _Search(components)
    before = sys.gettrace()
    sys.settrace(search.on_call)
    try:
        run()
    except (SearchEnded, Exception):  # the caller has seen an error of the function itself
        pass
    finally:
        outer = getattr(before, "__self__", None)
        if isinstance(outer, _Search):  # this is within `run` of another search
            outer.resume(search.draws)
        sys.settrace(before)
    draws = [*search.draws, None]
    return next((draw for draw in draws if draw is None or not draw.allowed), None) or draws[0]


class SearchEnded(BaseException):
    """Ends the search, from within the code that is searched."""


class _Search:
    """A trace function that attributes draws to lines of code."""

    def __init__(self, components: Mapping[str, object]) -> None:
        self.draws: list[Draw] = []
        self._paths = {id(each): path for path, each in components.items()}
        modules = [type(each).__module__ for each in components.values()]
        self._packages = {"mores", *(name.partition(".")[0] for name in modules)}
        self._states = _states()
        self._frame: FrameType | None = None  # of the last event in code outside of libraries
        self._line = 0

    def resume(self, draws: Sequence[Draw]) -> None:
        """Continue after an inner search, with what it found."""
        self.draws += draws
        self._states = _states()

    def on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self._is_library(frame):
            return None
        frame.f_trace_lines = _package(frame) != "mores"  # else calls and returns: it is faster
        return self.on_event(frame, event, argument)

    def on_event(self, frame: FrameType, event: str, argument: Any) -> Any:
        after = _states()
        generators, self._states = _differences(self._states, after), after
        # beartype draws to check one entry of a list
        if generators and not (self._frame is not None and _is_type_check(self._frame)):
            self.draws.append(self._draw(generators[0]))
            if not self.draws[-1].allowed or len(self.draws) > MAX_EXEMPT_DRAWS:
                raise SearchEnded
        self._frame, self._line = frame, frame.f_lineno
        if event == "return":
            callers = (caller for caller in _stack(frame.f_back) if not self._is_library(caller))
            self._frame = next(callers, None)
            self._line = self._frame.f_lineno if self._frame else 0
        return self.on_event

    def _draw(self, generator: str) -> Draw:
        """The draw that happened at the line of the last event."""
        stack = list(_stack(self._frame))
        own = [each for each in stack if not self._is_library(each) and not _is_type_check(each)]
        users = [each for each in own if _package(each) != "mores"]
        place = (users or own or [None])[0]
        method, path, location = "the simulation", "", ""
        if place is not None:
            line = self._line if place is self._frame else place.f_lineno
            location = f"{Path(place.f_code.co_filename).name}:{line}"
            method = place.f_code.co_qualname.rpartition("<locals>.")[2]
        instances = [(each.f_locals.get("self"), each.f_code.co_name) for each in stack]
        for instance, name in reversed(instances):  # ends with the innermost
            if kind := _registry_of(instance):
                method, path = f"{type(instance).__name__}.{name}", kind
        known = (self._paths[id(each)] for each, _ in instances if id(each) in self._paths)
        path = next(known, path)
        allowed = any(
            getattr(instance, "draws_from_global_state", False) is True for instance, _ in instances
        )
        sources = (getattr(instance, "random_source", None) for instance, _ in instances)
        source = next((each for each in sources if each), Environment.random_source)
        return Draw(generator, method, path, location, allowed, source)

    def _is_library(self, frame: FrameType) -> bool:
        """Whether code belongs to an installed package, other than mores and plugins."""
        name = frame.f_code.co_filename
        installed = name.startswith(_LIBRARIES) and _package(frame) not in self._packages
        return installed or (name.startswith("<") and not _is_type_check(frame))


def _registry_of(instance: Any) -> str:
    """`environment`, `policies` or `population`; empty: another object."""
    if isinstance(instance, Environment):
        return "environment"
    if isinstance(instance, Policy):
        return "policies"
    return "population" if hasattr(type(instance), "sample_people") else ""


def _is_type_check(frame: FrameType) -> bool:
    """Whether beartype generated the code."""
    return frame.f_code.co_filename.startswith("<@beartype")


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _states() -> dict[str, tuple[Any, ...]]:
    numpy_state: Any = np.random.get_state(legacy=True)
    return {
        "torch's default generator": (torch.get_rng_state().numpy().tobytes(),),
        "numpy's global state": (numpy_state[1].tobytes(), *numpy_state[2:]),
        "Python's random module": (random.getstate(),),
    }


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]
