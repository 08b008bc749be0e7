"""Exact values where an auditor decides: of its policy, and best responses of both sides.

The auditor's policy is given by its probabilities on all of its observations in service. An
attacker meets the probabilities of each way to attack that follow from it; the best response is
that of `control_game`. An auditor that chooses audit rates sees the task, the audits left and the
class; its best response to an attacker is backward induction as well. The sum of what both gain by
a best response is the exploitability: 0 at an equilibrium of the zero-sum game alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.envs.oversight.control_game import AttackTables, ControlGame
from mores.envs.oversight.control_setting import AUDIT, DEFER, EDIT
from mores.envs.oversight.control_values import SUCCESS_PROBABILITY
from mores.envs.oversight.protocols.delegated import AuditorAction, AuditRateChoice
from mores.envs.oversight.protocols.monitoring import TrustedMonitoring


def rate_game(game: ControlGame) -> ControlGame:
    """For an auditor that chooses rates: the game with a variant of monitoring for each rate."""
    (protocol,) = game.variants
    assert isinstance(protocol, AuditRateChoice)
    variants = tuple(TrustedMonitoring(audit_budget=rate) for rate in protocol.rates)
    return ControlGame(variants, game.episode, game.payoff)


class AuditorTables(NamedTuple):
    """Probabilities of each option against an auditor's policy, and its usefulness by world."""

    tables: AttackTables
    usefulness: Float[Tensor, " world"]


def auditor_tables(
    game: ControlGame, auditor: Float[Tensor, "world query option"]
) -> AuditorTables:
    """Probabilities against an auditor.

    Args:
        game: the game.
        auditor: probability of its options on `ControlObservations.auditor_table`.
    """
    (protocol,) = game.variants
    shares = auditor.new_tensor([each.share for each in game.episode.classes])
    if isinstance(protocol, AuditRateChoice):
        rates = auditor.unflatten(1, game.state_shape)  # world task audits kind rate
        by_rate = AttackTables(*(x.movedim(0, -1) for x in rate_game(game).attack_tables))
        tables = AttackTables(*(total(rates[..., None, :] * x, -1) for x in by_rate))
        use = [game.episode.classes[0].setting.untrusted_usefulness] * len(auditor)
        return AuditorTables(tables, auditor.new_tensor(use))
    assert isinstance(protocol, AuditorAction)
    policy = auditor.unflatten(1, (*game.state_shape, protocol.num_bins))
    rows, usefulness = [], []
    for kind, each in enumerate(game.episode.classes):
        setting = each.setting
        bins = setting.bin_probabilities(protocol.thresholds)
        both = torch.as_tensor(np.concatenate([bins.honest[None], bins.attack]))  # option bin
        action = total(policy[:, :, :, kind, None] * both[..., None], -2)  # ... option action
        audit, edit, defer = action[..., AUDIT], action[..., EDIT], action[..., DEFER]
        if game.num_audit_states > 1:  # without audits left, audits are submissions
            audit = torch.cat([torch.zeros_like(audit[:, :, :1]), audit[:, :, 1:]], 2)
        alpha = setting.audit_detection
        success = torch.tensor([0.0, *setting.success_chance], dtype=torch.float64)
        is_attack = torch.tensor([0.0] + [1.0] * setting.num_levels, dtype=torch.float64)
        caught = alpha * audit * is_attack
        succeeds = success * (1 - caught - setting.edit_effectiveness * edit - defer)
        spends = audit - caught
        rows.append((caught, succeeds, spends, spends * (1 - success)))
        edit_cost = setting.untrusted_usefulness - setting.edited_usefulness
        defer_cost = setting.untrusted_usefulness - setting.trusted_usefulness
        honest = setting.untrusted_usefulness - edit[..., 0] * edit_cost
        honest = honest - defer[..., 0] * defer_cost
        usefulness.append(mean(honest[:, :, -1], 1))
    tables = AttackTables(*(torch.stack(x, 3) for x in zip(*rows, strict=True)))
    return AuditorTables(tables, total(torch.stack(usefulness, -1) * shares, -1))


class ReturnAndSafety(NamedTuple):
    """Largest return and smallest safety of an attacker, by world."""

    expected_return: Float[Tensor, " world"]
    safety: Float[Tensor, " world"]


def best_response_return(game: ControlGame, tables: AttackTables) -> ReturnAndSafety:
    """Largest return against given probabilities, and smallest safety."""
    value = game.respond(tables).value
    if game.payoff == SUCCESS_PROBABILITY:
        return ReturnAndSafety(value, 1 - value)
    same = ControlGame(game.variants, game.episode, SUCCESS_PROBABILITY)
    return ReturnAndSafety(value, 1 - same.respond(tables).value)


def defender_best_response(
    game: ControlGame, policy: Float[Tensor, "world task audits kind option"]
) -> Float[Tensor, " world"]:
    """Smallest return of an attacker's policy that an auditor can reach by its choice of rates."""
    by_rate = AttackTables(*(x[:, None] for x in rate_game(game).attack_tables))  # rate 1 task ...
    value = policy.new_zeros(len(policy), game.num_audit_states)
    for task in reversed(range(game.episode.num_tasks)):
        each = AttackTables(*(x[:, :, task] for x in by_rate))
        worth = game.backed_up(each, game.rewards(each), value)  # rate world audits kind option
        value = game.mean_over_classes(total(worth * policy[:, task], -1).amin(0))
    return value[:, -1]
