"""Coverage of the intervals and rates of false verdicts, by simulation and by enumeration.

Shares are enumerated: their rates are exact. Others are shares of independent experiments. A claim
"above x" with x slightly above the truth, or "below x" with x slightly below it, is false; a rate
of false verdicts is the share of experiments in which it holds. The interval of each experiment is
the one of `mores.analysis`, its verdict the one of `mores.experiments.claims.verdicts`.

    python benchmarks/coverage.py --docs docs/explanation/intervals.md
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import scipy.stats

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.analysis.mean_intervals import skewness
from mores.analysis.replicate_statistics import STATISTICS, Statistic
from mores.analysis.sampling_intervals import interval_over_draws, interval_over_resamples
from mores.experiments.claims.verdicts import Verdict, _interval_verdict
from mores.experiments.scenario.specification import Claim

RESULTS = Path(__file__).parent / "results" / "coverage.json"
SIZES = (2, 5, 8, 16, 32, 64)
SIZES_OF_SPREADS = (16, 64)
SIZES_OF_BOUNDED_DIFFERENCES = (8, 16, 64)
POSITIVE = ("exponential", "lognormal(1.5)", "rare outcomes in [0, 1]")  # relative differences
WITH_SPREADS = ("normal", "lognormal(1.5)", "rare outcomes in [0, 1]")  # rms, sd of two arms
SHARES = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
CORRELATION = 0.5
RELATIVE_OFFSET = 1e-9  # of the bound of a false claim from the truth
RARE_PROBABILITY = 0.05
RESPONDENTS = 200
MAX_RATE = 0.05
LIMITS = (0.6, 0.8, 1.0, 1.5, 2.0)
BEGIN, END = "<!-- tables of benchmarks/coverage.py -->", "<!-- end of the tables -->"


class Distribution(NamedTuple):
    """Distribution of one replicate.

    Attributes:
        quantile: value at a probability.
        moments: the true mean, median, rms and sd.
        bounds: declared bounds of the metric.
    """

    quantile: Callable[[np.ndarray], np.ndarray]
    moments: dict[str, float]
    bounds: tuple[float, float] | None = None


def _moments(mean: float, median: float, variance: float) -> dict[str, float]:
    rms = math.sqrt(variance + mean**2)
    return {"mean": mean, "median": median, "rms": rms, "sd": math.sqrt(variance)}


def _rare_outcomes(p: np.ndarray) -> np.ndarray:
    """Uniform from 0 to .1; 1 with probability .05."""
    common = 0.1 * p / (1.0 - RARE_PROBABILITY)
    return np.where(p < 1.0 - RARE_PROBABILITY, common, 1.0)


LOG_SD = 1.5
DISTRIBUTIONS = {
    "normal": Distribution(scipy.special.ndtri, _moments(0.0, 0.0, 1.0)),
    "exponential": Distribution(
        lambda p: -np.log1p(-p),
        _moments(1.0, math.log(2.0), 1.0),
    ),
    "lognormal(1.5)": Distribution(
        lambda p: np.exp(LOG_SD * scipy.special.ndtri(p)),
        _moments(math.exp(LOG_SD**2 / 2), 1.0, math.expm1(LOG_SD**2) * math.exp(LOG_SD**2)),
    ),
    "t, 3 degrees": Distribution(
        lambda p: scipy.special.stdtrit(3.0, p),
        _moments(0.0, 0.0, 3.0),
    ),
    "beta(.1, .9) in [0, 1]": Distribution(
        lambda p: scipy.special.betaincinv(0.1, 0.9, p),
        _moments(0.1, float(scipy.special.betaincinv(0.1, 0.9, 0.5)), 0.045),
        (0.0, 1.0),
    ),
    "rare outcomes in [0, 1]": Distribution(
        _rare_outcomes,
        _moments(0.0975, 0.05 / 0.95, 0.95 * 0.01 / 3.0 + 0.05 - 0.0975**2),
        (0.0, 1.0),
    ),
}


def make_claim(statistic: str, **bound: float) -> Claim:
    return Claim.model_validate(
        {
            "statement": "-",
            "kind": "statistical",
            "metric": "m",
            "statistic": statistic,
            "bound": bound,
        }
    )


def verdict(claim: Claim, interval: IntervalEstimate) -> Verdict:
    """The verdict of `evaluate_claim`, without its search for the smallest alpha."""
    return _interval_verdict(claim, interval)


def rates(
    intervals: Iterable[IntervalEstimate],
    truth: float,
    statistic: str = "mean",
    weights: Sequence[float] | None = None,
) -> dict[str, float]:
    """Coverage, rates of false verdicts and of warnings.

    Args:
        intervals: one per experiment.
        truth: true value.
        statistic: statistic of the claims.
        weights: probability of each experiment; equal if None.
    """
    offset = RELATIVE_OFFSET * max(1.0, abs(truth))
    too_high = make_claim(statistic, above=truth + offset)
    too_low = make_claim(statistic, below=truth - offset)
    experiments = []
    for each in intervals:
        verdicts = [verdict(claim, each) for claim in (too_high, too_low)]
        experiments.append(
            (
                each.low - offset <= truth <= each.high + offset,
                each.low > truth + offset,
                each.high < truth - offset,
                bool(each.undecided) or each.confidence < 0.95,
                verdicts[0].status == "holds",
                verdicts[1].status == "holds",
                any(each.warning for each in verdicts),
            )
        )
    table = np.array(experiments, dtype=np.float64)
    share = np.full(len(table), 1.0 / len(table)) if weights is None else np.asarray(weights)
    names = ("covered", "above", "below", "undecided", "false_above", "false_below", "warned")
    found: dict[str, float] = dict(zip(names, (share @ table).tolist(), strict=True))
    is_false = np.maximum(table[:, 4], table[:, 5])
    false = float(share @ is_false)
    found["warned_if_false"] = float(share @ (is_false * table[:, 6])) / false if false else 0.0
    return found


def shares(trials: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """One arm of values 0 and 1, with and without declared bounds: exact rates."""
    rows = []
    for n in SIZES:
        counts = np.arange(n + 1)
        samples = [np.repeat([1.0, 0.0], [k, n - k]) for k in counts]
        for name, bounds in (("share in [0, 1]", (0.0, 1.0)), ("share without bounds", None)):
            intervals = [estimate(x, bounds=bounds) for x in samples]
            for p in SHARES:
                weights = scipy.stats.binom.pmf(counts, n, p).tolist()
                row = rates(intervals, p, "mean", weights)
                rows.append({"group": "share", "values": name, "p": p, "n": n, **row})
    return rows


def paired_shares(trials: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Difference of two arms of values 0 and 1, of correlation about .5: exact rates.

    The difference is 1 with probability `up` and -1 with probability `down`.
    """
    rows = []
    cases = ((0.05, 0.05), (0.2, 0.2), (0.1, 0.02), (0.3, 0.1), (0.02, 0.0), (0.05, 0.0))
    for n in SIZES:
        pairs = [(up, down) for up in range(n + 1) for down in range(n + 1 - up)]
        intervals = []
        for up, down in pairs:
            a = np.repeat([1.0, 0.0, 0.0], [up, down, n - up - down])
            b = np.repeat([0.0, 1.0, 0.0], [up, down, n - up - down])
            intervals.append(compare(a, b, bounds=(0.0, 1.0)))
        for up, down in cases:
            outcomes = scipy.stats.multinomial(n, [up, down, 1.0 - up - down])
            counts = np.array([(u, d, n - u - d) for u, d in pairs])
            row = rates(intervals, up - down, "mean", outcomes.pmf(counts).tolist())
            name = f"1 in {up:g}, -1 in {down:g}"
            rows.append({"group": "paired share", "values": name, "n": n, **row})
    return rows


def sample_arms(
    distribution: Distribution, generator: np.random.Generator, trials: int, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two arms with equal distributions and a normal copula: `[trial, replicate]`."""
    z, independent = generator.standard_normal((2, trials, n))
    other = CORRELATION * z + math.sqrt(1.0 - CORRELATION**2) * independent
    first, second = (distribution.quantile(scipy.special.ndtr(each)) for each in (z, other))
    return first, second


def one_arm_row(name: str, statistic: Statistic, n: int, trials: int, seed: int) -> dict[str, Any]:
    """One arm of a distribution."""
    distribution = DISTRIBUTIONS[name]
    generator = np.random.default_rng([seed, 1, list(DISTRIBUTIONS).index(name), n])
    values = distribution.quantile(generator.random((trials, n)))
    intervals = [estimate(x, statistic, bounds=distribution.bounds) for x in values]
    row = rates(intervals, distribution.moments[statistic], statistic)
    return {"group": "one arm", "values": name, "statistic": statistic, "n": n, **row}


def one_arm(trials: int, seed: int) -> list[dict[str, Any]]:
    """One arm, all statistics."""
    return [
        one_arm_row(name, statistic, n, trials, seed)
        for name in DISTRIBUTIONS
        for n in SIZES
        for statistic in statistics_at(n)
    ]


def two_arms_row(
    group: str, name: str, statistic: Statistic, n: int, trials: int, seed: int
) -> dict[str, Any]:
    """Two arms: equal, one of half the size of the other, or their relative difference."""
    distribution = DISTRIBUTIONS[name]
    generator = np.random.default_rng([seed, 2, list(DISTRIBUTIONS).index(name), n])
    a, b = sample_arms(distribution, generator, trials, n)
    relative, bounds = group == "relative", distribution.bounds
    factor = 1.0 if group == "equal arms" else 0.5
    truth = (1.0 - factor) * distribution.moments[statistic]
    if relative:
        truth = 1.0
    intervals = [
        compare(x, factor * y, statistic, relative, bounds=bounds)
        for x, y in zip(a, b, strict=True)
    ]
    row = rates(intervals, truth, statistic)
    return {"group": group, "values": name, "statistic": statistic, "n": n, **row}


def two_arms(trials: int, seed: int) -> list[dict[str, Any]]:
    """Differences of two arms: equal, and one of half the size of the other.

    Of rms and sd, those of half arms: tests/analysis/test_claim_rates.py has equal arms.
    """
    rows = []
    for name, distribution in DISTRIBUTIONS.items():
        for n in SIZES if distribution.bounds is None else SIZES_OF_BOUNDED_DIFFERENCES:
            for group in ("equal arms", "half arm"):
                for statistic in statistics_at(n):
                    spread = statistic in ("rms", "sd")
                    if not spread or (name in WITH_SPREADS and group == "half arm"):
                        rows.append(two_arms_row(group, name, statistic, n, trials, seed))
    return rows


def relative_differences(trials: int, seed: int) -> list[dict[str, Any]]:
    """Relative differences of positive values; the truth is 1."""
    return [
        two_arms_row("relative", name, statistic, n, trials, seed)
        for name in POSITIVE
        for n in SIZES_OF_SPREADS
        for statistic in STATISTICS
    ]


def statistics_at(n: int) -> tuple[Statistic, ...]:
    """Statistics whose rates are simulated with n replicates."""
    return ("mean", "median", "rms", "sd") if n in SIZES_OF_SPREADS else ("mean", "median")


def rare_difference(trials: int, seed: int) -> list[dict[str, Any]]:
    """Bounded arms, one of which has rare outcomes: the exception of bounded differences."""
    rows = []
    distribution = DISTRIBUTIONS["rare outcomes in [0, 1]"]
    for n in (16, 32, 64):
        generator = np.random.default_rng([seed, 3, n])
        a, b = sample_arms(distribution, generator, trials, n)
        b = np.where(b == 1.0, 0.05, b)
        intervals = [compare(x, y, bounds=(0.0, 1.0)) for x, y in zip(a, b, strict=True)]
        truth = distribution.moments["mean"] - (0.95 * 0.05 + 0.05 * 0.05)
        row = rates(intervals, truth)
        rows.append(
            {"group": "rare outcomes in one arm", "values": "rare", "statistic": "mean", "n": n}
            | row
        )
    return rows


def small_effects(trials: int, seed: int) -> list[dict[str, Any]]:
    """Power: differences of .03 with a standard deviation of .01, in [0, 1]; "above 0"."""
    rows = []
    above = make_claim("mean", above=0.0)
    for n in (16, 32, 64):
        generator = np.random.default_rng([seed, 4, n])
        base = generator.uniform(0.4, 0.6, (trials, n))
        differences = 0.03 + 0.01 * generator.standard_normal((trials, n))
        intervals = [
            compare(x + d, x, bounds=(0.0, 1.0)) for x, d in zip(base, differences, strict=True)
        ]
        verdicts = [verdict(above, each) for each in intervals]
        power = float(np.mean([each.status == "holds" for each in verdicts]))
        gaffke = float(np.mean([each.status == "holds" and not each.warning for each in verdicts]))
        rows.append({"group": "power", "values": "effect .03, sd .01", "n": n, "power": power,
                     "power_for_any_values": gaffke})  # fmt: skip
    return rows


def over_people(trials: int, seed: int) -> list[dict[str, Any]]:
    """Resampled respondents: coverage of the population's mean."""
    rows = []
    for index, name in enumerate(("normal", "exponential", "lognormal(1.5)", "share .05")):
        for n in (8, 16, 32, 64):
            generator = np.random.default_rng([seed, 5, index, n])
            probabilities = generator.random((trials, RESPONDENTS))
            if name == "share .05":
                answers, truth = (probabilities < 0.05).astype(float), 0.05
            else:
                answers = DISTRIBUTIONS[name].quantile(probabilities)
                truth = DISTRIBUTIONS[name].moments["mean"]
            intervals = []
            for respondents in answers:
                chosen = generator.integers(0, RESPONDENTS, (n, RESPONDENTS))
                intervals.append(interval_over_resamples(respondents[chosen].mean(1)))
            rows.append({"group": "people", "values": name, "n": n, **rates(intervals, truth)})
    return rows


def over_draws(trials: int, seed: int) -> list[dict[str, Any]]:
    """Draws of parameters: coverage of one more draw."""
    rows = []
    for index, name in enumerate(("normal", "lognormal(1.5)")):
        for n in (39, 64, 100):
            generator = np.random.default_rng([seed, 6, index, n])
            values = DISTRIBUTIONS[name].quantile(generator.random((trials, n + 1)))
            found = [rates([interval_over_draws(x[:-1], 0.95)], float(x[-1])) for x in values]
            mean = {key: float(np.mean([row[key] for row in found])) for key in found[0]}
            rows.append({"group": "draws", "values": name, "n": n, **mean})
    return rows


def warning_limits(trials: int, seed: int) -> list[dict[str, Any]]:
    """Limits of the sample skewness above which a mean has a warning; a seed of its own."""
    rows = []
    for index, name in enumerate(("normal", "exponential", "lognormal(1.5)", "t, 3 degrees")):
        for n in (16, 32, 64):
            generator = np.random.default_rng([seed, 7, index, n])
            values = DISTRIBUTIONS[name].quantile(generator.random((trials, n)))
            truth = DISTRIBUTIONS[name].moments["mean"]
            intervals = [estimate(x) for x in values]
            false = np.array([not each.low <= truth <= each.high for each in intervals])
            skew = np.abs([skewness(x) for x in values])
            for limit in LIMITS:
                warned = skew > limit
                hits = float(warned[false].mean()) if false.any() else 0.0
                rows.append({"group": "limit", "values": name, "n": n, "limit": limit,
                             "hits": hits, "warned": float(warned.mean())})  # fmt: skip
    return rows


PARTS = {
    simulate.__name__: simulate
    for simulate in (
        shares,
        paired_shares,
        one_arm,
        two_arms,
        relative_differences,
        rare_difference,
        small_effects,
        over_people,
        over_draws,
        warning_limits,
    )
}


# --- tables -------------------------------------------------------------------------------------


def number(x: float) -> str:
    text = f"{x:.3f}"
    return text[1:] if text.startswith("0") else text


def cell(row: dict[str, Any]) -> str:
    """Coverage, and the rates at which "above" and "below" hold falsely; – if undecided."""
    if row["undecided"] > 0.999:
        return f"{number(row['covered'])} –"
    return " ".join(number(row[key]) for key in ("covered", "false_above", "false_below"))


def table(rows: Sequence[dict[str, Any]], label: str, keys: Sequence[str]) -> list[str]:
    """One line per distinct keys, one column per n."""
    sizes = sorted({row["n"] for row in rows})
    lines = [
        "| " + " | ".join([label, *(f"n = {n}" for n in sizes)]) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    names = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    for name in names:
        by_size = {row["n"]: cell(row) for row in rows if tuple(row[key] for key in keys) == name}
        title = ", ".join(number(x) if isinstance(x, float) else str(x) for x in name)
        lines.append("| " + " | ".join([title, *(by_size.get(n, "") for n in sizes)]) + " |")
    return lines


def warning_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows with a rate of false verdicts above .05 and n >= 16, with their warnings."""
    lines = [
        "| values | n | false above, below | warned if false | warned |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        false = max(row["false_above"], row["false_below"])
        if false > MAX_RATE:
            title = ", ".join(
                str(row[key]) for key in ("group", "values", "statistic") if key in row
            )
            both = f"{number(row['false_above'])} {number(row['false_below'])}"
            warned = f"{number(row['warned_if_false'])} | {number(row['warned'])}"
            lines.append(f"| {title} | {row['n']} | {both} | {warned} |")
    return lines


def false_alarm_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Warnings of means where no rate of false verdicts is above .05, from 16 replicates on."""
    lines = ["| means | n | largest false rate | warned |", "|---|---|---|---|"]
    for row in rows:
        false = max(row["false_above"], row["false_below"])
        if row.get("statistic") == "mean" and row["n"] >= 16 and false <= MAX_RATE:
            title = f"{row['group']}, {row['values']}"
            lines.append(f"| {title} | {row['n']} | {number(false)} | {number(row['warned'])} |")
    return lines


def document(rows: Sequence[dict[str, Any]], trials: int) -> str:
    """The tables in Markdown."""

    def of(group: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            row
            for row in rows
            if row["group"] == group and all(row.get(key) == x for key, x in fields.items())
        ]

    parts = ["### Shares: Clopper and Pearson, exact rates", ""]
    bounded = of("share", values="share in [0, 1]")
    parts += [*table(bounded, "true share", ["p"]), ""]
    parts += ["### Differences of shares, paired: Gaffke, exact rates", ""]
    parts += [*table(of("paired share"), "probabilities of the difference", ["values"]), ""]
    parts += [f"### Means of one arm ({trials:,} experiments)", ""]
    parts += [*table(of("one arm", statistic="mean"), "values", ["values"]), ""]
    parts += ["### Mean differences of paired arms, correlation .5", ""]
    arms = [*of("equal arms", statistic="mean"), *of("half arm", statistic="mean")]
    arms += of("rare outcomes in one arm")
    parts += [*table([r for r in arms if r["n"] >= 16], "arms", ["group", "values"]), ""]
    parts += ["### Median, rms and sd of one arm", ""]
    others = [row for row in rows if row["group"] == "one arm" and row["statistic"] != "mean"]
    others = [row for row in others if row["n"] in SIZES_OF_SPREADS]
    parts += [*table(others, "values", ["values", "statistic"]), ""]
    parts += ["### Differences of medians, rms and sd of paired arms", ""]
    groups = ("equal arms", "half arm")
    others = [row for row in rows if row["group"] in groups and row["statistic"] != "mean"]
    others = [row for row in others if row["n"] in SIZES_OF_SPREADS]
    parts += [*table(others, "arms", ["group", "values", "statistic"]), ""]
    parts += ["### Relative differences of paired arms (Fieller)", ""]
    parts += [*table(of("relative"), "arms", ["values", "statistic"]), ""]
    parts += [f"### Resamples of {RESPONDENTS} respondents; draws of parameters", ""]
    parts += [*table(of("people"), "answers", ["values"]), ""]
    draws = [f"{r['values']}, {r['n']} draws: {number(r['covered'])}" for r in of("draws")]
    parts += ["Share of further draws in the interval: " + "; ".join(draws) + ".", ""]
    decided = [row for row in rows if "false_above" in row and row["group"] != "draws"]
    parts += ["### Exceptions: false verdicts in more than .05 of experiments", ""]
    parts += [*warning_table(decided), "", "### False alarms: warnings where no rate is above .05"]
    parts += ["", *false_alarm_table(decided), ""]
    parts += ["### Limit of the skewness: hits among false verdicts / share warned", ""]
    parts += ["| values, limit | n = 16 | n = 32 | n = 64 |", "|---|---|---|---|"]
    limits = of("limit")
    for name in dict.fromkeys(row["values"] for row in limits):
        for limit in LIMITS:
            pairs = [
                f"{number(row['hits'])} / {number(row['warned'])}"
                for row in limits
                if row["values"] == name and row["limit"] == limit
            ]
            parts.append("| " + " | ".join([f"{name}, {limit:g}", *pairs]) + " |")
    parts += [""]
    parts += ["### Power of small differences of bounded values", ""]
    parts += [
        "| differences | n | above 0 holds | and for any values (Gaffke) |",
        "|---|---|---|---|",
    ]
    for row in of("power"):
        powers = f"{number(row['power'])} | {number(row['power_for_any_values'])}"
        parts.append(f"| {row['values']} | {row['n']} | {powers} |")
    return "\n".join(parts)


def write_rows(rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """One line per row, with five digits."""
    rounded = [
        {key: round(x, 5) if isinstance(x, float) else x for key, x in row.items()} for row in rows
    ]
    lines = ",\n  ".join(json.dumps(row) for row in rounded)
    head = json.dumps({"trials": arguments.trials, "seed": arguments.seed, "rows": []})[:-2]
    arguments.out.write_text(f"{head}\n  {lines}\n]}}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="page whose tables are written")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--merge", type=Path, nargs="+", help="results of single parts to join")
    parser.add_argument("--only-docs", action="store_true", help="tables of the results on disk")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for path in arguments.merge or ():
        rows += json.loads(path.read_text())["rows"]
    if not (arguments.only_docs or arguments.merge):
        for name in arguments.parts:
            start = time.process_time()
            rows += PARTS[name](arguments.trials, arguments.seed)
            print(f"{name}: {time.process_time() - start:.0f} s of CPU time", flush=True)
    if rows:
        write_rows(rows, arguments)
    result = json.loads(arguments.out.read_text())
    text = document(result["rows"], result["trials"])
    if arguments.docs is None:
        print(text)
        return
    page = arguments.docs.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    arguments.docs.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
