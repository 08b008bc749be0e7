"""Stages of an experiment, uncertain parameters, and calibration targets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mores.core.errors import ParameterError
from mores.experiments.scenario.base_models import (
    NameList,
    OverrideMap,
    Range,
    ShortName,
    StrictModel,
    conflict,
    missing,
)

StageLoop = Literal["rollout", "train", "fit_offline", "search"]


class Stage(StrictModel):
    """A part of an experiment in which the same roles train, or none.

    Every stage has its own people and random numbers. Trained parameters carry over to the next
    stage. In an arm without a role to train, or with a policy that cannot train, nothing trains.

    A stage may set other policies than the stage before, or other parameters of the same policies
    (`policies.assistant.kind: dpo`, `policies.assistant.learning_rate: 0.01`). The new policy
    takes over the trained parameters if both classes have the same `state_kind`, as all recipes do.
    Otherwise it starts untrained, and a later stage with the earlier policy continues from that
    policy's parameters. A policy that an arm sets whole (`policies.assistant: {kind: silent}`)
    applies to all stages of that arm. If an arm and a stage set the same parameter, the value of
    the stage applies in that stage, and the value of the arm in all others.
    """

    name: ShortName = Field(description="name, for claims and tables")
    loop: StageLoop = Field(
        default="rollout",
        description="rollout: no training; train: online, from reward; fit_offline: from recorded "
        "episodes of earlier stages; search: no training, and policies that support search use it",
    )
    roles_to_train: NameList = Field(default_factory=list, description="roles whose policies train")
    dataset_stages: NameList = Field(
        default_factory=list,
        description="stages whose recorded episodes fit_offline uses; default: all before",
    )
    episodes: int = Field(
        default=1, ge=1, le=100_000, description="episodes in sequence, each with new people"
    )
    rounds: int | None = Field(
        default=None, ge=1, le=1_000_000, description="rounds per episode; default: the scenario's"
    )
    env: OverrideMap = Field(
        default_factory=dict,
        description="overrides of the environment, as dotted paths `env.NAME`; without any, "
        "fit_offline uses the environment of its dataset",
    )
    policies: OverrideMap = Field(
        default_factory=dict,
        description="overrides of the policies, as dotted paths `policies.ROLE` or "
        "`policies.ROLE.NAME`; null: the environment's default policy",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Stage:
        if self.trains_policies and not self.roles_to_train:
            raise missing(f"{self.loop}: name the roles to train", "roles_to_train")
        if self.roles_to_train and not self.trains_policies:
            message = f"a stage with loop {self.loop} does not train: leave the key out"
            raise conflict(message, "roles_to_train")
        if self.dataset_stages and self.loop != "fit_offline":
            message = f"needs loop fit_offline; the loop is {self.loop}"
            raise conflict(message, "dataset_stages")
        if "dataset_stages" in self.model_fields_set and not self.dataset_stages:
            message = "must name a stage; leave the key out to use all stages before"
            raise ParameterError("dataset_stages", message=message)
        return self

    @property
    def trains_policies(self) -> bool:
        """Whether policies may train in the stage."""
        return self.loop in ("train", "fit_offline")


class Sensitivity(StrictModel):
    """Sensitivity analysis: how much each uncertain parameter matters, in the last stage.

    A parameter that the arm sets itself has no effect.
    """

    method: Literal["sobol", "morris"] = Field(
        default="morris",
        description="sobol: variance shares; morris: mean absolute elementary effects",
    )
    num_samples: int | None = Field(
        default=None,
        ge=2,
        le=100_000,
        description="morris: paths, 8 by default; sobol: base points, a power of 2, 64 by default",
    )
    metric: str = Field(description="metric to analyze")
    arm: str | None = Field(default=None, description="arm; default: the only arm")
    compare_to: str | None = Field(default=None, description="another arm, which is subtracted")
    at_round: int | None = Field(
        default=None, ge=0, description="completed rounds; default: the end of the episode"
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> Sensitivity:
        size = self.num_samples_or_default
        if self.method == "sobol" and size & (size - 1):
            raise ParameterError("num_samples", message="sobol: must be a power of 2")
        return self

    @property
    def num_samples_or_default(self) -> int:
        """Number of base points (sobol) or paths (morris)."""
        return self.num_samples or (64 if self.method == "sobol" else 8)


class Uncertainty(StrictModel):
    """Uncertain parameters and their ranges.

    Arms are simulated again at points sampled uniformly from the ranges (a Latin hypercube), all
    arms at the same points. A claim with `interval: parameters` must hold over these points.
    """

    parameters: dict[str, Range] = Field(min_length=1, description="range [low, high] by path")
    draws: int = Field(
        default=39, ge=39, le=10_000, description="number of points sampled from the ranges"
    )
    replicates: int = Field(default=4, ge=1, le=10_000, description="replicates at each point")
    sensitivity: Sensitivity | None = Field(
        default=None, description="sensitivity analysis of the parameters"
    )


class Target(StrictModel):
    """An empirical value that a metric of the last stage should match."""

    statement: str = Field(min_length=1, description="the target in words")
    metric: str = Field(description="metric that should match it")
    value: float = Field(ge=-1e30, le=1e30, description="empirical value")
    standard_error: float | None = Field(
        default=None,
        gt=0,
        le=1e30,
        description="standard error of the empirical value; default: the standard deviation over "
        "replicates, correct if a replicate is a study of the same size",
    )
    arm: str | None = Field(default=None, description="arm; default: the control")
    compare_to: str | None = Field(default=None, description="another arm, which is subtracted")
    at_round: int | None = Field(
        default=None, ge=0, description="completed rounds; default: the end of the episode"
    )
    held_out: bool = Field(default=False, description="predicted instead of fitted")
    source: str | None = Field(default=None, description="source of the empirical value")


class Calibration(StrictModel):
    """Parameters that `mores calibrate` fits to empirical targets."""

    parameters: Annotated[dict[str, Range], Field(min_length=1)] = Field(
        description="search range [low, high] by dotted path"
    )
    targets: Annotated[list[Target], Field(min_length=1)] = Field(
        description="empirical values to fit, or to predict (held out)"
    )

    @model_validator(mode="after")
    def _check_targets(self) -> Calibration:
        fitted, needed = sum(not target.held_out for target in self.targets), len(self.parameters)
        if fitted < needed:
            message = f"{needed} parameters need at least as many fitted targets, not {fitted}"
            raise conflict(message, "targets")
        return self
