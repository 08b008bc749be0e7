"""Tracking lag: joint velocity and lag of people and an assistant that learn from each other.

h' = h + alpha (a - h) + g and a' = a + eta (h + L g - a): people h close the share alpha of the
distance to the assistant a and drift by g per round; a learns at rate eta and forecasts L rounds.
In the long run velocity is equal and lag constant: docs/explanation/tracking_lag.md.
"""

from __future__ import annotations


def converges(ai_influence: float, learning_rate: float) -> bool:
    """Whether people and assistant converge to one velocity: |1 - alpha - eta| < 1."""
    return 0 < ai_influence + learning_rate < 2


def velocity(
    drift: float, ai_influence: float, learning_rate: float, forecast_horizon: float
) -> float:
    """Movement of both per round, in units of `drift`: g eta (1 + alpha L) / (alpha + eta)."""
    return (
        drift
        * learning_rate
        * (1 + ai_influence * forecast_horizon)
        / (ai_influence + learning_rate)
    )


def lag(drift: float, ai_influence: float, learning_rate: float, forecast_horizon: float) -> float:
    """People's values minus the assistant's estimate: g (1 - eta L) / (alpha + eta)."""
    return drift * (1 - learning_rate * forecast_horizon) / (ai_influence + learning_rate)
