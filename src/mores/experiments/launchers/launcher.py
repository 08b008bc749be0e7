"""A launcher opens an executor, which simulates the cells of a run."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mores import registry
from mores.core.config import Config
from mores.core.errors import UserError, printable
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.scenario.strict_yaml import parse


class Launcher(Config, ABC):
    """Opens an executor of cells; its parameters are the options of `--launcher-option`.

    Attributes:
        modules: modules that must be installed.
        extra: the extra of mores that installs them; empty: none does.
    """

    modules: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    @abstractmethod
    def open(self, jobs: int | None) -> CellExecutor:
        """An executor; it acquires nothing before its first cells.

        Args:
            jobs: number of cells that are simulated at a time, at most; 0: one per CPU core (local,
                slurm with `cluster=local`), no limit (ray, slurm); `None`: the launcher's default.

        Raises:
            UserError: the parameters cannot be used here.
        """


def open_executor(
    launcher: str | Launcher, jobs: int | None = None, options: Mapping[str, Any] | None = None
) -> CellExecutor:
    """The executor of a launcher, for the argument `jobs` of `run_scenario` and others.

        with open_executor("ray", options={"num_gpus": 1}) as executor:
            mores.run_scenario(loaded, jobs=executor)

    Args:
        launcher: a launcher, or its name.
        jobs: see `Launcher.open`.
        options: parameters of a launcher that is given by name.

    Raises:
        UserError: an unknown launcher or option; a library that it needs is not installed.
    """
    if isinstance(launcher, str):
        launcher = registry.make("launcher", launcher, options or {})
    if not isinstance(launcher, Launcher):
        message = f"launcher: a launcher or its name, not {launcher!r:.60}"
        raise UserError(message, code="wrong_type", path="launcher")
    for module in launcher.modules:
        if importlib.util.find_spec(module) is None:
            extra = f": pip install 'mores[{launcher.extra}]'" if launcher.extra else ""
            raise UserError(
                f"launcher: {module} is not installed{extra}",
                code="not_installed",
                path="launcher",
            )
    return launcher.open(jobs)


def parse_options(arguments: Sequence[str]) -> dict[str, Any]:
    """Options of a command line, `NAME=VALUE` with values in the syntax of scenario files.

    Raises:
        UserError: one has another form, or is given twice.
    """
    options: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            message = f"--launcher-option {printable(argument, 60)}: must look like NAME=VALUE"
            raise UserError(message, code="invalid_value", path="launcher_option")
        if name in options:
            message = f"--launcher-option {printable(name, 60)}: it is given twice"
            raise UserError(message, code="duplicate", path="launcher_option")
        options[name] = parse(value, f"--launcher-option {printable(name, 60)}", False).document
    return options
