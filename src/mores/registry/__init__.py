"""Registries of environments, policies and populations by name. New entries go only here.

A name stands for a class, written `module:Class` and imported at its first use, so that
`import mores` stays light. Users add their own classes with `register`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mores.core.errors import UserError, did_you_mean
from mores.core.validation_messages import (
    blamed_path,
    error_code,
    error_message,
    error_path,
    validation_errors,
)

RegistryName = Literal["environment", "policy", "population"]

ENVIRONMENTS: dict[str, str | type] = {
    "coevolution": "mores.envs.opinion.coevolution:Coevolution",
    "moral_hazard": "mores.envs.strategic.moral_hazard:MoralHazard",
    "dr_mdp": "mores.envs.influence.dr_mdp:DRMDP",
    "lock_in": "mores.envs.opinion.lock_in:LockIn",
    "matrix_game": "mores.envs.strategic.matrix_game:MatrixGame",
    "pairwise_preferences": "mores.envs.feedback.pairwise_preferences:PairwisePreferences",
    "panel": "mores.envs.opinion.panel:Panel",
    "token_feedback": "mores.envs.feedback.token_feedback:TokenFeedback",
}
POLICIES: dict[str, str | type] = {
    "boltzmann_annotator": "mores.agents.people.boltzmann_annotator:BoltzmannAnnotator",
    "survey_respondent": "mores.agents.people.survey_respondent:SurveyRespondent",
    "mirror": "mores.agents.scripted.assistants:Mirror",
    "linear_trend": "mores.agents.scripted.assistants:LinearTrend",
    "persuader": "mores.agents.scripted.assistants:Persuader",
    "silent": "mores.agents.scripted.assistants:Silent",
    "lifelong": "mores.agents.scripted.progressgym:Lifelong",
    "extrapolative": "mores.agents.scripted.progressgym:Extrapolative",
    "static": "mores.agents.scripted.progressgym:Static",
    "persistence": "mores.agents.scripted.progressgym:Persistence",
    "oracle": "mores.agents.scripted.progressgym:Oracle",
    "random": "mores.agents.scripted.uniform_random:UniformRandom",
    "strategy": "mores.agents.scripted.repeated_game:Strategy",
    "per_agent": "mores.agents.composite.per_agent:PerAgentPolicy",
    "imitate_last": "mores.envs.strategic.matrix_game:ImitateLast",
    "truthful_report": "mores.envs.opinion.lock_in:TruthfulReport",
    "fixed_share_principal": "mores.envs.strategic.moral_hazard:FixedSharePrincipal",
    "best_response_agent": "mores.envs.strategic.moral_hazard:BestResponseAgent",
    "advocate": "mores.envs.opinion.panel:Advocate",
    "dr_mdp_planner": "mores.envs.influence.dr_mdp_planner:DRMDPPlanner",
    "ppo": "mores.agents.learning.recipes.ppo:PPO",
    "reinforce": "mores.agents.learning.recipes.policy_gradients:REINFORCE",
    "rloo": "mores.agents.learning.recipes.policy_gradients:RLOO",
    "grpo": "mores.agents.learning.recipes.policy_gradients:GRPO",
    "grao": "mores.agents.learning.recipes.policy_gradients:GRAO",
    "expert_iteration": "mores.agents.learning.recipes.expert_iteration:ExpertIteration",
    "online_dpo": "mores.agents.learning.recipes.expert_iteration:OnlineDPO",
    "sft": "mores.agents.learning.recipes.sft:SFT",
    "dpo": "mores.agents.learning.recipes.preferences:DPO",
    "ipo": "mores.agents.learning.recipes.preferences:IPO",
    "simpo": "mores.agents.learning.recipes.preferences:SimPO",
    "cpo": "mores.agents.learning.recipes.preferences:CPO",
    "kto": "mores.agents.learning.recipes.preferences:KTO",
    "cut": "mores.agents.learning.recipes.cut:CUT",
    "dckd": "mores.agents.learning.recipes.distillation:DCKD",
    "adpa": "mores.agents.learning.recipes.distillation:ADPA",
    "alignment_recovery": "mores.agents.learning.recipes.alignment_recovery:AlignmentRecovery",
}
POPULATIONS: dict[str, str | type] = {
    "normal": "mores.agents.people.normal:NormalPopulation",
    "anes96": "mores.agents.people.anes96:Anes96Population",
}
REGISTRIES: dict[RegistryName, dict[str, str | type]] = {
    "environment": ENVIRONMENTS,
    "policy": POLICIES,
    "population": POPULATIONS,
}


def class_of(registry_name: RegistryName, kind: str) -> Any:
    """The class of that name.

    Raises:
        UserError: the registry has no such name; with the registry that has it, or the nearest.
    """
    known = REGISTRIES[registry_name]
    if kind not in known:
        raise UserError(
            f"no {registry_name} named {kind!r}{name_hint(kind, registry_name)}",
            code="unknown_name",
            path=kind,
        )
    entry = known[kind]
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
        known[kind] = entry
    return entry


def name_hint(name: str, *searched: RegistryName) -> str:
    """End of a message that these registries lack a name: what has it, else the nearest name."""
    for registry_name, known in REGISTRIES.items():
        if name in known:
            return f"; it is {'an' if registry_name == 'environment' else 'a'} {registry_name}"
    scenario = Path(__file__).parents[1] / "scenarios" / f"{name}.yaml"
    if name.isidentifier() and scenario.is_file():
        return f"; it is a scenario: mores check {name}"
    return did_you_mean(name, [kind for each in searched for kind in REGISTRIES[each]])


def register(registry_name: RegistryName, kind: str, entry_point: str | type) -> None:
    """Add a class, or its `module:Class`, under a new name.

    Raises:
        UserError: there is no such registry; the name is not valid or already taken.
    """
    if registry_name not in REGISTRIES:
        raise UserError(
            f"register: no registry {registry_name!r:.60}{did_you_mean(registry_name, REGISTRIES)}",
            code="unknown_name",
            path="registry_name",
        )
    known = REGISTRIES[registry_name]
    if not isinstance(kind, str) or not kind.isidentifier():
        raise UserError(
            f"{kind!r:.60} is not a valid name: use letters, digits and underscores",
            code="invalid_value",
            path=str(kind),
        )
    if not isinstance(entry_point, (str, type)):
        message = f"{registry_name} {kind!r}: a class or `module:Class`, not {entry_point!r:.60}"
        raise UserError(message, code="wrong_type", path=kind)
    if kind in known and known[kind] is not entry_point:
        raise UserError(f"{registry_name} {kind!r} already exists", code="duplicate", path=kind)
    known[kind] = entry_point


def make(registry_name: RegistryName, kind: str, parameters: Mapping[str, Any]) -> Any:
    """An object of that name with these parameters.

    Raises:
        UserError: an unknown name or parameter, or a wrong value; one line for each.
    """
    component_class = class_of(registry_name, kind)
    try:
        return component_class(**parameters)
    except ValidationError as error:
        raise _user_error(kind, component_class, error, parameters) from None


def make_environment(kind: str, **parameters: Any) -> Any:
    """An environment by name: `make_environment("lock_in", num_people=50)`."""
    return make("environment", kind, parameters)


def make_policy(kind: str, **parameters: Any) -> Any:
    """A policy by name: `make_policy("mirror", learning_rate=0.3)`."""
    return make("policy", kind, parameters)


def make_population(kind: str, **parameters: Any) -> Any:
    """A population by name: `make_population("anes96")`."""
    return make("population", kind, parameters)


def kind_of(registry_name: RegistryName, instance: object) -> str | None:
    """The name under which an object's class is registered, or `None`."""
    component_class = type(instance)
    entries = (component_class, f"{component_class.__module__}:{component_class.__name__}")
    registry = REGISTRIES[registry_name].items()
    return next((kind for kind, entry in registry if entry in entries), None)


def to_spec(registry_name: RegistryName, instance: Any) -> dict[str, Any]:
    """Kind and parameters of an object as data, from which `make` constructs an equal object.

    Raises:
        UserError: its class is not registered, or its parameters cannot be written as data.
    """
    kind, class_name = kind_of(registry_name, instance), type(instance).__name__
    if kind is None:
        raise UserError(
            f"{class_name} is not registered: register({registry_name!r}, NAME, {class_name})",
            code="unknown_name",
            path=class_name,
        )
    reason, code, path = "the copy would not be equal", "unsupported", kind
    for exclude_unset in (True, False):  # first without defaults: an unused one may be refused
        try:
            text = instance.model_dump_json(by_alias=True, exclude_unset=exclude_unset)
            if make(registry_name, kind, json.loads(text)) == instance:
                return {"kind": kind, **json.loads(text)}
        except (AttributeError, TypeError, ValueError, UserError) as error:
            reason, code, path = str(error), "unsupported", kind
            if isinstance(error, UserError):
                code, path = error.code, error.path
    raise UserError(f"{kind} cannot be written as data: {reason}", code=code, path=path)


def _user_error(
    kind: str, component_class: Any, error: ValidationError, parameters: Mapping[str, Any]
) -> UserError:
    """The problems that pydantic found, one line each, with code and path of the first."""
    lines, codes, paths = [], [], []
    for problem in validation_errors(error):
        path = error_path(problem, parameters)
        message = error_message(problem, path, component_class, parameters, "no such parameter")
        codes.append(error_code(problem))
        paths.append(".".join(map(str, (kind, *blamed_path(problem, parameters)))))
        lines.append(": ".join([".".join(map(str, (kind, *path))), message]))
    return UserError("\n".join(dict.fromkeys(lines)), code=codes[0], path=paths[0])
