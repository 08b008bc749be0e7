"""Plugins: Python files named by the user, which register the user's classes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError, did_you_mean

MODULE_PREFIX = "mores_loaded_"  # of the module names of plugins
_loaded_contents: set[tuple[str, str]] = set()  # names and digests


def load_plugins(files: Sequence[Any]) -> None:
    """Run the named Python files (paths), each once. Other user code is not imported by itself.

    A file registers its classes with `mores.register`. It may import its neighbors: its folder is
    added to the end of `sys.path`, after installed packages. Files of one name are
    different files if their paths differ.

    Raises:
        UserError: a file does not exist or raises an exception; with file, line and reason.
    """
    for file in map(_as_path, files):
        if file.suffix != ".py" or not file.is_file():
            near = did_you_mean(str(file), map(str, file.parent.glob("*.py")))
            raise UserError(
                f"--load {file}: no such Python file{near}", code="unreadable", path=str(file)
            )
        content = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
        if file.resolve() in loaded_plugin_files() or (file.name, content) in _loaded_contents:
            continue  # the second: a file that was moved
        name = _module_name(file)
        spec = importlib.util.spec_from_file_location(name, file.resolve())
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        if (folder := str(file.resolve().parent)) not in sys.path:
            sys.path.append(folder)
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
        _loaded_contents.add((file.name, content))


def _as_path(file: Any) -> Path:
    if isinstance(file, Path):
        return file
    from mores.core.arguments import check_path  # loads torch

    return Path(file) if isinstance(file, str) else check_path("plugin file", file)


def _module_name(file: Path) -> str:
    """Name of the module of a file; that of the path is added to a name that is taken."""
    name = f"{MODULE_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"
    if name not in sys.modules:
        return name
    return f"{name}_{hashlib.blake2b(os.fsencode(file.resolve()), digest_size=4).hexdigest()}"


def loaded_plugin_files() -> list[Path]:
    """Files run by `load_plugins` in this process, in order."""
    plugins = [module for name, module in sys.modules.items() if name.startswith(MODULE_PREFIX)]
    return [Path(module.__file__) for module in plugins if module.__file__]


def _location(file: Path, error: BaseException) -> str:
    """The file with the last line of the plugin in the traceback of an error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file.resolve())]
    if not lines and isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f"{file}:{lines[-1]}" if lines and lines[-1] else str(file)
