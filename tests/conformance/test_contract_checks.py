"""Every environment passes the checks of its first rounds, with every policy that can act in it."""

from __future__ import annotations

import pytest

from mores.core.errors import UserError
from mores.registry import REGISTRIES, make_policy
from mores.sim.first_rounds import check_first_rounds
from tests.cases import FULL
from tests.conformance.environments import ALL_KINDS, make
from tests.learners.small_environments import unchecked

PARAMETERS = {
    "persuader": {"goal": [1.0, 1.0]},
    "strategy": {"name": "tit_for_tat"},
    "per_agent": {"policies": [{"kind": "random"}]},
}
RECIPES = ["ppo", "sft", "expert_iteration"]  # all recipes act by the same method
# Language models act by one function in every environment, and are slow.
LANGUAGE_KINDS = ALL_KINDS if FULL else ["matrix_game", "opinion_messages"]
FAULTS = {"unseeded", "world_leak", "modified_input", "not_finite", "out_of_range", "failed"}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_default_policies(kind):
    assert check_first_rounds(make(kind))


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", ALL_KINDS)
@unchecked()
def test_registered_policies(kind):
    """Policies in every role: they refuse it, or act as they should."""
    environment, checked = make(kind), 0
    for role in environment.roles:
        for policy_kind in [*sorted(REGISTRIES["policy"].package_kinds), *RECIPES]:
            if policy_kind.startswith("language") and kind not in LANGUAGE_KINDS:
                continue
            policy = make_policy(policy_kind, **PARAMETERS.get(policy_kind, {}))
            if policy_kind == "per_agent" and role.num_agents > 1:
                policy = policy.model_copy(update={"agents_per_policy": (role.num_agents,)})
            try:
                checked += bool(check_first_rounds(environment, {role.name: policy}))
            except KeyError:  # it reads a part of the observation that the role lacks
                continue
            except UserError as error:
                assert error.code not in FAULTS, f"{policy_kind} as {role.name}: {error}"
    assert checked >= len(environment.roles)
