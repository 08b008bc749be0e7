"""People of a survey and a graph that names them: one person for each name, in any order."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mores
from mores.envs.graphs.graph_file import GraphFile, read_graph
from tests.refusals import check_message, refused

ANSWERS = {"12": 7, "ana": 6, "ben": 2, "3": 1, "eva": 5}
TIES = [("ana", "3", 2.0), ("12", "eva", 1.0), ("eva", "3", 0.5), ("ana", "ben", 1.0)]


def survey_and_peers(folder) -> tuple[dict[str, Any], dict[str, Any]]:
    """A survey of three people in this order, and peers whose graph file names them."""
    (folder / "people.csv").write_text("id,answer\nzed,7\nann,6\ncleo,2\n")
    (folder / "ties.csv").write_text("zed,ann\nann,cleo\n")
    values = {"attitude": {"column": "answer", "low": 1, "high": 7}}
    path = str(folder / "people.csv")
    survey = {"kind": "survey_csv", "path": path, "id": "id", "shuffle": False, "values": values}
    graph = {"kind": "file", "path": str(folder / "ties.csv")}
    return survey, {"rule": "degroot", "graph": graph}


def one_round(folder, names: list[str], suffix: str) -> dict[str, float]:
    """Values after one round of DeGroot, by name, of a survey with this order of rows."""
    rows = "".join(f"{name},{ANSWERS[name]}\n" for name in names)
    (folder / "people.csv").write_text(f"id,answer\n{rows}")
    path = folder / f"ties{suffix}"
    graph = nx.Graph()
    graph.add_weighted_edges_from(TIES)
    if suffix == ".csv":
        path.write_text("".join(f"{one},{other},{weight}\n" for one, other, weight in TIES))
    else:
        (nx.write_graphml if suffix == ".graphml" else nx.write_gml)(graph, path)
    people = mores.make_population(
        "survey_csv",
        path=str(folder / "people.csv"),
        id="id",
        shuffle=False,
        values={"attitude": {"column": "answer", "low": 1, "high": 7}},
    )
    peers = {"rule": "degroot", "graph": {"kind": "file", "path": str(path)}}
    env = mores.make_environment(
        "coevolution",
        peers=peers,
        human="idealised",
        num_assistants=0,
        **people.environment_parameters(),
    )
    result = mores.simulate(env, worlds=3, rounds=1, population=people)
    values = result.state.people.values[..., 0]
    assert (values == values[:1]).all()  # every world has the same people
    return dict(zip(names, values[0].tolist(), strict=True))


@pytest.mark.parametrize("suffix", [".csv", ".graphml", ".gml"])
def test_ties_are_matched_by_name_whatever_the_order_of_the_rows(tmp_path, suffix: str) -> None:
    neighbors: dict[str, dict[str, float]] = {name: {name: 1.0} for name in ANSWERS}
    for one, other, weight in TIES:
        neighbors[one][other] = neighbors[other][one] = weight
    values = {name: -1 + 2 * (answer - 1) / 6 for name, answer in ANSWERS.items()}
    expected = {
        name: np.average([values[n] for n in ties], weights=list(ties.values()))
        for name, ties in neighbors.items()
    }
    for order in itertools.islice(itertools.permutations(ANSWERS), 0, None, 37):
        assert one_round(tmp_path, list(order), suffix) == pytest.approx(expected, abs=1e-6)


def test_people_who_are_not_in_the_survey(tmp_path) -> None:
    path = tmp_path / "ties.csv"
    path.write_text("".join(f"{one},{other}\n" for one, other, _ in TIES))
    names = ("ana", "eva", "3")
    with refused("unknown_name"):
        read_graph(str(path), 3, names=names)
    graph = read_graph(str(path), 3, names=names, leave_out_others=True)
    shares = graph.influence_graph(1.0).matrix().toarray()
    assert shares.astype(bool).tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("suffix", [".csv", ".graphml"])
def test_ties_that_are_left_out_are_remarked(tmp_path, suffix: str) -> None:
    survey, peers = survey_and_peers(tmp_path)
    path = tmp_path / f"ties{suffix}"
    graph = peers["graph"] | {"path": str(path), "leave_out_others": True}

    def remarks(*ties: tuple[str, str]) -> tuple[str, ...]:
        if suffix == ".csv":
            path.write_text("".join(f"{one},{other}\n" for one, other in ties))
        else:
            nx.write_graphml(nx.Graph([*ties]), path)
        parameters: Any = {"population": survey, "peers": peers | {"graph": graph}}
        return mores.GymnasiumEnv("coevolution", **parameters).environment.remarks

    assert remarks(("zed", "ann")) == ()
    (remark,) = remarks(("zed", "ann"), ("Ann", "cleo"), ("zed", "bob"))
    check_message(remark)
    with refused("conflict", "coevolution.peers.graph.path"):
        remarks(("Ann", "Zed"), ("ann", "Cleo"))


def test_headings_are_no_tie(tmp_path) -> None:
    path = tmp_path / "ties.csv"
    path.write_text("Source,Target\nana,eva\n")
    for names in ((), ("ana", "eva")):
        with refused("invalid_value", str(path)):
            read_graph(str(path), names=names, leave_out_others=bool(names))
    assert read_graph(str(path), names=("ana", "eva", "Source", "Target")).num_people == 4


@pytest.mark.parametrize("other", [{"resample": True}, {"group_counts": {"a": 1}, "group": "id"}])
def test_a_sample_has_no_order(tmp_path, other: dict) -> None:
    (tmp_path / "people.csv").write_text("id,answer\na,1\nb,2\n")
    with refused("conflict", "survey_csv.shuffle"):
        mores.make_population(
            "survey_csv",
            path=str(tmp_path / "people.csv"),
            values={"answer": {"low": 1, "high": 7}},
            shuffle=False,
            **other,
        )


def test_names_that_do_not_fit(tmp_path) -> None:
    path = tmp_path / "ties.csv"
    path.write_text("ana,eva\n")
    for names, code in ((["ana", "eva"], "conflict"), (["ana", "eva", "ana"], "duplicate")):
        with refused(code):
            mores.make_environment("coevolution", num_people=3, person_names=names)
    with refused("conflict"):
        read_graph(str(path), leave_out_others=True)


def test_a_graph_file_that_changes_after_its_digest_was_taken(tmp_path) -> None:
    path = tmp_path / "ties.csv"
    path.write_text("0,1\n")
    source = GraphFile(path=str(path))
    path.write_text("0,1\n1,2\n0,2\n")
    with refused("incompatible"):
        source.shared_graph(3)
    path.write_text("0,1\n")
    assert len(GraphFile(path=str(path)).shared_graph(3).indices) == 2


def trained(kind: str, population: Any, peers: Any) -> Any:
    """A trained assistant, and the environment in which it was trained."""
    learner = {"kind": "ppo", "num_steps": 2, "num_minibatches": 1}
    environment = {"kind": kind, "peers": peers}
    policies = {"assistant": learner}
    return mores.train(environment, policies, episodes=1, rounds=2, population=population).setup


@pytest.mark.parametrize(
    "client",
    [mores.GymnasiumEnv, mores.GymnasiumVectorEnv, mores.PettingZooParallelEnv, trained],
)
def test_an_environment_by_name_is_made_for_the_people(tmp_path, client: Any) -> None:
    """Its default number of people would not fit the graph."""
    survey, peers = survey_and_peers(tmp_path)
    env = client("coevolution", population=survey, peers=peers).environment
    assert env.person_names == ("zed", "ann", "cleo")
    (tmp_path / "ties.csv").write_text("zed,ann\nann,bob\n")  # nobody has the last name
    with refused("unknown_name", "coevolution.peers.graph.path"):
        client("coevolution", population=survey, peers=peers)


def test_a_simulator_refuses_people_of_other_names(tmp_path) -> None:
    """A graph by names would otherwise join people of the sorted names, who are others."""
    survey, peers = survey_and_peers(tmp_path)
    people = mores.make_population(**survey)
    for kind, more in (("coevolution", {"num_assistants": 0}), ("opinion_messages", {})):
        env = mores.make_environment(kind, num_people=3, peers=peers, **more)
        with refused("conflict", "population"):
            mores.Simulator(env, env.default_policies(), population=people)
        mores.Simulator(env.with_population(people), env.default_policies(), population=people)
    (tmp_path / "turned.csv").write_text("id,answer\nann,6\nzed,7\ncleo,2\n")
    turned = mores.make_population(**survey | {"path": str(tmp_path / "turned.csv")})
    env = mores.make_environment("coevolution", num_people=3, peers=peers)
    with refused("conflict", "population"):  # the same people in another order
        mores.Simulator(env.with_population(people), env.default_policies(), population=turned)
    unnamed = env.model_copy(update={"peers": type(env.peers)()})
    mores.Simulator(unnamed, unnamed.default_policies(), population=turned)
