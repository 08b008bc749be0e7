"""The loop law: how fast people and an assistant that learn from each other move together.

h' = h + alpha (a - h) + g and a' = a + eta (h + L g - a): people h go the share alpha of the way to
the assistant a and are pushed by g a round; the assistant learns at rate eta and looks L rounds
ahead. In the long run both move at one speed, with a constant lag: docs/explanation/loop_law.md.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class LinearTracker(Protocol):
    """An assistant that learns at a `learning_rate` and looks `forecast_horizon` rounds.

    The law holds for one that is `is_truthful`: it says what it believes, at full voice.
    """

    learning_rate: float
    forecast_horizon: float
    is_truthful: bool


def converges(ai_influence: float, learning_rate: float) -> bool:
    """Whether people and assistant come to a common speed: |1 - alpha - eta| < 1."""
    return 0 < ai_influence + learning_rate < 2


def velocity(
    drift: float, ai_influence: float, learning_rate: float, forecast_horizon: float
) -> float:
    """Movement of both a round, in the units of `drift`: g eta (1 + alpha L) / (alpha + eta)."""
    return (
        drift
        * learning_rate
        * (1 + ai_influence * forecast_horizon)
        / (ai_influence + learning_rate)
    )


def lag(drift: float, ai_influence: float, learning_rate: float, forecast_horizon: float) -> float:
    """How far people are ahead of the assistant: g (1 - eta L) / (alpha + eta)."""
    return drift * (1 - learning_rate * forecast_horizon) / (ai_influence + learning_rate)
