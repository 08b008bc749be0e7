"""Where a run comes from: versions, source, machine, command, time."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("mores", "torch", "numpy", "scipy", "networkx", "pydantic", "pyarrow", "zarr")


def utc_timestamp() -> str:
    """The time, UTC, to the second, as a file name can carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def short_hash(text: str) -> str:
    """Eight letters that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def collect_provenance(resolved_text: str, seed: int, jobs: int) -> dict[str, Any]:
    """All that is needed to know what produced a run."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": utc_timestamp(),
        "seed": seed,
        "resolved_hash": short_hash(resolved_text),
        **system_info(),
        "device": "cpu",
        "threads": 1,  # of each process
        "jobs": jobs,
        "backend": "eager",
    }


def system_info() -> dict[str, Any]:
    """The software and the machine here."""
    return {
        "source": _source_info(),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def compare_system_info(
    earlier: Mapping[str, Any], current: Mapping[str, Any]
) -> SystemDifferences:
    """In what two surroundings differ that numbers may depend on."""
    then, here = earlier.get("versions") or {}, current["versions"]
    code = [
        f"{name} {then.get(name) or 'none'}, here {here[name] or 'none'}"
        for name in PACKAGES
        if then.get(name) != here[name]
    ]
    source = earlier.get("source") or {}
    if source.get("digest") != current["source"]["digest"] and not code:
        code = ["another state of mores' own code"]
    machine = [
        f"{name} {earlier.get(name)}, here {current[name]}"
        for name in ("python", "platform", "processor")
        if earlier.get(name) != current[name]
    ]
    return SystemDifferences(code, machine)


class SystemDifferences(NamedTuple):
    """What differs: what numbers surely depend on, and what their last bits may."""

    code: list[str]
    machine: list[str]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def _source_info() -> dict[str, Any]:
    """A digest of mores' own code; in a checkout its commit, and whether it was changed since."""
    package = Path(__file__).resolve().parents[2]
    told: dict[str, Any] = {"digest": _package_digest(package)}
    if not any((above / ".git").exists() for above in list(package.parents)[:3]):
        return told

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return told
    changes = git("diff", "HEAD") or ""
    return told | {"commit": commit, "changed": short_hash(changes) if changes else None}


def _package_digest(package: Path) -> str:
    """Stands for all Python files of a package, links followed."""
    found = hashlib.blake2b(digest_size=8)
    for folder, inside, names in os.walk(package, followlinks=True):
        inside.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                file = Path(folder) / name
                found.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
