"""The lowest version that pyproject.toml declares of every required dependency, a line each.

`numpy>=2.0` is printed as `numpy==2.0`, for `pip install` into an environment of its own.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(\[[a-z-]+\])?>=([0-9.]+)")


def lowest_requirements() -> list[str]:
    """Requirements with equality in place of a lower bound.

    Raises:
        ValueError: a requirement without a lower bound, or with more than that.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = []
    for requirement in project["dependencies"]:
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement!r}: must have the form NAME>=VERSION")
        name, extra, version = match.groups()
        pinned.append(f"{name}{extra or ''}=={version}")
    return pinned


if __name__ == "__main__":
    print("\n".join(lowest_requirements()))
