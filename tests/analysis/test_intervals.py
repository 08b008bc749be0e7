"""Estimates against scipy, statsmodels and published examples, and their invariances."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import DescrStatsW

from mores.analysis import bootstrap, paired_intervals
from mores.analysis.bounded_mean import gaffke_interval, probability_above
from mores.analysis.intervals import IntervalEstimate, compare, confidence_band, estimate
from mores.analysis.paired_intervals import paired_medians, pseudovalues
from mores.analysis.replicate_statistics import STATISTICS, Statistic, is_binary
from tests.refusals import check_message, refused

# Eighths, so that sums and shifts are exact; small, so that equal values are common.
EIGHTHS = st.integers(-40, 40).map(lambda i: i / 8)
SAMPLES = st.lists(EIGHTHS, min_size=2, max_size=24).map(np.array)
PAIRS = st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=2, max_size=24).map(np.array)


def sample(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def ends(interval: IntervalEstimate) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


# --- oracles ------------------------------------------------------------------------------------


def bootstrap_t(x: np.ndarray, level: float) -> tuple[float, float]:
    """Studentized bootstrap, resample by resample, with random numbers of its own."""
    rng, t = np.random.default_rng(77), []
    for _ in range(20_000):
        resample = rng.choice(x, len(x))
        deviation, error = resample.mean() - x.mean(), resample.std()
        t.append(deviation / error if error > 0.0 else math.copysign(math.inf, deviation))
    upper, lower = np.quantile(t, [0.5 + level / 2, 0.5 - level / 2], method="nearest")
    return x.mean() - x.std() * upper, x.mean() - x.std() * lower


@pytest.mark.cut(2)
@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_interval_of_a_mean_is_the_wider_of_two(shape: str, level: float) -> None:
    x = sample(1, 23) + 2.0
    x = np.exp(x) if shape == "skewed" else x
    low, high = DescrStatsW(x).tconfint_mean(1.0 - level)
    resampled = bootstrap_t(x, level)
    expected = min(low, resampled[0]), max(high, resampled[1])
    result, error = estimate(x, level=level), float(x.std() / math.sqrt(23))
    assert ends(result)[1:] == pytest.approx(expected, abs=0.15 * error)
    assert result.low <= low + 1e-12 and high - 1e-12 <= result.high
    assert not result.undecided
    assert bool(result.warning) == (shape == "skewed")


def test_interval_of_a_mean_of_few_replicates_is_students_t() -> None:
    x = sample(1, 15) + 2.0
    low, high = DescrStatsW(x).tconfint_mean()
    result = estimate(x)
    assert ends(result) == pytest.approx((x.mean(), low, high))
    assert estimate(x, level=0.8).low == pytest.approx(DescrStatsW(x).tconfint_mean(0.2)[0])
    check_message(result.undecided)


COUNTS = [(0, 1), (0, 2), (1, 2), (0, 8), (8, 8), (1, 30), (15, 30), (29, 30), (3, 64), (64, 64)]


@pytest.mark.parametrize("level", [0.5, 0.95, 0.9999999])
@pytest.mark.parametrize(("ones", "n"), COUNTS)
def test_interval_of_a_share_is_exact(ones: int, n: int, level: float) -> None:
    """Clopper and Pearson; Gaffke's interval equals it for values at the bounds."""
    x = np.repeat([1.0, 0.0], [ones, n - ones])
    exact = scipy.stats.binomtest(ones, n).proportion_ci(level, method="exact")
    assert gaffke_interval(x, (0.0, 1.0), level) == pytest.approx((exact.low, exact.high), abs=1e-6)
    low, high = gaffke_interval(7.0 * x - 3.0, (-3.0, 4.0), level)
    assert ((low + 3.0) / 7.0, (high + 3.0) / 7.0) == pytest.approx(
        (exact.low, exact.high), abs=1e-6
    )
    if n > 1:
        for bounds in (None, (0.0, 1.0)):
            result = estimate(x, level=level, bounds=bounds)
            assert ends(result)[1:] == pytest.approx((exact.low, exact.high))
            assert result.value == ones / n
            assert bool(result.undecided) == (bounds is None and (n < 16 or ones in (0, n)))


def test_known_intervals_of_shares() -> None:
    assert estimate(np.zeros(8)).high == pytest.approx(0.369, abs=1e-3)
    assert estimate(np.zeros(64)).high == pytest.approx(0.056, abs=1e-3)
    assert estimate(np.ones(8), bounds=(0.0, 1.0)).low == pytest.approx(0.631, abs=1e-3)


@pytest.mark.parametrize("n", [2, 5, 16, 40])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_interval_of_bounded_values_is_a_quantile_of_weighted_means(n: int, level: float) -> None:
    """Against 200,000 draws of the weights: the probability beyond each end."""
    rng = np.random.default_rng(n)
    x = rng.beta(0.3, 0.6, n)
    _, low, high = ends(estimate(x, level=level, bounds=(0.0, 1.0)))
    weights = rng.dirichlet(np.ones(n + 1), 200_000)
    tail = (1.0 - level) / 2.0
    above = float((weights @ np.append(x, 1.0) > high).mean())
    below = float((weights @ np.append(x, 0.0) < low).mean())
    assert (above, below) == pytest.approx((tail, tail), abs=4.0 * math.sqrt(tail / 200_000))


def test_probability_of_a_weighted_mean_has_a_closed_form() -> None:
    """The mean of 0 and 1 with uniform weights is uniform; of more, a beta variable."""
    for q in (0.001, 0.3, 0.5, 0.99):
        assert probability_above(np.array([0.0, 1.0]), q) == pytest.approx(1.0 - q, abs=1e-7)
        of_five = probability_above(np.array([0.0, 0.0, 1.0, 1.0, 1.0]), q)
        assert of_five == pytest.approx(scipy.stats.beta.sf(q, 3, 2), abs=1e-7)
    assert probability_above(np.array([0.2, 0.4]), 0.4) == 0.0
    assert probability_above(np.array([0.2, 0.4]), 0.1) == 1.0


def test_difference_of_bounded_arms() -> None:
    """Gaffke below 16 replicates; above, it is a second interval."""
    a, b = np.random.default_rng(3).uniform(size=(2, 40))
    few = compare(a[:15], b[:15], bounds=(0.0, 1.0))
    assert ends(few)[1:] == gaffke_interval(np.sort(a[:15] - b[:15]), (-1.0, 1.0), 0.95)
    many = compare(a, b, bounds=(0.0, 1.0))
    assert ends(many) == ends(compare(a, b))
    assert many.any_shape == pytest.approx(gaffke_interval(a - b, (-1.0, 1.0), 0.95))
    shares = compare((a > 0.5) * 1.0, (b > 0.5) * 1.0)
    assert "Gaffke" in shares.method and not shares.any_shape
    one_arm = estimate(a, bounds=(0.0, 1.0))
    assert ends(one_arm)[1:] == gaffke_interval(np.sort(a), (0.0, 1.0), 0.95)
    squares = gaffke_interval(np.sort(a) ** 2, (0.0, 1.0), 0.95)
    rms = estimate(a, "rms", bounds=(-1.0, 0.5 + 0.5))
    assert ends(rms)[1:] == pytest.approx(np.sqrt(squares))


def test_bounds_that_values_exceed_are_ignored() -> None:
    x = 1.2 * np.random.default_rng(4).uniform(size=40)
    assert estimate(x, bounds=(0.0, 1.0)) == estimate(x)
    assert compare(x, x[::-1], bounds=(0.0, 1.0)) == compare(x, x[::-1])
    assert estimate(x, bounds=(-1e308, 1e308)) == estimate(x)
    rounded = np.array([1.0 + 1e-7, 0.5, 0.7])
    assert "Gaffke" in estimate(rounded, bounds=(0.0, 1.0)).method


@pytest.mark.parametrize("statistic", ["mean", "rms", "sd"])
def test_levels_beyond_the_number_of_resamples_have_no_ends(statistic: Statistic) -> None:
    result = estimate(sample(3, 30), statistic, level=1.0 - 1e-6)
    assert (result.low, result.high) == (0.0 if statistic != "mean" else -math.inf, math.inf)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_largest_numbers(statistic: Statistic) -> None:
    x = 1.7e308 * np.linspace(-1.0, 1.0, 20)
    result = estimate(x, statistic)
    assert result.low <= result.value <= result.high
    difference = compare(x, -np.roll(x, 1), statistic)
    assert difference.low <= difference.value <= difference.high
    small = estimate(x * 1e-320 * 1e-300, statistic)
    assert small.low <= small.value <= small.high


def test_interval_of_a_difference_of_few_means_is_the_paired_t_test() -> None:
    a, b = sample(2, 2, 15)
    a += b
    expected = scipy.stats.ttest_rel(a, b).confidence_interval()
    assert ends(compare(a, b)) == pytest.approx(((a - b).mean(), expected.low, expected.high))
    c, d = sample(2, 2, 30)
    assert ends(compare(c, d)) == pytest.approx(ends(estimate(c - d)))


@pytest.mark.parametrize("n", [6, 7, 9, 30, 101, 1000])
def test_interval_of_a_median_is_order_statistics(n: int) -> None:
    x = sample(n, n) ** 3
    result = estimate(x, "median")
    assert result.value == np.median(x)
    rank = int((x < result.low).sum())  # number of values below; the same number above
    assert int((x > result.high).sum()) == rank
    below = scipy.stats.binom.cdf([rank, rank + 1], n, 0.5)
    assert 1 - 2 * below[0] == pytest.approx(result.confidence)
    assert result.confidence >= 0.95 > 1 - 2 * below[1]


def test_confidence_of_a_median_of_few_replicates() -> None:
    result = estimate(np.array([3.0, 1.0, 2.0, 9.0, 4.0]), "median")
    assert ends(result) == (3.0, 1.0, 9.0)
    assert result.confidence == pytest.approx(1 - 2 / 2**5)
    check_message(result.method)  # 93.8 %


def test_difference_of_medians_as_published() -> None:
    """Example of `ci.median.ps` in R's statpsych, by the authors of the method."""
    one = np.array([21.1, 4.9, 9.2, 12.4, 35.8, 18.1, 10.7, 22.9, 24.0, 1.2, 6.1, 8.3, 13.1, 16.2])
    other = [67.0, 28.1, 30.9, 28.6, 52.0, 40.8, 25.8, 37.4, 44.9, 10.3, 14.9, 20.2, 28.8, 40.6]
    result = compare(one, np.array(other), "median")
    assert ends(result) == pytest.approx((-17.1, -24.36019, -9.839807), abs=1e-5)
    pair = paired_medians(one, np.array(other))
    errors = np.sqrt(np.diag(pair.covariance))
    assert errors == pytest.approx([3.379695, 4.968956], abs=1e-6)
    assert pair.covariance[0, 1] == pytest.approx(11.1957, abs=1e-4)


@pytest.mark.parametrize("statistic", ["mean", "rms", "sd"])
def test_fieller_interval_inverts_a_t_test(statistic: Statistic) -> None:
    """The t-test of `a - ratio * b` rejects outside the interval."""
    a, b = np.exp(0.4 * sample(4, 2, 25))
    a *= 1.2
    result = compare(a, b, statistic, relative=True)
    for end in (result.low, result.high):
        if statistic == "mean":
            residual = a - (1 + end) * b
        else:
            u, v = a, b
            if statistic == "sd":
                u, v = a - a.mean(), b - b.mean()
            residual = u**2 - (1 + end) ** 2 * v**2
        if statistic == "sd":  # pseudovalues: squares times n / (n - 2), around the variances
            residual = (25 * residual - (a.var(ddof=1) - (1 + end) ** 2 * b.var(ddof=1))) / 23
        _, p, _ = DescrStatsW(residual).ttest_mean()
        assert p == pytest.approx(0.05)


@pytest.mark.parametrize("centered", [False, True])
def test_bootstrap_is_resampling(centered: bool) -> None:
    """The product of counts and powers equals resampling one by one."""
    a, b = sample(5, 2, 11) + 0.5
    counts = bootstrap._resample_counts(11).astype(int)
    scale = math.sqrt(11 / 10) if centered else 1.0

    def statistic_of(x: np.ndarray, y: np.ndarray | None) -> tuple[float, float]:
        shift = x.mean() if centered else 0.0
        u = (x - shift) ** 2
        if y is None:
            return 0.5 * math.log(u.mean()), u.std() / u.mean() / 2
        v = (y - y.mean() if centered else y) ** 2
        influence = u / (2 * math.sqrt(u.mean())) - v / (2 * math.sqrt(v.mean()))
        return math.sqrt(u.mean()) - math.sqrt(v.mean()), influence.std()

    for second in (None, b):
        value, error = statistic_of(a, second)
        t = []
        for resample in counts.T:
            indices = np.repeat(np.arange(11), resample)
            if len(set(indices)) > 1:
                statistic = statistic_of(a[indices], None if second is None else second[indices])
                t.append((statistic[0] - value) / statistic[1])
        t = np.sort(t)
        assert len(t) == bootstrap.NUM_RESAMPLES
        low, high = value - error * t[9749], value - error * t[249]
        if second is None:
            result = bootstrap.rms_interval(a, centered, 0.95)
            assert result == pytest.approx((scale * math.exp(low), scale * math.exp(high)))
        else:
            result = bootstrap.rms_difference_interval(a, second, centered, 0.95)
            assert result == pytest.approx((scale * low, scale * high))


def test_pseudovalues_are_the_jackknifes() -> None:
    x = sample(18, 9)
    leave_one_out = np.array([np.delete(x, i).var(ddof=1) for i in range(9)])
    result = pseudovalues(x, "sd")
    assert result == pytest.approx(9 * x.var(ddof=1) - 8 * leave_one_out)
    assert result.mean() == pytest.approx(x.var(ddof=1))


@pytest.mark.parametrize("statistic", ["rms", "sd"])
def test_interval_of_a_difference_is_no_shorter_than_jackknife_t(statistic: Statistic) -> None:
    """The error of a root is the error of its square over twice the root."""
    a, b = np.exp(sample(19, 2, 40)) * np.array([[2.0], [1.0]])
    result, influences = compare(a, b, statistic), []
    for x in (a, b):
        squares = pseudovalues(x, statistic)
        influences.append(squares / (2.0 * math.sqrt(squares.mean())))
    low, high = DescrStatsW(influences[0] - influences[1]).tconfint_mean()
    margin, order = (high - low) / 2.0, np.argsort(a)
    bounds = bootstrap.rms_difference_interval(a[order], b[order], statistic == "sd", 0.95)
    assert result.low == pytest.approx(min(result.value - margin, bounds[0]))
    assert result.high == pytest.approx(max(result.value + margin, bounds[1]))


@pytest.mark.parametrize("statistic", ["rms", "sd"])
def test_many_replicates_need_no_resampling(statistic: Statistic) -> None:
    """The normal interval for many replicates agrees with the bootstrap's."""
    a, b = sample(6, 2, bootstrap.MAX_BOOTSTRAP_REPLICATES + 1)
    for larger, smaller in (
        (estimate(a, statistic), estimate(a[:-1], statistic)),
        (compare(a, b, statistic), compare(a[:-1], b[:-1], statistic)),
    ):
        assert "bootstrap" in smaller.method
        assert "bootstrap" not in larger.method
        assert ends(larger) == pytest.approx(ends(smaller), abs=0.004)


def test_confidence_band_is_the_estimate_of_each_column() -> None:
    values = sample(7, 12, 3)
    for i, result in enumerate(zip(*confidence_band(values), strict=True)):  # Student's t
        assert result == pytest.approx(ends(estimate(values[:, i])))
    single = confidence_band(values[:1])
    assert (single.value == values[0]).all() and np.isnan(single.low).all()


# --- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", STATISTICS)
def test_one_replicate_has_an_unbounded_interval(statistic: Statistic) -> None:
    for result in (
        estimate(np.array([2.0]), statistic),
        compare(np.array([2.0]), np.array([1.0]), statistic),
        compare(np.array([2.0]), 1.0, statistic, relative=True),
    ):
        assert (result.low, result.high, result.n) == (-math.inf, math.inf, 1)
        check_message(result.method)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_equal_replicates_support_no_verdict(statistic: Statistic) -> None:
    """Except of medians, of bounded means, and of replicates without random numbers."""
    value, x = 0.0 if statistic == "sd" else 0.1, sample(8, 20)
    equal = estimate(np.full(20, 0.1), statistic)
    assert ends(equal) == (value, value, value)
    assert bool(equal.undecided) == (statistic != "median")
    for relative in (False, True):
        difference = compare(x, x.copy(), statistic, relative)
        assert ends(difference) == (0.0, 0.0, 0.0)
        check_message(difference.undecided)
    certain = estimate(np.full(2, 0.1), statistic, deterministic=True)
    assert ends(certain) == (value, value, value) and not certain.undecided
    drawn = estimate(x, statistic, deterministic=True)  # not equal: something was drawn
    assert drawn.low < drawn.high
    bounded = estimate(np.full(20, 0.1), bounds=(0.0, 1.0))
    assert bounded.low < 0.1 < bounded.high < 0.3 and not bounded.undecided


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("statistic", ["mean", "rms", "sd"])
def test_differences_that_are_rounding_are_no_spread(statistic: Statistic, relative: bool) -> None:
    b = np.random.default_rng(5).uniform(1.0, 2.0, 20)
    a = 0.3 * b if relative else b + 0.1
    if relative or statistic == "mean":
        check_message(compare(a, b, statistic, relative).undecided)


def test_constant_reference_arm() -> None:
    x = sample(9, 40)
    constant = np.full(40, 3.0)
    assert ends(compare(x, constant)) == pytest.approx(ends(compare(x, 3.0)))
    result = compare(x, constant, "sd")
    assert result.low < x.std(ddof=1) < result.high < 2.0
    assert result.low > 0.5


@pytest.mark.parametrize("non_finite", [np.nan, np.inf])
def test_non_finite_values_are_not_dropped(non_finite: float) -> None:
    x, y = sample(10, 2, 9)
    x[2] = y[5] = non_finite
    for result, count in ((estimate(x), 1), (compare(x, y, "sd"), 2), (compare(x, 1.0), 1)):
        assert all(math.isnan(end) for end in ends(result))
        assert str(count) in result.method
        check_message(result.method)


def test_relative_to_zero_is_nan() -> None:
    x = sample(11, 9)
    assert math.isnan(compare(x, 0.0, relative=True).value)
    assert math.isnan(compare(x, np.zeros(9), "rms", relative=True).value)


def test_references_near_zero_do_not_bound_a_ratio() -> None:
    x, y = sample(12, 2, 30)
    assert compare(x, y, relative=True).high == math.inf
    assert compare(x, y, relative=True).low == -math.inf
    assert compare(x, y, "rms", relative=True).high < math.inf


def test_constant_reference_is_exact() -> None:
    x = sample(13, 20) + 5.0
    interval = estimate(x, "rms")
    result = compare(x, -4.0, "rms", relative=True)
    assert result.value == pytest.approx((interval.value + 4.0) / -4.0)
    assert result.low == pytest.approx((interval.high + 4.0) / -4.0)
    assert compare(x, 4.0, "rms").high == pytest.approx(interval.high - 4.0)


@pytest.mark.parametrize("statistic", ["rms", "sd"])
def test_few_replicates_do_not_bound_an_rms_or_sd(statistic: Statistic) -> None:
    x, y = sample(14, 2, paired_intervals.MIN_REPLICATES_FOR_SPREAD - 1)
    assert ends(estimate(x, statistic))[1:] == (0.0, math.inf)
    assert ends(compare(x, y, statistic))[1:] == (-math.inf, math.inf)
    assert ends(compare(x, y, statistic, relative=True))[1:] == (-1.0, math.inf)


def test_two_values_in_equal_numbers_do_not_bound_an_sd() -> None:
    """The first-order standard error of this sd is zero."""
    assert estimate(np.array([0.0, 1.0] * 10), "sd").high == math.inf


def test_invalid_arguments() -> None:
    with refused("wrong_shape", "values"):
        estimate(np.array([]))
    with refused("out_of_range", "level"):
        estimate(np.ones(3), level=95.0)
    # The annotations forbid these arguments, too, but callers may not check types.
    with refused("unknown_name", "statistic"):
        inspect.unwrap(estimate)(np.ones(3), "medain")
    with refused("wrong_shape", "reference"):
        inspect.unwrap(compare)(np.ones(3), np.ones(2))
    with refused("wrong_shape", "reference"):
        inspect.unwrap(compare)(np.ones(3), np.array([]))


# --- invariances and properties -----------------------------------------------------------------


@given(PAIRS, st.sampled_from(STATISTICS), st.randoms())
def test_estimates_are_independent_of_the_replicates_order(pairs, statistic, random) -> None:
    order = list(range(len(pairs)))
    random.shuffle(order)
    (a, b), (c, d) = pairs.T, pairs[order].T
    assert repr(estimate(a, statistic)) == repr(estimate(c, statistic))
    for relative in (False, True):
        assert repr(compare(a, b, statistic, relative)) == repr(compare(c, d, statistic, relative))


@given(PAIRS, st.sampled_from(STATISTICS), st.sampled_from([1e-200, 0.3, 7.0, 1e200]))
def test_estimates_scale_with_the_unit(pairs, statistic, factor) -> None:
    a, b = pairs.T
    assume(not is_binary(a))  # 0 and 1 count as a binary outcome
    result, scaled = estimate(a, statistic), estimate(a * factor, statistic)
    assert [end / factor for end in ends(scaled)] == pytest.approx(ends(result), rel=1e-6, abs=1e-9)
    result = compare(a, b, statistic, relative=True)
    scaled = compare(a * factor, b * factor, statistic, relative=True)
    assert ends(scaled) == pytest.approx(ends(result), rel=1e-6, abs=1e-6, nan_ok=True)


@given(SAMPLES, EIGHTHS, st.sampled_from(["mean", "median", "sd"]))
def test_a_shift_moves_the_interval(x, shift, statistic) -> None:
    assume(not is_binary(x) and not is_binary(x + shift))
    result, moved = estimate(x, statistic), estimate(x + shift, statistic)
    offset = 0.0 if statistic == "sd" else shift
    assert ends(moved) == pytest.approx([end + offset for end in ends(result)], rel=1e-6, abs=1e-9)
    assert ends(compare(x + shift, shift, statistic)) == pytest.approx(
        [end + offset - shift for end in ends(result)], rel=1e-6, abs=1e-9
    )


@given(PAIRS, st.sampled_from(["mean", "median"]))
def test_swapping_the_arms_negates_the_interval(pairs, statistic) -> None:
    a, b = pairs.T
    value, low, high = ends(compare(a, b, statistic))
    assert ends(compare(b, a, statistic)) == pytest.approx((-value, -high, -low), abs=1e-8)


@given(PAIRS, st.sampled_from(STATISTICS), st.booleans())
def test_intervals_contain_their_value(pairs, statistic, relative) -> None:
    a, b = pairs.T
    for result in (estimate(a, statistic), compare(a, b, statistic, relative)):
        if not math.isnan(result.low):
            assert result.low <= result.value <= result.high
        wide = estimate(a, statistic, level=0.99)
        narrow = estimate(a, statistic, level=0.9)
        assert wide.low <= narrow.low and narrow.high <= wide.high
