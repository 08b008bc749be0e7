"""Pydantic models of the output of `--json`.

Numbers that are not finite (no estimate, no interval) are null. New fields may be added; those here
keep their names and meanings. `docs/reference/command_line.md` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from mores.experiments.claims.verdicts import Verdict
    from mores.experiments.run import RunResult


class _Output(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="null", frozen=True)


class ListedEntry(_Output):
    """An entry of a registry."""

    category: str = Field(description="its registry: environment, policy, graph, scenario ...")
    name: str = Field(description="its name in scenario files and on the command line")
    summary: str = Field(description="what it is, in a line")
    tags: dict[str, Any] = Field(description="its properties by name, as `--where` selects them")


class Listing(_Output):
    """`mores list --json`."""

    entries: list[ListedEntry] = Field(description="by category and name")


class Parameter(_Output):
    """A parameter of an entry. Parameters of a part have dotted names."""

    name: str = Field(description="its name in scenario files")
    default: str = Field(description="default value in the syntax of a scenario; or `required`")
    allowed: str = Field(description="allowed values in words")
    description: str = Field(description="meaning and unit")


class Example(_Output):
    """A text that a language model reads in an environment."""

    heading: str = Field(description="what the text is")
    text: str = Field(description="the text")


class ScenarioClaim(_Output):
    """A claim of a scenario."""

    statement: str = Field(description="what is claimed")
    kind: str = Field(description="statistical, exact, learned ...: see the reference of scenarios")
    source: str | None = Field(description="source of this claim; null: that of the scenario")


class ScenarioSummary(_Output):
    """A scenario, in a description."""

    source: str | None = Field(description="the paper")
    environment: str | None = Field(description="its environment")
    arms: list[str] = Field(description="arms; empty: the scenario as it is")
    control: str | None = Field(description="the arm that others are compared to")
    replicates: int | None = Field(description="number of replicates")
    claims: list[ScenarioClaim] = Field(description="claims")
    file: str = Field(description="path of the file")
    command: str = Field(description="command that runs it")
    seconds: float | None = Field(
        description="duration of its newest finished run under `runs/` in seconds"
    )


class DescribedEntry(_Output):
    """An entry that has the name."""

    category: str = Field(description="its registry")
    name: str = Field(description="its name")
    text: str = Field(description="documentation")
    parameters: list[Parameter] = Field(description="parameters")
    examples: list[Example] = Field(
        description="example texts of an environment with texts: rules and turns"
    )
    scenario: ScenarioSummary | None = Field(
        default=None, description="details of a scenario; null for other categories"
    )


class Descriptions(_Output):
    """`mores describe NAME --json`."""

    entries: list[DescribedEntry] = Field(description="one for each category that has the name")


class CheckProblem(_Output):
    """An error in a scenario."""

    file: str | None = Field(description="the file, or the override of the command line")
    line: int | None = Field(description="line from 1; null if the error has no position in a file")
    column: int | None = Field(
        description="column from 1; null if the error has no position in a file"
    )
    path: str = Field(description="dotted path of the key, such as `claims.0.bound`; may be empty")
    code: str = Field(description="kind of error: a key of `mores.core.errors.CODES`")
    message: str = Field(description="what is wrong, what is allowed, the nearest names")


class CheckResult(_Output):
    """`mores check FILE --json`; the errors are also on standard error."""

    file: str = Field(description="the file")
    ok: bool = Field(description="whether there are no problems")
    problems: list[CheckProblem] = Field(description="errors")
    arms: int | None = Field(default=None, description="number of arms; null if there are problems")
    sweep_points: int | None = Field(
        default=None, description="number of points of the sweep; null if there are problems"
    )
    replicates: int | None = Field(
        default=None, description="number of replicates; null if there are problems"
    )
    rounds: int | None = Field(
        default=None, description="number of rounds; null if there are problems"
    )
    claims: int | None = Field(
        default=None, description="number of claims; null if there are problems"
    )
    remarks: list[str] = Field(default=[], description="facts that the author may not expect")
    warnings: list[str] = Field(default=[], description="claims that cannot hold")
    requests: float | None = Field(
        default=None, description="estimated number of requests to language models"
    )
    prompt_tokens: float | None = Field(default=None, description="estimated tokens of prompts")
    reply_tokens: float | None = Field(default=None, description="upper bound of generated tokens")
    estimate: str | None = Field(default=None, description="the three numbers in words")


class PointVerdict(_Output):
    """The verdict on a claim at a point of a sweep."""

    point: dict[str, Any] = Field(description="the swept parameters by path")
    verdict: str = Field(description="`holds`, `fails`, `undecided` or `report`")
    estimate: float | None = Field(description="estimate")
    low: float | None = Field(description="lower end of the interval")
    high: float | None = Field(description="upper end of the interval")


class ClaimVerdict(_Output):
    """The verdict on a claim; `claims.json` in the folder of the run has more."""

    statement: str = Field(description="what is claimed")
    kind: str = Field(description="kind of the claim")
    metric: str = Field(description="its metric")
    arm: str | None = Field(description="its arm")
    compare_to: str | None = Field(description="the arm that it is compared to")
    source: str | None = Field(description="source of this claim; null: that of the scenario")
    verdict: str = Field(description="`holds`, `fails`, `undecided` or `report`")
    adjusted_verdict: str = Field(description="adjusted for all statistical claims of the file")
    reason: str = Field(description="the reason of the verdict")
    warning: str | None = Field(description="why the interval may cover less than its level")
    estimate: float | None = Field(description="estimate; over a sweep, at `point`")
    low: float | None = Field(description="lower end of the interval")
    high: float | None = Field(description="upper end of the interval")
    level: float = Field(description="level of the interval")
    n: int = Field(description="number of replicates, or of what else the interval is over")
    point: dict[str, Any] = Field(
        description="the sweep point with the worst verdict (among these, closest to the bound or "
        "furthest beyond it), by path; without a bound, the first"
    )
    points: list[PointVerdict] = Field(
        default=[],
        description="the verdicts over a sweep: at each point, with `monotone_in` at each step",
    )


class RunReport(_Output):
    """`mores run`, `resume` and `extend` with `--json`."""

    scenario: str = Field(description="name of the scenario")
    folder: str | None = Field(description="folder of the run; null if it was temporary")
    report: str | None = Field(description="path of the report; null if it was temporary")
    failed: bool = Field(description="whether a claim fails")
    undecided: bool = Field(description="whether a claim is undecided")
    claims: list[ClaimVerdict] = Field(description="verdicts, in the order of the file")


class RunReports(_Output):
    """`mores claims --run --json`."""

    runs: list[RunReport] = Field(description="one for each scenario")


class ListedClaim(ScenarioClaim):
    """A claim with its last verdict."""

    verdict: str | None = Field(
        description="last verdict; `changed since`: the claim was edited after that run; "
        "`unknown`: the run's files hold no verdict that mores writes; null: not run"
    )


class ListedScenario(_Output):
    """A scenario with its claims."""

    scenario: str = Field(description="name of the scenario")
    source: str | None = Field(description="the paper")
    last_run: str | None = Field(description="folder of the newest finished run under `runs/`")
    claims: list[ListedClaim] = Field(description="claims, in the order of the file")


class ClaimListing(_Output):
    """`mores claims --json`."""

    scenarios: list[ListedScenario] = Field(description="scenarios")


def run_report(result: RunResult, is_temporary: bool = False) -> RunReport:
    """The output of a run that has finished.

    Args:
        result: the run.
        is_temporary: whether its folder is deleted.
    """
    return RunReport(
        scenario=result.scenario.name,
        folder=None if is_temporary else str(result.folder),
        report=None if is_temporary else str(result.report_path),
        failed=result.failed,
        undecided=result.undecided,
        claims=[_claim_verdict(verdict) for verdict in result.verdicts],
    )


def _claim_verdict(verdict: Verdict) -> ClaimVerdict:
    claim, estimate = verdict.claim, verdict.estimate
    return ClaimVerdict(
        statement=claim.statement,
        kind=claim.kind,
        metric=claim.metric,
        arm=verdict.arm or None,
        compare_to=claim.compare_to,
        source=claim.source,
        verdict=verdict.status,
        adjusted_verdict=verdict.adjusted_status,
        reason=verdict.reason,
        warning=verdict.warning or None,
        estimate=estimate.value,
        low=estimate.low,
        high=estimate.high,
        level=verdict.level,
        n=estimate.n,
        point=dict(verdict.point),
        points=[
            PointVerdict(
                point=dict(at.point),
                verdict=at.status,
                estimate=at.estimate.value,
                low=at.estimate.low,
                high=at.estimate.high,
            )
            for at in verdict.at_points
            if len(verdict.at_points) > 1
        ],
    )
