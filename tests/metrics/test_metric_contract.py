"""The metric contract: inputs by name, parameters, memory, finished worlds, independent worlds."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor

import mores
from mores.core.deterministic_sum import mean
from mores.core.metric import Metric, metric_class
from mores.core.random_streams import Worlds
from mores.registry import REGISTRIES, class_of
from mores.sim.metric_tracker import MetricTracker, resolve_metrics
from tests.conformance.environments import ALL_KINDS, Relay, make
from tests.refusals import refused

ROUNDS = 4
PACKAGE = sorted(REGISTRIES["metric"].package_kinds)


def usable_metrics(environment: mores.Environment[Any]) -> dict[str, Any]:
    """Every registered metric whose inputs an environment has, with the parameters it needs."""
    state = environment.reset(mores.RandomStreams.of(0, 1))
    people = environment.people(state)
    needed = {
        "displacement": {"direction": (1.0,) * (0 if people is None else people.values.shape[2])},
        "group_means": {"num_groups": 3},
        "mean_return": {"role": environment.roles[-1].name},
    }
    usable = {}
    for kind in PACKAGE:
        metric = class_of("metric", kind)(**needed.get(kind, {}))
        try:
            resolve_metrics(environment, state, 1, {kind: metric})
        except mores.UserError as error:
            assert (error.code, error.path) == ("missing", "metrics")
            continue
        usable[kind] = metric
    return usable


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_metrics_run_where_their_inputs_exist(kind: str) -> None:
    """`[world]` or `[world, n]`; a world's numbers are the same alone and beside another."""
    environment = make(kind)
    specs = usable_metrics(environment)
    specs |= {f"return_{role.name}": f"return_{role.name}" for role in environment.roles}
    has_people = environment.people(environment.reset(mores.RandomStreams.of(0, 1))) is not None
    assert ("bimodality_coefficient" in specs) == has_people
    recorded = [
        mores.simulate(environment, worlds=worlds, rounds=ROUNDS, metrics=specs).metrics
        for worlds in (Worlds.of([0, 1]), Worlds.of([1]))
    ]
    for name in specs:
        together, alone = (metrics[name] for metrics in recorded)
        assert together.dtype == np.float32
        assert together.sizes["round"] == ROUNDS + 1
        assert together.dims in (("world", "round"), ("world", "round", f"{name}_component"))
        assert together.values[1:].tobytes() == alone.values.tobytes(), name


def test_every_registered_metric_is_usable_somewhere() -> None:
    environments = [make(kind) for kind in ALL_KINDS]
    assert {name for each in environments for name in usable_metrics(each)} == set(PACKAGE)


def register(monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    monkeypatch.setitem(REGISTRIES["metric"], function.__name__, function)


def test_inputs_of_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latent quantities, the start, rewards, own metrics, rounds; finished worlds are frozen."""

    def everything(
        secret: Tensor,
        initial_secret: Tensor,
        reward_runner: Tensor,
        return_runner: Tensor,
        completed_rounds: Tensor,
        rounds: Tensor,
        absent: Tensor | None = None,
        *,
        scale: float = 1.0,
    ) -> Tensor:
        assert absent is None
        parts = [secret - initial_secret, reward_runner, return_runner]
        columns = [completed_rounds, rounds]
        return scale * torch.stack([*(mean(part, 1) for part in parts), *columns], 1)

    register(monkeypatch, everything)
    environment = Relay(termination_probability=0.3)
    specs = {"one": "everything", "ten": {"kind": "everything", "scale": 10}}
    result = mores.simulate(environment, worlds=16, rounds=6, metrics=specs)
    one, ten = (torch.from_numpy(result.metrics[name].values) for name in ("one", "ten"))
    assert torch.equal(ten, 10 * one)
    assert (one[:, 0] == 0).all()
    drift, reward, total, _, length = one.unbind(-1)
    assert torch.equal(reward[:, 1], torch.full((16,), 222.0))  # 111 times the mean weight
    assert torch.equal(total, 222.0 * length)
    assert length[:, -1].min() < 6
    assert length[:, -1].max() == 6
    for world in range(16):
        end = int(length[world, -1])
        assert (one[world, end:, :4] == one[world, end, :4]).all()
        assert one[world, end, 3] == end
    assert drift[:, -1].abs().max() > 0


def test_memory_is_a_fold_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean_so_far(rounds: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        count, total = memory or (0 * rounds, 0 * rounds)
        count, total = count + 1, total + rounds
        return total / count, (count, total)

    register(monkeypatch, mean_so_far)
    environment = Relay(termination_probability=0.3)
    specs = ["mean_so_far", "rounds"]
    result = mores.simulate(environment, worlds=16, rounds=6, metrics=specs, metric_rounds=[2, 6])
    assert result.metrics["mean_so_far"].equals(result.metrics["rounds"] / 2)


def test_names_that_no_environment_metric_has() -> None:
    environment = make("lock_in")
    for specs, code, path in (
        (["bimodality"], "unknown_name", "metrics"),
        (["group_gap"], "missing", "metrics"),
        ({"diversity": {"kind": "hill_number", "order": -1}}, "out_of_range", "hill_number.order"),
        ({"diversity": {"kind": "hill_numbr"}}, "unknown_name", "hill_numbr"),
        (["displacement"], "missing", "displacement.direction"),
    ):
        with refused(code, path):
            mores.simulate(environment, metrics=specs, rounds=1)  # type: ignore[arg-type]


def test_results_of_a_wrong_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_people(values: Tensor) -> Tensor:
        return values

    def without_memory(values: Tensor, memory: Any = None) -> Tensor:
        return values[:, 0, 0]

    for function, path in ((of_people, "metrics.of_people"), (without_memory, "metrics")):
        register(monkeypatch, function)
        with refused("failed", path):
            mores.simulate(make("lock_in"), metrics=[function.__name__], rounds=1)


def test_metrics_that_fail_in_a_later_round(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
def raises(values, completed_rounds):
    assert completed_rounds.max() < 2, "no value\\nfor this round"
    return values[:, 0, 0]
"""
    exec(compile(source, "mine.py", "exec"), names := {})

    def grows(values: Tensor, completed_rounds: Tensor) -> Tensor:
        return values[:, : 1 + int(completed_rounds.max()), 0]

    def huge(values: Tensor, completed_rounds: Tensor) -> Tensor:
        return completed_rounds.double() * 1e39

    def static_memory(values: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        return values[:, 0, 0], {"scale": torch.ones(3)}

    def adds(values: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        memory = torch.zeros(len(values)) if memory is None else memory.add_(1)
        return memory, memory

    for function, code in (
        (names["raises"], "failed"),
        (grows, "failed"),
        (huge, "out_of_range"),
        (static_memory, "wrong_shape"),
        (adds, "modified_input"),
    ):
        register(monkeypatch, function)
        with refused(code, f"metrics.{function.__name__}") as caught:
            mores.simulate(make("lock_in"), metrics=[function.__name__], rounds=3)
        assert "\n" not in str(caught.value)


def test_functions_that_are_no_metrics() -> None:
    def keyword_memory(values: Tensor, *, memory: Any = None) -> Tensor: ...
    def memory_without_default(values: Tensor, memory: Any) -> Tensor: ...
    def all_values(*values: Tensor) -> Tensor: ...
    def nothing(*, weight: float = 1.0) -> Tensor: ...
    def named(values: Tensor, *, name: str = "a") -> Tensor: ...
    def of_function(values: Tensor, *, function: str = "a") -> Tensor: ...
    def private(values: Tensor, *, _weight: float = 1.0) -> Tensor: ...

    class Kind(Metric):
        kind: str

    for entry, code in (
        (keyword_memory, "invalid_value"),
        (memory_without_default, "invalid_value"),
        (all_values, "invalid_value"),
        (nothing, "missing"),
        (named, "invalid_value"),
        (of_function, "invalid_value"),
        (private, "invalid_value"),
        (Kind, "invalid_value"),
        (dict, "wrong_type"),
        (3, "wrong_type"),
    ):
        with refused(code, "mine"):
            metric_class("mine", entry)


def test_parameters_have_types_and_limits() -> None:
    def weighted(values: Tensor, *, weight: Annotated[float, Field(ge=0)] = 1.0, size=2) -> Tensor:
        return weight * values[:, 0]

    made = metric_class("weighted", weighted)
    assert made(weight=2).model_dump() == {"weight": 2.0, "size": 2}  # type: ignore[call-arg]
    for wrong in ({"weight": -1}, {"size": "many"}, {"wight": 1}):
        with pytest.raises(ValueError):
            made(**wrong)


def test_the_tracker_stops_listening() -> None:
    simulator = mores.Simulator(Relay(), Relay().default_policies(), worlds=2, rounds=3)
    simulator.reset(0)
    tracker = MetricTracker(simulator, ["return_caller"])
    assert simulator.reward_ledger.enabled
    tracker.close()
    assert not simulator.reward_ledger.enabled
