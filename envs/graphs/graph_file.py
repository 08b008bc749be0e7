"""Graphs from files: edge lists, scipy's .npz, GraphML and GML. Nothing is unpickled."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from pydantic import Field, model_validator

from mores.core.data_file import SHA256_DESCRIPTION, check_digest
from mores.core.errors import ParameterError, UserError, printable
from mores.core.graph import GraphSource
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.influence_graph import InfluenceGraph

EDGE_LISTS = (".csv", ".edgelist", ".edges", ".tsv", ".txt")
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
XML_LIMIT = 2**30  # bytes of GraphML and GML, which become Python objects


class GraphFile(GraphSource):
    """The graph of a file, shared by all worlds; for the weights of ties see `CsrGraph`.

    Edge lists have one edge a line: person, neighbor and optionally a weight, a number or as
    networkx writes it, `{'weight': 2.0}`. Columns are separated by blanks or commas, in `.tsv` by
    tabs if there are any; `#` begins a comment. People are numbered from 0, or have names, which
    are sorted.
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
    sha256: str | None = Field(default=None, description=SHA256_DESCRIPTION)

    @model_validator(mode="after")
    def _fill_digest(self) -> GraphFile:
        if (digest := check_digest(self.path, self.sha256)) is None:
            return self
        object.__setattr__(self, "sha256", digest)  # the class is frozen for others
        self.__pydantic_fields_set__.add("sha256")
        return self

    def check_num_people(self, num_people: int) -> None:
        """Read the file and compare its number of people."""
        try:
            people = self._graph(num_people).num_people
        except UserError as error:
            raise ParameterError("path", message=str(error), code=error.code) from None
        if people != num_people:
            message = f"{self.path} has {people} people; num_people is {num_people}"
            raise ParameterError("path", message=message, code="conflict")

    def shared_graph(self, num_people: int) -> InfluenceGraph:
        """The graph of the file."""
        return self._graph(num_people).influence_graph(self.self_weight)

    def _graph(self, num_people: int) -> CsrGraph:
        return read_graph(self.path, num_people, self.directed, self.weighted, self.sha256)


@functools.lru_cache(maxsize=4)
def read_graph(
    path: str,
    num_people: int | None = None,
    directed: bool = False,
    weighted: bool = True,
    digest: str | None = None,
) -> CsrGraph:
    """The graph of a file; `GraphFile` describes the formats.

    Args:
        path: the file.
        num_people: number of people of an edge list of numbers; None: the largest number + 1.
        directed: see `GraphFile`.
        weighted: see `GraphFile`.
        digest: of the content; a file that has changed is read again.

    Raises:
        UserError: the file cannot be read, or has another format.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if not file.is_file():
        raise UserError(f"graph {path}: no such file", code="unreadable", path=path)
    try:
        if suffix in EDGE_LISTS:
            graph = _edge_list(file, num_people, directed)
        elif suffix == ".npz":
            matrix = scipy.sparse.load_npz(file)
            if num_people not in (None, matrix.shape[0]):  # before anything of that size is made
                message = f"has {matrix.shape[0]} people; num_people is {num_people}"
                raise UserError(message, code="conflict", path=path)
            graph = CsrGraph.from_scipy(matrix)
        elif suffix in (".graphml", ".gml"):
            graph = CsrGraph.from_networkx(_networkx_graph(file))
        else:
            known = ", ".join((*EDGE_LISTS, ".npz", ".graphml", ".gml"))
            raise UserError(f"the name must end in {known}", code="unreadable", path=path)
    except UserError as error:
        message = f"graph {path}: {error}"
        raise UserError(message, code=error.code, path=path) from None
    except Exception as error:
        message = f"graph {path}: {type(error).__name__}: {error}"
        raise UserError(message, code="unreadable", path=path) from None
    return graph if weighted else dataclasses.replace(graph, weights=None)


def _edge_list(file: Path, num_people: int | None, directed: bool) -> CsrGraph:
    with file.open(encoding="utf-8-sig") as text:
        first = next((edge for line in text if (edge := line.split("#")[0].strip())), "")
    ends_of_first = first.split("{")[0].rstrip()
    tabs = "\t" if file.suffix.lower() == ".tsv" and "\t" in first else None
    delimiter = "," if "," in ends_of_first else tabs

    def load(dtype: type) -> np.ndarray:
        form: Any = {"delimiter": delimiter, "ndmin": 2, "quotechar": '"'}
        if "{" not in first:
            return np.loadtxt(file, dtype, encoding="utf-8-sig", **form)
        with file.open(encoding="utf-8-sig") as text:
            return np.loadtxt(_attributes_as_weights(text, delimiter or " "), dtype, **form)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty file is a graph without ties
        try:
            table = load(np.float64)
            ends = table[:, :2].astype(np.int64)
            if (ends != table[:, :2]).any():
                message = "people must be numbered by whole numbers"
                raise UserError(message, code="wrong_type", path=str(file))
            people = num_people or 1 + int(ends.max(initial=0))
        except ValueError:
            table = np.char.strip(load(str))
            labels, ends = np.unique(table[:, :2], return_inverse=True)
            _check_names(file, labels, table)
            people = len(labels)
    if table.size and table.shape[1] not in (2, 3):
        message = f"needs 2 or 3 columns, has {table.shape[1]}"
        raise UserError(message, code="wrong_shape", path=str(file))
    ends = ends.reshape(-1, 2) if table.size else np.zeros((0, 2), np.int64)
    weights = table[:, 2].astype(np.float64) if table.shape[1] == 3 else None
    return CsrGraph.from_edges(ends[:, 0], ends[:, 1], people, weights, directed)


def _attributes_as_weights(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Lines of `networkx.write_edgelist`, whose `{'weight': 2.0}` become a third column."""
    for line in lines:
        ends, brace, attributes = line.partition("{")
        if brace and "#" not in ends:
            try:
                found = ast.literal_eval(brace + attributes[: attributes.rindex("}") + 1])
                weight = float(found.get("weight", 1.0))
            except Exception:  # many kinds
                message = f"{printable(line.strip())!r}: attributes must be {{'weight': number}}"
                raise UserError(message, code="unreadable", path="") from None
            edge = ends.rstrip(" \t,")
            line = f"{edge}{delimiter}{weight!r}"
        yield line


def _check_names(file: Path, labels: np.ndarray, table: np.ndarray) -> None:
    """Refuse empty names, and names among numbers, such as a line with names of columns."""
    numbers = np.array([NUMBER.fullmatch(label) is not None for label in labels])
    if not labels[0]:  # they are sorted
        raise UserError("a person's name is empty", code="invalid_value", path=str(file))
    if numbers.any() and not numbers.all():
        name = labels[~numbers][0]
        row = table[(table[:, :2] == name).any(1).argmax()]
        message = (
            f"people have numbers or names, not both: {' '.join(row)!r:.60} (# begins a comment)"
        )
        raise UserError(message, code="invalid_value", path=str(file))


def _networkx_graph(file: Path) -> Any:
    import networkx as nx

    if file.stat().st_size > XML_LIMIT:
        message = f"more than {XML_LIMIT:,} bytes: write it as .npz"
        raise UserError(message, code="too_large", path=str(file))
    return nx.read_gml(file) if file.suffix.lower() == ".gml" else nx.read_graphml(file)
