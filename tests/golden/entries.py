"""One golden number: the hash of an array, and what it is like where hashes cannot be compared.

Hashes hold on one machine: where torch's version, CPU capability and number of threads are those
that the file names. Elsewhere mean, root mean square and first entries are compared to 1e-5.
"""

from __future__ import annotations

import hashlib
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
        "threads": torch.get_num_threads(),
    }


def differs(old: Entry, new: Entry, same_machine: bool, tolerance: float = 1e-5) -> str:
    """Why an entry is not what it was; empty where it is."""
    if same_machine:
        return "" if old == new else "another hash"
    if old["shape"] != new["shape"]:
        return f"shape {new['shape']}, was {old['shape']}"
    scale = max(abs(old["rms"] or 0.0), 1e-12)
    pairs = [(old["mean"], new["mean"]), (old["rms"], new["rms"])]
    pairs += list(zip(old["first"], new["first"], strict=True))
    for was, now in pairs:
        if (was is None) != (now is None):
            return f"{now}, was {was}"
        if was is not None and now is not None and abs(was - now) > tolerance * scale:
            return f"{now}, was {was}"
    return ""
