"""Optimal protocols: the defender of a linear program, hard budgets, and classes of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from mores.core.errors import UserError
from mores.envs.oversight import control_outcomes
from mores.envs.oversight.attack_selection import TaskClasses, equalized_audits
from mores.envs.oversight.control_frontier import optimal_defender
from mores.envs.oversight.control_outcomes import ProtocolOutcome, routed_outcome
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.hard_budget import solve_hard_budget
from mores.envs.oversight.protocols.monitoring import TrustedMonitoring
from mores.envs.oversight.protocols.protocol import ControlEpisode, ControlProtocol


class Optimal(ControlProtocol):
    """The safest defender of a usefulness: one linear program per task (`control_frontier`).

    It may randomize and changes with the task. Usefulness and audit budget hold at every task.
    """

    tags: ClassVar[Mapping[str, object]] = {"solver": True}

    usefulness: float = Field(
        default=0.9, ge=0, le=1, description="smallest main-task success of honest work"
    )
    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="largest share of honest work that is audited"
    )

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Of a single task."""
        return self._by_task(setting, 1)[0]

    def outcomes(self, episode: ControlEpisode) -> Sequence[Sequence[Sequence[ProtocolOutcome]]]:
        """By task.

        Raises:
            UserError: several classes, or a limit of audits; the usefulness cannot be reached.
        """
        refuse(episode, classes=False, limit=False, kind="optimal")
        return [[[each]] for each in self._by_task(episode.classes[0].setting, episode.num_tasks)]

    def _by_task(self, setting: ControlSetting, num_tasks: int) -> list[ProtocolOutcome]:
        if self.usefulness < setting.trusted_usefulness:
            raise UserError(
                f"usefulness {self.usefulness} is below that of the trusted policy alone, "
                f"{setting.trusted_usefulness}",
                code="out_of_range",
                path="usefulness",
            )
        defender = optimal_defender(setting, num_tasks, self.audit_budget, self.usefulness)
        return [routed_outcome(setting, defender.routing(task)) for task in range(num_tasks)]


class BudgetedMonitoring(ControlProtocol):
    """Trusted monitoring with m audits: the optimal audit rate of each task and number left."""

    tags: ClassVar[Mapping[str, object]] = {"solver": True}

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Without audits; `outcomes` has those of an episode."""
        return control_outcomes.trust_untrusted(setting)

    def outcomes(self, episode: ControlEpisode) -> Sequence[Sequence[Sequence[ProtocolOutcome]]]:
        """By task and number of audits left.

        Raises:
            UserError: several classes, or no limit of audits.
        """
        refuse(episode, classes=False, limit=True, kind="budgeted_monitoring")
        setting, num_audits = episode.classes[0].setting, episode.num_audits
        assert num_audits is not None
        solution = solve_hard_budget(setting, episode.num_tasks, num_audits)
        return [
            [[control_outcomes.trusted_monitoring(setting, float(rate))] for rate in rates]
            for rates in solution.honest_audit_rate
        ]


class EqualizedMonitoring(TrustedMonitoring):
    """Trusted monitoring with a threshold for each class: all classes are equally worth attacking.

    The audit rates minimize the value of one attack on the best class (`attack_selection`).
    """

    tags: ClassVar[Mapping[str, object]] = {"solver": True}

    def outcomes(self, episode: ControlEpisode) -> Sequence[Sequence[Sequence[ProtocolOutcome]]]:
        """By class."""
        settings = [each.setting for each in episode.classes]
        classes = TaskClasses(
            np.array([each.share for each in episode.classes]),
            np.stack([each.shifts for each in settings]),
            np.stack([each.success for each in settings]),
            np.array([each.stakes for each in episode.classes]),
        )
        first = settings[0]
        allocation = equalized_audits(
            first.scores, classes, self.audit_budget, first.audit_detection
        )
        pairs = zip(settings, allocation.audit_rates, strict=True)
        return [[[control_outcomes.trusted_monitoring(s, float(rate)) for s, rate in pairs]]]


def refuse(episode: ControlEpisode, classes: bool, limit: bool, kind: str) -> None:
    """Refuse episodes with several classes, or with (without) a limit of audits.

    Args:
        episode: the episode.
        classes: whether several classes are allowed.
        limit: whether there must be a limit of audits; else there must be none.
        kind: of the protocol, for the message.

    Raises:
        UserError: the episode does not fit.
    """
    if not classes and len(episode.classes) > 1:
        raise UserError(
            f"{kind} is for one class of tasks", code="unsupported", path="task_classes"
        )
    if limit != (episode.num_audits is not None):
        needs = "needs num_audits" if limit else "has a budget of its own: leave out num_audits"
        raise UserError(f"{kind} {needs}", code="conflict", path="num_audits")
