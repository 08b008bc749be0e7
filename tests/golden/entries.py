"""One golden number: the hash of an array, and what it is like where hashes cannot be compared.

Hashes hold on one kind of machine: where torch's version, CPU capability, the maker of the CPU and
the number of threads are those that the file names. (MKL has other kernels for CPUs of another
maker, also where their vector instructions are the same.) Elsewhere mean, root mean square and
first entries are compared to a tolerance.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

FIRST = 8


class Entry(TypedDict):
    """What is kept of an array."""

    hash: str
    shape: list[int]
    mean: float | None
    rms: float | None
    first: list[float | None]


def entry(values: Any) -> Entry:
    """The entry of a tensor, an array or a list of numbers."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().contiguous().numpy()
    array = np.ascontiguousarray(values)
    text = f"{array.dtype.str}{array.shape}".encode()
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    return Entry(
        hash=hashlib.sha256(text + array.tobytes()).hexdigest()[:24],
        shape=list(array.shape),
        mean=_plain(finite.mean()) if finite.size else None,
        rms=_plain(np.sqrt((finite**2).mean())) if finite.size else None,
        first=[_plain(number) for number in numbers.ravel()[:FIRST]],
    )


def _plain(number: float) -> float | None:
    """Seven digits; what is no finite number is null in JSON."""
    return float(f"{number:.7g}") if np.isfinite(number) else None


def machine() -> dict[str, Any]:
    """Where hashes are comparable."""
    return {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_maker": _cpu_maker(),
        "threads": torch.get_num_threads(),
    }


def _cpu_maker() -> str:
    """Such as AuthenticAMD or GenuineIntel; not on Linux: what Python knows of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")]
    return found[0] if found else platform.processor()


def differs(old: Entry, new: Entry, same_machine: bool, tolerance: float) -> str:
    """Why an entry is not what it was; empty where it is."""
    if same_machine:
        return "" if old == new else "another hash"
    if old["shape"] != new["shape"]:
        return f"shape {new['shape']}, was {old['shape']}"
    # What is smaller than 1e-7 consists of rounding errors of numbers of order one.
    scale = max(abs(old["rms"] or 0.0), 1e-2)
    pairs = [(old["mean"], new["mean"]), (old["rms"], new["rms"])]
    pairs += list(zip(old["first"], new["first"], strict=True))
    for was, now in pairs:
        if (was is None) != (now is None):
            return f"{now}, was {was}"
        if was is not None and now is not None and abs(was - now) > tolerance * scale:
            return f"{now}, was {was}"
    return ""
