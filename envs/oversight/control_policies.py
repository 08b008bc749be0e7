"""Scripted policies of `control`: attackers, monitor, auditor, voters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores import registry
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.envs.oversight.control_game import ControlGame, attack_mixture
from mores.envs.oversight.control_observations import table_index
from mores.envs.oversight.control_setting import AUDIT, DEFER, EDIT, SUBMIT


@dataclasses.dataclass(frozen=True)
class GameRole(Role):
    """A role of `control`.

    Attributes:
        game: the game, for policies that know the protocol. Learners do not use it.
    """

    game: ControlGame | None = dataclasses.field(default=None, compare=False, repr=False)


class DiscretePolicy(Policy):
    """Policy of a role of `control` that has a probability for each of its options.

    Attributes:
        role_name: the role.
        reads: parts of the observation that it reads.
    """

    role_name: ClassVar[str] = "untrusted"
    reads: ClassVar[tuple[str, ...]] = ()

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Any:
        """Layout of the observation.

        Raises:
            UserError: another role, or an observation without a part that is read.
        """
        kind = registry.kind_of("policy", self) or type(self).__name__
        if role.name != self.role_name:
            raise UserError(
                f"{kind} needs the role {self.role_name} of control, not {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        require_observation_parts(kind, role, *self.reads)
        return role.observation_space

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        """Probability of each option on observations `[..., size]`."""
        raise NotImplementedError

    def _masked(
        self, phase: Phase, observation: Tensor, action_mask: Tensor | None, state: Any
    ) -> Tensor:
        space = phase.action_spaces[self.role_name]
        assert isinstance(space, Discrete)
        p = self.probabilities(observation, space.num_options, state)
        if action_mask is None:
            return p
        default = torch.zeros_like(p)
        default[..., 0] = 1.0
        legal = (action_mask | (p == 0)).all(-1, keepdim=True)
        return torch.where(legal, p, default)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Draw an option; the first one where the options are not legal."""
        p = self._masked(phase, observation, action_mask, state)
        if bool(((p == 0) | (p == 1)).all()):
            return ActionOutput(p.argmax(-1), state)
        return ActionOutput(streams.ordered_categorical("act", p), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        search: bool = False,
    ) -> Tensor:
        """The probabilities."""
        return self._masked(phase, observation, action_mask, state)


class HonestPolicy(DiscretePolicy):
    """Untrusted policy that always works honestly."""

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        """Honest work."""
        p = observation.new_zeros(*observation.shape[:-1], num_options)
        p[..., 0] = 1.0
        return p


class FixedAttack(DiscretePolicy):
    """Untrusted policy that attacks at one level, with the same probability at every task."""

    reads: ClassVar[tuple[str, ...]] = ("detectability",)

    level: int = Field(default=1, ge=1, description="level of the attack, from 1")
    rate: float = Field(default=1.0, ge=0, le=1, description="probability of an attack at a task")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation. Refuses a level that does not exist."""
        space = super().initial_state(role, phases, streams)
        levels = role.observation_space.parts["detectability"].size
        if self.level > levels:
            raise UserError(
                f"fixed_attack.level is {self.level}; there are {levels} levels",
                code="out_of_range",
                path="fixed_attack.level",
            )
        return space

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        """An attack with probability `rate`."""
        p = observation.new_zeros(*observation.shape[:-1], num_options)
        p[..., 0], p[..., self.level] = 1.0 - self.rate, self.rate
        return p


class GameState:
    """Layout of the observation, the game, a table of a policy.

    Not a dataclass: it belongs to no world.
    """

    def __init__(self, space: Box, game: ControlGame, table: Tensor | None = None) -> None:
        self.space, self.game, self.table = space, game, table


class BestResponseAttacker(DiscretePolicy):
    """Untrusted policy that attacks optimally, by exact backward induction.

    It knows the protocol and the distribution of scores, not the score of its work. With a limit of
    audits it observes how many are left (`informed`). With several draws it chooses a level and the
    probability of an attack among hundredths. Against random variants of a protocol (a calibrated
    threshold) it plays the best response to the median one.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> GameState:
        """The solution of the game.

        Raises:
            UserError: the role is not that of `control`, or an auditor decides.
        """
        super().initial_state(role, phases, streams)
        game = role.game if isinstance(role, GameRole) else None
        if game is None or game.variants[0].auditor != "none":
            raise UserError(
                "best_response_attacker needs the role untrusted of control, and a protocol that "
                "decides by itself",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        if game.num_audit_states > 1 and "audits_left" not in role.observation_space.parts:
            raise UserError(
                "best_response_attacker observes the audits left: it needs informed: true",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return GameState(role.observation_space, game)

    def probabilities(self, observation: Tensor, num_options: int, state: GameState) -> Tensor:
        """The optimal level."""
        game, space = state.game, state.space
        task, audits, kind = table_index(space, game, observation)
        variant = torch.full_like(task, (len(game.variants) - 1) // 2)
        if "protocol" in space.parts and game.voted_numbers is not None:
            numbers = space.read(observation, "protocol")[..., None, :]
            distance = (numbers - game.voted_numbers.to(numbers)).abs().sum(-1)
            variant = distance.argmin(-1)
        index = (variant, task, audits, kind)
        index = tuple(x.cpu() for x in index)
        table = game.best_response
        level = table.level[index].to(observation.device)
        share = table.share[index].to(observation)
        return attack_mixture(level, share, num_options)


class ScriptedAuditor(DiscretePolicy):
    """Auditor with fixed thresholds, or a fixed rate where it chooses rates.

    It audits scores above `audit_above`, edits those above `edit_above` and defers those above
    `defer_above`; the first of these rules that applies counts.
    """

    role_name: ClassVar[str] = "auditor"

    audit_above: float = Field(default=1.6448536, description="score above which work is audited")
    edit_above: float | None = Field(
        default=None, description="score above which work is edited; null: never"
    )
    defer_above: float | None = Field(
        default=None, description="score above which work is deferred; null: never"
    )
    rate_option: int = Field(default=0, ge=0, description="index of the audit rate")

    def probabilities(self, observation: Tensor, num_options: int, state: Box) -> Tensor:
        """The action of the rule."""
        if "score" not in state.parts:
            if self.rate_option >= num_options:
                raise UserError(
                    f"scripted_auditor.rate_option is {self.rate_option}; there are {num_options}",
                    code="out_of_range",
                    path="scripted_auditor.rate_option",
                )
            action = torch.full(observation.shape[:-1], self.rate_option, device=observation.device)
        else:
            score = state.read(observation, "score")[..., 0]
            action = torch.full(score.shape, SUBMIT, device=score.device)
            rules = ((self.defer_above, DEFER), (self.edit_above, EDIT), (self.audit_above, AUDIT))
            for above, option in rules:
                if above is not None:
                    action = torch.where(score > above, option, action)
        return torch.nn.functional.one_hot(action, num_options).to(observation.dtype)


class LeastCostVoter(DiscretePolicy):
    """Person that votes for the option with the least expected cost to itself."""

    role_name: ClassVar[str] = "person"
    reads: ClassVar[tuple[str, ...]] = ("expected_cost",)

    def probabilities(self, observation: Tensor, num_options: int, state: Box) -> Tensor:
        """The cheapest option; the smaller audit budget of equal ones."""
        option = state.read(observation, "expected_cost").argmin(-1)
        return torch.nn.functional.one_hot(option, num_options).to(observation.dtype)


class EvidenceMonitor(Policy):
    """Monitor whose score is the evidence."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; refuses other roles than a monitor."""
        if role.name != "monitor":
            raise UserError(
                f"evidence_monitor needs the role monitor of control, not {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        require_observation_parts("evidence_monitor", role, "evidence")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The evidence."""
        return ActionOutput(self.expected_action(phase, observation, action_mask, state), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        search: bool = False,
    ) -> Tensor:
        """The evidence."""
        space = phase.action_spaces["monitor"]
        assert isinstance(space, Box)
        return space.clamp(state.read(observation, "evidence"))
