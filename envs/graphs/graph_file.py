"""Graphs from files: edge lists, scipy's .npz, GraphML and GML. Nothing is unpickled."""

from __future__ import annotations

import dataclasses
import functools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import scipy.sparse
from pydantic import Field, model_validator

from mores.core.data_file import SHA256_DESCRIPTION, check_digest, file_problem
from mores.core.errors import ParameterError, UserError, printable
from mores.core.graph import GraphSource
from mores.core.names import PersonNames
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.edge_list import (
    EdgeListError,
    GraphWithRemark,
    left_out_remark,
    not_among_names,
    numbers_of_names,
    read_edge_list,
)
from mores.envs.graphs.influence_graph import InfluenceGraph

EDGE_LISTS = (".csv", ".edgelist", ".edges", ".tsv", ".txt")
FORMATS = (*EDGE_LISTS, ".npz", ".graphml", ".gml")
MAX_BYTES = 2**28  # of a text, which becomes Python objects
MAX_MATRIX_BYTES = 2**32  # of the arrays of an .npz


class GraphFile(GraphSource):
    """The graph of a file, shared by all worlds; for the weights of ties see `CsrGraph`.

    Edge lists have one edge a line: person, neighbor and optionally a weight, a number or as
    networkx writes it, `{'weight': 2.0}`. Columns are separated by blanks or commas, in `.tsv` by
    tabs if there are any; `#` begins a comment. People are numbered from 0, or have names. Names
    are matched with those of the population, if it names its people, in all formats but `.npz`;
    else people have the order of the sorted names.
    """

    path: str = Field(
        min_length=1,
        description="edge list (.txt .csv .tsv .edges .edgelist), scipy's .npz, .graphml or .gml",
    )
    directed: bool = Field(
        default=False, description="edge lists: whether an edge is a tie in one direction only"
    )
    weighted: bool = Field(default=True, description="whether weights in the file are used")
    self_weight: float = Field(
        default=1.0, ge=0, description="weight of the own value of people without a self-loop"
    )
    names: PersonNames = Field(
        default=(),
        description="names of people in their order; default: those of the population, else the "
        "sorted names of the file",
    )
    leave_out_others: bool = Field(
        default=False, description="whether ties with people who are not in `names` are left out"
    )
    sha256: str | None = Field(default=None, description=SHA256_DESCRIPTION)

    @model_validator(mode="after")
    def _fill_digest(self) -> GraphFile:
        if (digest := check_digest(self.path, self.sha256, _max_bytes(self.path))) is None:
            return self
        object.__setattr__(self, "sha256", digest)  # the class is frozen for others
        self.__pydantic_fields_set__.add("sha256")
        return self

    def for_people(self, names: Sequence[str]) -> GraphFile:
        """The same, with these names of people, unless it has its own; `.npz` has no names."""
        if self.names or self.path.lower().endswith(".npz"):
            return self
        return self.model_copy(update={"names": tuple(names)})

    def check_num_people(self, num_people: int) -> None:
        """Read the file and compare its number of people."""
        try:
            people = self._graph(num_people).num_people
        except UserError as error:
            raise ParameterError("path", message=str(error), code=error.code) from None
        if people != num_people:
            message = f"{self.path} has {people} people; num_people is {num_people}"
            raise ParameterError("path", message=message, code="conflict")

    def remarks(self, num_people: int) -> tuple[str, ...]:
        """How many ties are left out."""
        remark = self._read(num_people).remark
        return (f"{printable(self.path, 200)}: {remark}",) if remark else ()

    def shared_graph(self, num_people: int) -> InfluenceGraph:
        """The graph of the file."""
        return self._graph(num_people).influence_graph(self.self_weight)

    def _graph(self, num_people: int) -> CsrGraph:
        return self._read(num_people).graph

    def _read(self, num_people: int) -> GraphWithRemark:
        form = self.directed, self.weighted, self.sha256
        return _read_file(self.path, num_people, *form, self.names, self.leave_out_others)


def read_graph(
    path: str,
    num_people: int | None = None,
    directed: bool = False,
    weighted: bool = True,
    digest: str | None = None,
    names: tuple[str, ...] = (),
    leave_out_others: bool = False,
) -> CsrGraph:
    """The graph of a file; `GraphFile` describes the formats.

    Args:
        path: the file.
        num_people: number of people of an edge list of numbers; None: the largest number + 1.
        directed: see `GraphFile`.
        weighted: see `GraphFile`.
        digest: that the content must have; None: any.
        names: see `GraphFile`.
        leave_out_others: see `GraphFile`.

    Raises:
        UserError: the file cannot be read, or has another format.
    """
    form = directed, weighted, digest, names, leave_out_others
    return _read_file(path, num_people, *form).graph


@functools.lru_cache(maxsize=4)
def _read_file(
    path: str,
    num_people: int | None,
    directed: bool,
    weighted: bool,
    digest: str | None,
    names: tuple[str, ...],
    leave_out_others: bool,
) -> GraphWithRemark:
    """See `read_graph`."""
    file, shown = Path(path), f"graph {printable(path, 200)}"
    if names and file.suffix.lower() == ".npz":
        raise UserError(f"{shown}: .npz names no people", code="conflict", path="names")
    if leave_out_others and not names:
        message = f"{shown}: leave_out_others needs names of people"
        raise UserError(message, code="conflict", path="leave_out_others")
    if problem := file_problem(path, FORMATS):
        raise UserError(f"{shown}: {problem}", code="unreadable", path=path)
    try:
        _check_size(file)
        graph, remark = _read_format(file, num_people, directed, names, leave_out_others)
        if digest not in (None, check_digest(path, None)):  # after reading: any change is seen
            raise UserError("has another digest", code="incompatible", path=path)
    except UserError as error:
        line = f":{error.line}" if isinstance(error, EdgeListError) else ""
        raise UserError(f"{shown}{line}: {error}", code=error.code, path=path) from None
    except RecursionError:
        raise UserError(f"{shown}: is nested too deeply", code="unreadable", path=path) from None
    except Exception as error:
        message = f"{shown}: {type(error).__name__}: {printable(error, 300)}"
        raise UserError(message, code="unreadable", path=path) from None
    return GraphWithRemark(graph if weighted else dataclasses.replace(graph, weights=None), remark)


def _read_format(
    file: Path,
    num_people: int | None,
    directed: bool,
    names: tuple[str, ...],
    leave_out_others: bool,
) -> GraphWithRemark:
    """The graph of a file in one of `FORMATS`; for the arguments see `read_graph`."""
    suffix = file.suffix.lower()
    if suffix in EDGE_LISTS:
        return read_edge_list(file, num_people, directed, names, leave_out_others)
    if suffix in (".graphml", ".gml"):
        return _read_networkx(file, names, leave_out_others)
    if suffix != ".npz":
        message = f"the name must end in {', '.join(FORMATS)}"
        raise UserError(message, code="unreadable", path=str(file))
    matrix = scipy.sparse.load_npz(file)
    if num_people not in (None, matrix.shape[0]):  # before anything of that size is made
        message = f"has {matrix.shape[0]} people; num_people is {num_people}"
        raise UserError(message, code="conflict", path=str(file))
    return GraphWithRemark(CsrGraph.from_scipy(matrix))


def _max_bytes(path: str) -> int:
    """Largest size of a file: that of its arrays, or of its text."""
    return MAX_MATRIX_BYTES if path.lower().endswith(".npz") else MAX_BYTES


def _check_size(file: Path) -> None:
    """Refuse a file that is too large, before it is read. Arrays count as they are in memory."""
    size, limit = file.stat().st_size, _max_bytes(file.name)
    if file.suffix.lower() == ".npz":
        with zipfile.ZipFile(file) as archive:
            size = sum(array.file_size for array in archive.infolist())
    if size > limit:
        message = f"has {size:,} bytes; at most {limit:,} are read"
        if limit == MAX_BYTES:
            message += ": write it as .npz"
        raise UserError(message, code="too_large", path=str(file))


def _read_networkx(file: Path, names: tuple[str, ...], leave_out_others: bool) -> GraphWithRemark:
    """The graph of a file in GraphML or GML, of people of these names."""
    import networkx as nx

    graph = nx.read_gml(file) if file.suffix.lower() == ".gml" else nx.read_graphml(file)
    if not names:
        return GraphWithRemark(CsrGraph.from_networkx(graph))
    labels = [str(node) for node in graph]
    others = [
        label
        for label, number in zip(labels, numbers_of_names(labels, names), strict=True)
        if number < 0
    ]
    if others and not leave_out_others:
        message = not_among_names(others[0], names)
        raise UserError(message, code="unknown_name", path="names")
    ordered = type(graph)()
    ordered.add_nodes_from(names)
    known = set(names)
    ordered.add_edges_from(
        (str(one), str(other), tie)
        for one, other, tie in graph.edges(data=True)
        if str(one) in known and str(other) in known
    )
    total = graph.number_of_edges()
    number, remark = total - ordered.number_of_edges(), ""
    if number:
        remark = left_out_remark(number, total, others[0], names)
    return GraphWithRemark(CsrGraph.from_networkx(ordered), remark)
