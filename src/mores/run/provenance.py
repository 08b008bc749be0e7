"""Where a run comes from: versions, source, machine, command, time."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("mores", "torch", "numpy", "scipy", "networkx", "pydantic", "pyarrow", "zarr")


def now() -> str:
    """The time, UTC, to the second, as a file name can carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def short_hash(text: str) -> str:
    """Eight letters that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def provenance(resolved: str, seed: int) -> dict[str, Any]:
    """All that is needed to know what produced a run."""
    import torch

    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": now(),
        "seed": seed,
        "resolved_hash": short_hash(resolved),
        "source": _source(),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "backend": "eager",
    }


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


def _source() -> dict[str, Any] | None:
    """Commit of the checkout that mores runs from, and whether it was changed since; else None."""
    here = Path(__file__).resolve().parent
    if not any((above / ".git").exists() for above in list(here.parents)[:4]):
        return None

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = git("diff", "HEAD") or ""
    return {"commit": commit, "changed": short_hash(changes) if changes else None}
