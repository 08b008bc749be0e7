"""Identifiability of rationality, flip probability and utility scale from choices.

People choose between two options whose rewards differ by d, and answer with the better option with
probability P(d) = (1 - 2 flip) s(rationality * scale * d) + flip. Four calibrations of two of these
parameters each are simulated on a grid: with and without ratings, with small and with large
margins. Targets are the exact shares at rationality 1, utility scale 1 and flip probability 0.1.
Dashed lines show the exact distance (binomial counts), without any simulation.

    python benchmarks/identifiability.py --picture docs/pictures/identifiability.png
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.simulated_moments import MomentSimulator
from mores.experiments.scenario import loading, strict_yaml
from mores.experiments.scenario.loading import LoadedScenario

TRUTH = {"rationality": 1.0, "utility_scale": 1.0, "flip_probability": 0.1}
RANGES = {"rationality": (0.25, 4.0), "utility_scale": (0.25, 4.0), "flip_probability": (0.0, 0.4)}
PATHS = {
    "rationality": "policies.person.choice.rationality",
    "utility_scale": "policies.person.utility_scale",
    "flip_probability": "policies.person.choice.flip_probability",
}
NUM_PEOPLE, NUM_ROUNDS, NUM_REPLICATES = 300, 2, 100
RATING_NOISE_STD = 2.0
REGION_THRESHOLD = 5.99  # 95 % region of two parameters: chi-square with 2 degrees of freedom


class Design(NamedTuple):
    """Study design: fitted parameters, margins of the pairs, whether people rate the options."""

    title: str
    fitted: tuple[str, str]
    margins: tuple[float, ...]
    ratings: bool


WITH_SCALE, WITH_FLIP = ("rationality", "utility_scale"), ("rationality", "flip_probability")
DESIGNS = (
    Design("choices alone", WITH_SCALE, (0.5, 1.0, 2.0), False),
    Design("choices and ratings", WITH_SCALE, (0.5, 1.0, 2.0), True),
    Design("small margins", WITH_FLIP, (0.25, 0.5, 1.0), False),
    Design("small and large margins", WITH_FLIP, (0.25, 0.5, 1.0, 6.0, 12.0), False),
)


def choice_shares(margins: tuple[float, ...], values: dict[str, float]) -> np.ndarray:
    """Expected share of answers with the better option, by margin."""
    slope = values["rationality"] * values["utility_scale"]
    accuracy = np.array([1.0 / (1.0 + math.exp(-slope * margin)) for margin in margins])
    return (1.0 - 2.0 * values["flip_probability"]) * accuracy + values["flip_probability"]


def exact_variances(design: Design) -> np.ndarray:
    """Variances of the moments of one study at the truth: binomial shares, then the rating slope.

    Each margin has a random share of all pairs; 1 / count is taken at its expectation. The
    difference of two ratings has twice the variance of one.
    """
    num_answers = NUM_PEOPLE * NUM_ROUNDS
    p = choice_shares(design.margins, TRUTH)
    variances = p * (1 - p) * len(design.margins) / num_answers
    if design.ratings:
        squares = num_answers * float(np.mean(np.square(design.margins)))
        variances = np.append(variances, 2 * RATING_NOISE_STD**2 / squares)
    return variances


def exact_moments(design: Design, values: dict[str, float]) -> np.ndarray:
    moments = choice_shares(design.margins, values)
    return np.append(moments, values["utility_scale"]) if design.ratings else moments


def fisher_information(design: Design, fitted: tuple[str, ...]) -> np.ndarray:
    """Fisher information of a study on some parameters at the truth, in closed form.

    For a binomial share: (dP/da) (dP/db) n / (P (1 - P)); similarly for a normal moment.
    """
    slope = TRUTH["rationality"] * TRUTH["utility_scale"]
    margins = np.array(design.margins)
    accuracy = 1.0 / (1.0 + np.exp(-slope * margins))
    sensitivity = (1.0 - 2.0 * TRUTH["flip_probability"]) * accuracy * (1.0 - accuracy) * margins
    derivatives = {
        "rationality": sensitivity * TRUTH["utility_scale"],
        "utility_scale": sensitivity * TRUTH["rationality"],
        "flip_probability": 1.0 - 2.0 * accuracy,
    }
    if design.ratings:
        rating_slopes = {"rationality": 0.0, "utility_scale": 1.0, "flip_probability": 0.0}
        derivatives = {n: np.append(d, rating_slopes[n]) for n, d in derivatives.items()}
    jacobian = np.array([derivatives[name] for name in fitted]).T
    return jacobian.T @ (jacobian / exact_variances(design)[:, None])


def load_scenario(design: Design) -> LoadedScenario:
    """Scenario with the calibration of a study design."""
    moments = exact_moments(design, TRUTH)
    rating_metrics = ["rating_slope"] if design.ratings else []
    names = [f"choice_accuracy_by_margin[{index}]" for index in range(len(design.margins))]
    choice = {name: TRUTH[name] for name in ("rationality", "flip_probability")}
    person = {
        "kind": "annotator",
        "utility_scale": TRUTH["utility_scale"],
        "choice": {"kind": "boltzmann_choice", **choice},
        "rating": {"kind": "noisy_rating", "noise_std": RATING_NOISE_STD},
    }
    document: dict[str, Any] = {
        "name": "identifiability",
        "about": "People choose between two options.",
        "env": {
            "kind": "pairwise_preferences",
            "num_people": NUM_PEOPLE,
            "margins": list(design.margins),
            "collect_ratings": design.ratings,
        },
        "policies": {"person": person},
        "rounds": NUM_ROUNDS,
        "replicates": NUM_REPLICATES,
        "metrics": ["choice_accuracy_by_margin", *rating_metrics],
        "calibration": {
            "parameters": {PATHS[name]: RANGES[name] for name in design.fitted},
            "targets": [
                {"statement": name, "metric": name, "value": float(moment)}
                for name, moment in zip([*names, *rating_metrics], moments, strict=True)
            ],
        },
    }
    document, source_map = strict_yaml.parse(json.dumps(document), "identifiability")
    scenario = loading.validate_document(document, source_map)
    return LoadedScenario(scenario, source_map, Path("identifiability"), "", document)


class Surface(NamedTuple):
    """Distance on a grid of two parameters, simulated and exact, with standard errors."""

    axes: tuple[np.ndarray, np.ndarray]
    simulated: np.ndarray
    exact: np.ndarray
    errors: np.ndarray
    exact_errors: np.ndarray


def compute_surface(design: Design, size: int) -> Surface:
    loaded = load_scenario(design)
    simulator = MomentSimulator(loaded)
    targets = loaded.scenario.calibration
    assert targets is not None
    values = np.array([target.value for target in targets.targets])
    distance = MomentDistance(simulator, range(len(values)), values)
    truth = distance.to_unit_cube(np.array([TRUTH[name] for name in design.fitted]))
    distance.whitening = distance.whitening_at(truth)
    grid = np.linspace(0.0, 1.0, size)
    simulated, exact = np.empty((size, size)), np.empty((size, size))
    for (i, first), (j, second) in itertools.product(enumerate(grid), enumerate(grid)):
        unit_point = np.array([first, second])
        fitted = distance.from_unit_cube(unit_point).tolist()
        parameters = TRUTH | dict(zip(design.fitted, fitted, strict=True))
        simulated[j, i] = distance(unit_point)
        difference = exact_moments(design, parameters) - exact_moments(design, TRUTH)
        exact[j, i] = np.sum(difference**2 / exact_variances(design))
    axes = np.array([distance.from_unit_cube(np.full(2, coordinate)) for coordinate in grid]).T
    # in the units of the file: the search uses a log scale for rationality and utility scale
    jacobian = distance.whitening @ moment_jacobian(simulator, design)
    errors = standard_errors(jacobian.T @ jacobian)
    fisher = standard_errors(fisher_information(design, design.fitted))
    return Surface((axes[0], axes[1]), simulated, exact, errors, fisher)


def moment_jacobian(simulator: MomentSimulator, design: Design, step: float = 0.02) -> np.ndarray:
    """Derivative of the simulated moments by the parameters at the truth."""
    columns = []
    for j, name in enumerate(design.fitted):
        high = np.array([TRUTH[other] for other in design.fitted])
        low = high.copy()
        high[j], low[j] = TRUTH[name] + step, TRUTH[name] - step
        difference = simulator.moments_at(high).mean - simulator.moments_at(low).mean
        columns.append(difference / (2 * step))
    return np.array(columns).T


def standard_errors(fisher_information: np.ndarray) -> np.ndarray:
    """Standard errors; infinite for unidentified parameters."""
    if np.linalg.cond(fisher_information) > 1e10:
        return np.full(len(fisher_information), np.inf)
    return np.sqrt(np.diag(np.linalg.inv(fisher_information)))


def plot_surfaces(surfaces: dict[Design, Surface], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = resources.files("mores.report") / "mores.mplstyle"
    with resources.as_file(style) as style_path, plt.style.context(str(style_path)):
        figure, grid = plt.subplots(2, 2, figsize=(8.6, 7.4), layout="constrained")
        for (design, surface), axes in zip(surfaces.items(), grid.flat, strict=True):
            levels = np.array([0, 1, 2.3, REGION_THRESHOLD, 12, 25, 50, 100])
            clipped = np.minimum(surface.simulated, levels[-1] - 1e-6)
            filled = axes.contourf(*surface.axes, clipped, levels, cmap="Blues_r")
            region = [REGION_THRESHOLD]
            axes.contour(*surface.axes, surface.simulated, region, colors="#0072B2")
            axes.contour(*surface.axes, surface.exact, region, colors="#D55E00", linestyles="--")
            axes.plot(*(TRUTH[name] for name in design.fitted), "k+", markersize=9)
            axes.set(title=design.title, xlabel=design.fitted[0], ylabel=design.fitted[1])
            axes.set_xscale("log")
            if "utility_scale" in design.fitted:
                axes.set_yscale("log")
            ticks = [0.25, 0.5, 1, 2, 4]
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            if "utility_scale" in design.fitted:
                axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        figure.colorbar(filled, ax=grid, label="distance from the targets", shrink=0.7)
        figure.savefig(path, dpi=110, facecolor="white")
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=25, help="points on each side of a grid")
    parser.add_argument("--picture", type=Path, default=None, help="PNG to write")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    surfaces, rows = {}, {}
    for design in DESIGNS:
        surfaces[design] = result = compute_surface(design, args.size)
        row = {
            "fitted": design.fitted,
            "margins": design.margins,
            "standard_errors_simulated": to_json(result.errors),
            "standard_errors_fisher": to_json(result.exact_errors),
            "share_of_the_ranges_inside_95_percent": round(
                float((result.simulated <= REGION_THRESHOLD).mean()), 4
            ),
        }
        rows[design.title] = row
        print(f"{design.title}: {row}", flush=True)
    if args.picture is not None:
        plot_surfaces(surfaces, args.picture)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


def to_json(errors: np.ndarray) -> list[float | None]:
    return [round(float(e), 4) if math.isfinite(e) else None for e in errors]


if __name__ == "__main__":
    main()
