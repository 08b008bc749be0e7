"""Base class of control protocols: what happens to each task, and its exact outcome.

A protocol is a registered component: `mores.register("protocol", NAME, Class)`. For a protocol
that looks at one score, `outcome` is all: its `routing` is played as it is, and its probabilities
are the exact values. A protocol that draws the work several times also defines `route`, which is
played, and `mixture_outcome`, the exact outcome of any attacker.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.config import Config
from mores.core.deterministic_sum import total
from mores.core.errors import UserError
from mores.envs.oversight.control_outcomes import ProtocolOutcome
from mores.envs.oversight.control_setting import ControlSetting

Monitor = Literal["none", "trusted", "untrusted"]
Auditor = Literal["none", "rate", "score"]


@dataclasses.dataclass(frozen=True)
class ClassSetting:
    """A class of tasks.

    Attributes:
        share: probability that a task is of this class.
        stakes: harm of a successful attack, and its value to the attacker.
        setting: levels, oversight and usefulness.
    """

    share: float
    stakes: float
    setting: ControlSetting


@dataclasses.dataclass(frozen=True)
class ControlEpisode:
    """What a protocol may know about an episode before it begins.

    Attributes:
        num_tasks: n, number of tasks.
        num_audits: m, number of audits that are possible; None: no limit.
        classes: classes of tasks.
    """

    num_tasks: int
    num_audits: int | None
    classes: tuple[ClassSetting, ...]


class ProtocolDecision(NamedTuple):
    """Action of the protocol in each world, and the draw of the work that is used."""

    action: Int[Tensor, " world"]
    draw: Int[Tensor, " world"]


class MixtureOutcome(NamedTuple):
    """Probabilities that one task's attacker is caught, and that its attack succeeds."""

    caught: Float[Tensor, "*batch"]
    succeeds: Float[Tensor, "*batch"]


class ControlProtocol(Config, ABC):
    """Rule that decides on each task of the untrusted policy.

    Attributes:
        auditor: whether a role `auditor` decides. none: the protocol does; rate: the auditor
            chooses the share of honest work that is audited, before the score is known; score: it
            chooses an action after it.
        monitor: who scores the work.
    """

    tags: ClassVar[Mapping[str, object]] = {}
    auditor: ClassVar[Auditor] = "none"
    monitor: ClassVar[Monitor] = "trusted"

    @abstractmethod
    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """Exact outcome of one task.

        Raises:
            UserError: the setting does not fit the protocol.
        """

    def outcomes(self, episode: ControlEpisode) -> Sequence[Sequence[Sequence[ProtocolOutcome]]]:
        """Outcome by task, number of audits left, and class.

        A single task (number of audits) stands for all of them.
        """
        return [[[self.outcome(each.setting) for each in episode.classes]]]

    @property
    def variants(self) -> Sequence[ControlProtocol]:
        """Protocols of which one is drawn, with equal probabilities, in each episode."""
        return (self,)

    @property
    def num_draws(self) -> int:
        """R, number of times that the untrusted policy does each task."""
        return 1

    @property
    def parameters(self) -> Mapping[str, float]:
        """Numbers that an informed attacker observes, by name."""
        numbers = {name: getattr(self, name) for name in type(self).model_fields}
        return {n: float(x) for n, x in numbers.items() if isinstance(x, (int, float))}

    def with_audit_rate(self, audit_rate: float) -> ControlProtocol:
        """The protocol with another audit budget, which people may vote on.

        Raises:
            UserError: the protocol has no `audit_budget`.
        """
        if "audit_budget" not in type(self).model_fields:
            raise UserError(
                f"{type(self).__name__} has no audit_budget to vote on",
                code="unsupported",
                path="vote_rates",
            )
        return type(self).model_validate({**dict(self), "audit_budget": audit_rate})

    def route(
        self,
        score: Float[Tensor, "world draw"],
        setting: ControlSetting,
    ) -> ProtocolDecision:
        """ProtocolDecision by the scores of several draws, played if `num_draws` is above 1."""
        raise NotImplementedError

    def mixture_outcome(
        self, policy: Float[Tensor, "*batch option"], setting: ControlSetting
    ) -> MixtureOutcome:
        """Exact outcome of an attacker that mixes over its options in each draw.

        With one draw this is the mean of `outcome` over the options; with several it is not linear.

        Args:
            policy: probability of honest work (option 0) and of an attack of each level.
            setting: the class of the task.
        """
        outcome, attack = self.outcome(setting), policy[..., 1:]
        rates = (torch.as_tensor(x).to(policy) for x in (outcome.caught, outcome.succeeds))
        return MixtureOutcome(*(total(attack * rate, -1) for rate in rates))


def power(x: Tensor, exponent: int) -> Tensor:
    """`x ** exponent` by multiplication: torch's pow differs between vector lanes and tails."""
    result = torch.ones_like(x)
    for _ in range(exponent):
        result = result * x
    return result
