"""The design of a survey and the answers of real people to its questions, as tables of numbers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.people import People
from mores.core.survey_questions import HumanAnswers, Question
from mores.envs.opinion import survey_statistics as statistics

NUM_RANDOM_SETS = 500
MAX_SET = 60  # people in a random set: larger ones have nearly the same mean distance


@dataclasses.dataclass(frozen=True)
class QuestionTable:
    """Questions as tensors; options beyond those of a question have its last score."""

    num_options: Int[Tensor, " question"]
    direction: Int[Tensor, " question"]
    scores: Float[Tensor, "question option"]
    contrast: Float[Tensor, "question option"]  # c_k of the module docstring; 0 beyond
    ordered: Bool[Tensor, " question"]

    @staticmethod
    def of(items: Sequence[Question], max_options: int) -> QuestionTable:
        """The table of these questions."""
        scores, contrasts = [], []
        for item in items:
            own = np.array(item.option_scores)
            centered = own - own.mean()
            padding = max_options - len(own)
            scores.append(np.pad(own, (0, padding), mode="edge"))
            contrasts.append(np.pad(centered / (centered**2).sum(), (0, padding)))
        return QuestionTable(
            torch.tensor([len(item.options) for item in items]),
            torch.tensor([item.direction for item in items]),
            torch.tensor(np.array(scores), dtype=torch.float32),
            torch.tensor(np.array(contrasts), dtype=torch.float64),
            torch.tensor([item.ordered for item in items]),
        )

    def to(self, device: torch.device) -> QuestionTable:
        """The table on a device."""
        if self.scores.device == device:
            return self
        fields = (getattr(self, field.name).to(device) for field in dataclasses.fields(self))
        return QuestionTable(*fields)

    def take(self, items: Sequence[int]) -> QuestionTable:
        """Some of the questions."""
        fields = (getattr(self, field.name)[list(items)] for field in dataclasses.fields(self))
        return QuestionTable(*fields)


class HumanTable:
    """Answers of real people to the questions that they were asked, as numbers.

    Args:
        answers: the answers.
        table: these questions.
    """

    def __init__(self, answers: HumanAnswers, table: QuestionTable) -> None:
        self.answers, self.table = answers, table
        self.num_groups = len(answers.group_names)
        width = table.scores.shape[1]
        by_group = [answers.shares(width, group) for group in range(self.num_groups)]
        self.shares = torch.tensor(answers.shares(width))  # question, option
        self.group_shares = torch.tensor(np.array(by_group))  # group, question, option
        scores = table.scores.double().numpy()
        rows = np.arange(scores.shape[0])
        answered = answers.option >= 0
        self.scores = np.where(answered, scores[rows, answers.option.clip(0)], np.nan)

    @functools.cached_property
    def distances(self) -> Float[np.ndarray, "group group"]:
        """Mean distance of two people, by their groups."""
        group = self.answers.group
        return statistics.distances_between_groups(self.scores, group, self.num_groups)

    @functools.cached_property
    def effect(self) -> Float[Tensor, " question"]:
        """Mean score of the last group minus the first, times direction."""
        means = total(self.group_shares * self.table.scores.double(), -1)
        return (means[-1] - means[0]) * self.table.direction

    def expected_distance(self, counts: Sequence[int]) -> float:
        """Mean distance over pairs of as many people of each group."""
        n = np.array(counts, float)
        pairs = np.outer(n, n) - np.diag(n)
        used = pairs > 0
        return float((self.distances[used] * pairs[used]).sum() / pairs.sum())

    def expected_std(self, counts: Sequence[int]) -> float:
        """Root mean over questions of the expected variance between as many people of each group.

        People are drawn without replacement; the variance has n - 1 in the denominator. With m_g
        the mean and s_g^2 the variance of a group of N_g people, of which n_g are drawn,

            E sum (x - mean x)^2 = sum_g (n_g - 1) s_g^2 + n_g (m_g - m)^2 + n_g v_g (1 - n_g / n),

        v_g = s_g^2 / n_g (1 - n_g / N_g), m the mean of m_g weighted by n_g.
        """
        n, variances = sum(counts), []
        for question in range(self.scores.shape[1]):
            sizes, means, squares, drawn = [], [], [], []
            for group, count in enumerate(counts):
                own = self.scores[self.answers.group == group, question]
                own = own[~np.isnan(own)]
                if count and len(own) > 1:
                    sizes.append(len(own))
                    means.append(own.mean())
                    squares.append(own.var(ddof=1))
                    drawn.append(count)
            if not sizes or n < 2:
                continue
            n_g, m_g, s_g = np.array(drawn, float), np.array(means), np.array(squares)
            center = (n_g * m_g).sum() / n_g.sum()
            v_g = s_g / n_g * (1 - np.minimum(n_g / np.array(sizes), 1))
            expected = (n_g - 1) * s_g + n_g * (m_g - center) ** 2
            expected += n_g * v_g * (1 - n_g / n_g.sum())
            variances.append(expected.sum() / (n_g.sum() - 1))
        return float(np.sqrt(np.mean(variances))) if variances else float("nan")

    @functools.cache  # noqa: B019  one table for each environment
    def random_set_distances(self, counts: tuple[int, ...]) -> Float[np.ndarray, " set"]:
        """Mean distances of random sets of as many people of each group, sorted."""
        rng = np.random.default_rng(0)
        scale = min(1.0, MAX_SET / max(sum(counts), 1))
        sizes = [int(np.ceil(count * scale)) for count in counts]
        found = []
        for _ in range(NUM_RANDOM_SETS):
            members = [
                rng.choice(own, size, replace=size > len(own))
                for group, size in enumerate(sizes)
                for own in [np.flatnonzero(self.answers.group == group)]
                if size
            ]
            scores = torch.tensor(self.scores[np.concatenate(members)])
            found.append(float(statistics.mean_pairwise_distance(scores[None])[0]))
        return np.sort(np.array(found))

    def own_scores(self, people: People) -> Float[Tensor, "world person question"] | None:
        """The answers of the respondents that people are; `None`: they are not respondents."""
        respondent = people.traits.get("respondent")
        if respondent is None:
            return None
        rows = {int(row): index for index, row in enumerate(self.answers.rows)}
        index = [[rows.get(round(row), -1) for row in world] for world in respondent.tolist()]
        found = torch.tensor(self.scores)[torch.tensor(index)]
        return torch.where(torch.tensor(index)[..., None] >= 0, found, torch.nan)


@dataclasses.dataclass(frozen=True)
class SurveyDesign:
    """What a survey asks.

    Attributes:
        items, table: the questions.
        num_orders, num_templates, repeats: cells of each question.
        num_groups: groups of people.
        human: answers of real people; `None`: there are none.
        human_items: indices of the questions that they answered.
        untold_items: indices of the questions whose answers personas do not state.
    """

    items: tuple[Question, ...]
    table: QuestionTable
    num_orders: int
    num_templates: int
    repeats: int
    num_groups: int
    human: HumanTable | None
    human_items: tuple[int, ...]
    untold_items: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of questions, orders, templates, repeats."""
        return len(self.items), self.num_orders, self.num_templates, self.repeats
