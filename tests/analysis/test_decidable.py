"""Claims that cannot hold with few replicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mores.cli.commands import main
from mores.core.metric import Metric
from mores.experiments.claims.decidable import undecided_reason
from mores.experiments.claims.verdicts import evaluate_claim
from mores.experiments.scenario.metric_check import may_have_bounds
from mores.experiments.scenario.specification import Claim, Scenario
from mores.registry import REGISTRIES

SCENARIO = """\
name: shares
about: Claims of a metric with bounds and of one without.
env: {kind: dr_mdp}
rounds: 2
metrics: [influence_share, return_assistant]
claims:
  - {statement: A share, kind: statistical, metric: influence_share, bound: {below: 0.5}}
  - {statement: A return, kind: statistical, metric: return_assistant, bound: {above: -100.0}}
"""


def claim(**fields: Any) -> Claim:
    data = {"statement": "x", "kind": "statistical", "metric": "m", "bound": {"above": 0.0}}
    return Claim.model_validate({**data, **fields})


@pytest.mark.parametrize("n", [1, 2, 15, 16])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"statistic": "sd"},
        {"interval": "people"},
        {"arm": "a", "compare_to": "b", "bound": {"within": [-2.0, 9.0]}},
        {"arm": "a", "compare_to": "b", "statistic": "median"},
        {"arm": "a", "compare_to": "b", "statistic": "rms"},
    ],
    ids=str,
)
def test_the_reason_is_that_of_the_verdict(fields: dict[str, Any], n: int) -> None:
    """The values are as clear as values can be: those of 16 replicates are decided."""
    own, values = claim(**fields), 3.0 + 0.01 * np.sin(np.arange(n))
    reference = 0.01 * np.cos(np.arange(n)) if own.compare_to else None
    verdict = evaluate_claim(own, values, reference)
    reason = undecided_reason(own, n, bounded=False)
    assert verdict.status == ("undecided" if n < 16 else "holds")
    assert bool(reason) == (n < 16)
    if 1 < n < 16:
        assert verdict.reason.startswith(reason)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "exact"},
        {"kind": "report", "bound": None},
        {"statistic": "median"},
        {"interval": "parameters"},
        {"interval": "components"},
        {"slope_in": "env.rate"},
        {"monotone_in": "env.rate"},
        {"arm": "a", "compare_to": "b", "relative": True},
        {"arm": "a", "compare_to": "b", "references": ["c", "d"]},
    ],
    ids=str,
)
def test_other_claims_need_the_data(fields: dict[str, Any]) -> None:
    assert not undecided_reason(claim(**fields), 8, bounded=False)


@pytest.mark.parametrize(("replicates", "warned"), [(1, [0, 1]), (15, [1]), (16, [])])
def test_warnings_of_a_check(
    replicates: int, warned: list[int], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shares.yaml").write_text(SCENARIO)
    assert main(["check", str(tmp_path / "shares.yaml"), f"replicates={replicates}"]) == 0
    reason = {1: "one replicate has no interval"}.get(
        replicates,
        "a verdict on a metric of unknown distribution needs at least 16 replicates; "
        f"there are {replicates}",
    )
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"warning: claims.{index} cannot hold, unless no random number is drawn: {reason}"
        for index in warned
    ]


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_bounds_of_a_registered_metric(bounds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {} if bounds is None else {"bounds": property(lambda self: bounds)}
    monkeypatch.setitem(REGISTRIES["metric"], "of_user", type("OfUser", (Metric,), members))
    metrics = ["of_user", {"kind": "of_user", "name": "renamed"}]
    data = {"name": "s", "about": "x", "env": {"kind": "dr_mdp"}, "rounds": 1, "metrics": metrics}
    scenario = Scenario.model_validate(data)
    for name in ("of_user", "renamed", "renamed[first]"):
        assert may_have_bounds(scenario, name, ()) == (bounds is not None)
