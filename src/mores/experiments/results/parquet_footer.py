"""Types, codecs and encodings in the footer of a Parquet file, without a library.

pyarrow ends the process when it describes a column whose size statistics are damaged: its C++ code
throws where Python cannot catch. It raises an error when it reads such a column. The footer is in
Thrift's compact protocol (https://github.com/apache/thrift, doc/specs/thrift-compact-protocol.md);
the numbers of fields are those of `parquet.thrift` (https://github.com/apache/parquet-format).
"""

from __future__ import annotations

from typing import Any, NamedTuple

MAGIC = b"PAR1"
MAX_DEPTH = 16  # levels of structs and lists
TYPES = {1: "INT32", 4: "FLOAT", 6: "BYTE_ARRAY"}
CODECS = {0: "UNCOMPRESSED", 1: "SNAPPY"}
ENCODINGS = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 8: "RLE_DICTIONARY"}
_ROW_GROUPS, _COLUMNS, _METADATA = 4, 1, 3  # fields of the file, of a row group, of a column
_TYPE, _ENCODINGS, _CODEC = 1, 2, 4  # fields of the metadata of a column
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY = 1, 2, 3, (4, 5, 6), 7, 8  # types of Thrift
_LISTS, _STRUCT = (9, 10), 12


class ColumnFormat(NamedTuple):
    """The format of a column in a row group; an empty text for one that mores does not write."""

    physical_type: str
    codec: str
    encodings: set[str]


def column_formats(data: bytes) -> list[list[ColumnFormat]]:
    """The format of every column of every row group.

    Args:
        data: content of the file.

    Raises:
        ValueError, LookupError, TypeError: it is not a Parquet file.
    """
    size = int.from_bytes(data[-8:-4], "little")
    if data[-4:] != MAGIC or size > len(data) - 8:
        raise ValueError("it is not a Parquet file")
    reader = _ThriftReader(data[len(data) - 8 - size : len(data) - 8])
    groups = reader.read_struct(0)[_ROW_GROUPS]
    return [[_column_format(column) for column in group[_COLUMNS]] for group in groups]


def _column_format(column: dict[int, Any]) -> ColumnFormat:
    fields = column[_METADATA]
    return ColumnFormat(
        TYPES.get(fields[_TYPE], ""),
        CODECS.get(fields[_CODEC], ""),
        {ENCODINGS.get(encoding, "") for encoding in fields[_ENCODINGS]},
    )


class _ThriftReader:
    """Reads values in the compact protocol from the start of `data`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def read_struct(self, depth: int) -> dict[int, Any]:
        """The fields of a struct by number."""
        if depth > MAX_DEPTH:
            raise ValueError("its footer is nested too deeply")
        fields, number = dict[int, Any](), 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._integer()
            kind = header & 15
            is_truth = kind in (_TRUE, _FALSE)  # in the header itself
            fields[number] = kind == _TRUE if is_truth else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.read_struct(depth)
        if kind in _LISTS:
            return self._list(depth)
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        raise ValueError("its footer has another type of field")  # a map: Parquet has none

    def _list(self, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise ValueError("its footer is nested too deeply")
        header = self._byte()
        length = header >> 4 if header >> 4 < 15 else self._unsigned()
        if length > len(self._data) - self._position:
            raise ValueError("its footer is torn")
        return [self._value(header & 15, depth + 1) for _ in range(length)]

    def _byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1]

    def _bytes(self, length: int) -> bytes:
        self._position += length
        if self._position > len(self._data):
            raise ValueError("its footer is torn")
        return self._data[self._position - length : self._position]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("its footer has a number that is too long")
        return value | byte << shift

    def _integer(self) -> int:
        """A number whose last bit is its sign."""
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
