"""Learning curves: means over replicates by episode, with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from mores.analysis.intervals import estimate
from mores.analysis.replicate_statistics import t_margin
from mores.core.component_names import component_index, component_labels
from mores.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import xarray

LOG_LEVEL = 0.95  # coverage of the intervals in logs


def learning_curve(
    curves: xarray.Dataset,
    learning: xarray.Dataset,
    name: str,
    level: float,
    metric_bounds: Mapping[str, tuple[float, float]],
) -> xarray.Dataset:
    """Mean and interval of one quantity by episode: see `TrainingResult.learning_curve`.

    `metric_bounds`: smallest and largest possible values of the metrics in `curves`, if known.
    """
    import xarray  # slow to import

    if not isinstance(level, (int, float)) or not 0.0 < level < 1.0:
        message = f"level: must be between 0 and 1, not {level!r:.40}"
        raise UserError(message, code="out_of_range", path="level")
    values = _by_replicate(curves, learning, name)
    base = name.partition("[")[0]
    bounds = metric_bounds.get(base) if base in curves else None
    columns = []
    for x in values.T:
        x = x[~np.isnan(x)].astype(float)
        if len(x) > 1:
            found = estimate(x, "mean", level, bounds)
            columns.append((found.value, found.low, found.high))
        else:
            columns.append((float(x[0]) if len(x) else np.nan, np.nan, np.nan))
    rows = np.array(columns).reshape(-1, 3).T
    data = {each: ("episode", row) for each, row in zip(("mean", "low", "high"), rows, strict=True)}
    attributes = {"quantity": name, "level": level, "replicates": len(values)}
    return xarray.Dataset(data, {"episode": curves["episode"].values}, attributes)


def _by_replicate(
    curves: xarray.Dataset, learning: xarray.Dataset, name: str
) -> Float[np.ndarray, "replicate episode"]:
    """A quantity, mean over the worlds of each replicate."""
    base, bracket, index = name.partition("[") if isinstance(name, str) else (name, "", "")
    known = [str(each) for each in (*curves.data_vars, *learning.data_vars)]
    if base not in known:
        message = f"name: no quantity {base!r:.60}{did_you_mean(base, known)}"
        raise UserError(message, code="unknown_name", path="name")
    source = curves if base in curves else learning
    values = source[base].values
    if values.ndim == 3:
        dimension, size = source[base].dims[2], values.shape[2]
        names = source[dimension].values.tolist() if dimension in source.coords else []
        number = index.removesuffix("]")
        component = component_index(number, names, size) if index != number else None
        if component is None:
            first = component_labels(names, size)[0]
            message = f"name: {base} has {size} components: name one, such as {base}[{first}]"
            raise UserError(message, code="invalid_value", path="name")
        values = values[..., component]
    elif bracket:
        message = f"name: {base} has no components"
        raise UserError(message, code="invalid_value", path="name")
    if source is learning:
        return values
    return replicate_means(values.astype(float), source["replicate"].values)


def replicate_means(
    values: Shaped[np.ndarray, "world *more"], replicate: Int[np.ndarray, " world"]
) -> Shaped[np.ndarray, "replicate *more"]:
    """Mean over the worlds of each replicate."""
    return np.stack([values[replicate == each].mean(0) for each in np.unique(replicate)])


def log_values(
    metrics: Mapping[str, Shaped[np.ndarray, "world *component"]],
    learning: Mapping[str, Float[np.ndarray, "replicate model"]],
    replicate: Sequence[int] | Int[np.ndarray, " world"],
) -> dict[str, float]:
    """Numbers of an episode for a log: means over replicates, without NaN.

    With two replicates or more also `NAME.low` and `NAME.high`, the ends of Student's t interval.
    """
    numbers = np.asarray(replicate)
    by_replicate = {n: replicate_means(x.astype(float), numbers) for n, x in metrics.items()}
    logged: dict[str, float] = {}
    for name, values in {**by_replicate, **learning}.items():
        for full_name, column in _columns(name, values):
            column = column[~np.isnan(column)].astype(float)
            if not len(column):
                continue
            mean = logged[full_name] = float(column.mean())
            if len(column) > 1:
                margin = float(t_margin(column, LOG_LEVEL))
                logged |= {f"{full_name}.low": mean - margin, f"{full_name}.high": mean + margin}
    return logged


def _columns(
    name: str, values: Shaped[np.ndarray, "replicate *component"]
) -> Iterator[tuple[str, Shaped[np.ndarray, " replicate"]]]:
    """A quantity by component; the name has no index if there is one."""
    rows = values.reshape(len(values), -1)
    for index, column in enumerate(rows.T):
        yield (name if rows.shape[1] == 1 else f"{name}[{index}]"), column
