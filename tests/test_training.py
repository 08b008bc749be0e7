"""`mores.train`: invalid arguments, saving and loading, evaluation elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ConfigDict
from torch import Tensor

import mores
from mores.core.arguments import check_device, check_integer, check_names
from mores.core.environment import Phase, Role, StepResult
from mores.core.learner import Learner
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.experiments.trained import TrainingResult
from tests.learners.small_environments import Minimal, unchecked
from tests.refusals import check_message, refused

GRU = {"kind": "gru", "hidden_size": 4}
LEARNER = {"kind": "ppo", "parameter_sharing": "agent", "num_steps": 4, "network": GRU}
COOPERATOR = {"kind": "strategy", "name": "cooperator"}
GRUDGER = {"kind": "strategy", "name": "grudger"}


def train(environment: Any = "matrix_game", policy: Any = LEARNER, **kwargs: Any) -> TrainingResult:
    kwargs = {"episodes": 1, "rounds": 6, "replicates": 2, **kwargs}
    return mores.train(environment, {"player": policy}, **kwargs)


def per_agent(*policies: Any) -> dict[str, Any]:
    return {"kind": "per_agent", "policies": list(policies)}


@pytest.mark.parametrize(
    ("kwargs", "code", "path"),
    [
        ({"roles_to_train": ["playr"]}, "unknown_name", "roles_to_train"),
        ({"roles_to_train": "player"}, "wrong_type", "roles_to_train"),
        ({"roles_to_train": []}, "missing", "roles_to_train"),
        ({"metrics": "cooperation_rate"}, "wrong_type", "metrics"),
        ({"population": "anes"}, "unknown_name", "anes"),
        ({"population": {}}, "missing", "population.kind"),
        ({"device": "cpuu"}, "unknown_name", "device"),
        ({"policy": "PPO"}, "unknown_name", "PPO"),
        ({"policy": {"kind": ["ppo"]}}, "wrong_type", "policies.player.kind"),
    ],
)
def test_invalid_arguments_are_errors(kwargs: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path=path):
        train(**kwargs)


def test_checks_of_arguments() -> None:
    with refused("wrong_type", path="seed"):
        check_integer("seed", "1", minimum=None)
    with refused("out_of_range", path="rounds"):
        check_integer("rounds", 3, maximum=2)
    with pytest.raises(mores.UserError) as device:
        check_device(None)
    assert (device.value.code, device.value.path) == ("unknown_name", "device")
    check_message(str(device.value).replace(", cuda", ""))
    with refused("unknown_name", path="metrics"):
        check_names("metrics", ["3"], ["score"])
    with refused("wrong_type", path="metrics"):
        check_names("metrics", [{"kind": "score"}])
    assert check_names("metrics", ["score", "score"], ["score"]) == ["score"]


@pytest.mark.parametrize(
    "policy",
    [
        LEARNER,
        per_agent(LEARNER, GRUDGER),
        {"kind": "reinforce", "parameter_sharing": "replicate"},
    ],
    ids=lambda policy: policy["kind"],
)
def test_saved_results_evaluate_as_before(tmp_path: Path, policy: Any) -> None:
    environment = {"kind": "matrix_game", "tremble_probability": 0.1}
    before = train(environment, policy, worlds=2, seed=5)
    after = mores.load_trained(before.save(tmp_path / "new" / "learners"))
    assert after.curves.identical(before.curves)
    assert after.evaluate(episodes=2).identical(before.evaluate(episodes=2))
    for name, tensor in before.state_dict("player").items():
        assert torch.equal(after.state_dict("player")[name], tensor)


def test_a_full_disk_preserves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result, path = train(), Path("learners")
    before = result.save(path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "replace", full)
    with refused("not_writable", path="learners"):
        result.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["learners"]


@pytest.mark.parametrize("path", ["", "."])
def test_save_needs_a_path(path: Any) -> None:
    with refused("invalid_value", path="path"):
        train().save(path)


def test_changed_files_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = train().save("learners")
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 1
    other = Path("other")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, other)
    path.write_bytes(flipped)
    with refused("unreadable", path="learners"):
        mores.load_trained(path)
    path.write_bytes(content[:-3])
    with pytest.raises(mores.UserError) as error:
        mores.load_trained(path)
    assert (error.value.code, error.value.path) == ("unreadable", "learners")
    check_message(re.sub(r"\(.*\)", "(message of safetensors)", str(error.value)))
    with refused("unreadable", path="other"):
        mores.load_trained(other)
    with refused("unreadable", path="none"):
        mores.load_trained("none")


def test_an_unregistered_class_is_not_saved(tmp_path: Path) -> None:
    from mores.agents.scripted.repeated_game import Strategy

    class Unregistered(Strategy):
        pass

    members = [mores.make_policy("ppo", num_steps=4), Unregistered(name="grudger")]
    policy = mores.make_policy("per_agent", policies=members)
    with refused("unsupported", path="per_agent"):
        train(policy=policy).save(tmp_path / "learners")
    with refused("out_of_range", path="episodes"):
        train(policy=policy).evaluate(episodes=0)


class FirstOption(Policy):
    """Policy with action 0 and a tensor parameter, which `==` cannot compare."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    scale: Any = torch.ones(2)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64))


@pytest.mark.full
def test_training_without_observations_and_metrics() -> None:
    learner = mores.make_policy("ppo", num_steps=4, learning_rate=0.05, ent_coef=0.0)
    result = mores.train(Minimal(), {"actor": learner}, episodes=20, rounds=8, worlds=4)
    assert dict(result.curves.sizes) == {"world": 4, "episode": 20}
    assert list(result.curves.data_vars) == ["return_actor"]
    bias = result.state_dict("actor")["act.act.bias"][0, 0]
    assert bias[1] > bias[0] and result.evaluate().sizes["episode"] == 1


@pytest.mark.full
@unchecked()
def test_a_learner_is_evaluated_only_where_it_trained() -> None:
    """As the same agents of a `per_agent` policy, or alone; elsewhere it would be untrained."""
    learner = {"kind": "ppo", "num_steps": 32, "gamma": 0.96, "network": {"kind": "mlp"}}
    result = train(policy=per_agent(learner, COOPERATOR), episodes=12, rounds=64)
    policies = {"player": per_agent(learner, GRUDGER)}
    rates = result.evaluate(policies=policies).cooperation_rate_by_agent.mean("world")[0]
    assert rates[0] < 0.1  # it learned to exploit a cooperator
    for policy in (per_agent(COOPERATOR, learner), learner):
        with refused("not_trained", path="policies.player"):
            result.evaluate(policies={"player": policy})
    alone = train()
    with refused("not_trained", path="policies.player"):
        alone.evaluate(policies={"player": per_agent(learner, COOPERATOR)})
    scripted = alone.evaluate(policies={"player": per_agent(COOPERATOR, GRUDGER)})
    assert float(scripted.cooperation_rate.mean()) == 1
    learner = {"kind": "ppo", "num_steps": 8}
    result = mores.train("moral_hazard", {"agent": learner}, episodes=2, rounds=16)
    with refused("not_trained", path="policies.principal"):
        result.evaluate(policies={"principal": "ppo"})
    both = {"principal": learner, "agent": learner}
    only = ["principal"]
    result = mores.train("moral_hazard", both, episodes=2, rounds=16, roles_to_train=only)
    assert result.evaluate().sizes["episode"] == 1  # with the untrained agents of the training
    with refused("not_trained", path="policies.agent"):
        result.evaluate(policies={"agent": learner})
    with refused("wrong_type", path="search"):
        alone.evaluate(search="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reward", "code", "path"),
    [
        (lambda action: {"actor": action[:, 0]}, "wrong_shape", "reward.actor"),
        (lambda action: {"acter": action}, "unknown_name", "reward.acter"),
        (lambda action: {"actor": action.tolist()}, "wrong_type", "reward.actor"),
    ],
)
@unchecked()
def test_an_invalid_reward_is_an_error(
    reward: Any, code: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(
        self: Minimal, state: Tensor, phase: str, actions: Any, streams: RandomStreams
    ) -> StepResult[Tensor]:
        return StepResult(state, reward(actions["actor"].float()))

    monkeypatch.setattr(Minimal, "step", step)
    with refused(code, path=path):
        mores.train(Minimal(), {"actor": "ppo"}, episodes=2, rounds=64, worlds=2)


@pytest.mark.parametrize(
    ("metrics", "code", "path"),
    [
        ({"mood": 3.0}, "failed", "metrics.mood"),
        ({"mood": torch.zeros(2)}, "failed", "metrics.mood"),
        ({"mood": torch.zeros(3, 1, 1)}, "failed", "metrics.mood"),
        ({"mood": torch.zeros(3, 0)}, "failed", "metrics.mood"),
        ({"mood": torch.zeros(3, dtype=torch.bfloat16)}, "failed", "metrics.mood"),
        ({"mood": torch.zeros(3).to_sparse()}, "failed", "metrics.mood"),
        ({"world": torch.zeros(3)}, "invalid_value", "metrics"),
        ({3: torch.zeros(3)}, "failed", "metrics"),
        (None, "failed", "metrics"),
    ],
)
@unchecked()
def test_invalid_metrics_are_an_error(
    metrics: Any, code: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Minimal, "metrics", lambda self, state: metrics)
    with refused(code, path=path):
        mores.train(Minimal(), {"actor": "ppo"}, episodes=2, rounds=64, worlds=3)


def test_a_training_with_a_trajectory_is_saved(tmp_path: Path) -> None:
    """Environments are compared by their parameters; the rows of a trajectory are cached."""
    environment = {"kind": "coevolution", "challenge": "coevolve", "num_people": 4}
    learner = {"assistant": {"kind": "ppo", "num_steps": 4}}
    result = mores.train(environment, learner, episodes=1, rounds=8)
    loaded = mores.load_trained(result.save(tmp_path / "challenge"))
    assert loaded.setup.environment == result.setup.environment
    assert loaded.setup.environment != mores.make_environment("coevolution", num_people=4)
    assert loaded.setup.environment != "coevolution"


def test_evaluation_with_other_people() -> None:
    """The unit of the human, the noise of answers and the number of people are of its people."""
    narrow, wide = (
        {"kind": "normal", "num_people": n, "std": std} for n, std in ((6, 0.5), (9, 4.0))
    )
    environment = {"kind": "coevolution", "num_values": 1, "value_limit": 100.0}
    learner = {"assistant": {"kind": "ppo", "num_steps": 4}}
    shared = {"episodes": 1, "rounds": 4, "replicates": 3}
    result = mores.train(environment, learner, population=narrow, **shared)
    own, there = result.evaluate(), result.evaluate(population=wide)
    assert own.identical(result.evaluate(environment=environment))
    assert there.identical(result.evaluate(environment=environment, population=wide))
    assert (there.rms_distance > 2 * own.rms_distance).all()


@pytest.mark.full
def test_evaluation_in_another_environment() -> None:
    """With equal spaces the behavior is equal, and the payoffs are those of the environment."""
    result = train(episodes=8, rounds=32)
    own = result.evaluate()
    other = result.evaluate(environment={"kind": "matrix_game", "payoffs": "chicken"})
    rates = (each.cooperation_rate_by_agent.values for each in (own, other))
    torch.testing.assert_close(*rates)
    assert not (own.mean_payoff == other.mean_payoff).any()
    token_feedback = mores.make_environment("token_feedback")
    for environment, code, path in (
        ({"kind": "matrix_game", "memory_depth": 2}, "incompatible", "policies.player"),
        (token_feedback, "incompatible", "environment"),
        ("matrix_gam", "unknown_name", "matrix_gam"),
    ):
        with refused(code, path=path):
            result.evaluate(environment=environment)
    public = {"kind": "matrix_game", "payoffs": "public_goods", "memory_depth": 0}
    # an observation of equal size with other parts
    other = {"kind": "token_feedback", "num_prompt_features": 16, "completion_length": 5}
    result = mores.train("token_feedback", {"assistant": "grpo"}, episodes=1, rounds=6)
    with refused("incompatible", path="policies.assistant"):
        result.evaluate(environment=other, rounds=5)
    result = train({**public, "num_levels": 3}, {**LEARNER, "parameter_sharing": "role"})
    with refused("incompatible", path="policies.player"):
        result.evaluate(environment={**public, "num_levels": 2})
    three = {**public, "num_agents": 3, "memory_depth": 1, "num_levels": 2}
    with refused("wrong_shape", path="policies.player"):
        train(policy=per_agent(LEARNER, LEARNER)).evaluate(environment=three)


@pytest.mark.full
def test_a_trained_default_policy_is_used_elsewhere() -> None:
    """It replaces the default policy of the other environment."""

    class Counted(Minimal):
        learns: bool

        def default_policies(self) -> Mapping[str, Policy]:
            learner = mores.make_policy("ppo", num_steps=4, ent_coef=0.0)
            return {"actor": learner if self.learns else FirstOption()}

        def step(
            self, state: Tensor, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
        ) -> StepResult[Tensor]:
            return StepResult(actions["actor"].float().mean(1), {"actor": actions["actor"].float()})

        def metrics(self, state: Tensor) -> Mapping[str, Tensor]:
            return {"mean_action": state}

    result = mores.train(Counted(learns=True), {}, episodes=20, rounds=8, worlds=8)
    assert float(result.evaluate(environment=Counted(learns=False)).mean_action.mean()) == 1
    with refused("incompatible", path="environment"):
        result.evaluate(environment="token_feedback")


def test_evaluation_with_another_population() -> None:
    network = {"kind": "mlp", "hidden_sizes": [4]}
    learner = {"kind": "ppo", "num_steps": 4, "network": network}
    result = mores.train(
        {"kind": "coevolution", "num_people": 6, "num_values": 2},
        {"assistant": learner},
        episodes=1,
        rounds=4,
        population={"kind": "normal", "num_people": 6, "num_values": 2},
    )
    smaller = {"kind": "coevolution", "num_people": 5, "num_values": 2}
    with refused("wrong_shape", path="population"):
        result.evaluate(environment=smaller)
    people = {"kind": "normal", "num_people": 5, "num_values": 2}
    assert result.evaluate(environment=smaller, population=people).sizes["world"] == 1
    narrow = result.evaluate(population={**people, "num_people": 6, "std": 0.1})
    assert float(narrow.rms_distance.mean()) < float(result.evaluate().rms_distance.mean())


@pytest.mark.parametrize(
    ("environment", "role", "policy"),
    [
        ("moral_hazard", "principal", "best_response_agent"),
        ("moral_hazard", "agent", "fixed_share_principal"),
        ("matrix_game", "player", "truthful_report"),
        ("matrix_game", "player", "dr_mdp_planner"),
        ("matrix_game", "player", "advocate"),
    ],
)
def test_policies_of_another_environment_are_errors(
    environment: str, role: str, policy: str
) -> None:
    policies = {role: mores.make_policy(policy)}
    with refused("unsupported", path=f"policies.{role}"):
        mores.simulate(mores.make_environment(environment), policies, rounds=1)


@unchecked()
def test_a_role_that_shares_trained_parameters_is_trained() -> None:
    class TwoRoles(Minimal):
        """Two roles with equal observation and action spaces."""

        @property
        def roles(self) -> tuple[Role, ...]:
            return (Role("left", 2, Box.of()), Role("right", 2, Box.of()))

        @property
        def phases(self) -> tuple[Phase, ...]:
            return (Phase("act", {"left": Discrete(2), "right": Discrete(2)}),)

        def step(
            self, state: Tensor, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
        ) -> StepResult[Tensor]:
            return StepResult(state, {role: action.float() for role, action in actions.items()})

    for sharing, trained in (("replicate", True), ("role", False)):
        learner = mores.make_policy("ppo", num_steps=4, parameter_sharing=sharing)
        policies = {"left": learner, "right": learner}
        result = mores.train(TwoRoles(), policies, episodes=1, rounds=8, roles_to_train=["left"])
        error = refused("not_trained", path="policies.right")
        with contextlib.nullcontext() if trained else error:
            result.evaluate(policies={"right": learner})


@unchecked()
def test_a_state_dict_is_read_only_after_the_first_episode() -> None:
    class RewardList(FirstOption, Learner):
        """Learner whose state dict has no value before the first reward."""

        trains: ClassVar = {"online"}

        def initial_state(self, role: Role, phases: Any, streams: RandomStreams) -> list[Tensor]:
            return []

        def act(
            self,
            phase: Phase,
            observation: Tensor,
            action_mask: Any,
            state: Any,
            streams: RandomStreams,
        ) -> ActionOutput:
            return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), state)

        def update(self, state: Any, transition: Any, streams: RandomStreams) -> Any:
            return [*state, transition.reward.sum(1)]

        def state_dict(self, state: Any) -> dict[str, Tensor]:
            return {"rewards": torch.stack(state, 1)}

    result = mores.train(Minimal(), {"actor": RewardList()}, episodes=2, rounds=3)
    assert result.state_dict("actor")["rewards"].shape == (1, 6)
