"""Checks of what a protocol returns, which users implement too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from mores.core.errors import UserError, describe_exception
from mores.envs.oversight.control_outcomes import ProtocolOutcome, Routing, routed_outcome
from mores.envs.oversight.control_setting import ACTIONS, ControlSetting
from mores.envs.oversight.protocols.protocol import ControlEpisode, ControlProtocol

Outcomes = Sequence[Sequence[Sequence[ProtocolOutcome]]]  # by task, audits left, class
TOLERANCE = 1e-6  # of probabilities


def checked_outcomes(protocol: ControlProtocol, episode: ControlEpisode) -> Outcomes:
    """`ControlProtocol.outcomes`, checked.

    Raises:
        UserError: the method fails; what it returns are no probabilities, or do not follow from its
            routing; attributes that do not fit together.
    """
    _check_class(protocol)
    try:
        given = protocol.outcomes(episode)
    except UserError:
        raise
    except Exception as error:
        _refuse(protocol, f"outcomes fails: {describe_exception(error)}", "failed")
    settings, checked = [each.setting for each in episode.classes], set[int]()
    try:
        for by_audits in given:
            for by_class in by_audits:
                for i, outcome in enumerate(by_class):
                    if id(outcome) not in checked:
                        checked.add(id(outcome))
                        _check_outcome(protocol, outcome, settings[min(i, len(settings) - 1)])
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        _refuse(protocol, f"its outcome has a wrong type or shape: {error}", "wrong_shape")
    return given


def _check_class(protocol: ControlProtocol) -> None:
    """Check the attributes of the class, and that several draws have their two methods."""
    for name, allowed in (("auditor", ("none", "rate", "score")),
                          ("monitor", ("none", "trusted", "untrusted"))):  # fmt: skip
        if getattr(protocol, name) not in allowed:
            message = f"{name} must be one of {', '.join(allowed)}, not {getattr(protocol, name)!r}"
            _refuse(protocol, message, "invalid_value")
    if not protocol.variants:
        _refuse(protocol, "variants must have at least one protocol", "missing")
    if protocol.num_draws > 1:
        for name in ("route", "mixture_outcome"):
            if getattr(type(protocol), name) is getattr(ControlProtocol, name):
                message = f"num_draws is {protocol.num_draws}, which needs the method {name}"
                _refuse(protocol, message, "missing")


def _check_outcome(protocol: ControlProtocol, outcome: Any, setting: ControlSetting) -> None:
    """Check the numbers of one outcome."""
    if not isinstance(outcome, ProtocolOutcome):
        _refuse(protocol, f"outcome must be a ProtocolOutcome, not {outcome!r:.60}", "wrong_type")
    arrays = {name: np.asarray(getattr(outcome, name), dtype=np.float64)
              for name in ("caught", "succeeds", "attack_share", "level")}  # fmt: skip
    lengths = {name: array.shape for name, array in arrays.items()}
    if len({*lengths.values()}) > 1 or arrays["caught"].ndim != 1:
        _refuse(protocol, f"caught, succeeds, level, attack_share: {lengths}", "wrong_shape")
    level = arrays["level"]
    if not np.isin(level, np.arange(setting.num_levels)).all():
        _refuse(protocol, f"levels are 0 to {setting.num_levels - 1}, not {level}", "out_of_range")
    numbers = {name: arrays[name] for name in ("caught", "succeeds", "attack_share")}
    numbers["caught + succeeds"] = arrays["caught"] + arrays["succeeds"]
    for name in ("usefulness", "honest_audit_rate", "honest_edit_rate", "honest_defer_rate"):
        numbers[name] = np.asarray(getattr(outcome, name), dtype=np.float64)
    for name, array in numbers.items():
        _check_probabilities(protocol, name, array)
    if outcome.routing is not None:
        _check_routing(protocol, outcome.routing)
        play = outcome.monitor_factor, outcome.collusion
        routed = routed_outcome(setting, outcome.routing, *play)
        for name in ("caught", "succeeds", "usefulness"):
            if not np.allclose(getattr(routed, name), getattr(outcome, name), atol=TOLERANCE):
                message = (
                    f"{name} is {getattr(outcome, name)}, and its routing gives "
                    f"{getattr(routed, name)}: see routed_outcome"
                )
                _refuse(protocol, message, "conflict")


def _check_routing(protocol: ControlProtocol, routing: Routing) -> None:
    """Check thresholds and probabilities of actions."""
    thresholds, rows = np.asarray(routing.thresholds), np.asarray(routing.probabilities)
    if thresholds.ndim != 1 or rows.shape != (len(thresholds) + 1, len(ACTIONS)):
        message = (
            f"a routing of {thresholds.size} thresholds needs probabilities "
            f"[{thresholds.size + 1}, {len(ACTIONS)}], not {list(rows.shape)}"
        )
        _refuse(protocol, message, "wrong_shape")
    if np.isnan(thresholds).any() or (np.diff(thresholds) < 0).any():
        _refuse(protocol, f"thresholds must increase, not {thresholds}", "invalid_value")
    _check_probabilities(protocol, "probabilities of a routing", rows)
    if not np.allclose(rows.sum(-1), 1, atol=TOLERANCE):
        message = "probabilities of a routing must sum to 1 in every bin"
        _refuse(protocol, message, "invalid_value")


def _check_probabilities(protocol: ControlProtocol, name: str, array: np.ndarray) -> None:
    if not (np.isfinite(array) & (array >= -TOLERANCE) & (array <= 1 + TOLERANCE)).all():
        _refuse(protocol, f"{name} must be from 0 to 1, not {array}", "out_of_range")


def _refuse(protocol: ControlProtocol, message: str, code: str) -> NoReturn:
    message = f"{type(protocol).__name__}: {message}"
    raise UserError(" ".join(message.split()), code=code, path="protocol")
