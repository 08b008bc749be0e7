"""Verdicts and claims on terminals of several widths, and in a pipe."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mores.cli.console import UNLIMITED_WIDTH
from mores.cli.verdict_tables import claim_view, verdict_view
from mores.experiments.claims.claim_estimates import ClaimData
from mores.experiments.claims.verdicts import Verdict, combine_verdicts, evaluate_claim_data
from mores.experiments.run import RunResult
from mores.experiments.scenario.loading import bundled_scenarios, load_scenario
from mores.experiments.scenario.specification import Claim, Scenario

MAX_LINES = 8  # of a claim, with all that is said of it
WIDTHS = (80, 100, 120)
TABLE_WIDTH = 120  # narrower terminals have blocks of lines


def verdict_of(claim: Claim, scenario: Scenario) -> Verdict:
    """A verdict on noise: undecided, for the longest reason that the kind of claim has."""
    noise = np.random.default_rng(0).normal(size=(2, 64)) * 1234.5678
    comparison = np.zeros(64) if claim.compare_to or claim.analytic else None
    data = ClaimData(noise[0], comparison)
    ablation = ClaimData(noise[1], comparison) if claim.ablation else None
    bound = claim.bound
    if ablation and bound and not (claim.relative or claim.slope_in or claim.monotone_in):
        # the claim itself holds: it is undecided whether the finding vanishes in the ablation
        offset = next(x for x in (bound.above, bound.below, 0.0) if x is not None)
        sign = -1.0 if bound.below is not None else 1.0
        data = ClaimData(offset + sign * (1.2345678 + np.abs(noise[0]) / 1e4), comparison)

    def at_point(point: dict[str, object]) -> Verdict:
        verdict = evaluate_claim_data(claim, data, ablation)
        return dataclasses.replace(verdict, arm=claim.arm or "", point=point)

    points = [{path: value for path, (value, *_) in scenario.sweep.items()}] * 2
    if not scenario.sweep:
        return at_point({})
    return combine_verdicts(claim, [at_point(point) for point in points])


def lines_of(view: object, width: int) -> list[str]:
    """The lines of a table or of blocks, without those between claims."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(view)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in printed.splitlines())
    return [line for line in printed.splitlines() if line.strip(" ─")]


@pytest.mark.cut(14)
@pytest.mark.parametrize("name", sorted(bundled_scenarios()))
def test_no_claim_has_many_lines(name: str) -> None:
    scenario = load_scenario(name).scenario
    for claim in scenario.claims:
        only = scenario.model_copy(update={"claims": [claim], "source": None})
        run = RunResult(Path("runs"), only, [verdict_of(claim, scenario)])
        for width in WIDTHS:
            head = 2 if width >= TABLE_WIDTH else 1  # the headings, and the name of the scenario
            verdict = lines_of(verdict_view([run], width), width)[head:]
            listed = lines_of(claim_view([only], {}, width), width)[head:]
            for lines in (verdict, listed):
                assert len(lines) <= MAX_LINES, "\n".join(lines)
                in_blocks = (
                    " ".join(" ".join(lines).split()) if width < TABLE_WIDTH else claim.statement
                )
                assert claim.statement in in_blocks
            assert f"{run.verdicts[0].status} " in " ".join(verdict)


def test_no_line_is_broken_in_a_pipe() -> None:
    scenario = load_scenario("karate").scenario
    run = RunResult(Path("runs"), scenario, [verdict_of(c, scenario) for c in scenario.claims])
    for view in (verdict_view([run], UNLIMITED_WIDTH), claim_view([scenario], {}, UNLIMITED_WIDTH)):
        lines = lines_of(view, UNLIMITED_WIDTH)
        assert all(f"  {claim.statement}" in lines for claim in scenario.claims)
        assert not any(line.endswith(" ") for line in lines)
