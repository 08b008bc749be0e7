"""A user's Mesa model as an environment: the same numbers as in Mesa, and the contract."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test

import mores
from mores import GymnasiumEnv, GymnasiumVectorEnv, PettingZooParallelEnv, Simulator
from mores.core.spaces import Box, Discrete, Part
from mores.experiments.scenario.catalog import describe_kind, list_entries
from mores.experiments.scenario.example_texts import example_texts
from mores.registry import REGISTRIES
from mores.registry.plugins import load_plugins
from mores.sim.first_rounds import check_first_rounds
from tests.refusals import check_message, refused

mesa = pytest.importorskip("mesa")
from mores.clients.mesa import MesaRole, make_mesa_environment, model_cache  # noqa: E402
from tests.mesa import faulty_models, schelling_user  # noqa: E402

Schelling = schelling_user.Schelling


class Planner(MesaRole):
    """Sets the share of similar neighbors that all households want."""

    name: ClassVar[str] = "planner"
    default_policy = "random"

    def agents(self, model: Any) -> Sequence[Any]:
        return [model]

    def observation_space(self, model: Any) -> Box:
        return Box.of(happy=Part(1, 0.0, 1.0), homophily=Part(1, 0.0, 1.0))

    def action_space(self, model: Any) -> Discrete:
        return Discrete(4)

    def observe(self, model: Any, agent: Any) -> Sequence[float]:
        happy = sum(each.happy for each in model.agents) / len(model.agents)
        return [happy, model.homophily]

    def act(self, model: Any, agent: Any, action: Any) -> None:
        model.homophily = 0.2 + 0.15 * action

    def reward(self, model: Any, agent: Any) -> float:
        return -sum(model.agents.map("similar_share")) / len(model.agents)


class Movers(MesaRole):
    """The first three households decide whether they move once more; happy ones must not."""

    name: ClassVar[str] = "mover"
    default_policy = "random"

    def agents(self, model: Any) -> Sequence[Any]:
        return sorted(model.agents, key=lambda household: household.unique_id)[:3]

    def observation_space(self, model: Any) -> Box:
        return Box.of(similar_share=Part(1, 0.0, 1.0))

    def action_space(self, model: Any) -> Discrete:
        return Discrete(2)

    def observe(self, model: Any, agent: Any) -> Sequence[float]:
        return [agent.similar_share()]

    def act(self, model: Any, agent: Any, action: Any) -> None:
        if action:
            model.relocate(agent)

    def action_mask(self, model: Any, agent: Any) -> Sequence[bool]:
        return [True, not agent.happy]

    def reward(self, model: Any, agent: Any) -> float:
        return agent.similar_share() - 0.1 * agent.moves


Planned = make_mesa_environment(Schelling, [Planner(), Movers()])
METRICS = ["happy", "segregation", "mean_moves"]


def started(environment: Any, **arguments: Any) -> Simulator:
    simulator = Simulator(environment, environment.default_policies(), **arguments)
    simulator.reset(7)
    return simulator


def test_a_registered_model_has_the_numbers_of_mesa() -> None:
    """Replicates against plain Mesa with their seeds; a world that stops keeps its numbers."""
    environment = mores.make_environment("schelling", size=6, homophily=0.5)
    seeds = started(environment, worlds=3, rounds=9).state.seed.tolist()
    assert len({*seeds}) == 3 and all(0 <= seed < 2**48 for seed in seeds)
    result = mores.simulate(environment, worlds=3, rounds=9, seed=7, metrics=METRICS).metrics
    ended = 0
    for world, seed in enumerate(seeds):
        model = Schelling(size=6, homophily=0.5, seed=seed)
        for completed in range(10):
            reported = model.datacollector.model_vars
            moves = [agent.moves for agent in model.agents]
            expected = (reported["happy"][-1], reported["segregation"][-1], np.mean(moves))
            for name, number in zip(METRICS, expected, strict=True):
                assert result[name].values[world, completed] == pytest.approx(number, rel=1e-6)
            if model.running:
                model.step()
        ended += not model.running
    assert ended


def test_arms_have_the_same_seeds() -> None:
    one, other = (
        mores.make_environment("schelling", size=5, homophily=homophily) for homophily in (0.3, 0.6)
    )
    seeds = [started(environment, worlds=[4, 9]).state.seed for environment in (one, other)]
    assert torch.equal(*seeds) and not one.couples_arms
    alone = started(one, worlds=[9]).state
    both = started(one, worlds=[4, 9]).state
    assert alone.seed[0] == both.seed[1]
    assert alone.metrics["segregation"][0] == both.metrics["segregation"][1]


@pytest.mark.parametrize(
    "make", [make_mesa_environment(Schelling), Planned], ids=["inside", "roles"]
)
def test_contract(make: Any) -> None:
    check_first_rounds(make(size=5))


def test_a_step_does_not_change_the_state() -> None:
    """Any state can be stepped again, with other actions as well."""
    environment = Planned(size=6)
    simulator = started(environment, worlds=2)
    simulator.step()
    state, streams = simulator.state, mores.RandomStreams.of(0, 2)

    def after(option: int) -> Any:
        actions = {
            "planner": torch.full((2, 1), option),
            "mover": torch.zeros(2, 3, dtype=torch.int64),
        }
        return environment.step(state, "step", actions, streams).state

    first, other, again = after(3), after(0), after(3)
    for name in METRICS:
        assert torch.equal(first.metrics[name], again.metrics[name])
    assert torch.equal(first.history, again.history)
    assert (first.history != other.history).all()
    assert (first.metrics["happy"] != other.metrics["happy"]).any()


def test_a_copied_environment_has_its_own_parameters_and_models() -> None:
    environment = make_mesa_environment(Schelling)(size=5, homophily=0.3)
    started(environment, worlds=2).step()
    changed = environment.model_copy(update={"homophily": 0.7})
    made = make_mesa_environment(Schelling)(size=5, homophily=0.7)
    one, other = (
        mores.simulate(each, worlds=2, rounds=2, seed=7, metrics=METRICS)
        for each in (changed, made)
    )
    for name in METRICS:
        assert np.array_equal(one.metrics[name].values, other.metrics[name].values)
    for copied in (copy.copy(environment), copy.deepcopy(environment)):
        assert copied == environment
        started(copied, worlds=2)  # its models do not replace those of the other


def test_a_state_whose_model_was_removed_is_simulated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memory of an environment holds fewer models than there are simulators."""
    monkeypatch.setattr(model_cache, "SPARE_MODELS", 0)
    shared = Planned(size=5)

    def simulated(environments: Sequence[Any]) -> list[float]:
        simulators = [
            Simulator(environment, {"mover": "random"}, {"planner": [0]}, [world], 5)
            for world, environment in enumerate(environments)
        ]
        for simulator in simulators:
            simulator.reset(3)
        for action in (1, 3, 0):
            for simulator in simulators:
                simulator.step({"planner": torch.tensor([[action]])})
        return [float(each.state.metrics["segregation"][0]) for each in simulators]

    assert simulated([shared] * 4) == simulated([Planned(size=5) for _ in range(4)])
    monkeypatch.setattr(model_cache, "HISTORY_BYTES", 0)
    with refused("unsupported"):
        simulated([Planned(size=5)] * 4)


class Mover(MesaRole):
    """Moves a `Lists` model by a number, and changes the array that it is given."""

    name: ClassVar[str] = "mover"

    def agents(self, model: Any) -> Sequence[Any]:
        return [model]

    def observation_space(self, model: Any) -> Box:
        return Box.of(x=1)

    def action_space(self, model: Any) -> Box:
        return Box.of(move=Part(1, -1.0, 1.0))

    def observe(self, model: Any, agent: Any) -> Sequence[float]:
        return [model.x]

    def act(self, model: Any, agent: Any, action: Any) -> None:
        action *= 0.5
        model.move = action


def test_a_role_without_a_default_policy_needs_one() -> None:
    environment = make_mesa_environment(faulty_models.Lists, [Mover()])()
    assert environment.default_policies() == {} and Planned().default_policies().keys() == {
        "planner",
        "mover",
    }
    with refused("missing", path="policies.mover"):
        mores.simulate(environment)


def test_a_description_lists_metrics_and_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["environment"], "planned", Planned)
    (text,) = (each.text for each in describe_kind("planned"))
    assert "Metrics:\n    happy\n    segregation\n    mean_moves" in text
    assert "Roles:\n    planner: default policy random\n    mover: default policy random" in text


def test_descriptions_of_faulty_and_of_undocumented_models(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(mesa.Model):
        def __init__(self, seed: int | None = None) -> None:
            super().__init__(seed=seed)

    monkeypatch.setitem(REGISTRIES["environment"], "faulty", faulty_models.NoSuper)
    (text,) = (each.text for each in describe_kind("faulty"))
    check_message(text)  # why there are no metrics
    monkeypatch.setitem(REGISTRIES["environment"], "bare", Bare)
    (text,) = (each.text for each in describe_kind("bare"))
    check_message(text)
    assert example_texts("environment", "bare") == []
    (summary,) = (each.summary for each in list_entries() if each.name == "bare")
    assert summary == text.partition("\n")[0]


def test_an_unknown_metric_names_those_of_the_model_first() -> None:
    with refused("unknown_name", path="metrics") as error:
        mores.simulate(make_mesa_environment(Schelling)(size=4), metrics=["zzz"])
    known = str(error.value).partition("known: ")[2].split(", ")
    assert known[:3] == METRICS and "drift" not in known  # there are no people with values


def test_a_role_may_change_the_action_that_it_is_given() -> None:
    environment = make_mesa_environment(faulty_models.Lists, [Mover()])()
    streams = mores.RandomStreams.of(0, 1)
    state, positions = environment.reset(streams), []
    for number in (0.5, 0.5, -1.0):
        action = torch.tensor([[[number]]])
        following = environment.step(state, "step", {"mover": action}, streams).state
        assert action.item() == number
        positions.append(following.metrics["x"].item())
        if number > 0:
            state, before = following, state
    assert positions == [1.25, 1.5, 2.0]
    again = environment.step(before, "step", {"mover": torch.tensor([[[0.5]]])}, streams).state
    assert torch.equal(again.history, state.history)


def test_arguments_of_models_are_their_own() -> None:
    """A model may change a list that it is given."""
    environment = make_mesa_environment(faulty_models.Lists)(plan=[1.0, 2.0, 3.0])
    x = mores.simulate(environment, worlds=2, rounds=3, metrics=["x"]).metrics["x"].values
    assert x.tolist() == [[0, 2, 5, 6]] * 2


def test_a_saved_simulation_continues_without_its_models() -> None:
    """The models are simulated again from their seeds; not those whose roles acted."""
    make = make_mesa_environment(Schelling)
    simulator = started(make(size=6, homophily=0.7), worlds=2)
    simulator.step()
    simulator.step()
    saved = simulator.state_dict()
    copy = Simulator(make(size=6, homophily=0.7), worlds=2)
    copy.load_state_dict(saved)
    for each in (simulator, copy):
        each.step()
    for name in METRICS:
        assert torch.equal(simulator.state.metrics[name], copy.state.metrics[name])
    planned = started(Planned(size=6), worlds=2)
    planned.step()
    copy = Simulator(Planned(size=6), Planned().default_policies(), worlds=2)
    copy.load_state_dict(planned.state_dict())
    with refused("unsupported"):
        copy.step()


def test_worlds_reset_alone() -> None:
    """Worlds whose episodes end at different times, against the same worlds one by one."""
    environment = Planned(size=5)

    def simulated(worlds: list[int]) -> Simulator:
        policies, external = {"mover": "random"}, {"planner": [0]}
        simulator = Simulator(environment, policies, external, worlds, 5, "same_step")
        simulator.reset(3)
        for step in range(13):
            simulator.step({"planner": torch.tensor([[(step * w + 1) % 4] for w in worlds])})
        return simulator

    together = simulated([0, 1, 2])
    assert together.episode.min() >= 2 and len({*together.round.tolist()}) > 1
    for world in range(3):
        alone = simulated([world])
        assert alone.episode[0] == together.episode[world]
        for name in METRICS:
            assert alone.state.metrics[name][0] == together.state.metrics[name][world]


@pytest.mark.full
def test_gymnasium_and_pettingzoo() -> None:
    env = GymnasiumEnv(Planned(size=5), agent="planner_0", rounds=6)
    check_env(env, skip_render_check=True)
    env.reset(seed=1)
    rewards, ended = [], False
    while not ended:
        _, reward, terminated, truncated, _ = env.step(3)
        rewards.append(reward)
        ended = terminated or truncated
    assert all(-1 <= reward < 0 for reward in rewards)
    parallel_api_test(PettingZooParallelEnv(Planned(size=5), rounds=6), num_cycles=20)
    vector = GymnasiumVectorEnv(Planned(size=5), num_envs=3, agent="mover_1", rounds=4)
    vector.reset(seed=2)
    for _ in range(9):
        actions = torch.zeros(3, dtype=torch.int64)
        vector.step(actions)


def test_a_client_needs_a_role() -> None:
    with refused("missing", path="agent"):
        GymnasiumEnv("schelling", size=5)
    with refused("missing", path="external"):
        PettingZooParallelEnv("schelling", size=5)


@pytest.mark.full
def test_models_of_ended_episodes_are_freed() -> None:
    """Mesa itself keeps a reference to every model."""

    def full_models() -> int:
        gc.collect()
        return sum(type(each) is Schelling and bool(vars(each)) for each in gc.get_objects())

    before = full_models()
    environment = make_mesa_environment(Schelling)(size=4)
    simulator = started(environment, worlds=2)
    for _ in range(100):
        simulator.next_episode()
    assert 2 < full_models() - before <= 2 * 2 + 64 + 1
    assert pickle.loads(pickle.dumps(environment)) == environment
    del environment, simulator
    assert full_models() == before


@pytest.mark.parametrize(
    ("model_class", "code"),
    [
        (faulty_models.Unseeded, "unseeded"),
        pytest.param(faulty_models.Global, "unseeded", marks=pytest.mark.full),
        (faulty_models.Failing, "failed"),
        (faulty_models.UsesSimulator, "failed"),
        (faulty_models.BadReporter, "failed"),
        (faulty_models.BadName, "invalid_value"),
        (faulty_models.SameName, "duplicate"),
        (faulty_models.DrawingReporter, "failed"),
        (faulty_models.NoSuper, "failed"),
        (faulty_models.Interrupting, "failed"),
    ],
)
def test_wrong_models(model_class: Any, code: str) -> None:
    environment = make_mesa_environment(model_class)()
    with refused(code):
        check_first_rounds(environment)


@pytest.mark.parametrize(
    "later", [None, "text", 1j, 10**400], ids=["none", "text", "complex", "huge"]
)
def test_reporters_that_give_no_number_later(later: Any) -> None:
    model_class = type("Model", (faulty_models.Later,), {"later": later})
    with refused("failed", path="metrics"):
        mores.simulate(make_mesa_environment(model_class)(), rounds=2, metrics=["x"])


def test_a_reporter_may_give_nan_and_agents_none() -> None:
    class Model(faulty_models.Later):
        later = float("nan")

        def __init__(self, seed: int | None = None) -> None:
            super().__init__(seed=seed)
            mesa.Agent(self)
            reporters = {"y": lambda agent: None if agent.model.steps else 2.0}
            self.datacollector = mesa.DataCollector({"x": "x"}, reporters)

    metrics = mores.simulate(make_mesa_environment(Model)(), rounds=1, metrics=["x", "mean_y"])
    for name, start in {"x": 0.0, "mean_y": 2.0}.items():
        np.testing.assert_array_equal(metrics.metrics[name].values, [[start, np.nan]])


def test_why_a_metric_is_missing() -> None:
    class Bare(mesa.Model):
        def __init__(self, seed: int | None = None) -> None:
            super().__init__(seed=seed)

    for model_class in (faulty_models.Later, Bare):
        with refused("unknown_name", path="metrics"):
            mores.simulate(make_mesa_environment(model_class)(), metrics=["none"])


WRONG_ROLES = [
    ({"observe": None}, "wrong_type"),
    ({"observe": [None]}, "wrong_type"),
    ({"observe": "abc"}, "wrong_type"),
    ({"observe": [[1], [2, 3]]}, "wrong_type"),
    ({"observe": [1j]}, "wrong_type"),
    ({"observe": [float("nan")]}, "not_finite"),
    ({"observe": [1e300]}, "not_finite"),
    ({"reward": None}, "wrong_type"),
    ({"reward": "3"}, "wrong_type"),
    ({"reward": [1.0, 2.0]}, "wrong_shape"),
    ({"reward": float("nan")}, "not_finite"),
    ({"reward": 10**400}, "not_finite"),
    ({"action_mask": ["no", "no", "no"]}, "wrong_type"),
    ({"action_mask": [0.0, float("nan"), 1.0]}, "wrong_type"),
    ({"agents": None}, "wrong_type"),
    ({"observation_space": 3}, "wrong_type"),
    ({"action_space": None}, "wrong_type"),
    ({"action_space": Discrete(0)}, "out_of_range"),
]


def role_of(**results: Any) -> Any:
    """A role with these results of its methods."""
    results = {
        "observation_space": Box.of(x=1),
        "action_space": Discrete(3),
        "observe": [0.0],
        "act": None,
        **results,
    }
    methods = {
        name: lambda self, model, *agent, given=given: given for name, given in results.items()
    }
    methods = {"agents": lambda self, model: (each for each in [model]), **methods}
    return type("Role", (MesaRole,), {"name": "planner", "default_policy": "random", **methods})()


@pytest.mark.parametrize(("results", "code"), WRONG_ROLES)
def test_wrong_results_of_roles(results: Any, code: str) -> None:
    """In every simulation, whether or not the first rounds were checked."""
    with refused(code) as error:
        mores.simulate(make_mesa_environment(faulty_models.Later, [role_of(**results)])(), rounds=1)
    assert f"planner.{next(iter(results))} " in str(error.value)


def test_results_of_roles_that_are_converted() -> None:
    role = role_of(observe=torch.zeros(1), reward=np.ones(1), action_mask=[1, 0, True])
    mores.simulate(make_mesa_environment(faulty_models.Later, [role])(), rounds=1)


@pytest.mark.parametrize("name", [None, 3, "", "a/b", "a.b", "../../x", "<script>"])
def test_names_of_roles(name: Any) -> None:
    role = role_of()
    type(role).name = name
    with refused("invalid_value" if isinstance(name, str) else "wrong_type", path="roles"):
        make_mesa_environment(Schelling, [role])


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ((Schelling, "planner"), "roles"),
        ((Schelling, [3]), "roles"),
        ((Schelling, [Planner]), "roles"),
        ((None,), "model_class"),
        ((int,), "model_class"),
    ],
)
def test_arguments_of_the_wrong_type(arguments: Any, path: str) -> None:
    with refused("wrong_type", path=path):
        make_mesa_environment(*arguments)


def test_a_role_without_a_list_and_an_instance_of_a_model() -> None:
    with pytest.raises(mores.UserError, match=r"write \[Planner\(\)\]"):
        make_mesa_environment(Schelling, Planner())  # type: ignore
    with refused("wrong_type", path="model_class"):
        make_mesa_environment(Schelling(size=3))


@pytest.mark.parametrize(
    "model_class",
    [faulty_models.NoSeed, faulty_models.NotSerializable, faulty_models.RequiresSimulator],
)
def test_constructors_that_do_not_fit(model_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["environment"], "unfit", model_class)
    with refused("wrong_type", path=model_class.__name__):
        mores.make_environment("unfit")


def test_parameters_of_constructors() -> None:
    environment = make_mesa_environment(faulty_models.WithSimulator)(roles=4)
    assert set(type(environment).model_fields) == {"roles_"}
    assert environment.roles == ()
    with refused("unknown_name", path="schelling.homophly"):
        mores.make_environment("schelling", homophly=0.3)
    with refused("wrong_type", path="schelling.size"):
        mores.make_environment("schelling", size="large")


def test_a_population_is_refused() -> None:
    with refused("unsupported", path="population"):
        mores.simulate(
            make_mesa_environment(Schelling)(size=4),
            population=mores.make_population("normal", num_people=3, num_values=1),
        )


def test_the_file_of_a_user_is_loaded_once(tmp_path: Any) -> None:
    """`--load` runs it as a module of its own: the same name for another class is refused."""
    file = tmp_path / "again.py"
    file.write_text("import mores\nmores.register('environment', 'schelling', object)\n")
    with refused("duplicate"):
        load_plugins([file])
