"""Sensitivity of an output to uncertain parameters: Sobol and Morris indices by SALib.

`sample_design` returns the points to simulate. `compute_indices` computes indices from the outputs.

**Sobol** (Saltelli et al. 2010; Sobol 2001): shares of the output's variance for parameters drawn
uniformly from their ranges. `first_order`: share explained by one parameter alone. `total_order`:
share that remains if all other parameters are fixed; above `first_order` where parameters
interact. The design has `size * (parameters + 2)` points.

**Morris** (1991; Campolongo et al. 2007): trajectories that change one parameter at a time by two
thirds of its range. An elementary effect is the change of the output per whole range. `mu_star`:
mean absolute effect, in units of the output. `sigma`: standard deviation of the effects over the
trajectories; large relative to `mu_star` for nonlinear effects and interactions. The design has
`size * (parameters + 1)` points. A few trajectories screen the parameters; Sobol indices need
hundreds of base points.

**Monte Carlo noise.** An output is a mean over a few replicates. Noise with variance v, independent
between points, next to a variance V of the noise-free output, scales `first_order` by V / (V + v)
and changes `total_order` to (V total + v) / (V + v): with enough noise, every parameter seems to
matter, and only in interactions. In Morris, a parameter without effect has a mu_star of about
1.7 sqrt(v). `noise_share` is v / (V + v), if standard errors are given; a total-order index not
above it shows no effect. If all points share their random numbers, as the cells of an experiment
do, common noise cancels, and the rest is part of the simulated function: the indices are exact for
these replicates, and `noise_share` is an upper bound, reduced by replicates and not by points.

Integer parameters: round the points before the simulation; the indices are those of the rounded
parameter.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import ConfidenceBand, confidence_band, estimate
from mores.core.errors import UserError, did_you_mean

INDEX_NAMES = {"sobol": ("first_order", "total_order"), "morris": ("mu_star", "sigma")}
RANKING_INDEX = {"sobol": "total_order", "morris": "mu_star"}
ParameterRanges = Mapping[str, tuple[float, float]]

NUM_LEVELS = 4  # of Morris' grid, as in Campolongo et al.; a step is 2/3 of a range
TOLERANCE_IN_ULPS = 32  # of float32: outputs within this tolerance count as equal
MAX_RESAMPLES = 1000
MAX_RESAMPLED_VALUES = 2**23  # values in memory at once


@dataclasses.dataclass(frozen=True)
class SensitivityIndices:
    """Sensitivity indices of each parameter.

    Attributes:
        method: sobol or morris.
        parameter_names: in the order of all arrays.
        num_points: number of outputs.
        description: method and sample sizes, or the reason for missing indices.
        bands: each index with its 95 % interval, by name. Sobol: `first_order`, `total_order`,
            shares of the variance; estimates may leave [0, 1]. Morris: `mu_star`, `sigma`, in
            units of the output.
        noise_share: share of Monte Carlo noise in the outputs' variance; None if unknown.
    """

    method: str
    parameter_names: tuple[str, ...]
    num_points: int
    description: str
    bands: Mapping[str, ConfidenceBand]
    noise_share: float | None = None

    @property
    def ranking_index(self) -> ConfidenceBand:
        """Index that ranks the parameters: `total_order` or `mu_star`."""
        return self.bands[RANKING_INDEX[self.method]]

    @property
    def order(self) -> list[int]:
        """Parameters by decreasing index; those with a nan index last, in the given order."""
        return np.argsort(-self.ranking_index.value, kind="stable").tolist()

    @property
    def ranked_names(self) -> tuple[str, ...]:
        """Names in that order."""
        return tuple(self.parameter_names[i] for i in self.order)

    def to_dict(self) -> dict[str, Any]:
        """JSON content: each index with its 95 % interval, by parameter."""
        indices = {}
        for name, band in self.bands.items():
            rows = zip(*(part.tolist() for part in band), strict=True)
            entries = (dict(zip(band._fields, row, strict=True)) for row in rows)
            indices[name] = dict(zip(self.parameter_names, entries, strict=True))
        fields = ("method", "num_points", "description", "noise_share")
        return {field: getattr(self, field) for field in fields} | indices


def sample_design(
    method: str, ranges: ParameterRanges, size: int, seed: int
) -> Float[np.ndarray, "point parameter"]:
    """Points to simulate.

    Args:
        method: sobol or morris.
        ranges: low and high end of each parameter, by name (such as a dotted path).
        size: sobol: base points, a power of 2; morris: trajectories, at least 2.
        seed: seed of the scrambled sequence, or of the trajectories.

    Raises:
        UserError: an unknown method, no parameters, an empty range, or an invalid size.
    """
    problem = _salib_problem(method, ranges)
    if size < 2 or (method == "sobol" and size & (size - 1)):
        rule = "a power of 2, at least 2" if method == "sobol" else "at least 2"
        message = f"sensitivity: size {size} of {method}: must be {rule}"
        code = "out_of_range" if size < 2 else "invalid_value"
        raise UserError(message, code=code, path="size")
    options = {"calc_second_order": False} if method == "sobol" else {"num_levels": NUM_LEVELS}
    generator = np.random.default_rng(seed)
    return _salib("sample", method).sample(problem, size, **options, seed=generator)


def compute_indices(
    method: str,
    ranges: ParameterRanges,
    points: Float[np.ndarray, "point parameter"],
    outputs: Float[np.ndarray, " output"],
    standard_errors: Float[np.ndarray, " output"] | None = None,
    *,
    seed: int = 0,
) -> SensitivityIndices:
    """Sensitivity indices of each parameter with 95 % intervals.

    Sobol: the intervals resample base points (normal, with the bootstrap's standard deviation) as
    if drawn independently; they are somewhat too wide, since the sequence is even. Morris:
    `mu_star` by Student's t over trajectories, `sigma` by a bootstrap of its logarithm. Outputs
    equal up to rounding have no variance to share: Sobol indices are nan. If any output is not
    finite, all indices are nan, since dropping points would hide a failure.

    Args:
        method: method of the design.
        ranges: ranges of the design.
        points: points of the design.
        outputs: output at each point.
        standard_errors: standard errors of the outputs, if known, for `noise_share`.
        seed: seed of the bootstrap.

    Raises:
        UserError: shapes of points, outputs and ranges do not match the design.
    """
    problem = _salib_problem(method, ranges)
    outputs = np.asarray(outputs, dtype=np.float64)
    count, size = len(ranges), len(outputs)
    block = count + (2 if method == "sobol" else 1)
    if points.shape != (size, count) or outputs.ndim != 1:
        message = f"points {points.shape} and outputs {outputs.shape}"
        message = f"sensitivity: {message} do not match a design of {count} parameters"
        raise UserError(message, code="wrong_shape", path="design")
    if not size or size % block:
        message = f"{method} with {count} parameters has blocks of {block} points"
        message = f"sensitivity: {message}, and {size} is not a multiple"
        raise UserError(message, code="wrong_shape", path="design")
    noise_share = None
    if standard_errors is not None:
        variance, errors = outputs.var(), np.asarray(standard_errors, dtype=np.float64)
        noise_share = float(np.mean(errors * errors) / variance) if variance > 0 else math.nan
    values = np.full(count, math.nan)
    bands = dict.fromkeys(INDEX_NAMES[method], ConfidenceBand(values, values, values))
    tolerance = TOLERANCE_IN_ULPS * float(np.finfo(np.float32).eps)
    if bad := size - int(np.isfinite(outputs).sum()):
        description = f"{bad} of {size} outputs are not finite"
    elif np.ptp(outputs) <= tolerance * np.abs(outputs).max():
        description = f"all {size} outputs are equal: no parameter has an effect"
        values[:] = math.nan if method == "sobol" else 0.0
    elif method == "sobol":
        description, bands = _sobol_indices(problem, outputs, seed)
    else:
        description, bands = _morris_indices(problem, points, outputs)
    return SensitivityIndices(method, tuple(ranges), size, description, bands, noise_share)


def _sobol_indices(
    problem: dict[str, Any], outputs: np.ndarray, seed: int
) -> tuple[str, dict[str, ConfidenceBand]]:
    size = len(outputs) // (problem["num_vars"] + 2)
    resamples = int(np.clip(MAX_RESAMPLED_VALUES // size, 100, MAX_RESAMPLES))
    sobol = _salib("analyze", "sobol").analyze(
        problem,
        outputs,
        calc_second_order=False,
        num_resamples=resamples,
        seed=np.random.default_rng(seed),  # SALib ignores a seed of 0
    )
    bands = {}
    for name, key in (("first_order", "S1"), ("total_order", "ST")):
        value, margin = (np.asarray(sobol[k], dtype=np.float64) for k in (key, f"{key}_conf"))
        bands[name] = ConfidenceBand(value, value - margin, value + margin)
    text = f"Sobol indices (Saltelli 2010) of {size} base points; bootstrap of {resamples}"
    return text, bands


def _morris_indices(
    problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray
) -> tuple[str, dict[str, ConfidenceBand]]:
    generator = np.random.default_rng(0)  # of SALib's intervals, which are not used
    morris = _salib("analyze", "morris").analyze(
        problem, points, outputs, num_levels=NUM_LEVELS, seed=generator
    )
    effects = _elementary_effects(problem, points, outputs)
    _, low, high = confidence_band(np.abs(effects))
    intervals = {"mu_star": (low, high)}
    spreads = [estimate(x, "sd") for x in effects.T]
    intervals["sigma"] = (np.array([e.low for e in spreads]), np.array([e.high for e in spreads]))
    bands = {}
    for name, (low, high) in intervals.items():
        value = np.asarray(morris[name], dtype=np.float64)
        bands[name] = ConfidenceBand(value, np.maximum(low, 0.0), high)
    text = f"Morris' elementary effects on {len(effects)} trajectories; intervals over trajectories"
    return text, bands


def _elementary_effects(
    problem: dict[str, Any], points: np.ndarray, outputs: np.ndarray
) -> Float[np.ndarray, "trajectory parameter"]:
    """Change of the output per whole range, for each parameter on each trajectory."""
    count = len(problem["names"])
    low, high = np.array(problem["bounds"]).T
    trajectories = ((points - low) / (high - low)).reshape(-1, count + 1, count)
    steps = np.diff(trajectories, axis=1)  # trajectory step parameter
    parameter = np.abs(steps).argmax(-1)
    step_sizes = np.take_along_axis(steps, parameter[..., None], -1)[..., 0]
    slopes = np.diff(outputs.reshape(-1, count + 1), axis=1) / step_sizes
    effects = np.zeros_like(slopes)
    np.put_along_axis(effects, parameter, slopes, axis=1)
    return effects


def _salib_problem(method: str, ranges: ParameterRanges) -> dict[str, Any]:
    """Problem dictionary of SALib: a new one per call, since SALib modifies it."""
    if method not in INDEX_NAMES:
        message = f"sensitivity: no method named {method!r}{did_you_mean(method, INDEX_NAMES)}"
        raise UserError(message, code="unknown_name", path="method")
    if not ranges:
        message = "sensitivity: no parameters are given"
        raise UserError(message, code="missing", path="ranges")
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            message = f"sensitivity: range [{low}, {high}] of {name}: must be finite, low < high"
            raise UserError(message, code="invalid_value", path=f"ranges.{name}")
    bounds = [[float(low), float(high)] for low, high in ranges.values()]
    return {"num_vars": len(ranges), "names": list(ranges), "bounds": bounds}


def _salib(part: Literal["sample", "analyze"], method: str) -> Any:
    """SALib's module for a part of a method, imported on first use."""
    try:
        return importlib.import_module(f"SALib.{part}.{method}")
    except ImportError:
        message = "sensitivity needs SALib: pip install 'mores[sensitivity]'"
        raise UserError(message, code="not_installed") from None
