"""Policies that share a role: each acts and trains for its own agents as it would alone."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mores import registry
from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.scripted.repeated_game import Strategy
from mores.agents.scripted.uniform_random import UniformRandom
from mores.cli.commands import main
from mores.core import pytree
from mores.core.environment import Phase, Role, Transition
from mores.core.learner import Learner, TrainingDiagnostics
from mores.core.policy import ActionOutput
from mores.core.random_streams import Worlds
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.strategic.matrix_game import ImitateLast, MatrixGame
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.expansion import build_cells, resolved_yaml
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import ScenarioError, format_path
from mores.registry import make_policy
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.cells import expand
from tests.conformance.environments import RandomOption, Relay
from tests.refusals import check_message, refused


@dataclasses.dataclass(frozen=True)
class TallyState:
    """Rewards and last observation of the agents, and their rewards in a dataset."""

    reward_sum: Tensor  # [world, agent]
    observation: Tensor  # [world, agent, size]
    dataset_reward: Tensor  # [world, agent]


class Tally(Learner):
    """Always cooperates (with search: defects), and adds up the rewards of its agents."""

    searches: ClassVar = True
    trains: ClassVar = {"online", "offline"}

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: Any) -> TallyState:
        zeros = torch.zeros(streams.num_worlds, role.num_agents)
        observation = torch.zeros(*zeros.shape, role.observation_space.size)
        return TallyState(zeros, observation, zeros)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: TallyState,
        streams: Any,
        search: bool = False,
    ) -> ActionOutput:
        return ActionOutput(torch.full(observation.shape[:2], int(search)), state)

    def update(self, state: TallyState, transition: Transition, streams: Any) -> TallyState:
        reward_sum = state.reward_sum + transition.reward
        return TallyState(reward_sum, transition.next_observation, state.dataset_reward)

    def fit_offline(self, state: TallyState, dataset: Any, streams: Any) -> TallyState:
        return dataclasses.replace(state, dataset_reward=dataset.reward.sum(1))

    def state_dict(self, state: TallyState) -> dict[str, Tensor]:
        return {"reward_sum": state.reward_sum}

    def load_state_dict(self, state: TallyState, tensors: Any) -> TallyState:
        return dataclasses.replace(state, reward_sum=tensors["reward_sum"])

    def diagnostics(self, state: TallyState) -> list[TrainingDiagnostics]:
        return [TrainingDiagnostics(stop_reasons=["stopped in round 3"])]


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRIES["policy"], "tally", Tally)


def public_goods(**parameters: Any) -> tuple[MatrixGame, PerAgentPolicy]:
    """Seven agents: two of `Tally`, three imitators, two defectors."""
    environment = MatrixGame(payoffs="public_goods", num_agents=7, multiplier=3.0, **parameters)
    policies = (Tally(), ImitateLast(epsilon=0.3), Strategy(name="defector"))
    return environment, PerAgentPolicy(policies=policies, agents_per_policy=(2, 3, 2))


def test_each_policy_has_its_own_agents():
    environment, policy = public_goods()
    simulator = Simulator(environment, {"player": policy}, worlds=5, rounds=20)
    simulator.reset(3)
    reward_sum = torch.zeros(5, 7)
    for _ in range(6):
        simulator.step()
        reward_sum += simulator.state.last_payoff
        assert (simulator.state.last_action[:, :2] == 0).all()
        assert (simulator.state.last_action[:, 5:] == 1).all()
    state = simulator.policy_states["player"]
    member_state = state.member_states[0]
    assert torch.equal(member_state.reward_sum, reward_sum[:, :2])
    assert torch.equal(member_state.observation, simulator.observe("player")[:, :2])
    assert torch.equal(policy.state_dict(state)["policy 0/reward_sum"], member_state.reward_sum)
    (entry,) = policy.diagnostics(state)
    assert entry.messages == ["policy 0: stopped in round 3"]
    initial = Simulator(environment, {"player": policy}, worlds=5, rounds=20)
    initial.reset(3)
    tensors = policy.state_dict(state)
    loaded = policy.load_state_dict(initial.policy_states["player"], tensors)
    assert torch.equal(loaded.member_states[0].reward_sum, member_state.reward_sum)


def test_a_policy_acts_as_it_would_alone():
    """Members have separate streams; without randomness the partition does not matter."""
    environment, policy = public_goods()
    imitators = PerAgentPolicy(policies=[ImitateLast(epsilon=0.5), ImitateLast(epsilon=0.5)])
    metric = "cooperation_rate_by_agent"
    result = simulate(MatrixGame(), {"player": imitators}, 200, 1, metrics=[metric])
    first, second = result.metrics[metric].values[:, 1].T
    assert (first != second).any()
    metric = "mean_payoff_by_agent"
    whole = simulate(MatrixGame(), {"player": Strategy(name="tit_for_tat")}, 4, 9, metrics=[metric])
    parts = PerAgentPolicy(policies=[Strategy(name="tit_for_tat")] * 2)
    split = simulate(MatrixGame(), {"player": parts}, 4, 9, metrics=[metric])
    assert whole.metrics.identical(split.metrics)
    alone = simulate(environment, {"player": policy}, [3], 8, metrics=[metric])
    batch = simulate(environment, {"player": policy}, 6, 8, metrics=[metric])
    assert alone.metrics.identical(batch.metrics.isel(world=[3]))


def test_learned_state_outlives_an_episode_and_the_rest_does_not():
    """Worlds reset at different times; initial states are computed once for each reset."""
    environment, policy = public_goods(continuation_probability=0.6, memory_depth=2)
    world_counts: list[int] = []

    class Counting(PerAgentPolicy):
        def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: Any) -> Any:
            world_counts.append(streams.num_worlds)
            return super().initial_state(role, phases, streams)

    policy = Counting(policies=policy.policies, agents_per_policy=policy.agents_per_policy)
    simulator = Simulator(
        environment, {"player": policy}, worlds=6, rounds=20, autoreset_mode="same_step"
    )
    simulator.reset(1)
    reward_sum, ends = torch.zeros(6, 7), []
    for _ in range(10):
        turn = simulator.step()
        state = simulator.state if turn.final_state is None else turn.final_state
        reward_sum += state.last_payoff
        ends += [int(turn.terminated.sum())] if turn.final_state is not None else []
    member_state = simulator.policy_states["player"].member_states[0]
    assert torch.equal(member_state.reward_sum, reward_sum[:, :2])
    assert sum(ends) > 6
    assert world_counts == [6, *ends]


def test_search_and_datasets_reach_the_members():
    environment, policy = public_goods()
    recorder = EpisodeRecorder({"player"})
    simulator = Simulator(
        environment, {"player": policy}, worlds=3, rounds=4, search=True, recorder=recorder
    )
    simulator.reset(0)
    for _ in range(4):
        simulator.step()
    assert (simulator.state.last_action[:, :2] == 1).all()
    dataset = recorder.dataset("player")
    state = policy.fit_offline(simulator.policy_states["player"], dataset, simulator._streams)
    payoff_sum = simulator.state.payoff_sum[:, :2]
    assert state.member_states[0].dataset_reward == pytest.approx(payoff_sum)


class MaskReader(RandomOption, Learner):
    """Keeps the legal options of its own agents in a dataset."""

    trains: ClassVar = {"offline"}

    def fit_offline(self, state: Tensor, dataset: Any, streams: Any) -> Tensor:
        return dataset.action_mask["run"]


def test_datasets_have_the_masks_of_the_members_own_agents():
    members = (RandomOption(), MaskReader(), RandomOption())
    policies = {"caller": RandomOption(), "runner": PerAgentPolicy(policies=members)}
    recorder = EpisodeRecorder({"runner"})
    simulator = Simulator(Relay(), policies, worlds=2, rounds=3, recorder=recorder)
    simulator.reset(0)
    simulator.step()
    dataset = recorder.dataset("runner")
    runner = simulator.policies["runner"]
    state = runner.fit_offline(simulator.policy_states["runner"], dataset, simulator._streams)
    assert torch.equal(state.member_states[1], dataset.action_mask["run"][:, :, 1:2])


def test_it_supports_what_its_policies_support():
    scripted = Strategy(name="defector")
    mixed = PerAgentPolicy(policies=[scripted, Tally()])
    assert mixed.trains == {"online", "offline"} and mixed.searches
    policy = PerAgentPolicy(policies=[scripted, UniformRandom()])
    assert not policy.trains and not policy.searches and not policy.parameter_keys


def test_members_continue_in_a_new_stage():
    """A learner continues; another class or another number of agents starts anew."""
    environment, policy = public_goods()
    simulator = Simulator(environment, {"player": policy}, worlds=3, rounds=20)
    simulator.reset(8)
    simulator.step()
    previous = simulator.policy_states["player"]
    others = (Tally(), Tally(), Strategy(name="grudger"))
    for policies, counts in ((others, (2, 3, 2)), (others, (3, 2, 2)), (others[:2], (2, 5))):
        second = Simulator(
            environment,
            {"player": PerAgentPolicy(policies=policies, agents_per_policy=counts)},
            worlds=3,
            rounds=20,
            stage=1,
        )
        second.reset(8, {"player": previous})
        states = second.policy_states["player"].member_states
        continues = torch.equal(states[0].reward_sum, previous.member_states[0].reward_sum)
        assert continues == (counts[0] == 2)
        assert not states[1].reward_sum.any()
        second.step()
        assert (second.state.last_action == 0).all()


def test_a_learner_continues_beside_other_agents():
    """Experience of the previous stage without an update is dropped, as for a learner alone."""
    environment = MatrixGame(payoffs="public_goods", num_agents=3)
    ppo = make_policy("ppo", num_steps=20, network={"kind": "mlp", "hidden_sizes": [4]})
    defector = make_policy("strategy", name="defector")
    policy = PerAgentPolicy(policies=(ppo, defector, defector))
    first = Simulator(environment, {"player": policy}, rounds=30)
    first.reset(0)
    for _ in range(30):
        first.step()
    policy = PerAgentPolicy(policies=(ppo, defector), agents_per_policy=(1, 2))
    second = Simulator(environment, {"player": policy}, rounds=30, stage=1)
    second.reset(0, first.policy_states)
    learned = second.policy_states["player"].member_states[0].persistent_state
    assert int(learned.rollout.length) == 0 and learned.train_state.updates.tolist() == [0]
    for _ in range(12):
        second.step()
    learned = second.policy_states["player"].member_states[0].persistent_state
    assert learned.train_state.updates.tolist() == [0]


def test_equal_policies_at_two_roles_share_parameters_member_by_member():
    class Sharing(Tally):
        def share_parameters(self, state: TallyState, other_state: TallyState) -> TallyState:
            return other_state

    policy = PerAgentPolicy(policies=[Strategy(name="defector"), Sharing()])
    first, second = (
        simulate(MatrixGame(), {"player": policy}, 2, n).policy_states["player"] for n in (1, 2)
    )
    shared = policy.share_parameters(first, second)
    assert shared.member_states[0] is first.member_states[0]
    assert shared.member_states[1] is second.member_states[1]


def test_a_simulator_with_it_is_saved_and_continued():
    environment, policy = public_goods()
    simulators = [Simulator(environment, {"player": policy}, worlds=3, rounds=20) for _ in range(2)]
    for simulator in simulators:
        simulator.reset(8)
    for _ in range(3):
        simulators[0].step()
    simulators[1].load_state_dict(simulators[0].state_dict())
    for _ in range(4):
        for simulator in simulators:
            simulator.step()
    first, second = (pytree.flatten([s.state, s.policy_states]) for s in simulators)
    assert all(torch.equal(first[name], second[name]) for name in first)


SCENARIO = """\
name: pair
about: A learner against tit for tat.
env: {kind: matrix_game}
policies:
  player:
    kind: per_agent
    policies:
      - {kind: tally}
      - {kind: strategy, name: tit_for_tat, noise_probability: 0.1}
rounds: 4
metrics: [mean_payoff_by_agent]
stages:
  - {name: train, loop: train, roles_to_train: player, episodes: 2}
  - {name: test}
"""


@pytest.mark.usefixtures("tally")
def test_in_a_scenario(tmp_path):
    """It trains in a stage, is written with all parameters, and is read again."""
    (tmp_path / "pair.yaml").write_text(SCENARIO)
    assert main(["check", str(tmp_path / "pair.yaml")]) == 0
    loaded = load_scenario(tmp_path / "pair.yaml")
    cells = expand(loaded)
    text = resolved_yaml(loaded.scenario, build_cells(loaded))
    assert "kind: tally" in text
    assert "noise_probability: 0.1" in text
    assert "threshold: null" in text
    policy = cells[0].build().policies["player"]
    assert make_policy("per_agent", **policy.model_dump(mode="json")) == policy


@pytest.mark.usefixtures("tally")
@pytest.mark.parametrize(
    ("old", "new", "problems", "suggestion"),
    [
        ("noise_probability", "noise_probabilit",
         ["9:63 .policies.1.noise_probabilit unknown_name"], "noise_probability"),
        ("ity: 0.1", "ity: 1.5", ["9:64 .policies.1.noise_probability out_of_range"], None),
        ("ity: 0.1", "ity: yes", ["9:64 .policies.1.noise_probability wrong_type"], None),
        ("tit_for_tat", "tit_fur_tat", ["9:32 .policies.1.name unknown_name"], "tit_for_tat"),
        ("name: tit_for_tat, ", "", ["9:9 .policies.1.name missing"], None),
        ("kind: strategy", "kind: stratgy", ["9:16 .policies.1.kind unknown_name"], "strategy"),
        ("{kind: tally}", "7", ["8:9 .policies.0 wrong_type"], None),
        ("{kind: tally}", "{name: a}", ["8:9 .policies.0 missing"], None),
        ("{kind: tally}", "{kind: ppo, network: {kind: mlp, hidden_size: [4]}}",
         ["8:55 .policies.0.network.hidden_size unknown_name"], "hidden_sizes"),
        ("    kind:", "    agents_per_policy: [2, 1]\n    kind:", ["6:5  wrong_shape"], None),
        ("    kind:", "    agents_per_policy: [2]\n    kind:", ["6:5  wrong_shape"], None),
        ("    kind:", "    agents_per_policy: [2, 0]\n    kind:",
         ["6:24 .agents_per_policy out_of_range"], None),
        ("      - {kind: tally}\n", "",
         ["6:5  wrong_shape", "12:48 stages.0.roles_to_train.0 unsupported"], None),
        ("kind: tally", "kind: mirror",
         ["6:5  unsupported", "13:48 stages.0.roles_to_train.0 unsupported"], None),
    ],
)  # fmt: skip
def test_errors_have_locations(tmp_path, monkeypatch, capsys, old, new, problems, suggestion):
    assert old in SCENARIO
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.yaml").write_text(SCENARIO.replace(old, new))
    with pytest.raises(ScenarioError) as raised:
        check_scenario(load_scenario("pair.yaml"))
    expected = []
    for line in problems:
        location, path, code = line.split(" ")
        full_path = path if path.startswith("stages") else f"policies.player{path}"
        expected.append((f"pair.yaml:{location}", full_path, code))
    reported = raised.value.problems
    assert [(str(p.location), format_path(p.path), p.code) for p in reported] == expected
    assert main(["check", "pair.yaml"]) == 2
    text = capsys.readouterr().err
    assert text == f"{raised.value}\n"
    assert suggestion is None or text.endswith(f"; did you mean {suggestion!r}?\n")
    check_message(text)


def test_errors_in_python():
    with refused("unknown_name", path="per_agent.policies.0.kind"):
        make_policy("per_agent", policies=[{"kind": "strategi"}])
    random = {"kind": "strategy", "name": "random", "noise_probability": 2}
    with refused("out_of_range", path="per_agent.policies.1.noise_probability"):
        make_policy("per_agent", policies=[UniformRandom(), random])
    imitator = {"kind": "imitate_last", "epsilon": -1.0}
    nested = {"kind": "per_agent", "policies": [{"kind": "random"}, imitator]}
    with refused("out_of_range", path="per_agent.policies.0.policies.1.epsilon"):
        make_policy("per_agent", policies=[nested])


def test_box_actions():
    """Actions of several numbers: two kinds of assistants in one community."""
    environment = Coevolution(human="idealised", num_people=5, num_assistants=3)
    policies = [{"kind": "mirror"}, {"kind": "persuader", "goal": [9.0, 9.0]}]
    policy = make_policy("per_agent", policies=policies, agents_per_policy=[1, 2])
    alone = simulate(environment, {"assistant": make_policy("mirror")}, 2, 5)
    mixed = simulate(environment, {"assistant": policy}, 2, 5)
    assert not torch.equal(alone.state.people.values, mixed.state.people.values)
    member_states = mixed.policy_states["assistant"].member_states
    assert [state.belief.shape[1] for state in member_states] == [1, 2]


def test_worlds_of_a_replicate_differ_by_strategy():
    policies = [Strategy(name=("cooperator", "defector")), Strategy(name="defector")]
    policy, metric = PerAgentPolicy(policies=policies), "cooperation_rate_by_agent"
    result = simulate(MatrixGame(), {"player": policy}, Worlds.grid(3, 2), 1, metrics=[metric])
    assert result.metrics[metric].values[:, 1, 0].tolist() == [1.0, 0.0] * 3
