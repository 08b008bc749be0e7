"""Claims that no data of a number of replicates could decide."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from mores.experiments.claims.decidable import undecided_reason
from mores.experiments.claims.verdicts import evaluate_claim
from mores.experiments.scenario.specification import Claim


def claim(**fields: Any) -> Claim:
    data = {"statement": "x", "kind": "statistical", "metric": "m", "bound": {"above": 0.0}}
    return Claim.model_validate({**data, **fields})


@pytest.mark.parametrize(
    ("fields", "bounds", "enough"),
    [
        pytest.param({}, None, 16, id="mean of unknown shape"),
        pytest.param({"arm": "a", "compare_to": "b"}, None, 16, id="difference"),
        pytest.param({"arm": "a", "compare_to": "b", "relative": True}, None, 16, id="relative"),
        pytest.param({"interval": "people"}, None, 16, id="people"),
        pytest.param({"statistic": "median"}, None, 6, id="median"),
        pytest.param({"bound": {"above": 0.5}}, (0.0, 1.0), 6, id="share"),
        pytest.param({"bound": {"within": [0.4, 0.6]}}, (0.0, 1.0), 8, id="share within"),
    ],
)
def test_smallest_number_that_can_decide(fields: Any, bounds: Any, enough: int) -> None:
    found = [n for n in range(1, 20) if not undecided_reason(claim(**fields), n, bounds)]
    assert found == list(range(enough, 20))


@pytest.mark.parametrize("n", [5, 6])
def test_shares_of_two_arms_by_all_data(n: int) -> None:
    own, bounds = claim(arm="a", compare_to="b"), (0.0, 1.0)
    statuses = {
        evaluate_claim(own, np.array(a, float), np.array(b, float), bounds=bounds).status
        for a in itertools.product((0, 1), repeat=n)
        for b in ((0,) * n, (1,) * n, a)
    }
    assert bool(undecided_reason(own, n, bounds)) == (statuses == {"undecided"})
