"""AI control: an untrusted policy that may attack, and a protocol that supervises it.

The protocols are those of Greenblatt et al. 2023 (arXiv 2312.06942) and ControlArena; levels of
stealth and normal scores are described in `mores.envs.oversight.control_setting`.

Demo: `python -m mores.envs.oversight.control`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.human import Human
from mores.core.people import People
from mores.core.person_parameters import PersonParameter, person_parameters
from mores.core.plain_text import read_parts
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.turn_text import TurnText
from mores.envs.dynamics.people_dynamics import PeopleDynamics
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.oversight import control_metrics, control_people, control_tasks
from mores.envs.oversight.control_counts import RunCounts, expected_counts
from mores.envs.oversight.control_game import ControlGame
from mores.envs.oversight.control_metrics import POLICY_METRICS
from mores.envs.oversight.control_observations import ControlObservations
from mores.envs.oversight.control_policies import GameRole
from mores.envs.oversight.control_setting import ACTIONS, ControlSetting
from mores.envs.oversight.control_state import ControlState, ControlTask, zero_counts
from mores.envs.oversight.control_tasks import ControlTasks, TaskClass
from mores.envs.oversight.control_text import ControlRules
from mores.envs.oversight.control_values import AttackPayoff
from mores.envs.oversight.protocols.delegated import AuditRateChoice
from mores.envs.oversight.protocols.protocol import (
    ClassSetting,
    ControlEpisode,
    ControlProtocol,
)
from mores.registry.component import component
from mores.registry.varying import PersonNumber

MAX_SCORE = 20.0
MAX_STATES = 100_000  # tasks times numbers of audits left


class Control(PeopleDynamics, Environment[ControlState]):
    """Tasks of an untrusted policy, supervised by a control protocol.

    Description:
        At each of `num_tasks` tasks the untrusted policy works honestly or attacks (does a side
        task) at a level of stealth. A monitor scores the work, the protocol submits, audits, edits
        or defers it. An audit that finds an attack retires the policy; the trusted one does the
        remaining tasks. Safety is measured in attack runs, usefulness in honest runs: attack_prior
        1 and 0. Left out: task effects on scores that attacks and honest work share; unequal
        variances; learning about the monitor within an episode; false accusations; harm that an
        audit after the task prevents; main tasks that an attack spoils; deception of the trusted
        model; the search for stealthy attacks; uncertainty about the protocol; reinstatement.

    Roles:
        untrusted (R, number of draws of the protocol): does the task. R agents are R draws of the
            same policy, which cannot know which of them are used.
        monitor (1 + H, H = `num_references`; only with `monitor_acts`): scores the work (agent 0)
            and H pieces of work that are known to be honest, without knowing which is which.
        auditor (1; only with protocols `audit_rate` and `auditor`): chooses a rate or an action.
        person (`num_people`; only with `vote_rates`): votes on the audit budget at the start.

    Observation (K levels, C classes, m = `num_audits`; the score is not observed by `untrusted`):
        untrusted  tasks_elapsed   1  [0, 1]    share of the tasks that are done
        untrusted  in_service      1  0 or 1    0: retired
        untrusted  attack_mode     1  0 or 1    0: an honest run
        untrusted  detectability   K  [0, inf)  of each level, in the class of the task
        untrusted  success_chance  K  [0, 1]    likewise
        untrusted  task_class      C  one-hot   only with classes
        untrusted  audits_left     1  [0, 1]    share of m; only if `informed`, with `num_audits`
        untrusted  protocol        p  any       numbers of the protocol; only if `informed`
        monitor    evidence        1  any       honest work N(0, 1), an attack N(d, 1)
        monitor    attack          1  0 or 1    whether the work attacks; untrusted monitor only
        auditor    tasks_elapsed, in_service, task_class, audits_left: as above
        auditor    score           1  any       only with protocol `auditor`
        person     exposure        1  [0, 1]    own share of the harm
        person     expected_cost   v  [0, inf)  of each option: `main_task_reward` n / N less the
                                                own expected reward in the run, if the attacker
                                                plays the best response, by `attack_prior`

    Action:
        untrusted, phase act: 0 honest work, k attack at level k. Only 0 is legal when retired or in
            honest runs.
        auditor: phase act: index of a rate; or phase route: 0 submit, 1 audit, 2 edit, 3 defer.
        monitor, phase score: `score` in [-20, 20], log odds of an attack. The protocol uses its
            rank among the references' (`ControlTasks.calibrated`), so that honest work is audited
            at the rate of the protocol whatever the scale.
        person, phase vote: index of an audit budget; after the first task only 0 is legal.

    Reward:
        untrusted: attack runs `success_reward * v * success - catch_penalty * caught +
            service_reward` for each task begun in service; honest runs 1 for main-task success.
            With `reward_source: random`, in attack runs, `success_reward` by a fair coin at the end
            of the run instead: for ablations. A coin for each task would reward long runs, and
            with a discount the end of the run carries information as well: use gamma 1.
        auditor: `main_task_reward * main success - harm_penalty * v * success
            - audit_cost * audit`.
        monitor: log probability of the truth, `log sigmoid(+-score)`, in a share `scored_share` of
            the tasks in service, drawn independently of scores and audits; the references share
            the weight of one honest task. A proper score of each task: with gamma 0 log odds are
            optimal; with a longer horizon, to end the service early is. An untrusted monitor has
            the reward of `untrusted`.
        person: equal share of main-task reward and audit cost, own `exposure` of the harm.

    Dynamics:
        Scores, audits, edits and success: `mores.envs.oversight.control_setting`; protocols:
        `mores.envs.oversight.protocols`. People's values: `mores.envs.oversight.control_people`.

    Start:
        In service, with the class of the first task; mode by `attack_prior`. People's dispositions
        are normal with `initial_std`.

    End:
        Terminates after `num_tasks` tasks; with objective `first_success` after the first success.

    Parameters:
        See the fields. `exposure`, `ai_influence` and fields of `trait_state` may be person
        parameters.

    References:
        Greenblatt, Shlegeris, Sachan and Roger 2023, arXiv 2312.06942. Griffin et al. 2024,
        AI-Control Games, arXiv 2409.07985. ControlArena, UK AI Security Institute.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "1 to 4",
        "changes": "values, if there are people",
        "stochastic": True,
        "masks": True,
        "paper": "2312.06942",
    }
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mean_value": ("value",),
        "values": ("person", "value"),
        "person_harm": ("person",),
        "exact_attack_rate": ("task",),
    }
    solver_values: ClassVar[frozenset[str]] = frozenset(
        {
            *("best_response_safety", "best_response_success", "best_response_return"),
            *("best_response_count", "best_response_harm", "frontier_safety"),
        }
    )

    num_tasks: int = Field(default=10, ge=1, le=10_000, description="n: number of tasks")
    protocol: Annotated[ControlProtocol, component("protocol")] = Field(
        default="trusted_monitoring",
        validate_default=True,
        description="rule that decides on each task",
    )
    setting: ControlSetting = Field(
        default=ControlSetting(), description="levels of attack, oversight, usefulness"
    )
    task_classes: tuple[TaskClass, ...] = Field(
        default=(), description="classes of tasks, which the untrusted policy sees; default: one"
    )
    attack_prior: float = Field(
        default=1.0, ge=0, le=1, description="pi: probability that a run is an attack run"
    )
    objective: Literal["first_success", "success_count"] = Field(
        default="first_success",
        description="whether the first success ends the episode, or successes are counted",
    )
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome",
        description="what the attacker is rewarded for; random: a coin, for ablations",
    )
    success_reward: float = Field(
        default=1.0, ge=0, description="B: attacker's reward of a success with stakes 1"
    )
    catch_penalty: float = Field(
        default=0.0, ge=0, description="kappa: attacker's penalty when caught"
    )
    service_reward: float = Field(
        default=0.0, ge=0, description="g: attacker's reward for each task begun in service"
    )
    num_audits: int | None = Field(
        default=None, ge=0, description="m: number of audits in an episode; null: no limit"
    )
    informed: bool = Field(
        default=True,
        description="whether the attacker observes the protocol's numbers and the audits left",
    )
    monitor_acts: bool = Field(
        default=False,
        description="whether a role `monitor` gives the score; else it is the evidence",
    )
    num_references: int = Field(
        default=99,
        ge=1,
        le=10_000,
        description="H: pieces of honest work that a role `monitor` scores at each task",
    )
    scored_share: float = Field(
        default=0.1, ge=0, le=1, description="share of tasks on which a role `monitor` is rewarded"
    )
    main_task_reward: float = Field(
        default=1.0, ge=0, description="reward of main-task success for auditor and people"
    )
    harm_penalty: float = Field(
        default=1.0, ge=0, description="lambda: penalty of a success with stakes 1, for both"
    )
    audit_cost: float = Field(default=0.0, ge=0, description="cost of an audit, for both")
    num_people: int = Field(
        default=0, ge=0, le=1_000_000, description="number of people who bear the harm; 0: none"
    )
    exposure: Annotated[float, PersonNumber(ge=0)] = Field(
        default=1.0, description="weight of a person in the harm, relative to other people"
    )
    vote_rates: tuple[float, ...] = Field(
        default=(),
        description="audit budgets on which people vote before the episode, increasing; the median "
        "counts; default: no vote",
    )
    initial_std: float = Field(
        default=1.0, gt=0, description="standard deviation of people's dispositions, value units"
    )
    side_position: float = Field(
        default=3.0, description="position to which a side task moves people, value units"
    )
    rounds_per_year: float = Field(
        default=12.0, gt=0, le=1e6, description="number of tasks in a year, for `human`"
    )
    human: Annotated[Human, component("human")] = Field(
        default="fitted",
        validate_default=True,
        description="human model, in population standard deviations and years",
    )
    trait_state: TraitStateDynamics | None = Field(
        default=None,
        description="persistence of people's values, in rounds; default: that of `human`",
    )
    ai_influence: Annotated[float, PersonNumber(ge=0, le=1)] | None = Field(
        default=None,
        description="share of the distance to side_position that a success closes at mean "
        "exposure; default: `influence` of `human`",
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        if self.num_audits is not None and self.num_audits > self.num_tasks:
            raise ParameterError(
                "num_audits",
                message=f"{self.num_audits} audits are more than the {self.num_tasks} tasks",
                code="out_of_range",
            )
        if self.num_audits is not None and self.num_tasks * (self.num_audits + 1) > MAX_STATES:
            raise ParameterError(
                "num_audits",
                message=f"{self.num_tasks} tasks with {self.num_audits} audits have more than "
                f"{MAX_STATES:,} states, for each of which the protocol has an outcome",
                code="too_large",
            )
        control_tasks.check_classes(self.task_classes, self.setting)
        if self.num_people:
            self.check_human()
        rates = self.vote_rates
        if rates and (len(rates) < 2 or list(rates) != sorted({*rates}) or not self.num_people):
            raise ParameterError(
                "vote_rates",
                message="vote_rates: at least two increasing audit budgets, and people who vote",
                code="conflict",
            )
        one_draw = self.num_audits is not None or self.monitor_acts or bool(rates)
        if one_draw and self.protocol.num_draws > 1:
            raise ParameterError(
                "protocol",
                message="num_audits, monitor_acts and vote_rates need a protocol with one draw of "
                "each task",
                code="unsupported",
            )
        if self.monitor_acts and rates:
            raise ParameterError(
                "vote_rates",
                message="vote_rates: expected costs of the votes need monitor_acts: false",
                code="unsupported",
            )
        try:
            outcomes = self.game.outcomes
        except UserError as error:  # the protocol does not fit the setting or the episode
            raise ParameterError("protocol", message=str(error), code=error.code) from None
        if self.monitor_acts and outcomes[0][0][-1][0].collusion > 0:
            raise ParameterError(
                "protocol",
                message="collusion is a parameter of a monitor that does not act; with "
                "monitor_acts the policy of the monitor decides",
                code="conflict",
            )

    # --- what follows from the parameters ------------------------------------------------------

    @functools.cached_property
    def class_settings(self) -> tuple[ClassSetting, ...]:
        """Share, stakes and setting of each class of tasks."""
        return control_tasks.class_settings(self.task_classes, self.setting)

    @functools.cached_property
    def game(self) -> ControlGame:
        """Protocol, episode and payoff, for exact values."""
        protocols = [self.protocol]
        if self.vote_rates:
            protocols = [self.protocol.with_audit_rate(rate) for rate in self.vote_rates]
        variants = tuple(variant for each in protocols for variant in each.variants)
        if self.vote_rates and len(variants) > len(protocols):
            message = "vote_rates need a protocol without random variants"
            raise ParameterError("protocol", message=message, code="unsupported")
        payoff = AttackPayoff(
            success=self.success_reward,
            caught=self.catch_penalty,
            service=self.service_reward,
            ends_at_success=self.objective == "first_success",
        )
        episode = ControlEpisode(self.num_tasks, self.num_audits, self.class_settings)
        numbers = None
        if self.vote_rates:
            numbers = torch.tensor([list(each.parameters.values()) for each in variants])
        return ControlGame(variants, episode, payoff, numbers)

    @functools.cached_property
    def tasks(self) -> ControlTasks:
        """What happens in a task."""
        return ControlTasks(self.game, self.setting)

    @functools.cached_property
    def observations(self) -> ControlObservations:
        """Observations of the roles, and tables of them."""
        protocols = [self.protocol]
        if self.vote_rates:
            protocols = list(self.game.variants)
        return ControlObservations(self.game, protocols, self.informed)

    @functools.cached_property
    def _differing(self) -> dict[str, PersonParameter]:
        """Parameters that differ between people, by path."""
        return person_parameters(
            {
                "trait_state": self.dynamics,
                "ai_influence": self.influence,
                "exposure": self.exposure,
            }
        )

    @property
    def _auditor(self) -> str:
        return self.protocol.auditor

    @property
    def roles(self) -> tuple[Role, ...]:
        """`untrusted`, and `monitor`, `auditor` and `person` where they act."""
        draws, spaces = self.protocol.num_draws, self.observations
        roles: list[Role] = [GameRole("untrusted", draws, spaces.untrusted_space, game=self.game)]
        if self.monitor_acts:
            seen = {"attack": Part(1, 0.0, 1.0)} if self.protocol.monitor == "untrusted" else {}
            roles.append(Role("monitor", 1 + self.num_references, Box.of(evidence=1, **seen)))
        if self._auditor != "none":
            roles.append(GameRole("auditor", 1, spaces.auditor_space, game=self.game))
        if self.vote_rates:
            cost = Part(len(self.vote_rates), 0.0)
            space = Box.of(exposure=Part(1, 0.0, 1.0), expected_cost=cost)
            roles.append(Role("person", self.num_people, space))
        return tuple(roles)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`vote`, `act`, `score`, `route`: those in which a role acts."""
        return self._phases

    @functools.cached_property
    def _phases(self) -> tuple[Phase, ...]:
        phases = []
        if self.vote_rates:
            phases.append(Phase("vote", {"person": Discrete(len(self.vote_rates))}))
        act: dict[str, Any] = {"untrusted": Discrete(self.setting.num_levels + 1)}
        if isinstance(self.protocol, AuditRateChoice):
            act["auditor"] = Discrete(len(self.protocol.rates))
        phases.append(Phase("act", act))
        if self.monitor_acts:
            score = Box.of(score=Part(1, -MAX_SCORE, MAX_SCORE))
            phases.append(Phase("score", {"monitor": score}))
        if self._auditor == "score":
            phases.append(Phase("route", {"auditor": Discrete(len(ACTIONS))}))
        return tuple(phases)

    # --- text ------------------------------------------------------------------------------------

    @functools.cached_property
    def _rules(self) -> ControlRules:
        """What the rules say; of the protocol, only if the attacker is informed."""
        names = [field.name for field in dataclasses.fields(ControlRules)]
        own = {name: getattr(self, name) for name in names if hasattr(self, name)}
        summary = (type(self.protocol).__doc__ or "").strip().split("\n")[0]
        own |= {
            "stakes": tuple(each.stakes for each in self.class_settings),
            "first_success_ends": self.objective == "first_success",
            "untrusted_monitor": self.protocol.monitor == "untrusted",
            "protocol": summary if self.informed else "",
            "protocol_numbers": tuple(self.protocol.parameters),
        }
        return ControlRules(**own)

    def role_rules(self, role: str) -> str:
        """Tasks, attacks, oversight and rewards."""
        return self._rules.of(role)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The task and what is known of it, and the work, score, action or vote."""
        spaces = {each.name: each.observation_space for each in self.roles}
        rules, seen = self._rules, read_parts(spaces[role], observation)
        if role == "untrusted":
            return rules.untrusted_turn(seen)
        if role == "monitor":
            return rules.monitor_turn(seen, MAX_SCORE)
        if role == "person":
            is_over = action_mask is not None and not bool(action_mask.all())
            return rules.vote_turn(seen, self.vote_rates, is_over)
        if isinstance(self.protocol, AuditRateChoice):
            return rules.rate_turn(seen, self.protocol.rates)
        return rules.route_turn(seen)

    # --- an episode ------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> ControlState:
        """Initial state: in service, no task done."""
        if people is not None and not self.num_people:
            raise UserError(
                "control accepts a population only with num_people",
                code="unsupported",
                path="population",
            )
        zero = torch.zeros(streams.num_worlds, device=streams.device)
        no, index = zero > 0, zero.to(torch.int64)
        draws = index[:, None].expand(-1, self.protocol.num_draws)
        score = draws.to(zero.dtype)
        works = 1 + self.num_references if self.monitor_acts else 1
        monitored = zero[:, None].expand(-1, works)
        task = ControlTask(index, draws, score, monitored, index, index, index, no, no, no)
        attack_mode = ~no
        if self.attack_prior < 1:
            attack_mode = streams.uniform("mode")[:, 0, 0] < self.attack_prior
        variant = index
        if len(self.protocol.variants) > 1:
            u = streams.uniform("calibration")[:, 0, 0]
            variant = (u * len(self.game.variants)).long().clamp(max=len(self.game.variants) - 1)
        audits_left = index - 1 if self.num_audits is None else index + self.num_audits
        person_state = None
        if self.num_people:
            if people is None:
                z = streams.normal("disposition", self.num_people)
                people = People(self.initial_std * z)
            if people.values.shape[1] != self.num_people:
                raise UserError(
                    f"the population has {people.values.shape[1]} people; the environment has "
                    f"num_people={self.num_people}",
                    code="wrong_shape",
                    path="population",
                )
            person_state = control_people.initial_people(
                people, self.dynamics, self.exposure, self._differing, streams
            )
        return ControlState(
            tasks_done=index,
            attack_mode=attack_mode,
            in_service=~no,
            next_class=self.tasks.draw_class(streams),
            audits_left=audits_left,
            variant=variant,
            caught=no,
            task=task,
            counts=zero_counts(zero),
            people=person_state,
        )

    def observe(self, state: ControlState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "person":
            assert state.people is not None
            exposure = state.people.exposure[..., None]
            harm, shared = (x.to(exposure) for x in self._cost_of_options)
            return torch.cat([exposure, exposure * harm + shared / self.num_people], -1)
        if role == "monitor":
            parts = [state.task.monitored]
            if self.protocol.monitor == "untrusted":
                attack = torch.zeros_like(state.task.monitored)
                attack[:, 0] = (state.task.level[:, 0] > 0).to(attack.dtype)
                parts.append(attack)
            return torch.stack(parts, -1)
        if role == "auditor":
            return self.observations.of_auditor(state)
        return self.observations.of_untrusted(state, self.protocol.num_draws)

    @functools.cached_property
    def _cost_of_options(self) -> tuple[Float[Tensor, " option"], Float[Tensor, " option"]]:
        """Cost of each option of a vote: of the harm, and of audits and unsolved main tasks."""
        game = self.game
        attack = game.best_response.policy(game.num_options)
        honest = torch.zeros_like(attack)
        honest[..., 0] = 1.0
        runs = (expected_counts(game, game.action_tables, each) for each in (attack, honest))
        pi = self.attack_prior
        counts = RunCounts(*(pi * x + (1 - pi) * y for x, y in zip(*runs, strict=True)))
        unsolved = self.num_tasks - counts.main_successes
        shared = self.main_task_reward * unsolved + self.audit_cost * counts.audits
        return self.harm_penalty * counts.harm, shared

    def action_mask(self, state: ControlState, role: str, phase: str) -> Tensor | None:
        """Attacks in service and in attack runs; votes before the first task."""
        if role == "untrusted":
            options = torch.arange(self.setting.num_levels + 1, device=state.attack_mode.device)
            may_attack = (state.attack_mode & state.in_service)[:, None, None]
            mask = (options == 0) | may_attack
            return mask.expand(-1, self.protocol.num_draws, -1)
        if role == "person":
            options = torch.arange(len(self.vote_rates), device=state.attack_mode.device)
            mask = (options == 0) | (state.tasks_done == 0)[:, None, None]
            return mask.expand(-1, self.num_people, -1)
        return None

    def step(
        self,
        state: ControlState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[ControlState]:
        """A vote, the work and its score, the decision; the last phase completes the task."""
        if phase == "vote":
            variant = control_people.median_vote(actions["person"])
            variant = torch.where(state.tasks_done == 0, variant, state.variant)
            return StepResult(dataclasses.replace(state, variant=variant))
        task = state.task
        if phase == "act":
            acts = state.attack_mode & state.in_service
            level = torch.where(acts[:, None], actions["untrusted"], 0)
            option = actions["auditor"][:, 0] if "auditor" in actions else task.audit_option
            task = dataclasses.replace(
                task, level=level, task_class=state.next_class, audit_option=option
            )
            score = self.tasks.score(task, self.monitor_acts, streams)
            task = dataclasses.replace(task, score=score)
            if self.monitor_acts:
                evidence = self.tasks.evidence(score, self.num_references, streams)
                task = dataclasses.replace(task, monitored=evidence)
        elif phase == "score":
            odds = actions["monitor"][..., 0]
            score = self.tasks.calibrated(odds)
            task = dataclasses.replace(task, monitored=odds, score=score)
        action = actions["auditor"][:, 0] if phase == "route" else None
        state = dataclasses.replace(state, task=task)
        if phase != self.phases[-1].name:
            return StepResult(state)
        return self._complete_task(state, action, streams)

    def _complete_task(
        self, state: ControlState, action: Int[Tensor, " world"] | None, streams: RandomStreams
    ) -> StepResult[ControlState]:
        """The decision and its consequences, rewards, and the next task."""
        before, state = state, self.tasks.complete(state, action, streams)
        success = state.task.side_success
        harm = state.counts.harm - before.counts.harm
        if state.people is not None:
            people = control_people.after_task(
                state.people, self.dynamics, self.influence, self.side_position, harm, streams
            )
            state = dataclasses.replace(state, people=people)
        terminated = state.tasks_done >= self.num_tasks
        if self.objective == "first_success":
            terminated = terminated | success
        rewards = self._rewards(before, state, harm, terminated, streams)
        return StepResult(state, rewards, terminated)

    def _rewards(
        self,
        before: ControlState,
        state: ControlState,
        harm: Float[Tensor, " world"],
        terminated: Bool[Tensor, " world"],
        streams: RandomStreams,
    ) -> dict[str, Tensor]:
        """Rewards of the task that was completed."""
        task, main = state.task, state.task.main_success.to(harm.dtype)
        attacker = (
            self.success_reward * harm
            - self.catch_penalty * task.found.to(harm.dtype)
            + self.service_reward * before.in_service.to(harm.dtype)
        )
        if self.reward_source == "random":
            coin = streams.uniform("random reward")[:, 0, 0] < 0.5
            attacker = self.success_reward * (coin & terminated).to(harm.dtype)
        own = torch.where(state.attack_mode, attacker, main)[:, None]
        rewards = {"untrusted": own.expand(-1, self.protocol.num_draws)}
        benefit = self.main_task_reward * main
        audit = self.audit_cost * (state.counts.audits - before.counts.audits)
        if self._auditor != "none":
            rewards["auditor"] = (benefit - self.harm_penalty * harm - audit)[:, None]
        if self.monitor_acts:
            rewards["monitor"] = own.expand(-1, 1 + self.num_references)
            if self.protocol.monitor != "untrusted":
                scored = streams.uniform("scored")[:, 0, 0] < self.scored_share
                scored = scored & before.in_service
                rewards["monitor"] = control_tasks.log_scores(task, scored)
        if self.vote_rates:
            assert state.people is not None
            shared = ((benefit - audit) / self.num_people)[:, None]
            rewards["person"] = shared - state.people.exposure * self.harm_penalty * harm[:, None]
        return rewards

    # --- what is reported -------------------------------------------------------------------------

    def metrics(self, state: ControlState) -> Mapping[str, Tensor]:
        """See `mores.envs.oversight.control_metrics.played_metrics`."""
        return control_metrics.played_metrics(state, self.setting)

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """See `exact_metrics` of `mores.envs.oversight.control_metrics`; none if a monitor acts.

        The recursion needs the distribution of the scores, which a policy of the monitor changes.
        """
        if self.monitor_acts:
            return ()
        auditor = control_metrics.AUDITOR_METRICS if self._auditor == "rate" else ()
        return (*POLICY_METRICS, *auditor)

    def policy_queries(self, state: ControlState) -> Mapping[str, PolicyQuery]:
        """Every observation of `untrusted` in service in an attack run, and of the auditor."""
        if self.monitor_acts:
            return {}
        worlds = len(state.tasks_done)
        queries = {
            "untrusted": PolicyQuery(
                "untrusted",
                "act",
                self.observations.untrusted_table.to(state.tasks_done.device).expand(
                    worlds, self.protocol.num_draws, -1, -1
                ),
            )
        }
        if self._auditor != "none":
            table = self.observations.auditor_table.to(state.tasks_done.device)
            phase = "act" if self._auditor == "rate" else "route"
            queries["auditor"] = PolicyQuery("auditor", phase, table.expand(worlds, 1, -1, -1))
        return queries

    def policy_metrics(
        self, state: ControlState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """See `mores.envs.oversight.control_metrics.exact_metrics`."""
        return control_metrics.exact_metrics(self.game, self.observations, state, answers)

    def latent(self, state: ControlState) -> Mapping[str, Tensor]:
        """Level and score of the first draw, action of the protocol; people's values."""
        latent = {
            "level": state.task.level[:, 0].to(torch.float32),
            "score": state.task.score[:, 0],
            "action": state.task.action.to(torch.float32),
        }
        if state.people is not None:
            latent["values"] = state.people.trait_state.values
            latent["exposure"] = state.people.exposure
        return latent

    def people(self, state: ControlState) -> People | None:
        """People who bear the harm, with their exposures."""
        if state.people is None:
            return None
        traits = {**state.people.traits, "exposure": state.people.exposure}
        return People(state.people.trait_state.values, traits)

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """See `mores.envs.oversight.control_metrics.analytic_values`; none if a monitor acts."""
        if self.monitor_acts:
            return {}
        return control_metrics.analytic_values(self.game, self.setting, self._auditor)

    def render(self, state: ControlState, world: int = 0) -> str:
        """The last task of a world in words."""
        return control_tasks.describe(state, world, self.num_tasks)

    def default_policies(self) -> Mapping[str, Any]:
        """Attackers, monitors that report the evidence, auditors with a rule, voters.

        The attacker is the best response to the protocol, with the evidence as its score; a fixed
        attack where an auditor decides.
        """
        decides = self._auditor == "none"
        policies: dict[str, Any] = {
            "untrusted": "best_response_attacker" if decides else "fixed_attack"
        }
        if self.monitor_acts:
            policies["monitor"] = "evidence_monitor"
        if self._auditor != "none":
            policies["auditor"] = "scripted_auditor"
        if self.vote_rates:
            policies["person"] = "least_cost_voter"
        return policies


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Control(), rounds=10, worlds=2000)
