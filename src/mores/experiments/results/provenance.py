"""Provenance of a run: versions, source, machine, command, time."""

from __future__ import annotations

import contextlib
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

from mores.core.errors import printable

PACKAGES = ("mores", "torch", "numpy", "scipy", "networkx", "pydantic", "pyarrow", "zarr")


def utc_timestamp() -> str:
    """Current time in UTC, to the second, in a form that is valid in file names."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def short_hash(text: str) -> str:
    """Hash of a text: eight hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def collect_provenance(resolved_text: str, seed: int, jobs: int) -> dict[str, Any]:
    """Provenance of a run that starts now; `resolved_text` is its `resolved.yaml`."""
    return {
        "command": [*_program(), *sys.argv[1:]],
        "started": utc_timestamp(),
        "seed": seed,
        "resolved_hash": short_hash(resolved_text),
        **system_info(),
        "device": "cpu",
        "threads": 1,  # of each process
        "jobs": jobs,
        "backend": "eager",
    }


def _program() -> list[str]:
    """Beginning of the command line: the script, or the module that Python runs."""
    name = Path(sys.argv[0]).name
    return ["python", "-m", "mores"] if name == "__main__.py" else [name]


def system_info() -> dict[str, Any]:
    """Software versions and machine of this process."""
    return {
        "source": _source_info(),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


@functools.cache
def code_info() -> dict[str, Any]:
    """Versions of the packages and digest of the source that cells of this process depend on."""
    return {"versions": {name: _version(name) for name in PACKAGES}, "source": _source_digest()}


def describe_other_code(code: Mapping[str, Any]) -> str:
    """How the code of a cell differs from this one, in words; empty if it is the same."""
    current = code_info()
    versions = code.get("versions")
    old = versions if isinstance(versions, dict) else {}
    return "; ".join(
        _code_differences(old, current["versions"], code.get("source") == current["source"])
    )


class SystemDifferences(NamedTuple):
    """Differences in code, which change numbers, and in the machine, which may change last bits."""

    code: list[str]
    machine: list[str]


def compare_system_info(
    earlier: Mapping[str, Any], current: Mapping[str, Any]
) -> SystemDifferences:
    """Differences between two systems that numbers may depend on."""
    source = (earlier.get("source") or {}).get("digest")
    same_source = source == current["source"]["digest"]
    code = _code_differences(earlier.get("versions") or {}, current["versions"], same_source)
    machine = [
        f"{name} {printable(earlier.get(name))}, now {current[name]}"
        for name in ("python", "platform", "processor")
        if earlier.get(name) != current[name]
    ]
    return SystemDifferences(code, machine)


def _code_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], same_source: bool
) -> list[str]:
    code = [
        f"{name} {printable(old.get(name) or 'none', 40)}, now {new[name] or 'none'}"
        for name in PACKAGES
        if old.get(name) != new[name]
    ]
    return code if code or same_source else ["other source code of mores"]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Model name of this machine's processor."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x for x in lines if x.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def _source_info() -> dict[str, Any]:
    """Digest of the package's code; in a checkout also the commit and a hash of its changes."""
    package = Path(__file__).resolve().parents[2]
    info: dict[str, Any] = {"digest": _source_digest()}
    if any((parent / ".git").exists() for parent in list(package.parents)[:3]):
        git = ["git", "-C", str(package)]
        options: Any = {"capture_output": True, "text": True, "timeout": 10, "check": True}
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            commit = subprocess.run([*git, "rev-parse", "HEAD"], **options).stdout.strip()
            changes = subprocess.run([*git, "diff", "HEAD"], **options).stdout.strip()
            info |= {"commit": commit, "changed": short_hash(changes) if changes else None}
    return info


@functools.cache
def _source_digest() -> str:
    """Digest of all Python files of this package, links followed."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.blake2b(digest_size=8)
    for folder, subfolders, names in os.walk(package, followlinks=True):
        subfolders.sort()
        for name in sorted(name for name in names if name.endswith(".py")):
            file = Path(folder) / name
            digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
