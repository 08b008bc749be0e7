"""Checks of training: policies can train, and recorded episodes suit offline training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mores.core.environment import get_role, with_text
from mores.core.errors import UserError, did_you_mean
from mores.core.learner import Learner, TrainingMode, can_train, parameter_keys
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.source_locations import Problem, SourceMap
from mores.experiments.scenario.specification import DEFAULT_ARM, Claim, Scenario
from mores.experiments.scenario.stages import Stage
from mores.sim.training_status import no_update_reason, too_few_rounds


def training_problems(
    scenario: Scenario, source_map: SourceMap, cells: Sequence[BuiltCell]
) -> Iterator[Problem]:
    """Roles to train that can train in no arm, search stages without search, learned claims.

    An arm may lack the role, or have a policy that cannot train there: that is a twin. A learned
    claim cannot be about such an arm.
    """
    for index, stage in enumerate(scenario.stages if cells else ()):
        by_cell = [built.stages[index].policies for built in cells]
        for i, role in enumerate(stage.roles_to_train):
            checked = [_training_obstacle(stage, role, policies) for policies in by_cell]
            obstacles = [obstacle for obstacle in checked if obstacle]
            if len(obstacles) == len(by_cell):
                relevant = (o for o in obstacles if o.code != "unknown_name")
                obstacle = next(relevant, obstacles[0])
                path = ("stages", index, "roles_to_train", i)
                yield source_map.problem(str(obstacle), *path, code=obstacle.code)
        searches = any(policy.searches for policies in by_cell for policy in policies.values())
        if stage.loop == "search" and not searches:
            message = "search: no policy supports search; rollout gives the same result"
            yield source_map.problem(message, "stages", index, "loop", code="unsupported")
    for i, claim in enumerate(scenario.claims):
        arm = claim_arm(scenario, claim)
        own = [built for built in cells if built.cell.arm == arm]
        trains = any(_any_policy_trains(built, claim, scenario) for built in own)
        if claim.kind == "learned" and own and not trains:
            message = f"learned: no policy trains in the arm {arm} up to this stage"
            yield source_map.problem(message, "claims", i, "kind", code="not_trained")
        ablations = [_components(built) for built in cells if built.cell.arm == claim.ablation]
        if any(_components(built) in ablations for built in own):
            message = f"equals the arm {arm}, so the finding cannot vanish in it"
            yield source_map.problem(message, "claims", i, "ablation", code="conflict")


def _components(built: BuiltCell) -> tuple[object, ...]:
    """Specifications of a cell's components, and its point."""
    cell = built.cell
    return cell.point, cell.env, cell.population, cell.policies


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
    path = f"policies.{role}"
    if role not in policies:
        message = f"there is no role {role!r}{did_you_mean(role, policies)}"
        return UserError(message, code="unknown_name", path=path)
    mode: TrainingMode = "online" if stage.loop == "train" else "offline"
    if can_train(policies[role], mode):
        return None
    message = f"the policy of {role}, {type(policies[role]).__name__}, cannot train {mode}"
    return UserError(message, code="unsupported", path=path)


def no_update_problems(scenario: Scenario, built: BuiltCell, stage_index: int) -> Iterator[Problem]:
    """Problems of roles that could train in a stage but will certainly make no update."""
    stage, rounds, environment, policies, spec = built.stages[stage_index]
    trainable = [
        role for role in stage.roles_to_train if _training_obstacle(stage, role, policies) is None
    ]
    offline = stage.loop == "fit_offline"
    data_stages = built.dataset_stage_indices(stage_index) if offline else [stage_index]
    for index in data_stages if trainable else ():
        data_stage = built.stages[index]
        message = too_few_rounds(data_stage.environment, data_stage.rounds)
        if message:
            path = ("rounds",) if data_stage.stage.rounds is None else ("stages", index, "rounds")
            yield built.cell.source_map.problem(message, *path, code="out_of_range")
    streams = RandomStreams.of(scenario.seed, Worlds.grid(1, scenario.worlds))
    for name in trainable if stage.loop == "train" else ():
        learner, reason = policies[name], ""
        if not isinstance(learner, Learner) or learner.frozen:
            continue
        try:
            role = with_text(environment, get_role(environment, name))
            state = learner.initial_state(role, environment.phases, streams)
            reason = no_update_reason(name, learner, state, stage.episodes * rounds)
        except Exception:
            continue  # reported when the first round is simulated
        if reason:
            where = "" if built.cell.arm == DEFAULT_ARM else f" of {built.cell.arm}"
            message = f"makes no update in stage {stage.name}{where}: {reason}"
            yield spec.source_map.component_problem(message, "policies", name, code="not_trained")


def offline_dataset_problems(built: BuiltCell, stage_index: int) -> Iterator[Problem]:
    """Problems of roles whose recorded episodes are missing, or differ in shape."""
    stage, policies = built.stages[stage_index].stage, built.stages[stage_index].policies
    dataset = [built.stages[index] for index in built.dataset_stage_indices(stage_index)]
    for i, name in enumerate(stage.roles_to_train if stage.loop == "fit_offline" else ()):
        shapes = {
            (role.num_agents, role.observation_space.size)
            for built_stage in dataset
            for role in built_stage.environment.roles
            if role.name == name
        }
        path = ("stages", stage_index, "roles_to_train", i)
        if name in policies and not shapes:  # else an arm without this role
            message = f"no earlier stage has recorded episodes of {name}"
            yield built.cell.source_map.problem(message, *path, code="missing")
        elif name in policies and len(shapes) > 1:
            message = f"stages of the dataset differ in agents or observation size of {name}"
            yield built.cell.source_map.problem(message, *path, code="conflict")
