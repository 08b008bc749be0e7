"""Clocks, and reference rates of the machine for the interpretation of absolute results."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import torch

COPY_SIZE = 2**24  # numbers, larger than caches
MATRIX_SIZE = 1024


class Clock:
    """CPU time of this process and wall time, summed between `start` and `stop`.

    On an accelerator wall time counts, after synchronization.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.processor = self.wall = 0.0
        self._started: tuple[float, float] | None = None

    def start(self) -> None:
        """Start or continue."""
        synchronize(self.device)
        self._started = (time.process_time(), time.perf_counter())

    def stop(self) -> None:
        """Stop, if running."""
        if self._started is not None:
            synchronize(self.device)
            self.processor += time.process_time() - self._started[0]
            self.wall += time.perf_counter() - self._started[1]
            self._started = None

    @property
    def seconds(self) -> float:
        """CPU time, or wall time on an accelerator."""
        return self.processor if self.device == "cpu" else self.wall


def synchronize(device: str) -> None:
    """Wait until the device has finished all submitted work."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(step: Callable[[], object], times: int, device: str) -> float:
    """Mean seconds of a step over `times` steps."""
    clock = Clock(device)
    clock.start()
    for _ in range(times):
        step()
    clock.stop()
    return clock.seconds / times


def rates(device: str, repeats: int = 5) -> dict[str, float]:
    """GB/s of a copy (read and write) and GFLOP/s of a matrix product: best of `repeats`."""
    source, target = (torch.ones(COPY_SIZE, device=device) for _ in range(2))
    left, right, out = (torch.ones(MATRIX_SIZE, MATRIX_SIZE, device=device) for _ in range(3))
    copy, product = [], []
    for _ in range(repeats):
        copy.append(seconds(lambda: target.copy_(source), 4, device))
        product.append(seconds(lambda: torch.mm(left, right, out=out), 4, device))
    return {
        "copy_gb_s": round(2 * 4 * COPY_SIZE / min(copy) / 1e9, 1),
        "sgemm_gflop_s": round(2 * MATRIX_SIZE**3 / min(product) / 1e9, 1),
    }


def description(device: str) -> dict[str, Any]:
    """Hardware and software of the measurement."""
    machine: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "torch": torch.__version__,
    }
    if device != "cpu":
        machine["accelerator"] = torch.cuda.get_device_name()
    return machine
