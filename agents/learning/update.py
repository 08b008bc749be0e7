"""A lesson: what is to be learned from what, and the going over it again and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.objective import PLAIN, Objective
from mores.agents.learning.stacked_model import Asked, Stack
from mores.agents.learning.train_state import Descent, Pupil, descend, minibatches, orders
from mores.core.environment import Box
from mores.core.random_streams import Draws

if TYPE_CHECKING:
    from mores.agents.learning.learner import Learner

Parameters = Mapping[str, Tensor]
Focus = Callable[[FeedbackBatch, Mapping[str, Output]], FeedbackBatch]


def as_it_is(batch: FeedbackBatch, outputs: Mapping[str, Output]) -> FeedbackBatch:
    """Nothing more is to be found out about a batch."""
    return batch


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What is to be learned.

    Attributes:
        batches: what from, by phase; samples of all phases correspond.
        objective: what is to become small.
        unit: what is shuffled: samples, or pairs of them.
        focus: what is found out about a minibatch from what the policies say of it now, such as
            which words a judgement was about; nothing is differentiated through it.
        principals: a batch for each principal's view of it, where their gradients are kept apart.
    """

    batches: dict[str, FeedbackBatch]
    objective: Objective
    unit: Literal["sample", "pair"] = "sample"
    focus: Focus = as_it_is
    principals: Callable[[FeedbackBatch], list[FeedbackBatch]] | None = None


def teach(
    player: Learner, memory: Memory, lesson: Lesson, draws: Draws, epochs: int, parts: int
) -> Float[Tensor, " policy"]:
    """Go over a lesson with the policies of a memory; they are changed in place.

    Returns:
        The loss of each policy, averaged over all steps.
    """
    learned = memory.learned
    return go_over(
        learned.pupil,
        memory.make.stack,
        memory.make.role.sees,
        lesson,
        draws.take(learned.seats.worlds),
        learned.seats.each,
        player.descent,
        int(learned.rounds),
        epochs,
        parts,
    )


def go_over(
    pupil: Pupil,
    stack: Stack,
    sees: Box,
    lesson: Lesson,
    draws: Draws,
    each: int,
    descent: Descent,
    now: int,
    epochs: int,
    parts: int,
) -> Float[Tensor, " policy"]:
    """Go over a lesson `epochs` times in `parts` steps each.

    Args:
        pupil, stack: who learns, of which make.
        sees: the layout of a sight.
        lesson: what.
        draws: of the first world of each replicate, for the order of samples.
        each: policies in a replicate.
        descent: how parameters follow gradients.
        now: the round of training.
        epochs, parts: how often.
    """
    total = torch.zeros_like(pupil.active, dtype=torch.float32)
    steps = 0
    at = torch.tensor(now)
    for epoch, by_phase in enumerate(_epochs(lesson, draws, each, epochs, parts)):
        for part, pieces in enumerate(by_phase):

            def losses(
                parameters: Parameters, pieces: dict[str, FeedbackBatch] = pieces
            ) -> Float[Tensor, "principal policy"]:
                return _losses(stack, sees, parameters, pieces, lesson)

            order = None
            if lesson.principals is not None and descent.conflict == "project":
                order = _order(pieces, lesson, draws.within(f"epoch {epoch}/part {part}"), each)
            total = total + descend(pupil, losses, descent, at, order)
            steps += 1
    return total / max(steps, 1)


def _epochs(
    lesson: Lesson, draws: Draws, each: int, epochs: int, parts: int
) -> Iterator[list[dict[str, FeedbackBatch]]]:
    """The parts of each pass over a lesson, by phase; samples of all phases correspond."""
    first = next(iter(lesson.batches.values()))
    if parts <= 1 and lesson.unit == "sample":
        yield from ([lesson.batches] for _ in range(epochs))
        return
    size = first.samples
    if lesson.unit == "pair":
        size = first.need("pairs", "a recipe").shape[1]
    for order in orders(draws, each, first.policies, size, epochs):
        split = {
            phase: minibatches(batch, lesson.unit, min(parts, size), order)
            for phase, batch in lesson.batches.items()
        }
        yield [
            dict(zip(split, pieces, strict=True)) for pieces in zip(*split.values(), strict=True)
        ]


def _losses(
    stack: Stack,
    sees: Box,
    parameters: Parameters,
    pieces: dict[str, FeedbackBatch],
    lesson: Lesson,
) -> Float[Tensor, "principal policy"]:
    """The loss of each policy by principal, averaged over phases."""
    found = []
    for phase, batch in pieces.items():
        outputs = asked(stack, sees, parameters, phase, batch, lesson.objective.views)
        batch = lesson.focus(batch, outputs)
        views = [batch] if lesson.principals is None else lesson.principals(batch)
        each = [lesson.objective(outputs, view).total for view in views]
        found.append(torch.stack(each) if len(each) > 1 else each[0][None])
    return torch.stack(found).mean(0) if len(found) > 1 else found[0]


def asked(
    stack: Stack,
    sees: Box,
    parameters: Parameters,
    phase: str,
    batch: FeedbackBatch,
    views: tuple[str, ...] = (PLAIN,),
) -> dict[str, Output]:
    """What policies say of a batch, by view.

    In the view `judged` they see the judgement on each sample in the part `judgement` of their
    sight, in `hidden` the sight without its evidence, in all others what they saw.
    """
    found = {}
    for view in views:
        question = Asked(
            phase,
            seen_in(view, batch, sees),
            batch.acted,
            batch.legal,
            batch.begins,
            batch.carry,
            batch.mask,
        )
        found[view] = stack.ask(parameters, question)
    return found


def seen_in(view: str, batch: FeedbackBatch, sees: Box) -> Tensor:
    """The sights of a batch in a view."""
    if view == "judged":
        judgement = batch.need("judgement", "the view `judged`")
        parts = {name: sees.read(batch.seen, name) for name in sees.parts}
        parts["judgement"] = judgement[:, :, None].expand_as(parts["judgement"])
        return sees.join(**parts)
    if view == "hidden":
        evidence = batch.need("evidence", "the view `hidden`")
        return torch.where(evidence[:, :, None], batch.seen, 0.0)
    return batch.seen


def _order(pieces: dict[str, FeedbackBatch], lesson: Lesson, draws: Draws, each: int) -> Tensor:
    """In which order each policy's principals are projected."""
    assert lesson.principals is not None
    batch = next(iter(pieces.values()))
    many = len(lesson.principals(batch))
    chance = draws.uniform("principals", each, many)
    return chance.reshape(batch.policies, many).argsort(1)
