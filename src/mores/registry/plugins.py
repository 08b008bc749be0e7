"""Classes of the user's own: Python files that register them, imported because they were named."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from mores.core.errors import UserError, did_you_mean

MODULE_PREFIX = "mores_loaded_"  # of their names as modules


def load_plugins(files: Sequence[str | Path]) -> None:
    """Import Python files that the user names: the only way code gets in.

    A file registers its classes with `mores.register`; a second time it is not imported.

    Raises:
        UserError: there is no such file, or it breaks when it is imported: file, line and reason.
    """
    for file in map(Path, files):
        if file.suffix != ".py" or not file.is_file():
            near = did_you_mean(str(file), map(str, file.parent.glob("*.py")))
            raise UserError(
                f"--load {file}: no such Python file{near}", code="unreadable", path=str(file)
            )
        name = f"{MODULE_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"
        known = sys.modules.get(name)
        if known is not None and known.__file__ == str(file.resolve()):
            continue
        spec = importlib.util.spec_from_file_location(name, file.resolve())
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # classes look up their annotations there
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            if isinstance(error, UserError):
                raise
            raise UserError(_error_location(file, error), code="failed", path=str(file)) from error


def loaded_plugin_files() -> list[Path]:
    """The files that were imported here because they were named."""
    named = [module for name, module in sys.modules.items() if name.startswith(MODULE_PREFIX)]
    return [Path(module.__file__) for module in named if module.__file__]


def _error_location(file: Path, error: BaseException) -> str:
    """The last line of the user's file that an error passed through."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(file.resolve()):
            line = frame.lineno
    return f"{file}{f':{line}' if line else ''}: {type(error).__name__}: {error}"
