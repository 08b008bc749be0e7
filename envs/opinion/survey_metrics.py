"""Metrics of a survey: effects, shares of variance, agreement with real people.

A person's answer in a cell is its expected score, sum_k p_k s_k, from 0 to 1; with the suffix
`_nats` its contrast of log-probabilities,

    L = sum_k c_k ln p_k,    c_k = (s_k - mean s) / sum_j (s_j - mean s)^2,

the log-odds of the higher of two options, or the slope of ln p in the score. Probabilities below
1e-12 count as 1e-12. A vector has one number for each question.

Design, both scales:
    persona_effect         vector: mean of the last group minus the first, times `direction`
    untold_persona_effect  vector: the same without `told_questions`, where copying is enough
    order_effect           vector: reversed minus listed; positive: the option listed first gains
    absolute_order_effect  vector: mean over templates of its absolute value
    template_effect        vector: largest minus smallest mean of a template
    belief_effect          vector: people told to believe the last option minus those told the first
    template_agreement     correlation between templates of persons' answers, centered by question
    FACTOR_share, FACTOR_FACTOR_share, higher_share, FACTOR_total_share   shares of the sum of
                           squares over all cells, of the factors persona, item, order, template;
                           total: all terms with the factor; rerun_share: between repeats. Squares
                           with the persona are times n / (n - 1), for n people drawn from many
Score alone:
    rerun_noise            standard deviation between repeats of a cell (needs two repeats)
    drawn_noise            standard deviation of an answer that is drawn from the probabilities
    first_option_gain      vector: probability of the option listed first, minus 1 / options
    between_person_std     root mean over questions of the variance between persons
    num_orders, num_templates, num_questions
With answers of real people, on their questions:
    representativeness     vector: 1 - W1 between the persons' mean distribution and the people's
    group_representativeness  vector: the same within each group, mean over groups
    representativeness_gap, group_representativeness_gap   vectors: that of the persons' own
                           respondents minus that of the persons, both with one answer of each:
                           few people are far from a distribution, whoever they are
    jsd                    vector: Jensen-Shannon divergence of the two, in bits
    human_effect           vector: as persona_effect, of real people
    persona_effect_ratio   sum of persona_effect over these questions, over that of human_effect
    steerability_ratio     mean distance between two persons over that between two people of the
                           same groups; steerability_ratio_drawn: with one drawn answer each
    steerability_percentile   share of 500 random sets of as many people, of the same groups, that
                           are nearer to each other than the persons by their drawn answers
    between_person_ratio, between_person_ratio_drawn   standard deviation over that expected of as
                           many people of the same groups
    individual_correlation    between persons' answers and those of their own respondent
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.people import People
from mores.envs.opinion import survey_statistics as statistics
from mores.envs.opinion.survey_design import SurveyDesign
from mores.envs.opinion.survey_human_metrics import human_metrics
from mores.envs.opinion.survey_state import SurveyState

FACTORS = ("persona", "item", "order", "template")
SMALLEST_PROBABILITY = 1e-12
HUMAN_METRICS = (
    *("representativeness", "group_representativeness", "jsd", "human_effect"),
    *("representativeness_gap", "group_representativeness_gap"),
    *("persona_effect_ratio", "steerability_ratio", "steerability_ratio_drawn"),
    *("steerability_percentile", "between_person_ratio", "between_person_ratio_drawn"),
    "individual_correlation",
)


def metrics(
    survey: SurveyDesign,
    state: SurveyState,
    stated: Int[Tensor, "world person question"] | None = None,
) -> dict[str, Tensor]:
    """All metrics, as if the survey were complete.

    Args:
        survey: the design.
        state: the state.
        stated: option that each person was told to believe; `None`: none was told.
    """
    table = survey.table.to(state.answers.device)
    answers = state.answers.double().unflatten(2, survey.shape)
    options = table.scores.shape[1]
    by_question = (len(survey.items), 1, 1, 1, options)
    score = total(answers * table.scores.double().reshape(by_question), -1)
    logs = answers.clamp(min=SMALLEST_PROBABILITY).log()
    nats = total(logs * table.contrast.reshape(by_question), -1)
    found = _design_metrics(survey, state.people, stated, score)
    of_nats = _design_metrics(survey, state.people, stated, nats)
    found |= {f"{name}_nats": value for name, value in of_nats.items()}
    found |= _score_metrics(survey, answers, score)
    if survey.human is None:
        undefined = torch.full_like(score[:, 0, 0, 0, 0, 0], torch.nan)
        found |= dict.fromkeys(HUMAN_METRICS, undefined)
    else:
        found |= human_metrics(survey, state, answers, found["persona_effect"])
    return {name: value.float() for name, value in found.items()}


def _design_metrics(
    survey: SurveyDesign,
    people: People,
    stated: Int[Tensor, "world person question"] | None,
    y: Float[Tensor, "world person question order template repeat"],
) -> dict[str, Tensor]:
    """Effects and shares of variance of answers on one scale."""
    table = survey.table.to(y.device)
    cells = mean(y, 5)
    person = mean(mean(cells, 4), 3)  # world, person, question
    undefined = torch.full_like(person[:, 0], torch.nan)
    low, high = _outer_groups(survey, people)
    contrast = statistics.group_mean(person, high) - statistics.group_mean(person, low)
    effect = contrast * table.direction
    found = {"persona_effect": effect, "untold_persona_effect": effect[:, survey.untold_items]}
    by_wording = mean(cells, 1)  # world, question, order, template
    shift = by_wording[:, :, -1] - by_wording[:, :, 0]
    templates = mean(by_wording, 2)
    two_orders, two_templates = survey.num_orders > 1, survey.num_templates > 1
    spread = templates.amax(-1) - templates.amin(-1)
    found |= {
        "order_effect": mean(shift, 2) if two_orders else undefined,
        "absolute_order_effect": mean(shift.abs(), 2) if two_orders else undefined,
        "template_effect": spread if two_templates else undefined,
        "belief_effect": undefined,
        "template_agreement": _template_agreement(mean(cells, 3)),
    }
    if stated is not None:
        told_last = stated > 0
        effects = [
            statistics.group_mean(person[..., q], told_last[..., q])
            - statistics.group_mean(person[..., q], ~told_last[..., q])
            for q in range(person.shape[2])
        ]
        found["belief_effect"] = torch.stack(effects, -1)
    squares = statistics.sums_of_squares(cells, FACTORS)
    people_count = y.shape[1]
    if people_count > 1:  # else shares of few people would be too small, by (n - 1) / n
        unbiased = people_count / (people_count - 1)
        squares = {k: v * unbiased if "persona" in k else v for k, v in squares.items()}
    residual = None
    if survey.repeats > 1:
        squares = {key: survey.repeats * value for key, value in squares.items()}
        residual = total((y - cells[..., None]).square().flatten(1), 1)
    return found | statistics.share_metrics(squares, residual)


def _outer_groups(
    survey: SurveyDesign, people: People
) -> tuple[Bool[Tensor, "world person"], Bool[Tensor, "world person"]]:
    """Who is in the first and in the last group."""
    groups = people.groups
    if groups is None:
        groups = torch.zeros_like(people.values[..., 0], dtype=torch.int64)
    return groups == 0, groups == max(survey.num_groups - 1, 1)


def _template_agreement(
    y: Float[Tensor, "world person question template"],
) -> Float[Tensor, " world"]:
    """Mean correlation over pairs of templates."""
    centered = (y - mean(y, 1).unsqueeze(1)).flatten(1, 2)  # world, person x question, template
    pairs = itertools.combinations(range(y.shape[3]), 2)
    found = [statistics.correlation(centered[..., i], centered[..., j]) for i, j in pairs]
    if not found:
        return torch.full_like(y[:, 0, 0, 0], torch.nan)
    return mean(torch.stack(found, -1), 1)


def _score_metrics(
    survey: SurveyDesign,
    answers: Float[Tensor, "world person question order template repeat option"],
    score: Float[Tensor, "world person question order template repeat"],
) -> dict[str, Tensor]:
    """Noise, gain of the first option, and variation between persons."""
    table = survey.table.to(answers.device)
    options = answers.shape[-1]
    scores = table.scores.double().reshape(len(survey.items), 1, 1, 1, options)
    variance = total(answers * scores.square(), -1) - score.square()
    first = answers[:, :, :, 0, ..., 0]
    if survey.num_orders == 2:
        last = (table.num_options - 1).reshape(-1, 1, 1, 1).expand(answers.shape[2], 1, 1, 1)
        shape = (*answers.shape[:3], *answers.shape[4:6], 1)
        index = last[None, None].expand(shape)
        first = (first + answers[:, :, :, 1].gather(-1, index)[..., 0]) / 2
    gain = mean(first.flatten(3), 3) - 1 / table.num_options
    worlds = score.shape[0]
    undefined = torch.full((worlds,), torch.nan, dtype=score.dtype, device=score.device)
    noise = undefined
    if survey.repeats > 1:
        within = (score - mean(score, 5)[..., None]).square()
        noise = mean((total(within, 5) / (survey.repeats - 1)).flatten(1), 1).sqrt()
    person = mean(score.flatten(3), 3)

    def number(value: int) -> Tensor:
        return torch.full_like(undefined, value)

    return {
        "rerun_noise": noise,
        "drawn_noise": mean(variance.clamp(min=0).flatten(1), 1).sqrt(),
        "first_option_gain": mean(gain, 1),
        "between_person_std": statistics.std_between(person),
        "num_orders": number(survey.num_orders),
        "num_templates": number(survey.num_templates),
        "num_questions": number(len(survey.items)),
    }


def table_of_answers(survey: SurveyDesign, state: SurveyState, world: int) -> str:
    """Mean score of each question in a world: by order of the options, and by outer group."""
    elapsed, cells = int(state.rounds_elapsed[world]), state.answers.shape[2]
    header = f"round {elapsed} of {cells}; mean score from 0 (first option) to 1 (last)"
    if elapsed < cells:
        return header
    answers = state.answers[world : world + 1].double().unflatten(2, survey.shape)
    scores = survey.table.to(answers.device).scores.double()
    score = total(answers * scores.reshape(len(survey.items), 1, 1, 1, -1), -1)[0]
    low, high = (group[world] for group in _outer_groups(survey, state.people))
    lines = [header, f"{'question':20} listed reversed first group last group"]
    for index, item in enumerate(survey.items):
        own = score[:, index]
        orders = [float(own[:, order].mean()) for order in (0, survey.num_orders - 1)]
        groups = [float(own[members].mean()) for members in (low, high)]
        columns = f"{orders[0]:6.2f} {orders[1]:8.2f} {groups[0]:11.2f} {groups[1]:10.2f}"
        lines.append(f"{item.name:20.20} {columns}")
    return "\n".join(lines)
