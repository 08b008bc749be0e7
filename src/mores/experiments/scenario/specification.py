"""Pydantic models of a scenario file. It is data: nothing in it is evaluated or imported.

The class that `kind` names checks the parameters of an environment, a policy or a population,
when the scenario is expanded into cells (`mores.experiments.scenario.expansion`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from mores.core.errors import ParameterError, did_you_mean
from mores.experiments.scenario.base_models import (
    SCENARIO_NAME_PATTERN,
    ComponentSpec,
    OverrideMap,
    ShortName,
    StrictModel,
    as_list,
    check_distinct,
    conflict,
    kind_completion,
    missing,
    unknown,
)
from mores.experiments.scenario.recording import TrajectoryOptions
from mores.experiments.scenario.stages import Calibration, Stage, Uncertainty


class Bound(StrictModel):
    """Required location of an estimate. Exactly one key is given."""

    above: float | None = Field(default=None, description="holds if the interval lies above it")
    below: float | None = Field(default=None, description="holds if the interval lies below it")
    within: tuple[float, float] | None = Field(
        default=None, description="holds if the interval lies in [low, high]"
    )
    differs_from: float | None = Field(
        default=None,
        description="holds if the whole interval is further from it than smallest_effect; "
        "fails if the whole interval is nearer",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Bound:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = "exactly one of above, below, within, differs_from"
            raise (conflict if given else missing)(f"give {names}")
        if self.within is not None and self.within[0] > self.within[1]:
            raise ParameterError("within", message="low must not exceed high")
        return self


class MetricEntry(ComponentSpec):
    """A registered metric with parameters, under a name of its own."""

    name: str | None = Field(
        default=None,
        pattern=SCENARIO_NAME_PATTERN,
        max_length=60,
        description="name in claims and results; default: the kind",
    )


def _metric_form(value: Any) -> str:
    return "entry" if isinstance(value, (Mapping, MetricEntry)) else "name"


MetricItem = Annotated[
    Annotated[str, Tag("name")] | Annotated[MetricEntry, Tag("entry")], Discriminator(_metric_form)
]
MetricList = Annotated[
    list[MetricItem], BeforeValidator(as_list, json_schema_input_type=str | list[MetricItem])
]


def metric_name(metric: str | MetricEntry) -> str:
    """Name of a metric in claims and results."""
    return metric if isinstance(metric, str) else metric.name or metric.kind


DEFAULT_ARM = "main"  # name of the arm in a scenario without arms
DEFAULT_STAGE = "rollout"  # name of the stage in a scenario without stages
MAX_ENTRIES = 1000  # metrics; stages: the time of a check grows with their number
MAX_FIGURES = 50

ClaimKind = Literal[
    "exact", "statistical", "learned", "persona", "reward_implied", "by_construction", "report"
]


class StatedBelief(StrictModel):
    """Arms whose prompts state a belief: the positive control of a persona claim."""

    verbatim: str = Field(
        description="arm whose prompt states the belief in the words of the answer"
    )
    paraphrased: str = Field(description="arm whose prompt states the belief in other words")


class Claim(StrictModel):
    """A statement about a metric, which a run supports or not.

    A claim of kind `learned` states that training on a signal causes the finding. It names an
    `ablation`: an arm that trains in the same way on a signal without information (rewards of
    random completions, random binary labels, one bit in place of words). An untrained policy is a
    weaker ablation, since it also removes the effects of training that do not depend on the signal.
    The claim holds if its interval lies in the bound and the finding vanishes in the ablation. The
    finding vanishes if the same statistic of the ablation, less the same `compare_to` or
    `analytic`, fails the bound. It also vanishes if that is undecided and the interval of the
    difference between the two arms, paired by replicate, excludes 0. The claim fails if both arms
    show the finding, and is undecided if the arms cannot be distinguished. The difference is
    required because a wide interval does not show absence: without it, a finding independent of
    training would pass as learned in about a quarter of experiments, if each of two independent
    arms shows it in half of them. n is the number of independent trainings, one per replicate:
    worlds of a replicate share its learners, and more worlds or episodes do not add trainings.

    A learned claim fails if no policy of its arm made an update.

    A claim of kind `persona` states that personas move the answers of a language model. Its metric
    belongs to an environment such as `survey`, which asks every question in both orders of the
    options and in two wordings or more. It names the two arms of a positive control,
    `stated_belief`. The claim is undecided, whatever its interval, if an order, a wording or the
    control is missing, or if the interval of the metric `belief_effect` does not lie above 0 in
    both arms of the control: a readout that does not follow a stated belief measures no attitude.
    The verdict line also reports the shares of variance with the persona and with the order. The
    scenario lists the metrics `num_orders`, `num_templates`, `persona_total_share`,
    `order_total_share` and `belief_effect` (the last three with `_nats` if the claim's metric has
    it).

    Trainings that stopped early, because of values that are not finite, are included: their
    exclusion would select among results. The verdict line states how many of the n stopped.
    """

    statement: str = Field(min_length=1, description="the finding in one sentence")
    kind: ClaimKind = Field(
        description="exact: every replicate lies in the bound; statistical: the interval does; "
        "learned: the interval does, and the finding vanishes in the ablation; "
        "persona: the interval does, and the audit of order, wording and stated beliefs is passed; "
        "reward_implied: the interval does, around the prediction of an exact payoff solver; "
        "by_construction: the interval does, and the result follows from values set by hand; "
        "report: an estimate without a verdict"
    )
    metric: str = Field(description="metric to compare")
    arm: str | None = Field(default=None, description="arm; default: the control, or the only arm")
    compare_to: str | None = Field(
        default=None,
        description="another arm, whose statistic is subtracted, paired by replicate",
    )
    references: tuple[str, str] | None = Field(
        default=None,
        description="two arms, for a difference in differences: the first is subtracted from arm "
        "(and from the ablation), the second from compare_to",
    )
    ablation: str | None = Field(
        default=None,
        description="learned claims only: the arm in which the finding must vanish",
    )
    stated_belief: StatedBelief | None = Field(
        default=None,
        description="persona claims only: the arms of the positive control",
    )
    analytic: str | None = Field(
        default=None,
        description="name of an analytic value of the environment, which is subtracted",
    )
    relative: bool = Field(
        default=False, description="divide the difference by the subtracted value"
    )
    statistic: Literal["mean", "median", "rms", "sd"] = Field(
        default="mean", description="statistic over replicates; rms: root mean square"
    )
    at_round: int | None = Field(
        default=None, ge=0, description="completed rounds; default: the end of the episode"
    )
    bound: Bound | None = Field(
        default=None, description="required location of the estimate; none for a report"
    )
    smallest_effect: float = Field(default=0.0, ge=0, description="smallest difference of interest")
    stage: str | None = Field(
        default=None, description="stage, averaged over its episodes; default: the last"
    )
    interval: Literal["monte_carlo", "people", "components", "parameters"] = Field(
        default="monte_carlo",
        description="what the interval covers. monte_carlo: replicates; people: resampled "
        "respondents; components: those of a vector metric, such as the questions of a survey, "
        "each averaged over replicates; parameters: points sampled from the ranges under "
        "`uncertainty`",
    )
    every_replicate: bool = Field(
        default=False,
        description="by_construction and reward_implied only: every replicate must lie in the "
        "bound, as in an exact claim, and there is no interval",
    )
    slope_in: str | None = Field(
        default=None,
        description="dotted path in sweep: the claim is about the least squares slope of the "
        "metric on this parameter, per replicate",
    )
    monotone_in: str | None = Field(
        default=None,
        description="dotted path in sweep: the claim is about the change between consecutive "
        "values of this parameter, and must hold for all",
    )
    headline: bool = Field(
        default=False,
        description="the claim of the report's first sentence; default: the first claim that "
        "rests on an interval",
    )
    source: str | None = Field(default=None, description="source of the finding: arXiv id, section")

    @property
    def checks_every_replicate(self) -> bool:
        """Whether every replicate must lie in the bound; else an interval over replicates."""
        return self.kind == "exact" or self.every_replicate

    @model_validator(mode="after")
    def _check_consistency(self) -> Claim:
        subtracts = self.compare_to is not None or self.analytic is not None
        if (self.bound is None) != (self.kind == "report"):
            error = missing if self.bound is None else conflict
            raise error("a report has no bound; every other claim needs one")
        if self.compare_to is not None and self.analytic is not None:
            raise conflict("give compare_to or analytic, not both", "analytic")
        if self.kind == "learned" and self.ablation is None:
            message = "learned: name the ablation, the arm in which the finding must vanish"
            raise missing(message, "kind")
        if self.ablation is not None and self.kind != "learned":
            raise conflict("is allowed for claims of kind learned only", "ablation")
        for key in ("arm", "compare_to"):
            if self.ablation is not None and self.ablation == getattr(self, key):
                hint = ": leave it out, the two are compared anyway" if key == "compare_to" else ""
                raise conflict(f"must differ from {key}{hint}", "ablation")
        if self.stated_belief is not None and self.kind != "persona":
            raise conflict("is allowed for claims of kind persona only", "stated_belief")
        if self.kind == "persona" and self.interval == "parameters":
            raise conflict("parameters: not for claims of kind persona", "interval")
        if self.interval == "components" and (
            self.statistic != "mean"
            or self.checks_every_replicate
            or self.analytic is not None
            or self.references is not None
            or self.kind == "learned"
        ):
            message = (
                "components: the statistic must be mean, the claim neither exact nor learned, "
            )
            raise conflict(message + "without analytic and references", "interval")
        if self.kind == "reward_implied" and self.analytic is None:
            raise missing("reward_implied: name the value of the exact solver as analytic", "kind")
        if self.relative and not subtracts:
            raise missing("needs compare_to or analytic", "relative")
        if self.references is not None and self.compare_to is None:
            raise missing("needs compare_to: the second is subtracted from it", "references")
        if self.references is not None and self.relative:
            raise conflict("not with relative: the difference of two changes", "references")
        if self.smallest_effect and (self.bound is None or self.bound.differs_from is None):
            raise conflict("needs a bound with differs_from", "smallest_effect")
        if self.interval == "people" and self.statistic != "mean":
            raise conflict("people: the statistic must be mean", "interval")
        if self.interval == "parameters" and (
            self.statistic != "mean" or self.checks_every_replicate
        ):
            message = "parameters: the statistic must be mean, and the claim not exact"
            raise conflict(message, "interval")
        if self.every_replicate and self.kind not in ("by_construction", "reward_implied"):
            raise conflict("is for by_construction and reward_implied", "every_replicate")
        if self.slope_in is not None and self.monotone_in is not None:
            raise conflict("give slope_in or monotone_in, not both", "monotone_in")
        return self


class Scenario(StrictModel):
    """An experiment: environment, population, policies, stages, arms, metrics and claims."""

    name: str = Field(
        pattern=SCENARIO_NAME_PATTERN,
        max_length=60,
        description="name of the scenario and of the run folder",
    )
    about: str = Field(min_length=1, description="summary in one or two sentences")
    source: str | None = Field(default=None, description="source paper: arXiv id")
    construct_: Literal["belief", "attitude", "ideology", "value"] | None = Field(
        default=None, alias="construct", description="construct that the values represent"
    )
    env: Annotated[ComponentSpec, kind_completion("environment")] = Field(
        description="environment and its parameters"
    )
    population: Annotated[ComponentSpec, kind_completion("population")] | None = Field(
        default=None,
        description="population, which gives the people; default: that of the environment",
    )
    policies: dict[str, Annotated[ComponentSpec, kind_completion("policy")]] = Field(
        default_factory=dict,
        description="policy by role; default: the default policies of the environment",
    )
    rounds: int = Field(ge=1, le=1_000_000, description="rounds per episode")
    replicates: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="number of independent repetitions: n of every interval",
    )
    worlds: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="parallel copies of the environment in a replicate, with the same learners",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of all random numbers")
    arms: dict[ShortName, OverrideMap] = Field(
        default_factory=dict,
        description="conditions with common random numbers: overrides as dotted paths, by name",
    )
    control: str | None = Field(default=None, description="arm that the others are compared with")
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="values by dotted path: full factorial design (grid)"
    )
    metrics: MetricList = Field(
        min_length=1,
        max_length=MAX_ENTRIES,
        description="metrics to record: names, or {kind, parameters} with `name` as its name",
    )
    record_every: int = Field(
        default=1,
        ge=1,
        description="interval of records, in rounds; rounds of claims are recorded too",
    )
    trajectory: TrajectoryOptions = Field(
        default=TrajectoryOptions(),
        description="people stored over rounds, also for figures: see below",
    )
    stages: list[Stage] = Field(
        default_factory=list,
        max_length=MAX_ENTRIES,
        description="stages in order; default: one rollout, no training",
    )
    uncertainty: Uncertainty | None = Field(
        default=None, description="uncertain parameters and their ranges; not with a sweep"
    )
    calibration: Calibration | None = Field(
        default=None, description="parameters to fit to empirical targets"
    )
    claims: list[Claim] = Field(default_factory=list, description="findings to test")
    figures: list[Annotated[ComponentSpec, kind_completion("figure")]] = Field(
        default_factory=list,
        max_length=MAX_FIGURES,
        description="figures at the start of the report, in order (see `mores list`); not with "
        "a sweep",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Scenario:
        if self.control is not None and self.control not in self.arms:
            raise unknown("arm", self.control, self.arms, "control")
        check_distinct(self.metric_names, "{!r} is listed twice", "metrics")
        stages = {stage.name: stage for stage in self.stages_or_default}
        names = [stage.name for stage in self.stages]
        check_distinct(names, "there are two stages named {!r}", "stages", key="name")
        recorded: list[str] = []  # stages before
        for i, stage in enumerate(self.stages):
            for j, name in enumerate(stage.dataset_stages):
                if name not in recorded:
                    near = did_you_mean(name, recorded) or "; no stage before has any"
                    message = f"no earlier stage {name!r} with recorded episodes{near}"
                    path = ("stages", i, "dataset_stages", j)
                    raise ParameterError(*path, message=message, code="unknown_name")
            if stage.loop != "fit_offline":
                recorded.append(stage.name)
        first_headline = next((i for i, claim in enumerate(self.claims) if claim.headline), None)
        for i, claim in enumerate(self.claims):
            if claim.headline and i != first_headline:
                message = f"claim {first_headline} has it already: a report has one headline"
                raise conflict(message, "claims", i, "headline")
            if claim.stage is not None and claim.stage not in stages:
                raise unknown("stage", claim.stage, names, "claims", i, "stage")
            single = self.worlds == self.stage(claim.stage).episodes == 1
            rule = "needs one world and one episode per replicate"
            exact = claim.checks_every_replicate
            if claim.statistic != "mean" and not exact and not single:
                raise conflict(f"{claim.statistic} {rule}", "claims", i, "statistic")
            if claim.interval == "people" and not single:  # each resamples the respondents
                raise conflict(f"people {rule}", "claims", i, "interval")
            if claim.interval == "parameters" and self.uncertainty is None:
                message = "parameters: state their ranges under uncertainty.parameters"
                raise missing(message, "claims", i, "interval")
            for key in ("slope_in", "monotone_in"):
                path = getattr(claim, key)
                if path is None:
                    continue
                if path not in self.sweep:
                    raise unknown("swept parameter", path, list(self.sweep), "claims", i, key)
                values = self.sweep[path]
                numeric = all(isinstance(v, (int, float)) for v in values)
                if not numeric or len(set(values)) < 2 or any(isinstance(v, bool) for v in values):
                    raise conflict("needs two or more swept numbers", "claims", i, key)
            trains = any(stage.trains_policies for stage in self.stages_through(claim.stage))
            if claim.kind == "learned" and not trains:
                where = f" up to {claim.stage}" if claim.stage else ""
                message = f"learned: no stage{where} trains"
                raise ParameterError("claims", i, "kind", message=message, code="not_trained")
        simulated = [s for s in self.stages_or_default if s.loop != "fit_offline"]
        last = self.rounds_per_episode(simulated[-1]) if simulated else 0
        for i, number in enumerate(self.trajectory.rounds or ()):
            if simulated and number > last:
                message = f"an episode of the stage {simulated[-1].name} has {last} rounds"
                path = ("trajectory", "rounds", i)
                raise ParameterError(*path, message=message, code="out_of_range")
        if self.uncertainty is not None and self.sweep:
            raise conflict("cannot be combined with a sweep", "uncertainty")
        if self.figures and any(len(values) > 1 for values in self.sweep.values()):
            message = "cannot be combined with a sweep: list its values as arms"
            raise conflict(message, "figures")
        return self

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms, or of the default arm if the file lists none."""
        return list(self.arms) or [DEFAULT_ARM]

    @property
    def metric_names(self) -> list[str]:
        """Names of the metrics in claims and results."""
        return [metric_name(metric) for metric in self.metrics]

    @property
    def metric_specs(self) -> dict[str, str | dict[str, Any]]:
        """A name, or kind and parameters, by the name of each metric."""
        return {
            metric_name(m): m if isinstance(m, str) else {"kind": m.kind, **m.parameters}
            for m in self.metrics
        }

    @property
    def stages_or_default(self) -> tuple[Stage, ...]:
        """The stages, or the default stage if the file lists none."""
        return tuple(self.stages) or (Stage(name=DEFAULT_STAGE),)

    def stage(self, name: str | None) -> Stage:
        """The stage of that name. None: the last stage."""
        stages = self.stages_or_default
        return stages[-1] if name is None else next(s for s in stages if s.name == name)

    def stages_through(self, name: str | None) -> tuple[Stage, ...]:
        """The stages up to and including the named one. None: all stages."""
        return self.stages_or_default[: self.stages_or_default.index(self.stage(name)) + 1]

    def rounds_per_episode(self, stage: Stage) -> int:
        """Rounds per episode of a stage."""
        return self.rounds if stage.rounds is None else stage.rounds
