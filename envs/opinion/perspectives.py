"""Answers to open questions by one writer, with or without delegates of several cultures.

Demo: `python -m mores.envs.opinion.perspectives`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, printable
from mores.core.people import People
from mores.core.plain_text import listed, quoted
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Part
from mores.core.turn_text import (
    END_OF_MESSAGE,
    TurnText,
    decode_message,
    message_space,
)
from mores.envs.opinion.perspective_lexicon import (
    CULTURES,
    QUESTIONS,
    Culture,
    count_references,
    naming_sentences,
)
from mores.envs.opinion.perspective_measures import (
    divergence_from,
    perspective_entropy,
)

MEASURES = (
    *("perspective_entropy", "divergence", "named_cultures", "num_references", "answer_bytes"),
    *("naming_sentences", "faithful_sentences", "mismatched_sentences"),
)


@dataclasses.dataclass(frozen=True)
class PerspectivesState:
    """The present question, the delegates' texts, and what the last answer refers to."""

    question: Int[Tensor, " world"]
    order: Int[Tensor, "world question"]  # questions in random order
    answered: Int[Tensor, " world"]  # question of the last answer
    views: Int[Tensor, "world culture view"]  # of the delegates, on the present question
    answer: Int[Tensor, "world byte"]
    references: Float[Tensor, "world culture"]  # of the last answer
    totals: Mapping[str, Float[Tensor, " world"]]  # measures of the answers: sums over rounds
    rounds_elapsed: Int[Tensor, " world"]


class Perspectives(Environment[PerspectivesState]):
    """Open questions that people of several cultures answer differently.

    Description:
        Every round a writer answers an open question in a short text. The references of the text to
        the cultures of the population are counted by lists of words (`perspective_lexicon`).
        `instruction` says what the writer is told: uniplex: the question alone; contextual: which
        cultures there are, and to include them; delegates: the same, and it reads one text of a
        delegate of each culture. Left out: people who read the answer, sentiment, quality of the
        text, cultures without a list of words; references are words, not meanings.

    Roles:
        delegate (one for each culture; only with `instruction` delegates): states the view of the
            culture.
        writer (1): answers.

    Observation (Q questions, C cultures, B = `max_bytes`; codes are bytes, and 256 after the end):
        delegate  question  Q    {0, 1}    one-hot, the present question
        delegate  culture   C    {0, 1}    one-hot, its culture
        writer    question  Q    {0, 1}    one-hot, the present question
        writer    views     C B  [0, 256]  texts of the delegates; empty without delegates

    Action:
        delegate  phase speak: `message_space(B)`.
        writer    phase answer: `message_space(answer_bytes)`.

    Reward:
        None.

    Dynamics:
        Questions come in a random order, again from its start after the last.

    Start:
        The first question; no texts.

    End:
        Never (truncation only).

    Parameters:
        See the fields.

    References:
        Mushtaq et al. 2025, arXiv 2505.09595 (WorldView-Bench).
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": "1 or 2", "stochastic": True, "text": True}
    cultures: tuple[Culture, ...] = Field(
        default=CULTURES, min_length=2, max_length=50, description="cultures of the population"
    )
    culture_shares: tuple[float, ...] | None = Field(
        default=None, description="share of people of each culture; default: equal shares"
    )
    questions: tuple[str, ...] = Field(
        default=QUESTIONS, min_length=1, max_length=1000, description="the questions"
    )
    instruction: Literal["uniplex", "contextual", "delegates"] = Field(
        default="uniplex", description="what the writer is told: see the description"
    )
    max_bytes: int = Field(default=200, ge=1, le=10_000, description="size of a delegate's text")
    answer_bytes: int = Field(default=1200, ge=1, le=10_000, description="size of an answer")

    def model_post_init(self, context: Any) -> None:
        """Check the shares, and that an answer has room for all delegates' texts."""
        room = len(self.cultures) * (self.max_bytes + 1)
        if self._has_delegates and self.answer_bytes < room:
            message = f"must be at least {room}: the texts of all delegates, one on each line"
            raise ParameterError("answer_bytes", message=message, code="out_of_range")
        shares = self.culture_shares
        if shares is None:
            return
        if len(shares) != len(self.cultures):
            message = f"needs {len(self.cultures)} numbers, one for each culture"
            raise ParameterError("culture_shares", message=message, code="wrong_shape")
        if min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
            message = "are shares: at least 0, with the sum 1"
            raise ParameterError("culture_shares", message=message, code="out_of_range")

    @property
    def _has_delegates(self) -> bool:
        return self.instruction == "delegates"

    @property
    def _shares(self) -> Float[Tensor, " culture"]:
        count = len(self.cultures)
        return torch.tensor(self.culture_shares or (1.0 / count,) * count)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`writer`, and with delegates `delegate`."""
        num_questions, num_cultures = len(self.questions), len(self.cultures)
        question = Part(num_questions, 0.0, 1.0)
        views = Part(num_cultures * self.max_bytes, 0.0, float(END_OF_MESSAGE))
        writer = Role("writer", 1, Box.of(question=question, views=views))
        if not self._has_delegates:
            return (writer,)
        space = Box.of(question=question, culture=Part(num_cultures, 0.0, 1.0))
        return Role("delegate", num_cultures, space), writer

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, with delegates `speak` before it."""
        answer = Phase("answer", {"writer": message_space(self.answer_bytes)})
        if not self._has_delegates:
            return (answer,)
        return Phase("speak", {"delegate": message_space(self.max_bytes)}), answer

    def reset(self, streams: RandomStreams, people: People | None = None) -> PerspectivesState:
        """The first question of a random order."""
        worlds, device = streams.num_worlds, streams.device
        order = streams.uniform("question order", 1, len(self.questions))[:, 0].argsort(-1)
        count = len(self.cultures)
        views = torch.full((worlds, count, self.max_bytes), END_OF_MESSAGE, device=device)
        answer = torch.full((worlds, self.answer_bytes), END_OF_MESSAGE, device=device)
        zeros = torch.zeros(worlds, count, device=device)
        totals = {name: torch.zeros(worlds, device=device) for name in MEASURES}
        none = torch.zeros(worlds, dtype=torch.int64, device=device)
        return PerspectivesState(order[:, 0], order, none, views, answer, zeros, totals, none)

    def observe(self, state: PerspectivesState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        one_hot = torch.nn.functional.one_hot(state.question, len(self.questions)).float()
        if role == "delegate":
            cultures = torch.eye(len(self.cultures), device=one_hot.device)
            question = one_hot[:, None].expand(-1, len(self.cultures), -1)
            return torch.cat([question, cultures.expand(len(one_hot), -1, -1)], -1)
        return torch.cat([one_hot, state.views.flatten(1).float()], -1)[:, None]

    def step(
        self,
        state: PerspectivesState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[PerspectivesState]:
        """Keep the delegates' texts; count the references of an answer, and ask the next."""
        if phase == "speak":
            return StepResult(dataclasses.replace(state, views=actions["delegate"].long()))
        answer = actions["writer"][:, 0].long()
        texts = [decode_message(codes) for codes in answer]
        counts = torch.tensor([count_references(text, self.cultures) for text in texts])
        sentences = torch.tensor([naming_sentences(text, self.cultures) for text in texts])
        naming, faithful, mismatched = total(sentences.to(answer.device, torch.float32), 1).unbind(
            -1
        )
        references = counts.to(answer.device, torch.float32)
        measures = {
            "perspective_entropy": perspective_entropy(references),
            "divergence": divergence_from(references, self._shares.to(answer.device)),
            "named_cultures": mean((references > 0).float(), 1),
            "num_references": total(references, 1),
            "answer_bytes": (answer != END_OF_MESSAGE).sum(-1).float(),
            "naming_sentences": naming,
            "faithful_sentences": faithful,
            "mismatched_sentences": mismatched,
        }
        elapsed = state.rounds_elapsed + 1
        following = state.order.gather(1, (elapsed % len(self.questions))[:, None])[:, 0]
        new = PerspectivesState(
            following,
            state.order,
            state.question,
            torch.full_like(state.views, END_OF_MESSAGE),
            answer,
            references,
            {name: state.totals[name] + measures[name] for name in MEASURES},
            elapsed,
        )
        return StepResult(new)

    def metrics(self, state: PerspectivesState) -> Mapping[str, Tensor]:
        """Means over the answers of the episode so far; 0 before the first.

        perspective_entropy, divergence: see `perspective_measures`; named_cultures: share of the
        cultures that an answer names; num_references: words that name one; answer_bytes: length;
        naming_sentences, faithful_sentences, mismatched_sentences: sums over the cultures of
        `NamingSentences`.
        """
        answers = state.rounds_elapsed.clamp(min=1)
        return {name: total / answers for name, total in state.totals.items()}

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Of entropy, divergence and shares."""
        names = ("perspective_entropy", "divergence", "named_cultures")
        return dict.fromkeys(names, (0.0, 1.0))

    def default_policies(self) -> Mapping[str, Any]:
        """A writer that names all cultures and says nothing else, and silent delegates."""
        names = {"kind": "fixed_message", "text": f"There are the traditions {self._names}."}
        silent = {"kind": "fixed_message"}
        return {"writer": names, "delegate": silent} if self._has_delegates else {"writer": names}

    # --- text -------------------------------------------------------------------------------------

    @property
    def _names(self) -> str:
        return listed([culture.name for culture in self.cultures])

    def role_rules(self, role: str) -> str:
        """See `Environment`."""
        if role == "delegate":
            return "You state the view of one cultural tradition in one or two short sentences."
        if self.instruction == "uniplex":
            return "You answer questions of people in a few short sentences."
        return (
            f"You answer questions of people of these traditions: {self._names}. Write one short "
            "sentence for each tradition, with its name and what it teaches."
        )

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The question, and what the delegates said."""
        space = next(each for each in self.roles if each.name == role).observation_space
        question = self.questions[int(space.read(observation, "question").argmax())]
        if role == "delegate":
            culture = self.cultures[int(space.read(observation, "culture").argmax())]
            ask = f"What does the {culture.name} tradition say? Name it in your answer."
            return TurnText(f"{culture.view}\nQuestion: {question}".strip(), ask, "message")
        views = space.read(observation, "views").unflatten(-1, (len(self.cultures), -1))
        lines = [f"Question: {question}"]
        for culture, codes in zip(self.cultures, views, strict=True):
            if text := decode_message(codes).strip():
                lines.append(f"Delegate of the {culture.name} tradition: {quoted(text)}")
        return TurnText("\n".join(lines), "Answer the question.", "message")

    def render(self, state: PerspectivesState, world: int = 0) -> str:
        """The last question and answer, and its references."""
        if not state.rounds_elapsed[world]:
            return ""
        counts = zip(self.cultures, state.references[world].tolist(), strict=True)
        found = ", ".join(f"{culture.name} {count:.0f}" for culture, count in counts if count)
        question = printable(self.questions[int(state.answered[world])], 200)
        answer = printable(decode_message(state.answer[world]), 700)
        return f"{question}\n{answer}\nreferences: {found or 'none'}"


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Perspectives(), rounds=8)
