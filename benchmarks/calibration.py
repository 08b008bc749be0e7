"""Coverage of calibration: share of 95 % intervals that contain the true parameter.

A case draws true parameters uniformly from the inner 70 % of the search ranges, simulates one study
with independent random numbers, takes its moments as targets, and calibrates the scenario to them
by `mores.experiments.calibration.calibrate`. Cases of one block share the simulator, which caches
the initial points; every block has its own random numbers. With `--edges`, the true parameters come
from the outer 5 % at either end instead.

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
from mores.experiments.calibration.simulated_moments import MomentSimulator
from mores.experiments.scenario import loading, strict_yaml
from mores.experiments.scenario.loading import LoadedScenario

NUM_BLOCKS = 10  # per kind, each with its own simulator
INNER_RANGE = (0.15, 0.85)
EDGE_WIDTH = 0.05

SCENARIOS = {
    "panel": """
name: panel
about: A panel of people with stable dispositions, in four waves.
env: {kind: panel, num_people: 100, wave_interval: 1, initial_std: 1.5,
  trait_state: {half_life: 1.0, volatility: 1.0}}
rounds: 4
replicates: 40
metrics: [answer_std, icc, correlation_1, correlation_3]
calibration:
  parameters:
    env.initial_std: [0.6, 2.5]
    env.trait_state.volatility: [0.3, 2.0]
    env.trait_state.half_life: [0.3, 2.5]
  targets:
    - {statement: standard deviation, metric: answer_std, value: 1}
    - {statement: intraclass correlation, metric: icc, value: 1}
    - {statement: correlation of adjacent waves, metric: correlation_1, value: 1}
    - {statement: correlation of the first and the last wave, metric: correlation_3, value: 1}
""",
    "conversation": """
name: conversation
about: Half of the people talk with a persuader; effect at once and at a follow-up.
env: {kind: panel, num_people: 200, num_waves: 1, initial_mean: 3.5, conversation_round: 0,
  followup_rounds: 2, trait_state: {half_life: 0.5, permanent_share: 0.2}}
rounds: 3
replicates: 40
metrics: [treatment_effect, treatment_effect_followup, answer_std]
calibration:
  parameters:
    env.ai_influence: [0.1, 1.0]
    env.trait_state.permanent_share: [0.0, 1.0]
    env.initial_std: [0.5, 2.0]
  targets:
    - {statement: effect, metric: treatment_effect, value: 1}
    - {statement: effect at the follow-up, metric: treatment_effect_followup, value: 1}
    - {statement: standard deviation, metric: answer_std, value: 1}
""",
    "choices": """
name: choices
about: People choose between two options with small and large differences of reward.
env: {kind: pairwise_preferences, num_people: 150, margins: [0.5, 1.0, 2.0, 6.0]}
policies: {person: {kind: annotator, choice: {kind: boltzmann_choice, flip_probability: 0.1}}}
rounds: 2
replicates: 40
metrics: [choice_accuracy_by_margin]
calibration:
  parameters:
    policies.person.choice.rationality: [0.3, 3.0]
    policies.person.choice.flip_probability: [0.0, 0.3]
  targets:
    - {statement: better by 0.5, metric: "choice_accuracy_by_margin[0]", value: 1}
    - {statement: better by 1, metric: "choice_accuracy_by_margin[1]", value: 1}
    - {statement: better by 2, metric: "choice_accuracy_by_margin[2]", value: 1}
    - {statement: better by 6, metric: "choice_accuracy_by_margin[3]", value: 1}
""",
    "random walk": """
name: random_walk
about: Values follow a random walk.
env: {kind: coevolution, human: idealised, num_assistants: 0, num_values: 1, noise_std: 0.3}
population: {kind: normal, num_people: 60, std: 1.0}
rounds: 3
replicates: 32
metrics: [rms_distance, velocity]
calibration:
  parameters: {population.std: [0.2, 3.0], env.noise_std: [0.02, 1.0]}
  targets:
    - {statement: initial, metric: rms_distance, at_round: 0, value: 1.0}
    - {statement: later, metric: rms_distance, at_round: 1, value: 1.05}
    - {statement: final, metric: rms_distance, value: 1.15}
""",
    "experiment": """
name: experiment
about: A community with a persuader against a control without one.
env: {kind: coevolution, human: idealised, num_people: 80, num_values: 1, ai_influence: 0.1,
  noise_std: 0.2, value_limit: 20}
population: {kind: normal, num_people: 80, std: 1.0}
policies: {assistant: {kind: persuader, goal: [2.0], goal_weight: 1.0}}
rounds: 3
replicates: 40
metrics: [mean_value, rms_distance]
control: twin
arms:
  twin: {env.num_assistants: 0}
  persuaded: {}
calibration:
  parameters:
    env.ai_influence: [0.02, 0.5]
    env.noise_std: [0.1, 1.0]
    population.std: [0.5, 2.0]
  targets:
    - {statement: effect, metric: "mean_value[0]", arm: persuaded, compare_to: twin, value: 1}
    - {statement: initial distance, metric: rms_distance, at_round: 0, value: 1}
    - {statement: final distance, metric: rms_distance, value: 1}
    - {statement: final distance of the persuaded, metric: rms_distance, arm: persuaded, value: 1}
""",
}


@dataclasses.dataclass(frozen=True)
class CalibrationCase:
    """True values with the calibration result."""

    truth: np.ndarray
    result: CalibrationResult

    def covered(self, parameter: int) -> bool:
        fitted = self.result.parameters[parameter]
        return bool(fitted.low <= self.truth[parameter] <= fitted.high)


def load_text(text: str) -> LoadedScenario:
    document, source_map = strict_yaml.parse(text, "benchmark")
    scenario = loading.validate_document(document, source_map)
    return LoadedScenario(scenario, source_map, Path("benchmark.yaml"), text, document)


def with_targets(loaded: LoadedScenario, values: np.ndarray) -> LoadedScenario:
    calibration = loaded.scenario.calibration
    assert calibration is not None
    targets = [
        target.model_copy(update={"value": float(value)})
        for target, value in zip(calibration.targets, values, strict=True)
    ]
    changed = calibration.model_copy(update={"targets": targets})
    scenario = loaded.scenario.model_copy(update={"calibration": changed})
    return dataclasses.replace(loaded, scenario=scenario)


def simulate_study(loaded: LoadedScenario, values: np.ndarray, seed: int) -> np.ndarray:
    """Moments of one simulated study with these parameters, `[target]`.

    Every arm and every source has independent people. The seed lies below 2^32.
    """
    calibration = loaded.scenario.calibration
    assert calibration is not None
    moments = np.full(len(calibration.targets), np.nan)
    sources = [target.source for target in calibration.targets]
    for index, source in enumerate(dict.fromkeys(sources)):
        targets = [i for i, of_target in enumerate(sources) if of_target == source]
        subset = [calibration.targets[i] for i in targets]
        section = calibration.model_copy(update={"targets": subset})
        scenario = loaded.scenario.model_copy(update={"calibration": section})
        part = dataclasses.replace(loaded, scenario=scenario)
        first_seed = (seed << 16) + (index << 8)
        simulator, everything = MomentSimulator(part, first_seed, replicates=1), range(len(subset))
        arms = sorted({arm for contrast in simulator.contrasts for arm in contrast})
        samples = {}
        for arm_index, arm in enumerate(arms):
            independent = MomentSimulator(part, first_seed + arm_index, replicates=1)
            samples[arm] = independent.arm_samples(values, everything)[arm]
        moments[targets] = np.sum(list(samples.values()), axis=0)[:, 0]
    return moments


def draw_true_values(rng: np.random.Generator, size: int, edges: bool) -> np.ndarray:
    """True parameters in the unit cube."""
    if not edges:
        return rng.uniform(*INNER_RANGE, size)
    offset = rng.uniform(0.0, EDGE_WIDTH, size)
    return np.where(rng.random(size) < 0.5, offset, 1.0 - offset)


def run_cases(text: str, count: int, edges: bool, seed: int) -> list[CalibrationCase]:
    """Cases of one kind."""
    loaded = load_text(text)
    rng = np.random.default_rng(seed)
    cases = []
    for block in range(NUM_BLOCKS):
        num_cases = count * (block + 1) // NUM_BLOCKS - count * block // NUM_BLOCKS
        simulator = MomentSimulator(loaded, seed=1_000 * seed + block)
        cube = MomentDistance(simulator, [0], np.zeros(len(simulator.targets)))
        for _ in range(num_cases):
            truth = cube.from_unit_cube(draw_true_values(rng, cube.num_parameters, edges))
            study = simulate_study(loaded, truth, int(rng.integers(2**31)))
            scenario = with_targets(loaded, study)
            result = calibrate(scenario, progress=False, simulator=simulator)
            cases.append(CalibrationCase(truth, result))
    return cases


def wilson_interval(hits: int, count: int) -> list[float]:
    """Wilson's 95 % interval of a share."""
    interval = scipy.stats.binomtest(hits, count).proportion_ci(0.95, "wilson")
    return [round(float(interval.low), 4), round(float(interval.high), 4)]


def summarize(cases: list[CalibrationCase]) -> dict[str, Any]:
    """Coverage by parameter, and convergence of the searches."""
    paths = [parameter.path for parameter in cases[0].result.parameters]
    rows = {}
    for j, path in enumerate(paths):
        hits = sum(case.covered(j) for case in cases)
        below = sum(bool(case.truth[j] < case.result.parameters[j].low) for case in cases)
        at_bound = sum(
            case.result.parameters[j].low_at_bound or case.result.parameters[j].high_at_bound
            for case in cases
        )
        rows[path] = {
            "covered": hits,
            "of": len(cases),
            "share": round(hits / len(cases), 4),
            "interval": wilson_interval(hits, len(cases)),
            "true_value_below": below,
            "true_value_above": len(cases) - hits - below,
            "interval_ends_with_the_range": at_bound,
        }
    return {
        "parameters": rows,
        "converged": sum(case.result.converged for case in cases),
        "rejected_at_5_percent": sum(
            case.result.p_value is not None and case.result.p_value < 0.05 for case in cases
        ),
        "num_evaluations": sum(case.result.num_evaluations for case in cases),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="number per kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--edges", action="store_true", help="true values near ends of ranges")
    parser.add_argument("--only", default=None, help="run only this kind")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--join", type=Path, nargs="*", default=(), help="merge these files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kinds: dict[str, Any] = {}
    for file in args.join:
        kinds |= json.loads(file.read_text())["kinds"]
    start_time = time.process_time()
    for kind, text in SCENARIOS.items():
        if kind in kinds or args.only not in (None, kind):
            continue
        kind_start = time.process_time()
        kinds[kind] = summarize(run_cases(text, args.cases, args.edges, args.seed))
        kinds[kind]["processor_seconds"] = round(time.process_time() - kind_start, 1)
        for path, row in kinds[kind]["parameters"].items():
            print(f"{kind:15} {path:28} {row['share']:.3f} {row['interval']}", flush=True)
        summary = {k: v for k, v in kinds[kind].items() if k != "parameters"}
        print(f"{kind:15} {summary}", flush=True)
        if args.out is not None:
            seconds = round(time.process_time() - start_time, 1)
            args.out.write_text(json.dumps(totals(kinds, args, seconds), indent=2) + "\n")
    if args.out is not None:
        seconds = sum(kind["processor_seconds"] for kind in kinds.values())
        args.out.write_text(json.dumps(totals(kinds, args, seconds), indent=2) + "\n")
    total = totals(kinds, args, 0.0)["all"]
    print(f"all: {total['share']:.4f} of {total['of']} intervals, {total['interval']}")


def totals(kinds: dict[str, Any], args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Summary of all kinds; the interval treats parameters of one case as independent."""
    rows = [row for kind in kinds.values() for row in kind["parameters"].values()]
    hits, count = sum(row["covered"] for row in rows), sum(row["of"] for row in rows)
    processor = platform.processor() or platform.machine()
    share = {"covered": hits, "of": count, "share": round(hits / count, 4)}
    return {
        "machine": {"processor": processor, "threads": 1, "torch": torch.__version__},
        "cases": args.cases * len(kinds),
        "true_values": "outer 5 % of the ranges" if args.edges else "inner 70 % of the ranges",
        "seed": args.seed,
        "processor_seconds": seconds,
        "all": share | {"interval": wilson_interval(hits, count)},
        "kinds": kinds,
    }


if __name__ == "__main__":
    main()
