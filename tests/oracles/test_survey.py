"""Surveys: shares of variance against statsmodels, effects of respondents with known biases,
agreement of respondents who give their own answers, distances against scipy."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance
from torch import Tensor

from mores.agents.people.anes96 import Anes96Population
from mores.agents.people.polis import PolisPopulation
from mores.agents.people.questions.polis_questions import PolisQuestions
from mores.core.policy import ActionOutput, Policy
from mores.envs.opinion import survey_statistics as statistics
from mores.envs.opinion.survey import Survey
from mores.registry import make
from mores.sim.simulation import simulate
from tests.refusals import refused

POLIS = Path(__file__).resolve().parents[3] / "shared/data/polis/15-per-hour-seattle"


def metrics_of(
    survey: Any, person: Any, population: Any = None, worlds: int = 1
) -> dict[str, Tensor]:
    """Metrics after the last cell."""
    rounds = survey.num_cells
    result = simulate(survey, {"person": person}, worlds, rounds, 3, population=population)
    return dict(survey.metrics(result.state))


def respondent(**parameters: Any) -> Policy:
    return make("policy", "biased_respondent", parameters)


def test_shares_of_variance_are_those_of_an_analysis_of_variance() -> None:
    ols = pytest.importorskip("statsmodels.formula.api").ols
    anova = pytest.importorskip("statsmodels.api").stats.anova_lm
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, 4, 3, 2, 3, generator=generator, dtype=torch.float64)
    factors = ("persona", "item", "order", "template")
    found = statistics.sums_of_squares(y, factors)
    rows = [
        (*index, float(y[(1, *index)])) for index in itertools.product(*map(range, y.shape[1:]))
    ]
    table = pd.DataFrame(rows, columns=[*factors, "y"])
    formula = "y ~ " + " * ".join(f"C({factor})" for factor in factors)
    expected = anova(ols(formula, table).fit(), typ=1)["sum_sq"]
    for names, squares in found.items():
        term = ":".join(f"C({name})" for name in names)
        assert float(squares[1]) == pytest.approx(expected[term], rel=1e-9, abs=1e-12)
    deviation = y - y.flatten(1).mean(1).reshape(-1, 1, 1, 1, 1)
    whole = (deviation**2).flatten(1).sum(1)
    assert torch.allclose(sum(found.values(), torch.zeros(())), whole)


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(5), 2)
    scores = np.array([0.0, 0.1, 0.5, 0.6, 1.0])
    first, second = (torch.tensor(x)[None] for x in (p, q))
    found = statistics.wasserstein(first, second, torch.tensor(scores)[None], torch.tensor([True]))
    assert float(found) == pytest.approx(wasserstein_distance(scores, scores, p, q), abs=1e-12)
    found = statistics.wasserstein(first, second, torch.tensor(scores)[None], torch.tensor([False]))
    assert float(found) == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-12)
    expected = jensenshannon(p, q, base=2) ** 2
    assert float(statistics.jensen_shannon(first, second)) == pytest.approx(expected, abs=1e-12)


def test_biases_of_known_strength_are_found() -> None:
    """Without noise: 1.5 nats between values 1 and -1 of 2, bonus .4 of the first option."""
    survey = Survey(num_templates=3, within_group_std=0.0, num_people=4)
    found = metrics_of(survey, respondent(persona_effect=0.75, position_bias=0.4))
    assert torch.allclose(found["persona_effect_nats"], torch.tensor(1.5))
    assert torch.allclose(found["order_effect_nats"], torch.tensor(0.8))
    assert torch.allclose(found["template_effect_nats"], torch.tensor(0.0), atol=1e-6)
    # two equal groups, two orders: squares of half the effects; four people stand for many
    persona, order = 1.5**2 * 4 / 3, 0.8**2
    assert float(found["persona_share_nats"]) == pytest.approx(persona / (persona + order))
    assert float(found["order_total_share_nats"]) == pytest.approx(order / (persona + order))
    assert (found["first_option_gain"] > 0.05).all()
    found = metrics_of(survey, respondent(persona_effect=0.75))  # it does not see the format
    assert found["order_effect"].abs().max() < 1e-6
    assert float(found["order_total_share"]) == pytest.approx(0, abs=1e-9)
    assert float(found["template_agreement"]) == pytest.approx(1)


def test_the_share_of_personas_does_not_depend_on_their_number() -> None:
    """Normal values of variance 1: a variance of 2.25 nats against .16 (.8 / 2) of the order."""
    shares = []
    for num_people, worlds in ((2, 400), (20, 40)):
        survey = Survey(
            questions=({"kind": "attitudes", "names": ["taxes"]},),  # type: ignore[arg-type]
            num_people=num_people,
            num_groups=1,
            num_templates=1,
            within_group_std=1.0,
        )
        found = metrics_of(survey, respondent(persona_effect=1.5, position_bias=0.4), worlds=worlds)
        persona = found["persona_share_nats"] / found["order_share_nats"]
        shares.append(float(persona.mean()))
    assert shares[0] == pytest.approx(shares[1], rel=0.15)  # 1 / 2 and 19 / 20 without correction
    assert shares[1] == pytest.approx(2.25 / 0.16, rel=0.15)


def test_scores_and_slopes_of_questions_with_seven_options() -> None:
    survey = Survey(
        questions=({"kind": "anes96"},),  # type: ignore[arg-type]
        within_group_std=0.0,
        num_people=2,
        num_templates=1,
    )
    found = metrics_of(survey, respondent(persona_effect=1.0))
    assert torch.allclose(found["persona_effect_nats"], torch.tensor(2.0), atol=1e-5)
    score = np.arange(7) / 6
    p = np.exp(score) / np.exp(score).sum()
    assert float(found["persona_effect"][0, 0]) == pytest.approx(2 * (p @ score) - 1, abs=1e-6)


def test_pure_noise_shows_no_effect_beyond_chance() -> None:
    """40 worlds: means within 4 standard errors of 0; errors of .05 would be found."""
    survey = Survey(num_people=6)
    person = respondent(noise_std=1.0)
    found = metrics_of(survey, person, worlds=40)
    for name in ("persona_effect", "order_effect"):
        means = found[name].mean(1)
        assert abs(float(means.mean())) < 4 * float(means.std()) / 40**0.5 < 0.05
    assert abs(float(found["template_agreement"].mean())) < 0.1


def test_a_stated_belief_is_found_and_is_told_to_half_of_the_people() -> None:
    survey = Survey(stated_belief="verbatim", num_people=4)
    found = metrics_of(survey, respondent(belief_effect=0.6), worlds=3)
    assert torch.allclose(found["belief_effect_nats"], torch.tensor(1.2))
    assert metrics_of(Survey(), respondent())["belief_effect"].isnan().all()


def test_repeats_measure_the_noise_of_drawn_answers() -> None:
    survey = Survey(repeats=20, num_people=10, num_templates=1)
    found = metrics_of(survey, respondent(draw=True))
    assert float(found["rerun_noise"]) == pytest.approx(0.5, abs=0.01)  # of a fair coin
    read = metrics_of(survey, respondent())
    assert float(read["rerun_noise"]) == 0 and float(read["drawn_noise"]) == pytest.approx(0.5)
    total = sum(float(found[name]) for name in found if name.endswith("_total_share"))
    assert total > 0 and 0.8 < float(found["rerun_share"]) < 1


class OwnAnswers(Policy):
    """Respondent who repeats the answers that are its values, in [-1, 1]."""

    def initial_state(self, role: Any, phases: Any, streams: Any) -> Any:
        return role

    def act(
        self,
        phase: Any,
        observation: Tensor,
        action_mask: Any,
        state: Any,
        streams: Any,
        search: bool = False,
    ) -> ActionOutput:
        read = state.observation_space.read
        question = read(observation, "question").long()
        value = read(observation, "values").gather(-1, question)
        number = read(observation, "num_options")
        option = ((value + 1) / 2 * (number - 1)).round()
        option = torch.where(read(observation, "reversed") > 0, number - 1 - option, option)
        return ActionOutput((torch.arange(7) == option).float(), state)


def test_respondents_who_repeat_their_answers_agree_with_the_data() -> None:
    names = ("left_right", "party", "clinton", "dole", "vote")
    population = Anes96Population(dimensions=names)
    survey = Survey(questions=({"kind": "anes96"},), num_templates=1)  # type: ignore[arg-type]
    survey = survey.with_population(population)  # type: ignore[assignment]
    found = metrics_of(survey, OwnAnswers(), population)
    for name in ("representativeness", "group_representativeness"):
        assert torch.allclose(found[name], torch.tensor(1.0), atol=1e-5)
    assert found["jsd"].abs().max() < 1e-6
    assert torch.allclose(found["persona_effect"], found["human_effect"], atol=1e-5)
    ones = ("steerability_ratio", "between_person_ratio", "individual_correlation")
    for name in (*ones, "steerability_ratio_drawn", "persona_effect_ratio"):
        assert float(found[name]) == pytest.approx(1, abs=1e-4), name
    for name in ("representativeness_gap", "group_representativeness_gap"):
        assert found[name].abs().max() < 1e-6
    assert float(found["order_total_share"]) == pytest.approx(0, abs=1e-9)
    assert 0 < float(found["steerability_percentile"]) < 1
    same = metrics_of(survey, respondent(), population)  # all alike
    assert float(same["steerability_ratio"]) == 0 and float(same["between_person_ratio"]) == 0


def test_few_people_are_far_from_a_distribution_whoever_they_are() -> None:
    """Two respondents with their own answers: no gap, and spreads as expected of their parties."""
    names = ("left_right", "party", "clinton", "dole", "vote")
    counts = {"Democrats": 1, "Republicans": 1}
    population = Anes96Population(dimensions=names, group_counts=counts)
    survey = Survey(questions=({"kind": "anes96"},), num_templates=1)  # type: ignore[arg-type]
    survey = survey.with_population(population)  # type: ignore[assignment]
    found = metrics_of(survey, OwnAnswers(), population, worlds=300)
    assert found["representativeness"].mean() < 0.9
    assert found["representativeness_gap"].abs().max() < 1e-6
    squares = float(found["between_person_ratio"].square().mean())
    assert squares == pytest.approx(1, abs=0.06)
    assert float(found["steerability_ratio"].mean()) == pytest.approx(1, abs=0.04)


def test_a_stratified_sample_has_the_stated_numbers_of_each_group() -> None:
    population = Anes96Population(group_counts={"Democrats": 2, "Republicans": 1})
    survey = Survey().with_population(population)
    result = simulate(survey, {"person": respondent()}, 5, 1, 3, population=population)
    assert result.state.people.groups.tolist() == [[0, 0, 2]] * 5
    own = result.state.people.traits["respondent"]
    assert len(set(own.flatten().tolist())) > 10
    with refused("unknown_name"):
        make("population", "anes96", {"group_counts": {"Democrat": 2}})
    with refused("conflict"):
        make("population", "anes96", {"group_counts": {"independents": 38}})


def test_what_a_person_is_told_is_about_itself() -> None:
    survey = Survey(
        stated_belief="paraphrased", num_people=2, value_statements=("Dogs are better than cats.",)
    )
    role = survey.roles[0]
    numbers = {"values": 0.5, "question": 2, "num_options": 2, "direction": 1, "group": 0}
    numbers |= {"reversed": 1, "template": 1, "stated": 0}
    observation = role.observation_space.join(
        **{name: torch.tensor([float(number)]) for name, number in numbers.items()}
    )
    turn = survey.describe("person", "answer", observation)
    question = survey.items[2]
    assert turn.options == question.options[::-1]
    assert turn.statements == question.statements[::-1]
    assert question.paraphrases[0] in turn.about_self and question.text in turn.question
    assert 'You agree with this: "Dogs are better than cats."' in turn.about_self
    assert turn.situation == survey.templates[1].situation


def test_conflicts_are_refused() -> None:
    with refused("out_of_range"):
        make("environment", "survey", {"num_templates": 4})
    with refused("duplicate"):
        make("environment", "survey", {"questions": ["attitudes", "attitudes"]})
    with refused("unknown_name"):
        make("environment", "survey", {"questions": [{"kind": "attitudes", "names": ["gunz"]}]})
    with refused("conflict"):
        make("environment", "survey", {"value_statements": ["a", "b"]})
    with refused("unknown_name"):
        make("environment", "survey", {"told_questions": ["gun"]})


# --- Polis ------------------------------------------------------------------------------------


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    """Five comments, one rejected; six participants in two groups, one in none."""
    (tmp_path / "comments.csv").write_text(
        "comment-id,moderated,comment-body\n"
        '0,1,"Cats, ""all"" of them"\n1,1,Dogs\n2,-1,Spam\n3,1,Birds\n4,1,Fish\n'
    )
    (tmp_path / "participants-votes.csv").write_text(
        "participant,group-id,0,1,2,3,4\n"
        "0,0,1,1,1,-1,1\n1,0,1,1,,-1,1\n2,0,1,0,,1,\n3,1,-1,1,,1,1\n4,1,-1,-1,,1,\n5,,1,1,1,1,1\n"
    )
    return tmp_path


def test_comments_of_a_conversation_are_questions(conversation: Path) -> None:
    asked = {"path": str(conversation), "profile_comments": 1, "min_votes": 3}
    questions = PolisQuestions(**asked)
    assert [each.name for each in questions.questions] == ["comment_3", "comment_1", "comment_4"]
    assert [each.direction for each in questions.questions] == [1, -1, 1]
    answers = questions.answers
    assert answers is not None
    assert answers.option.T.tolist() == [[0, 0, 1, 1, 1], [1, 1, -1, 1, 0], [1, 1, -1, 1, -1]]
    assert answers.shares(2, 0)[0].tolist() == pytest.approx([2 / 3, 1 / 3])
    population = PolisPopulation(path=str(conversation), profile_comments=1)
    survey = Survey(questions=(questions,), num_templates=1).with_population(population)
    assert survey.value_statements == ('Cats, "all" of them',)  # type: ignore[attr-defined]
    found = metrics_of(survey, respondent(persona_effect=1.0), population)
    assert found["representativeness"].shape == (1, 3)
    with pytest.raises(Exception, match="told their answer"):
        Survey(questions=(questions,)).with_population(
            PolisPopulation(path=str(conversation), profile_comments=2)
        )
    with refused("missing", "min_votes"):
        _ = PolisQuestions(path=str(conversation), min_votes=6).questions
    votes = conversation / "participants-votes.csv"
    votes.write_text(votes.read_text().replace("4,1,-1", "4,1,2"))
    copy = conversation / "copy"
    copy.mkdir()
    for file in ("comments.csv", "participants-votes.csv"):
        (copy / file).write_text((conversation / file).read_text())
    with refused("out_of_range", "0"):
        _ = PolisQuestions(path=str(copy)).questions


@pytest.mark.skipif(not POLIS.is_dir(), reason="the open data of Polis are not here")
def test_votes_of_a_real_conversation_are_those_of_its_own_counts() -> None:
    questions = PolisQuestions(path=str(POLIS), profile_comments=0, max_questions=1000, min_votes=1)
    answers = questions.answers
    assert answers is not None
    comments = pd.read_csv(POLIS / "comments.csv", dtype={"comment-id": str})
    votes = pd.read_csv(POLIS / "participants-votes.csv")
    grouped = votes[votes["group-id"].notna()]
    assert len(answers.group) == len(grouped)
    for index, question in enumerate(questions.questions):
        number = question.name.removeprefix("comment_")
        assert int(comments.set_index("comment-id").loc[number, "moderated"]) == 1
        for option, vote in ((0, -1), (1, 1)):
            assert (answers.option[:, index] == option).sum() == (grouped[number] == vote).sum()
