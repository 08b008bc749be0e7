"""Agreement of persons with real people: metrics described in `survey_metrics`."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.envs.opinion import survey_statistics as statistics
from mores.envs.opinion.survey_design import NUM_RANDOM_SETS, SurveyDesign
from mores.envs.opinion.survey_state import SurveyState


def human_metrics(
    survey: SurveyDesign,
    state: SurveyState,
    answers: Float[Tensor, "world person question order template repeat option"],
    persona_effect: Float[Tensor, "world question"],
) -> dict[str, Tensor]:
    """Agreement with the answers of real people."""
    human, items = survey.human, list(survey.human_items)
    assert human is not None
    device, table = answers.device, human.table.to(answers.device)
    own = answers[:, :, items].flatten(3, 5)  # world, person, question, wording, option
    distribution = mean(own, 3)
    score = total(distribution * table.scores.double(), -1)
    drawn = state.drawn.double().unflatten(2, survey.shape)[:, :, items].flatten(3)
    overall, shares = mean(distribution, 1), human.shares.to(device)

    def near(p: Tensor, q: Tensor) -> Tensor:
        distance = statistics.wasserstein(p, q.expand_as(p), table.scores.double(), table.ordered)
        return 1 - distance

    found = {
        "representativeness": near(overall, shares),
        "jsd": statistics.jensen_shannon(overall, shares.expand_as(overall)),
        "human_effect": human.effect.to(device).expand(len(score), -1).clone(),
        "persona_effect_ratio": total(persona_effect[:, items], 1) / human.effect.sum().to(device),
    }
    groups = state.people.groups
    has_groups = groups is not None and survey.num_groups == human.num_groups
    nearness, counts = [], []
    for group in range(human.num_groups if has_groups else 0):
        members = groups == group  # type: ignore[operator]
        counts.append(members.sum(1))
        of_group = statistics.group_mean(distribution, members)
        nearness.append(near(of_group, human.group_shares[group].to(device)))
    undefined = torch.full_like(score[:, 0, 0], torch.nan)
    by_group = (
        torch.stack(nearness, -1).nanmean(-1)
        if has_groups
        else torch.full_like(found["representativeness"], torch.nan)
    )
    found["group_representativeness"] = by_group
    of_drawn = torch.stack(
        [statistics.mean_pairwise_distance(drawn[..., n]) for n in range(drawn.shape[-1])], -1
    )
    ratio = percentile = ratio_drawn = human_std = undefined
    if has_groups and score.shape[1] > 1:
        sets = [tuple(each) for each in torch.stack(counts, -1).tolist()]
        expected = torch.tensor([human.expected_distance(each) for each in sets], device=device)
        ratio = statistics.mean_pairwise_distance(score) / expected
        ratio_drawn = mean(of_drawn, 1) / expected
        human_std = torch.tensor([human.expected_std(each) for each in sets], device=device)
        ranks = [
            np.searchsorted(human.random_set_distances(each), own_drawn.cpu().numpy()).mean()
            for each, own_drawn in zip(sets, of_drawn, strict=True)
        ]
        percentile = torch.tensor(np.array(ranks) / NUM_RANDOM_SETS, device=device)
    drawn_std = torch.stack(
        [statistics.std_between(drawn[..., n]) for n in range(drawn.shape[-1])], -1
    )
    found |= {
        "steerability_ratio": ratio,
        "steerability_ratio_drawn": ratio_drawn,
        "steerability_percentile": percentile,
        "between_person_ratio": statistics.std_between(score) / human_std,
        "between_person_ratio_drawn": mean(drawn_std, 1) / human_std,
        "individual_correlation": undefined,
        "representativeness_gap": torch.full_like(by_group, torch.nan),
        "group_representativeness_gap": torch.full_like(by_group, torch.nan),
    }
    respondents = human.own_scores(state.people)
    if respondents is not None:
        respondents = respondents.to(device)
        answered = ~respondents.isnan()
        count = answered.sum(1, keepdim=True).clamp(min=1)

        def centered(x: Tensor) -> Tensor:
            filled = torch.where(answered, x, 0.0)
            average = total(filled, 1).unsqueeze(1) / count
            return torch.where(answered, x - average, 0.0).flatten(1)

        found["individual_correlation"] = statistics.correlation(
            centered(score), centered(respondents.nan_to_num())
        )
        # the same statistic of respondents and persons, with one answer of each
        chosen = torch.cat([respondents[..., None], drawn], -1)  # world, person, question, answer

        def nearness_of(members: Tensor, target: Tensor) -> Tensor:
            used = members[..., None] & answered
            return torch.stack(
                [
                    near(statistics.option_shares(chosen[..., n], table.scores, used), target)
                    for n in range(chosen.shape[-1])
                ],
                -1,
            )

        def gap(nearness: Tensor) -> Tensor:
            return nearness[..., 0] - mean(nearness[..., 1:], nearness.dim() - 1)

        everybody = torch.ones_like(answered[..., 0])
        found["representativeness_gap"] = gap(nearness_of(everybody, shares))
        if has_groups:
            assert groups is not None
            gaps = [
                gap(nearness_of(groups == group, human.group_shares[group].to(device)))
                for group in range(human.num_groups)
            ]
            found["group_representativeness_gap"] = torch.stack(gaps, -1).nanmean(-1)
    return found
