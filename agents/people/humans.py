"""Named kinds of people: fitted to measured people, and idealised.

How the fitted human was fitted, and which of its predictions fail: docs/explanation/
default_human.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mores.core.human import Human


class Fitted(Human):
    """People fitted to a panel survey of four years and to experiments with conversations.

    British Social Attitudes panel 1983-86 (264 people) and Hackenburg et al. 2025 (arXiv
    2507.13919). A tested prediction, the odds of agreeing more after a debate, fails: these people
    are moved further than measured ones. The influence is that of the most persuasive
    configuration of a language model.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": True}

    half_life: float | None = Field(
        default=0.5 / 12.0,
        gt=0,
        description="half-life of a temporary deviation from the disposition, years: half a month",
    )
    permanent_share: float = Field(
        default=0.20, ge=0, le=1, description="share of a change that moves the disposition"
    )
    volatility: float = Field(
        default=1.01 / 1.70,
        ge=0,
        description="standard deviation of temporary deviations, in standard deviations of the "
        "population's dispositions",
    )
    volatility_heterogeneity: float = Field(
        default=1.06, ge=0, le=20, description="differences between people in volatility"
    )
    answer_noise: float = Field(
        default=1.00 / 1.70,
        ge=0,
        description="standard deviation of the noise of an answer, in population standard "
        "deviations",
    )
    influence: float = Field(
        default=0.337,
        ge=0,
        le=1,
        description="share of the distance to a position that one conversation closes",
    )


class Idealised(Human):
    """People whose values move by influence alone: every change is permanent, answers are exact.

    This is the assumption of classical models of opinion dynamics, under which closed forms are
    known. Compared with fitted people it exaggerates how far people are moved and how much stays.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": False}
