"""Plugins: Python files named by the user, which register the user's classes."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from mores.core.errors import UserError, did_you_mean

MODULE_PREFIX = "mores_loaded_"  # of the module names of plugins


def load_plugins(files: Sequence[str | Path]) -> None:
    """Import the named Python files, each once. No other user code is imported.

    A file registers its classes with `mores.register`.

    Raises:
        UserError: a file does not exist or raises an exception; with file, line and reason.
    """
    by_name: dict[str, Path] = {}
    for file in map(Path, files):
        name = _module_name(file)
        other = by_name.setdefault(name, file)
        if other.resolve() != file.resolve():
            message = f"--load {file}: has the same name as {other}: rename one of the files"
            raise UserError(message, code="duplicate", path=str(file))
        if file.suffix != ".py" or not file.is_file():
            near = did_you_mean(str(file), map(str, file.parent.glob("*.py")))
            raise UserError(
                f"--load {file}: no such Python file{near}", code="unreadable", path=str(file)
            )
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ == str(file.resolve()):
            continue
        spec = importlib.util.spec_from_file_location(name, file.resolve())
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where classes resolve their annotations
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            place, code, path = _location(file, error), "failed", str(file)
            if isinstance(error, UserError):
                message, code, path = f"{place}: {error}", error.code, error.path
            else:
                message = f"{place}: {type(error).__name__}: {error}"
            raise UserError(message, code=code, path=path) from error


def _module_name(file: Path) -> str:
    return f"{MODULE_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"


def loaded_plugin_files() -> list[Path]:
    """Files imported by `load_plugins` in this process."""
    plugins = [module for name, module in sys.modules.items() if name.startswith(MODULE_PREFIX)]
    return [Path(module.__file__) for module in plugins if module.__file__]


def _location(file: Path, error: BaseException) -> str:
    """The file with the last line of the plugin in the traceback of an error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file.resolve())]
    if not lines and isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f"{file}:{lines[-1]}" if lines and lines[-1] else str(file)
