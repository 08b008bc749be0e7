"""How an experiment is laid out: its stages, parameters that are uncertain, what is fitted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mores.experiments.scenario.base_models import (
    FieldValueError,
    NameList,
    OverrideMap,
    Range,
    ShortName,
    StrictModel,
    check_range,
)

StageLoop = Literal["rollout", "train", "fit_offline", "search"]


class Stage(StrictModel):
    """A part of an experiment in which the same roles learn, or nobody does.

    Every stage has people and draws of its own; what players have learned goes on into the next
    one. In arms that lack a role that is to learn, or whose player does not learn, nobody learns.

    A stage may have other players than the one before, or the same with other parameters
    (`players.assistant.kind: dpo`, `players.assistant.learning_rate: 0.01`). What was learned goes
    on to the new player where both keep it alike: their classes have `again` from a common one.
    Else the new player starts anew, and the earlier one finds its own where it comes back. A player
    that an arm names whole (`players.assistant: {kind: silent}`) stays that arm's in every stage.
    Where an arm and a stage set the same parameter, the stage's own value counts in that stage, and
    the arm's in all others.
    """

    name: ShortName = Field(description="what claims and tables call it")
    loop: StageLoop = Field(
        default="rollout",
        description="play: nobody learns; improve: from reward, as they act; fit: from what was "
        "recorded of their role in the stages before; assist: nobody learns, and players that "
        "can search when they decide do",
    )
    roles_to_train: NameList = Field(default_factory=list, description="roles whose players learn")
    dataset_stages: NameList = Field(
        default_factory=list,
        description="fit: the stages whose record is learned from; default: all before",
    )
    episodes: int = Field(
        default=1, ge=1, le=100_000, description="played one after another, people anew in each"
    )
    rounds: int | None = Field(
        default=None, ge=1, le=1_000_000, description="of an episode; default: the scenario's"
    )
    env: OverrideMap = Field(
        default_factory=dict,
        description="what differs in the environment, as dotted paths `env.NAME`; where nothing is "
        "said, a stage of fit stands in the environment of its record",
    )
    policies: OverrideMap = Field(
        default_factory=dict,
        description="what differs in the players, as dotted paths `players.ROLE` or "
        "`policies.ROLE.NAME`; null: the environment's baseline plays",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Stage:
        if self.loop in ("train", "fit_offline") and not self.roles_to_train:
            message = f"{self.loop}: name the roles that learn"
            raise FieldValueError("roles_to_train", message=message, code="missing")
        if self.dataset_stages and self.loop != "fit_offline":
            message = f"goes with loop fit, and this one is {self.loop}"
            raise FieldValueError("record", message=message, code="conflict")
        if "record" in self.model_fields_set and not self.dataset_stages:
            raise FieldValueError(
                "record", message="names no stage; leave it out, and all before are meant"
            )
        if self.loop in ("rollout", "search") and self.roles_to_train:
            message = f"nobody learns in a stage that is {self.loop}"
            raise FieldValueError("roles_to_train", message=message, code="conflict")
        return self

    @property
    def trains_policies(self) -> bool:
        """Somebody may learn in it."""
        return self.loop in ("train", "fit_offline")


class Sensitivity(StrictModel):
    """Which of the uncertain parameters carries a result, in the last stage.

    For an arm that sets one of them itself, that one does nothing.
    """

    method: Literal["sobol", "morris"] = Field(
        default="morris", description="variance shares, or mean absolute elementary effects"
    )
    num_samples: int | None = Field(
        default=None,
        ge=2,
        le=100_000,
        description="morris: paths, 8 by default; sobol: base points, a power of 2, 64 by default",
    )
    metric: str = Field(description="the result")
    arm: str | None = Field(default=None, description="in which arm; default: the only one")
    compare_to: str | None = Field(default=None, description="another arm, which is taken off")
    at_round: int | None = Field(
        default=None, ge=0, description="after how many rounds; default: at the end"
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> Sensitivity:
        if self.method == "sobol" and self.num_samples_or_default & (
            self.num_samples_or_default - 1
        ):
            raise FieldValueError("size", message="sobol: must be a power of 2")
        return self

    @property
    def num_samples_or_default(self) -> int:
        """Base points, or paths."""
        return self.num_samples or (64 if self.method == "sobol" else 8)


class Uncertainty(StrictModel):
    """Parameters that are not known: how far findings depend on them.

    Arms are played again at points drawn evenly from the ranges (a Latin hypercube), all arms at
    the same points. A claim whose interval covers parameters must hold over them.
    """

    parameters: dict[str, Range] = Field(
        min_length=1, description="dotted paths, and the range [low, high] of each"
    )
    draws: int = Field(default=39, ge=39, le=10_000, description="points drawn from the ranges")
    replicates: int = Field(default=4, ge=1, le=10_000, description="at each point")
    sensitivity: Sensitivity | None = Field(
        default=None, description="which of the parameters carries a result"
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Uncertainty:
        for path, given in self.parameters.items():
            check_range(given, "parameters", path)
        return self


class Target(StrictModel):
    """A figure of the real world that a measure should come to, in the last stage."""

    statement: str = Field(min_length=1, description="the figure in words")
    metric: str = Field(description="which measure is to come to it")
    value: float = Field(ge=-1e30, le=1e30, description="the figure")
    standard_error: float | None = Field(
        default=None,
        gt=0,
        le=1e30,
        description="its standard error; default: as much as one replicate varies, which is "
        "right where a replicate is a study of the same size",
    )
    arm: str | None = Field(default=None, description="in which arm; default: the control")
    compare_to: str | None = Field(default=None, description="another arm, which is taken off")
    at_round: int | None = Field(
        default=None, ge=0, description="after how many rounds; default: at the end"
    )
    held_out: bool = Field(default=False, description="predicted, and not fitted")
    source: str | None = Field(default=None, description="where the figure is from")


class Calibration(StrictModel):
    """What is fitted to what: `mores calibrate` fits the parameters to the targets."""

    parameters: Annotated[dict[str, Range], Field(min_length=1)] = Field(
        description="dotted paths, and the range [low, high] that is searched"
    )
    targets: Annotated[list[Target], Field(min_length=1)] = Field(
        description="figures to be met, or held out"
    )

    @model_validator(mode="after")
    def _check_targets(self) -> Calibration:
        for path, given in self.parameters.items():
            check_range(given, "parameters", path)
        fitted = sum(not target.held_out for target in self.targets)
        if fitted < len(self.parameters):
            raise FieldValueError(
                "targets",
                message=f"{fitted} figures to fit are too few for {len(self.parameters)} "
                "parameters",
                code="conflict",
            )
        return self
