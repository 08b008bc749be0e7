"""Exact values where an auditor decides: of its policy, and best responses of both sides.

The auditor's policy is given by its probabilities on all of its observations in service. An
attacker meets the probabilities of each way to attack that follow from it; the best response is
that of `control_game`. An auditor that chooses audit rates sees the task, the audits left and the
class; its best response to an attacker is backward induction as well. The sum of what both gain by
a best response is the exploitability: 0 at an equilibrium of the zero-sum game alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.envs.oversight.control_counts import honest_usefulness, tables_of_actions
from mores.envs.oversight.control_game import AttackTables, ControlGame, moved
from mores.envs.oversight.control_setting import AUDIT, SUBMIT
from mores.envs.oversight.control_values import SUCCESS_PROBABILITY
from mores.envs.oversight.protocols.delegated import AuditorAction, AuditRateChoice
from mores.envs.oversight.protocols.monitoring import TrustedMonitoring


@functools.lru_cache(maxsize=8)
def rate_game(game: ControlGame) -> ControlGame:
    """For an auditor that chooses rates: the game with a variant of monitoring for each rate."""
    (protocol,) = game.variants
    assert isinstance(protocol, AuditRateChoice)
    variants = tuple(TrustedMonitoring(audit_budget=rate) for rate in protocol.rates)
    return ControlGame(variants, game.episode, game.payoff)


class AuditorTables(NamedTuple):
    """Probabilities of each option against an auditor's policy, and its usefulness by world.

    The usefulness is that of an honest run, in which audits are spent.
    """

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
    if isinstance(protocol, AuditRateChoice):
        rates = auditor.unflatten(1, game.state_shape)  # world task audits kind rate
        by_rate = AttackTables(*(x.movedim(0, -1) for x in rate_game(game).attack_tables))
        tables = AttackTables(*(total(rates[..., None, :] * x, -1) for x in by_rate))
        use = [game.episode.classes[0].setting.untrusted_usefulness] * len(auditor)
        return AuditorTables(tables, auditor.new_tensor(use))
    assert isinstance(protocol, AuditorAction)
    policy = auditor.unflatten(1, (*game.state_shape, protocol.num_bins))
    by_kind = []
    for kind, each in enumerate(game.episode.classes):
        bins = each.setting.bin_probabilities(protocol.thresholds)
        both = torch.as_tensor(np.concatenate([bins.honest[None], bins.attack]))  # option bin
        # ... option action
        by_kind.append(total(policy[:, :, :, kind, None] * both[..., None], -2))
    actions = torch.stack(by_kind, 3)
    if game.num_audit_states > 1:  # without audits left, audits are submissions
        actions[:, :, 0, ..., SUBMIT] += actions[:, :, 0, ..., AUDIT]
        actions[:, :, 0, ..., AUDIT] = 0.0
    return AuditorTables(tables_of_actions(game, actions), honest_usefulness(game, actions))


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


def reach_probabilities(
    game: ControlGame, role: str, policy: Float[Tensor, "model row option"]
) -> Float[Tensor, "model row"]:
    """Probability that a side meets each task with each number of audits left and class.

    The untrusted policy is in service then, and the run goes on. The other side chooses uniformly
    among its options.

    Args:
        game: the game; of several variants of the protocol the first one counts.
        role: `untrusted` or `auditor`.
        policy: probability of the options of that side; a row is a task, number of audits left and
            class.
    """
    own = policy.double().unflatten(1, game.state_shape)
    if isinstance(game.variants[0], AuditRateChoice):
        by_rate = AttackTables(*(x.movedim(0, -1) for x in rate_game(game).attack_tables))
    else:
        by_rate = AttackTables(*(x[0, ..., None] for x in game.attack_tables))
    uniform = game.num_options if role == "auditor" else by_rate.caught.shape[-1]
    dim = -2 if role == "auditor" else -1
    tables = AttackTables(*(total(x.to(own).movedim(dim, -1) / uniform, -1) for x in by_rate))
    c, w, spends, safely = (game.mean_over_classes(total(own * x, -1)) for x in tables)
    goes_on = 1 - c
    if game.payoff.ends_at_success:
        goes_on, spends = goes_on - w, safely
    mass = torch.zeros_like(c[:, 0])
    mass[:, -1] = 1.0
    reached = []
    for task in range(game.episode.num_tasks):
        reached.append(mass)
        mass = moved(mass, goes_on[:, task], spends[:, task])
    shares = own.new_tensor([each.share for each in game.episode.classes])
    return (torch.stack(reached, 1)[..., None] * shares).flatten(1).to(policy)
