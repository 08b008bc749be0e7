"""The one way to read a run's files: names, kinds, sizes, JSON and seals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mores.experiments.results.cell_identity import to_ranges
from mores.experiments.results.checked_files import (
    MAX_JSON_DEPTH,
    CheckedFolder,
    check_tree,
    is_plain_name,
    parse_json,
)
from tests.refusals import refused


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a\0", "x" * 256, "é" * 200, "\ud800", None, 3, ["a"]]
)
def test_names_of_files(name: object) -> None:
    assert not is_plain_name(name)
    assert is_plain_name("..a") and is_plain_name("é")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1),
        '{"a":' * 100 + "1" + "}" * 100,
        '"' + '\\"' * 200_000,  # a text without an end, slow for careless patterns
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        "NaN",
        "[-Infinity]",
        '"\\ud800"',
        "1" * 5000,
        b"\xff",
        "",
        "{} {}",
    ],
)
def test_json_that_mores_does_not_write(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_that_mores_writes() -> None:
    deep = "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH
    assert parse_json(deep) is not None
    assert parse_json('["[[[[", "\\\\", "a\\"[[", "\\ud83d\\ude00"]')[3] == "😀"
    assert parse_json("[" + "[]," * 1000 + "{}]")[-1] == {}
    assert str(parse_json("NaN", finite=False)) == "nan"


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Below the folder; the way to it is the user's own."""
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "inner" / "file").write_text("{}")
    (tmp_path / "way").symlink_to(tmp_path / "real")
    folder = CheckedFolder(tmp_path / "way")
    check_tree(tmp_path / "way")
    assert folder.read("inner/file") == b"{}"
    assert folder.folder("inner").names() == ["file"]
    assert (folder.kind("inner"), folder.kind("inner/file"), folder.kind("x")) == (
        ("folder", "file", "")
    )
    link = tmp_path / "real" / "link"
    for target in ("inner", "inner/file", "nowhere"):
        link.symlink_to(target)
        for name in ("link", "link/file"):
            with refused("unreadable", str(tmp_path / "way" / "link")):
                folder.read(name)
        with refused("unreadable", str(tmp_path / "way" / "link")):
            check_tree(tmp_path / "way")
        link.unlink()


@pytest.mark.parametrize("name", ["pipe", "folder", "../file", "folder/..", "/etc/passwd"])
def test_only_files_below_the_folder_are_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with refused("unreadable"):
        CheckedFolder(tmp_path).read(name)


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    folder = CheckedFolder(tmp_path)
    assert folder.read("file", 5) == b"12345"
    with refused("unreadable"):
        folder.read("file", 4)
    with refused("unreadable"):
        folder.read_verified("file", [4, 0])
    assert folder.read_verified("file", folder.size_and_checksum("file")) == b"12345"


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [
        ([], []),
        ([3], [[3, 3, 1]]),
        ([0, 1, 2], [[0, 2, 1]]),
        ([0, 10, 20, 25], [[0, 20, 10], [25, 25, 1]]),
        ([0, 1, 5, 9], [[0, 1, 1], [5, 9, 4]]),
    ],
)
def test_ranges(numbers: list[int], ranges: list[list[int]]) -> None:
    assert to_ranges(numbers) == ranges
    assert [n for a, b, step in ranges for n in range(a, b + 1, step)] == numbers
