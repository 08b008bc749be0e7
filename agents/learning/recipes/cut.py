"""Learning from judgements: CUT, "Reasons to Reject" (Xu et al. 2024, arXiv 2312.14591).

The same answer is looked at twice, as it is given in use and with the judgement before one's eyes.
Acts that the judgement makes likelier are what it speaks of; they become less likely in use, all
others of the answer likelier, and the answer as a whole likelier where the judgement is seen:

    L1 = -1/N [sum over t not in U of log p(y_t | x)
               + sum over t in U of a p(y_t | x, j)^g log(1 - p(y_t | x))]
    L2 = -1/N log p(y | x, j)              without j where the answer was not criticised

See `mores.agents.learning.transforms.inappropriate_actions`. In a phase with `flags` the policy says which of
its acts it takes to be in U; its sight must hold the answer and the judgement.

Ours: an answer was judged bad if anything in it was criticised. The paper keeps a quarter of the
answers that were not; here all of them count, `praise` as much as that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.demonstration_rollout import sights_of
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.losses import nll, unlikelihood
from mores.agents.learning.objective import PLAIN, Objective, Weighted
from mores.agents.learning.offline import Fitting
from mores.agents.learning.offline_data import Record
from mores.agents.learning.transforms.inappropriate_actions import condemn, inappropriate
from mores.agents.learning.update import Lesson, asked
from mores.core.environment import Act, Box, Phase
from mores.core.random_streams import Draws

JUDGED = "judged"


class CUT(Fitting):
    """Unlearns what a judgement criticises: learns from judgements that say what is wrong."""

    margin: float = Field(
        default=1.1, gt=0, le=100, description="how much likelier a judged act must be (lambda)"
    )
    weight: float = Field(default=1.0, ge=0, le=100, description="of criticised acts (alpha)")
    exponent: float = Field(
        default=1.0, ge=0, le=10, description="how much sureness counts there (gamma)"
    )
    praise: float = Field(
        default=0.25, ge=0, le=1, description="weight of answers that nobody criticised"
    )

    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """All answers, with what was said of them."""
        batch = record.judged("cut")
        fine = ~criticised(batch.need("judgement", "cut"))
        weight = torch.where(fine, self.praise, 1.0)[..., None]
        batch = batch.replace(desirable=fine, step_weight=weight.expand_as(batch.mask).clone())
        return Lesson({record.phase: batch}, self.objective, focus=self._condemned)

    def _condemned(self, batch: FeedbackBatch, outputs: Mapping[str, Output]) -> FeedbackBatch:
        """A batch in which it is marked what the judgements speak of."""
        plain, judged = outputs[PLAIN].logp.detach(), outputs[JUDGED].logp.detach()
        return condemn(batch, plain, judged, self.margin, self.weight, self.exponent)

    @property
    def objective(self) -> Objective:
        """L1 in use, L2 with the judgement before one's eyes."""
        return Objective(
            (
                Weighted(nll, 1.0, {"steps": "appropriate"}),
                Weighted(unlikelihood, 1.0),
                Weighted(likelihood_of_answers, 1.0, {"praise": self.praise}, on=JUDGED),
            )
        )

    def act(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Tensor | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        """Draw from the policies; where flags are asked for, raise those of acts in U."""
        return self._flagged(phase, seen, memory) or super().act(phase, seen, legal, memory, draws)

    def assist(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Tensor | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        """The same, of the likeliest acts."""
        flagged = self._flagged(phase, seen, memory)
        return flagged or super().assist(phase, seen, legal, memory, draws)

    @torch.no_grad()
    def _flagged(self, phase: Phase, seen: Tensor, memory: Memory) -> Act | None:
        """Which of one's acts one takes to have been criticised, if that is what is asked."""
        make, seats = memory.make, memory.learned.seats
        space, sees = phase.acts[make.role.name], make.role.sees
        if not isinstance(space, Box) or set(space.parts) != {"flags"}:
            return None
        if not {"answer", "judgement"} <= set(sees.parts):
            return None
        answering = next(name for name in make.stack.heads if name != phase.name)
        rows = seats.by_policy(seen)
        judgement, marks = sees.read(rows, "judgement"), sees.read(rows, "answer")
        marks = marks.unflatten(-1, (space.size, -1))  # policy row step option
        parts = {name: sees.read(rows, name) for name in sees.parts}
        unsaid = {"answer": torch.zeros_like(parts["answer"])}
        unread = {"judgement": torch.zeros_like(judgement)}
        first = sees.join(**(parts | unsaid | unread))
        acts = marks.argmax(-1)
        batch = FeedbackBatch(
            sights_of(acts, first, make.role), acts, marks.sum(-1) > 0, judgement=judgement
        )
        views = (PLAIN, JUDGED)
        outputs = asked(make.stack, sees, memory.learned.pupil.parameters, answering, batch, views)
        flags = inappropriate(
            outputs[PLAIN].logp,
            outputs[JUDGED].logp,
            batch.mask,
            criticised(judgement),
            self.margin,
        )
        return Act(seats.by_world(flags.float()), dataclasses.replace(memory))


def criticised(judgement: Float[Tensor, "policy sample word"]) -> Tensor:
    """Which samples were criticised at all."""
    return (judgement != 0).any(-1)


def likelihood_of_answers(
    out: Output, batch: FeedbackBatch, *, praise: float = 1.0, **settings: Any
) -> Float[Tensor, " policy"]:
    """CUT's L2: all acts of an answer alike, whatever was found in it."""
    fine = batch.need("desirable", "cut")
    weight = torch.where(fine, praise, 1.0)[..., None].expand_as(batch.mask)
    return nll(out, batch.replace(step_weight=weight), **settings)
