"""What there is by name: environments, players, populations. These three lists are all to edit.

A name stands for a class, written `module:Class` and imported when asked for, so that
`import mores` stays light. Your own classes are added with `register`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from mores.core.errors import UserError, did_you_mean
from mores.core.validation_messages import (
    blame_of,
    code_of,
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
        UserError: there is no such name, with the nearest one.
    """
    known = REGISTRIES[registry_name]
    if kind not in known:
        near = did_you_mean(kind, known)
        raise UserError(f"no {registry_name} {kind!r}{near}", code="unknown_name", path=kind)
    found = known[kind]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        found = getattr(importlib.import_module(module), name)
        known[kind] = found
    return found


def register(registry_name: RegistryName, kind: str, entry_point: str | type) -> None:
    """Add a class, or its `module:Class`, under a name of your own."""
    known = REGISTRIES[registry_name]
    if not kind.isidentifier():
        raise UserError(
            f"{kind!r} is no name: use letters, digits and underscores",
            code="invalid_value",
            path=kind,
        )
    if kind in known and known[kind] is not entry_point:
        raise UserError(
            f"there is an {registry_name} {kind!r} already", code="duplicate", path=kind
        )
    known[kind] = entry_point


def make(registry_name: RegistryName, kind: str, parameters: Mapping[str, Any]) -> Any:
    """An object of that name with these parameters.

    Raises:
        UserError: an unknown name or parameter, or a wrong value: one line each.
    """
    chosen = class_of(registry_name, kind)
    try:
        return chosen(**parameters)
    except ValidationError as error:
        raise _refused(kind, chosen, error, parameters) from None


def make_environment(kind: str, **parameters: Any) -> Any:
    """An environment by name: `make_game("lock_in", people=50)`."""
    return make("environment", kind, parameters)


def make_policy(kind: str, **parameters: Any) -> Any:
    """A player by name: `make_player("mirror", rate=0.3)`."""
    return make("policy", kind, parameters)


def make_population(kind: str, **parameters: Any) -> Any:
    """A population by name: `make_population("anes96")`."""
    return make("population", kind, parameters)


def kind_of(registry_name: RegistryName, instance: object) -> str | None:
    """The name that an object's class is known by, if there is one."""
    chosen = type(instance)
    names = (chosen, f"{chosen.__module__}:{chosen.__name__}")
    return next((kind for kind, known in REGISTRIES[registry_name].items() if known in names), None)


def to_spec(registry_name: RegistryName, instance: Any) -> dict[str, Any]:
    """An object as data that `make` makes the same from: its kind and parameters.

    Raises:
        UserError: its class has no name, or its parameters cannot be written as data.
    """
    kind, what = kind_of(registry_name, instance), type(instance).__name__
    if kind is None:
        raise UserError(
            f"{what} has no name to be found by: register({registry_name!r}, NAME, {what})",
            code="unknown_name",
            path=what,
        )
    why, code, path = "it would not be the same", "unsupported", kind
    for given in (True, False):  # what was given alone: what is in vain may not be said
        try:
            text = instance.model_dump_json(by_alias=True, exclude_unset=given)
            if make(registry_name, kind, json.loads(text)) == instance:
                return {"kind": kind, **json.loads(text)}
        except (AttributeError, TypeError, ValueError, UserError) as error:
            why, code, path = str(error), "unsupported", kind
            if isinstance(error, UserError):
                code, path = error.code, error.path
    raise UserError(f"{kind} cannot be written as data: {why}", code=code, path=path)


def _refused(
    kind: str, chosen: Any, error: ValidationError, parameters: Mapping[str, Any]
) -> UserError:
    lines, codes, paths = [], [], []
    for found in validation_errors(error):
        path = error_path(found, parameters)
        what = error_message(found, path, chosen, parameters, "no such parameter")
        codes.append(code_of(found))
        paths.append(".".join(map(str, (kind, *blame_of(found, parameters)))))
        lines.append(": ".join([".".join(map(str, (kind, *path))), what]))
    return UserError("\n".join(dict.fromkeys(lines)), code=codes[0], path=paths[0])
