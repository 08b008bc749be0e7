"""Real voters: how their answers are coded and seated, and what the spatial model makes of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mores.agents.people.anes96 import (
    DIMENSIONS,
    NUM_RESPONDENTS,
    Anes96Population,
    load_anes96,
    scaled_answers,
)
from mores.agents.user_models.ideal_point import (
    fit_vote_probabilities,
    log_losses,
    nearest_candidate,
    utility,
    utility_difference,
    vote_accuracy,
)
from mores.agents.user_models.projection import estimate_projection, selection_effect
from mores.agents.user_models.voters_1996 import (
    nearest_candidate_accuracy,
    projection_estimates,
    score_vote_models,
)
from mores.core.random_streams import RandomStreams
from mores.registry import make_population
from tests.refusals import refused

KINDS = ["everybody", "subset", "resampled", "spread out"]
POPULATIONS = [
    Anes96Population(),
    Anes96Population(people=50),
    Anes96Population(people=50, resample=True),
    Anes96Population(resample=True, jitter=0.5, dimensions=("left_right", "dole", "vote")),
]


# --- the data -------------------------------------------------------------------------------------


def test_codes_are_as_documented() -> None:
    data = load_anes96()

    def counts(answers: np.ndarray) -> dict[float, int]:
        return {
            float(a): int(n) for a, n in zip(*np.unique(answers, return_counts=True), strict=True)
        }

    assert counts(data.vote) == {0: 551, 1: 393}
    assert counts(data.party) == {0: 200, 1: 180, 2: 108, 3: 37, 4: 94, 5: 150, 6: 175}
    assert counts(data.left_right) == {1: 16, 2: 103, 3: 147, 4: 256, 5: 170, 6: 218, 7: 34}
    assert counts(data.clinton) == {1: 109, 2: 317, 3: 236, 4: 160, 5: 67, 6: 36, 7: 19}
    assert counts(data.dole) == {1: 13, 2: 31, 3: 43, 4: 87, 5: 195, 6: 460, 7: 115}
    assert (data.age.min(), data.age.max()) == (19, 91)
    assert set(counts(data.education)) == set(range(1, 8))
    assert set(counts(data.income)) == set(range(1, 25))
    assert all(len(a) == NUM_RESPONDENTS and np.isfinite(a).all() for a in vars(data).values())


def test_scales_point_the_same_way() -> None:
    for name in DIMENSIONS:
        values = scaled_answers(name)
        assert (values.min(), values.max()) == (-1, 1)
    data = load_anes96()
    assert (scaled_answers("left_right") == 0).sum() == (data.left_right == 4).sum()
    assert (scaled_answers("party") == 0).sum() == (data.party == 3).sum()
    voted = scaled_answers("vote")
    assert np.corrcoef(scaled_answers("left_right"), voted)[0, 1] > 0.5  # conservatives for Dole
    assert np.corrcoef(scaled_answers("party"), voted)[0, 1] > 0.5  # Republicans for Dole


# --- the population -------------------------------------------------------------------------------


@pytest.mark.parametrize("population", POPULATIONS, ids=KINDS)
def test_a_replicate_replays_alone(population: Anes96Population) -> None:
    batch, alone = (
        population.sample_people(RandomStreams.of(11, 512)),
        population.sample_people(RandomStreams.of(11, [37])),
    )
    assert torch.equal(batch.values[37], alone.values[0])
    assert batch.groups is not None and alone.groups is not None
    assert torch.equal(batch.groups[37], alone.groups[0])
    for name, trait in batch.traits.items():
        assert torch.equal(trait[37], alone.traits[name][0])
    assert not torch.equal(batch.values[36], batch.values[37])


@pytest.mark.parametrize("population", POPULATIONS, ids=KINDS)
def test_people_are_the_respondents_they_are_said_to_be(population: Anes96Population) -> None:
    people, data = population.sample_people(RandomStreams.of(5, 3)), load_anes96()
    assert population.environment_parameters() == {
        "people": people.values.shape[1],
        "values": len(population.value_names),
    }
    rows = people.traits["respondent"].long().numpy()
    for name in ("vote", "age", "education", "income"):
        assert (people.traits[name].numpy() == getattr(data, name)[rows]).all()
    for name in ("clinton", "dole"):
        assert np.allclose(people.traits[name].numpy(), scaled_answers(name)[rows], atol=1e-6)
    if population.jitter == 0:
        for place, name in enumerate(population.value_names):
            assert np.allclose(
                people.values[..., place].numpy(), scaled_answers(name)[rows], atol=1e-6
            )
    assert people.groups is not None
    party = data.party[rows]
    expected = np.select([party <= 2, party == 3], [0, 1], 2)
    assert (people.groups.numpy() == expected).all()


def test_everybody_has_one_seat_and_not_by_income() -> None:
    people = Anes96Population().sample_people(RandomStreams.of(0, 64))
    rows = people.traits["respondent"].long()
    assert (rows.sort(1).values == torch.arange(NUM_RESPONDENTS)).all()
    assert (np.diff(load_anes96().income) >= 0).all()  # the reason to draw seats
    income = people.traits["income"].double()
    neighbours = torch.stack([income[:, 1:].flatten(), income[:, :-1].flatten()])
    # 64 * 943 pairs: five standard errors of no correlation
    assert abs(torch.corrcoef(neighbours)[0, 1].item()) < 5 / (64 * 943) ** 0.5


def test_a_subset_has_nobody_twice_and_grows() -> None:
    draws = RandomStreams.of(4, 20)
    small, large = (
        Anes96Population(people=n).sample_people(draws).traits["respondent"].long() for n in (100, 300)
    )
    assert all(len(row.unique()) == 100 for row in small)
    assert torch.equal(small, large[:, :100])


def test_resampling_is_with_replacement() -> None:
    worlds = 400
    people = Anes96Population(resample=True).sample_people(RandomStreams.of(9, worlds))
    rows = people.traits["respondent"].long()
    assert (rows.min(), rows.max()) == (0, NUM_RESPONDENTS - 1)
    distinct = torch.tensor([len(row.unique()) for row in rows]).double()
    expected = NUM_RESPONDENTS * (1 - (1 - 1 / NUM_RESPONDENTS) ** NUM_RESPONDENTS)
    assert abs(distinct.mean() - expected) < 5 * distinct.std() / worlds**0.5
    # the spread of the mean over worlds is the standard error of a survey of this size;
    # the standard error of a standard deviation over 400 worlds is 3.5 %
    means = people.values[..., 0].double().mean(1)
    error = scaled_answers("left_right").std() / NUM_RESPONDENTS**0.5
    assert means.std().item() == pytest.approx(error, rel=5 * 0.035)
    assert Anes96Population(people=2000, resample=True).people(
        RandomStreams.of(9, 1)
    ).values.shape == (1, 2000, 2)


def test_arms_share_their_people() -> None:
    draws = RandomStreams.of(2, 8)
    plain = Anes96Population(people=60).sample_people(draws)
    other = Anes96Population(people=60, dimensions=("party",), jitter=1.0).sample_people(draws)
    assert torch.equal(plain.traits["respondent"], other.traits["respondent"])
    wide = Anes96Population(people=60, dimensions=("left_right", "party"), jitter=1.0).sample_people(draws)
    assert torch.equal(wide.values[..., 1], other.values[..., 0])  # a dimension's noise is its own


@pytest.mark.parametrize("spread", [0.4, 1.0])
def test_spread_stays_within_the_option_and_breaks_ties(spread: float) -> None:
    draws = RandomStreams.of(6, 10)
    plain, moved = (Anes96Population(jitter=s).sample_people(draws).values for s in (0.0, spread))
    assert (moved - plain).abs().max() <= spread / 6 + 1e-6  # options are 1/3 apart
    assert moved.abs().max() <= 1
    assert len(plain[0].unique(dim=0)) == 46
    assert len(moved[0].unique(dim=0)) == NUM_RESPONDENTS
    inner = plain[..., 0].abs() < 0.9
    shift = (moved - plain)[..., 0][inner].double()
    # a uniform number of this width, mean and standard deviation within five standard errors
    deviation = spread / 3 / 12**0.5
    assert abs(shift.mean().item()) < 5 * deviation / len(shift) ** 0.5
    assert shift.std().item() == pytest.approx(deviation, rel=5 / len(shift) ** 0.5)


def test_mistakes_are_named() -> None:
    with refused("conflict", path="anes96"):
        make_population("anes96", people=945)
    with refused("duplicate", path="anes96.dimensions"):
        make_population("anes96", dimensions=("party", "party"))
    with refused("unknown_name", path="anes96.dimensions"):
        make_population("anes96", dimensions=["left_rigt"])


def test_without_statsmodels_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = [name for name in sys.modules if name.partition(".")[0] == "statsmodels"]
    for name in {*kept, "statsmodels"}:
        monkeypatch.setitem(sys.modules, name, None)
    load_anes96.cache_clear()
    population = Anes96Population(people=5)
    with refused("not_installed"):
        population.sample_people(RandomStreams.of(0, 1))
    place = np.arange(8.0)
    with refused("not_installed"):
        fit_vote_probabilities([place], (place > 3).astype(float))


# --- the spatial model ----------------------------------------------------------------------------


def test_nearest_candidate_in_small() -> None:
    ideal = np.array([1.0, 4.0, 5.0, 7.0])
    predicted = nearest_candidate(ideal, 2.0, 6.0)
    assert predicted.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert vote_accuracy(predicted, np.array([0.0, 1.0, 0.0, 1.0])).tolist() == [1.0, 0.5, 0.0, 1.0]
    assert utility(ideal, 2.0).tolist() == [-1.0, -4.0, -9.0, -25.0]
    assert utility_difference(ideal, 2.0, 6.0, "absolute").tolist() == [-4.0, 0.0, 2.0, 4.0]
    assert utility_difference(ideal, 2.0, 6.0).tolist() == [-24.0, 0.0, 8.0, 24.0]


def test_log_loss_of_a_single_cause_is_the_entropy_within_its_levels() -> None:
    """A logit on one binary feature is saturated, so it gives each level its own share."""
    data = load_anes96()
    conservative = (data.left_right > 4).astype(float)
    entropy = 0.0
    for level in (0, 1):
        share = data.vote[conservative == level].mean()
        entropy -= (conservative == level).mean() * (
            share * np.log(share) + (1 - share) * np.log(1 - share)
        )
    fitted = fit_vote_probabilities([conservative], data.vote)
    assert log_losses(fitted.in_sample, data.vote).mean() == pytest.approx(entropy, abs=1e-7)
    assert log_losses(fitted.held_out, data.vote).mean() > entropy


def test_common_placements_know_no_more_than_the_own_place() -> None:
    """With squared loss the difference of utilities is linear in the own place."""
    data = load_anes96()
    common = utility_difference(data.left_right, data.clinton.mean(), data.dole.mean())
    own_place = fit_vote_probabilities([data.party, data.left_right], data.vote)
    placed = fit_vote_probabilities([data.party, common], data.vote)
    assert np.allclose(own_place.in_sample, placed.in_sample, atol=1e-6)
    assert np.allclose(own_place.held_out, placed.held_out, atol=1e-6)


def test_held_out_people_are_not_fitted_to() -> None:
    """A feature that is noise gains in the sample and costs outside it."""
    rng = np.random.default_rng(0)
    vote = (rng.random(200) < 0.5).astype(float)
    fitted = fit_vote_probabilities([rng.normal(size=200) for _ in range(15)], vote)
    inside, outside = (log_losses(p, vote).mean() for p in fitted)
    assert inside < np.log(2) < outside


def test_projection_is_recovered_where_it_was_put_in() -> None:
    """Supporters' slope .4, opponents' -.3: each estimate within four standard errors of .02."""
    rng = np.random.default_rng(1)
    ideal, supports = rng.normal(size=4000), (rng.random(4000) < 0.5).astype(float)
    slope = np.where(supports == 1, 0.4, -0.3)
    placement = 2 + slope * ideal + rng.normal(size=4000) * (1 + 0.3 * supports)
    found = estimate_projection(ideal, placement, supports)
    assert found.supporter_slope == pytest.approx(0.4, abs=0.12)
    assert found.opponent_slope == pytest.approx(-0.3, abs=0.09)
    assert found.slope_difference.low < 0.7 < found.slope_difference.high
    nobody = estimate_projection(ideal, 2 + rng.normal(size=4000), supports)
    assert nobody.slope_difference.low < 0 < nobody.slope_difference.high


def test_selection_alone_looks_like_projection_by_vote() -> None:
    """Nobody projects here: a difference by vote appears all the same, and is foreseen."""
    rng = np.random.default_rng(2)
    ideal, first, second = rng.normal(0, 1.2, 3000), *rng.normal([-1, 1], 1, (3000, 2)).T
    choice = 1 / (1 + np.exp(-utility_difference(ideal, first, second, "absolute")))
    vote = (rng.random(3000) < choice).astype(float)
    seeming = estimate_projection(ideal, first, 1 - vote).slope_difference
    foreseen = selection_effect(ideal, first, second, vote, num_permutations=200)
    assert seeming.low > 0.1
    assert foreseen.first.low < seeming.value < foreseen.first.high
    assert foreseen.second.low < estimate_projection(ideal, second, vote).slope_difference.value
    assert estimate_projection(ideal, second, vote).slope_difference.value < foreseen.second.high


# --- facts about the voters of 1996 ---------------------------------------------------------------


def test_votes_for_the_nearest_candidate() -> None:
    found = nearest_candidate_accuracy()
    expected = {
        "own placements, ties half": 779.5 / 944,
        "own placements, ties to Clinton": 798 / 944,
        "common placements": 739 / 944,
        "own (ties half) minus common": 40.5 / 944,
    }
    assert {name: share.value for name, share in found.items()} == pytest.approx(expected)
    # as wide as the binomial standard error says, within 15 %
    common = found["common placements"]
    error = (0.783 * 0.217 / 944) ** 0.5
    assert common.high - common.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found["own (ties half) minus common"].low > 0


def test_regressions_of_the_vote() -> None:
    """Accuracy .845 and .783, party .905, and log-loss .285 to .205: absolute loss, held out."""
    found = score_vote_models()
    assert found["own, absolute"].accuracy == pytest.approx(0.845, abs=5e-4)
    assert found["own, absolute"].accuracy_held_out == pytest.approx(0.845, abs=5e-4)
    assert found["own place"].accuracy == pytest.approx(0.783, abs=5e-4)
    assert found["common, absolute"].accuracy == pytest.approx(0.783, abs=5e-4)
    assert found["party"].accuracy == pytest.approx(0.905, abs=5e-4)
    assert found["party"].log_loss_held_out == pytest.approx(0.285, abs=1e-3)
    assert found["party + own, absolute"].log_loss_held_out == pytest.approx(0.205, abs=1e-3)
    assert found["party"].log_loss == pytest.approx(0.2827, abs=1e-4)
    assert found["party + own, absolute"].log_loss == pytest.approx(0.2017, abs=1e-4)
    assert found["party + own, squared"].log_loss == pytest.approx(0.2082, abs=1e-4)
    gain = found["party + own, absolute"].log_loss_gain
    assert gain.low > 0.04 and gain.value == pytest.approx(0.080, abs=2e-3)
    # four fifths of the gain need the respondent's own placements
    assert found["party + common, absolute"].log_loss_gain.value < 0.25 * gain.value


def test_projection_by_party_and_by_vote() -> None:
    found = projection_estimates()
    expected = {
        "Clinton, by party": (0.395, -0.334),
        "Dole, by party": (0.237, -0.439),
        "Clinton, by vote": (0.406, -0.354),
        "Dole, by vote": (0.385, -0.372),
    }
    for name, slopes in expected.items():
        measured = found[name]
        assert measured[:2] == pytest.approx(slopes, abs=1e-3)
        assert measured[2].low > 0.5
    # 1,000 shuffles: the standard error of the means is below .004
    for candidate, alone, beside in (("Clinton", 0.734, 0.436), ("Dole", 0.731, 0.489)):
        assert found[f"{candidate}, selection"][0] == pytest.approx(alone, abs=0.02)
        assert found[f"{candidate}, selection with party"][0] == pytest.approx(beside, abs=0.02)


def test_reliability_keeps_the_settled_share_of_the_variance():
    draws = RandomStreams.of(1, 3)
    answered, settled = (
        Anes96Population().sample_people(draws),
        Anes96Population(reliability=0.6).sample_people(draws),
    )
    for dimension in (0, 1):
        theirs, ours = answered.values[..., dimension], settled.values[..., dimension]
        torch.testing.assert_close(ours.mean(), theirs.mean())
        torch.testing.assert_close(ours.var(), 0.6 * theirs.var())
