"""AI control: which protocol is never better than which, in random worlds."""

from __future__ import annotations

import numpy as np
import pytest

from mores.envs.oversight import control_outcomes as outcomes
from mores.envs.oversight import control_safety as safety
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.control_values import (
    SUCCESS_COUNT,
    best_response,
)
from tests.cases import scaled
from tests.oracles.control_protocols import random_world


def changed(world, **values):
    return ControlSetting(**{**world.model_dump(), **values})


def test_invariants_in_random_worlds():
    """Which protocol is never better than which, and in what safety is monotone."""
    rng = np.random.default_rng(17)
    for _ in range(scaled(120)):
        world, n = random_world(rng), int(rng.integers(1, 15))
        budget, share, chi = (float(rng.uniform(0.01, high)) for high in (0.3, 0.6, 1.0))

        def s(outcome, tasks=n):
            return safety.safety(outcome, tasks)

        monitoring = outcomes.trusted_monitoring(world, budget)
        detected = tuple(d + 0.3 for d in world.detectability)
        found = min(1.0, world.audit_detection + 0.2)
        better = [
            outcomes.trusted_monitoring(changed(world, detectability=detected), budget),
            outcomes.trusted_monitoring(changed(world, audit_detection=found), budget),
            outcomes.trusted_monitoring(world, budget + 0.1),
            outcomes.untrusted_monitoring(world, budget),
            outcomes.trusted_editing(world, share, budget),
        ]
        edit = outcomes.trusted_editing(world, share)
        defer = outcomes.defer_to_trusted(world, share)
        colluding = outcomes.untrusted_monitoring(world, budget, chi)
        pairs = [(s(monitoring), s(outcome)) for outcome in better]
        pairs += [
            (s(outcomes.random_audit(world, budget)), s(monitoring)),
            (s(edit), s(defer)),
            (s(edit), s(outcomes.trusted_editing(world, share + 0.1))),
            (s(defer), s(outcomes.defer_to_trusted(world, share + 0.1))),
            (s(monitoring, n + 1), s(monitoring)),
            (safety.endless_safety(monitoring), s(monitoring)),
            (s(colluding), s(outcomes.untrusted_monitoring(world, budget, 0.5 * chi))),
            (s(monitoring), safety.fixed_attack_safety(monitoring, n).min()),
        ]
        # An audit that may miss takes the place of an edit or of T: alpha = 1 here.
        certain = changed(world, audit_detection=1.0)
        for protocol in (outcomes.trusted_editing, outcomes.defer_to_trusted):
            pairs += [(s(protocol(certain, share)), s(protocol(certain, share, budget)))]
        worse, safer = np.array(pairs).T
        assert (worse <= safer + 1e-12).all(), (world, worse - safer)
        option = safety.protocol_best_response(monitoring, n).option.numpy()
        used = monitoring.succeeds[option[option > 0] - 1]
        assert (np.diff(used) >= -1e-12).all()
        caught, succeeds = (
            safety.repeat_tasks(x, n) for x in (monitoring.caught, monitoring.succeeds)
        )
        count = best_response(caught, succeeds, SUCCESS_COUNT).value[0]
        assert float(count) <= safety.deterring_penalty(monitoring) + 1e-9


def test_limits_in_random_worlds():
    rng = np.random.default_rng(18)
    for _ in range(scaled(60)):
        world, n = random_world(rng), int(rng.integers(1, 15))

        def rates(outcome):
            return np.concatenate([outcome.caught, outcome.succeeds])

        useless = changed(world, detectability=(0.0,) * world.num_levels)
        random = rates(outcomes.random_audit(useless, 0.07))
        assert rates(outcomes.trusted_monitoring(useless, 0.07)) == pytest.approx(random)
        perfect = changed(world, audit_detection=1.0, edit_effectiveness=1.0)
        assert safety.safety(outcomes.trusted_monitoring(perfect, 1.0), n) == 1
        same = changed(perfect, edited_usefulness=world.trusted_usefulness)
        edit, defer = (
            f(same, 0.3, 0.05) for f in (outcomes.trusted_editing, outcomes.defer_to_trusted)
        )
        assert rates(edit) == pytest.approx(rates(defer))
        assert edit.usefulness == pytest.approx(defer.usefulness)
        colluding = outcomes.untrusted_monitoring(world, 0.05, 1.0)
        assert rates(colluding) == pytest.approx(rates(outcomes.trust_untrusted(world)))
        editing = outcomes.trusted_editing(world, 1.0)
        assert editing.succeeds == pytest.approx(world.success * (1 - world.edit_effectiveness))
