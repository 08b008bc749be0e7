"""Checks of training: policies can train, and recorded episodes suit offline training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.environment import get_role
from mores.core.errors import UserError
from mores.core.learner import Learner, TrainingMode, can_train, parameter_keys
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.experiments.scenario.cell import BuiltCell, Cell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.conditions import DEFAULT_ARM
from mores.experiments.scenario.source_locations import (
    Problem,
    SourceMap,
    problem_at_path,
    suggestion,
)
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Stage
from mores.sim.training_status import no_update_reason, too_few_rounds


def training_problems(
    scenario: Scenario, source_map: SourceMap, cells: Sequence[tuple[Cell, BuiltCell]]
) -> list[Problem]:
    """Roles to train that can train in no arm, search stages without search, learned claims.

    An arm may lack the role, or have a policy that cannot train there: that is a twin. A learned
    claim cannot be about such an arm.
    """
    problems = []

    def report(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at_path(source_map, message, *path, code=code))

    for index, stage in enumerate(scenario.stages):
        by_cell = [built.stages[index].policies for _, built in cells]
        for i, role in enumerate(stage.roles_to_train):
            checked = [_training_obstacle(stage, role, policies) for policies in by_cell]
            obstacles = [obstacle for obstacle in checked if obstacle]
            if obstacles and len(obstacles) == len(by_cell):
                relevant = (o for o in obstacles if o.code != "unknown_name")
                obstacle = next(relevant, obstacles[0])
                report(obstacle.code, str(obstacle), "stages", index, "roles_to_train", i)
        all_policies = [policy for policies in by_cell for policy in policies.values()]
        can_search = any(policy.searches for policy in all_policies)
        if stage.loop == "search" and by_cell and not can_search:
            message = "search: no policy supports search; rollout gives the same result"
            report("unsupported", message, "stages", index, "loop")
    for i, claim in enumerate(scenario.claims):
        arm = claim_arm(scenario, claim)
        arm_cells = [built for cell, built in cells if cell.arm == arm]
        trains = any(_any_policy_trains(built, claim, scenario) for built in arm_cells)
        if claim.kind == "learned" and arm_cells and not trains:
            message = f"learned: no policy trains in the arm {arm} up to this stage"
            report("not_trained", message, "claims", i, "kind")
        ablations = [cell for cell, _ in cells if cell.arm == claim.ablation]
        own_cells = [cell for cell, _ in cells if cell.arm == arm]
        if any(_same_spec(cell, other) for cell in own_cells for other in ablations):
            message = f"equals the arm {arm}, so the finding cannot vanish in it"
            report("conflict", message, "claims", i, "ablation")
    return problems


def _same_spec(first: Cell, second: Cell) -> bool:
    """Whether two cells have the same components at the same point."""
    names = ("point", "env", "population", "policies")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def _any_policy_trains(built: BuiltCell, claim: Claim, scenario: Scenario) -> bool:
    """Whether a policy of a cell trains in the stages up to that of a claim."""
    stages = built.stages[: len(scenario.stages_through(claim.stage))]
    return any(
        _training_obstacle(built_stage.stage, role, built_stage.policies) is None
        and parameter_keys(built_stage.policies[role])
        for built_stage in stages
        for role in built_stage.stage.roles_to_train
    )


def _training_obstacle(stage: Stage, role: str, policies: Mapping[str, Policy]) -> UserError | None:
    """The reason why a role cannot train in a stage. None if it can."""
    if role not in policies:
        message = f"there is no role {role!r}{suggestion(role, policies)}"
        return UserError(message, code="unknown_name", path=f"policies.{role}")
    policy = policies[role]
    mode: TrainingMode = "online" if stage.loop == "train" else "offline"
    if can_train(policy, mode):
        return None
    message = f"the policy of {role}, {type(policy).__name__}, cannot train {mode}"
    return UserError(message, code="unsupported", path=f"policies.{role}")


def no_update_problems(
    scenario: Scenario, source_map: SourceMap, cell: Cell, built: BuiltCell, stage_index: int
) -> list[Problem]:
    """Problems of roles that could train in a stage but will certainly make no update."""
    problems = []
    built_stage = built.stages[stage_index]
    stage, policies = built_stage.stage, built_stage.policies
    trainable = [
        role for role in stage.roles_to_train if _training_obstacle(stage, role, policies) is None
    ]
    offline, worlds = stage.loop == "fit_offline", Worlds.grid(1, scenario.worlds)
    data_stages = built.dataset_stage_indices(stage_index) if offline else [stage_index]
    for index in data_stages if trainable else ():
        data_stage = built.stages[index]
        message = too_few_rounds(data_stage.environment, data_stage.rounds)
        if message:
            own_rounds = data_stage.stage.rounds is not None
            path = ("stages", index, "rounds") if own_rounds else ("rounds",)
            problems.append(problem_at_path(source_map, message, *path, code="out_of_range"))
    for name in trainable if stage.loop == "train" else ():
        learner, rounds = policies[name], stage.episodes * built_stage.rounds
        if not isinstance(learner, Learner) or learner.frozen:
            continue
        environment, streams = built_stage.environment, RandomStreams.of(scenario.seed, worlds)
        try:
            role = get_role(environment, name)
            state = learner.initial_state(role, environment.phases, streams)
            reason = no_update_reason(name, learner, state, rounds)
        except Exception:
            continue  # reported when the first round is simulated
        if reason:
            where = "" if cell.arm == DEFAULT_ARM else f" of {cell.arm}"
            message = f"makes no update in stage {stage.name}{where}: {reason}"
            problems.append(
                built_stage.spec.origin.component_problem(
                    ("policies", name), message, code="not_trained"
                )
            )
    return problems


def offline_dataset_problems(
    source_map: SourceMap, built: BuiltCell, stage_index: int
) -> list[Problem]:
    """Problems of roles whose recorded episodes are missing, or differ in shape."""
    problems = []
    stage, policies = built.stages[stage_index].stage, built.stages[stage_index].policies
    dataset = [built.stages[index] for index in built.dataset_stage_indices(stage_index)]
    for i, name in enumerate(stage.roles_to_train if stage.loop == "fit_offline" else ()):
        if name not in policies:
            continue  # an arm without this role
        shapes = {
            (role.num_agents, role.observation_space.size)
            for built_stage in dataset
            for role in built_stage.environment.roles
            if role.name == name
        }
        if not shapes:
            code, message = "missing", f"no earlier stage has recorded episodes of {name}"
        elif len(shapes) > 1:
            code = "conflict"
            message = f"stages of the dataset differ in agents or observation size of {name}"
        else:
            continue
        path = ("stages", stage_index, "roles_to_train", i)
        problems.append(problem_at_path(source_map, message, *path, code=code))
    return problems
