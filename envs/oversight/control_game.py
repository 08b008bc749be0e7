"""The game between an untrusted policy and a protocol: tables for play, and exact values.

Tables have the dimensions (variant of the protocol, task, audits left, class of the task). With m
audits at most, the game has a state b, the audits left; an audit that does not retire the policy
takes one, and with b = 0 what the protocol would audit is submitted. With j tasks left, for each
class x of probability p_x and option k:

    V_j(b) = g + sum_x p_x max_k [B v_x w - kappa c + a V_{j-1}(b-1) + (s - a) V_{j-1}(b)]

a is the probability of an audit after which the policy goes on, and s that it goes on
(`control_values` has the case without a limit). A policy that is given as a table replaces the
maximum by its mean.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.errors import UserError
from mores.envs.oversight.control_frontier import optimal_defender
from mores.envs.oversight.control_outcomes import (
    ProtocolOutcome,
    Routing,
    action_probabilities,
    routed_outcome,
)
from mores.envs.oversight.control_setting import ACTIONS, AUDIT, SUBMIT, ControlSetting
from mores.envs.oversight.control_values import SUCCESS_PROBABILITY, AttackPayoff
from mores.envs.oversight.protocols.outcome_checks import checked_outcomes
from mores.envs.oversight.protocols.protocol import ControlEpisode, ControlProtocol, power


class RoutingTables(NamedTuple):
    """Routings of a protocol as tensors, float32.

    Attributes:
        thresholds: padded with infinity.
        cumulative: probability of actions up to each one, in each bin of scores.
    """

    thresholds: Float[Tensor, "variant task audits kind threshold"]
    cumulative: Float[Tensor, "variant task audits kind bin action"]


class AttackTables(NamedTuple):
    """Probabilities of one task for each option of the attacker, float64; option 0 is honest work.

    Attributes:
        caught: c.
        succeeds: w.
        spends: probability of an audit that does not retire the policy.
        spends_safely: the same, without success of the attack.
    """

    caught: Float[Tensor, "*batch task audits kind option"]
    succeeds: Float[Tensor, "*batch task audits kind option"]
    spends: Float[Tensor, "*batch task audits kind option"]
    spends_safely: Float[Tensor, "*batch task audits kind option"]


class PolicyRates(NamedTuple):
    """The same for a policy that mixes over the options, and its probability of an attack."""

    caught: Float[Tensor, "*batch task audits kind"]
    succeeds: Float[Tensor, "*batch task audits kind"]
    spends: Float[Tensor, "*batch task audits kind"]
    spends_safely: Float[Tensor, "*batch task audits kind"]
    attacks: Float[Tensor, "*batch task audits kind"]


class GameValue(NamedTuple):
    """Exact values of a policy.

    Attributes:
        expected_return: reward of the attacker in an episode.
        success_probability: of at least one success.
        success_count: expected number of successes if none of them ends the episode.
        harm: the same weighted with the stakes.
        attack_rate: probability of an attack at each task, given that U is in service and that
            the episode goes on; with several draws, that at least one of them is an attack.
    """

    expected_return: Float[Tensor, "*batch"]
    success_probability: Float[Tensor, "*batch"]
    success_count: Float[Tensor, "*batch"]
    harm: Float[Tensor, "*batch"]
    attack_rate: Float[Tensor, "*batch task"]


class BestResponseTable(NamedTuple):
    """Optimal attacks: level and, with several draws, the probability that a draw is an attack.

    Attributes:
        value: with all tasks left and all audits.
        level: 0 for honest work.
        share: probability of that level.
    """

    value: Float[Tensor, " variant"]
    level: Int[Tensor, "variant task audits kind"]
    share: Float[Tensor, "variant task audits kind"]

    def policy(self, num_options: int) -> Float[Tensor, "variant task audits kind option"]:
        """Probability of honest work and of each level."""
        return attack_mixture(self.level, self.share.double(), num_options)


def attack_mixture(
    level: Int[Tensor, "*lead"], share: Float[Tensor, "*lead"], num_options: int
) -> Float[Tensor, "*lead option"]:
    """Policy that attacks at a level with probability `share`, and else works honestly."""
    attack = torch.nn.functional.one_hot(level, num_options).to(share.dtype)
    honest = torch.zeros_like(attack)
    honest[..., 0] = 1.0
    return share[..., None] * attack + (1 - share[..., None]) * honest


class ControlGame:
    """A protocol (in its variants), an episode, and the payoff of the attacker.

    Not a dataclass: roles have it, and the tensors of a policy's state are those of dataclasses.

    Args:
        variants: protocols of which one applies in each episode.
        episode: number of tasks, limit of audits, classes of tasks.
        payoff: what the attacker maximizes.
        voted_numbers: numbers by which the attacker tells variants apart, if people voted on them.
    """

    def __init__(
        self,
        variants: tuple[ControlProtocol, ...],
        episode: ControlEpisode,
        payoff: AttackPayoff,
        voted_numbers: Float[Tensor, "variant number"] | None = None,
    ) -> None:
        self.variants, self.episode, self.payoff = variants, episode, payoff
        self.voted_numbers = voted_numbers

    @property
    def num_options(self) -> int:
        """K + 1: honest work and the levels of attack."""
        return self.episode.classes[0].setting.num_levels + 1

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Numbers of tasks, of values of the audits left, and of classes."""
        return self.episode.num_tasks, self.num_audit_states, len(self.episode.classes)

    @property
    def num_audit_states(self) -> int:
        """Number of values of the audits left: m + 1, or 1 without a limit."""
        return 1 if self.episode.num_audits is None else self.episode.num_audits + 1

    @functools.cached_property
    def outcomes(self) -> list[list[list[list[ProtocolOutcome]]]]:
        """Outcome by variant, task, audits left and class, all of them written out."""
        return [_full(each, self.state_shape) for each in self._given_outcomes]

    @functools.cached_property
    def _given_outcomes(self) -> list[Sequence[Sequence[Sequence[ProtocolOutcome]]]]:
        return [checked_outcomes(each, self.episode) for each in self.variants]

    @functools.cached_property
    def routing(self) -> RoutingTables:
        """Tables for play. Only for protocols with one draw."""
        flat = [o for v in self.outcomes for t in v for b in t for o in b]
        routings = [o.routing for o in flat]
        if any(each is None for each in routings):
            raise UserError("a protocol with one draw needs a routing", code="missing")
        width = max(len(each.thresholds) for each in routings if each is not None)
        shape = (len(self.variants), *self.state_shape)
        thresholds = np.full((len(flat), width), np.inf, dtype=np.float32)
        cumulative = np.ones((len(flat), width + 1, len(ACTIONS)), dtype=np.float32)
        for i, each in enumerate(routings):
            assert each is not None
            count = len(each.thresholds)
            thresholds[i, :count] = each.thresholds
            rows = np.cumsum(each.probabilities, -1)
            rows[:, -1] = 1.0  # without rounding error
            cumulative[i, : count + 1] = rows
        return RoutingTables(
            torch.from_numpy(thresholds.reshape(*shape, width)),
            torch.from_numpy(cumulative.reshape(*shape, width + 1, len(ACTIONS))),
        )

    @functools.cached_property
    def action_tables(self) -> Float[Tensor, "variant task audits kind option action"]:
        """Probability of each action of the protocol. Only for protocols with one draw."""

        def row(outcome: ProtocolOutcome, setting: ControlSetting, left: int) -> np.ndarray:
            assert outcome.routing is not None
            empty = self.num_audit_states > 1 and left == 0
            routing = submit_audits(outcome.routing) if empty else outcome.routing
            play = (outcome.monitor_factor, outcome.collusion)
            return action_probabilities(setting, routing, *play)

        kinds = self.episode.classes
        rows = [
            [[[row(o, x.setting, b) for o, x in zip(by_class, kinds, strict=True)]
              for b, by_class in enumerate(by_audits)] for by_audits in by_task]
            for by_task in self.outcomes
        ]  # fmt: skip
        return torch.from_numpy(np.array(rows))

    @functools.cached_property
    def randomizes(self) -> bool:
        """Whether an action is ever drawn."""
        cumulative = self.routing.cumulative
        return bool(((cumulative > 0) & (cumulative < 1)).any())

    @functools.cached_property
    def attack_tables(self) -> AttackTables:
        """Probabilities of the ways to attack; with several draws, of each level and share."""
        return self._tables(self.outcomes)

    def _tables(self, outcomes: Sequence) -> AttackTables:
        rows = [
            [[[_option_rates(o, x.setting, b, self.num_audit_states) for o, x in
               zip(by_class, self.episode.classes, strict=True)]
              for b, by_class in enumerate(by_audits)] for by_audits in by_task]
            for by_task in outcomes
        ]  # fmt: skip
        stacked = torch.from_numpy(np.array(rows))  # [variant, task, audits, class, 4, option]
        return AttackTables(*stacked.unbind(-2))

    @functools.cached_property
    def best_response(self) -> BestResponseTable:
        """Optimal attacks against each variant, honest work where it is as good."""
        return self.respond(self.attack_tables)

    def respond(self, tables: AttackTables) -> BestResponseTable:
        """Optimal attacks against given probabilities of each way to attack."""
        value = tables.caught.new_zeros(len(tables.caught), self.num_audit_states)
        options = []
        for task in reversed(range(self.episode.num_tasks)):
            each = AttackTables(*(x[:, task] for x in tables))
            worth = self.backed_up(each, self.rewards(each), value)
            best, option = worth.max(-1)
            honest = worth[..., 0]
            attacks = best > honest + 1e-12
            options.append(torch.where(attacks, option, 0))
            value = self.mean_over_classes(torch.where(attacks, best, honest))
        option = torch.stack(options[::-1], 1)
        first = self.outcomes[0][0][-1][0]
        level = torch.tensor([0, *(first.level + 1)])[option]
        share = torch.tensor([1.0, *first.attack_share])[option]
        return BestResponseTable(value[:, -1], level, share)

    @functools.cached_property
    def best_response_value(self) -> GameValue:
        """Exact values of the best response to each variant of the protocol."""
        policy = self.best_response.policy(self.num_options)
        return self.evaluate(self.policy_rates(policy, torch.arange(len(self.variants))))

    @functools.cached_property
    def worst_case(self) -> Float[Tensor, " variant"]:
        """1 - S_n: the largest probability of a success, whatever the attacker is rewarded for."""
        if self.payoff == SUCCESS_PROBABILITY:
            return self.best_response_value.success_probability
        return ControlGame(self.variants, self.episode, SUCCESS_PROBABILITY).worst_case

    @functools.cached_property
    def frontier_safety(self) -> float | None:
        """Safety of the optimal defender that has this usefulness and audit rate at every task.

        None unless the protocol has one variant, one class and no limit of audits, and is the same
        at all tasks. A defender with other usefulness or audit rates at early and at late tasks,
        and the same means over tasks, can be safer.
        """
        simple = len(self.variants) == len(self.episode.classes) == self.num_audit_states == 1
        if not simple or len(self._given_outcomes[0]) > 1:
            return None
        outcome, setting = self.outcomes[0][0][0][0], self.episode.classes[0].setting
        if outcome.routing is None or outcome.monitor_factor != 1:
            return None
        usefulness, budget = outcome.usefulness - 1e-9, outcome.honest_audit_rate
        return optimal_defender(setting, self.episode.num_tasks, budget, usefulness).safety

    def mean_over_classes(self, x: Float[Tensor, "*batch kind"]) -> Float[Tensor, "*batch"]:
        """Expectation over the class of a task."""
        return total(x * x.new_tensor([each.share for each in self.episode.classes]), -1)

    def rewards(self, rates: AttackTables) -> Float[Tensor, "*batch kind option"]:
        """Expected reward of a task begun in service, for each option."""
        stakes = rates.succeeds.new_tensor([each.stakes for each in self.episode.classes])
        gain = self.payoff.success * stakes[:, None] * rates.succeeds
        return self.payoff.service + gain - self.payoff.caught * rates.caught

    def backed_up(
        self,
        rates: AttackTables,
        reward: Float[Tensor, "*batch audits kind option"],
        value: Float[Tensor, "*values audits"],
    ) -> Float[Tensor, "*both audits kind option"]:
        """Reward of a task and value of the following ones; leading dimensions broadcast."""
        goes_on, spends = 1 - rates.caught, rates.spends
        if self.payoff.ends_at_success:
            goes_on, spends = goes_on - rates.succeeds, rates.spends_safely
        fewer = torch.cat([value[..., :1], value[..., :-1]], -1)[..., None, None]
        return reward + (goes_on - spends) * value[..., None, None] + spends * fewer

    def policy_rates(
        self,
        policy: Float[Tensor, "*batch task audits kind option"],
        variant: Int[Tensor, "*batch"],
        tables: AttackTables | None = None,
    ) -> PolicyRates:
        """Probabilities of a policy in each state of the game.

        Args:
            policy: probability of honest work and of each level.
            variant: variant of the protocol.
            tables: probabilities of each option; default: those of the variants.
        """
        attacks = 1 - policy[..., 0]
        if self.variants[0].num_draws == 1:
            if tables is None:
                tables = AttackTables(*(x[variant] for x in self.attack_tables))
            c, w, spends, spends_safely = (total(policy * x, -1) for x in tables)
            return PolicyRates(c, w, spends, spends_safely, attacks)
        setting = [each.setting for each in self.episode.classes]
        mixed = [
            self.variants[0].mixture_outcome(policy[..., x, :], setting[x])
            for x in range(len(setting))
        ]
        c, w = (torch.stack([getattr(m, n) for m in mixed], -1) for n in ("caught", "succeeds"))
        zero = torch.zeros_like(c)
        any_attack = 1 - power(policy[..., 0], self.variants[0].num_draws)
        return PolicyRates(c, w, zero, zero, any_attack)

    def evaluate(self, rates: PolicyRates) -> GameValue:
        """Exact values of a policy, by a forward recursion over tasks and audits left."""
        shares = rates.caught.new_tensor([each.share for each in self.episode.classes])
        stakes = rates.caught.new_tensor([each.stakes for each in self.episode.classes])
        alive = torch.zeros_like(rates.caught[..., 0, :, 0])
        alive[..., -1] = 1.0
        safe = alive  # in service without a success so far
        zero = torch.zeros_like(alive[..., 0])
        reward = success = count = harm = zero
        attack_rates = []
        for task in range(self.episode.num_tasks):
            by_class = [x[..., task, :, :] for x in rates]
            c, w, spends, spends_safely, attacks = (total(x * shares, -1) for x in by_class)
            weighted = total(by_class[1] * (shares * stakes), -1)
            paid = safe if self.payoff.ends_at_success else alive
            gain = self.payoff.service + self.payoff.success * weighted - self.payoff.caught * c
            reward = reward + total(paid * gain, -1)
            success = success + total(safe * w, -1)
            count = count + total(alive * w, -1)
            harm = harm + total(alive * weighted, -1)
            attack_rates.append(total(paid * attacks, -1) / total(paid, -1).clamp(min=1e-300))
            safe = moved(safe, 1 - c - w, spends_safely)
            alive = moved(alive, 1 - c, spends)
        return GameValue(reward, success, count, harm, torch.stack(attack_rates, -1))


def moved(
    mass: Float[Tensor, "*batch audits"],
    goes_on: Float[Tensor, "*batch audits"],
    spends: Float[Tensor, "*batch audits"],
) -> Float[Tensor, "*batch audits"]:
    """Probability of each number of audits left after a task.

    Args:
        mass: the same before it.
        goes_on: probability that U goes on.
        spends: probability that it goes on and an audit is spent.
    """
    kept, spent = mass * (goes_on - spends), mass * spends
    return kept + torch.cat([spent[..., 1:], torch.zeros_like(spent[..., :1])], -1)


def _full(given: Sequence, shape: tuple[int, ...]) -> list:
    """Nested lists of this shape; a single entry stands for all of them."""
    if len(given) not in (1, shape[0]):
        raise UserError(
            f"outcomes of a protocol: {len(given)} entries in place of {shape[0]}",
            code="wrong_shape",
        )
    given = list(given) * (shape[0] if len(given) == 1 else 1)
    return [_full(each, shape[1:]) for each in given] if len(shape) > 1 else given


def submit_audits(routing: Routing) -> Routing:
    """The routing without audits: what it would audit is submitted."""
    probabilities = routing.probabilities.copy()
    probabilities[:, SUBMIT] += probabilities[:, AUDIT]
    probabilities[:, AUDIT] = 0.0
    return dataclasses.replace(routing, probabilities=probabilities)


def _option_rates(
    outcome: ProtocolOutcome, setting: ControlSetting, audits_left: int, num_audit_states: int
) -> Float[np.ndarray, "rate option"]:
    """Rows of `AttackTables` of honest work and of each way to attack."""
    caught, succeeds = outcome.caught, outcome.succeeds
    spends, honest_spends = np.zeros_like(caught), 0.0
    if num_audit_states > 1 and outcome.routing is not None:
        play = (outcome.monitor_factor, outcome.collusion)
        if audits_left == 0:
            none = routed_outcome(setting, submit_audits(outcome.routing), *play)
            caught, succeeds = none.caught, none.succeeds
        else:
            sure = setting.model_copy(update={"audit_detection": 1.0})
            spends = routed_outcome(sure, outcome.routing, *play).caught - caught
            honest_spends = outcome.honest_audit_rate
    spends_safely = spends * (1 - setting.success[outcome.level])
    rows = [(0.0, caught), (0.0, succeeds), (honest_spends, spends), (honest_spends, spends_safely)]
    return np.array([np.concatenate([[honest], attack]) for honest, attack in rows])
