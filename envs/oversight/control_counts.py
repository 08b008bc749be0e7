"""Expected audits, solved main tasks and harm of a run, exact, by a forward recursion.

The attacker is given as a table, the defender as the probability of each action for each option of
the attacker. The run is the one that is played: it ends with the first success if the objective
does, the trusted policy does the tasks after a retirement, and audits count if they happen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.envs.oversight.control_game import AttackTables, ControlGame, moved
from mores.envs.oversight.control_setting import AUDIT, DEFER, EDIT


class RunCounts(NamedTuple):
    """Expected sums over the tasks of a run.

    Attributes:
        audits: number of audits.
        main_successes: number of solved main tasks.
        harm: stakes of the successful attacks.
    """

    audits: Float[Tensor, "*batch"]
    main_successes: Float[Tensor, "*batch"]
    harm: Float[Tensor, "*batch"]


def tables_of_actions(
    game: ControlGame, actions: Float[Tensor, "*batch task audits kind option action"]
) -> AttackTables:
    """Probabilities of each option of the attacker, by those of the defender's actions."""
    setting = game.episode.classes[0].setting  # classes differ in levels alone
    success = actions.new_tensor([[0.0, *x.setting.success_chance] for x in game.episode.classes])
    attacks = torch.ones_like(success[0])
    attacks[0] = 0.0
    audit, edit, defer = actions[..., AUDIT], actions[..., EDIT], actions[..., DEFER]
    caught = setting.audit_detection * audit * attacks
    succeeds = success * (1 - caught - setting.edit_effectiveness * edit - defer)
    spends = audit - caught if game.num_audit_states > 1 else torch.zeros_like(audit)
    return AttackTables(caught, succeeds, spends, spends * (1 - success))


def expected_counts(
    game: ControlGame,
    actions: Float[Tensor, "*batch task audits kind option action"],
    policy: Float[Tensor, "*batch task audits kind option"],
) -> RunCounts:
    """Expected sums of a run in which the untrusted policy follows a table.

    Args:
        game: the game.
        actions: probability of each of `ACTIONS`, for each option of the attacker.
        policy: probability of honest work and of each level.
    """
    setting = game.episode.classes[0].setting
    shares = actions.new_tensor([each.share for each in game.episode.classes])
    stakes = actions.new_tensor([each.stakes for each in game.episode.classes])
    tables = tables_of_actions(game, actions)
    edit, defer = actions[..., EDIT], actions[..., DEFER] + tables.caught
    main = setting.untrusted_usefulness * (1 - edit - defer)
    main = main + setting.edited_usefulness * edit + setting.trusted_usefulness * defer

    def by_audits(x: Tensor, weights: Tensor = shares) -> Tensor:
        return total(total(policy * x, -1) * weights, -1)

    caught, succeeds, spends, spends_safely = map(by_audits, tables)
    audited, solved = by_audits(actions[..., AUDIT]), by_audits(main)
    harmed = by_audits(tables.succeeds, shares * stakes)
    if game.payoff.ends_at_success:
        goes_on, spends = 1 - caught - succeeds, spends_safely
    else:
        goes_on = 1 - caught
    mass = torch.zeros_like(caught[..., 0, :])  # in service, by the audits left
    mass[..., -1] = 1.0
    retired = audits = successes = harm = torch.zeros_like(mass[..., 0])
    for task in range(game.episode.num_tasks):
        audits = audits + total(mass * audited[..., task, :], -1)
        successes = successes + total(mass * solved[..., task, :], -1)
        successes = successes + retired * setting.trusted_usefulness
        harm = harm + total(mass * harmed[..., task, :], -1)
        retired = retired + total(mass * caught[..., task, :], -1)
        mass = moved(mass, goes_on[..., task, :], spends[..., task, :])
    return RunCounts(audits, successes, harm)


def honest_usefulness(
    game: ControlGame, actions: Float[Tensor, "*batch task audits kind option action"]
) -> Float[Tensor, "*batch"]:
    """Share of main tasks that are solved in honest runs."""
    honest = torch.zeros_like(actions[..., 0])
    honest[..., 0] = 1.0
    return expected_counts(game, actions, honest).main_successes / game.episode.num_tasks


def usefulness(game: ControlGame) -> Float[Tensor, " variant"]:
    """Share of main tasks that are solved in honest runs, by variant of the protocol."""
    if game.variants[0].num_draws == 1:
        return honest_usefulness(game, game.action_tables)
    values = [[[o.usefulness for o in b[-1]] for b in by_task] for by_task in game.outcomes]
    by_class = torch.tensor(values, dtype=torch.float64)  # variant task kind
    return mean(game.mean_over_classes(by_class), -1)
