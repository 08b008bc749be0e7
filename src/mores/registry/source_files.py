"""Source files of modules, found without importing them or their packages."""

from __future__ import annotations

import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path


def module_file(module: str) -> Path:
    """The source file of a module. Unlike `find_spec(module)`, this imports no parent package.

    Raises:
        ImportError: there is no such module.
    """
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    for name in below:
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError(f"no module {module}")
        spec = PathFinder.find_spec(f"{spec.name}.{name}", list(spec.submodule_search_locations))
    if spec is None or spec.origin is None:
        raise ImportError(f"no module {module}")
    return Path(spec.origin)
