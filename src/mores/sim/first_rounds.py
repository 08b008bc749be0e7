"""Simulates the first rounds of an environment, and checks what the user's classes return.

Simulates replicates 0 and 1 together, and replicate 1 alone, with `ValueChecks`. If replicate 1
differs, and two identical simulations do not, results depend on other worlds of the batch; if these
differ too, a generator is unseeded. Draws from the generators of the process are found by
`global_generators`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.learner import Learner
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.threads import single_threaded
from mores.core.value_checking import check_values
from mores.registry.specs import policies_from_specs
from mores.sim.global_generators import GlobalGenerators, find_draw
from mores.sim.simulator import Simulator
from mores.sim.value_checks import ValueChecks
from mores.sim.world_comparison import Difference, WorldComparison

NUM_ROUNDS = 1
NUM_COMPARED_ROUNDS = 2  # the second one begins from a state that actions have changed
PAIR, ALONE = (0, 1), (1,)  # replicates
# Parts of the names of functions whose rounding depends on the batch.
NETWORK_OPERATIONS = (
    *("matmul", "mm", "mv", "einsum", "tensordot", "linear", "conv", "gru", "lstm", "rnn"),
    "attention",
)


@single_threaded()
def check_first_rounds(
    environment: Environment[Any],
    policies: Mapping[str, Any] | None = None,
    population: Population | None = None,
    seed: int = 0,
    compare: bool = True,
) -> Mapping[str, Tensor]:
    """Simulate the first rounds of two replicates and check them.

    Args:
        environment: the environment.
        policies: policy of each role, or its kind and parameters; other roles get the default.
        population: source of the people.
        seed: seed of all random streams.
        compare: whether to compare replicate 1 with its simulation alone.

    Returns:
        The metrics of the initial states, by name, first dimension 2 (1 world for each of
        replicates 0 and 1).

    Raises:
        UserError: a result of a user's class violates the contract: `docs/how-to/checks.md`.
    """
    policies = policies_from_specs({**environment.default_policies(), **(policies or {})})
    rounds = _FirstRounds(environment, policies, population, seed)
    generators, difference = GlobalGenerators(), None
    learners = frozenset(
        f"policies.{role}" for role, policy in policies.items() if isinstance(policy, Learner)
    )
    if compare:
        metrics, difference = rounds.first_difference(PAIR, ALONE, learners)
    else:
        metrics = rounds.simulate(PAIR)
    if generators.changed():
        components: dict[str, object] = {f"policies.{role}": policies[role] for role in policies}
        components |= {"environment": environment}
        components |= {} if population is None else {"population": population}
        draw = find_draw(lambda: rounds.simulate(PAIR), components)
        if draw is not None and not draw.allowed:
            raise draw.error
        if draw is not None:  # no two simulations are equal
            return metrics
    if difference is not None and difference.is_rounding:
        networks = learners | _paths_with_networks(lambda: rounds.simulate(ALONE), policies)
        _, difference = rounds.first_difference(PAIR, ALONE, networks)
    if difference is not None:
        _, repeated = rounds.first_difference(PAIR, PAIR, frozenset())
        if repeated:
            raise _unseeded_error(repeated, environment.random_source)
        raise _leak_error(difference)
    return metrics


class _FirstRounds(NamedTuple):
    environment: Environment[Any]
    policies: Mapping[str, Policy]
    population: Population | None
    seed: int

    @check_values()
    def simulate(
        self,
        *batches: Sequence[int],
        on_round: Callable[..., None] = lambda *checks: None,
    ) -> Mapping[str, Tensor]:
        """Simulate batches of replicates side by side; the initial metrics of the first batch.

        `on_round` is called with the checks of all batches, at the start and after every round, as
        long as every batch has a world that has not finished.
        """
        rounds = NUM_COMPARED_ROUNDS if len(batches) > 1 else NUM_ROUNDS
        simulators = [
            Simulator(
                self.environment,
                self.policies,
                worlds=replicates,
                rounds=rounds + 1,
                population=self.population,
                roles_to_train=(),
                checks=ValueChecks,
            )
            for replicates in batches
        ]
        initial: Mapping[str, Tensor] = {}
        for completed in range(rounds + 1):
            # A batch whose worlds have all finished makes no calls to compare with.
            comparable = not completed or not any(each.all_finished for each in simulators)
            for simulator in simulators:
                metrics = self._step_batch(simulator, completed, is_last=completed == rounds)
                if simulator is simulators[0]:
                    initial = initial if completed else metrics
                    _check_equal_shapes(initial, metrics, completed)
            if comparable:
                on_round(*(simulator.checks for simulator in simulators))
        return initial

    def _step_batch(
        self, simulator: Simulator, completed: int, is_last: bool
    ) -> Mapping[str, Tensor]:
        """Start a batch (`completed` = 0) or step it if it has not finished; its metrics.

        The checks record the calls of this round only, in the last one also those for latent
        quantities.
        """
        checks = simulator.checks
        assert isinstance(checks, ValueChecks)
        checks.calls.clear()
        if not completed:
            simulator.reset(self.seed)
        elif not simulator.all_finished:
            simulator.step()
        metrics = checks.metrics(simulator.state)
        if is_last:
            checks.latent(simulator.state)
        return metrics

    def first_difference(
        self, first: Sequence[int], second: Sequence[int], rounding: frozenset[str]
    ) -> tuple[Mapping[str, Tensor], Difference | None]:
        """The initial metrics, and the first difference of replicate 1 between two batches."""
        comparison = WorldComparison(first.index(1), second.index(1), rounding)
        found: list[Difference] = []

        def compare_round(one: ValueChecks, other: ValueChecks) -> None:
            if not found and (new := comparison.first_difference(one.calls, other.calls)):
                found.append(new)

        metrics = self.simulate(first, second, on_round=compare_round)
        return metrics, found[0] if found else None


def _check_equal_shapes(
    initial: Mapping[str, Tensor], metrics: Mapping[str, Tensor], completed: int
) -> None:
    """Check that metrics have the same names and shapes in every round."""
    before, after = ({n: tuple(t.shape) for n, t in part.items()} for part in (initial, metrics))
    for name in before | after:
        if before.get(name) != after.get(name):
            shapes = f"{before.get(name)} at reset and {after.get(name)} after round {completed}"
            message = f"the shape of the metric {name!r} is {shapes}"
            raise UserError(message, code="failed", path=f"metrics.{name}")


def _paths_with_networks(run: Callable[[], Any], policies: Mapping[str, Policy]) -> frozenset[str]:
    """Paths of the policies that multiply matrices when they act."""
    found: set[int] = set()

    class Products(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            if any(part in func.__name__ for part in NETWORK_OPERATIONS):
                frame: Any = sys._getframe(1)
                while frame is not None:
                    found.add(id(frame.f_locals.get("self")))
                    frame = frame.f_back
            return func(*args, **(kwargs or {}))

    with Products():
        run()
    return frozenset(f"policies.{role}" for role, each in policies.items() if id(each) in found)


def _unseeded_error(difference: Difference, source: str) -> UserError:
    call, name = difference.call, difference.name
    return UserError(
        f"{call.method} returns different numbers when it is repeated with the same seed"
        f"{f' ({name})' if name else ''}: draw all random numbers from {source}",
        code="unseeded",
        path=call.path,
    )


def _leak_error(difference: Difference) -> UserError:
    call, name, size, is_rounding = difference
    what = f" ({name}, by {size:.2g})" if name else ""
    advice = (
        "add in a fixed order, with mores.core.deterministic_sum, and compute powers, sigmoids and "
        "softplus with torch.exp and torch.log"
        if is_rounding
        else "the result of a world must not depend on the other worlds of the batch"
    )
    return UserError(
        f"{call.method} returns different numbers for a world when it is simulated alone{what}: "
        f"{advice}",
        code="world_leak",
        path=call.path,
    )
