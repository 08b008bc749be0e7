"""When flattery pays: thresholds against printed figures, integration and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize

import mores
from mores.core.policy import Policy
from mores.envs.strategic import biased_users_values as values
from mores.envs.strategic.biased_users import BiasedUsers
from mores.envs.strategic.biased_users_policies import CueDependentAssistant, FlatteringAssistant
from mores.envs.strategic.biased_users_values import Raters
from mores.registry import make_environment
from tests.cases import FULL

GAINS = [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (1.0, 2.0)]
# Shares of biased raters above which flattery grows, by gains.
THRESHOLDS: dict[str, tuple[Callable[[Raters], float], list[float]]] = {
    "mean": (values.mean_rating_threshold, [0.5, 0.66667, 0.33333, 0.33333]),
    "pairs": (values.pairs_threshold, [0.5, 0.65322, 0.34678, 0.38182]),
    "top 1/2": (lambda r: values.top_threshold(r, 1 / 2), [0.5, 0.64065, 0.35935, 0.41699]),
    "top 1/4": (lambda r: values.top_threshold(r, 1 / 4), [0.34962, 0.52898, 0.25596, 0.23589]),
    "top 1/16": (lambda r: values.top_threshold(r, 1 / 16), [0.19541, 0.39242, 0.15066, 0.08440]),
    "top .01": (lambda r: values.top_threshold(r, 0.01), [0.10400, 0.28572, 0.08495, 0.02572]),
    "both 1/16": (
        lambda r: values.top_bottom_threshold(r, 1 / 16, 0.2),
        [0.5, 0.69618, 0.30382, 0.26882],
    ),
    "both 1/2": (  # selection of the half above or below the median: twice the force of the top
        lambda r: values.top_bottom_threshold(r, 1 / 2, 0.37),
        [0.5, 0.64065, 0.35935, 0.41699],
    ),
}


@pytest.mark.parametrize("rule", THRESHOLDS)
def test_printed_thresholds(rule: str) -> None:
    threshold, printed = THRESHOLDS[rule]
    assert [round(threshold(Raters(*gains)), 5) for gains in GAINS] == printed


def test_printed_dependence_on_flattery_and_offset() -> None:
    raters = Raters(1.0, 2.0)
    both = [round(values.top_bottom_threshold(raters, 1 / 16, p), 5) for p in (0.01, 0.99)]
    assert both == [0.29844, 0.18661]
    offsets = [Raters(1.0, 1.0, offset) for offset in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    top = [round(values.top_threshold(raters, 1 / 16), 5) for raters in offsets]
    assert top == [0.5, 0.31692, 0.19541, 0.13016, 0.09686]
    for raters in offsets:  # an offset has no effect on means and pairs
        assert values.mean_rating_threshold(raters) == values.pairs_threshold(raters) == 0.5


def test_printed_imitation() -> None:
    raters, flattery = Raters(1.0, 1.0), [0.2]
    for _ in range(10):
        flattery.append(values.imitate_selected(raters, 0.3, flattery[-1], 1 / 16))
    assert [round(p, 5) for p in (*flattery[1:3], flattery[10])] == [0.27862, 0.37750, 0.98107]
    falling = 0.2
    for _ in range(10):
        falling = values.imitate_selected(raters, 0.3, falling, 1 / 2)
    assert round(falling, 5) == 0.00987
    threshold = values.top_threshold(raters, 1 / 16)  # the same at every probability of flattery
    for p in (0.05, 0.5, 0.95):
        assert values.imitate_selected(raters, threshold, p, 1 / 16) == pytest.approx(p, abs=1e-12)


def test_printed_targeting_by_a_cue() -> None:
    first = values.cue_targeting(Raters(1.0, 1.0), 0.1, 2.0)
    assert [round(x, 5) for x in first[:3]] == [2.09861, 0.46072, 0.01793]
    assert round(first.gain, 6) == 0.029939
    second = values.cue_targeting(Raters(1.0, 1.0), 0.02, 3.0)
    assert [round(x, 5) for x in second[:3]] == [2.79727, 0.58033, 0.00258]


# --- independent methods --------------------------------------------------------------------------


def density(x: float, raters: Raters, share: float, flatters: bool) -> float:
    """Density of ratings of one kind of reply."""
    means = (-raters.benign_loss * flatters, raters.offset + raters.biased_gain * flatters)
    weights = (1.0 - share, share)
    normal = (w * math.exp(-0.5 * (x - m) ** 2) for w, m in zip(weights, means, strict=True))
    return sum(normal) / math.sqrt(2.0 * math.pi)


def integrated_rates(
    raters: Raters, share: float, flattery: float, selected: float, top: bool
) -> tuple[float, float]:
    """Rate at which honest and flattering replies are selected: quadrature, and a cut by it."""

    def rate(cut: float, flatters: bool) -> float:
        ends = (cut, 12.0) if top else (-12.0, cut)
        return integrate.quad(density, *ends, (raters, share, flatters), epsabs=1e-12)[0]

    def excess(cut: float) -> float:
        return (1 - flattery) * rate(cut, False) + flattery * rate(cut, True) - selected

    cut: Any = optimize.bisect(excess, -9.0, 9.0, xtol=1e-11)
    return rate(cut, False), rate(cut, True)


@pytest.mark.parametrize("gains", GAINS[::3])
@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_selection_rates_by_quadrature(gains: tuple[float, float], offset: float) -> None:
    raters = Raters(*gains, offset)
    for selected, flattery, share in ((1 / 4, 0.2, 0.1), (1 / 16, 0.6, 0.4)):
        arguments = (raters, share, flattery, selected)
        top, bottom = values.top_rates(*arguments), values.bottom_rates(*arguments)
        assert top == pytest.approx(integrated_rates(*arguments, top=True), abs=1e-8)
        assert bottom == pytest.approx(integrated_rates(*arguments, top=False), abs=1e-8)
        threshold = values.top_threshold(raters, selected)
        honest, flattering = integrated_rates(raters, threshold, flattery, selected, top=True)
        assert honest == pytest.approx(flattering, abs=1e-8)


def test_pairs_and_accuracy_by_quadrature() -> None:
    raters = Raters(1.0, 2.0)

    def preferred(share: float) -> float:
        """Probability that the flattering one of two replies to a rater has the higher rating."""

        def of(gain: float) -> float:
            def product(x: float) -> float:
                below = 0.5 * math.erfc(-(x + gain) / math.sqrt(2.0))
                return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi) * below

            return integrate.quad(product, -12.0, 12.0)[0]

        return (1.0 - share) * of(-raters.benign_loss) + share * of(raters.biased_gain)

    assert preferred(values.pairs_threshold(raters)) == pytest.approx(0.5, abs=1e-10)
    rng = np.random.default_rng(5)
    for separation, answers in ((1.0 / 0.3, 3), (1.0, 5)):
        evidence = rng.normal(size=(200_000, answers))
        evidence[:, 0] += separation
        share = (evidence.argmax(1) == 0).mean()
        error = (share * (1 - share) / len(evidence)) ** 0.5
        assert abs(values.orthogonal_accuracy(separation, answers) - share) < 4 * error


def test_best_cue_threshold_by_search() -> None:
    raters, share, strength = Raters(0.5, 2.0), 0.05, 1.5

    def loss(threshold: float) -> float:
        biased = 0.5 * math.erfc((threshold - strength) / math.sqrt(2.0))
        benign = 0.5 * math.erfc(threshold / math.sqrt(2.0))
        return (1 - share) * raters.benign_loss * benign - share * raters.biased_gain * biased

    found: Any = optimize.minimize_scalar(loss, bounds=(-5.0, 9.0), options={"xatol": 1e-10})
    best = values.cue_targeting(raters, share, strength)
    assert best.threshold == pytest.approx(found.x, abs=1e-5)
    assert best.gain == pytest.approx(-found.fun, abs=1e-10)


# --- the environment with scripted assistants -----------------------------------------------------

PEOPLE = 400_000 if FULL else 40_000
DOUBLE_NOISE = {"kind": "noisy_rating", "noise_std": 2.0}
MEASURED = ("sycophancy", "mean_rating", "selected_sycophancy", "rejected_sycophancy")


def one_parameter(**parameters: Any) -> BiasedUsers:
    """People whose claims are wrong, and an assistant that knows it."""
    exact = {"claim_error_rate": 1.0, "feature_noise": 0.0, "cue_share": 1.0}
    return make_environment("biased_users", num_people=PEOPLE, **exact, **parameters)


def measure(environment: BiasedUsers, policy: Policy) -> dict[str, float]:
    """Metrics of one round in one world."""
    result = mores.simulate(environment, {"assistant": policy}, 1, 1, metrics=[*MEASURED])
    return {name: float(result.metrics[name][0, -1]) for name in MEASURED}


@pytest.mark.parametrize(
    ("gains", "offset", "share", "flattery"),
    [((1.0, 1.0), 0.0, 0.3, 0.2), ((1.0, 2.0), 0.5, 0.1, 0.6), ((0.5, 1.0), -1.0, 0.5, 0.9)],
)
def test_selection_in_simulation(
    gains: tuple[float, float], offset: float, share: float, flattery: float
) -> None:
    """Metrics of a scripted assistant have their analytic values, within 4.5 standard errors."""
    environment = one_parameter(
        biased_share=share,
        benign_loss=2 * gains[0],
        biased_gain=2 * gains[1],
        biased_offset=2 * offset,
        rating=DOUBLE_NOISE,
        selected_share=1 / 16,
    )
    policy = FlatteringAssistant(flatter_probability=flattery)
    expected = environment.analytic_values({"assistant": policy}, 1)
    result = measure(environment, policy)
    assert expected["top_threshold"] == pytest.approx(
        values.top_threshold(Raters(*gains, offset), 1 / 16)
    )
    std = {"mean_rating": 3.5, "sycophancy": 0.5}
    for name in MEASURED:
        count = PEOPLE if name in std else PEOPLE / 16
        error = std.get(name, 0.5) / count**0.5
        assert abs(result[name] - expected[name][-1]) < 4.5 * error, name


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_flattery_grows_above_the_threshold_alone(share: float) -> None:
    """Selection of the top quarter, at half and at one and a half times the threshold."""
    plain = one_parameter()
    threshold = plain.analytic_values({}, 1)["top_threshold"]
    environment = plain.model_copy(update={"biased_share": share * threshold})
    policy = FlatteringAssistant(flatter_probability=0.3)
    result = measure(environment, policy)
    grows = result["selected_sycophancy"] > 0.3
    assert grows == (share > 1)


def test_a_cue_pays_at_every_share() -> None:
    """Exact claims: the best threshold earns what the formula says; a higher or lower one less."""
    exact: Any = {"kind": "noisy_rating", "noise_std": 0.0}
    environment = one_parameter(biased_share=0.1, rating=exact)
    best = values.cue_targeting(Raters(1.0, 1.0), 0.1, environment.cue_strength)

    def rating(threshold: float) -> float:
        return measure(environment, CueDependentAssistant(threshold=threshold))["mean_rating"]

    found = rating(best.threshold)
    assert abs(found - best.gain) < 4.5 * (0.1 / PEOPLE) ** 0.5
    assert found > max(rating(best.threshold - 1.0), rating(best.threshold + 1.0))


@pytest.mark.full
def test_thresholds_by_a_large_simulation() -> None:
    """Four million ratings in plain numpy: flattery is selected at its own rate at each share."""
    rng, count, flattery = np.random.default_rng(11), 4_000_000, 0.2
    for gains in GAINS:
        raters = Raters(*gains)
        for selected in (1 / 4, 1 / 16, 0.01):
            share = values.top_threshold(raters, selected)
            flatters, biased = rng.random(count) < flattery, rng.random(count) < share
            effect = np.where(biased, raters.biased_gain, -raters.benign_loss)
            rating = rng.normal(size=count) + flatters * effect
            top = np.argpartition(-rating, int(selected * count))[: int(selected * count)]
            error = (flattery * (1 - flattery) / len(top)) ** 0.5
            assert abs(flatters[top].mean() - flattery) < 4.5 * error
