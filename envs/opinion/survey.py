"""Survey of people on closed questions, in several orders of the options and several wordings.

Every person answers every question in every cell of a balanced design: order of the options x
template, each `repeats` times. So the share of persons in the variance of answers can be told from
the shares of order and wording (`mores.envs.opinion.survey_statistics`), and compared with the
answers of real people, where the questions have any (`mores.envs.opinion.survey_metrics`).

Demo: `python -m mores.envs.opinion.survey`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Part
from mores.core.survey_questions import HumanAnswers, Question, QuestionSet
from mores.core.turn_text import TurnText
from mores.envs.opinion import survey_metrics
from mores.envs.opinion.survey_design import HumanTable, QuestionTable, SurveyDesign
from mores.envs.opinion.survey_state import SurveyState
from mores.envs.opinion.survey_templates import TEMPLATES, Template
from mores.registry.component import component

ORDERS = ("listed", "reversed")
NO_BELIEF = -1.0


class SurveyCell(NamedTuple):
    """Indices of a cell of the design."""

    question: Tensor
    order: Tensor
    template: Tensor


class Survey(Environment[SurveyState]):
    """People answer each question in each order of its options and in each wording.

    Description:
        Measures what decides the answers of people who are simulated: who they are, or how they are
        asked. The answers are the probabilities of options, which language models and rules can
        state without a draw; a policy that acts by draws states 1 for its option. Left out: memory
        of earlier questions (unless a policy has any), nonresponse, contacts between people.

    Roles:
        person (`num_people`): answers.

    Observation:
        person  values       num_values  any      own values
        person  group        1           [0, G)   own group
        person  question     1           [0, Q)   the question asked
        person  num_options  1           [0, K]   its options
        person  direction    1           -1 or 1  sign of contrasts between groups
        person  reversed     1           0 or 1   whether its options are listed in reverse
        person  template     1           [0, T)   the wording
        person  stated       1           [-1, K)  option that the person is told to believe; -1 none

    Action:
        person, phase answer: `probabilities`, K numbers in [0, 1], of the options in the order in
        which they are listed. Those beyond the question's options are ignored, the others divided
        by their sum; all 0 stands for equal probabilities.

    Reward:
        None.

    Dynamics:
        Round n asks cell n of the design; the question changes slowest, then order, template and
        repeat. Answers are mapped back to the order of the question. With `stated_belief` each
        person is told, as a persona is, a belief about the question: the statement of its first or
        last option, verbatim or paraphrased, alternating between people from a random start for
        every question and world. It is a control: a readout that does not follow a stated belief
        measures no attitude.

    Start:
        People of the population; without one, groups of equal size, with values normal around
        equally spaced centers from -1 to 1. Values are also traits, `value_0` ..., for personas.

    End:
        After the last cell: questions x orders x templates x repeats rounds.

    Parameters:
        See the fields. `questions`: kinds of the registry `question_set`; at most one of them may
        have answers of real people, of the same respondents as the population.

    References:
        Khan et al. 2025, arXiv 2503.08688 (stability of measured attitudes). Santurkar et al. 2023,
        arXiv 2303.17548 (representativeness). arXiv 2602.18462 (personas against survey answers).
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 1, "changes": "nothing", "stochastic": True}

    questions: tuple[Annotated[QuestionSet, component("question_set")], ...] = Field(
        default=("attitudes",),
        validate_default=True,
        min_length=1,
        description="sets of questions, asked one after the other",
    )
    num_orders: Literal[1, 2] = Field(
        default=2, description="orders of the options: 1 as listed, 2 also reversed"
    )
    templates: tuple[Template, ...] = Field(
        default=TEMPLATES, min_length=1, description="wordings around a question"
    )
    num_templates: int = Field(
        default=2, ge=1, description="number of templates that are used, from the first on"
    )
    repeats: int = Field(default=1, ge=1, le=1000, description="times that each cell is asked")
    stated_belief: Literal["none", "verbatim", "paraphrased"] = Field(
        default="none", description="whether people are told a belief about each question"
    )
    num_people: int = Field(default=12, ge=1, le=100_000, description="number of people")
    num_values: int = Field(default=1, ge=1, le=1000, description="values of a person")
    num_groups: int = Field(default=2, ge=1, le=1000, description="groups of people")
    within_group_std: float = Field(
        default=0.3, ge=0, description="standard deviation of values in a group, without population"
    )
    told_questions: tuple[str, ...] = Field(
        default=(),
        description="names of questions whose answers the personas of people state: they are left "
        "out of `untold_persona_effect`",
    )
    value_statements: tuple[str, ...] = Field(
        default=(),
        description="a statement for each value, with which a person agrees whose value is "
        "positive and disagrees whose value is negative; people are told so. Populations set it",
    )

    @model_validator(mode="after")
    def _check_parameters(self) -> Survey:
        def refuse(name: str, message: str, code: str = "conflict") -> None:
            raise ParameterError(name, message=message, code=code)

        if self.num_templates > len(self.templates):
            message = f"there are {len(self.templates)} templates"
            refuse("num_templates", message, "out_of_range")
        if self.value_statements and len(self.value_statements) != self.num_values:
            refuse("value_statements", f"needs {self.num_values}, one for each value")
        names = [question.name for question in self.items]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            refuse("questions", f"two questions are named {twice!r:.60}", "duplicate")
        for name in self.told_questions:
            if name not in names:
                message = f"no question {name!r:.60}{did_you_mean(name, names)}"
                refuse("told_questions", message, "unknown_name")
        if len(set(self.told_questions)) >= len(names):
            refuse("told_questions", "leave at least one question that is not told")
        for text in self.value_statements:
            for question in self.items:
                if text in question.text:
                    message = f"people are told their answer to {question.name!r:.60}: ask about "
                    refuse("value_statements", message + "others, with an equal profile_comments")
        if sum(each.answers is not None for each in self.questions) > 1:
            refuse("questions", "at most one set may have answers of real people")
        if self.stated_belief == "paraphrased":
            for question in self.items:
                if not question.paraphrases:
                    message = f"paraphrased: the question {question.name!r:.60} has no paraphrases"
                    refuse("stated_belief", message, "missing")
        return self

    # --- the questions as tables ------------------------------------------------------------------

    @functools.cached_property
    def items(self) -> tuple[Question, ...]:
        """All questions, in the order in which they are asked."""
        return tuple(question for each in self.questions for question in each.questions)

    @functools.cached_property
    def human_answers(self) -> HumanAnswers | None:
        """Answers of real people; columns are all questions of their set."""
        found = [each.answers for each in self.questions if each.answers is not None]
        return found[0] if found else None

    @functools.cached_property
    def human_items(self) -> list[int]:
        """Indices of the questions that real people answered."""
        found, start = [], 0
        for each in self.questions:
            indices = range(start, start + len(each.questions))
            found += indices if each.answers is not None else []
            start = indices.stop
        return found

    @functools.cached_property
    def max_options(self) -> int:
        """Largest number of options of a question."""
        return max(len(question.options) for question in self.items)

    @functools.cached_property
    def table(self) -> QuestionTable:
        """The questions as tensors."""
        return QuestionTable.of(self.items, self.max_options)

    @property
    def num_cells(self) -> int:
        """Rounds of an episode."""
        return len(self.items) * self.num_orders * self.num_templates * self.repeats

    @property
    def min_rounds(self) -> int:
        """All cells."""
        return self.num_cells

    @functools.cached_property
    def design(self) -> SurveyDesign:
        """What metrics are computed from, beside the state."""
        human = self.human_answers
        return SurveyDesign(
            self.items,
            self.table,
            self.num_orders,
            self.num_templates,
            self.repeats,
            self.num_groups,
            None if human is None else HumanTable(human, self.table.take(self.human_items)),
            tuple(self.human_items),
            tuple(i for i, each in enumerate(self.items) if each.name not in self.told_questions),
        )

    # --- the contract -----------------------------------------------------------------------------

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`."""
        options = float(self.max_options)
        space = Box.of(
            values=self.num_values,
            group=Part(1, 0.0, float(max(self.num_groups - 1, 1))),
            question=Part(1, 0.0, float(max(len(self.items) - 1, 1))),
            num_options=Part(1, 0.0, options),
            direction=Part(1, -1.0, 1.0),
            reversed=Part(1, 0.0, 1.0),
            template=Part(1, 0.0, float(max(self.num_templates - 1, 1))),
            stated=Part(1, NO_BELIEF, options - 1.0),
        )
        return (Role("person", self.num_people, space),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`."""
        return (
            Phase("answer", {"person": Box.of(probabilities=Part(self.max_options, 0.0, 1.0))}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> SurveyState:
        """No answers yet."""
        worlds = streams.num_worlds
        if people is None:
            people = self._own_people(streams)
        values = {f"value_{v}": people.values[..., v] for v in range(people.values.shape[2])}
        people = dataclasses.replace(people, traits={**values, **people.traits})
        if people.values.shape[1:] != (self.num_people, self.num_values):
            raise UserError(
                f"the survey has {self.num_people} people with {self.num_values} values, and the "
                f"population {people.values.shape[1]} with {people.values.shape[2]}",
                code="wrong_shape",
                path="population",
            )
        shift = streams.uniform("stated belief", len(self.items))[..., 0] < 0.5
        answers = people.values.new_zeros(worlds, self.num_people, self.num_cells, self.max_options)
        return SurveyState(
            people=people,
            belief_shift=shift.long(),
            rounds_elapsed=torch.zeros(worlds, dtype=torch.int64, device=streams.device),
            answers=answers,
            drawn=answers[..., 0],
        )

    def _own_people(self, streams: RandomStreams) -> People:
        """Groups of equal size, with values around equally spaced centers."""
        noise = streams.normal("values", self.num_people, self.num_values)
        group = torch.arange(self.num_people, device=streams.device) % self.num_groups
        center = 2.0 * group / max(self.num_groups - 1, 1) - float(self.num_groups > 1)
        values = center[None, :, None] + self.within_group_std * noise
        return People(values, {}, group.expand(streams.num_worlds, -1).contiguous())

    def cell(self, state: SurveyState) -> SurveyCell:
        """The cell that is asked in each world, `[world]`; the last one after the end."""
        number = state.rounds_elapsed.clamp(max=self.num_cells - 1) // self.repeats
        templates, orders = self.num_templates, self.num_orders
        return SurveyCell(
            number // (orders * templates), number // templates % orders, number % templates
        )

    def stated_option(self, state: SurveyState) -> Int[Tensor, "world person question"]:
        """Option that each person is told to believe: the first or the last of a question."""
        person = torch.arange(self.num_people, device=state.answers.device)
        is_last = (person[None, :, None] + state.belief_shift[:, None]) % 2
        return is_last * (self.table.num_options.to(is_last.device) - 1)

    def observe(self, state: SurveyState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        cell, people = self.cell(state), state.people
        table = self.table.to(state.answers.device)
        shape = *people.values.shape[:2], 1

        def column(values: Tensor) -> Tensor:
            return values.to(people.values.dtype)[:, None, None].expand(shape)

        groups = torch.zeros_like(people.values[..., 0]) if people.groups is None else people.groups
        stated = torch.full(shape, NO_BELIEF, device=table.scores.device)
        if self.stated_belief != "none":
            option = self.stated_option(state)
            stated = option.gather(2, cell.question[:, None, None].expand(shape)).to(stated.dtype)
        return torch.cat(
            [
                people.values,
                groups.to(people.values.dtype)[..., None],
                column(cell.question),
                column(table.num_options[cell.question]),
                column(table.direction[cell.question]),
                column(cell.order),
                column(cell.template),
                stated,
            ],
            -1,
        )

    def step(
        self, state: SurveyState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[SurveyState]:
        """Record the answers, in the order of the question's options."""
        cell, table = self.cell(state), self.table.to(state.answers.device)
        answer = self._by_option(actions["person"], cell)
        u = streams.uniform("answer", self.num_people)
        drawn = (u >= answer.cumsum(-1)[..., :-1]).sum(-1)
        last = (table.num_options[cell.question] - 1)[:, None]
        score = table.scores[cell.question].gather(1, drawn.minimum(last))
        cells = torch.arange(self.num_cells, device=answer.device)
        now = (state.rounds_elapsed[:, None] == cells)[:, None]  # world, 1, cell
        elapsed = (state.rounds_elapsed + 1).clamp(max=self.num_cells)
        return StepResult(
            dataclasses.replace(
                state,
                rounds_elapsed=elapsed,
                answers=torch.where(now[..., None], answer[:, :, None], state.answers),
                drawn=torch.where(now, score[..., None], state.drawn),
            ),
            terminated=elapsed >= self.num_cells,
        )

    def _by_option(
        self, listed: Float[Tensor, "world person option"], cell: SurveyCell
    ) -> Float[Tensor, "world person option"]:
        """Normalized probabilities of the options, from those in the order in which they stood."""
        table = self.table.to(listed.device)
        asked = table.num_options[cell.question][:, None, None]  # world, 1, 1
        position = torch.arange(self.max_options, device=listed.device)
        is_option = position < asked
        source = torch.where(cell.order[:, None, None] == 1, asked - 1 - position, position)
        source = torch.where(is_option, source, position)
        found = listed.clamp(0.0, 1.0).gather(2, source.expand(listed.shape))
        found = torch.where(is_option, found, 0.0)
        weight = found.cumsum(-1)[..., -1:]
        equal = is_option.to(found.dtype) / asked
        return torch.where(weight > 0, found / weight.clamp(min=1e-30), equal)

    def metrics(self, state: SurveyState) -> Mapping[str, Tensor]:
        """Metrics of the answers; NaN until all cells have been asked.

        See `mores.envs.opinion.survey_metrics`.
        """
        stated = None if self.stated_belief == "none" else self.stated_option(state)
        found = survey_metrics.metrics(self.design, state, stated)
        complete = state.rounds_elapsed >= self.num_cells
        return {
            name: torch.where(complete.reshape(-1, *[1] * (value.dim() - 1)), value, torch.nan)
            for name, value in found.items()
        }

    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "answers": ("person", "cell", "option"),
        "drawn": ("person", "cell"),
        "values": ("person", "value"),
    }

    def latent(self, state: SurveyState) -> Mapping[str, Tensor]:
        """Answers of all cells, the score of one drawn from each, and values."""
        return {"answers": state.answers, "drawn": state.drawn, "values": state.people.values}

    def people(self, state: SurveyState) -> People:
        """The people, who do not change."""
        return state.people

    @property
    def elements_per_world(self) -> int:
        """See `Environment`."""
        return 8 * self.num_people * self.num_cells * self.max_options

    def default_policies(self) -> Mapping[str, Any]:
        """People whose first value decides, with a bias to the option that is listed first."""
        person = {"kind": "biased_respondent", "persona_effect": 1.0, "position_bias": 0.5}
        return {"person": person}

    # --- text -------------------------------------------------------------------------------------

    def role_rules(self, role: str) -> str:
        """What a person does here."""
        return "You answer the questions of a survey as the person that you are."

    def describe(
        self,
        role: str,
        phase: str,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None = None,
    ) -> TurnText:
        """The question with its options in the order asked, in the words of the template.

        What the person is told, a belief or votes, is about itself, and not in a baseline.
        """
        space = self.roles[0].observation_space
        numbers = {
            part: round(float(space.read(observation, part)[0]))
            for part in ("question", "reversed", "template", "stated")
        }
        question = self.items[numbers["question"]]
        template = self.templates[numbers["template"]]
        step = -1 if numbers["reversed"] else 1
        told = [self._profile(space.read(observation, "values"))]
        if numbers["stated"] >= 0:
            verbatim = self.stated_belief == "verbatim"
            texts = question.statements if verbatim else question.paraphrases
            told.append(f'You are convinced of this: "{texts[numbers["stated"]]}"')
        return TurnText(
            situation=template.situation,
            question=template.asked(question.text),
            form="probabilities",
            options=question.options[::step],
            statements=question.statements[::step],
            ordered=question.ordered,
            about_self="\n".join(part for part in told if part),
        )

    def _profile(self, values: Float[Tensor, " value"]) -> str:
        """What a person agrees and disagrees with."""
        said = zip(self.value_statements, values.tolist(), strict=False)
        lines = [
            f'You {"agree" if value > 0 else "disagree"} with this: "{text}"'
            for text, value in said
            if value
        ]
        return "\n".join(lines)

    def render(self, state: SurveyState, world: int = 0) -> str:
        """Mean answer to each question, by order and by group."""
        return survey_metrics.table_of_answers(self.design, state, world)


if __name__ == "__main__":
    from mores.sim.demo import show

    survey = Survey()
    show(survey, rounds=survey.num_cells)
