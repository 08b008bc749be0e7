"""Graphs against networkx and scipy: from every source, in sums, and as registered kinds."""

from __future__ import annotations

import itertools
import os
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch

import mores
from mores.core import pytree
from mores.core.random_streams import RandomStreams
from mores.envs.graphs import graph_file
from mores.envs.graphs.convert import to_influence_graph
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.graph_file import read_graph
from mores.envs.graphs.homophily import Homophily, PermutedHomophily
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.envs.graphs.networkx_generator import NetworkxGenerator
from mores.envs.opinion.coevolution import Coevolution
from mores.registry import REGISTRIES
from mores.sim.simulator import Simulator
from tests.learners.small_environments import unchecked
from tests.refusals import refused


def messy(kind: type) -> nx.Graph:
    """Labels of several types, weights of both signs and 0, a self-loop, an isolated node."""
    graph = kind()
    graph.add_nodes_from(["isolated", ("a", 1), 7, 0, "b"])
    edges = [(7, 0, 2.0), (0, "b", -0.5), (("a", 1), 7, 1.5), ("b", "b", 3.0), ("b", 7, 0.0)]
    graph.add_weighted_edges_from(edges)
    graph.add_edge(("a", 1), "b")  # weight 1
    if graph.is_multigraph():
        graph.add_weighted_edges_from([(7, 0, 0.25), (7, 0, 0.25)])
    return graph


def scipy_shares(adjacency: Any, self_weight: float) -> np.ndarray:
    """Shares of influence by their definition, from a dense matrix."""
    dense = adjacency.toarray().astype(np.float64)
    own = np.where(dense.diagonal() == 0, self_weight, dense.diagonal())
    np.fill_diagonal(dense, own)
    size = np.abs(dense).sum(1, keepdims=True)
    return np.where(size > 0, dense / np.where(size > 0, size, 1), np.eye(len(dense)))


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph])
def test_networkx_graphs_of_every_kind_agree_with_its_adjacency_matrix(kind: type) -> None:
    graph = messy(kind)
    adjacency = nx.to_scipy_sparse_array(graph, dtype=np.float64)
    from_networkx, from_scipy = CsrGraph.from_networkx(graph), CsrGraph.from_scipy(adjacency)
    for self_weight in (1.0, 0.0, 0.3):
        expected = scipy_shares(adjacency, self_weight)
        for csr in (from_networkx, from_scipy):
            shares = csr.influence_graph(self_weight)
            assert shares.matrix().toarray() == pytest.approx(expected, abs=1e-12)
            rebuilt = InfluenceGraph(
                shares.indptr, shares.indices, shares.weights, shares.self_weight
            )
            assert rebuilt.matrix().toarray() == pytest.approx(expected, abs=1e-6)
    unweighted = CsrGraph.from_networkx(nx.Graph(graph), weight=None)
    assert unweighted.weights is None and unweighted.indices.dtype == np.int32
    ties = nx.to_scipy_sparse_array(nx.Graph(graph), weight=None, dtype=np.float64)
    assert (scipy_shares(ties, 1.0) == unweighted.influence_graph().matrix().toarray()).all()


def test_an_edge_from_i_to_j_lets_j_influence_i() -> None:
    graph = to_influence_graph(nx.DiGraph([(0, 1)]), 2)
    x = torch.tensor([[[1.0], [5.0]]])
    assert graph.neighbor_sum(x).flatten().tolist() == [2.5, 0.0]
    assert graph.self_weight.tolist() == [0.5, 1.0]


def test_double_ties_count_twice() -> None:
    csr = CsrGraph.from_edges(np.array([0, 0, 0]), np.array([1, 1, 2]), 3, directed=True)
    assert csr.indices.tolist() == [1, 1, 2]
    assert csr.influence_graph().matrix().toarray()[0].tolist() == [0.25, 0.5, 0.25]


def random_shares(seed: int, people: int = 60) -> InfluenceGraph:
    rng = np.random.default_rng(seed)
    matrix = scipy.sparse.random_array((people, people), density=0.1, rng=rng)
    return CsrGraph.from_scipy(matrix).influence_graph()


@pytest.mark.parametrize("values", [1, 3])
@pytest.mark.parametrize("graph", ["shared", "ragged", "homophily"])
def test_sums_by_scipy_by_slots_and_one_by_one_are_equal_bits(graph: str, values: int) -> None:
    worlds, people = 4, 60
    x = torch.randn(worlds, people, values, generator=torch.Generator().manual_seed(3))
    if graph == "shared":
        shares = random_shares(0)
    elif graph == "ragged":
        shares = InfluenceGraph.stack([random_shares(seed) for seed in range(worlds)])
    else:
        shares = Homophily(degree=7).world_graphs(x, RandomStreams.of(1, worlds))
    total = shares.neighbor_sum(x)
    slots = shares.neighbor_sum(x.clone().requires_grad_())
    assert torch.equal(total, slots.detach()) and slots.requires_grad
    ties = shares.neighbor_values(x)
    weights = shares.weights.expand(worlds, -1)[..., None]
    assert torch.equal(shares.sum_ties(weights * ties), total)
    assert torch.equal(shares.sum_ties((weights * ties).requires_grad_()).detach(), total)
    own = shares.own_values(x)
    for world in range(worlds):
        alone = pytree.tree_map(lambda t, w=world: t if shares.is_shared else t[w : w + 1], shares)
        assert torch.equal(alone.neighbor_sum(x[world : world + 1])[0], total[world])
        indptr = shares.indptr.expand(worlds, -1)[world].tolist()
        for i in range(people):
            expected = torch.zeros(values)
            for k in range(indptr[i], indptr[i + 1]):
                expected = expected + weights[world, k] * ties[world, k]
                assert torch.equal(own[world, k], x[world, i])
            assert torch.equal(total[world, i], expected)


def test_gradients_of_sums() -> None:
    shares = InfluenceGraph.stack([random_shares(seed, 6) for seed in range(2)])
    x = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(shares.neighbor_sum, x)


def test_neighbors_are_sampled_by_weight() -> None:
    shares = CsrGraph.from_edges(
        np.array([0, 0, 2]), np.array([1, 2, 0]), 4, np.array([1.0, -3.0, 2.0]), directed=True
    ).influence_graph()
    u = torch.linspace(0, 1 - 1e-6, 4001)[:, None].expand(-1, 4)
    neighbors = shares.sample_neighbors(u)
    assert (neighbors[:, 0] == 1).double().mean().item() == pytest.approx(0.25, abs=1e-3)
    assert neighbors.unique(dim=0).tolist() == [[1, 1, 0, 3], [2, 1, 0, 3]]
    stacked = InfluenceGraph.stack([shares, random_shares(0, 4)])
    assert torch.equal(stacked.sample_neighbors(u[1000:1002])[0], neighbors[1000])


def test_homophily_graph_connects_similar_people(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RandomStreams.of(1, 8).normal("values", 200, 2)
    streams = RandomStreams.of(1, 8)

    def distance(graph: InfluenceGraph) -> torch.Tensor:
        gap = graph.neighbor_values(values) - graph.own_values(values)
        return gap.norm(dim=-1).mean(1)

    homophilous = Homophily().world_graphs(values, streams)
    uniform = Homophily(homophily_scale=1e9).world_graphs(values, streams)
    permuted = PermutedHomophily().world_graphs(values, streams)
    assert (distance(homophilous) < 0.5 * distance(uniform)).all()
    assert distance(permuted).numpy() == pytest.approx(distance(uniform).numpy(), rel=0.15)
    people = torch.arange(200).repeat_interleave(8)
    for graph in (homophilous, permuted, uniform):
        assert (graph.indices != people).all()
    for world in range(8):  # the permutation preserves in-degrees
        counts = [torch.bincount(n.indices[world], minlength=200) for n in (homophilous, permuted)]
        assert torch.equal(counts[0].sort().values, counts[1].sort().values)
    monkeypatch.setattr("mores.envs.graphs.homophily.CHUNK", 8 * 64 * 3)
    assert torch.equal(Homophily().world_graphs(values, streams).indices, homophilous.indices)


# --- files and generators --------------------------------------------------------------------


def test_files_hold_the_same_graph(tmp_path) -> None:
    graph = nx.connected_watts_strogatz_graph(30, 4, 0.3, seed=2)
    for index, (_, _, data) in enumerate(graph.edges(data=True)):
        data["weight"] = 0.5 + index
    expected = CsrGraph.from_networkx(graph)
    nx.write_weighted_edgelist(graph, tmp_path / "a.txt")
    lines = (tmp_path / "a.txt").read_text().splitlines()
    (tmp_path / "a.csv").write_text("# i, j, w\n" + "\n".join(x.replace(" ", ", ") for x in lines))
    named = [f"p{int(a):02} p{int(b):02} {w}" for a, b, w in (x.split() for x in lines)]
    (tmp_path / "named.tsv").write_text("\n".join(named))
    scipy.sparse.save_npz(tmp_path / "a.npz", nx.to_scipy_sparse_array(graph))
    nx.write_graphml(graph, tmp_path / "a.graphml")
    nx.write_gml(graph, tmp_path / "a.gml")
    for file in tmp_path.iterdir():
        csr = read_graph(str(file), None if file.stem == "named" else 30)
        assert np.array_equal(csr.indptr, expected.indptr), file
        assert np.array_equal(csr.indices, expected.indices)
        assert csr.weights == pytest.approx(expected.weights)
    assert read_graph(str(tmp_path / "a.txt"), 30, weighted=False).weights is None
    directed = read_graph(str(tmp_path / "a.txt"), 32, directed=True)
    assert (directed.num_people, len(directed.indices)) == (32, 60)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", "\ufeff0,2,2\n1,2,1"),
        ("quoted.csv", '"0","2","2"\n"1","2","1"'),
        ("comment.txt", "0 2 2 # a, b\n1 2 1"),
        ("blanks.tsv", "Ann Lee\tDee\t2\nBob Lee\tDee\t1"),
        ("networkx.edgelist", "0 2 {'weight': 2.0, 'kind': 'a, b'}\n1 2 {}"),
        ("networkx.csv", "0,2,{'weight': 2.0}\n1,2,{}"),
    ],
)
def test_edge_lists_of_other_programs(tmp_path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    csr = read_graph(str(tmp_path / name), 3)
    assert csr.indptr.tolist() == [0, 1, 2, 4] and csr.indices.tolist() == [2, 2, 0, 1]
    assert csr.weights is not None and csr.weights.tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize(
    ("indptr", "size", "code"),
    [
        ([0, -1000000, 2, 3], 3, "invalid_value"),
        ([0, 3000000, 2, 3], 3, "invalid_value"),
        ([0, 5, 2, 3], 3, "invalid_value"),
        ([0, 1, 2, 3], 4, "unreadable"),
    ],
)
def test_hostile_matrices_are_refused(tmp_path, kind, indptr: list, size: int, code: str) -> None:
    arrays = {"indices": np.array([1, 2, 0]), "data": np.ones(3), "indptr": np.array(indptr)}
    np.savez(tmp_path / "a.npz", format=kind, shape=np.array([size, size]), **arrays)
    with refused(code):
        read_graph(str(tmp_path / "a.npz"), size)


def test_a_matrix_of_another_size_is_refused_before_its_rows_are_made(tmp_path) -> None:
    ends = {"row": np.array([1]), "col": np.array([0]), "data": np.ones(1)}
    np.savez(tmp_path / "a.npz", format="coo", shape=np.array([2 * 10**9] * 2), **ends)
    with refused("conflict"):
        read_graph(str(tmp_path / "a.npz"), 3)


@pytest.mark.parametrize(
    ("indptr", "indices", "weights", "code"),
    [
        ([0, 1, 2], [1, 7], None, "out_of_range"),
        ([0, 1, 2], [1, -1], None, "out_of_range"),
        ([0, 3, 2], [1, 0], None, "invalid_value"),
        ([0, 1, 3], [1, 0], None, "invalid_value"),
        ([0.0, 1, 2], [1, 0], None, "wrong_type"),
        ([0, 1, 2], [1, 0], [1.0, np.nan], "not_finite"),
        ([0, 1, 2], [1, 0], [1.0], "wrong_shape"),
    ],
)
def test_wrong_rows_are_refused(indptr: list, indices: list, weights: Any, code: str) -> None:
    weights = None if weights is None else np.array(weights)
    with unchecked(), refused(code, "graph"):
        CsrGraph(np.array(indptr), np.array(indices), weights)


def test_lists_of_wrong_length_are_refused() -> None:
    with unchecked(), refused("wrong_shape", "edges"):
        CsrGraph.from_edges(np.array([0, 1]), np.array([1]), 3)
    with refused("wrong_shape", "graph"):
        to_influence_graph([], 3)


def peers(**graph: object) -> Any:
    return {"rule": "degroot", "graph": graph}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "unreadable"),
        ("0 1 2 3", "wrong_shape"),
        ("", "missing"),
        ("# no ties", "missing"),
        ("0 1\n0 x y", "wrong_shape"),
        ("# one column\n\n0\n1", "wrong_shape"),
        ("0;1", "wrong_shape"),
        ("0 1 2\n\n1 2 x", "wrong_type"),
        ("0 1\n0 1.5", "wrong_type"),
        ("0 40", "out_of_range"),
        ("0 1 1\n0 1 nan", "not_finite"),
        ("source target\n0 1\n1 2", "invalid_value"),
        ("0 1\n1 x\n2 3", "invalid_value"),
        ("0,,1", "invalid_value"),
        ("0 1 {'weight': __import__('os')}", "unreadable"),
        ("0 1 1e308\n0 2 1e308", "not_finite"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content: str | None, code: str) -> None:
    file = tmp_path / "edges.txt"
    if content is not None:
        file.write_text(content)
    with refused(code, "coevolution.peers.graph.path"):
        graph = peers(kind="file", path=str(file))
        mores.make_environment("coevolution", num_people=30, peers=graph)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "0 1\n1 é\n".encode("latin-1")),
        ("a.txt", "0 1\n".encode("utf-16")),
        ("a.txt", b"a b\nb c\0\n"),
        ("a.gml", b"graph " + b"[ a " * 20_000),
        ("a.npz", b"text"),
    ],
)
def test_files_with_other_bytes_are_refused(tmp_path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with refused("unreadable", str(tmp_path / name)):
        read_graph(str(tmp_path / name), 3)


def test_files_that_are_too_large_are_refused_before_they_are_read(tmp_path, monkeypatch) -> None:
    """The arrays of an `.npz` count as they are in memory."""
    (tmp_path / "a.txt").write_text("0 1\n" * 100)
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.eye(5000, format="csr"))
    monkeypatch.setattr(graph_file, "MAX_BYTES", 300)
    monkeypatch.setattr(graph_file, "MAX_MATRIX_BYTES", 50_000)
    assert (tmp_path / "a.npz").stat().st_size < 50_000
    for name in ("a.txt", "a.npz"):
        with refused("too_large", str(tmp_path / name)):
            read_graph(str(tmp_path / name))


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "loop", "dangling"])
def test_paths_that_are_no_files_are_refused(tmp_path, kind: str) -> None:
    path = tmp_path / "a.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        target = {"device": "/dev/zero", "loop": path, "dangling": "missing.txt"}[kind]
        path.symlink_to(target)
    with refused("unreadable", "coevolution.peers.graph.path"):
        graph = peers(kind="file", path=str(path))
        mores.make_environment("coevolution", num_people=3, peers=graph)


@pytest.mark.parametrize(
    ("graph", "code", "path"),
    [
        ({"kind": "karate_club"}, "conflict", "graph"),
        ({"kind": "homophily", "degree": 65}, "conflict", "graph.degree"),
        ({"kind": "homophily", "degrees": 5}, "unknown_name", "graph.degrees"),
        ({"kind": "network_x"}, "unknown_name", "graph.kind"),
        ({"kind": "networkx", "generator": "watts"}, "unknown_name", "graph.generator"),
        ({"kind": "networkx", "generator": "read_gml"}, "unknown_name", "graph.generator"),
        ({"kind": "networkx", "generator": "florentine_families"}, "conflict", "graph.generator"),
        (
            {"kind": "networkx", "generator": "watts_strogatz", "parameters": {"m": 3}},
            "invalid_value",
            "graph.parameters",
        ),
        (
            {"kind": "networkx", "generator": "path", "per_world": True},
            "conflict",
            "graph.per_world",
        ),
        (
            {"kind": "networkx", "generator": "complete", "parameters": {"n": 10**6}},
            "conflict",
            "graph.parameters.n",
        ),
        (
            {"kind": "networkx", "generator": "gnp_random", "parameters": {"p": 0.1, "seed": 1}},
            "conflict",
            "graph.parameters.seed",
        ),
    ],
)
def test_graphs_that_do_not_fit_are_refused(graph: dict, code: str, path: str) -> None:
    with refused(code, f"coevolution.peers.{path}"):
        mores.make_environment("coevolution", num_people=30, peers=peers(**graph))


def test_a_path_that_is_too_long_is_refused() -> None:
    with refused("unreadable", "coevolution.peers.graph.path"):
        graph = peers(kind="file", path="a" * 5000)
        mores.make_environment("coevolution", num_people=3, peers=graph)


def test_a_graph_without_ties_is_sampled_and_a_changed_file_is_read_anew(tmp_path) -> None:
    empty = to_influence_graph(nx.empty_graph(4), 4)
    assert empty.sample_neighbors(torch.rand(2, 4)).tolist() == [[0, 1, 2, 3]] * 2
    file = tmp_path / "edges.txt"
    file.write_text("0 1\n")
    first = Coevolution(human="idealised", num_people=3, peers=peers(kind="file", path=str(file)))
    file.write_text("0 2\n1 2\n")
    second = Coevolution(human="idealised", num_people=3, peers=peers(kind="file", path=str(file)))
    assert first.peers.graph != second.peers.graph  # by their digests
    degrees = [env.peers.shared_graph(3).degree.tolist() for env in (first, second)]
    assert degrees[1] == [1, 1, 2]
    pinned = first.peers.graph.model_dump()
    with refused("incompatible", "coevolution.peers.graph.sha256"):
        graph = {**pinned, "kind": "file"}
        mores.make_environment("coevolution", num_people=3, peers=peers(**graph))


@pytest.mark.parametrize("made", [lambda graph, values: graph, lambda graph, values: [graph]])
def test_one_graph_for_several_worlds_is_refused(made: Any) -> None:
    def test_one(num_people: int, values: torch.Tensor) -> Any:
        return made(nx.path_graph(num_people), values)

    REGISTRIES["graph"]["test_one"] = test_one
    env = Coevolution(human="idealised", num_people=9, peers=peers(kind="test_one"))
    with refused("wrong_shape", "peers.graph"):
        env.reset(RandomStreams.of(0, 3))
    del REGISTRIES["graph"]["test_one"]


def test_generators_of_networkx() -> None:
    source = NetworkxGenerator(generator="watts_strogatz", parameters={"k": 4, "p": 0.1})
    shared = CsrGraph.from_networkx(nx.watts_strogatz_graph(40, 4, 0.1, seed=0))
    assert np.array_equal(source.shared_graph(40).indices, shared.indices)
    per_world = {"kind": "networkx", "generator": "gnp_random", "parameters": {"p": 0.1}}
    env = Coevolution(human="idealised", num_people=40, peers=peers(**per_world, per_world=True))
    simulator = Simulator(
        env, env.default_policies(), worlds=3, rounds=2, autoreset_mode="same_step"
    )
    simulator.reset(1)
    graph = simulator.state.graph
    assert len({int(end) for end in graph.indptr[:, -1]}) > 1
    alone = Simulator(env, env.default_policies(), worlds=[1], rounds=2, autoreset_mode="same_step")
    alone.reset(1)
    for _ in range(5):  # the graphs of the next episodes have other numbers of ties
        simulator.step()
        alone.step()
        assert torch.equal(simulator.state.people.values[1], alone.state.people.values[0])
    resumed = Simulator(env, env.default_policies(), worlds=3, rounds=2, autoreset_mode="same_step")
    resumed.load_state_dict(simulator.state_dict())
    resumed.step()
    simulator.step()
    assert torch.equal(simulator.state.people.values, resumed.state.people.values)


def test_a_function_is_a_graph_kind() -> None:
    @mores.register("graph", "test_ring")
    def ring(num_people: int, reach: int = 1) -> nx.Graph:
        return nx.circulant_graph(num_people, range(1, reach + 1))

    @mores.register("graph", "test_lines")
    def lines(num_people: int, values: torch.Tensor, streams: RandomStreams) -> list[nx.Graph]:
        return [nx.path_graph(num_people) for _ in values]

    env = Coevolution(human="idealised", num_people=9, peers=peers(kind="test_ring", reach=2))
    simulator = Simulator(env, env.default_policies(), worlds=2, rounds=3)
    simulator.reset(0)
    assert simulator.state.graph is None
    env = Coevolution(human="idealised", num_people=9, peers=peers(kind="test_lines"))
    simulator = Simulator(env, env.default_policies(), worlds=2, rounds=3)
    simulator.reset(0)
    assert simulator.state.graph.degree[1].tolist() == [1, *[2] * 7, 1]
    with refused("unknown_name", "coevolution.peers.graph.range"):
        graph = peers(kind="test_ring", range=2)
        mores.make_environment("coevolution", num_people=9, peers=graph)


COUNTER = itertools.count()


def wrong_default(num_people: int, reach: int = 1.5) -> nx.Graph:  # type: ignore
    return nx.cycle_graph(num_people)


class Ring:
    """A callable object."""

    def __call__(self, num_people: int) -> nx.Graph:
        return nx.cycle_graph(num_people)


@pytest.mark.parametrize(
    ("function", "code", "path"),
    [
        (lambda num_people: nx.gnp_random_graph(num_people, 0.5, next(COUNTER)), "unseeded", ""),
        (lambda num_people: [nx.path_graph(num_people)], "wrong_type", ""),
        (lambda num_people: nx.path_graph(num_people + 1), "conflict", ""),
        (eval("lambda num_people: undefined"), "failed", ""),
        (lambda num_people, reach=1: nx.path_graph(num_people), "wrong_type", ".reach"),
        (wrong_default, "wrong_type", ".kind"),
        (lambda num_people, kind=1: None, "invalid_value", ".kind"),
        (lambda num_people, function=1: None, "invalid_value", ".kind"),
        (lambda num_people, shared_graph=1: None, "invalid_value", ".kind"),
        (lambda num_people, **options: None, "invalid_value", ".kind"),
        (Ring(), "wrong_type", ".kind"),
    ],
)
def test_wrong_functions_are_refused(monkeypatch, function: Any, code: str, path: str) -> None:
    monkeypatch.setitem(REGISTRIES["graph"], "test_wrong", function)
    graph = {"kind": "test_wrong"} | ({"reach": "far"} if path == ".reach" else {})
    with refused(code, f"coevolution.peers.graph{path}"):
        mores.make_environment("coevolution", num_people=9, peers=peers(**graph))
