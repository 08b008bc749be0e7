"""Monitoring with a threshold that is calibrated on a finite number of honest runs.

The (1 - beta) percentile of H honest scores lets a share of honest work through that is a random
variable: Beta(beta H, H - beta H + 1), whatever the distribution of the scores (order statistics).
All tasks of an episode share the error, so more attack runs do not reduce it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import beta

from mores.core.errors import ParameterError
from mores.envs.oversight.protocols.monitoring import TrustedMonitoring
from mores.envs.oversight.protocols.protocol import ControlProtocol

NUM_VARIANTS = 50


class CalibratedMonitoring(TrustedMonitoring):
    """Trusted monitoring; the threshold of each episode is a percentile of H honest scores."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    honest_runs: int = Field(
        default=500, ge=2, le=10_000_000, description="H: honest runs that calibrate the threshold"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse a budget of less than one of the honest runs."""
        flagged = self.audit_budget * self.honest_runs
        if flagged < 1:
            message = f"audit_budget * honest_runs must be at least 1, not {flagged:g}"
            raise ParameterError("honest_runs", message=message, code="out_of_range")

    @property
    def variants(self) -> Sequence[ControlProtocol]:
        """Monitoring at realized rates: quantiles of their distribution at equal distances."""
        flagged = self.audit_budget * self.honest_runs
        levels = (np.arange(NUM_VARIANTS) + 0.5) / NUM_VARIANTS
        rates = beta.ppf(levels, flagged, self.honest_runs - flagged + 1)
        return [TrustedMonitoring(audit_budget=float(rate)) for rate in rates]
