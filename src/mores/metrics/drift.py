"""Movement of a community's mean value: distance, displacement, path length, half-life.

Distances are Euclidean, in value units. `path_length`, `straightness_index` and
`disagreement_half_life` are metrics of a trajectory, see `mores.core.metric`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total
from mores.core.errors import UserError
from mores.core.people_statistics import rms_distance

Values = Float[Tensor, "world agent value"]
Scalars = Float[Tensor, " world"]


def distance_from_control(
    vectors: Float[np.ndarray, "*many component"], control: Float[np.ndarray, "*many component"]
) -> Float[np.ndarray, "*many"]:
    """Distance between a vector metric of an arm and of the control: ||v_t - v_t'||.

    Both arms share their people and random numbers, so the distance is the effect of the changed
    parameter. An arm without a change has distance 0, bit for bit.
    """
    difference = vectors.astype(np.float64) - control.astype(np.float64)
    return np.sqrt((difference * difference).sum(-1))


def drift(values: Values, initial_values: Values) -> Scalars:
    """Distance of the mean value from its start."""
    return norm(mean(values, 1) - mean(initial_values, 1))


def displacement(
    values: Values, initial_values: Values, *, direction: tuple[float, ...]
) -> Scalars:
    """Movement of the mean value since the start along a direction, in value units; signed.

    `direction`: one number for each value, of any length above 0.
    """
    vector = torch.tensor(direction, dtype=values.dtype, device=values.device)
    if vector.shape != values.shape[2:] or not bool(vector.any()):
        raise UserError(
            f"displacement: the direction must have {values.shape[2]} numbers, not all 0, "
            f"not {list(direction)}",
            code="wrong_shape",
            path="direction",
        )
    movement = mean(values, 1) - mean(initial_values, 1)
    return total(movement * (vector / norm(vector)), -1)


def path_length(values: Values, memory: Any = None) -> tuple[Scalars, Any]:
    """Length of the path of the mean value so far: sum of ||v_s - v_(s-1)||; 0 at the start."""
    position = mean(values, 1)
    if memory is None:
        length = torch.zeros_like(position[:, 0])
    else:
        previous, length = memory
        length = length + norm(position - previous)
    return length, (position, length)


def straightness_index(
    values: Values, initial_values: Values, memory: Any = None
) -> tuple[Scalars, Any]:
    """Drift over path length: 1 for a straight path, near 0 for a random walk.

    NaN for a path of length 0, which has no direction. Batschelet 1981, Circular Statistics in
    Biology, ch. 12.
    """
    length, memory = path_length(values, memory)
    distance = drift(values, initial_values)
    return torch.where(length > 0, distance / length, torch.nan), memory


def disagreement_half_life(values: Values, memory: Any = None) -> tuple[Scalars, Any]:
    """Rounds until the root mean square distance from the mean value first was half the initial.

    Geometric interpolation between two rounds, which is exact for geometric decay. Infinite until
    then; NaN if people agree at the start.
    """
    distance = rms_distance(values).double()
    if memory is None:
        infinite = torch.full_like(distance, torch.inf)
        half_life = torch.where(distance > 0, infinite, torch.nan)
        return half_life.float(), (distance, distance, 0 * distance, half_life)
    initial, before, rounds, half_life = memory
    log_ratio = torch.log(distance / initial * 2.0)  # at most 0: half has been reached
    log_before = torch.log(before / initial * 2.0)
    fraction = torch.where(distance > 0, log_before / (log_before - log_ratio), 1.0)
    crosses = (log_ratio <= 0) & half_life.isinf()
    half_life = torch.where(crosses, rounds + fraction, half_life)
    return half_life.float(), (initial, distance, rounds + 1, half_life)
