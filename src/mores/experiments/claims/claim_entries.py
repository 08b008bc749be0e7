"""Claims of a run as JSON: `claims.json`."""

from __future__ import annotations

from typing import Any

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.looks import has_looks
from mores.experiments.claims.persona_audit import PersonaAudit
from mores.experiments.claims.several_claims import is_statistical
from mores.experiments.claims.verdicts import Verdict


def claim_entry(verdict: Verdict) -> dict[str, Any]:
    """A claim: its verdict over all points of a sweep, and at each of them.

    `estimate` and its interval are those at `point`; `range` has the estimates at all points.
    """
    claim = verdict.claim
    entry: dict[str, Any] = {
        "statement": claim.statement,
        "arm": verdict.arm,
        **_verdict_fields(verdict),
    }
    if is_statistical(claim):
        entry |= {
            "alpha": verdict.alpha,
            "adjusted_alpha": verdict.adjusted_alpha,
            "adjusted_verdict": verdict.adjusted_status,
        }
    if has_looks(claim):
        earlier = [each.model_dump(mode="json", exclude={"claim"}) for each in verdict.look.earlier]
        entry |= {"look": verdict.look.number, "level": verdict.level, "data": verdict.look.data}
        entry |= {"earlier_looks": earlier} if earlier else {}
    if verdict.changed:
        entry["changed"] = verdict.changed
    if len(verdict.at_points) > 1:
        entry["point"] = dict(verdict.point)
        entry["range"] = list(verdict.range)
        entry["points"] = [
            {"point": dict(at.point), **_verdict_fields(at)} for at in verdict.at_points
        ]
    return {**entry, "claim": claim.model_dump(mode="json", exclude_none=True)}


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    fields: dict[str, Any] = {"verdict": verdict.status, "reason": verdict.reason}
    fields |= _estimate_fields(verdict.estimate)
    if verdict.warning:
        fields["warning"] = verdict.warning
    if verdict.audit is not None:
        fields["audit"] = _audit_fields(verdict.audit)
    if verdict.ablation_estimate is not None:
        fields["ablation"] = _estimate_fields(verdict.ablation_estimate)
    return fields


def _audit_fields(audit: PersonaAudit) -> dict[str, Any]:
    names = ("orders", "templates", "order_applies", "persona_share", "order_share", "problem")
    beliefs = {wording: _estimate_fields(each) for wording, each in audit.beliefs.items()}
    return {**{name: getattr(audit, name) for name in names}, "beliefs": beliefs}


def _estimate_fields(estimate: IntervalEstimate) -> dict[str, Any]:
    names = ("low", "high", "n", "method")
    return {"estimate": estimate.value, **{name: getattr(estimate, name) for name in names}}
