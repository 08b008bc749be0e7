"""Return of a role: the sum of its rewards in the episode so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.metric import Metric, MetricOutput
from mores.core.metric_inputs import RETURN


class MeanReturn(Metric):
    """Return of a role so far, mean over its agents; `return_ROLE` is short for it.

    Rewards are an agent's incentive, in the units of the environment, not its welfare.
    """

    role: str = Field(description="name of the role")

    @property
    def inputs(self) -> Mapping[str, bool]:
        """See `Metric`."""
        return {f"{RETURN}{self.role}": True}

    def evaluate(self, inputs: Mapping[str, Tensor], memory: Any = None) -> MetricOutput:
        """See `Metric`."""
        return MetricOutput(mean(inputs[f"{RETURN}{self.role}"], 1))
