"""Substitution: the trusted model edits suspicious work or does it again, with audits or not."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mores.core.errors import ParameterError
from mores.envs.oversight import control_outcomes
from mores.envs.oversight.control_outcomes import ProtocolOutcome
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.protocols.protocol import ControlProtocol


class TrustedEditing(ControlProtocol):
    """The trusted model edits the most suspicious work."""

    edited_share: float = Field(
        default=0.2, ge=0, le=1, description="share of honest work that is edited"
    )

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Attacks succeed with probability w = q (1 - e TPR); e is the effectiveness of an edit."""
        return control_outcomes.trusted_editing(setting, self.edited_share)


class DeferToTrusted(ControlProtocol):
    """The trusted model does the most suspicious tasks."""

    deferred_share: float = Field(
        default=0.2, ge=0, le=1, description="share of honest work that is deferred"
    )

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Attacks succeed with probability w = q (1 - TPR)."""
        return control_outcomes.defer_to_trusted(setting, self.deferred_share)


class AuditAndEdit(TrustedEditing):
    """The most suspicious work is audited, the next is edited by the trusted model."""

    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="share of honest work that is audited"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse shares that sum to more than 1."""
        check_shares("edited_share", self.edited_share, self.audit_budget)

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Audits of the top `audit_budget`, edits of the next `edited_share`."""
        return control_outcomes.trusted_editing(setting, self.edited_share, self.audit_budget)


class AuditAndDefer(DeferToTrusted):
    """The most suspicious work is audited, the trusted model does the next tasks."""

    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="share of honest work that is audited"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse shares that sum to more than 1."""
        check_shares("deferred_share", self.deferred_share, self.audit_budget)

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Audits of the top `audit_budget`, the next `deferred_share` deferred."""
        return control_outcomes.defer_to_trusted(setting, self.deferred_share, self.audit_budget)


def check_shares(name: str, share: float, audit_budget: float) -> None:
    """Refuse an audit budget and a share that sum to more than 1."""
    if share + audit_budget > 1 + 1e-12:
        message = f"{name} and audit_budget must sum to at most 1, not {share + audit_budget:g}"
        raise ParameterError(name, message=message, code="conflict")
