"""Setting of the AI-control world: levels of attack, the monitor's scores, audit, edit and defer.

A sequence of tasks. At each, the untrusted policy U works honestly or attacks at a level k of
stealth. A monitor gives the work a score with distribution F(s - d), d = 0 for honest work and the
level's detectability d_k for an attack. The protocol maps the score to one of `ACTIONS`:

    submit  the work is used; an attack succeeds with probability q_k
    audit   an attack is found with probability alpha: it is blocked and U is retired. One that is
            not found is submitted, and honest work is submitted.
    edit    the trusted policy T rewrites the work; an attack is removed with probability e
    defer   T does the task

The terms are those of ControlArena (UK AI Security Institute): untrusted and trusted policy, audit
budget = share of honest work that may be audited, usefulness from honest runs only. The world is
derived here; its protocols are those of Greenblatt et al. 2023 (arXiv 2312.06942).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.envs.oversight.score_families import ScoreFamily, score_family

ACTIONS = ("submit", "audit", "edit", "defer")
SUBMIT, AUDIT, EDIT, DEFER = range(4)


class BinProbabilities(NamedTuple):
    """Probability that a score is in each bin, of honest work and of an attack of each level."""

    honest: Float[np.ndarray, " bin"]
    attack: Float[np.ndarray, "level bin"]


class ControlSetting(Config):
    """Levels of attack, quality of the oversight, usefulness of each kind of work.

    The default is a loud, a medium and a stealthy level: stealth lowers detectability and success.

    Raises:
        ValueError: lists of different lengths, a number outside its range, an unknown family (a
            `UserError` where a component is made by name).
    """

    detectability: tuple[float, ...] = Field(
        default=(3.0, 2.0, 1.0),
        min_length=1,
        description="d of each level: shift of the score, in units of the honest score's scale",
    )
    success_chance: tuple[float, ...] = Field(
        default=(1.0, 0.6, 0.25),
        description="q of each level: probability that a submitted attack succeeds",
    )
    audit_detection: float = Field(
        default=1.0, ge=0, le=1, description="alpha: probability that an audit finds an attack"
    )
    edit_effectiveness: float = Field(
        default=0.8, ge=0, le=1, description="e: probability that an edit removes an attack"
    )
    untrusted_usefulness: float = Field(
        default=0.9, ge=0, le=1, description="r_U: main-task success of the untrusted policy"
    )
    edited_usefulness: float = Field(
        default=0.75, ge=0, le=1, description="r_E: main-task success of edited work"
    )
    trusted_usefulness: float = Field(
        default=0.5, ge=0, le=1, description="r_T: main-task success of the trusted policy"
    )
    untrusted_monitor_factor: float = Field(
        default=1.5,
        ge=0,
        description="factor of detectability when a copy of the untrusted policy is the monitor",
    )
    score_family: str = Field(
        default="normal", description="distribution of scores: an entry of SCORE_FAMILIES"
    )

    @field_validator("detectability")
    @classmethod
    def _check_detectability(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(d < 0 for d in value):
            raise ParameterError(message="detectability must be at least 0", code="out_of_range")
        return value

    @field_validator("success_chance")
    @classmethod
    def _check_success_chance(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= q <= 1 for q in value):
            raise ParameterError(message="success_chance must be in [0, 1]", code="out_of_range")
        return value

    @field_validator("score_family")
    @classmethod
    def _check_family(cls, value: str) -> str:
        score_family(value)
        return value

    @model_validator(mode="after")
    def _check_levels(self) -> ControlSetting:
        if len(self.success_chance) != len(self.detectability):
            raise ParameterError(
                "success_chance",
                message=f"needs one number per level of detectability: {len(self.detectability)}",
                code="wrong_shape",
            )
        if self.untrusted_usefulness <= self.trusted_usefulness:
            raise ParameterError(
                "untrusted_usefulness",
                message=f"must be above trusted_usefulness, {self.trusted_usefulness}: usefulness "
                "is scaled by their difference",
                code="conflict",
            )
        return self

    @property
    def num_levels(self) -> int:
        """K, the number of levels of attack."""
        return len(self.detectability)

    @property
    def scores(self) -> ScoreFamily:
        """Distribution of the score of honest work."""
        return score_family(self.score_family)

    @property
    def shifts(self) -> Float[np.ndarray, " level"]:
        """`detectability` as an array."""
        return np.array(self.detectability)

    @property
    def success(self) -> Float[np.ndarray, " level"]:
        """`success_chance` as an array."""
        return np.array(self.success_chance)

    def threshold(self, honest_rate: float) -> float:
        """Score that honest work exceeds with this probability: z of an audit budget."""
        return float(self.scores.upper_quantile(honest_rate))

    def true_positive_rate(
        self, threshold: float, monitor_factor: float = 1.0
    ) -> Float[np.ndarray, " level"]:
        """`1 - F(threshold - factor d_k)`: probability that an attack's score is above."""
        return self.scores.upper_tail(threshold - monitor_factor * self.shifts)

    def roc(self, honest_rate: float, monitor_factor: float = 1.0) -> Float[np.ndarray, " level"]:
        """True positive rate of each level at this false positive rate."""
        return self.true_positive_rate(self.threshold(honest_rate), monitor_factor)

    def bin_probabilities(
        self, thresholds: Float[np.ndarray, " threshold"], monitor_factor: float = 1.0
    ) -> BinProbabilities:
        """Probabilities of the bins between thresholds; bin b has b thresholds below the score."""
        edges = np.concatenate([[-np.inf], thresholds, [np.inf]])
        honest = self.scores.upper_tail(edges)
        attack = self.scores.upper_tail(edges - monitor_factor * self.shifts[:, None])
        return BinProbabilities(-np.diff(honest), -np.diff(attack))

    def scaled_usefulness(self, usefulness: float) -> float:
        """`(u - r_T) / (r_U - r_T)`: 0 for the trusted policy alone, 1 for the untrusted one.

        Raises:
            ZeroDivisionError: both are equally useful.
        """
        return (usefulness - self.trusted_usefulness) / (
            self.untrusted_usefulness - self.trusted_usefulness
        )
