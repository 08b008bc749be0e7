"""Protocols without a monitor: trust the untrusted policy, use the trusted one, audit at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mores.envs.oversight import control_outcomes
from mores.envs.oversight.control_outcomes import ProtocolOutcome
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.protocols.protocol import ControlProtocol, Monitor


class TrustUntrusted(ControlProtocol):
    """All work of the untrusted policy is submitted."""

    monitor: ClassVar[Monitor] = "none"

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """c = 0, w = q."""
        return control_outcomes.trust_untrusted(setting)


class TrustedOnly(ControlProtocol):
    """The trusted policy does every task."""

    monitor: ClassVar[Monitor] = "none"

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """c = w = 0."""
        return control_outcomes.trusted_only(setting)


class RandomAudit(ControlProtocol):
    """A random share of the work is audited."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    monitor: ClassVar[Monitor] = "none"

    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="share of the work that is audited"
    )

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """c = alpha beta."""
        return control_outcomes.random_audit(setting, self.audit_budget)
