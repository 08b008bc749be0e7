"""The loop law: how fast people and an assistant that learn from each other move together.

h' = h + alpha (a - h) + g and a' = a + eta (h + L g - a): people h go the share alpha of the way to
the assistant a and are pushed by g a round; the assistant learns at rate eta and looks L rounds
ahead. In the long run both move at one speed, with a constant lag: docs/explanation/loop_law.md.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Tracker(Protocol):
    """An assistant that learns at a `rate` and looks `ahead` rounds.

    The law holds for one that is `frank`: it says what it believes, at full voice.
    """

    rate: float
    ahead: float
    frank: bool


def settles(influence: float, rate: float) -> bool:
    """Whether people and assistant come to a common speed: |1 - alpha - eta| < 1."""
    return 0 < influence + rate < 2


def speed(drift: float, influence: float, rate: float, ahead: float) -> float:
    """Movement of both a round, in the units of `drift`: g eta (1 + alpha L) / (alpha + eta)."""
    return drift * rate * (1 + influence * ahead) / (influence + rate)


def lag(drift: float, influence: float, rate: float, ahead: float) -> float:
    """How far people are ahead of the assistant: g (1 - eta L) / (alpha + eta)."""
    return drift * (1 - rate * ahead) / (influence + rate)
