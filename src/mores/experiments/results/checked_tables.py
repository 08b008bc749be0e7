"""Read a cell's files from their contents, in the formats and codecs that mores writes, no others.

A Parquet or Zarr file names codecs and types, and a library runs what they name: Zarr 2 had pickle.
Therefore the descriptions are compared with those that `cell_tables` writes before the library
decodes a single number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from mores.core.errors import printable
from mores.core.random_streams import Worlds
from mores.experiments.results.checked_files import parse_json
from mores.experiments.results.parquet_footer import column_formats

COLUMNS = {  # of the table of metrics, with their types in the file
    "replicate": "INT32", "draw": "INT32", "world": "INT32", "stage": "BYTE_ARRAY",
    "episode": "INT32", "round": "INT32", "metric": "BYTE_ARRAY", "value": "FLOAT",
}  # fmt: skip
CODECS = {"SNAPPY", "UNCOMPRESSED"}
ENCODINGS = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}

GROUP_KEYS = {"attributes", "zarr_format", "node_type"}
ARRAY_KEYS = {
    "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "attributes",
    "dimension_names", "zarr_format", "node_type", "storage_transformers",
}  # fmt: skip
DATA_TYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64",
}  # fmt: skip
CHUNK_KEYS = {"name": "default", "configuration": {"separator": "/"}}
BYTES_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "bytes"}]
ZSTD_CODECS = [{"name": "zstd", "configuration": {"level": 0, "checksum": False}}]
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
UNITS = {"1", "rounds completed"}
MAX_DIMENSIONS, MAX_ELEMENTS, MAX_CHUNKS = 16, 2**32, 2**20


def open_metrics(data: bytes, num_rows: int) -> Any:
    """The table of metrics in the content of a file.

    Args:
        data: content of the file.
        num_rows: number of rows that it must have.

    Raises:
        ValueError: it is not such a table as `write_metrics` writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(pa.BufferReader(data))
    names = [column.name for column in (metadata.schema.column(n) for n in range(len(COLUMNS)))]
    if metadata.num_columns != len(COLUMNS) or names != list(COLUMNS):
        raise ValueError("its columns are not those of a table of metrics")
    if metadata.num_rows != num_rows:
        raise ValueError(f"it has {metadata.num_rows} rows, not {num_rows}")
    formats = column_formats(data)
    if len(formats) != metadata.num_row_groups:
        raise ValueError("its footer is damaged")
    for group in formats:
        for (name, physical_type), column in zip(COLUMNS.items(), group, strict=True):
            if column.physical_type != physical_type or column.codec not in CODECS:
                raise ValueError(f"column {name}: its type or codec is another")
            if not ENCODINGS.issuperset(column.encodings):
                raise ValueError(f"column {name}: its encoding is another")
    file = pq.ParquetFile(pa.BufferReader(data), metadata=metadata)
    if not file.schema_arrow.equals(_schema()):
        raise ValueError("its columns have other types than a table of metrics")
    return file


def _schema() -> Any:
    """Names and types of the columns."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    types = {"INT32": pa.int32(), "BYTE_ARRAY": text, "FLOAT": pa.float32()}
    return pa.schema([(name, types[physical]) for name, physical in COLUMNS.items()])


def read_worlds(file: Any, num_worlds: int, rows_per_world: int) -> Worlds:
    """The worlds of a table, from the rows of its first metric.

    Args:
        file: the open table.
        num_worlds: number of worlds.
        rows_per_world: rows of the metric in each world.

    Raises:
        ValueError: a number of a world is negative.
    """
    groups, rows = 0, 0
    while rows < num_worlds * rows_per_world:
        rows += file.metadata.row_group(groups).num_rows
        groups += 1
    names = ["replicate", "world", "draw"]
    table = file.read_row_groups(list(range(groups)), names, use_threads=False)
    columns = [table[name].to_numpy()[::rows_per_world][:num_worlds] for name in names]
    if any((column < 0).any() for column in columns):
        raise ValueError("a world has a negative number")
    return Worlds(*(torch.from_numpy(column.astype(np.int64)) for column in columns))


def check_trajectory(files: Mapping[str, bytes], names: Collection[str]) -> None:
    """Check that files are such a Zarr group as `write_trajectory` writes.

    Only its data types and codecs are allowed, and every chunk must be there: a library would take
    a missing one for numbers.

    Args:
        files: contents by path in the group.
        names: names of the arrays.

    Raises:
        ValueError: they are something else.
    """
    group = parse_json(files.get("zarr.json", b""))
    if not isinstance(group, dict) or group.keys() != GROUP_KEYS:
        raise ValueError("zarr.json is not that of a trajectory")
    if (group["zarr_format"], group["node_type"]) != (3, "group"):
        raise ValueError("zarr.json is not that of a trajectory")
    _check_attributes("zarr.json", group["attributes"], {"cell", "stage"})
    expected = {"zarr.json"}
    for name in names:
        key = f"{name}/zarr.json"
        chunks = _check_array(key, parse_json(files.get(key, b"")))
        expected |= {key, *(f"{name}/{chunk}" for chunk in chunks)}
        for chunk in chunks:
            data = files.get(f"{name}/{chunk}")
            if data is None:
                raise ValueError(f"{name}/{chunk} is missing")
            if zstd_content_size(data) != chunks[chunk]:
                raise ValueError(f"{name}/{chunk} does not hold a chunk of the array")
    if files.keys() != expected:
        raise ValueError(f"{printable(min(files.keys() ^ expected), 100)} is not expected")


def _check_array(key: str, array: Any) -> dict[str, int]:
    """Check the description of an array; return the size in bytes of each chunk."""
    if not isinstance(array, dict) or array.keys() != ARRAY_KEYS:
        raise ValueError(f"{key} is not that of an array of a trajectory")
    grid, shape = array["chunk_grid"], array["shape"]
    fixed = (array["zarr_format"], array["node_type"], array["storage_transformers"])
    codecs = array["codecs"]
    if fixed != (3, "array", []) or array["chunk_key_encoding"] != CHUNK_KEYS:
        raise ValueError(f"{key} has another format")
    if not isinstance(array["data_type"], str) or array["data_type"] not in DATA_TYPES:
        raise ValueError(f"{key} has another data type than numbers")
    if not isinstance(codecs, list) or len(codecs) != 2 or codecs[0] not in BYTES_CODECS:
        raise ValueError(f"{key} has another codec")
    if codecs[1] not in ZSTD_CODECS:
        raise ValueError(f"{key} has another codec")
    match grid:
        case {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}}:
            pass
        case _:
            raise ValueError(f"{key} has other chunks")
    if not isinstance(shape, list) or len(shape) != len(chunk_shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{key} has another shape")
    if not all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in [*shape, *chunk_shape]):
        raise ValueError(f"{key} has another shape")
    if 0 in chunk_shape or math.prod(shape) > MAX_ELEMENTS or math.prod(chunk_shape) > MAX_ELEMENTS:
        raise ValueError(f"{key} is too large")
    names = array["dimension_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} has unnamed dimensions")
    if type(array["fill_value"]) not in (int, float, bool) and array["fill_value"] != "NaN":
        raise ValueError(f"{key} has another fill value")
    _check_attributes(key, array["attributes"], {"units", "long_name", "coordinates", "_FillValue"})
    counts = [-(-size // chunk) for size, chunk in zip(shape, chunk_shape, strict=True)]
    if math.prod(counts) > MAX_CHUNKS:
        raise ValueError(f"{key} has too many chunks")
    size = math.prod(chunk_shape) * np.dtype(array["data_type"]).itemsize
    indices = itertools.product(*map(range, counts))
    return {"/".join(["c", *map(str, index)]): size for index in indices}


def _check_attributes(key: str, attributes: Any, known: Collection[str]) -> None:
    """Other attributes could choose a conversion: an offset, a calendar."""
    valid = isinstance(attributes, dict) and all(
        name in known and isinstance(value, (str, int, float)) for name, value in attributes.items()
    )
    if not valid or attributes.get("units", "1") not in UNITS:
        raise ValueError(f"{key} has other attributes")


def zstd_content_size(data: bytes) -> int | None:
    """Size after decompression, from the header of a Zstandard frame (RFC 8878, section 3.1.1).

    None if the data are no frame, or if it does not state the size.
    """
    if data[:4] != ZSTD_MAGIC or len(data) < 6:
        return None
    descriptor = data[4]
    flag, single_segment, dictionary = descriptor >> 6, descriptor >> 5 & 1, descriptor & 3
    length = (1 if single_segment else 0, 2, 4, 8)[flag]
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[dictionary]
    field = data[start : start + length]
    if not length or len(field) < length:
        return None
    return int.from_bytes(field, "little") + (256 if flag == 1 else 0)


def open_trajectory(files: Mapping[str, bytes]) -> Any:
    """A Zarr store in memory with the contents of files."""
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    return MemoryStore({name: Buffer.from_bytes(data) for name, data in files.items()})
