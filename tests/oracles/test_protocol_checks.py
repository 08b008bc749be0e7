"""Protocols whose outcomes are no probabilities, or not those that are played, are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mores.core.errors import UserError
from mores.envs.oversight.control_outcomes import ProtocolOutcome, Routing, trusted_monitoring
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.protocols.protocol import ControlProtocol
from mores.registry import make_environment
from tests.learners.small_environments import unchecked
from tests.refusals import refused

CHANGES: Mapping[str, tuple[str, Callable[[ProtocolOutcome], Any]]] = {
    "nan": ("out_of_range", lambda o: dataclasses.replace(o, caught=o.caught * np.nan)),
    "above 1": ("out_of_range", lambda o: dataclasses.replace(o, caught=o.caught + 2)),
    "negative": ("out_of_range", lambda o: dataclasses.replace(o, succeeds=-o.succeeds)),
    "sum": ("out_of_range", lambda o: dataclasses.replace(o, caught=0 * o.caught + 0.9,
                                                          succeeds=0 * o.caught + 0.9)),
    "usefulness": ("out_of_range", lambda o: dataclasses.replace(o, usefulness=3.0)),
    "not played": ("conflict", lambda o: dataclasses.replace(o, caught=0 * o.caught)),
    "rows": ("invalid_value", lambda o: _routed(o, np.eye(4)[[0, 1]] * 0.5)),
    "bins": ("wrong_shape", lambda o: _routed(o, np.eye(4)[[0]])),
    "length": ("wrong_shape", lambda o: dataclasses.replace(o, caught=o.caught[:1])),
    "none": ("wrong_type", lambda o: None),
}  # fmt: skip


def _routed(outcome: ProtocolOutcome, rows: np.ndarray) -> ProtocolOutcome:
    assert outcome.routing is not None
    return dataclasses.replace(outcome, routing=Routing(outcome.routing.thresholds, rows))


class Changed(ControlProtocol):
    """Trusted monitoring with a mistake."""

    change: str

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        return CHANGES[self.change][1](trusted_monitoring(setting, 0.05))


class Failing(ControlProtocol):
    """A protocol that fails."""

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        raise ValueError("boom")


class TwoDraws(Changed):
    """A protocol with two draws that cannot decide."""

    @property
    def num_draws(self) -> int:
        return 2


@pytest.mark.parametrize("change", CHANGES)
@unchecked()
def test_outcomes_that_are_wrong(change: str) -> None:
    with refused(CHANGES[change][0], "control.protocol"):
        make_environment("control", protocol=Changed(change=change))


def test_protocols_that_fail() -> None:
    with pytest.raises(UserError, match="boom") as caught:
        make_environment("control", protocol=Failing())
    assert (caught.value.code, caught.value.path) == ("failed", "control.protocol")
    with refused("missing", "control.protocol"):
        make_environment("control", protocol=TwoDraws(change="nan"))


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"num_audits": 11}, "out_of_range", "control.num_audits"),
        ({"num_tasks": 10_000, "num_audits": 10_000}, "too_large", "control.num_audits"),
        (
            {"setting": {"trusted_usefulness": 0.9}},
            "conflict",
            "control.setting.untrusted_usefulness",
        ),
        ({"protocol": {"kind": "optimal", "usefulness": 0.1}}, "out_of_range", "control.protocol"),
    ],
)
def test_settings_that_do_not_fit(fields: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path):
        make_environment("control", **fields)
