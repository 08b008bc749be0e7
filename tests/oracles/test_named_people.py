"""People of a survey and a graph that names them: one person for each name, in any order."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

import mores
from mores.envs.graphs.graph_file import GraphFile, read_graph
from tests.refusals import refused

ANSWERS = {"12": 7, "ana": 6, "ben": 2, "3": 1, "eva": 5}
TIES = [("ana", "3", 2.0), ("12", "eva", 1.0), ("eva", "3", 0.5), ("ana", "ben", 1.0)]


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
