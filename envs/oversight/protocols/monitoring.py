"""Monitoring: the most suspicious work is audited; the monitor is trusted, or a copy of U."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mores.envs.oversight import control_outcomes
from mores.envs.oversight.control_outcomes import ProtocolOutcome
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.protocols.protocol import ControlProtocol, Monitor


class TrustedMonitoring(ControlProtocol):
    """The trusted model scores the work; the highest scores are audited."""

    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="share of honest work that is audited"
    )

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Attacks are caught with probability c = alpha TPR (true-positive rate of the score)."""
        return control_outcomes.trusted_monitoring(setting, self.audit_budget)


class UntrustedMonitoring(ControlProtocol):
    """A copy of the untrusted model scores the work: it detects more, and may collude.

    A colluding copy gives an attack a score that no protocol flags.
    """

    monitor: ClassVar[Monitor] = "untrusted"

    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="share of honest work that is audited"
    )
    collusion: float = Field(
        default=0.0, ge=0, le=1, description="chi: probability that the copy lets an attack pass"
    )

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Attacks are caught with probability c = alpha (1 - chi) TPR of the copy's score."""
        return control_outcomes.untrusted_monitoring(setting, self.audit_budget, self.collusion)
