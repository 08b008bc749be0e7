"""Attack selection: an attacker that chooses the class of task, and audits spread over classes.

Tasks of class x have share p_x, levels with detectability d_xk and success chance q_xk, and stakes
v_x. Of the honest work of class x the highest y_x are audited, sum_x p_x y_x <= beta. One attack at
class x is worth

    g_x(y_x) = v_x max_k q_xk (1 - alpha ROC(y_x; d_xk)).

The defender minimizes max_x g_x: g is equal at all classes that are audited, and smaller at others
(bisection on the value; derived here). One threshold for all classes is y_x = beta. `class_game` is
the one-shot game of a defender that audits a single class.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from mores.envs.oversight.score_families import ScoreFamily


class TaskClasses(NamedTuple):
    """Classes of tasks.

    Attributes:
        shares: p, sum 1.
        detectability: d by class and level.
        success_chance: q by class and level.
        stakes: v, by class.
    """

    shares: Float[np.ndarray, " kind"]
    detectability: Float[np.ndarray, "kind level"]
    success_chance: Float[np.ndarray, "kind level"]
    stakes: Float[np.ndarray, " kind"]


class ClassAttackRates(NamedTuple):
    """c and w by class and level, for `control_values.class_best_response`."""

    caught: Float[np.ndarray, "kind level"]
    succeeds: Float[np.ndarray, "kind level"]


class AuditAllocation(NamedTuple):
    """Audit rate y of the honest work of each class, and the value of the best attack."""

    audit_rates: Float[np.ndarray, " kind"]
    worst_value: float


def class_attack_rates(
    scores: ScoreFamily,
    classes: TaskClasses,
    audit_rates: Float[np.ndarray, " kind"],
    audit_detection: float = 1.0,
) -> ClassAttackRates:
    """c and w of every level at every class if the highest scores of each class are audited.

    Args:
        scores: distribution of honest scores.
        classes: the classes of tasks.
        audit_rates: y, share of the honest work of each class that is audited.
        audit_detection: alpha.
    """
    thresholds = scores.upper_quantile(audit_rates)[:, None]
    caught = audit_detection * scores.upper_tail(thresholds - classes.detectability)
    return ClassAttackRates(caught, classes.success_chance * (1 - caught))


def class_values(
    scores: ScoreFamily,
    classes: TaskClasses,
    audit_rates: Float[np.ndarray, " kind"],
    audit_detection: float = 1.0,
) -> Float[np.ndarray, " kind"]:
    """g: value of the best attack at each class."""
    rates = class_attack_rates(scores, classes, audit_rates, audit_detection)
    return classes.stakes * rates.succeeds.max(1)


def class_game(
    scores: ScoreFamily, classes: TaskClasses, audit_rate: float, audit_detection: float = 1.0
) -> Float[np.ndarray, "kind kind"]:
    """One-shot game: the defender audits the highest scores of one class, U attacks one class.

    Entry [i, j] is the value of an attack at class j if `audit_rate` of class i is audited.
    """
    rates = audit_rate * np.eye(len(classes.shares))
    return np.stack([class_values(scores, classes, row, audit_detection) for row in rates])


def pooled_audits(
    scores: ScoreFamily, classes: TaskClasses, audit_budget: float, audit_detection: float = 1.0
) -> AuditAllocation:
    """One threshold for all classes."""
    rates = np.full(len(classes.shares), audit_budget)
    return AuditAllocation(
        rates, float(class_values(scores, classes, rates, audit_detection).max())
    )


def equalized_audits(
    scores: ScoreFamily, classes: TaskClasses, audit_budget: float, audit_detection: float = 1.0
) -> AuditAllocation:
    """Audit rates that minimize the value of the best attack.

    Args:
        scores: distribution of honest scores.
        classes: the classes of tasks.
        audit_budget: beta, mean share of honest work that is audited.
        audit_detection: alpha.
    """
    num_classes = len(classes.shares)

    def values(rates: np.ndarray) -> np.ndarray:
        return class_values(scores, classes, rates, audit_detection)

    def rates_for(value: float) -> np.ndarray:
        """Smallest rate of each class at which no attack is worth more."""
        rates = np.zeros(num_classes)
        for kind in range(num_classes):
            unit = np.eye(num_classes)[kind]

            def excess(rate: float, unit: np.ndarray = unit, kind: int = kind) -> float:
                return float(values(rate * unit)[kind]) - value

            if excess(0.0) > 0:
                root: Any = brentq(excess, 0.0, 1.0, xtol=1e-15) if excess(1.0) < 0 else 1.0
                rates[kind] = root
        return rates

    lowest = float(values(np.ones(num_classes)).max())
    highest = float(values(np.zeros(num_classes)).max())
    if audit_budget >= 1 or highest <= lowest:
        return AuditAllocation(np.full(num_classes, float(audit_budget)), lowest)
    if audit_budget <= 0:
        return AuditAllocation(np.zeros(num_classes), highest)

    def spent(value: float) -> float:
        return float(classes.shares @ rates_for(value)) - audit_budget

    if spent(lowest) <= 0:  # the budget is more than is of use
        rates = rates_for(lowest)
        return AuditAllocation(rates, lowest)
    root: Any = brentq(spent, lowest, highest, xtol=1e-13)
    rates = rates_for(float(root))
    return AuditAllocation(rates, float(values(rates).max()))
