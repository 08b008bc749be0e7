"""Edge lists: text files with one edge a line, of people who have numbers or names."""

from __future__ import annotations

import ast
import functools
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mores.core.errors import UserError, nearest_name, printable
from mores.envs.graphs.csr_graph import CsrGraph

NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
# Names of the first two columns of other programs. As names of people they would be unusual.
HEADINGS = frozenset(
    [("source", "target"), ("from", "to"), ("src", "dst"), ("ego", "alter"), ("node1", "node2")]
)
CHUNK = 4096  # lines that are checked at once


class EdgeListError(UserError):
    """A mistake in a line of an edge list; `line`: its number, from 1."""

    def __init__(self, message: Any, *, code: str = "", path: str = "", line: int = 0) -> None:
        super().__init__(message, code=code, path=path)
        self.line = line


class GraphWithRemark(NamedTuple):
    """A graph of a file, and how many ties are left out; no text: none."""

    graph: CsrGraph
    remark: str = ""


def read_edge_list(
    file: Path,
    num_people: int | None,
    directed: bool = False,
    names: Sequence[str] = (),
    leave_out_others: bool = False,
) -> GraphWithRemark:
    """The graph of an edge list; for the arguments see `graph_file.read_graph`.

    Raises:
        UserError: another format, no ties, or a name that is not among `names`.
        OSError: the file cannot be read.
    """
    edges = _EdgeList(file)
    edges.check_headings(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers too large for int64, which are refused below
        try:
            if names:
                return edges.graph_of_names(names, leave_out_others, directed)
            try:
                return GraphWithRemark(edges.graph_of_numbers(num_people, directed))
            except ValueError:  # people have names
                return GraphWithRemark(edges.graph_of_own_names(directed))
        except ValueError as error:
            edges.refuse_wrong_line()
            raise UserError(str(error), code="unreadable", path=str(file)) from None


class _EdgeList:
    """Lines of an edge list. Blank lines and comments are skipped.

    Args:
        file: the file, in UTF-8.

    Raises:
        UserError: it is no text in UTF-8, or has no ties.
    """

    def __init__(self, file: Path) -> None:
        self._path, self._text = str(file), _read_text(file)
        self._first_line, first = next(self._lines(), (1, ""))
        first = first.partition("#")[0]
        if not first:
            raise UserError("has no ties", code="missing", path=self._path)
        tabs = "\t" if file.suffix.lower() == ".tsv" and "\t" in first.strip() else None
        self._delimiter = "," if "," in first.partition("{")[0].rstrip() else tabs
        self._has_attributes = "{" in first

    def graph_of_numbers(self, num_people: int | None, directed: bool) -> CsrGraph:
        """The graph of people who are numbered.

        Raises:
            ValueError: a cell is no number, or lines have different numbers of columns.
        """
        table = self._table(np.float64)
        ends = table[:, :2].astype(np.int64)
        self._refuse_rows(
            ends != table[:, :2], "people must be numbered by whole numbers", "wrong_type"
        )
        people = num_people or 1 + int(ends.max())
        outside = (ends < 0) | (ends >= people)
        if outside.any():
            message = f"no person {ends[outside][0]}; people are numbered 0 to {people - 1}"
            self._refuse_rows(outside, message, "out_of_range")
        return CsrGraph.from_edges(
            ends[:, 0], ends[:, 1], people, self._finite_weights(table), directed
        )

    def graph_of_own_names(self, directed: bool) -> CsrGraph:
        """The graph of people who have the sorted names in the file.

        Raises:
            ValueError: see `graph_of_numbers`.
        """
        table = self._table(str)
        labels, ends = np.unique(table[:, :2], return_inverse=True)
        ends = ends.reshape(-1, 2)
        self._refuse_rows(table[:, :2] == "", "a person's name is empty", "invalid_value")
        is_number = np.array([NUMBER.fullmatch(label) is not None for label in labels])
        if is_number.any() and not is_number.all():
            named = ~is_number[ends]
            row = " ".join(table[named.any(1).argmax()])
            message = f"people have numbers or names, not both: {row!r:.60} (# begins a comment)"
            self._refuse_rows(named, message, "invalid_value")
        weights = self._finite_weights(table)
        return CsrGraph.from_edges(ends[:, 0], ends[:, 1], len(labels), weights, directed)

    def graph_of_names(
        self, names: Sequence[str], leave_out_others: bool, directed: bool
    ) -> GraphWithRemark:
        """The graph of people of these names.

        Raises:
            ValueError: see `graph_of_numbers`.
        """
        table = self._table(str)
        labels, ends = np.unique(table[:, :2], return_inverse=True)
        ends = np.array(numbers_of_names(labels.tolist(), names), np.int64)[ends].reshape(-1, 2)
        known, remark = np.all(ends >= 0, 1), ""
        if not known.all():
            row = int(known.argmin())
            other = str(table[row, int((ends[row] >= 0).argmin())])
            if not leave_out_others:
                message, line = not_among_names(other, names), self._line_of_row(row)
                raise EdgeListError(message, code="unknown_name", path=self._path, line=line)
            remark = left_out_remark(int(np.sum(~known)), len(table), other, names)
        weights = self._finite_weights(table)
        weights = None if weights is None else weights[known]
        ends = ends[known]
        graph = CsrGraph.from_edges(ends[:, 0], ends[:, 1], len(names), weights, directed)
        return GraphWithRemark(graph, remark)

    def check_headings(self, names: Sequence[str]) -> None:
        """Refuse a first line of headings, which would be a tie between two people."""
        try:
            cells = self._cells(*next(self._lines()))
        except ValueError:
            return
        if tuple(cell.lower() for cell in cells[:2]) in HEADINGS and not {*cells[:2]} & {*names}:
            message = f"{' '.join(cells)!r:.60} are names of columns: begin this line with #"
            line = self._first_line
            raise EdgeListError(message, code="invalid_value", path=self._path, line=line)

    def refuse_wrong_line(self) -> None:
        """Refuse the first line whose columns are not those of an edge, if there is one.

        Raises:
            EdgeListError: there is one.
        """
        lines = self._lines()
        while chunk := list(itertools.islice(lines, CHUNK)):
            try:
                table = self._loaded(chunk, str)
                _weights(table)
                is_right = table.shape[1] == self._num_columns
            except ValueError:
                is_right = False
            for number, line in () if is_right else chunk:
                self._check_line(number, line)

    def _check_line(self, number: int, line: str) -> None:
        refuse = functools.partial(EdgeListError, path=self._path, line=number)
        cells = self._cells(number, line)
        if len(cells) not in (2, 3):
            message = "an edge has 2 or 3 columns, person, neighbor and optionally a weight, "
            message += f"not {len(cells)}: {printable(line.strip(), 40)!r}"
            if ";" in line:
                message += " (columns are separated by blanks or commas, not by ;)"
            raise refuse(message, code="wrong_shape")
        if len(cells) != self._num_columns:
            message = f"has {len(cells)} columns; line {self._first_line} has {self._num_columns}"
            raise refuse(message, code="wrong_shape")
        try:
            _weights(np.array([cells]))
        except ValueError:
            message = f"the weight {printable(cells[2], 40)!r} is no number"
            raise refuse(message, code="wrong_type") from None

    @functools.cached_property
    def _num_columns(self) -> int:
        """Number of columns of the first line; 2 if it has another one than an edge."""
        number = len(self._cells(*next(self._lines())))
        return number if number in (2, 3) else 2

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Number and text of each line that has more than a comment."""
        for number, line in enumerate(io.StringIO(self._text, newline=None), 1):
            if line.partition("#")[0].strip():
                yield number, line

    def _line_of_row(self, row: int) -> int:
        """Number of the line of a row of the table."""
        return next(itertools.islice(self._lines(), row, None))[0]

    def _cells(self, number: int, line: str) -> list[str]:
        """The cells of a line; attributes are a cell with their weight."""
        return self._loaded([(number, line)], str)[0].tolist()

    def _table(self, dtype: type) -> np.ndarray:
        """Columns of all lines as numbers or as texts.

        Raises:
            ValueError: a cell is no number, or lines have other columns than an edge.
            EdgeListError: attributes cannot be read.
        """
        table = self._loaded(self._lines(), dtype)
        if table.shape[1] not in (2, 3):
            raise ValueError(f"has {table.shape[1]} columns, not 2 or 3")
        return table

    def _loaded(self, lines: Iterable[tuple[int, str]], dtype: type) -> np.ndarray:
        """Columns of numbered lines: see `_table`."""
        if self._has_attributes:
            texts = (self._with_weight(number, line) for number, line in lines)
        else:
            texts = (line for _, line in lines)
        form: Any = {"delimiter": self._delimiter, "ndmin": 2, "quotechar": '"'}
        table = np.loadtxt(texts, dtype, **form)
        return np.char.strip(table) if dtype is str else table

    def _with_weight(self, number: int, line: str) -> str:
        """A line of `networkx.write_edgelist`, whose `{'weight': 2.0}` becomes a third column."""
        ends, brace, attributes = line.partition("{")
        if not brace or "#" in ends:
            return line
        try:
            found = ast.literal_eval(brace + attributes[: attributes.rindex("}") + 1])
            weight = float(found.get("weight", 1.0))
        except Exception:  # many kinds
            message = f"{printable(line.strip())!r}: attributes must be {{'weight': number}}"
            kind = {"code": "unreadable", "path": self._path}
            raise EdgeListError(message, **kind, line=number) from None
        edge = ends.rstrip(" \t,")
        return f"{edge}{self._delimiter or ' '}{weight!r}"

    def _finite_weights(self, table: np.ndarray) -> Float[np.ndarray, " row"] | None:
        """Weights of the rows, if the table has them."""
        weights = _weights(table)
        if weights is not None:
            self._refuse_rows(
                ~np.isfinite(weights)[:, None], "a weight is not finite", "not_finite"
            )
        return weights

    def _refuse_rows(self, wrong: Bool[np.ndarray, "row column"], message: str, code: str) -> None:
        """Refuse the first row in which a cell is wrong, if there is one."""
        rows = wrong.any(1)
        if rows.any():
            line = self._line_of_row(int(rows.argmax()))
            raise EdgeListError(message, code=code, path=self._path, line=line)


def _read_text(file: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        EdgeListError: it has other bytes, or a null character, at which names would end.
    """
    data = file.read_bytes()
    position, problem = data.find(b"\0"), "has a null character: save the file as text in UTF-8"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text, position, problem = "", error.start, "is no text in UTF-8: save the file in UTF-8"
    if position >= 0:
        line = data.count(b"\n", 0, position) + 1
        raise EdgeListError(problem, code="unreadable", path=str(file), line=line)
    return text


def _weights(table: np.ndarray) -> Float[np.ndarray, " row"] | None:
    """The third column as numbers, if there is one."""
    return table[:, 2].astype(np.float64) if table.shape[1] == 3 else None


def numbers_of_names(labels: Sequence[str], names: Sequence[str]) -> list[int]:
    """Number of the person of each label; -1: there is no such person."""
    number = {name: index for index, name in enumerate(names)}
    return [number.get(label, -1) for label in labels]


def not_among_names(other: str, names: Sequence[str]) -> str:
    """Message that a file names a person who is not among the people."""
    return (
        f"{printable(other, 40)!r} is not among the names of the people"
        f"{nearest_name(other, names)}, who are those of the population without respondents left "
        "out; leave_out_others: true leaves out ties with others; # begins a comment, such as a "
        "line of headings"
    )


def left_out_remark(number: int, total: int, other: str, names: Sequence[str]) -> str:
    """Remark that ties are left out.

    Args:
        number: how many.
        total: of how many.
        other: name of a person who is not in the population.
        names: names of the population.

    Raises:
        UserError: no tie is left.
    """
    example = f"such as {printable(other, 40)!r}{nearest_name(other, names)}"
    if number == total:
        message = f"none of {total:,} ties is left: each has a person who is not in the population"
        raise UserError(f"{message}, {example}", code="conflict", path="names")
    ties = f"{number:,} of {total:,} ties have a person who is not in the population"
    return f"{ties} and are left out, {example}"
