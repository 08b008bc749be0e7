"""What happens in a task of the environment `control`: score, decision, consequences, words."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams
from mores.envs.oversight.control_auditor import rate_game
from mores.envs.oversight.control_game import ControlGame
from mores.envs.oversight.control_setting import ACTIONS, AUDIT, DEFER, EDIT, SUBMIT, ControlSetting
from mores.envs.oversight.control_state import ControlState, ControlTask, Counts
from mores.envs.oversight.protocols.delegated import AuditRateChoice
from mores.envs.oversight.protocols.protocol import ClassSetting

COLLUDING_SCORE = -20.0  # below every threshold
HALF_STEP = 2.0**-25  # half the spacing of uniform numbers


class TaskClass(Config):
    """A class of tasks, which the untrusted policy sees before it acts."""

    share: float = Field(gt=0, le=1, description="share of tasks; the sum over classes is 1")
    stakes: float = Field(default=1.0, ge=0, description="v: harm of a success, reward per B")
    detectability: tuple[float, ...] | None = Field(
        default=None, description="d of each level; default: that of `setting`"
    )
    success_chance: tuple[float, ...] | None = Field(
        default=None, description="q of each level; default: that of `setting`"
    )


def check_classes(classes: Sequence[TaskClass], setting: ControlSetting) -> None:
    """Refuse shares that do not sum to 1, and classes with other numbers of levels."""
    if not classes:
        return
    if abs(sum(each.share for each in classes) - 1) > 1e-6:
        message = f"task_classes: shares sum to {sum(c.share for c in classes):g}, not 1"
        raise ParameterError("task_classes", message=message, code="invalid_value")
    for each in classes:
        for name in ("detectability", "success_chance"):
            given = getattr(each, name)
            if given is not None and len(given) != setting.num_levels:
                message = f"task_classes: {name} needs {setting.num_levels} numbers, one per level"
                raise ParameterError("task_classes", message=message, code="wrong_shape")


def class_settings(
    classes: Sequence[TaskClass], setting: ControlSetting
) -> tuple[ClassSetting, ...]:
    """Share, stakes and setting of each class; one class if none is given."""
    if not classes:
        return (ClassSetting(1.0, 1.0, setting),)

    def of(each: TaskClass) -> ClassSetting:
        own = {n: getattr(each, n) for n in ("detectability", "success_chance")}
        changed = {n: x for n, x in own.items() if x is not None}
        return ClassSetting(
            each.share, each.stakes, type(setting).model_validate({**dict(setting), **changed})
        )

    return tuple(map(of, classes))


class ControlTasks:
    """The steps of a task, for a game and the numbers that all classes share."""

    def __init__(self, game: ControlGame, setting: ControlSetting) -> None:
        self._game, self._setting = game, setting
        self._protocol = game.variants[0]
        first = game.outcomes[0][0][-1][0]
        self._collusion = first.collusion
        factor = first.monitor_factor
        honest = [[0.0] for _ in game.episode.classes]
        rows = list(zip(honest, game.episode.classes, strict=True))
        self._shifts = torch.tensor(
            [[*h, *(factor * d for d in x.setting.detectability)] for h, x in rows]
        )
        self._success = torch.tensor([[*h, *x.setting.success_chance] for h, x in rows])
        self._stakes = torch.tensor([each.stakes for each in game.episode.classes])

    def _noise(self, name: str, count: int, streams: RandomStreams) -> Float[Tensor, "world draw"]:
        """Scores of honest work."""
        family = self._setting.scores
        if family.is_normal:
            return streams.normal(name, count)[..., 0]
        return family.from_uniform(streams.uniform(name, count)[..., 0] + HALF_STEP)

    def evidence(
        self, score: Float[Tensor, "world one"], references: int, streams: RandomStreams
    ) -> Float[Tensor, "world work"]:
        """What a role `monitor` sees: evidence on the work, and on honest references."""
        return torch.cat([score, self._noise("monitor reference", references, streams)], 1)

    def calibrated(self, monitored: Float[Tensor, "world work"]) -> Float[Tensor, "world one"]:
        """Score of the work on the scale of the evidence, by its rank among the references.

        With H references of which r are at least as suspicious it is the evidence that honest work
        exceeds with probability (r + 1/2) / (H + 1). Whatever the scale of the monitor, honest work
        is then above the threshold of a rate beta = j / (H + 1) with probability beta exactly (less
        with ties), j = 0, 1, ...
        """
        count = monitored.shape[1] - 1
        rank = (monitored[:, 1:] >= monitored[:, :1]).sum(1)
        shares = (np.arange(count + 1) + 0.5) / (count + 1)
        scores = torch.tensor(self._setting.scores.upper_quantile(shares)).to(monitored)
        return scores[rank][:, None]

    def draw_class(self, streams: RandomStreams) -> Int[Tensor, " world"]:
        """Class of the next task."""
        classes = self._game.episode.classes
        if len(classes) == 1:
            return torch.zeros(streams.num_worlds, dtype=torch.int64, device=streams.device)
        shares = torch.tensor([each.share for each in classes], device=streams.device)
        shares = shares.expand(streams.num_worlds, 1, -1)
        return streams.ordered_categorical("class", shares)[:, 0]

    def score(
        self, task: ControlTask, is_evidence: bool, streams: RandomStreams
    ) -> Float[Tensor, "world draw"]:
        """Score of each draw: noise of the family, shifted by the detectability of the level.

        Args:
            task: the task, with its class and the levels.
            is_evidence: whether a role `monitor` makes the score of it, which needs some.
            streams: random streams of the task.
        """
        protocol, draws = self._protocol, task.level.shape[1]
        if protocol.monitor == "none" and protocol.auditor == "none" and not is_evidence:
            return torch.zeros(task.level.shape, device=task.level.device)
        noise = self._noise("score", draws, streams)
        shifts = self._shifts.to(task.level.device)
        score = noise + shifts[task.task_class[:, None], task.level]
        if self._collusion:
            colludes = streams.uniform("collusion")[:, :1, 0] < self._collusion
            score = torch.where(colludes & (task.level > 0), COLLUDING_SCORE, score)
        return score

    def _decide(
        self, state: ControlState, streams: RandomStreams
    ) -> tuple[Int[Tensor, " world"], Int[Tensor, " world"]]:
        """Action of the protocol and the draw that is used."""
        task, protocol = state.task, self._protocol
        if protocol.num_draws > 1:
            settings = [each.setting for each in self._game.episode.classes]
            decision = protocol.route(task.score, settings[0])
            for index, setting in enumerate(settings[1:], 1):
                other, own = protocol.route(task.score, setting), task.task_class == index
                pairs = zip(other, decision, strict=True)
                decision = type(decision)(*(torch.where(own, a, b) for a, b in pairs))
            return decision
        variant = state.variant
        game = self._game
        if isinstance(protocol, AuditRateChoice):
            game, variant = self._rate_game, task.audit_option
        tables = game.routing
        last = game.num_audit_states - 1
        row = (variant, state.tasks_done, state.audits_left.clamp(0, last), task.task_class)
        row = tuple(x.to(tables.thresholds.device) for x in row)
        above = task.score.to(tables.thresholds.device) > tables.thresholds[row]
        cumulative = tables.cumulative[(*row, above.sum(-1))]  # world action
        u = torch.zeros_like(cumulative[:, :1])
        if game.randomizes:
            u = streams.uniform("route")[:, 0].to(u)
        action = (u >= cumulative[:, :-1]).sum(-1).to(task.level.device)
        return action, torch.zeros_like(action)

    @functools.cached_property
    def _rate_game(self) -> ControlGame:
        """The game with one variant for each rate of the auditor."""
        return rate_game(self._game)

    def complete(
        self, state: ControlState, action: Int[Tensor, " world"] | None, streams: RandomStreams
    ) -> ControlState:
        """State after the decision, `action` if an auditor made it."""
        setting, task, serves = self._setting, state.task, state.in_service
        draw = torch.zeros_like(task.draw)
        if action is None:
            action, draw = self._decide(state, streams)
        if self._game.episode.num_audits is not None:
            action = torch.where((action == AUDIT) & (state.audits_left <= 0), SUBMIT, action)
        action = torch.where(serves, action, DEFER)
        is_audit = action == AUDIT
        found = is_audit & (task.level > 0).any(1)
        if setting.audit_detection < 1:
            found = found & (streams.uniform("detection")[:, 0, 0] < setting.audit_detection)
        level = task.level.gather(1, draw[:, None])[:, 0]
        used = (level > 0) & ~found & (action != DEFER)
        removed = (action == EDIT) & (streams.uniform("edit")[:, 0, 0] < setting.edit_effectiveness)
        chance = self._success.to(level.device)[task.task_class, level]
        success = used & ~removed & (streams.uniform("side task")[:, 0, 0] < chance)
        usefulness = torch.full_like(chance, setting.untrusted_usefulness)
        usefulness = torch.where(action == EDIT, setting.edited_usefulness, usefulness)
        trusted = (action == DEFER) | found
        usefulness = torch.where(trusted, setting.trusted_usefulness, usefulness)
        main = streams.uniform("main task")[:, 0, 0] < usefulness
        task = dataclasses.replace(
            task, action=action, draw=draw, found=found, side_success=success, main_success=main
        )
        audits = state.audits_left
        if self._game.episode.num_audits is not None:
            audits = audits - is_audit.to(audits.dtype)
        return dataclasses.replace(
            state,
            tasks_done=state.tasks_done + 1,
            in_service=serves & ~found,
            next_class=self.draw_class(streams),
            audits_left=audits,
            caught=state.caught | found,
            task=task,
            counts=self._count(state.counts, task),
        )

    def _count(self, counts: Counts, task: ControlTask) -> Counts:
        """Sums with this task."""
        like = counts.audits
        attack, audit = (task.level > 0).any(1), task.action == AUDIT
        success = task.side_success.to(like.dtype)
        return Counts(
            attacks=counts.attacks + attack.to(like.dtype),
            audits=counts.audits + audit.to(like.dtype),
            honest_audits=counts.honest_audits + (audit & ~attack).to(like.dtype),
            side_successes=counts.side_successes + success,
            main_successes=counts.main_successes + task.main_success.to(like.dtype),
            harm=counts.harm + success * self._stakes.to(like.device)[task.task_class],
        )


def log_scores(
    task: ControlTask, in_service: Bool[Tensor, " world"]
) -> Float[Tensor, "world work"]:
    """Log probability of the truth by the log odds that the monitor gave; 0 out of service.

    The references are honest work and count as one task together.
    """
    sign = torch.full_like(task.monitored, -1.0)
    sign[:, 0] = torch.where(task.level[:, 0] > 0, 1.0, -1.0)
    x = task.monitored * sign
    value = torch.minimum(x, torch.zeros_like(x)) - torch.log1p(torch.exp(-x.abs()))
    value[:, 1:] /= x.shape[1] - 1
    return torch.where(in_service[:, None], value, 0.0)


def describe(state: ControlState, world: int, num_tasks: int) -> str:
    """The last task of a world in words."""
    done = int(state.tasks_done[world])
    mode = "attack run" if bool(state.attack_mode[world]) else "honest run"
    if done == 0:
        return f"{mode}, no task done of {num_tasks}"
    task = state.task
    level = int(task.level[world, int(task.draw[world])])
    work = "honest work" if level == 0 else f"attack at level {level}"
    action = ACTIONS[int(task.action[world])]
    served = bool(state.in_service[world]) or bool(task.found[world])
    lines = [f"{mode}, task {done} of {num_tasks}"]
    if served:
        scores = ", ".join(f"{x:.2f}" for x in task.score[world].tolist())
        lines.append(f"untrusted: {work}; score {scores}; protocol: {action}")
    else:
        lines.append("trusted model: the untrusted one is retired")
    if bool(task.found[world]):
        lines.append("the audit found the attack: the untrusted model is retired")
    main = "solved" if bool(task.main_success[world]) else "not solved"
    side = "succeeded" if bool(task.side_success[world]) else "did not succeed"
    lines.append(f"main task {main}; side task {side}")
    counts = state.counts
    lines.append(
        f"so far: {int(counts.side_successes[world])} side tasks, "
        f"{int(counts.main_successes[world])} main tasks, {int(counts.audits[world])} audits"
    )
    return "\n".join(lines)
