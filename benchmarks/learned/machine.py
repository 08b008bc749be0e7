"""Clocks, and how fast the machine is: rates to read absolute figures by."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import torch

COPIED = 2**24  # numbers, beyond caches
SQUARE = 1024


class Clock:
    """Seconds spent between `start` and `stop`, of this process's processors and of the day.

    On an accelerator the day's seconds count, after everything asked for has been done.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.processor = self.wall = 0.0
        self._began: tuple[float, float] | None = None

    def start(self) -> None:
        """Go on."""
        done(self.device)
        self._began = (time.process_time(), time.perf_counter())

    def stop(self) -> None:
        """Stand still, if it does not already."""
        if self._began is not None:
            done(self.device)
            self.processor += time.process_time() - self._began[0]
            self.wall += time.perf_counter() - self._began[1]
            self._began = None

    @property
    def seconds(self) -> float:
        """What counts: processor time, but on an accelerator the time of day."""
        return self.processor if self.device == "cpu" else self.wall


def done(device: str) -> None:
    """Wait until the device has done what it was asked for."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(step: Callable[[], object], times: int, device: str) -> float:
    """Seconds of one step, on average over some."""
    clock = Clock(device)
    clock.start()
    for _ in range(times):
        step()
    clock.stop()
    return clock.seconds / times


def rates(device: str, repeats: int = 5) -> dict[str, float]:
    """GB/s copied (read and written) and GFLOP/s of a product of matrices: best of some."""
    source, target = (torch.ones(COPIED, device=device) for _ in range(2))
    left, right, out = (torch.ones(SQUARE, SQUARE, device=device) for _ in range(3))
    copy, product = [], []
    for _ in range(repeats):
        copy.append(seconds(lambda: target.copy_(source), 4, device))
        product.append(seconds(lambda: torch.mm(left, right, out=out), 4, device))
    return {
        "copy_gb_s": round(2 * 4 * COPIED / min(copy) / 1e9, 1),
        "sgemm_gflop_s": round(2 * SQUARE**3 / min(product) / 1e9, 1),
    }


def described(device: str) -> dict[str, Any]:
    """What figures were measured on."""
    found: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "torch": torch.__version__,
    }
    if device != "cpu":
        found["accelerator"] = torch.cuda.get_device_name()
    return found
