"""What a scenario file may say. Data only: nothing in it is evaluated or imported.

The parameters of an environment, a player or a population are checked by the class that `kind`
names, when the scenario is expanded into cells (`mores.experiments.scenario.expansion`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mores.core.errors import did_you_mean
from mores.experiments.scenario.base_models import (
    SCENARIO_NAME_PATTERN,
    ComponentSpec,
    FieldValueError,
    NameList,
    OverrideMap,
    ShortName,
    StrictModel,
)
from mores.experiments.scenario.stages import Calibration, Stage, Uncertainty


class Bound(StrictModel):
    """Where the estimate must lie. Exactly one of the four is given."""

    above: float | None = Field(default=None, description="holds if the interval lies above this")
    below: float | None = Field(default=None, description="holds if the interval lies below this")
    within: tuple[float, float] | None = Field(
        default=None, description="holds if it lies in [low, high]"
    )
    differs_from: float | None = Field(
        default=None,
        description="holds if the interval is further from this than the smallest effect; "
        "fails if it is nearer throughout",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Bound:
        given = [
            n for n in ("above", "below", "within", "differs_from") if getattr(self, n) is not None
        ]
        if len(given) != 1:
            message = "give one of above, below, within, differs_from"
            raise FieldValueError(message=message, code="conflict" if given else "missing")
        if self.within is not None and self.within[0] > self.within[1]:
            raise FieldValueError("within", message="the first number must not exceed the second")
        return self


DEFAULT_STAGE = "rollout"  # name of the stage where a scenario has none

ClaimKind = Literal[
    "exact", "statistical", "learned", "reward_implied", "by_construction", "report"
]


class Claim(StrictModel):
    """A finding that a run confirms or not.

    A claim of kind `learned` says that training brought something about. It names an `ablation`, an
    arm from which what is learned from was taken (no reward, shuffled feedback, a player that does
    not learn). It holds if its interval lies in the bound, and the finding is gone in that arm: the
    same figure there, less the same `compare_to` or `prediction`, fails the bound; or it is undecided
    there, and the interval of the difference between the two arms, paired by replicate, leaves out
    0. Where both arms show the finding the claim fails; where they cannot be told apart it is
    undecided. The difference is asked for because an interval that is too long to hold shows
    nothing gone: without it, a finding that training has no part in would pass as learned in about
    a quarter of experiments, where each of two independent arms finds it in half. The n is the
    number of independent trainings, one a replicate: worlds of a replicate share its learners, and
    more of them, or more episodes, are not more trainings.

    It fails if nobody in its arm ever made an update: there nothing was learned.

    Trainings that stopped early, for numbers that are none, count as they are: to leave them out
    would be to choose among results. The claim's line says how many of the n did.
    """

    statement: str = Field(min_length=1, description="the finding in a sentence")
    kind: ClaimKind = Field(
        description="exact: every replicate must lie in the bound; statistical: the interval must; "
        "learned: the interval must, and must not in the ablation; "
        "reward_implied: the interval must, around what an exact solver of the payoffs predicts; "
        "by_construction: the interval must, and it follows from what was put in by hand; "
        "report: a figure without a verdict"
    )
    metric: str = Field(description="what is compared")
    arm: str | None = Field(
        default=None, description="in which arm; default: the control, or the only one"
    )
    compare_to: str | None = Field(
        default=None,
        description="another arm: its statistic is taken off, paired by replicate",
    )
    ablation: str | None = Field(
        default=None,
        description="of a learned claim: the arm in which the finding must vanish",
    )
    analytic: str | None = Field(
        default=None, description="a formula that the environment publishes: its value is taken off"
    )
    relative: bool = Field(default=False, description="divide by what was taken off")
    statistic: Literal["mean", "median", "rms", "sd"] = Field(
        default="mean", description="over replicates; rms is the root of the mean square"
    )
    at_round: int | None = Field(
        default=None, ge=0, description="after how many rounds; default: at the end"
    )
    bound: Bound | None = Field(
        default=None, description="where the estimate must lie; none for a report"
    )
    smallest_effect: float = Field(default=0.0, ge=0, description="smallest difference of interest")
    stage: str | None = Field(
        default=None, description="in which stage, averaged over its episodes; default: the last"
    )
    interval: Literal["monte_carlo", "people", "parameters"] = Field(
        default="monte_carlo",
        description="what the interval covers: replicates; respondents resampled; parameters "
        "drawn from the ranges under `uncertainty`",
    )
    source: str | None = Field(
        default=None, description="where the finding is from: arXiv id, section"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Claim:
        if (self.bound is None) != (self.kind == "report"):
            message = "every claim but a report needs a bound, and a report has none"
            raise FieldValueError(
                message=message, code="missing" if self.bound is None else "conflict"
            )
        if self.compare_to is not None and self.analytic is not None:
            message = "compare with another arm or a prediction, not with both"
            raise FieldValueError("analytic", message=message, code="conflict")
        if self.kind == "learned" and self.ablation is None:
            message = "learned: name the ablation, an arm in which it must vanish"
            raise FieldValueError("kind", message=message, code="missing")
        if self.ablation is not None and self.kind != "learned":
            message = "goes with claims of kind learned, and no others"
            raise FieldValueError("ablation", message=message, code="conflict")
        if self.ablation is not None and self.ablation in (self.arm, self.compare_to):
            what = "the arm itself" if self.ablation == self.arm else "what is taken off"
            message = f"is {what}: what is left there says nothing"
            raise FieldValueError("ablation", message=message, code="conflict")
        if self.kind == "reward_implied" and self.analytic is None:
            message = "reward_implied: name the prediction of the exact solver"
            raise FieldValueError("kind", message=message, code="missing")
        if self.relative and self.compare_to is None and self.analytic is None:
            message = "needs something to compare with: against or prediction"
            raise FieldValueError("relative", message=message, code="missing")
        if self.smallest_effect and (self.bound is None or self.bound.differs_from is None):
            message = "goes with a bound differs_from, and no other"
            raise FieldValueError("smallest_effect", message=message, code="conflict")
        if self.interval == "people" and self.statistic != "mean":
            message = "people: only for a mean over resampled respondents"
            raise FieldValueError("interval", message=message, code="conflict")
        if self.interval == "parameters" and (self.statistic != "mean" or self.kind == "exact"):
            message = "parameters: only for a mean, and not for an exact claim"
            raise FieldValueError("interval", message=message, code="conflict")
        return self


class Scenario(StrictModel):
    """An experiment: an environment, who plays in it, conditions, measures and claims."""

    name: str = Field(
        pattern=SCENARIO_NAME_PATTERN, max_length=60, description="name of the run's folder"
    )
    about: str = Field(min_length=1, description="what it shows, in a sentence or two")
    source: str | None = Field(default=None, description="the paper: arXiv id")
    construct_: Literal["belief", "attitude", "ideology", "value"] | None = Field(
        default=None, alias="construct", description="what the moving numbers stand for"
    )
    env: ComponentSpec = Field(description="the environment and its parameters")
    population: ComponentSpec | None = Field(
        default=None, description="the population; default: the environment's own"
    )
    policies: dict[str, ComponentSpec] = Field(
        default_factory=dict, description="by role; default: the environment's baseline"
    )
    rounds: int = Field(ge=1, le=1_000_000, description="rounds of an episode")
    replicates: int = Field(
        default=1, ge=1, le=1_000_000, description="independent repetitions: the n"
    )
    worlds: int = Field(
        default=1, ge=1, le=1_000_000, description="parallel copies inside a replicate"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="of all random draws")
    arms: dict[ShortName, OverrideMap] = Field(
        default_factory=dict,
        description="conditions on shared draws: by name, what differs, as dotted paths",
    )
    control: str | None = Field(default=None, description="the arm that others are compared with")
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="dotted paths and their values: every combination is run"
    )
    metrics: NameList = Field(min_length=1, description="what is recorded")
    record_every: int = Field(
        default=1, ge=1, description="record at every so many rounds, and where claims look"
    )
    sample_worlds: int = Field(
        default=1, ge=0, description="worlds whose people are kept for pictures"
    )
    stages: list[Stage] = Field(
        default_factory=list, description="one after another; default: one, nobody learns"
    )
    uncertainty: Uncertainty | None = Field(
        default=None, description="parameters that are not known, and their ranges"
    )
    calibration: Calibration | None = Field(
        default=None, description="parameters fitted to figures of the real world"
    )
    claims: list[Claim] = Field(default_factory=list, description="findings to be confirmed")

    @model_validator(mode="after")
    def _check_arms(self) -> Scenario:
        if self.control is not None and self.control not in self.arms:
            near = did_you_mean(self.control, self.arms) or "; there are no arms"
            message = f"there is no arm {self.control!r}{near}"
            raise FieldValueError("control", message=message, code="unknown_name")
        for i, claim in enumerate(self.claims):
            stage = next(
                (s for s in self.stages_or_default if s.name == claim.stage),
                self.stages_or_default[-1],
            )
            if self.worlds == stage.episodes == 1:
                continue
            one = "is over replicates of one world and one episode: not worlds or episodes > 1"
            if claim.statistic != "mean" and claim.kind != "exact":
                message = f"{claim.statistic} {one}"
                raise FieldValueError("claims", i, "statistic", message=message, code="conflict")
            if claim.interval == "people":  # every world and episode draws respondents anew
                raise FieldValueError(
                    "claims", i, "interval", message=f"people {one}", code="conflict"
                )
        for i, name in enumerate(self.metrics):
            if name in self.metrics[:i]:
                raise FieldValueError(
                    "metrics", i, message=f"{name!r} is listed twice", code="duplicate"
                )
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> Scenario:
        names = [stage.name for stage in self.stages]
        for i, name in enumerate(names):
            if name in names[:i]:
                message = f"there are two stages {name!r}"
                raise FieldValueError("stages", i, "name", message=message, code="duplicate")
        for i, stage in enumerate(self.stages):
            played = [earlier.name for earlier in self.stages[:i] if earlier.loop != "fit_offline"]
            for j, name in enumerate(stage.dataset_stages):
                if name not in played:
                    near = did_you_mean(name, played) or "; nobody played before"
                    message = f"no stage {name!r} was played before{near}"
                    raise FieldValueError(
                        "stages", i, "record", j, message=message, code="unknown_name"
                    )
        for i, claim in enumerate(self.claims):
            if claim.stage is not None and claim.stage not in (names or [DEFAULT_STAGE]):
                near = did_you_mean(claim.stage, names) or "; there are no stages"
                message = f"there is no stage {claim.stage!r}{near}"
                raise FieldValueError("claims", i, "stage", message=message, code="unknown_name")
            if claim.interval == "parameters" and self.uncertainty is None:
                message = "parameters: name their ranges under uncertain.parameters"
                raise FieldValueError("claims", i, "interval", message=message, code="missing")
        for i, claim in enumerate(self.claims):
            if claim.kind == "learned" and not any(
                s.trains_policies for s in self.stages_through(claim.stage)
            ):
                where = f" up to {claim.stage}" if claim.stage else ""
                message = f"learned: nobody learns in any stage{where}"
                raise FieldValueError("claims", i, "kind", message=message, code="not_trained")
        if self.uncertainty is not None and self.sweep:
            message = "does not go with a sweep: leave one of them out"
            raise FieldValueError("uncertainty", message=message, code="conflict")
        return self

    @property
    def stages_or_default(self) -> tuple[Stage, ...]:
        """The stages, or the one there is where none are named."""
        return tuple(self.stages) or (Stage(name=DEFAULT_STAGE),)

    def stage(self, name: str | None) -> Stage:
        """The stage of that name; the last where none is given."""
        return (
            self.stages_or_default[-1]
            if name is None
            else next(s for s in self.stages_or_default if s.name == name)
        )

    def stages_through(self, name: str | None) -> tuple[Stage, ...]:
        """The stages up to that one, it included; all where none is named."""
        return self.stages_or_default[: self.stages_or_default.index(self.stage(name)) + 1]

    def rounds_per_episode(self, stage: Stage) -> int:
        """Rounds of an episode of a stage."""
        return self.rounds if stage.rounds is None else stage.rounds
