"""Metrics of a running episode: the environment's own, registered ones, returns by role."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from mores import registry
from mores.core import pytree
from mores.core.arguments import check_names
from mores.core.check_metrics import check_metric, checked_metrics
from mores.core.environment import Environment
from mores.core.errors import UserError, describe_exception, is_out_of_memory
from mores.core.metric import Metric, MetricOutput
from mores.core.metric_inputs import (
    COMPLETED_ROUNDS,
    INITIAL,
    RETURN,
    REWARD,
    check_inputs,
    select_inputs,
    state_inputs,
)
from mores.core.policy import Policy
from mores.sim.policy_queries import policy_metrics
from mores.sim.round_recorder import COORDINATES
from mores.sim.simulator import Simulator

MetricSpec = str | Mapping[str, Any] | Metric  # a name, `kind` and parameters, or the object
# Names and, as in a scenario, mappings with a `kind`; or specifications by name.
MetricSpecs = Iterable[str | Mapping[str, Any]] | Mapping[str, MetricSpec]


class ResolvedMetrics(dict[str, Metric | None]):
    """Registered metrics by name; `None` for those of `Environment.metrics`."""

    def bounds(self, environment: Environment[Any]) -> dict[str, tuple[float, float]]:
        """Smallest and largest possible values of the metrics that have both."""
        own = environment.metric_bounds
        bounds = {n: own.get(n) if m is None else m.bounds for n, m in self.items()}
        for name, pair in bounds.items():
            if pair is not None and not -math.inf < pair[0] < pair[1] < math.inf:
                message = f"its bounds must be two numbers in order, not {pair}"
                raise _metric_error(name, message, "invalid_value")
        return {name: pair for name, pair in bounds.items() if pair is not None}


def specs_by_name(specs: MetricSpecs) -> Mapping[str, MetricSpec]:
    """Specifications of metrics by name: the `name` of a mapping, by default its `kind`.

    Raises:
        UserError: not a list of names and mappings, or two of them have one name.
    """
    if isinstance(specs, Mapping):
        return cast(Mapping[str, MetricSpec], specs)
    listed: Any = specs
    if not isinstance(specs, str) and isinstance(specs, Collection):
        listed = [each.get("name", each.get("kind")) if isinstance(each, Mapping) else each
                  for each in specs]  # fmt: skip
    by_name: dict[str, MetricSpec] = {name: name for name in check_names("metrics", listed)}
    for name, spec in zip(listed, specs, strict=True):
        if isinstance(spec, Mapping):
            if listed.count(name) > 1:
                message = f"metrics: two have the name {name!r}: give one of them a `name`"
                raise UserError(message, code="duplicate", path="metrics")
            by_name[name] = {key: value for key, value in spec.items() if key != "name"}
    return by_name


def resolve_metrics(
    environment: Environment[Any],
    state: Any,
    num_worlds: int,
    specs: MetricSpecs,
    policies: Mapping[str, Policy] | None = None,
) -> ResolvedMetrics:
    """The metrics of these names: an environment's own come first, then registered ones.

    Args:
        environment: the environment.
        state: a state of it, at the start of an episode.
        num_worlds: number of its worlds.
        specs: names and mappings, or specifications by name; resolved metrics are returned
            unchanged.
        policies: policies by role, whose metrics are called `ROLE.NAME`.

    Raises:
        UserError: an unknown name, a wrong parameter, or an input that the environment lacks.
    """
    if isinstance(specs, ResolvedMetrics):
        return specs
    own = _metrics_of_environment(environment, state, num_worlds)
    of_policies = {*environment.policy_metric_names, *names_of_policy_metrics(policies or {})}
    resolved = ResolvedMetrics()
    for name, spec in specs_by_name(specs).items():
        if spec == name and (name in own or name in of_policies):
            resolved[name] = None
            continue
        if _is_unknown(environment, spec):
            known = known_metrics(environment, [*own, *of_policies])
            present = [each for each in known if _has_inputs(each, environment, state, own)]
            near = registry.near_or_load_hint(str(spec), known, present)
            hint = environment.missing_metric_hint(str(spec))
            kind = registry.kind_of("environment", environment) or type(environment).__name__
            message = f"{kind} has no metric {spec!r}{hint and f': {hint}'}{near}"
            raise UserError(message, code="unknown_name", path="metrics")
        resolved[name] = metric = _make_metric(environment, spec)
        check_inputs(name, metric, environment, state, own)
    if reserved := [name for name in resolved if name in COORDINATES]:
        message = f"metrics: {reserved[0]!r} is the name of a coordinate of the result; name others"
        raise UserError(message, code="invalid_value", path="metrics")
    return resolved


def names_of_policy_metrics(policies: Mapping[str, Policy]) -> list[str]:
    """Names of the metrics of policies: `ROLE.NAME`."""
    return [f"{role}.{name}" for role, policy in policies.items() for name in policy.metric_names]


def _metrics_of_environment(
    environment: Environment[Any], state: Any, num_worlds: int
) -> Mapping[str, Num[Tensor, "world *n"]]:
    """`Environment.metrics`, checked.

    Raises:
        UserError: another type or shape, or the name of a metric of policies.
    """
    own = checked_metrics(environment, state, num_worlds)
    if twice := own.keys() & {*environment.policy_metric_names}:
        name = f"{type(environment).__name__}.metrics returns"
        raise _metric_error(min(twice), f"{name} it, and policy_metric_names holds it", "duplicate")
    return own


def known_metrics(environment: Environment[Any], own: Iterable[str]) -> list[str]:
    """Names of an environment's own metrics, of returns by role and of registered metrics."""
    returns = [f"{RETURN}{role.name}" for role in environment.roles]
    of_policies = environment.policy_metric_names
    return list(dict.fromkeys([*own, *of_policies, *returns, *registry.REGISTRIES["metric"]]))


def _is_unknown(environment: Environment[Any], spec: MetricSpec) -> bool:
    """Whether a text is neither the return of a role nor a registered metric."""
    returns = [f"{RETURN}{role.name}" for role in environment.roles]
    return isinstance(spec, str) and spec not in {*returns, *registry.REGISTRIES["metric"]}


def _has_inputs(
    name: str, environment: Environment[Any], state: Any, own: Mapping[str, Tensor]
) -> bool:
    """Whether nothing that a registered metric needs is missing; other names have what they need.

    One with required parameters, or of a package that is not installed, cannot be checked.
    """
    if name in own or name not in registry.REGISTRIES["metric"]:
        return True
    try:
        metric = registry.make("metric", name, {})
    except UserError:
        return True
    try:
        check_inputs(name, metric, environment, state, own)
    except UserError:
        return False
    return True


def _make_metric(environment: Environment[Any], spec: MetricSpec) -> Metric:
    if isinstance(spec, Metric):
        return spec
    if isinstance(spec, Mapping):
        parameters = {name: value for name, value in spec.items() if name != "kind"}
        return registry.make("metric", str(spec.get("kind")), parameters)
    for role in environment.roles:
        if spec == f"{RETURN}{role.name}":
            return registry.make("metric", "mean_return", {"role": role.name})
    return registry.make("metric", spec, {})


def metrics_of_state(
    environment: Environment[Any], state: Any, num_worlds: int, names: Sequence[str]
) -> dict[str, Num[Tensor, "world *n"]]:
    """Metrics of a state by name, for clients that may be anywhere in an episode.

    Raises:
        UserError: an unknown name, or a metric that needs the episode so far.
    """
    own = _metrics_of_environment(environment, state, num_worlds)
    values = {name: own[name] for name in names if name in own}
    others = [name for name in names if name not in own]
    if others:
        available = {**own, **state_inputs(environment, state)}
        for name, metric in resolve_metrics(environment, state, num_worlds, others).items():
            if metric is None:
                message = f"metrics: {name} is a metric of policies: use mores.simulate, mores run"
                raise UserError(message, code="unsupported", path="metrics")
            inputs = {each: available[each] for each in metric.inputs if each in available}
            if metric.has_memory or any(metric.inputs[n] for n in metric.inputs.keys() - inputs):
                message = f"metrics: {name} needs the whole episode: use mores.simulate, mores run"
                raise UserError(message, code="unsupported", path="metrics")
            values[name] = _evaluate(name, metric, inputs, num_worlds).value
    return values


def _evaluate(
    name: str,
    metric: Metric,
    inputs: Mapping[str, Tensor],
    num_worlds: int,
    memory: Any = None,
) -> MetricOutput:
    """The metric, checked.

    Raises:
        UserError: the function of the metric fails, returns another type or shape, or modifies its
            inputs or memory; or the memory has another first dimension than the world.
    """
    given = [*inputs.values()]
    if memory is not None:
        given += pytree.flatten(memory).values()
    versions = [tensor._version for tensor in given]
    try:
        output = metric.evaluate(inputs, memory)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = f"fails: {describe_exception(error)}"
        raise _metric_error(name, message, "failed") from error
    if [tensor._version for tensor in given] != versions:
        message = "modifies its inputs or memory: make new tensors (no +=, no function in _)"
        raise _metric_error(name, message, "modified_input")
    value, memory = output
    check_metric(name, value, num_worlds)
    if memory is None:
        return output
    for part, tensor in pytree.flatten(memory, include_persistent=False).items():
        if tensor.shape[:1] != (num_worlds,):
            message = (
                f"tensors of its memory must have the world as first dimension, {num_worlds}, not "
                f"{list(tensor.shape)}{f' ({part})' if part else ''}"
            )
            raise _metric_error(name, message, "wrong_shape")
    return output


def _metric_error(name: str, message: str, code: str) -> UserError:
    return UserError(f"{name}: {message}", code=code, path=f"metrics.{name}")


class MetricTracker:
    """Metrics of an episode of a simulator that has just started it.

    Args:
        simulator: the simulator, without external agents.
        specs: metrics to compute.

    Raises:
        UserError: see `resolve_metrics`.
    """

    def __init__(self, simulator: Simulator, specs: MetricSpecs) -> None:
        self._simulator, self._num_worlds = simulator, len(simulator.worlds)
        environment, state = simulator.environment, simulator.state
        self._metrics = resolve_metrics(
            environment, state, self._num_worlds, specs, simulator.policies
        )
        self._inputs = {n for metric in self._metrics.values() if metric for n in metric.inputs}
        initial = {n.removeprefix(INITIAL) for n in self._inputs if n.startswith(INITIAL)}
        self._initial = select_inputs(environment, state, initial) if initial else {}
        roles = {
            role.name: role.num_agents
            for role in environment.roles
            if {f"{REWARD}{role.name}", f"{RETURN}{role.name}"} & self._inputs
        }
        zeros = {
            name: torch.zeros(self._num_worlds, count, device=simulator.device)
            for name, count in roles.items()
        }
        self._reward, self._return = zeros, dict(zeros)
        self._completed_rounds = torch.zeros(self._num_worlds, device=simulator.device)
        self._finished: Bool[Tensor, " world"] | None = None
        self._outputs: dict[str, MetricOutput] = {}  # of metrics with memory
        self._shapes: dict[str, torch.Size] = {}
        if roles:
            simulator.reward_ledger.listeners.append(self._add_reward)
        self._evaluate_with_memory()

    def step(self) -> None:
        """Simulate one round; worlds that finished earlier keep their metrics."""
        self._finished = self._simulator.finished
        for role, reward in self._reward.items():
            zero = torch.zeros_like(reward)
            if self._finished is not None:
                zero = torch.where(self._finished[:, None], reward, zero)
            self._reward[role] = zero
        self._simulator.step()
        completed = self._completed_rounds + 1
        if self._finished is not None:
            completed = torch.where(self._finished, self._completed_rounds, completed)
        self._completed_rounds = completed
        self._evaluate_with_memory()

    def values(self) -> dict[str, Num[Tensor, "world *n"]]:
        """Metrics of the present round, `[world]` or `[world, n]`.

        Raises:
            UserError: a metric fails, or has another type or shape.
        """
        environment, own = self._simulator.environment, dict[str, Tensor]()
        names = {name for name, metric in self._metrics.items() if metric is None}
        if names & {*environment.policy_metric_names}:
            own |= policy_metrics(self._simulator)
        own |= self._metrics_of_policies(names)
        if names - own.keys():
            own |= checked_metrics(environment, self._simulator.state, self._num_worlds)
        inputs = self._present_inputs(with_memory=False)
        values = {}
        for name, metric in self._metrics.items():
            if metric is None:
                values[name] = own[name]
            elif metric.has_memory:
                values[name] = self._outputs[name].value
            else:
                values[name] = self._evaluate(name, metric, inputs).value
            self._check_shape(name, values[name])
        return values

    def _metrics_of_policies(self, names: Collection[str]) -> dict[str, Tensor]:
        """Those of `Policy.metrics` that have these names, checked."""
        found: dict[str, Tensor] = {}
        for role, policy in self._simulator.acting_policies.items():
            if not any(f"{role}.{name}" in names for name in policy.metric_names):
                continue
            values = policy.metrics(self._simulator.policy_states[role])
            for name in policy.metric_names:
                if f"{role}.{name}" in names:
                    if name not in values:
                        message = f"{type(policy).__name__}.metrics returns no {name!r}"
                        raise _metric_error(f"{role}.{name}", message, "missing")
                    check_metric(f"{role}.{name}", values[name], self._num_worlds)
                    found[f"{role}.{name}"] = values[name]
        return found

    def close(self) -> None:
        """Stop listening to rewards."""
        listeners = self._simulator.reward_ledger.listeners
        if self._add_reward in listeners:
            listeners.remove(self._add_reward)

    def _add_reward(self, role: str, reward: Float[Tensor, "world agent"]) -> None:
        if role in self._reward:
            self._reward[role] = self._reward[role] + reward.detach()
            self._return[role] = self._return[role] + reward.detach()

    def _evaluate_with_memory(self) -> None:
        inputs = self._present_inputs(with_memory=True)
        for name, metric in self._metrics.items():
            if metric is None or not metric.has_memory:
                continue
            old = self._outputs.get(name)
            new = self._evaluate(name, metric, inputs, None if old is None else old.memory)
            self._check_shape(name, new.value)
            if old is not None and self._finished is not None:
                new = pytree.where(self._finished, old, new)
            self._outputs[name] = new

    def _evaluate(
        self, name: str, metric: Metric, inputs: Mapping[str, Tensor], memory: Any = None
    ) -> MetricOutput:
        own = {each: inputs[each] for each in metric.inputs if each in inputs}
        value, memory = _evaluate(name, metric, own, self._num_worlds, memory)
        single = value.detach().to(torch.float32)
        if value.dtype is torch.float64 and (single.isinf() & value.isfinite()).any():
            message = "a number is beyond 3.4e38, the largest of float32, in which it is recorded"
            raise _metric_error(name, message, "out_of_range")
        return MetricOutput(single, memory)

    def _check_shape(self, name: str, value: Tensor) -> None:
        """Check that a metric has the shape that it had before."""
        before = self._shapes.setdefault(name, value.shape)
        if value.shape != before:
            rounds = int(self._completed_rounds.max())
            shapes = f"{list(before)} at the start and {list(value.shape)} after round {rounds}"
            raise _metric_error(name, f"its shape is {shapes}", "failed")

    def _present_inputs(self, with_memory: bool) -> dict[str, Tensor]:
        """Inputs of all metrics with or without memory in the present round."""
        names = {
            name
            for metric in self._metrics.values()
            if metric is not None and metric.has_memory == with_memory
            for name in metric.inputs
        }
        if not names:
            return {}
        simulator = self._simulator
        inputs = {f"{INITIAL}{name}": tensor for name, tensor in self._initial.items()}
        inputs |= {f"{REWARD}{role}": tensor for role, tensor in self._reward.items()}
        inputs |= {f"{RETURN}{role}": tensor for role, tensor in self._return.items()}
        if COMPLETED_ROUNDS in names:
            inputs[COMPLETED_ROUNDS] = self._completed_rounds
        return inputs | select_inputs(simulator.environment, simulator.state, names - inputs.keys())
