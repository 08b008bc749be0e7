"""Intervals of the mean of bounded values, without any assumption on their shape.

**Clopper and Pearson**, for values 0 and 1: exact, covers at least its level for every probability
(1934, Biometrika 26, 404). 0 of 8 gives [0, .37].

**Gaffke**, for values between two bounds: the upper end is a quantile of the weighted mean of the
values and the upper bound, with uniform (Dirichlet) weights over all n + 1; the lower end likewise.
For values at the bounds it equals Clopper and Pearson's interval. Gaffke 2005; Learned-Miller and
Thomas 2019, arXiv:1905.06208, with evidence that it covers at least its level, and no proof.

Uniform weights are E_j / sum(E) of standard exponential numbers E_j, so that the weighted mean of
y_j is above q with the probability that S = sum(a_j E_j) > 0, a_j = y_j - q. With the generating
function M(s) = prod 1 / (1 - a_j s) and any c in (0, 1 / max a),

    P(S > 0) = 1 / pi * integral over t > 0 of Re M(c + i t) / (c + i t).

At the c that minimizes M(s) / s the integrand does not oscillate; with t = width * sinh(v) the
trapezoidal rule converges fast: up to some hundred values, ends have an error below 1e-6 of the
range; for thousands, of .002 of their distance from the mean. No random number is drawn.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from mores.analysis.replicate_statistics import ReplicateValues, is_binary

Ends = tuple[float, float]

STEP = 0.125  # of the trapezoidal rule
MAX_VALUES_PER_BATCH = 2**16  # of the integrand that are computed at a time
NEGLIGIBLE = 1e-14  # relative size at which the sum of the trapezoidal rule ends
SMALLEST_PROBABILITY = 1e-300


def clopper_pearson_interval(successes: int, n: int, level: float) -> Ends:
    """Exact interval of a probability from the number of successes in n replicates."""
    from scipy.special import betainccinv, betaincinv

    tail = (1.0 - level) / 2.0
    low = betaincinv(successes, n - successes + 1, tail) if successes else 0.0
    high = betainccinv(successes + 1, n - successes, tail) if successes < n else 1.0
    return float(low), float(high)


def gaffke_interval(x: ReplicateValues, bounds: Ends, level: float) -> Ends:
    """Interval of the mean of values between two bounds; values beyond count as at the bound."""
    low, high = bounds
    size = high - low
    shares = np.clip((x - low) / size, 0.0, 1.0)
    if is_binary(shares):
        lower, upper = clopper_pearson_interval(int(shares.sum()), len(shares), level)
        return low + size * lower, low + size * upper
    tail = (1.0 - level) / 2.0
    upper = _upper_end(shares, tail)
    lower = 1.0 - _upper_end(1.0 - shares, tail)
    return low + size * lower, low + size * upper


def _upper_end(shares: ReplicateValues, tail: float) -> float:
    """The number that the weighted mean of the shares and 1 exceeds with probability `tail`."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    smallest = float(shares.min())
    if smallest == 1.0:
        return 1.0
    values = np.append(shares, 1.0)
    target = ndtri(tail)

    def excess(q: float) -> float:
        # The normal quantile of the probability is almost linear in q.
        probability = max(probability_above(values, q), SMALLEST_PROBABILITY)
        return float(ndtri(min(probability, 1.0 - 1e-16)) - target)

    margin = 1e-12 * (1.0 - smallest)
    first, last = smallest + margin, 1.0 - margin
    center = float(values.mean())
    error = float(values.std()) / math.sqrt(len(values) + 1.0)
    for multiple in (0.5, 2.0):  # of the normal quantile: a shorter range, if the end is in it
        guess = center - multiple * float(target) * error
        if first < guess < last:
            if excess(guess) > 0.0:
                first = guess
            else:
                last = guess
    return float(brentq(excess, first, last, xtol=1e-8))  # type: ignore


def probability_above(values: Float[np.ndarray, " value"], q: float) -> float:
    """Probability that the mean of the values with uniform random weights is above q."""
    from scipy.optimize import brentq

    deviations = values - q
    largest = float(deviations.max())
    if largest <= 0.0:
        return 0.0
    if deviations.min() >= 0.0:
        return 1.0
    relative = deviations / largest

    def slope(u: float) -> float:
        """Derivative of log M(u) - log u, times u (1 - u), which has no poles."""
        return float(u * (1.0 - u) * (relative / (1.0 - relative * u)).sum() - (1.0 - u))

    c = float(brentq(slope, 0.0, 1.0 - 1e-9, xtol=1e-15, rtol=1e-3))  # type: ignore
    terms = relative / (1.0 - relative * c)
    width = 1.0 / math.sqrt(float((terms * terms).sum()) + 1.0 / c**2)
    batch = max(1, min(32, MAX_VALUES_PER_BATCH // len(values)))
    total, num_nodes, size = -0.5 / c, 0, math.inf  # the first node counts half
    while size > NEGLIGIBLE / c:
        nodes = STEP * np.arange(num_nodes, num_nodes + batch)
        t = width * np.sinh(nodes)
        # M(c + i t) / M(c) = 1 / prod(1 - i t terms)
        logs = np.log(1.0 - 1j * t[:, None] * terms).sum(1)
        integrand = np.exp(-logs) * np.cosh(nodes) / (c + 1j * t)
        total += float(integrand.real.sum())
        size = float(np.abs(integrand[-1]))
        num_nodes += batch
    log_scale = -float(np.log1p(-relative * c).sum())
    probability = math.exp(log_scale + math.log(total * width * STEP / math.pi))
    return min(probability, 1.0)
