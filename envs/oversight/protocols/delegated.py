"""Protocols that leave the decision to the role `auditor`: scripted, learned, or outside.

`audit_rate` lets it choose the audit budget of each task before the score is known; `auditor` lets
it choose the action after it sees the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from mores.core.errors import ParameterError
from mores.envs.oversight import control_outcomes
from mores.envs.oversight.control_outcomes import ProtocolOutcome, Routing, routed_outcome
from mores.envs.oversight.control_setting import ACTIONS, SUBMIT, ControlSetting
from mores.envs.oversight.inspection_game import AUDIT_RATES
from mores.envs.oversight.protocols.protocol import Auditor, ControlProtocol


class AuditRateChoice(ControlProtocol):
    """The auditor chooses an audit rate for each task; the highest scores are audited."""

    auditor: ClassVar[Auditor] = "rate"

    rates: tuple[float, ...] = Field(
        default=AUDIT_RATES,
        min_length=2,
        description="shares of honest work that can be audited",
    )

    @field_validator("rates")
    @classmethod
    def _check_rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= rate <= 1 for rate in value):
            raise ParameterError(message="rates must be in [0, 1]", code="out_of_range")
        return value

    @property
    def parameters(self) -> Mapping[str, float]:
        """None: the attacker does not see the choice."""
        return {}

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """At the first rate; `rate_outcome` has the others."""
        return self.rate_outcome(setting, 0)

    def rate_outcome(self, setting: ControlSetting, option: int) -> ProtocolOutcome:
        """Outcome at a rate, by its index."""
        return control_outcomes.trusted_monitoring(setting, self.rates[option])


class AuditorAction(ControlProtocol):
    """The auditor sees the score of each task and submits, audits, edits or defers.

    Exact values take its decision as constant within bins of the score; edges that a scripted rule
    with thresholds should not straddle are best multiples of `bin_width`.
    """

    auditor: ClassVar[Auditor] = "score"

    lowest_bin: float = Field(default=-4.0, description="upper end of the lowest bin of scores")
    bin_width: float = Field(default=0.1, gt=0, description="width of a bin of scores")
    num_bins: int = Field(default=100, ge=2, le=10_000, description="number of bins of scores")

    @property
    def parameters(self) -> Mapping[str, float]:
        """None: the attacker does not see the auditor's rule."""
        return {}

    @property
    def thresholds(self) -> np.ndarray:
        """Edges between bins."""
        return self.lowest_bin + self.bin_width * np.arange(self.num_bins - 1)

    @property
    def bin_scores(self) -> np.ndarray:
        """A score in each bin, at which the auditor's rule is evaluated."""
        return self.lowest_bin + self.bin_width * (np.arange(self.num_bins) - 0.5)

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Of an auditor that submits everything; values of the present auditor are metrics."""
        submit = np.zeros((self.num_bins, len(ACTIONS)))
        submit[:, SUBMIT] = 1.0
        return routed_outcome(setting, Routing(self.thresholds, submit))
