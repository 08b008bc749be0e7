"""What choices say of rationality, flips and the scale of utility: the distance as a surface.

People choose between two options whose worth differs by d, and answer the better one with
probability P(d) = (1 - 2 flip) s(rationality * scale * d) + flip. Four calibrations of two of these
parameters at a time are laid out on a grid and played: with and without ratings, with small
margins and with some large ones. Targets are the exact shares at rationality 1, scale 1 and flip
0.1; dashed lines are the exact distance (binomial counts), which knows nothing of the simulation.

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

TRUTH = {"rationality": 1.0, "scale": 1.0, "flip": 0.1}
RANGES = {"rationality": (0.25, 4.0), "scale": (0.25, 4.0), "flip": (0.0, 0.4)}
PEOPLE, ROUNDS, REPLICATES = 300, 2, 100
RATING_NOISE = 2.0
INSIDE = 5.99  # of two parameters' 95 % region: chi-square with 2 degrees of freedom


class Design(NamedTuple):
    """A study: which pairs people choose between, whether they rate them, what is fitted."""

    title: str
    fitted: tuple[str, str]
    margins: tuple[float, ...]
    ratings: bool


DESIGNS = (
    Design("choices alone", ("rationality", "scale"), (0.5, 1.0, 2.0), False),
    Design("choices and ratings", ("rationality", "scale"), (0.5, 1.0, 2.0), True),
    Design("small margins", ("rationality", "flip"), (0.25, 0.5, 1.0), False),
    Design("small and large margins", ("rationality", "flip"), (0.25, 0.5, 1.0, 6.0, 12.0), False),
)


def shares(margins: tuple[float, ...], values: dict[str, float]) -> np.ndarray:
    """Expected share of better options, by margin."""
    steep = values["rationality"] * values["scale"]
    right = np.array([1.0 / (1.0 + math.exp(-steep * margin)) for margin in margins])
    return (1.0 - 2.0 * values["flip"]) * right + values["flip"]


def exact_variances(design: Design) -> np.ndarray:
    """Of the figures of one study at the truth: binomial shares, then the slope of ratings.

    Each margin is shown in a random share of all pairs; 1 / count is taken at its expectation. The
    difference of two ratings has twice the variance of one.
    """
    answers = PEOPLE * ROUNDS
    p = shares(design.margins, TRUTH)
    found = p * (1 - p) * len(design.margins) / answers
    if design.ratings:
        squares = answers * float(np.mean(np.square(design.margins)))
        found = np.append(found, 2 * RATING_NOISE**2 / squares)
    return found


def exact_figures(design: Design, values: dict[str, float]) -> np.ndarray:
    found = shares(design.margins, values)
    return np.append(found, values["scale"]) if design.ratings else found


def information(design: Design, fitted: tuple[str, ...]) -> np.ndarray:
    """Fisher's information of a study on some parameters at the truth, by the closed form.

    Of a binomial share: (dP/da) (dP/db) n / (P (1 - P)); of a normal figure likewise.
    """
    steep = TRUTH["rationality"] * TRUTH["scale"]
    d = np.array(design.margins)
    right = 1.0 / (1.0 + np.exp(-steep * d))
    rise = (1.0 - 2.0 * TRUTH["flip"]) * right * (1.0 - right) * d
    slopes = {
        "rationality": rise * TRUTH["scale"],
        "scale": rise * TRUTH["rationality"],
        "flip": 1.0 - 2.0 * right,
    }
    if design.ratings:
        of_rating = {"rationality": 0.0, "scale": 1.0, "flip": 0.0}
        slopes = {name: np.append(slope, of_rating[name]) for name, slope in slopes.items()}
    jacobian = np.array([slopes[name] for name in fitted]).T
    return jacobian.T @ (jacobian / exact_variances(design)[:, None])


def scenario(design: Design) -> LoadedScenario:
    """The calibration as a user would write it."""
    figures = exact_figures(design, TRUTH)
    names = [f"picked[{number}]" for number in range(len(design.margins))]
    names += ["rating_slope"] if design.ratings else []
    document: dict[str, Any] = {
        "name": "identifiability",
        "about": "People choose between two options.",
        "env": {
            "kind": "pairs",
            "people": PEOPLE,
            "margins": list(design.margins),
            "ratings": design.ratings,
        },
        "players": {"person": {"kind": "chooser", "rating_noise": RATING_NOISE, **TRUTH}},
        "rounds": ROUNDS,
        "replicates": REPLICATES,
        "measures": ["picked", *(["rating_slope"] if design.ratings else [])],
        "calibration": {
            "parameters": {f"players.person.{name}": RANGES[name] for name in design.fitted},
            "targets": [
                {"says": name, "measure": name, "value": float(figure)}
                for name, figure in zip(names, figures, strict=True)
            ],
        },
    }
    document, places = strict_yaml.parse(json.dumps(document), "identifiability")
    return LoadedScenario(
        loading.validate_document(document, places), places, Path("identifiability"), "", document
    )


class Surface(NamedTuple):
    """The distance on a grid of two parameters, simulated and exact."""

    axes: tuple[np.ndarray, np.ndarray]
    simulated: np.ndarray
    exact: np.ndarray
    errors: np.ndarray
    exact_errors: np.ndarray


def surface(design: Design, size: int) -> Surface:
    loaded = scenario(design)
    simulator = MomentSimulator(loaded)
    targets = loaded.scenario.calibration
    assert targets is not None
    wanted = np.array([target.value for target in targets.targets])
    distance = MomentDistance(simulator, range(len(wanted)), wanted)
    truth = distance.to_unit_cube(np.array([TRUTH[name] for name in design.fitted]))
    distance.set_weights(truth)
    grid = np.linspace(0.0, 1.0, size)
    simulated, exact = np.empty((size, size)), np.empty((size, size))
    for (i, first), (j, second) in itertools.product(enumerate(grid), enumerate(grid)):
        unit = np.array([first, second])
        values = dict(TRUTH) | dict(
            zip(design.fitted, distance.from_unit_cube(unit).tolist(), strict=True)
        )
        simulated[j, i] = distance(unit)
        off = exact_figures(design, values) - exact_figures(design, TRUTH)
        exact[j, i] = np.sum(off**2 / exact_variances(design))
    axes = tuple(
        np.array([distance.from_unit_cube(np.array([g, g]))[k] for g in grid]) for k in (0, 1)
    )
    # in the file's units: the search has rationality and scale by logarithm
    raw = distance.whitening @ _slopes(simulator, design)
    found = _errors(raw.T @ raw)
    fisher = _errors(information(design, design.fitted))
    return Surface((axes[0], axes[1]), simulated, exact, found, fisher)


def _slopes(simulator: MomentSimulator, design: Design, step: float = 0.02) -> np.ndarray:
    """Change of the simulated figures with the parameters at the truth."""
    columns = []
    for j, name in enumerate(design.fitted):
        up = np.array([TRUTH[other] for other in design.fitted])
        down = up.copy()
        up[j], down[j] = TRUTH[name] + step, TRUTH[name] - step
        columns.append(
            (simulator.moments_at(up).mean - simulator.moments_at(down).mean) / (2 * step)
        )
    return np.array(columns).T


def _errors(information: np.ndarray) -> np.ndarray:
    """Standard errors; infinite where parameters cannot be told apart."""
    if np.linalg.cond(information) > 1e10:
        return np.full(len(information), np.inf)
    return np.sqrt(np.diag(np.linalg.inv(information)))


def draw(found: dict[Design, Surface], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = resources.files("mores.experiments.run") / "mores.mplstyle"
    with resources.as_file(style) as file, plt.style.context(str(file)):
        figure, grid = plt.subplots(2, 2, figsize=(8.6, 7.4), layout="constrained")
        for (design, here), axes in zip(found.items(), grid.flat, strict=True):
            levels = np.array([0, 1, 2.3, INSIDE, 12, 25, 50, 100])
            shown = np.minimum(here.simulated, levels[-1] - 1e-6)
            filled = axes.contourf(*here.axes, shown, levels, cmap="Blues_r")
            axes.contour(*here.axes, here.simulated, [INSIDE], colors="#0072B2")
            axes.contour(*here.axes, here.exact, [INSIDE], colors="#D55E00", linestyles="--")
            axes.plot(*(TRUTH[name] for name in design.fitted), "k+", markersize=9)
            axes.set(title=design.title, xlabel=design.fitted[0], ylabel=design.fitted[1])
            axes.set_xscale("log")
            if "scale" in design.fitted:
                axes.set_yscale("log")
            ticks = [0.25, 0.5, 1, 2, 4]
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            if "scale" in design.fitted:
                axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        figure.colorbar(filled, ax=grid, label="distance from the targets", shrink=0.7)
        figure.savefig(path, dpi=110, facecolor="white")
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=25, help="points on each side of a grid")
    parser.add_argument("--picture", type=Path, default=None, help="PNG to write")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found, rows = {}, {}
    for design in DESIGNS:
        found[design] = here = surface(design, asked.num_samples)
        row = {
            "fitted": design.fitted,
            "margins": design.margins,
            "standard_errors_simulated": _plain(here.errors),
            "standard_errors_fisher": _plain(here.exact_errors),
            "share_of_the_ranges_inside_95_percent": round(
                float((here.simulated <= INSIDE).mean()), 4
            ),
        }
        rows[design.title] = row
        print(f"{design.title}: {row}", flush=True)
    if asked.picture is not None:
        draw(found, asked.picture)
    if asked.out is not None:
        asked.out.write_text(json.dumps(rows, indent=2) + "\n")


def _plain(errors: np.ndarray) -> list[float | None]:
    return [round(float(e), 4) if math.isfinite(e) else None for e in errors]


if __name__ == "__main__":
    main()
