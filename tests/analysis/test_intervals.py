"""Estimates against scipy, statsmodels and published examples; what must not change them."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from mores.analysis import bootstrap, paired_intervals
from mores.analysis.intervals import IntervalEstimate, compare, confidence_band, estimate
from mores.analysis.replicate_statistics import (
    STATISTICS,
    Statistic,
    is_binary,
    paired_medians,
    pseudovalues,
)
from tests.refusals import check_message, refused

# Eighths, so that sums and shifts are exact; small, so that equal values are common.
EIGHTHS = st.integers(-40, 40).map(lambda i: i / 8)
SAMPLES = st.lists(EIGHTHS, min_size=2, max_size=24).map(np.array)
PAIRS = st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=2, max_size=24).map(np.array)


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def ends(found: IntervalEstimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


# --- oracles ------------------------------------------------------------------------------------


def test_mean_is_students() -> None:
    x = draw(1, 23) + 2.0
    low, high = DescrStatsW(x).tconfint_mean()
    assert ends(estimate(x)) == pytest.approx((x.mean(), low, high))
    assert estimate(x, level=0.8).low == pytest.approx(DescrStatsW(x).tconfint_mean(0.2)[0])


@pytest.mark.parametrize(("ones", "n"), [(1, 2), (1, 30), (15, 30), (29, 30)])
def test_a_share_of_yes_and_no_is_wilsons(ones: int, n: int) -> None:
    found = estimate(np.repeat([1.0, 0.0], [ones, n - ones]))
    assert ends(found)[1:] == pytest.approx(proportion_confint(ones, n, method="wilson"))
    assert found.value == pytest.approx(ones / n)
    assert 0.0 < found.low < found.value < found.high < 1.0


def test_difference_of_means_is_the_paired_t_test() -> None:
    a, b = draw(2, 2, 17)
    a += b
    theirs = scipy.stats.ttest_rel(a, b).confidence_interval()
    assert ends(compare(a, b)) == pytest.approx(((a - b).mean(), theirs.low, theirs.high))


@pytest.mark.parametrize("n", [6, 7, 9, 30, 101, 1000])
def test_median_is_between_order_statistics(n: int) -> None:
    x = draw(n, n) ** 3
    found = estimate(x, "median")
    assert found.value == np.median(x)
    rank = int((x < found.low).sum())  # so many lie below; by symmetry as many above
    assert int((x > found.high).sum()) == rank
    below = scipy.stats.binom.cdf([rank, rank + 1], n, 0.5)
    assert 1 - 2 * below[0] == pytest.approx(found.confidence)
    assert found.confidence >= 0.95 > 1 - 2 * below[1]


def test_few_replicates_do_not_bound_a_median_at_the_level() -> None:
    found = estimate(np.array([3.0, 1.0, 2.0, 9.0, 4.0]), "median")
    assert ends(found) == (3.0, 1.0, 9.0)
    assert found.confidence == pytest.approx(1 - 2 / 2**5)
    check_message(found.method)  # 93.8 %


def test_difference_of_medians_as_published() -> None:
    """Example of `ci.median.ps` in R's statpsych, by the authors of the method."""
    one = np.array([21.1, 4.9, 9.2, 12.4, 35.8, 18.1, 10.7, 22.9, 24.0, 1.2, 6.1, 8.3, 13.1, 16.2])
    other = [67.0, 28.1, 30.9, 28.6, 52.0, 40.8, 25.8, 37.4, 44.9, 10.3, 14.9, 20.2, 28.8, 40.6]
    found = compare(one, np.array(other), "median")
    assert ends(found) == pytest.approx((-17.1, -24.36019, -9.839807), abs=1e-5)
    pair = paired_medians(one, np.array(other))
    assert math.sqrt(pair.first_variance) == pytest.approx(3.379695, abs=1e-6)
    assert math.sqrt(pair.second_variance) == pytest.approx(4.968956, abs=1e-6)
    assert pair.covariance == pytest.approx(11.1957, abs=1e-4)


@pytest.mark.parametrize("statistic", ["mean", "rms", "sd"])
def test_ratio_ends_where_a_t_test_starts_to_reject(statistic: Statistic) -> None:
    """Fieller is the inversion of the t-test of `one - ratio * other`."""
    a, b = np.exp(0.4 * draw(4, 2, 25))
    a *= 1.2
    found = compare(a, b, statistic, relative=True)
    for end in (found.low, found.high):
        if statistic == "mean":
            rest = a - (1 + end) * b
        else:
            u, v = a, b
            if statistic == "sd":
                u, v = a - a.mean(), b - b.mean()
            rest = u**2 - (1 + end) ** 2 * v**2
        if statistic == "sd":  # pseudo-values: squares times n / (n - 2), around the variances
            rest = (25 * rest - (a.var(ddof=1) - (1 + end) ** 2 * b.var(ddof=1))) / 23
        _, p, _ = DescrStatsW(rest).ttest_mean()
        assert p == pytest.approx(0.05)


@pytest.mark.parametrize("about_mean", [False, True])
def test_bootstrap_is_resampling(about_mean: bool) -> None:
    """The product of counts and powers against replicates drawn one by one."""
    a, b = draw(5, 2, 11) + 0.5
    counts = bootstrap._resample_counts(11).astype(int)
    scale = math.sqrt(11 / 10) if about_mean else 1.0

    def studentised(x: np.ndarray, y: np.ndarray | None) -> tuple[float, float]:
        shift = x.mean() if about_mean else 0.0
        u = (x - shift) ** 2
        if y is None:
            return 0.5 * math.log(u.mean()), u.std() / u.mean() / 2
        v = (y - y.mean() if about_mean else y) ** 2
        apart = u / (2 * math.sqrt(u.mean())) - v / (2 * math.sqrt(v.mean()))
        return math.sqrt(u.mean()) - math.sqrt(v.mean()), apart.std()

    for other in (None, b):
        value, error = studentised(a, other)
        t = []
        for drawn in counts.T:
            which = np.repeat(np.arange(11), drawn)
            if len(set(which)) > 1:
                here = studentised(a[which], None if other is None else other[which])
                t.append((here[0] - value) / here[1])
        t = np.sort(t)
        assert len(t) == bootstrap.NUM_RESAMPLES
        low, high = value - error * t[9749], value - error * t[249]
        if other is None:
            found = bootstrap.rms_interval(a, about_mean, 0.95)
            assert found == pytest.approx((scale * math.exp(low), scale * math.exp(high)))
        else:
            found = bootstrap.rms_difference_interval(a, other, about_mean, 0.95)
            assert found == pytest.approx((scale * low, scale * high))


def test_pseudo_values_leave_out_one_replicate_at_a_time() -> None:
    x = draw(18, 9)
    without = np.array([np.delete(x, i).var(ddof=1) for i in range(9)])
    found = pseudovalues(x, "sd")
    assert found == pytest.approx(9 * x.var(ddof=1) - 8 * without)
    assert found.mean() == pytest.approx(x.var(ddof=1))


@pytest.mark.parametrize("statistic", ["rms", "sd"])
def test_difference_of_spreads_is_no_shorter_than_jackknife_t(statistic: Statistic) -> None:
    """The error of a root is that of its square, over twice the root."""
    a, b = np.exp(draw(19, 2, 40)) * np.array([[2.0], [1.0]])
    found, alone = compare(a, b, statistic), []
    for x in (a, b):
        square = pseudovalues(x, statistic)
        alone.append(square / (2.0 * math.sqrt(square.mean())))
    low, high = DescrStatsW(alone[0] - alone[1]).tconfint_mean()
    half = (high - low) / 2.0
    drawn = bootstrap.rms_difference_interval(np.sort(a), b[np.argsort(a)], statistic == "sd", 0.95)
    assert found.low == pytest.approx(min(found.value - half, drawn[0]))
    assert found.high == pytest.approx(max(found.value + half, drawn[1]))


@pytest.mark.parametrize("statistic", ["rms", "sd"])
def test_many_replicates_need_no_resampling(statistic: Statistic) -> None:
    """Where nothing is drawn anew any more, the interval is the one that drawing would give."""
    a, b = draw(6, 2, bootstrap.MAX_BOOTSTRAP_REPLICATES + 1)
    for larger, smaller in (
        (estimate(a, statistic), estimate(a[:-1], statistic)),
        (compare(a, b, statistic), compare(a[:-1], b[:-1], statistic)),
    ):
        assert "bootstrap" in smaller.method
        assert "bootstrap" not in larger.method
        assert ends(larger) == pytest.approx(ends(smaller), abs=0.004)


def test_band_is_the_estimate_of_each_column() -> None:
    rows = draw(7, 12, 3)
    for i, found in enumerate(zip(*confidence_band(rows), strict=True)):
        assert found == pytest.approx(ends(estimate(rows[:, i])))
    alone = confidence_band(rows[:1])
    assert (alone.value == rows[0]).all() and np.isnan(alone.low).all()


# --- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", STATISTICS)
def test_one_replicate_bounds_nothing(statistic: Statistic) -> None:
    for found in (
        estimate(np.array([2.0]), statistic),
        compare(np.array([2.0]), np.array([1.0]), statistic),
        compare(np.array([2.0]), 1.0, statistic, relative=True),
    ):
        assert (found.low, found.high, found.n) == (-math.inf, math.inf, 1)
        check_message(found.method)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_equal_replicates_have_no_spread(statistic: Statistic) -> None:
    value = 0.0 if statistic == "sd" else 0.1
    assert ends(estimate(np.full(7, 0.1), statistic)) == (value, value, value)
    x = draw(8, 7)
    assert ends(compare(x, x.copy(), statistic)) == (0.0, 0.0, 0.0)
    assert ends(compare(x, x.copy(), statistic, relative=True)) == (0.0, 0.0, 0.0)


def test_an_arm_without_spread_leaves_that_of_the_other() -> None:
    x = draw(9, 40)
    still = np.full(40, 3.0)
    assert ends(compare(x, still)) == pytest.approx(ends(compare(x, 3.0)))
    found = compare(x, still, "sd")
    assert found.low < x.std(ddof=1) < found.high < 2.0
    assert found.low > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_left_out(bad: float) -> None:
    x, y = draw(10, 2, 9)
    x[2] = y[5] = bad
    for found, count in ((estimate(x), 1), (compare(x, y, "sd"), 2), (compare(x, 1.0), 1)):
        assert all(math.isnan(end) for end in ends(found))
        assert str(count) in found.method
        check_message(found.method)


def test_relative_to_zero_is_no_figure() -> None:
    x = draw(11, 9)
    assert math.isnan(compare(x, 0.0, relative=True).value)
    assert math.isnan(compare(x, np.zeros(9), "rms", relative=True).value)


def test_a_reference_that_may_be_zero_bounds_no_ratio() -> None:
    x, y = draw(12, 2, 30)
    assert compare(x, y, relative=True).high == math.inf
    assert compare(x, y, relative=True).low == -math.inf
    assert compare(x, y, "rms", relative=True).high < math.inf


def test_a_prediction_is_exact() -> None:
    x = draw(13, 20) + 5.0
    alone = estimate(x, "rms")
    found = compare(x, -4.0, "rms", relative=True)
    assert found.value == pytest.approx((alone.value + 4.0) / -4.0)
    assert found.low == pytest.approx((alone.high + 4.0) / -4.0)
    assert compare(x, 4.0, "rms").high == pytest.approx(alone.high - 4.0)


@pytest.mark.parametrize("statistic", ["rms", "sd"])
def test_few_replicates_do_not_bound_a_spread(statistic: Statistic) -> None:
    x, y = draw(14, 2, paired_intervals.MIN_REPLICATES_FOR_SPREAD - 1)
    assert ends(estimate(x, statistic))[1:] == (0.0, math.inf)
    assert ends(compare(x, y, statistic))[1:] == (-math.inf, math.inf)
    assert ends(compare(x, y, statistic, relative=True))[1:] == (-1.0, math.inf)


def test_half_above_and_half_below_do_not_bound_a_deviation() -> None:
    """The standard error of this sd is zero, which says nothing of how far off it is."""
    assert estimate(np.array([0.0, 1.0] * 10), "sd").high == math.inf


def test_wrong_use_is_said() -> None:
    with refused("wrong_shape", "values"):
        estimate(np.array([]))
    with refused("out_of_range", "level"):
        estimate(np.ones(3), level=95.0)
    # Annotations say so too, but users' programs do not check them.
    with refused("unknown_name", "statistic"):
        inspect.unwrap(estimate)(np.ones(3), "medain")
    with refused("wrong_shape", "reference"):
        inspect.unwrap(compare)(np.ones(3), np.ones(2))
    with refused("wrong_shape", "reference"):
        inspect.unwrap(compare)(np.ones(3), np.array([]))


# --- what must not matter, and what must follow -------------------------------------------------


@given(PAIRS, st.sampled_from(STATISTICS), st.randoms())
def test_the_order_of_replicates_does_not_matter(pairs, statistic, random) -> None:
    order = list(range(len(pairs)))
    random.shuffle(order)
    (a, b), (c, d) = pairs.T, pairs[order].T
    assert repr(estimate(a, statistic)) == repr(estimate(c, statistic))
    for relative in (False, True):
        assert repr(compare(a, b, statistic, relative)) == repr(compare(c, d, statistic, relative))


@given(PAIRS, st.sampled_from(STATISTICS), st.sampled_from([1e-200, 0.3, 7.0, 1e200]))
def test_units_do_not_matter(pairs, statistic, factor) -> None:
    a, b = pairs.T
    assume(not is_binary(a))  # 0 and 1 are no amounts of anything, but no and yes
    found, scaled = estimate(a, statistic), estimate(a * factor, statistic)
    assert [end / factor for end in ends(scaled)] == pytest.approx(ends(found), rel=1e-6, abs=1e-9)
    found = compare(a, b, statistic, relative=True)
    scaled = compare(a * factor, b * factor, statistic, relative=True)
    assert ends(scaled) == pytest.approx(ends(found), rel=1e-6, abs=1e-6, nan_ok=True)


@given(SAMPLES, EIGHTHS, st.sampled_from(["mean", "median", "sd"]))
def test_a_shift_moves_the_interval(x, shift, statistic) -> None:
    assume(not is_binary(x) and not is_binary(x + shift))
    found, moved = estimate(x, statistic), estimate(x + shift, statistic)
    by = 0.0 if statistic == "sd" else shift
    assert ends(moved) == pytest.approx([end + by for end in ends(found)], rel=1e-6, abs=1e-9)
    assert ends(compare(x + shift, shift, statistic)) == pytest.approx(
        [end + by - shift for end in ends(found)], rel=1e-6, abs=1e-9
    )


@given(PAIRS, st.sampled_from(["mean", "median"]))
def test_swapping_the_arms_turns_the_interval(pairs, statistic) -> None:
    a, b = pairs.T
    value, low, high = ends(compare(a, b, statistic))
    assert ends(compare(b, a, statistic)) == pytest.approx((-value, -high, -low), abs=1e-12)


@given(PAIRS, st.sampled_from(STATISTICS), st.booleans())
def test_an_interval_holds_its_value(pairs, statistic, relative) -> None:
    a, b = pairs.T
    for found in (estimate(a, statistic), compare(a, b, statistic, relative)):
        if not math.isnan(found.low):
            assert found.low <= found.value <= found.high
        wide = estimate(a, statistic, level=0.99)
        narrow = estimate(a, statistic, level=0.9)
        assert wide.low <= narrow.low and narrow.high <= wide.high
