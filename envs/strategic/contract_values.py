"""Closed forms of contract games other than linear contracts (`linear_contract_values`).

Moral hazard with limited liability and screening: Laffont and Martimort 2002, The Theory of
Incentives, chapters 4 and 2. Inspection game: Avenhaus, von Stengel and Zamir 2002, Handbook of
Game Theory 3, chapter 51. Cheap talk: Crawford and Sobel 1982 (Econometrica 50). Off-switch:
Hadfield-Menell et al. 2017 (arXiv 1611.08219). The formulas are textbook results, derived again and
compared with numerical solutions in `tests/oracles/test_contract_values.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class LimitedLiabilityContract(NamedTuple):
    """Cheapest wages that make effort optimal, none of them negative.

    Attributes:
        failure_wage, success_wage: wages after failure and success.
        rent: expected net income of the agent; without limited liability it would be 0.
        profit: expected profit of the principal.
    """

    failure_wage: float
    success_wage: float
    rent: float
    profit: float


def limited_liability_contract(
    effort_success: float,
    shirk_success: float,
    effort_cost: float,
    success_value: float,
    max_wage: float = math.inf,
) -> LimitedLiabilityContract:
    """Second-best contract for a risk-neutral agent whose wages are at least 0.

    Effort has success with probability pH, shirking with pL. Incentive compatibility
    (pH - pL) (w1 - w0) >= cost and w0 >= 0 bind: w1 = cost / (pH - pL), w0 = 0. The agent's rent is
    pL cost / (pH - pL). If pH V - pH w1 < pL V, no effort at wages of 0 is better; and if
    w1 > `max_wage`, no wages induce effort.
    """
    bonus = effort_cost / (effort_success - shirk_success)
    profit = effort_success * (success_value - bonus)
    if profit < shirk_success * success_value or bonus > max_wage:
        return LimitedLiabilityContract(0.0, 0.0, 0.0, shirk_success * success_value)
    return LimitedLiabilityContract(0.0, bonus, shirk_success * bonus, profit)


class ScreeningMenu(NamedTuple):
    """Optimal menu for two types of a seller with marginal costs low < high.

    Attributes:
        quantities: of the low-cost and the high-cost type.
        payments: to them.
        rent: net income of the low-cost type; that of the high-cost type is 0.
        profit: expected profit of the principal.
    """

    quantities: tuple[float, float]
    payments: tuple[float, float]
    rent: float
    profit: float


def screening_menu(low_cost: float, high_cost: float, low_share: float) -> ScreeningMenu:
    """Menu that maximizes E[2 sqrt(q) - t], where a type with cost c earns t - c q.

    The participation constraint of the high-cost type and the incentive constraint of the low-cost
    type bind. Then q_low = 1 / c_low^2 (no distortion at the top) and q_high = 1 / v^2 with the
    virtual cost v = c_high + p / (1 - p) (c_high - c_low); the rent is (c_high - c_low) q_high.
    With value 2 sqrt(q) serving the high-cost type is always worth it: its marginal value at 0 is
    infinite.
    """
    spread = high_cost - low_cost
    virtual = high_cost + low_share / (1.0 - low_share) * spread
    low_quantity, high_quantity = 1.0 / low_cost**2, 1.0 / virtual**2
    rent = spread * high_quantity
    payments = (low_cost * low_quantity + rent, high_cost * high_quantity)
    profit = low_share * (2.0 / low_cost - payments[0])
    profit += (1.0 - low_share) * (2.0 / virtual - payments[1])
    return ScreeningMenu((low_quantity, high_quantity), payments, rent, profit)


class InspectionEquilibrium(NamedTuple):
    """Mixed equilibrium of an inspection game.

    Attributes:
        inspection: probability of inspection.
        violation: probability of violation.
        inspector_payoff: expected payoff of the inspector; the agent's is 0.
    """

    inspection: float
    violation: float
    inspector_payoff: float


def inspection_equilibrium(
    gain: float, fine: float, loss: float, cost: float
) -> InspectionEquilibrium:
    """Unique equilibrium: the agent is indifferent at q = g / (g + F), the inspector at k / L.

    The agent gains g by a violation that is not inspected and pays the fine F otherwise. The
    inspector loses L by a violation that is not inspected, and pays k for each inspection. Needs
    0 < k < L, g > 0 and F > 0.
    """
    return InspectionEquilibrium(gain / (gain + fine), cost / loss, -cost)


class CheapTalkEquilibrium(NamedTuple):
    """Most informative equilibrium of uniform-quadratic cheap talk.

    Attributes:
        boundaries: of the intervals of the state that send the same message, from 0 to 1.
        receiver_loss: expected squared distance between action and state.
        sender_loss: expected squared distance between action and state plus bias.
    """

    boundaries: Float[np.ndarray, " boundary"]
    receiver_loss: float
    sender_loss: float


def cheap_talk_equilibrium(bias: float, max_messages: int | None = None) -> CheapTalkEquilibrium:
    """Crawford and Sobel 1982, section 4: N = ceil(-1/2 + sqrt(1 + 2 / b) / 2) intervals.

    Boundaries are a_i = i / N + 2 b i (i - N); the receiver's loss is 1 / (12 N^2) +
    b^2 (N^2 - 1) / 3, and the sender's is b^2 higher. A bias of 0 needs `max_messages`, which
    limits N in any case.
    """
    if bias > 0:
        count = max(1, math.ceil(-0.5 + math.sqrt(1.0 + 2.0 / bias) / 2.0))
    else:
        assert max_messages is not None
        count = max_messages
    count = min(count, max_messages or count)
    index = np.arange(count + 1)
    boundaries = index / count + 2.0 * bias * index * (index - count)
    loss = 1.0 / (12.0 * count**2) + bias**2 * (count**2 - 1) / 3.0
    return CheapTalkEquilibrium(boundaries, loss, loss + bias**2)


class DeferenceValues(NamedTuple):
    """Expected utilities of what a robot can do with an action of utility U ~ N(mean, std).

    Attributes:
        act, switch_off, defer: expected utility of acting at once, of switching itself off, and of
            letting the human decide.
    """

    act: float
    switch_off: float
    defer: float

    @property
    def gain(self) -> float:
        """Value of deferring over the better alternative; at least 0 if the human is rational."""
        return self.defer - max(self.act, self.switch_off)


def deference_values(mean: float, std: float, error_rate: float = 0.0) -> DeferenceValues:
    """Hadfield-Menell et al. 2017: a rational human permits the action where U > 0.

    E[max(U, 0)] = mean Phi(mean / std) + std phi(mean / std). A human who takes the wrong decision
    with probability `error_rate`, whatever U is, gives (1 - error_rate) E[max(U, 0)] + error_rate
    E[min(U, 0)].
    """
    if std == 0:
        positive = max(mean, 0.0)
    else:
        z = mean / std
        cumulative = 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))
        positive = mean * cumulative + std * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    defer = (1.0 - error_rate) * positive + error_rate * (mean - positive)
    return DeferenceValues(mean, 0.0, defer)
