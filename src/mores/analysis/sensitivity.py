"""Which of several uncertain parameters carries a result: Sobol and Morris indices by SALib.

`sample_design` says at which points of the parameters to play, `compute_indices` reads what came out there.

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

from mores.analysis.intervals import ConfidenceBand, estimate
from mores.core.errors import UserError, did_you_mean

SensitivityMethod = Literal["sobol", "morris"]
METHODS: tuple[SensitivityMethod, ...] = ("sobol", "morris")
ParameterRanges = Mapping[str, tuple[float, float]]

NUM_LEVELS = 4  # of Morris' grid, as in Campolongo et al.; a step is 2/3 of a range
TOLERANCE_IN_ULPS = 32  # last bits of float32 by which outputs differ that are alike
MAX_RESAMPLES = 1000
MAX_RESAMPLED_VALUES = 2**23  # numbers at once


@dataclasses.dataclass(frozen=True)
class SensitivityIndices:
    """How much each parameter matters. What the method does not give is none.

    Attributes:
        method: sobol or morris.
        parameter_names: of the parameters, in the order of all arrays.
        num_points: how many outputs were used.
        description: how the figures were made, or why there are none, in words.
        first_order, total_order: of Sobol; shares of the variance. Estimates may lie a little outside [0, 1].
        mu_star, sigma: of Morris; in units of the output.
        noise_share: share of the outputs' variance that is Monte Carlo noise; none if not known.
    """

    method: SensitivityMethod
    parameter_names: tuple[str, ...]
    num_points: int
    description: str
    first_order: ConfidenceBand | None = None
    total_order: ConfidenceBand | None = None
    mu_star: ConfidenceBand | None = None
    sigma: ConfidenceBand | None = None
    noise_share: float | None = None

    @property
    def ranking_index(self) -> ConfidenceBand:
        """What parameters are ranked by: `total`, or `mu_star`."""
        band = self.total_order if self.method == "sobol" else self.mu_star
        assert band is not None
        return band

    def to_dict(self) -> dict[str, Any]:
        """As JSON: each index with its 95 % interval, by parameter."""
        bands = {"first": self.first_order, "total": self.total_order, "mu_star": self.mu_star}
        bands["sigma"] = self.sigma
        told: dict[str, Any] = {
            "method": self.method,
            "points": self.num_points,
            "about": self.description,
        }
        told["noise"] = self.noise_share
        for name, band in bands.items():
            if band is not None:
                rows = zip(self.parameter_names, *(part.tolist() for part in band), strict=True)
                told[name] = {n: {"value": v, "low": lo, "high": hi} for n, v, lo, hi in rows}
        return told

    @property
    def ranked_names(self) -> tuple[str, ...]:
        """Names, the most important first; those without a figure in the given order."""
        return tuple(
            self.parameter_names[i] for i in np.argsort(-self.ranking_index.value, kind="stable")
        )


def sample_design(
    method: str, ranges: ParameterRanges, size: int, seed: int
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
    problem = _salib_problem(method, ranges)
    if size < 2 or (method == "sobol" and size & (size - 1)):
        rule = "a power of 2 from 2 on" if method == "sobol" else "at least 2"
        message = f"sensitivity: the size of {method} is {rule}, not {size}"
        code = "out_of_range" if size < 2 else "invalid_value"
        raise UserError(message, code=code, path="size")
    sampling, _ = _import_salib(method)
    chance = np.random.default_rng(seed)
    if method == "sobol":
        return sampling.sample(problem, size, calc_second_order=False, seed=chance)
    return sampling.sample(problem, size, num_levels=NUM_LEVELS, seed=chance)


def compute_indices(
    method: str,
    ranges: ParameterRanges,
    points: Float[np.ndarray, "point parameter"],
    outputs: Float[np.ndarray, " output"],
    standard_errors: Float[np.ndarray, " output"] | None = None,
    *,
    seed: int = 0,
) -> SensitivityIndices:
    """How much each parameter matters for the outputs, with 95 % intervals.

    Sobol's intervals resample base points (normal, by the bootstrap's standard deviation), as if
    these had been drawn independently: they are rather too wide, the sequence being even. Morris':
    `mu_star` by Student's t over paths, `sigma` by a bootstrap of its logarithm. Where outputs
    are all alike, but for rounding, Sobol's shares are nan: there is no variance to share. Where
    any output is not finite all figures are nan, for to leave points out would hide what failed.

    Args:
        method: as the design was made.
        ranges: as the design was made.
        points: the points.
        outputs: what came out at each.
        standard_errors: standard errors of the outputs, if known, for `noise`.
        seed: of the bootstrap.

    Raises:
        UserError: design, outputs and ranges do not fit together.
    """
    problem = _salib_problem(method, ranges)
    names, outputs = tuple(ranges), np.asarray(outputs, dtype=np.float64)
    _check_shapes(method, problem, points, outputs)
    noise = (
        None
        if standard_errors is None
        else _noise_share(outputs, np.asarray(standard_errors, dtype=np.float64))
    )
    made = SensitivityIndices(cast("SensitivityMethod", method), names, len(outputs), "", noise_share=noise)
    wrong = len(outputs) - int(np.isfinite(outputs).sum())
    if wrong:
        return _uniform_indices(made, math.nan, f"{wrong} of {len(outputs)} outputs are not finite")
    apart, largest = np.ptp(outputs), np.abs(outputs).max()
    if apart <= TOLERANCE_IN_ULPS * float(np.finfo(np.float32).eps) * largest:
        value = math.nan if method == "sobol" else 0.0
        return _uniform_indices(
            made, value, f"all {len(outputs)} outputs are alike: nothing matters"
        )
    if method == "sobol":
        return _sobol_indices(made, problem, outputs, seed)
    return _morris_indices(made, problem, points, outputs)


def _sobol_indices(
    result: SensitivityIndices, problem: dict[str, Any], outputs: np.ndarray, seed: int
) -> SensitivityIndices:
    _, analysis = _import_salib("sobol")
    size = len(outputs) // (len(result.parameter_names) + 2)
    resamples = int(np.clip(MAX_RESAMPLED_VALUES // size, 100, MAX_RESAMPLES))
    found = analysis.analyze(
        problem,
        outputs,
        calc_second_order=False,
        num_resamples=resamples,
        seed=np.random.default_rng(seed),  # a bare 0 would not be taken for a seed
    )

    def band(name: str) -> ConfidenceBand:
        value, reach = np.asarray(found[name], float), np.asarray(found[f"{name}_conf"], float)
        return ConfidenceBand(value, value - reach, value + reach)

    about = f"Sobol indices (Saltelli 2010) of {size} base points; bootstrap of {resamples}"
    return dataclasses.replace(
        result, description=about, first_order=band("S1"), total_order=band("ST")
    )


def _morris_indices(
    result: SensitivityIndices, problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray
) -> SensitivityIndices:
    _, analysis = _import_salib("morris")
    found = analysis.analyze(
        problem, points, outputs, num_levels=NUM_LEVELS, seed=np.random.default_rng(0)
    )  # of its own intervals, which are not used
    effects = _elementary_effects(problem, points, outputs)  # path parameter
    intervals = {
        "mu_star": [estimate(np.abs(column), "mean") for column in effects.T],
        "sigma": [estimate(column, "sd") for column in effects.T],
    }

    def band(name: str) -> ConfidenceBand:
        value = np.asarray(found[name], dtype=np.float64)
        low = np.array([max(0.0, e.low) for e in intervals[name]])
        return ConfidenceBand(value, low, np.array([e.high for e in intervals[name]]))

    about = f"Morris' elementary effects on {len(effects)} paths; intervals over paths"
    return dataclasses.replace(
        result, description=about, mu_star=band("mu_star"), sigma=band("sigma")
    )


def _elementary_effects(
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


def _noise_share(outputs: np.ndarray, standard_errors: np.ndarray) -> float:
    variance = outputs.var()
    return (
        float(np.mean(standard_errors * standard_errors) / variance) if variance > 0 else math.nan
    )


def _uniform_indices(
    result: SensitivityIndices, value: float, description: str
) -> SensitivityIndices:
    """The same figure for every parameter, without an interval."""
    whole = np.full(len(result.parameter_names), value)
    band = ConfidenceBand(whole, whole, whole)
    names = ("first", "total") if result.method == "sobol" else ("mu_star", "sigma")
    return dataclasses.replace(result, description=description, **dict.fromkeys(names, band))


def _salib_problem(method: str, ranges: ParameterRanges) -> dict[str, Any]:
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


def _check_shapes(
    method: str, problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray
) -> None:
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


def _import_salib(method: str) -> tuple[Any, Any]:
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
