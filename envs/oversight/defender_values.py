"""Exact outcome of one task for defenders given as tables of probabilities, batched.

The same formulas as `control_outcomes.routed_outcome`, as float64 tensors with leading batch
dimensions and differentiable in the defender: for defenders that learn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.envs.oversight.control_setting import AUDIT, DEFER, EDIT, SUBMIT, ControlSetting


class DefenderRates(NamedTuple):
    """Outcome of an attack of each level, and of honest work.

    Attributes:
        caught: c of each level.
        succeeds: w of each level.
        usefulness: main-task success of honest work.
        honest: probability of each action on honest work.
    """

    caught: Float[Tensor, "*batch level"]
    succeeds: Float[Tensor, "*batch level"]
    usefulness: Float[Tensor, "*batch"]
    honest: Float[Tensor, "*batch action"]


def defender_rates(
    setting: ControlSetting,
    thresholds: Float[np.ndarray, " threshold"],
    probabilities: Float[Tensor, "*batch bin action"],
    monitor_factor: float = 1.0,
) -> DefenderRates:
    """Outcome of each defender.

    Args:
        setting: levels, oversight and usefulness.
        thresholds: between the bins of the score; see `Routing`.
        probabilities: of each action, by bin.
        monitor_factor: factor of detectability.
    """
    bins = setting.bin_probabilities(thresholds, monitor_factor)
    honest_bins, attack_bins = torch.tensor(bins.honest), torch.tensor(bins.attack)
    honest = total(honest_bins[:, None] * probabilities, -2)
    attack = total(attack_bins[..., None] * probabilities[..., None, :, :], -2)
    caught = setting.audit_detection * attack[..., AUDIT]
    kept = attack[..., SUBMIT] + (1 - setting.edit_effectiveness) * attack[..., EDIT]
    kept = kept + (attack[..., AUDIT] - caught)
    edit_cost = setting.untrusted_usefulness - setting.edited_usefulness
    defer_cost = setting.untrusted_usefulness - setting.trusted_usefulness
    lost = honest[..., EDIT] * edit_cost + honest[..., DEFER] * defer_cost
    return DefenderRates(
        caught,
        torch.tensor(setting.success) * kept,
        setting.untrusted_usefulness - lost,
        honest,
    )
