"""Curves of returns and learning, records of agents, callbacks, and the logs of trackers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import mores
from mores.agents.learning.episodic import EpisodicLearner
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.update import UpdateBatch
from mores.analysis import intervals
from mores.core.tracker import Log, Tracker
from mores.experiments.tracking.logs import trackers_of
from mores.registry import REGISTRIES
from tests.learners.small_environments import unchecked
from tests.refusals import refused

PPO = {"kind": "ppo", "num_steps": 16, "gamma": 0.96}
ALL_OF_PPO = {
    "approx_kl", "clip_fraction", "entropy", "explained_variance", "grad_norm", "loss",
    "policy_gradient_loss", "value_loss",
}  # fmt: skip


def train(policy: Any = PPO, episodes: int = 2, **kwargs: Any) -> Any:
    kwargs = {"rounds": 16, "replicates": 3, "seed": 2, **kwargs}
    return mores.train("matrix_game", {"player": policy}, episodes=episodes, **kwargs)


def test_learning_of_ppo() -> None:
    """With one step an update, the policy is the old one: no divergence, the entropy of acting."""
    one_step = {**PPO, "update_epochs": 1, "num_minibatches": 1, "ent_coef": 0.0}
    result = train(one_step, record=["actions", "observations", "rewards"])
    learning = result.learning
    assert {str(name).removeprefix("player.") for name in learning.data_vars} == ALL_OF_PPO
    assert learning["player.entropy"].dims == ("replicate", "episode")
    assert (learning["player.approx_kl"] == 0).all()
    assert (learning["player.clip_fraction"] == 0).all()
    first = learning.isel(episode=0)
    np.testing.assert_allclose(first["player.entropy"], np.log(2), atol=0.01)
    # Advantages are normalized, so their mean is 0 and with it the loss of the first step.
    np.testing.assert_allclose(first["player.policy_gradient_loss"], 0.0, atol=1e-6)
    total = first["player.policy_gradient_loss"] + 0.5 * first["player.value_loss"]
    np.testing.assert_allclose(first["player.loss"], total, rtol=1e-5)
    assert (first["player.explained_variance"] < 1).all()
    assert (first["player.grad_norm"] > 0).all()
    several = train({**PPO, "update_epochs": 4}).learning
    assert (several["player.approx_kl"] > 0).all()


def test_quantities_depend_on_the_recipe() -> None:
    names = {str(n) for n in train({"kind": "reinforce"}).learning.data_vars}
    assert names == {
        f"player.{n}" for n in ("entropy", "grad_norm", "loss", "policy_gradient_loss")
    }
    members = [PPO, {"kind": "strategy", "name": "cooperator"}]
    learning = train({"kind": "per_agent", "policies": members}).learning
    assert learning["player.policy 0/entropy"].dims == ("replicate", "episode")
    by_agent = train({**PPO, "parameter_sharing": "agent"}).learning
    assert by_agent["player.loss"].dims == ("replicate", "episode", "player_model")
    # 32 rounds an update, 16 an episode: every other episode has one.
    sparse = train({**PPO, "num_steps": 32}, episodes=4).learning["player.loss"]
    assert sparse.isnull().values.tolist() == [[True, False, True, False]] * 3


def test_a_loss_term_of_the_user_has_a_curve() -> None:
    def mean_logp(out: Any, batch: Any) -> Tensor:
        return out.logp.mean((1, 2))

    def report(out: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"highest_logp": out.logp.amax((1, 2))}

    class Own(EpisodicLearner):
        """A term and a quantity of the user's own."""

        def make_update_batch(self, batches: Any, state: Any) -> UpdateBatch:
            terms = (LossTerm(mean_logp, 0.5, diagnostics=report),)
            return UpdateBatch(batches, Objective(terms))

    learning = train(Own()).learning
    np.testing.assert_allclose(learning["player.mean_logp"], 2 * learning["player.loss"])
    assert (learning["player.highest_logp"] >= learning["player.mean_logp"]).all()


@unchecked()
def test_wrong_learning_metrics_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mores.agents.learning.recipes.ppo import PPO as Recipe

    for values in (None, {"loss": 1.0}, {"loss": torch.zeros(4)}, {"loss": torch.zeros(3, 1)}):
        monkeypatch.setattr(Recipe, "learning_metrics", lambda self, state, x=values: x)
        with refused("failed", path="policies.player"):
            train()


def test_returns_and_records() -> None:
    """Rewards add up to the return; what is recorded equals what the policy saw and did."""
    result = train(record=["rewards", "actions", "observations"], record_worlds=2, worlds=2)
    records = result.records
    assert records["actions_player"].dims == ("world", "episode", "round", "player_agent")
    assert records["observations_player"].dims[-1] == "observations_player_component"
    assert records["round"].values.tolist() == list(range(1, 17))
    assert records["replicate"].values.tolist() == [0, 0] and records["active"].all()
    total = records["rewards_player"].sum("round").mean("player_agent")
    np.testing.assert_allclose(result.curves["return_player"][:2], total, rtol=1e-6)
    plain = train(worlds=2)
    assert result.curves.identical(plain.curves) and not plain.records.data_vars
    rate = 1 - records["actions_player"].mean(("round", "player_agent"))
    np.testing.assert_allclose(result.curves["cooperation_rate"][:2], rate, rtol=1e-6)
    evaluation = result.evaluate(2, record=["actions"], record_worlds=1)
    assert evaluation["actions_player"][1:].isnull().all() and not evaluation["active"][1:].any()
    assert evaluation.drop_vars(["actions_player", "active", "round"]).identical(result.evaluate(2))
    with refused("unknown_name", path="record"):
        train(record=["action"])


def test_records_of_phases_and_of_ended_episodes() -> None:
    environment = mores.make_environment("moral_hazard", num_agents=2, termination_probability=0.5)
    result = mores.simulate(
        environment, worlds=8, rounds=9, metrics=["return_agent"], record=["rewards", "actions"]
    )
    records, returns = result.records, result.metrics["return_agent"].isel(round=-1)
    acting = [p.name for p in environment.phases if "principal" in p.action_spaces]
    assert len(acting) > 1 and f"actions_principal_{acting[0]}" in records
    rewards = records["rewards_agent"].where(records["active"], 0.0)
    np.testing.assert_allclose(rewards.sum("round").mean("agent_agent"), returns, rtol=1e-5)
    ended = ~records["active"].values
    assert ended[:, -1].any() and not ended[:, 0].any()


def test_learning_of_a_simulation() -> None:
    result = mores.simulate(
        mores.make_environment("matrix_game"), {"player": PPO}, mores.Worlds.grid(2, 2), 16
    )
    assert result.learning["player.loss"].dims == ("replicate",)
    assert result.learning["player.loss"].notnull().all()


@unchecked()
def test_callbacks() -> None:
    seen: dict[int, Any] = {}

    def callback(episode: int, info: Any) -> None:
        seen[episode] = info
        with pytest.raises(TypeError):
            info.policy_states["player"] = None

    result = train(callback=callback)
    assert list(seen) == [1, 2]
    for episode, info in seen.items():
        curves = result.curves.isel(episode=episode - 1)
        assert np.array_equal(info.metrics["return_player"], curves["return_player"])
        learning = result.learning.isel(episode=episode - 1)
        assert np.array_equal(info.learning["player.loss"][:, 0], learning["player.loss"])
        info.metrics["return_player"][:] = 1e9  # the callback's own
    assert float(result.curves["return_player"].max()) < 1e9
    episodes: list[int] = []
    result.train(1, callback=lambda episode, info: episodes.append(episode))
    assert episodes == [3]

    def fails(*arguments: Any) -> None:
        raise ValueError("no disk")

    with refused("failed", path="callback"):
        train(callback=fails)
    with refused("failed", path="callback"):
        mores.simulate(mores.make_environment("matrix_game"), rounds=1, callback=fails)
    with refused("wrong_type", path="callback"):
        train(callback=3)


def test_learning_curve_has_the_interval_of_its_replicates() -> None:
    result = train(replicates=5, worlds=2)
    curve = result.learning_curve("return_player")
    x = result.curves["return_player"].groupby("replicate").mean().values[:, -1].astype(float)
    low, high = stats.t.interval(0.95, 4, x.mean(), stats.sem(x))
    expected = [x.mean(), low, high]
    assert [float(curve[n][-1]) for n in ("mean", "low", "high")] == pytest.approx(expected)
    assert result.learning_curve("player.entropy")["mean"].notnull().all()
    assert result.learning_curve("return_by_agent[1]").sizes == {"episode": 2}
    curve = result.learning_curve("cooperation_rate", level=0.9)
    x = result.curves["cooperation_rate"].groupby("replicate").mean().values[:, -1]
    of_claims = intervals.estimate(x, "mean", 0.9, (0.0, 1.0))
    assert "Gaffke" in of_claims.method
    assert [float(curve[n][-1]) for n in ("low", "high")] == [of_claims.low, of_claims.high]
    wrong = [("returns", "unknown_name"), ("return_by_agent", "invalid_value")]
    for name, code in [*wrong, ("return_by_agent[10", "invalid_value")]:
        with refused(code, path="name"):
            result.learning_curve(name)


# --- trackers -------------------------------------------------------------------------------------


def numbers_of(track: Any, **kwargs: Any) -> Any:
    result = train(track=track, **kwargs)
    return result.curves["return_player"].mean("world").values.astype(float).tolist()


def test_json_lines(tmp_path: Path) -> None:
    log = {"kind": "jsonl", "folder": str(tmp_path), "name": "pair"}
    means = numbers_of(log)
    lines = [json.loads(line) for line in (tmp_path / "pair.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["return_player"] for line in lines] == pytest.approx(means)
    assert all(e["return_player.low"] <= e["return_player"] for e in lines)
    assert all("player.entropy" in line and "return_by_agent[1]" in line for line in lines)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an optional dependency")
    means = numbers_of({"kind": "tensorboard", "folder": str(tmp_path), "name": "pair"})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "pair")).Reload()
    scalars = events.Scalars("return_player")
    assert [each.step for each in scalars] == [1, 2]
    assert [each.value for each in scalars] == pytest.approx(means)


def test_wandb(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="an optional dependency")
    log = {"kind": "wandb", "folder": str(tmp_path), "name": "pair", "mode": "offline"}
    numbers_of(log)
    assert list(tmp_path.rglob("*.wandb"))


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an optional dependency")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # without a database library
    means = numbers_of({"kind": "mlflow", "tracking_uri": tmp_path.as_uri(), "name": "pair"})
    client = mlflow.MlflowClient(tmp_path.as_uri())
    experiment = client.get_experiment_by_name("mores")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "return_player")
    assert [each.value for each in history] == pytest.approx(means)


def test_a_tracker_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, int, float]] = []

    class Memory(Tracker):
        fails: bool = False

        @contextmanager
        def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
            assert parameters["policies"] == {"player": "ppo"} and folder == Path("logs")

            def log(step: int, values: Mapping[str, float]) -> None:
                if self.fails:
                    raise OSError("no connection")
                logged.append((name, step, values["return_player"]))

            yield log

    monkeypatch.setitem(REGISTRIES["tracker"], "memory", Memory)
    means = numbers_of(["memory", Memory(name="second")])
    assert [each[2] for each in logged] == pytest.approx([m for m in means for _ in range(2)])
    assert logged[0][0].startswith("matrix_game-") and logged[1][0] == "second"
    with refused("failed", path="track"):
        train(track={"kind": "memory", "fails": True})
    with refused("unknown_name", path="tensorbord"):
        train(track="tensorbord")
    monkeypatch.setattr(Memory, "modules", ("no_such_module",))
    with refused("not_installed", path="track"):
        trackers_of("memory")


def test_metrics_with_parameters_and_names(tmp_path: Path) -> None:
    """As in scenarios, runs and `simulate`; also of a result that was saved and loaded."""
    camps = [{"name": n, "mean_offset": [x, 0.0]} for n, x in (("left", -1.0), ("right", 1.0))]
    means = {"kind": "group_means", "num_groups": 2}
    metrics = ["drift", means, {**means, "value": 1, "name": "freedom"}, "mean_value"]
    population = mores.make_population(
        "normal", num_people=8, value_names=["care", "freedom"], components=camps
    )
    environment = mores.make_environment("coevolution", num_people=8, num_values=2)
    learner = {"assistant": {"kind": "ppo", "num_steps": 4}}
    settings = {"rounds": 4, "population": population, "metrics": metrics}
    trained = mores.train(environment, learner, episodes=1, **settings)
    loaded = mores.load_trained(trained.save(tmp_path / "trained.safetensors"))
    longer, whole = loaded.train(1), mores.train(environment, learner, episodes=2, **settings)
    assert longer.curves.identical(whole.curves)
    for curves in (trained.curves, loaded.curves, longer.curves, loaded.evaluate(metrics=metrics)):
        assert {*curves.data_vars} == {"drift", "group_means", "freedom", "mean_value"}
        assert curves.group_means_component.values.tolist() == ["left", "right"]
        assert curves.mean_value_component.values.tolist() == ["care", "freedom"]
    curve = longer.learning_curve("group_means[right]")
    assert curve["mean"].equals(longer.learning_curve("group_means[1]")["mean"])
    simulated = mores.simulate(environment, rounds=1, population=population, metrics=metrics)
    assert {*simulated.metrics.data_vars} == {*longer.curves.data_vars}
    assert len(repr(trained)) < 300 and len(repr(simulated)) < 300  # without tensors
    with refused("duplicate", path="metrics"):
        mores.train(environment, learner, episodes=1, rounds=4, metrics=[means, means])
