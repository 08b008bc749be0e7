"""Learning from an aligned teacher: DCKD and ADPA (arXiv 2502.17927).

A teacher, larger than its pupil, is made first: it imitates demonstrations, and then prefers what
was preferred (DPO). Then

    DCKD  NLL(y_w) + w [KL(teacher | pupil) on y_w + KL(teacher | pupil) on y_l]
    ADPA  NLL(y_w) - w E_{a ~ pupil}[log teacher(a | s) - log untaught(a | s)]

with y_w demonstrations and y_l the pupil's own first answers, in whose states ADPA's expectation is
taken. The untaught teacher is the one before DPO. So is it in the paper; the authors' published
commands name another checkpoint there. ADPA has nothing that holds it where the teacher knows
its way: `anchor` adds the divergence from the teacher.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.adam import Adam
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.demonstration_rollout import joined
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.losses import expected_score, kl, nll, pair
from mores.agents.learning.model_mapping import Seats
from mores.agents.learning.networks import MLP
from mores.agents.learning.objective import PLAIN, Objective, Weighted
from mores.agents.learning.offline import Fitting
from mores.agents.learning.offline_data import Record, read
from mores.agents.learning.stacked_model import Stack
from mores.agents.learning.train_state import Descent, Parameters, Pupil, copied
from mores.agents.learning.update import Lesson, asked, go_over
from mores.core.random_streams import Draws

TEACHER, UNTAUGHT = "teacher.", "untaught."


class Distilled(Fitting):
    """Makes a teacher of what was recorded, and learns from it."""

    work: ClassVar[tuple[str, ...]] = ("teacher_passes",)

    teacher_hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[128, 128], min_length=1, max_length=16, description="units of the teacher's layers"
    )
    teacher_passes: int = Field(
        default=30, ge=1, le=10_000, description="over the record, of imitation and of preference"
    )
    teacher_rate: float = Field(
        default=0.003, gt=0, le=1, description="the teacher's learning rate"
    )
    teacher_scale: float = Field(
        default=0.1, gt=0, le=100, description="of the teacher's log-ratios (beta of DPO)"
    )
    weight: float = Field(default=1.0, ge=0, description="of what the teacher says")

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__.lower()

    def fit(self, memory: Memory, experience: Any, draws: Draws) -> Memory:
        """Make the teacher, once; then go over the record."""
        extra = memory.learned.extra
        if not bool(extra["taught"].any()):
            with torch.no_grad():
                record = read(experience, memory)
            self._make_teacher(record, memory, draws.within("teacher"))
            extra["taught"].fill_(True)
        return super().fit(memory, experience, draws)

    @property
    def lasting(self) -> tuple[str, ...]:
        """The teacher lasts, too."""
        return (*super().lasting, "teacher_hidden")

    def extras(self, stack: Stack, seats: Seats, draws: Draws) -> dict[str, Tensor]:
        """The teacher, and what it was before it was taught to prefer."""
        teacher = self.teacher(stack)
        first = teacher.first(draws.take(seats.worlds).within("teacher"), seats.each)
        taught = torch.zeros(seats.policies, dtype=torch.bool, device=draws.device)
        return {
            **{TEACHER + name: tensor for name, tensor in first.items()},
            **{UNTAUGHT + name: tensor for name, tensor in copied(first).items()},
            "taught": taught,
        }

    def teacher(self, stack: Stack) -> Stack:
        """The teacher's make: the pupil's tasks, another network."""
        body = MLP(hidden=self.teacher_hidden)
        return Stack(body, stack.sees, stack.spaces)

    def _make_teacher(self, record: Record, memory: Memory, draws: Draws) -> None:
        """Imitate, then prefer; both are kept."""
        extra = memory.learned.extra
        parameters, untaught = _named(extra, TEACHER), _named(extra, UNTAUGHT)
        shown, pairs = record.demonstrations(self.name), record.pairs(self.name)
        imitate = Objective((Weighted(nll, 1.0),))
        self._teach(memory, parameters, Lesson({record.phase: shown}, imitate), draws, "imitate")
        for name, tensor in parameters.items():
            untaught[name].copy_(tensor)
        with torch.no_grad():
            out = self._asked(memory, untaught, record.phase, pairs)
        prefer = Objective((Weighted(pair, 1.0, {"scale": self.teacher_scale}),))
        pairs = pairs.replace(reference_logp=out)
        lesson = Lesson({record.phase: pairs}, prefer, "pair")
        self._teach(memory, parameters, lesson, draws, "prefer")

    def _teach(
        self, memory: Memory, parameters: Parameters, lesson: Lesson, draws: Draws, name: str
    ) -> None:
        """Go over a lesson with the teacher, whose parameters are changed in place."""
        learned = memory.learned
        batch = next(iter(lesson.batches.values()))
        size = batch.samples if lesson.unit == "sample" else batch.need("pairs", "dpo").shape[1]
        pupil = Pupil.of(parameters, refers=False)
        go_over(
            pupil,
            self.teacher(memory.make.stack),
            memory.make.role.sees,
            lesson,
            draws.take(learned.seats.worlds).within(name),
            learned.seats.each,
            Descent(Adam(self.teacher_rate, clip=self.clip_norm or None)),
            int(learned.rounds),
            self.teacher_passes,
            max(1, -(-size // self.batch_size)),
        )
        for name, tensor in pupil.parameters.items():
            parameters[name].copy_(tensor)
        learned.pupil.stop(~pupil.active, learned.rounds)

    def _asked(
        self, memory: Memory, parameters: Parameters, phase: str, batch: FeedbackBatch
    ) -> Tensor:
        """Log-probabilities of what was done, by a teacher."""
        stack = self.teacher(memory.make.stack)
        return asked(stack, memory.make.role.sees, parameters, phase, batch)[PLAIN].logp

    def options(self, memory: Memory, prefix: str, phase: str, batch: FeedbackBatch) -> Tensor:
        """Log-probabilities of all options, by a teacher."""
        stack, parameters = self.teacher(memory.make.stack), _named(memory.learned.extra, prefix)
        out = asked(stack, memory.make.role.sees, parameters, phase, batch)[PLAIN]
        return out.need("logits", self.name)

    def answers(self, record: Record) -> FeedbackBatch:
        """Demonstrations, and the pupil's own first answers."""
        own = record.own.replace(reference=torch.zeros_like(record.own.mask[..., 0]))
        return joined(record.demonstrations(self.name), own)


class DCKD(Distilled):
    """Imitates demonstrations, and the teacher on them and on its own first answers."""

    chosen_weight: float = Field(default=1.0, ge=0, description="of the teacher on demonstrations")
    rejected_weight: float = Field(default=1.0, ge=0, description="of the teacher on own answers")

    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """With what the teacher says of every option."""
        batch = self.answers(record)
        batch = batch.replace(teacher_logp=self.options(memory, TEACHER, record.phase, batch))
        return Lesson({record.phase: batch}, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood, and divergence from the teacher."""
        teacher = {"direction": "forward", "to": "teacher"}
        weights = (self.weight * self.chosen_weight, self.weight * self.rejected_weight)
        return Objective(
            (
                Weighted(nll, 1.0, {"which": "reference"}),
                Weighted(kl, weights[0], {**teacher, "which": "reference"}),
                Weighted(kl, weights[1], {**teacher, "which": "own"}),
            )
        )


class ADPA(Distilled):
    """Imitates demonstrations, and does what the teacher came to prefer."""

    anchor: float = Field(default=0.0, ge=0, description="of the divergence from the teacher")

    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """With what preference taught the teacher about every option."""
        batch = self.answers(record)
        taught = self.options(memory, TEACHER, record.phase, batch)
        untaught = self.options(memory, UNTAUGHT, record.phase, batch)
        batch = batch.replace(teacher_logp=taught, option_score=taught - untaught)
        return Lesson({record.phase: batch}, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood, and the expected advantage."""
        terms = [
            Weighted(nll, 1.0, {"which": "reference"}),
            Weighted(expected_score, self.weight, {"which": "own"}),
        ]
        if self.anchor > 0:
            settings = {"direction": "forward", "to": "teacher", "which": "own"}
            terms.append(Weighted(kl, self.anchor, settings))
        return Objective(tuple(terms))


def _named(extra: dict[str, Tensor], prefix: str) -> Parameters:
    """The parameters whose names begin so, without it; changed in place they change here."""
    return {name[len(prefix) :]: t for name, t in extra.items() if name.startswith(prefix)}
