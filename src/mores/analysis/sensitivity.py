"""Which of several uncertain parameters carries a result: Sobol and Morris indices by SALib.

`design` says at which points of the parameters to play, `indices` reads what came out there.

**Sobol** (Saltelli et al. 2010; Sobol 2001): shares of the output's variance when all parameters
are drawn evenly from their ranges. `first`: what one parameter explains by itself. `total`: what
would be left to explain if all others were known; above `first` where parameters act together.
`size * (parameters + 2)` points.

**Morris** (1991; Campolongo et al. 2007): on paths that change one parameter at a time by two
thirds of its range, the change of the output for a whole range. `mu_star`: mean of its absolute
size, in units of the output. `sigma`: its standard deviation over the paths: large beside `mu_star`
where a parameter's effect is bent or depends on others. `size * (parameters + 1)` points: a few
paths tell which parameters matter at all, where Sobol indices need hundreds of base points.

**Monte Carlo noise.** An output is a mean over a few replicates. Noise of variance v that is
independent from point to point, beside a variance V of the output itself, makes `first` too small
by the factor V / (V + v), and takes `total` to (V total + v) / (V + v): with enough noise every
parameter seems to matter, and only together with the others. In Morris, a parameter without effect
gets mu_star of about 1.7 sqrt(v). `noise` gives v / (V + v), where standard errors are given: a
total index not above it says nothing. If all points share their random numbers, as cells of an
experiment do, what noise adds alike everywhere cancels, the rest is part of the function that was
played: the indices then are exact for these replicates, and noise by its standard error overstates
what is left of it. More replicates make it smaller, more points do not.

Whole numbers among the parameters: round the points before they are played, and the indices are
those of the rounded parameter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import Band, estimate
from mores.core.errors import UserError, did_you_mean

Method = Literal["sobol", "morris"]
METHODS: tuple[Method, ...] = ("sobol", "morris")
Ranges = Mapping[str, tuple[float, float]]

LEVELS = 4  # of Morris' grid, as in Campolongo et al.; a step is 2/3 of a range
ROUNDINGS = 32  # last bits of float32 by which outputs differ that are alike
RESAMPLES = 1000
MOST_RESAMPLED = 2**23  # numbers at once


@dataclasses.dataclass(frozen=True)
class Indices:
    """How much each parameter matters. What the method does not give is none.

    Attributes:
        method: sobol or morris.
        names: of the parameters, in the order of all arrays.
        points: how many outputs were used.
        about: how the figures were made, or why there are none, in words.
        first, total: of Sobol; shares of the variance. Estimates may lie a little outside [0, 1].
        mu_star, sigma: of Morris; in units of the output.
        noise: share of the outputs' variance that is Monte Carlo noise; none if not known.
    """

    method: Method
    names: tuple[str, ...]
    points: int
    about: str
    first: Band | None = None
    total: Band | None = None
    mu_star: Band | None = None
    sigma: Band | None = None
    noise: float | None = None

    @property
    def main(self) -> Band:
        """What parameters are ranked by: `total`, or `mu_star`."""
        band = self.total if self.method == "sobol" else self.mu_star
        assert band is not None
        return band

    def plain(self) -> dict[str, Any]:
        """As JSON: each index with its 95 % interval, by parameter."""
        bands = {"first": self.first, "total": self.total, "mu_star": self.mu_star}
        bands["sigma"] = self.sigma
        told: dict[str, Any] = {"method": self.method, "points": self.points, "about": self.about}
        told["noise"] = self.noise
        for name, band in bands.items():
            if band is not None:
                rows = zip(self.names, *(part.tolist() for part in band), strict=True)
                told[name] = {n: {"value": v, "low": lo, "high": hi} for n, v, lo, hi in rows}
        return told

    @property
    def ranked(self) -> tuple[str, ...]:
        """Names, the most important first; those without a figure in the given order."""
        return tuple(self.names[i] for i in np.argsort(-self.main.value, kind="stable"))


def design(
    method: str, ranges: Ranges, size: int, seed: int
) -> Float[np.ndarray, "point parameter"]:
    """Points to be played.

    Args:
        method: sobol or morris.
        ranges: low and high end of each parameter, by name (a dotted path, say).
        size: sobol: base points, a power of 2; morris: paths, at least 2.
        seed: of the scrambled sequence, or of the paths.

    Raises:
        UserError: an unknown method, no parameters, an empty range, a size that does not fit.
    """
    problem = _problem(method, ranges)
    if size < 2 or (method == "sobol" and size & (size - 1)):
        rule = "a power of 2 from 2 on" if method == "sobol" else "at least 2"
        message = f"sensitivity: the size of {method} is {rule}, not {size}"
        code = "out_of_range" if size < 2 else "invalid_value"
        raise UserError(message, code=code, path="size")
    sampling, _ = _salib(method)
    chance = np.random.default_rng(seed)
    if method == "sobol":
        return sampling.sample(problem, size, calc_second_order=False, seed=chance)
    return sampling.sample(problem, size, num_levels=LEVELS, seed=chance)


def indices(
    method: str,
    ranges: Ranges,
    design: Float[np.ndarray, "point parameter"],
    outputs: Float[np.ndarray, " output"],
    errors: Float[np.ndarray, " output"] | None = None,
    *,
    seed: int = 0,
) -> Indices:
    """How much each parameter matters for the outputs, with 95 % intervals.

    Sobol's intervals resample base points (normal, by the bootstrap's standard deviation), as if
    these had been drawn independently: they are rather too wide, the sequence being even. Morris':
    `mu_star` by Student's t over paths, `sigma` by a bootstrap of its logarithm. Where outputs
    are all alike, but for rounding, Sobol's shares are nan: there is no variance to share. Where
    any output is not finite all figures are nan, for to leave points out would hide what failed.

    Args:
        method: as the design was made.
        ranges: as the design was made.
        design: the points.
        outputs: what came out at each.
        errors: standard errors of the outputs, if known, for `noise`.
        seed: of the bootstrap.

    Raises:
        UserError: design, outputs and ranges do not fit together.
    """
    problem = _problem(method, ranges)
    names, outputs = tuple(ranges), np.asarray(outputs, dtype=np.float64)
    _check(method, problem, design, outputs)
    noise = None if errors is None else _noise(outputs, np.asarray(errors, dtype=np.float64))
    made = Indices(cast("Method", method), names, len(outputs), "", noise=noise)
    wrong = len(outputs) - int(np.isfinite(outputs).sum())
    if wrong:
        return _none(made, math.nan, f"{wrong} of {len(outputs)} outputs are not finite")
    apart, largest = np.ptp(outputs), np.abs(outputs).max()
    if apart <= ROUNDINGS * float(np.finfo(np.float32).eps) * largest:
        value = math.nan if method == "sobol" else 0.0
        return _none(made, value, f"all {len(outputs)} outputs are alike: nothing matters")
    if method == "sobol":
        return _sobol(made, problem, outputs, seed)
    return _morris(made, problem, design, outputs)


def _sobol(made: Indices, problem: dict[str, Any], outputs: np.ndarray, seed: int) -> Indices:
    _, analysis = _salib("sobol")
    size = len(outputs) // (len(made.names) + 2)
    resamples = int(np.clip(MOST_RESAMPLED // size, 100, RESAMPLES))
    found = analysis.analyze(
        problem,
        outputs,
        calc_second_order=False,
        num_resamples=resamples,
        seed=np.random.default_rng(seed),  # a bare 0 would not be taken for a seed
    )

    def band(name: str) -> Band:
        value, reach = np.asarray(found[name], float), np.asarray(found[f"{name}_conf"], float)
        return Band(value, value - reach, value + reach)

    about = f"Sobol indices (Saltelli 2010) of {size} base points; bootstrap of {resamples}"
    return dataclasses.replace(made, about=about, first=band("S1"), total=band("ST"))


def _morris(
    made: Indices, problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray
) -> Indices:
    _, analysis = _salib("morris")
    found = analysis.analyze(
        problem, points, outputs, num_levels=LEVELS, seed=np.random.default_rng(0)
    )  # of its own intervals, which are not used
    effects = _effects(problem, points, outputs)  # path parameter
    intervals = {
        "mu_star": [estimate(np.abs(column), "mean") for column in effects.T],
        "sigma": [estimate(column, "sd") for column in effects.T],
    }

    def band(name: str) -> Band:
        value = np.asarray(found[name], dtype=np.float64)
        low = np.array([max(0.0, e.low) for e in intervals[name]])
        return Band(value, low, np.array([e.high for e in intervals[name]]))

    about = f"Morris' elementary effects on {len(effects)} paths; intervals over paths"
    return dataclasses.replace(made, about=about, mu_star=band("mu_star"), sigma=band("sigma"))


def _effects(
    problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray
) -> Float[np.ndarray, "path parameter"]:
    """Change of the output for a whole range, of each parameter on each path."""
    count = len(problem["names"])
    low, high = np.array(problem["bounds"]).T
    paths = ((points - low) / (high - low)).reshape(-1, count + 1, count)
    steps = np.diff(paths, axis=1)  # path step parameter
    which = np.abs(steps).argmax(-1)
    size = np.take_along_axis(steps, which[..., None], -1)[..., 0]
    slopes = np.diff(outputs.reshape(-1, count + 1), axis=1) / size
    effects = np.zeros_like(slopes)
    np.put_along_axis(effects, which, slopes, axis=1)
    return effects


def _noise(outputs: np.ndarray, errors: np.ndarray) -> float:
    variance = outputs.var()
    return float(np.mean(errors * errors) / variance) if variance > 0 else math.nan


def _none(made: Indices, value: float, about: str) -> Indices:
    """The same figure for every parameter, without an interval."""
    whole = np.full(len(made.names), value)
    band = Band(whole, whole, whole)
    names = ("first", "total") if made.method == "sobol" else ("mu_star", "sigma")
    return dataclasses.replace(made, about=about, **dict.fromkeys(names, band))


def _problem(method: str, ranges: Ranges) -> dict[str, Any]:
    """The parameters as SALib wants them: new each time, for it writes into them."""
    if method not in METHODS:
        message = f"sensitivity: no method {method!r}{did_you_mean(method, METHODS)}"
        raise UserError(message, code="unknown_name", path="method")
    if not ranges:
        message = "sensitivity: no parameters are named"
        raise UserError(message, code="missing", path="ranges")
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            message = f"sensitivity: the range of {name} is [{low}, {high}]: low < high"
            raise UserError(message, code="invalid_value", path=f"ranges.{name}")
    bounds = [[float(low), float(high)] for low, high in ranges.values()]
    return {"num_vars": len(ranges), "names": list(ranges), "bounds": bounds}


def _check(method: str, problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray) -> None:
    count = problem["num_vars"]
    block = count + (2 if method == "sobol" else 1)
    if points.shape != (len(outputs), count) or outputs.ndim != 1:
        message = f"{points.shape} points of {count} parameters, {outputs.shape} outputs"
        message = f"sensitivity: {message} do not go together"
        raise UserError(message, code="wrong_shape", path="design")
    if not len(outputs) or len(outputs) % block:
        message = f"{method} of {count} parameters comes in blocks of {block} points"
        message = f"sensitivity: {message}, not {len(outputs)} in all"
        raise UserError(message, code="wrong_shape", path="design")


def _salib(method: str) -> tuple[Any, Any]:
    """SALib's sampler and analysis of a method, imported when they are needed."""
    try:
        if method == "sobol":
            from SALib.analyze import sobol as analysis
            from SALib.sample import sobol as sampling
        else:
            from SALib.analyze import morris as analysis
            from SALib.sample import morris as sampling
    except ImportError:
        message = "sensitivity needs SALib: pip install 'mores[sensitivity]'"
        raise UserError(message, code="not_installed") from None
    return sampling, analysis
