"""Whether calibration finds what was planted: how often a 95 % interval covers the true parameter.

A case: true parameters are drawn at random from the inner 70 % of the ranges searched; one study is
simulated with them, on draws of its own; the figures it finds become the targets; and the scenario
is calibrated to them by `mores.experiments.calibration.calibrate`, as a user would. Cases of one block share the
simulator, so that the first points are played once a block; every block has draws of its own.
With `--edges` the true parameters are drawn from the outer 5 % at either end instead.

    python benchmarks/calibration.py --out benchmarks/results/calibration.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch

from mores.experiments.calibration import CalibrationResult, calibrate
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.simulated_moments import MomentSimulator, simulate_study
from mores.experiments.scenario import loading, strict_yaml
from mores.experiments.scenario.loading import LoadedScenario

BLOCKS = 10  # of cases of a kind, each with a simulator of its own
INNER = (0.15, 0.85)
ENDS = 0.05

SCENARIOS = {
    "settled people": """
name: settled
about: People with settled dispositions are asked in four waves.
env: {kind: panel, people: 100, every: 1, spread: 1.5, person: {half_life: 1.0, volatility: 1.0}}
rounds: 4
replicates: 40
measures: [sd, icc, correlation_1, correlation_3]
calibration:
  parameters:
    env.spread: [0.6, 2.5]
    env.person.volatility: [0.3, 2.0]
    env.person.half_life: [0.3, 2.5]
  targets:
    - {says: standard deviation, measure: sd, value: 1}
    - {says: intraclass correlation, measure: icc, value: 1}
    - {says: correlation of neighbouring waves, measure: correlation_1, value: 1}
    - {says: correlation of the first and the last wave, measure: correlation_3, value: 1}
""",
    "a conversation": """
name: conversation
about: Half of the people talk with a persuader; what is left of it a month later?
env: {kind: panel, people: 200, waves: 1, mean: 3.5, conversation: 0, later: 2,
  person: {half_life: 0.5, settling: 0.2}}
rounds: 3
replicates: 40
measures: [effect, effect_later, sd]
calibration:
  parameters:
    env.influence: [0.1, 1.0]
    env.person.settling: [0.0, 1.0]
    env.spread: [0.5, 2.0]
  targets:
    - {says: effect, measure: effect, value: 1}
    - {says: effect later, measure: effect_later, value: 1}
    - {says: standard deviation, measure: sd, value: 1}
""",
    "choosers": """
name: choosers
about: People choose between two options, one of them better by a little or by much.
env: {kind: pairs, people: 150, margins: [0.5, 1.0, 2.0, 6.0]}
players: {person: {kind: chooser, rationality: 1.0, flip: 0.1}}
rounds: 2
replicates: 40
measures: [picked]
calibration:
  parameters:
    players.person.rationality: [0.3, 3.0]
    players.person.flip: [0.0, 0.3]
  targets:
    - {says: better by 0.5, measure: "picked[0]", value: 1}
    - {says: better by 1, measure: "picked[1]", value: 1}
    - {says: better by 2, measure: "picked[2]", value: 1}
    - {says: better by 6, measure: "picked[3]", value: 1}
""",
    "walkers": """
name: walkers
about: People walk at random.
env: {kind: coevolution, assistants: 0, values: 1, noise: 0.3}
people: {kind: normal, people: 60, spread: 1.0}
rounds: 3
replicates: 32
measures: [spread, speed]
calibration:
  parameters: {people.spread: [0.2, 3.0], env.noise: [0.02, 1.0]}
  targets:
    - {says: at first, measure: spread, at: 0, value: 1.0}
    - {says: later, measure: spread, at: 1, value: 1.05}
    - {says: at last, measure: spread, value: 1.15}
""",
    "an experiment": """
name: experiment
about: A community with a persuader, against another without one.
env: {kind: coevolution, people: 80, values: 1, ai_influence: 0.1, noise: 0.2, extent: 20}
people: {kind: normal, people: 80, spread: 1.0}
players: {assistant: {kind: persuade, goal: [2.0], reach: 1.0}}
rounds: 3
replicates: 40
measures: [centre, spread]
control: twin
arms:
  twin: {env.assistants: 0}
  persuaded: {}
calibration:
  parameters:
    env.ai_influence: [0.02, 0.5]
    env.noise: [0.1, 1.0]
    people.spread: [0.5, 2.0]
  targets:
    - {says: centre, measure: "centre[0]", arm: persuaded, against: twin, value: 1}
    - {says: spread at first, measure: spread, at: 0, value: 1}
    - {says: spread at last, measure: spread, value: 1}
    - {says: spread of the persuaded, measure: spread, arm: persuaded, value: 1}
""",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """True values, and what calibration said of them."""

    truth: np.ndarray
    result: CalibrationResult

    def covered(self, parameter: int) -> bool:
        found = self.result.parameters[parameter]
        return bool(found.low <= self.truth[parameter] <= found.high)


def described(text: str) -> LoadedScenario:
    document, places = strict_yaml.parse(text, "benchmark")
    return LoadedScenario(
        loading.validate_document(document, places), places, Path("benchmark.yaml"), text, document
    )


def with_targets(loaded: LoadedScenario, figures: np.ndarray) -> LoadedScenario:
    calibration = loaded.scenario.calibration
    assert calibration is not None
    targets = [
        target.model_copy(update={"value": float(figure)})
        for target, figure in zip(calibration.targets, figures, strict=True)
    ]
    new = calibration.model_copy(update={"targets": targets})
    scenario = loaded.scenario.model_copy(update={"calibration": new})
    return dataclasses.replace(loaded, scenario=scenario)


def planted(number: np.random.Generator, size: int, edges: bool) -> np.ndarray:
    """True parameters in the unit cube."""
    if not edges:
        return number.uniform(*INNER, size)
    near = number.uniform(0.0, ENDS, size)
    return np.where(number.random(size) < 0.5, near, 1.0 - near)


def cases(text: str, count: int, edges: bool, seed: int) -> list[Case]:
    """`count` cases of one kind."""
    loaded = described(text)
    number = np.random.default_rng(seed)
    found = []
    for block in range(BLOCKS):
        here = count * (block + 1) // BLOCKS - count * block // BLOCKS
        simulator = MomentSimulator(loaded, seed=1_000 * seed + block)
        cube = MomentDistance(simulator, [0], np.zeros(len(simulator.targets)))
        for _ in range(here):
            truth = cube.from_unit_cube(planted(number, cube.num_parameters, edges))
            study = simulate_study(loaded, truth, int(number.integers(2**31)))
            given = with_targets(loaded, study)
            found.append(Case(truth, calibrate(given, progress=False, simulator=simulator)))
    return found


def wilson(hits: int, count: int) -> list[float]:
    """95 % interval of a share."""
    found = scipy.stats.binomtest(hits, count).proportion_ci(0.95, "wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def told(found: list[Case]) -> dict[str, Any]:
    """Coverage by parameter, and how the searches ended."""
    paths = [parameter.path for parameter in found[0].result.parameters]
    rows = {}
    for j, path in enumerate(paths):
        hits = sum(case.covered(j) for case in found)
        below = sum(bool(case.truth[j] < case.result.parameters[j].low) for case in found)
        whole = sum(
            case.result.parameters[j].low_at_bound or case.result.parameters[j].high_at_bound
            for case in found
        )
        rows[path] = {
            "covered": hits,
            "of": len(found),
            "share": round(hits / len(found), 4),
            "interval": wilson(hits, len(found)),
            "true_value_below": below,
            "true_value_above": len(found) - hits - below,
            "interval_ends_with_the_range": whole,
        }
    return {
        "parameters": rows,
        "converged": sum(case.result.converged for case in found),
        "rejected_at_5_percent": sum(
            case.result.p_value is not None and case.result.p_value < 0.05 for case in found
        ),
        "points_played": sum(case.result.num_evaluations for case in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--edges", action="store_true", help="true values near the ranges' ends")
    parser.add_argument("--only", default=None, help="one kind")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    parser.add_argument("--join", type=Path, nargs="*", default=(), help="kinds from other files")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    kinds: dict[str, Any] = {}
    for file in asked.join:
        kinds |= json.loads(file.read_text())["kinds"]
    began = time.process_time()
    for kind, text in SCENARIOS.items():
        if kind in kinds or asked.only_replicates not in (None, kind):
            continue
        start = time.process_time()
        kinds[kind] = told(cases(text, asked.cases, asked.edges, asked.seed))
        kinds[kind]["processor_seconds"] = round(time.process_time() - start, 1)
        for path, row in kinds[kind]["parameters"].items():
            print(f"{kind:15} {path:28} {row['share']:.3f} {row['interval']}", flush=True)
        rest = {k: v for k, v in kinds[kind].items() if k != "parameters"}
        print(f"{kind:15} {rest}", flush=True)
        if asked.out is not None:
            seconds = round(time.process_time() - began, 1)
            asked.out.write_text(json.dumps(overall(kinds, asked, seconds), indent=2) + "\n")
    if asked.out is not None:
        seconds = sum(kind["processor_seconds"] for kind in kinds.values())
        asked.out.write_text(json.dumps(overall(kinds, asked, seconds), indent=2) + "\n")
    found = overall(kinds, asked, 0.0)["all"]
    print(f"all: {found['share']:.4f} of {found['of']} intervals, {found['interval']}")


def overall(kinds: dict[str, Any], asked: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """All kinds together; the interval takes parameters of one case as independent."""
    rows = [row for kind in kinds.values() for row in kind["parameters"].values()]
    hits, count = sum(row["covered"] for row in rows), sum(row["of"] for row in rows)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "torch": torch.__version__,
    }
    share = {"covered": hits, "of": count, "share": round(hits / count, 4)}
    return {
        "machine": machine,
        "cases": asked.cases * len(kinds),
        "true_values": "outer 5 % of the ranges" if asked.edges else "inner 70 % of the ranges",
        "seed": asked.seed,
        "processor_seconds": seconds,
        "all": share | {"interval": wilson(hits, count)},
        "kinds": kinds,
    }


if __name__ == "__main__":
    main()
