"""Metrics of groups against scipy's analysis of variance and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import mores
from mores.core.people_statistics import rms_distance
from mores.metrics import groups as metrics
from tests.refusals import refused

GENERATOR = torch.Generator().manual_seed(1)
GROUPS = torch.randint(0, 4, (5, 30), generator=GENERATOR) * 2  # groups 1, 3, 5 are empty
VALUES = torch.randn(5, 30, 2, generator=GENERATOR) + 0.4 * GROUPS[..., None]


def test_eta_squared_and_deviations_within_groups() -> None:
    eta, within = metrics.eta_squared(VALUES, GROUPS), metrics.within_group_rms(VALUES, GROUPS)
    means = metrics.group_means(VALUES, GROUPS, num_groups=8, value=1)
    assert torch.equal(means.isnan()[:, 1::2], torch.ones(5, 4, dtype=torch.bool))
    for world, (values, groups) in enumerate(
        zip(VALUES.double().numpy(), GROUPS.numpy(), strict=True)
    ):
        samples = [values[groups == g] for g in np.unique(groups)]
        k, n = len(samples), len(values)
        f = scipy.stats.f_oneway(*samples).statistic
        assert eta[world].numpy() == pytest.approx(f * (k - 1) / (f * (k - 1) + n - k))
        residuals = np.concatenate([s - s.mean(0) for s in samples])
        assert within[world].item() == pytest.approx(np.sqrt((residuals**2).sum(1).mean()))
        present = means[world, np.unique(groups)]
        assert present.numpy() == pytest.approx([s[:, 1].mean() for s in samples])


def test_limits() -> None:
    """One group explains nothing, groups without differences inside explain all."""
    one = torch.zeros_like(GROUPS)
    assert metrics.eta_squared(VALUES, one).abs().max() < 1e-12
    torch.testing.assert_close(metrics.within_group_rms(VALUES, one).float(), rms_distance(VALUES))
    camps = GROUPS[..., None].float().expand(-1, -1, 2)
    assert torch.equal(metrics.eta_squared(camps, GROUPS), torch.ones(5, 2, dtype=torch.float64))
    assert not metrics.within_group_rms(camps, GROUPS).any()
    assert metrics.eta_squared(torch.zeros_like(VALUES), GROUPS).isnan().all()


def test_groups_of_a_population() -> None:
    """Means of parties, from a specification by name."""
    environment = mores.make_environment(
        "coevolution", num_people=944, num_assistants=0, trait_state={}
    )
    means = {"kind": "group_means", "num_groups": 3}
    specs = {"parties": means, "eta": "eta_squared"}
    result = mores.simulate(
        environment,
        worlds=2,
        rounds=1,
        population=mores.make_population("anes96"),
        metrics=specs,
    )
    parties = result.metrics["parties"].values
    assert parties.shape == (2, 2, 3)
    assert (np.diff(parties) > 0).all()  # from left to right
    assert 0.2 < result.metrics["eta"].values[0, 0, 0] < 0.6


@pytest.mark.parametrize(
    ("parameters", "path"), [({"num_groups": 6}, "num_groups"), ({"value": 2}, "value")]
)
def test_parameters_beyond_the_people(parameters: dict[str, int], path: str) -> None:
    with refused("out_of_range", path=path):
        metrics.group_means(VALUES, GROUPS, **{"num_groups": 7, **parameters})
