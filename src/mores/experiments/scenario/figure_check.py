"""Check of the figures of a scenario: their arms, metrics, stages and rounds are recorded.

A figure declares the metrics that it needs, and the check is the same for figures of the package
and of users. A figure changes no recorded round: what it needs must be recorded without it, so that
figures can be changed after a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mores.core.component_names import split_component
from mores.core.errors import UserError, describe_exception, did_you_mean, printable
from mores.experiments.scenario.cell import Components
from mores.experiments.scenario.claim_inputs import (
    EFFECT_VS_CONTROL,
    metric_compared_with_control,
)
from mores.experiments.scenario.recorded_rounds import recorded_rounds
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    problems_into,
)
from mores.experiments.scenario.specification import Scenario

Refusal = tuple[KeyPath, str, str]  # key of the figure, code, message


class MetricRequirement(NamedTuple):
    """A metric of an arm that a figure needs: the scenario must record it.

    Attributes:
        metric: a metric of the scenario, a component (`mean_value[care]`), or
            `distance_from_control(NAME)`.
        arm: its arm.
        stage: its stage, averaged over the episodes; None: the last.
        at_round: completed rounds; None: the end of the episode.
        metric_path, arm_path: where the figure names the two, for errors: `("series", "fixed", 2)`.
        analytic: an analytic value of the environment that the figure needs as well.
    """

    metric: str
    arm: str
    stage: str | None = None
    at_round: int | None = None
    metric_path: KeyPath = ()
    arm_path: KeyPath = ()
    analytic: str | None = None


class FigureCheck:
    """The figures of a scenario and the metrics that they need.

    Attributes:
        problems: what is wrong with them that the file alone reveals.
        refused: paths of metrics and analytic values that a cell lacks.
    """

    def __init__(self, scenario: Scenario, source_map: SourceMap) -> None:
        self.problems: list[Problem] = []
        self.refused: set[KeyPath] = set()
        self._scenario = scenario
        self._requirements: dict[tuple[KeyPath, MetricRequirement], None] = {}
        for index, spec in enumerate(scenario.figures):
            path: KeyPath = ("figures", index)
            with problems_into(self.problems):
                given = {"kind": spec.kind, **spec.parameters}
                figure = Components().make("figure", given, path, source_map)
                for requirement in _requirements(figure, scenario, path, source_map):
                    refusals = list(_refusals(scenario, requirement))
                    for key, code, message in refusals:
                        self.problems.append(source_map.problem(message, *path, *key, code=code))
                    if not refusals:
                        self._requirements[path, requirement] = None
        self.problems = list(dict.fromkeys(self.problems))  # arms share a metric

    def of_stage(self, arm: str, stage: str) -> Iterator[tuple[KeyPath, MetricRequirement]]:
        """What figures need of a stage of an arm, with the path of the figure."""
        for path, requirement in self._requirements:
            if (requirement.arm, self._scenario.stage(requirement.stage).name) == (arm, stage):
                yield path, requirement


def _requirements(
    figure: Any, scenario: Scenario, path: KeyPath, source_map: SourceMap
) -> list[MetricRequirement]:
    """The metrics that a figure needs.

    Raises:
        ScenarioError: the method of a user's class fails, or returns something else.
    """
    try:
        found = list(figure.required_metrics(scenario))
    except Exception as error:
        message, code, place = f"required_metrics: {describe_exception(error)}", "failed", path
        if isinstance(error, UserError):
            message, code = str(error), error.code
        raise ScenarioError([source_map.problem(message, *place, code=code)]) from error
    for each in found:
        if not isinstance(each, MetricRequirement):
            returned = printable(repr(each), 60)
            message = f"required_metrics: returned {returned}, not a MetricRequirement"
            raise ScenarioError([source_map.problem(message, *path, code="wrong_type")])
    return found


def _refusals(scenario: Scenario, requirement: MetricRequirement) -> Iterator[Refusal]:
    """Why the scenario does not satisfy a requirement."""
    metric, arm, stage_name, at_round, metric_path, arm_path, _ = requirement
    if arm not in scenario.arm_names:
        near = did_you_mean(arm, scenario.arm_names)
        yield arm_path, "unknown_name", f"there is no arm {printable(arm, 60)!r}{near}"
    compared = metric_compared_with_control(metric)
    recorded, _ = split_component(compared or metric)
    if recorded not in scenario.metric_names:
        near = did_you_mean(compared or metric, {*scenario.metric_names, EFFECT_VS_CONTROL})
        message = f"{printable(metric, 60)!r} is not among the metrics of the scenario{near}"
        yield metric_path, "unknown_name", message
    elif compared is not None and scenario.control is None:
        yield metric_path, "missing", f"{metric} needs a control: name one"
    stages = {stage.name: stage for stage in scenario.stages_or_default}
    if stage_name is not None and stage_name not in stages:
        near = did_you_mean(stage_name, stages)
        message = f"there is no stage {printable(stage_name, 60)!r}{near}"
        yield ("stage",), "unknown_name", message
        return
    stage = scenario.stage(stage_name)
    if stage.loop == "fit_offline":
        message = f"{stage.name} simulates no episodes: name another stage"
        yield ("stage",), "invalid_value", message
        return
    rounds = recorded_rounds(scenario, stage)
    if at_round is not None and at_round > rounds[-1]:
        message = f"must be at most {rounds[-1]}, the number of rounds, not {at_round}"
        yield ("at_round",), "out_of_range", message
    elif at_round is not None and at_round not in rounds:
        nearest = min(rounds, key=lambda number: abs(number - at_round))
        message = f"round {at_round} is not recorded: the nearest is {nearest}; see record_every"
        yield ("at_round",), "invalid_value", message
