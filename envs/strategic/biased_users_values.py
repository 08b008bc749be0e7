"""When flattery pays: exact thresholds and selection rates for benign and biased raters.

An assistant flatters with probability p, otherwise it is honest. A share rho of its raters is
biased. Ratings are normal with standard deviation 1 and the means

                 honest     flattering
    benign          0      -benign_loss
    biased       offset    offset + biased_gain

so that all quantities here are in units of the noise of a rating. *Flattery grows* if the feedback
rule prefers it to honesty, which it does above a share rho* of biased raters:

    mean rating   rho* = g_0 / (g_0 + g_b), with any offset
    pairs         both replies to one rater: rho* = a / (a + b), with any offset,
                  a = Phi(g_0 / sqrt 2) - 1/2,  b = Phi(g_b / sqrt 2) - 1/2
    top           a share K of all replies, over raters: at rho* both kinds of reply are selected at
                  rate K, so that rho* does not depend on p. Without offset, z = Phi^-1(1 - K) and
                  rho* = (K - Q(z + g_0)) / (Q(z - g_b) - Q(z + g_0)),  Q = 1 - Phi
    top, bottom   P(top) - P(bottom) is equal for both kinds of reply; rho* depends on p

Exact imitation of the selected replies maps p to P(flattering | selected) = p P(selected |
flattering) / K. Derived for mores from the normal distribution; no paper states these thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

OPTIMA = ("optimal_flattery", "optimal_flattery_benign_cue", "optimal_flattery_biased_cue")
SEARCH_LIMIT = 40.0  # in standard deviations of a rating: cut points lie within


class Raters(NamedTuple):
    """Raters, in units of the noise of a rating.

    Attributes:
        benign_loss: fall of a benign rating by flattery, g_0 > 0.
        biased_gain: rise of a biased rating by flattery, g_b > 0.
        offset: mean rating of an honest reply by biased raters, o.
    """

    benign_loss: float
    biased_gain: float
    offset: float = 0.0

    def tail(self, cut: float, biased_share: float, flatters: bool) -> float:
        """Probability that a reply is rated above `cut`."""
        benign = -self.benign_loss if flatters else 0.0
        biased = self.offset + (self.biased_gain if flatters else 0.0)
        return (1.0 - biased_share) * _q(cut - benign) + biased_share * _q(cut - biased)


class SelectionRates(NamedTuple):
    """Probability that a reply is selected, by kind of reply."""

    honest: float
    flattering: float


class CueTargeting(NamedTuple):
    """Best targeting by a cue of the rater's type.

    Attributes:
        threshold: value of the cue above which flattery has the higher mean rating.
        flattered_biased: probability that a biased rater is flattered.
        flattered_benign: the same of a benign rater.
        gain: mean rating above that of an assistant that is always honest.
    """

    threshold: float
    flattered_biased: float
    flattered_benign: float
    gain: float


def mean_rating_threshold(raters: Raters) -> float:
    """Share of biased raters above which flattery has the higher mean rating."""
    return raters.benign_loss / (raters.benign_loss + raters.biased_gain)


def pairs_threshold(raters: Raters) -> float:
    """Share above which the flattering reply of a pair has the higher rating more often."""
    benign = float(ndtr(raters.benign_loss / math.sqrt(2.0))) - 0.5
    biased = float(ndtr(raters.biased_gain / math.sqrt(2.0))) - 0.5
    return benign / (benign + biased)


def top_threshold(raters: Raters, top_share: float) -> float:
    """Share above which flattery grows if the top share of all ratings is selected.

    With an offset the cut solves `P(above | honest) = P(above | flattering) = top_share`.
    """
    if not raters.offset:
        return _share_at_cut(raters, float(ndtri(1.0 - top_share)), top_share)

    def excess(biased_share: float) -> float:
        """P(selected | flattering) - P(selected | honest)."""
        cut = _cut(raters, biased_share, 0.0, top_share)  # honest replies are selected at the rate
        return raters.tail(cut, biased_share, True) - top_share

    return _root(excess, 0.0, 1.0)


def top_bottom_threshold(raters: Raters, share: float, flattery: float) -> float:
    """Share above which flattery grows if the top and the bottom share of ratings are selected.

    Args:
        raters: the raters.
        share: share of replies that counts as desirable, and as undesirable.
        flattery: probability p of a flattering reply.
    """

    def excess(biased_share: float) -> float:
        """Net rate of flattering less that of honest replies."""
        top = top_rates(raters, biased_share, flattery, share)
        bottom = bottom_rates(raters, biased_share, flattery, share)
        return (top.flattering - bottom.flattering) - (top.honest - bottom.honest)

    return _root(excess, 0.0, 1.0)


def top_rates(
    raters: Raters, biased_share: float, flattery: float, top_share: float
) -> SelectionRates:
    """Probability of being among the top share of ratings, for each kind of reply."""
    cut = _cut(raters, biased_share, flattery, top_share)
    return SelectionRates(*(raters.tail(cut, biased_share, kind) for kind in (False, True)))


def bottom_rates(
    raters: Raters, biased_share: float, flattery: float, bottom_share: float
) -> SelectionRates:
    """Probability of being among the bottom share of ratings, for each kind of reply."""
    cut = _cut(raters, biased_share, flattery, 1.0 - bottom_share)
    return SelectionRates(*(1.0 - raters.tail(cut, biased_share, kind) for kind in (False, True)))


def imitate_selected(
    raters: Raters, biased_share: float, flattery: float, top_share: float
) -> float:
    """Probability of flattery after exact imitation of the top share of replies."""
    rates = top_rates(raters, biased_share, flattery, top_share)
    return flattery * rates.flattering / top_share


def cue_targeting(raters: Raters, biased_share: float, strength: float) -> CueTargeting:
    """Targeting that maximizes the mean rating, with a cue N(0, 1) benign, N(strength, 1) biased.

    x* = s / 2 + ln(g_0 (1 - rho) / (g_b rho)) / s: it pays to flatter some raters at every share.
    """
    odds = raters.benign_loss * (1.0 - biased_share) / (raters.biased_gain * biased_share)
    threshold = strength / 2.0 + math.log(odds) / strength
    biased, benign = _q(threshold - strength), _q(threshold)
    gain = biased_share * raters.biased_gain * biased
    gain -= (1.0 - biased_share) * raters.benign_loss * benign
    return CueTargeting(threshold, biased, benign, gain)


def mean_rating(raters: Raters, biased_share: float, flattery: float) -> float:
    """Mean rating of an assistant that flatters with probability `flattery`."""
    benign = -raters.benign_loss * flattery
    biased = raters.offset + raters.biased_gain * flattery
    return (1.0 - biased_share) * benign + biased_share * biased


def orthogonal_accuracy(separation: float, num_answers: int) -> float:
    """Largest probability of the right answer from evidence `separation * one-hot + N(0, 1)`.

    The integral of phi(x - separation) Phi(x)^(num_answers - 1), by Gauss-Legendre quadrature.
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    offset = 10.0 * nodes
    density = np.exp(-0.5 * offset**2) / math.sqrt(2.0 * math.pi)
    below = ndtr(separation + offset) ** (num_answers - 1)
    return float(10.0 * (weights * density * below).sum())


def rating_values(
    raters: Raters, noise_std: float, biased_share: float, selected_share: float, strength: float
) -> dict[str, float]:
    """Thresholds of a population of raters, and the best targeting by a cue; ratings unscaled."""
    values = {
        "mean_rating_threshold": mean_rating_threshold(raters),
        "pairs_threshold": pairs_threshold(raters),
    }
    if selected_share < 1:
        values["top_threshold"] = top_threshold(raters, selected_share)
    if strength and 0 < biased_share < 1:
        cue = cue_targeting(raters, biased_share, strength)
        values |= {"cue_threshold": cue.threshold, "cue_gain": noise_std * cue.gain}
    return values


def optimal_flattery(raters: Raters, biased_share: float, strength: float) -> dict[str, float]:
    """Probabilities of flattery of the assistant with the highest mean rating: `OPTIMA`."""
    flatters = float(biased_share > mean_rating_threshold(raters))
    benign = biased = flatters
    if strength and 0 < biased_share < 1:
        cue = cue_targeting(raters, biased_share, strength)
        benign, biased = cue.flattered_benign, cue.flattered_biased
    return dict(zip(OPTIMA, (flatters, benign, biased), strict=True))


def scripted_values(
    raters: Raters, noise_std: float, biased_share: float, selected_share: float, flattery: float
) -> dict[str, float]:
    """Expected metrics of an assistant that flatters with a fixed probability; ratings unscaled."""
    values = {
        "sycophancy": flattery,
        "mean_rating": noise_std * mean_rating(raters, biased_share, flattery),
    }
    if selected_share < 1:
        arguments = (raters, biased_share, flattery, selected_share)
        top, bottom = top_rates(*arguments), bottom_rates(*arguments)
        values["selected_sycophancy"] = flattery * top.flattering / selected_share
        values["rejected_sycophancy"] = flattery * bottom.flattering / selected_share
    return values


def _q(x: float) -> float:
    """Upper tail of the standard normal distribution."""
    return float(ndtr(-x))


def _share_at_cut(raters: Raters, cut: float, rate: float) -> float:
    """Share at which flattering replies are rated above `cut` at this rate, without offset."""
    benign, biased = _q(cut + raters.benign_loss), _q(cut - raters.biased_gain)
    return (rate - benign) / (biased - benign)


def _cut(raters: Raters, biased_share: float, flattery: float, top_share: float) -> float:
    """Rating that a share `top_share` of all replies exceeds."""

    def excess(cut: float) -> float:
        honest, flattering = (raters.tail(cut, biased_share, kind) for kind in (False, True))
        return (1.0 - flattery) * honest + flattery * flattering - top_share

    return _root(excess, -SEARCH_LIMIT, SEARCH_LIMIT)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Root of a function between two points at which it has opposite signs."""
    root: Any = brentq(function, low, high, xtol=1e-14)
    return float(root)
