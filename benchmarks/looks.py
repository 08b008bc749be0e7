"""Shares of false "holds" over several looks: the same 95 % interval each time, and look by look.

A false claim is judged on n_1 replicates, again on n_2 > n_1 of which the first n_1 are the same,
and so on. A row has the share of experiments in which it held at look 1, at look 1 or 2, ...; the
claim "above x" or "below x" has x slightly beside the truth, "differs from x" the truth itself.

Shares of values 0 and 1 are enumerated, and exact. Means of normal values are simulated: with
Student's t, and with the package's interval (the wider of Student's t and the studentized
bootstrap). The last rows have an adversary, who knows the exact null distribution and chooses each
next number of replicates, from .001 to 1,000 times the present one more, so that the claim holds
most often: dynamic programming over the z-score of a normal mean of known variance.

    python -m benchmarks.looks --docs docs/explanation/intervals.md
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from mores.analysis.bounded_mean import clopper_pearson_interval
from mores.analysis.intervals import estimate
from mores.analysis.replicate_statistics import t_quantile
from mores.experiments.claims.looks import level_at_look

RESULTS = Path(__file__).parent / "results" / "looks.json"
BEGIN, END = "<!-- tables of benchmarks/looks.py -->", "<!-- end of the tables of looks -->"
LEVEL, NUM_LOOKS = 0.95, 5
SIZES = {"doubled": (16, 32, 64, 128, 256), "16 more": (16, 32, 48, 64, 80)}
SHARES = (0.1, 0.3, 0.5)
RULES = ("naive", "by look")
SEED, TRIALS, PACKAGE_TRIALS = 11, 40_000, 1_000
BATCH = 5_000  # experiments at a time

Rates = list[float]  # by number of looks


def level(rule: str, look: int) -> float:
    """Level of the interval at a look."""
    return LEVEL if rule == "naive" else level_at_look(LEVEL, look)


def share_rates(p: float, sizes: Sequence[int], rule: str, above: bool) -> Rates:
    """Exact rates of a false claim on the share of values 1; Clopper and Pearson.

    Args:
        p: the true share.
        sizes: number of replicates at each look.
        rule: one of `RULES`.
        above: the claim is "above p"; else "below p".
    """
    rates, held = Rates(), 0.0
    probabilities = np.ones(1)  # of the counts of experiments in which it has not held
    for look, (before, n) in enumerate(zip((0, *sizes), sizes, strict=False), 1):
        added = scipy.stats.binom.pmf(np.arange(n - before + 1), n - before, p)
        probabilities = np.convolve(probabilities, added)
        ends = [clopper_pearson_interval(k, n, level(rule, look)) for k in range(n + 1)]
        holds = np.array([low > p if above else high < p for low, high in ends])
        held += float(probabilities[holds].sum())
        probabilities[holds] = 0.0
        rates.append(held)
    return rates


def mean_rates(sizes: Sequence[int], rule: str, two_sided: bool, trials: int, seed: int) -> Rates:
    """Simulated rates of a false claim on the mean of normal values; Student's t."""
    generator = np.random.default_rng(seed)
    counts = np.zeros(len(sizes))
    for start in range(0, trials, BATCH):
        values = generator.standard_normal((min(BATCH, trials - start), sizes[-1]))
        held = np.zeros(len(values), dtype=bool)
        for index, n in enumerate(sizes):
            x = values[:, :n]
            margin = t_quantile(n, level(rule, index + 1)) * x.std(1, ddof=1) / math.sqrt(n)
            mean = x.mean(1)
            held |= (np.abs(mean) if two_sided else mean) > margin
            counts[index] += held.sum()
    return (counts / trials).tolist()


def package_rates(sizes: Sequence[int], rule: str, trials: int, seed: int) -> Rates:
    """As `mean_rates`, with the interval of `mores.analysis` and the claim "above"."""
    generator = np.random.default_rng(seed)
    counts = np.zeros(len(sizes))
    for values in generator.standard_normal((trials, sizes[-1])):
        held = False
        for index, n in enumerate(sizes):
            held = held or estimate(values[:n], level=level(rule, index + 1)).low > 0.0
            counts[index] += held
    return (counts / trials).tolist()


def adversary_rates(rule: str, num_looks: int) -> Rates:
    """Largest rates of "above" over all ways to choose the numbers of replicates by the results."""
    quantiles = [
        float(scipy.special.ndtri(0.5 + level(rule, look) / 2.0))
        for look in range(1, num_looks + 1)
    ]
    return [_adversary_rate(quantiles[:looks]) for looks in range(1, num_looks + 1)]


def _adversary_rate(quantiles: Sequence[float]) -> float:
    """Largest probability that the z-score exceeds the quantile of any look."""
    z, normal = np.linspace(-6.0, 6.0, 401), np.linspace(-7.0, 7.0, 801)
    weights = np.exp(-normal * normal / 2.0)
    weights /= weights.sum()
    still = np.zeros_like(z)  # largest probability to hold later, by the present z-score
    for quantile in reversed(quantiles[1:]):
        best = np.zeros_like(z)
        for ratio in np.geomspace(1e-3, 1e3, 61):  # new replicates over present ones
            following = (z[:, None] + math.sqrt(ratio) * normal) / math.sqrt(1.0 + ratio)
            later = np.where(following > quantile, 0.0, np.interp(following, z, still))
            threshold = (quantile * math.sqrt(1.0 + ratio) - z) / math.sqrt(ratio)
            best = np.maximum(best, scipy.special.ndtr(-threshold) + later @ weights)
        still = best
    later = np.where(normal > quantiles[0], 0.0, np.interp(normal, z, still))
    return float(scipy.special.ndtr(-quantiles[0]) + later @ weights)


def all_rows() -> list[dict[str, Any]]:
    """All rows of the table."""
    rows = []

    def add(values: str, sizes: str, claim: str, rates: Callable[[str], Rates]) -> None:
        for rule in RULES:
            row = {"values": values, "sizes": sizes, "claim": claim, "rule": rule}
            rows.append({**row, "rates": [round(rate, 5) for rate in rates(rule)]})

    for name, sizes in SIZES.items():
        for p in SHARES:
            for claim in ("above", "below"):
                exact = functools.partial(share_rates, p, sizes, above=claim == "above")
                add(f"share {p:g}, Clopper and Pearson", name, claim, exact)
        for claim, two_sided in (("above", False), ("differs_from", True)):
            add("normal, Student's t", name, claim, lambda rule, sizes=sizes, two_sided=two_sided:
                mean_rates(sizes, rule, two_sided, TRIALS, SEED))  # fmt: skip
    sizes = SIZES["doubled"]
    add("normal, interval of the package", "doubled", "above",
        lambda rule: package_rates(sizes, rule, PACKAGE_TRIALS, SEED))  # fmt: skip
    adversary = functools.partial(adversary_rates, num_looks=NUM_LOOKS)
    add("normal, known variance", "chosen by an adversary", "above", adversary)
    return rows


def document(rows: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown: both rules side by side."""
    heading = [f"{looks} look{'s' * (looks > 1)}" for looks in range(1, NUM_LOOKS + 1)]
    lines = [
        "| values | replicates | claim | " + " | ".join(heading) + " |",
        "|---" * (3 + NUM_LOOKS) + "|",
    ]
    for naive, by_look in zip(rows[::2], rows[1::2], strict=True):
        pairs = [
            f"{_number(a)} / {_number(b)}"
            for a, b in zip(naive["rates"], by_look["rates"], strict=True)
        ]
        names = [naive[key] for key in ("values", "sizes", "claim")]
        lines.append("| " + " | ".join([*names, *pairs]) + " |")
    return "\n".join(lines)


def _number(rate: float) -> str:
    return f"{rate:.3f}".removeprefix("0")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--docs", type=Path, help="page whose table is written")
    parser.add_argument("--only-docs", action="store_true", help="table of the results on disk")
    arguments = parser.parse_args()
    if not arguments.only_docs:
        head = {"trials": TRIALS, "package_trials": PACKAGE_TRIALS, "seed": SEED}
        sizes = {name: list(each) for name, each in SIZES.items()}
        rows = ",\n  ".join(json.dumps(row) for row in all_rows())
        start = json.dumps({**head, "sizes": sizes, "rows": []})[:-2]
        RESULTS.write_text(f"{start}\n  {rows}\n]}}\n")
    text = document(json.loads(RESULTS.read_text())["rows"])
    if arguments.docs is None:
        print(text)
        return
    page = arguments.docs.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    arguments.docs.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
