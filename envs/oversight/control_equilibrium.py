"""Solved policies of `control` with an auditor that chooses audit rates: both sides of the game.

One matrix game for each task and number of audits left, by backward induction: the rows are the
auditor's rates, the columns honest work and the levels of attack (`inspection_game`). The linear
program gives an equilibrium. Regret matching+ (Tammelin 2014, arXiv 1407.5042) gives averages that
approach it, the faster the more iterations; values of later tasks are those of its averages.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams
from mores.envs.oversight import hard_budget, inspection_game, zero_sum_games
from mores.envs.oversight.control_game import ControlGame
from mores.envs.oversight.control_observations import table_index
from mores.envs.oversight.control_policies import DiscretePolicy, GameRole, GameState
from mores.envs.oversight.protocols.delegated import AuditRateChoice


class Mixtures(NamedTuple):
    """Probabilities of both sides, by task and audits left."""

    auditor: Float[Tensor, "task audits rate"]
    attacker: Float[Tensor, "task audits option"]


def solve(game: ControlGame, iterations: int | None) -> Mixtures:
    """Both sides of the game for the probability of a success.

    Args:
        game: with one class of tasks, a limit of audits, and an auditor that chooses rates.
        iterations: of regret matching+ in each matrix game; None: linear programs.

    Raises:
        UserError: another game.
    """
    protocol, (each, *others) = game.variants[0], game.episode.classes
    num_tasks, num_audits = game.episode.num_tasks, game.episode.num_audits
    if not isinstance(protocol, AuditRateChoice) or others or num_audits is None:
        raise UserError(
            "equilibrium policies need protocol audit_rate, num_audits and one class of tasks",
            code="unsupported",
            path="policies",
        )
    setting, rates = each.setting, protocol.rates
    if iterations is None:
        solution = inspection_game.solve_inspection(setting, num_tasks, num_audits, rates)
        return Mixtures(torch.tensor(solution.defender), torch.tensor(solution.attacker))
    audits = inspection_game.rate_audits(setting, rates).numpy()
    most = float(setting.success.max())
    auditor = torch.zeros(num_tasks, num_audits + 1, len(rates), dtype=torch.float64)
    attacker = torch.zeros(num_tasks, num_audits + 1, game.num_options, dtype=torch.float64)
    auditor[:, 0, 0] = attacker[:, 0, 1 + int(setting.success.argmax())] = 1.0
    values = np.zeros((num_tasks + 1, num_audits + 1))
    for task in reversed(range(num_tasks)):
        values[task, 0] = 1 - (1 - most) ** (num_tasks - task)
        for left in range(1, num_audits + 1):
            kept, spent = values[task + 1, left], values[task + 1, left - 1]
            wait = kept + audits[:, 0] * (spent - kept)
            attack = hard_budget.attack_values(setting, audits[:, 1:], kept, spent)
            losses = torch.tensor(np.column_stack([wait, attack]))
            average = zero_sum_games.regret_matching_plus(losses, iterations)
            auditor[task, left], attacker[task, left] = average.row, average.column
            values[task, left] = float(average.row @ losses @ average.column)
    return Mixtures(auditor, attacker)


class EquilibriumPolicy(DiscretePolicy):
    """One side of the solved game."""

    reads: ClassVar[tuple[str, ...]] = ("tasks_elapsed", "audits_left")

    solver: Literal["linear_program", "regret_matching"] = Field(
        default="linear_program", description="how each matrix game is solved"
    )
    iterations: int = Field(
        default=1000, ge=1, le=1_000_000, description="of regret matching, in each matrix game"
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> GameState:
        """The game, and the mixtures of both sides.

        Raises:
            UserError: another game than `solve` can solve.
        """
        super().initial_state(role, phases, streams)
        game = role.game if isinstance(role, GameRole) else None
        if game is None:
            message = f"this policy needs a role of control, not {role.name}"
            raise UserError(message, code="unsupported", path=f"policies.{role.name}")
        iterations = self.iterations if self.solver == "regret_matching" else None
        mixtures = solve(game, iterations)
        table = mixtures.attacker if self.role_name == "untrusted" else mixtures.auditor
        return GameState(role.observation_space, game, table)

    def probabilities(self, observation: Tensor, num_options: int, state: GameState) -> Tensor:
        """The mixture of the task and the audits left."""
        task, audits, _ = table_index(state.space, state.game, observation)
        assert state.table is not None
        return state.table[task.cpu(), audits.cpu()].to(observation)


class EquilibriumAttacker(EquilibriumPolicy):
    """Untrusted policy that plays an equilibrium against an auditor that chooses rates."""


class EquilibriumAuditor(EquilibriumPolicy):
    """Auditor that plays an equilibrium of the game for the probability of a success."""

    role_name: ClassVar[str] = "auditor"
