"""Every environment passes the checks of its first rounds, with every policy that can act in it."""

from __future__ import annotations

import pytest

from mores.core.errors import UserError
from mores.registry import REGISTRIES, class_of
from mores.sim.first_rounds import check_first_rounds
from tests.conformance.environments import ALL_KINDS, make
from tests.learners.small_environments import unchecked

PARAMETERS = {
    "persuader": {"goal": [1.0, 1.0]},
    "strategy": {"name": "tit_for_tat"},
    "per_agent": {"policies": [{"kind": "random"}]},
}
REFUSALS = {"unsupported", "missing", "conflict", "incompatible"}  # of a role, before it acts


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_default_policies(kind):
    environment = make(kind)
    assert check_first_rounds(environment, environment.default_policies())


@pytest.mark.cut(3)
@pytest.mark.parametrize("registry", ["policy", "recipe"])
@pytest.mark.parametrize("kind", ALL_KINDS)
@unchecked()
def test_registered_policies(kind, registry):
    """Policies in every role, the others by default."""
    environment, checked = make(kind), 0
    defaults = dict(environment.default_policies())
    for role in environment.roles:
        for policy_kind in sorted(REGISTRIES[registry].package_kinds):
            policy = class_of(registry, policy_kind)(**PARAMETERS.get(policy_kind, {}))
            if policy_kind == "per_agent" and role.num_agents > 1:
                policy = policy.model_copy(update={"agents_per_policy": (role.num_agents,)})
            try:
                checked += bool(check_first_rounds(environment, {**defaults, role.name: policy}))
            except UserError as error:
                assert error.code in REFUSALS, f"{policy_kind} as {role.name}: {error}"
    assert checked >= len(environment.roles)
