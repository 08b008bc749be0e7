"""Survey respondents: codes, sampling, and the spatial model of their votes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from benchmarks.voters_1996 import (
    nearest_candidate_accuracy,
    projection_estimates,
    score_vote_models,
)
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
from mores.core.random_streams import RandomStreams
from mores.registry import make_population
from tests.refusals import refused

KINDS = ["all", "subset", "resampled", "jittered"]
POPULATIONS = [
    Anes96Population(),
    Anes96Population(num_people=50),
    Anes96Population(num_people=50, resample=True),
    Anes96Population(resample=True, jitter=0.5, dimensions=("left_right", "dole", "vote")),
]


# --- the data -------------------------------------------------------------------------------------


def test_codes_are_as_documented() -> None:
    data = load_anes96()

    def counts(answers: np.ndarray) -> dict[float, int]:
        codes, frequencies = np.unique(answers, return_counts=True)
        return dict(zip(codes.tolist(), frequencies.tolist(), strict=True))

    assert counts(data.vote) == {0: 551, 1: 393}
    assert counts(data.party) == {0: 200, 1: 180, 2: 108, 3: 37, 4: 94, 5: 150, 6: 175}
    assert counts(data.left_right) == {1: 16, 2: 103, 3: 147, 4: 256, 5: 170, 6: 218, 7: 34}
    assert counts(data.clinton) == {1: 109, 2: 317, 3: 236, 4: 160, 5: 67, 6: 36, 7: 19}
    assert counts(data.dole) == {1: 13, 2: 31, 3: 43, 4: 87, 5: 195, 6: 460, 7: 115}
    assert (data.age.min(), data.age.max()) == (19, 91)
    assert set(counts(data.education)) == set(range(1, 8))
    assert set(counts(data.income)) == set(range(1, 25))
    assert all(len(a) == NUM_RESPONDENTS and np.isfinite(a).all() for a in vars(data).values())


def test_scales_have_the_same_direction() -> None:
    for name in DIMENSIONS:
        values = scaled_answers(name)
        assert (values.min(), values.max()) == (-1, 1)
    data = load_anes96()
    assert (scaled_answers("left_right") == 0).sum() == (data.left_right == 4).sum()
    assert (scaled_answers("party") == 0).sum() == (data.party == 3).sum()
    vote = scaled_answers("vote")
    assert np.corrcoef(scaled_answers("left_right"), vote)[0, 1] > 0.5  # conservatives for Dole
    assert np.corrcoef(scaled_answers("party"), vote)[0, 1] > 0.5  # Republicans for Dole


# --- the population -------------------------------------------------------------------------------


@pytest.mark.parametrize("population", POPULATIONS, ids=KINDS)
def test_a_replicate_replays_alone(population: Anes96Population) -> None:
    batch = population.sample_people(RandomStreams.of(11, 512))
    alone = population.sample_people(RandomStreams.of(11, [37]))
    assert torch.equal(batch.values[37], alone.values[0])
    assert batch.groups is not None and alone.groups is not None
    assert torch.equal(batch.groups[37], alone.groups[0])
    for name, trait in batch.traits.items():
        assert torch.equal(trait[37], alone.traits[name][0])
    assert not torch.equal(batch.values[36], batch.values[37])


@pytest.mark.parametrize("population", POPULATIONS, ids=KINDS)
def test_values_traits_and_groups_are_those_of_the_respondent(population: Anes96Population) -> None:
    people, data = population.sample_people(RandomStreams.of(5, 3)), load_anes96()
    assert population.environment_parameters() == {
        "num_people": people.values.shape[1],
        "num_values": len(population.value_names),
        "num_groups": 3,
    }
    rows = people.traits["respondent"].long().numpy()
    for name in ("vote", "age", "education", "income"):
        assert (people.traits[name].numpy() == getattr(data, name)[rows]).all()
    for name in ("clinton", "dole"):
        assert np.allclose(people.traits[name].numpy(), scaled_answers(name)[rows], atol=1e-6)
    if population.jitter == 0:
        for i, name in enumerate(population.value_names):
            values = people.values[..., i].numpy()
            assert np.allclose(values, scaled_answers(name)[rows], atol=1e-6)
    assert people.groups is not None
    party = data.party[rows]
    expected = np.select([party <= 2, party == 3], [0, 1], 2)
    assert (people.groups.numpy() == expected).all()


def test_every_respondent_occurs_once_in_random_order() -> None:
    people = Anes96Population().sample_people(RandomStreams.of(0, 64))
    rows = people.traits["respondent"].long()
    assert (rows.sort(1).values == torch.arange(NUM_RESPONDENTS)).all()
    assert (np.diff(load_anes96().income) >= 0).all()  # the reason for a random order
    income = people.traits["income"].double()
    neighbors = torch.stack([income[:, 1:].flatten(), income[:, :-1].flatten()])
    # 64 * 943 pairs: five standard errors of a zero correlation
    assert abs(torch.corrcoef(neighbors)[0, 1].item()) < 5 / (64 * 943) ** 0.5


def test_a_subset_has_distinct_respondents_and_is_part_of_a_larger_one() -> None:
    streams = RandomStreams.of(4, 20)
    populations = (Anes96Population(num_people=n) for n in (100, 300))
    small, large = (p.sample_people(streams).traits["respondent"].long() for p in populations)
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
    # the standard deviation of the mean over worlds is the standard error of the survey;
    # its own standard error over 400 worlds is 3.5 %
    means = people.values[..., 0].double().mean(1)
    error = scaled_answers("left_right").std() / NUM_RESPONDENTS**0.5
    assert means.std().item() == pytest.approx(error, rel=5 * 0.035)
    people = Anes96Population(num_people=2000, resample=True).sample_people(RandomStreams.of(9, 1))
    assert people.values.shape == (1, 2000, 2)


def test_arms_share_their_people() -> None:
    populations = (
        Anes96Population(num_people=60),
        Anes96Population(num_people=60, dimensions=("party",), jitter=1.0),
        Anes96Population(num_people=60, dimensions=("left_right", "party"), jitter=1.0),
    )
    plain, party, both = (p.sample_people(RandomStreams.of(2, 8)) for p in populations)
    assert torch.equal(plain.traits["respondent"], party.traits["respondent"])
    assert torch.equal(both.values[..., 1], party.values[..., 0])  # separate noise by dimension


@pytest.mark.parametrize("jitter", [0.4, 1.0])
def test_jitter_stays_within_the_option_and_breaks_ties(jitter: float) -> None:
    streams = RandomStreams.of(6, 10)
    plain, moved = (Anes96Population(jitter=j).sample_people(streams).values for j in (0.0, jitter))
    assert (moved - plain).abs().max() <= jitter / 6 + 1e-6  # options are 1/3 apart
    assert moved.abs().max() <= 1
    assert len(plain[0].unique(dim=0)) == 46
    assert len(moved[0].unique(dim=0)) == NUM_RESPONDENTS
    inner = plain[..., 0].abs() < 0.9
    shift = (moved - plain)[..., 0][inner].double()
    # mean and standard deviation of a uniform distribution, within five standard errors
    deviation = jitter / 3 / 12**0.5
    assert abs(shift.mean().item()) < 5 * deviation / len(shift) ** 0.5
    assert shift.std().item() == pytest.approx(deviation, rel=5 / len(shift) ** 0.5)


def test_invalid_parameters() -> None:
    with refused("conflict", path="anes96"):
        make_population("anes96", num_people=945)
    with refused("duplicate", path="anes96.dimensions"):
        make_population("anes96", dimensions=("party", "party"))
    with refused("unknown_name", path="anes96.dimensions"):
        make_population("anes96", dimensions=["left_rigt"])


def test_without_statsmodels_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = [name for name in sys.modules if name.partition(".")[0] == "statsmodels"]
    for name in {*imported, "statsmodels"}:
        monkeypatch.setitem(sys.modules, name, None)
    load_anes96.cache_clear()
    population = Anes96Population(num_people=5)
    with refused("not_installed"):
        population.sample_people(RandomStreams.of(0, 1))
    ideal = np.arange(8.0)
    with refused("not_installed"):
        fit_vote_probabilities([ideal], (ideal > 3).astype(float))


# --- the spatial model ----------------------------------------------------------------------------


def test_nearest_candidate_by_hand() -> None:
    ideal = np.array([1.0, 4.0, 5.0, 7.0])
    predicted = nearest_candidate(ideal, 2.0, 6.0)
    assert predicted.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert vote_accuracy(predicted, np.array([0.0, 1.0, 0.0, 1.0])).tolist() == [1.0, 0.5, 0.0, 1.0]
    assert utility(ideal, 2.0).tolist() == [-1.0, -4.0, -9.0, -25.0]
    assert utility_difference(ideal, 2.0, 6.0, "absolute").tolist() == [-4.0, 0.0, 2.0, 4.0]
    assert utility_difference(ideal, 2.0, 6.0).tolist() == [-24.0, 0.0, 8.0, 24.0]


def test_log_loss_of_a_binary_feature_is_the_conditional_entropy() -> None:
    """A logit on one binary feature is saturated: it predicts the share of each level."""
    data = load_anes96()
    conservative = (data.left_right > 4).astype(float)
    entropy = 0.0
    for level in (0, 1):
        share = data.vote[conservative == level].mean()
        entropy -= (conservative == level).mean() * (
            share * np.log(share) + (1 - share) * np.log(1 - share)
        )
    probabilities = fit_vote_probabilities([conservative], data.vote)
    in_sample, held_out = (log_losses(p, data.vote).mean() for p in probabilities)
    assert in_sample == pytest.approx(entropy, abs=1e-7)
    assert held_out > entropy


def test_common_placements_are_equivalent_to_the_own_position() -> None:
    """With squared loss the difference of utilities is linear in the own position."""
    data = load_anes96()
    common = utility_difference(data.left_right, data.clinton.mean(), data.dole.mean())
    own_position = fit_vote_probabilities([data.party, data.left_right], data.vote)
    distance = fit_vote_probabilities([data.party, common], data.vote)
    assert np.allclose(own_position.in_sample, distance.in_sample, atol=1e-6)
    assert np.allclose(own_position.held_out, distance.held_out, atol=1e-6)


def test_held_out_people_are_excluded_from_the_fit() -> None:
    """Noise features improve the log-loss in sample and worsen it held out."""
    rng = np.random.default_rng(0)
    vote = (rng.random(200) < 0.5).astype(float)
    probabilities = fit_vote_probabilities([rng.normal(size=200) for _ in range(15)], vote)
    in_sample, held_out = (log_losses(p, vote).mean() for p in probabilities)
    assert in_sample < np.log(2) < held_out


def test_projection_is_recovered_from_simulated_data() -> None:
    """Supporters' slope .4, opponents' -.3: each estimate within four standard errors of .02."""
    rng = np.random.default_rng(1)
    ideal, is_supporter = rng.normal(size=4000), (rng.random(4000) < 0.5).astype(float)
    slope = np.where(is_supporter == 1, 0.4, -0.3)
    placement = 2 + slope * ideal + rng.normal(size=4000) * (1 + 0.3 * is_supporter)
    estimate = estimate_projection(ideal, placement, is_supporter)
    assert estimate.supporter_slope == pytest.approx(0.4, abs=0.12)
    assert estimate.opponent_slope == pytest.approx(-0.3, abs=0.09)
    assert estimate.slope_difference.low < 0.7 < estimate.slope_difference.high
    without = estimate_projection(ideal, 2 + rng.normal(size=4000), is_supporter)
    assert without.slope_difference.low < 0 < without.slope_difference.high


def test_selection_produces_slope_differences_without_projection() -> None:
    """Simulated data without projection: `selection_effect` covers the difference by vote."""
    rng = np.random.default_rng(2)
    ideal, first, second = rng.normal(0, 1.2, 3000), *rng.normal([-1, 1], 1, (3000, 2)).T
    probability = 1 / (1 + np.exp(-utility_difference(ideal, first, second, "absolute")))
    vote = (rng.random(3000) < probability).astype(float)
    onto_first = estimate_projection(ideal, first, 1 - vote).slope_difference
    onto_second = estimate_projection(ideal, second, vote).slope_difference
    selection = selection_effect(ideal, first, second, vote, num_permutations=200)
    assert onto_first.low > 0.1
    assert selection.first.low < onto_first.value < selection.first.high
    assert selection.second.low < onto_second.value < selection.second.high


# --- estimates for the voters of 1996 -------------------------------------------------------------


def test_votes_for_the_nearest_candidate() -> None:
    accuracies = nearest_candidate_accuracy()
    expected = {
        "own placements, ties half": 779.5 / 944,
        "own placements, ties to Clinton": 798 / 944,
        "common placements": 739 / 944,
        "own (ties half) minus common": 40.5 / 944,
    }
    assert {name: share.value for name, share in accuracies.items()} == pytest.approx(expected)
    # width from the binomial standard error, within 15 %
    common = accuracies["common placements"]
    error = (0.783 * 0.217 / 944) ** 0.5
    assert common.high - common.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert accuracies["own (ties half) minus common"].low > 0


def test_regressions_of_the_vote() -> None:
    """Accuracy .845 and .783, party .905, and log-loss .285 to .205: absolute loss, held out."""
    scores = score_vote_models()
    assert scores["own, absolute"].accuracy == pytest.approx(0.845, abs=5e-4)
    assert scores["own, absolute"].accuracy_held_out == pytest.approx(0.845, abs=5e-4)
    assert scores["own position"].accuracy == pytest.approx(0.783, abs=5e-4)
    assert scores["common, absolute"].accuracy == pytest.approx(0.783, abs=5e-4)
    assert scores["party"].accuracy == pytest.approx(0.905, abs=5e-4)
    assert scores["party"].log_loss_held_out == pytest.approx(0.285, abs=1e-3)
    assert scores["party + own, absolute"].log_loss_held_out == pytest.approx(0.205, abs=1e-3)
    assert scores["party"].log_loss == pytest.approx(0.2827, abs=1e-4)
    assert scores["party + own, absolute"].log_loss == pytest.approx(0.2017, abs=1e-4)
    assert scores["party + own, squared"].log_loss == pytest.approx(0.2082, abs=1e-4)
    gain = scores["party + own, absolute"].log_loss_gain
    assert gain.low > 0.04 and gain.value == pytest.approx(0.080, abs=2e-3)
    # four fifths of the gain need the respondent's own placements
    assert scores["party + common, absolute"].log_loss_gain.value < 0.25 * gain.value


def test_projection_by_party_and_by_vote() -> None:
    estimates = projection_estimates()
    expected = {
        "Clinton, by party": (0.395, -0.334),
        "Dole, by party": (0.237, -0.439),
        "Clinton, by vote": (0.406, -0.354),
        "Dole, by vote": (0.385, -0.372),
    }
    for name, slopes in expected.items():
        estimate = estimates[name]
        assert estimate[:2] == pytest.approx(slopes, abs=1e-3)
        assert estimate[2].low > 0.5
    # 1,000 permutations: the standard error of the means is below .004
    for candidate, alone, with_party in (("Clinton", 0.734, 0.436), ("Dole", 0.731, 0.489)):
        means = (
            estimates[f"{candidate}, selection"],
            estimates[f"{candidate}, selection with party"],
        )
        assert means[0][0] == pytest.approx(alone, abs=0.02)
        assert means[1][0] == pytest.approx(with_party, abs=0.02)


def test_reliability_is_the_remaining_share_of_the_variance():
    answers, dispositions = (
        Anes96Population(reliability=r).sample_people(RandomStreams.of(1, 3)).values
        for r in (1.0, 0.6)
    )
    for i in (0, 1):
        torch.testing.assert_close(dispositions[..., i].mean(), answers[..., i].mean())
        torch.testing.assert_close(dispositions[..., i].var(), 0.6 * answers[..., i].var())
