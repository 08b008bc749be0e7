"""Hostile run folders: one line or the right numbers, and nothing outside is touched."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from mores import UserError, open_run
from mores.cli.commands import main
from mores.experiments.run import resume_run
from tests.attacks import folders
from tests.attacks.folders import (
    CELL,
    array_json,
    cell_metadata,
    cell_name,
    file_for_folder,
    folder_for_file,
    group_json,
    link,
    listed_file,
    numbers,
    outcome,
    parquet,
    parquet_columns,
    pipe,
    reseal,
    short_report,
    snapshot,
    sparse,
    text,
)

DEEP = "[" * 100_000 + "]" * 100_000
DEEP_OBJECT = '{"format": 3, "a": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}"
JSON_FILES = ["run.json", "cells.json", "status.json", "provenance.json", "claims.json"]
FILES = [*JSON_FILES, "scenario.yaml", "resolved.yaml", f"{CELL}/cell.json",
         f"{CELL}/metrics.parquet", f"{CELL}/trajectory.zarr/zarr.json", "report.html",
         "log.txt", "cells/learner/checkpoints/train.assistant.safetensors"]  # fmt: skip
FORMATS = {
    "zarr 2": folders.zarr_2_pickle,
    "pickle codec": folders.pickle_codec,
    "gzip codec": array_json(codecs=[{"name": "bytes", "configuration": {"endian": "little"}},
                                     {"name": "gzip", "configuration": {"level": 5}}]),
    "sharding": array_json(codecs=[{"name": "sharding_indexed", "configuration": {}}]),
    "text data": array_json(data_type="string"),
    "structured data": array_json(data_type={"name": "structured", "configuration": {}}),
    "zarr format 4": array_json(zarr_format=4),
    "huge array": array_json(shape=[2**62, 3, 3, 2]),
    "many chunks": array_json(chunk_grid={"name": "regular",
                                          "configuration": {"chunk_shape": [1, 1, 1, 1]}}),
    "dates": array_json(attributes={"units": "days since 2000-01-01"}),
    "an offset": array_json(attributes={"add_offset": 1.0}),
    "transformers": array_json(storage_transformers=[{"name": "x"}]),
    "consolidated": group_json(consolidated_metadata={"kind": "inline", "metadata": {}}),
    "group attributes": group_json(attributes={"units": "1", "x": {}}),
    "missing chunk": folders.missing_chunk,
    "zstd bomb": folders.zstd_bomb,
    "gzip table": parquet(compression="gzip"),
    "zstd table": parquet(compression="zstd"),
    "delta table": parquet(use_dictionary=False, column_encoding={"round": "DELTA_BINARY_PACKED"}),
    "pickled column": parquet_columns(folders.pickled_column),
    "no values": parquet_columns(folders.with_nulls),
    "fewer rows": parquet_columns(lambda table: table.slice(1)),
    "fewer columns": parquet_columns(lambda table: table.drop_columns(["round"])),
    "pickled checkpoint": folders.pickled_checkpoint,
    "no parquet": text(f"{CELL}/metrics.parquet", b"PAR1"),
}  # fmt: skip
LINKS = {
    **{f"link {name}": link(name, "files") for name in FILES},
    **{f"link to the same {name}": link(name, is_copy=True)
       for name in ("cells", CELL, f"{CELL}/cell.json", f"{CELL}/metrics.parquet", "run.json",
                    "status.json", f"{CELL}/trajectory.zarr")},
    **{f"link {name} to a folder": link(name)
       for name in ("cells", CELL, f"{CELL}/trajectory.zarr", "figures", "figures/x.png",
                    "cells/.mirror.1.part", ".run.json.1.part", "cells/.mirror.checkpoint",
                    ".status.json.1.part", "cells/stray", "stray", "extension",
                    "cells/.mirror.earlier")},
    "dangling link": link("figures", "nowhere"),
    "link in a partial cell": folders.linked_part,
    "link in a damaged cell": folders.link_in_damaged_cell,
}  # fmt: skip
KINDS = {
    **{f"pipe {name}": pipe(name)
       for name in [*FILES, "cells", CELL, "cells/.mirror.checkpoint", "extension"]},
    **{f"folder {name}": folder_for_file(name) for name in FILES},
    **{f"file {name}": file_for_folder(name)
       for name in ("cells", CELL, f"{CELL}/trajectory.zarr")},
    **{f"huge {name}": sparse(name)
       for name in [*JSON_FILES, f"{CELL}/cell.json", "scenario.yaml"]},
    "file in a damaged cell": folders.file_in_damaged_cell,
}  # fmt: skip
NAMES = {
    **{f"cell {name!r}": cell_name(name)
       for name in ("..", ".", "", "/etc", "../outside", "a/b", "a\0b", "x" * 300, "\ud800")},
    **{f"file {name!r}": listed_file(name)
       for name in ("../../../outside/files", "/etc/passwd", "..", "trajectory.zarr/../cell.json")},
}  # fmt: skip
CONTENTS = {
    **{f"{name} {kind}": text(name, content)
       for name in [*JSON_FILES, f"{CELL}/cell.json"]
       for kind, content in {"deep": DEEP, "deep object": DEEP_OBJECT, "empty": "", "null": "null",
                             "twice": '{"format": 3, "format": 3}', "no UTF-8": b"\xff{}",
                             "NaN": '{"format": NaN}', "list": "[]", "half": '{"\\ud800": 1}'
                             }.items()},
    **{f"cell.json {key}": cell_metadata(**{key: value}) for key, value in {
        "stages": [], "num_worlds": -1, "identity": None, "replicates": "all",
        "trajectory": {"rounds": [0], "latent": ["../../../outside"], "people": []},
        "value_names": 3, "stopped": [[1, 2, 3]],
        "code": None, "format": 2, "cell": "learner", "files": [],
    }.items()},
}  # fmt: skip
SWAPS = {"swapped": folders.swapped, "renamed": folders.renamed_and_swapped}
ATTACKS = {**FORMATS, **LINKS, **KINDS, **NAMES, **CONTENTS, **SWAPS}


def _check_outside(outside: Path, before: object) -> None:
    assert not (outside / "marker").exists()
    assert snapshot(outside) == before


@pytest.mark.cut(6)
@pytest.mark.parametrize("name", ATTACKS)
def test_readers(name: str, run: Path, outside: Path, expected: str) -> None:
    ATTACKS[name](run, outside)
    before = snapshot(outside), snapshot(run)
    result = outcome(lambda: numbers(run))
    assert isinstance(result, UserError) or result == expected
    _check_outside(outside, before[0])
    assert snapshot(run) == before[1]


@pytest.mark.cut(6)
@pytest.mark.parametrize("name", ATTACKS)
def test_resume(name: str, run: Path, outside: Path, expected: str) -> None:
    """Damage is repaired, in the same numbers, or refused before anything changes."""
    ATTACKS[name](run, outside)
    before = snapshot(outside), snapshot(run)
    with short_report():
        result = outcome(lambda: resume_run(run, progress=False))
    _check_outside(outside, before[0])
    if isinstance(result, UserError):
        if result.code != "not_writable":
            assert snapshot(run) == before[1]
    else:
        assert outcome(lambda: numbers(run)) == expected


@pytest.mark.cut(8)
@pytest.mark.parametrize("name", LINKS)
def test_links_are_refused_by_resume(name: str, run: Path, outside: Path) -> None:
    """Also in a run that has not finished, with files to remove and cells to simulate."""
    LINKS[name](run, outside)
    if not (run / "status.json").is_symlink():
        reseal(run / "status.json", lambda status: status.update(state="running"))
    before = snapshot(outside), snapshot(run)
    result = outcome(lambda: resume_run(run, progress=False))
    assert isinstance(result, UserError) and result.code == "unreadable"
    assert (snapshot(outside), snapshot(run)) == before


@pytest.mark.cut(2)
@pytest.mark.parametrize("other", ["seed", "size", "replicates", "rounds"])
@pytest.mark.parametrize("read", [numbers, resume_run])
def test_cells_of_other_runs(other, read, run, other_runs) -> None:
    shutil.rmtree(run / CELL)
    shutil.copytree(other_runs[other] / CELL, run / CELL)
    before = snapshot(run)
    result = outcome(lambda: read(run))
    assert isinstance(result, UserError)
    assert (result.code, result.path) == ("incompatible", str(run / CELL))
    assert "belongs to another run" in str(result)
    assert snapshot(run) == before


@pytest.mark.parametrize("attack", SWAPS)
@pytest.mark.parametrize("read", [numbers, resume_run])
def test_swapped_cells(attack, read, run, outside) -> None:
    SWAPS[attack](run, outside)
    result = outcome(lambda: read(run))
    assert isinstance(result, UserError) and result.code == "incompatible"


def test_cells_of_other_code(run, expected) -> None:
    """A reader warns; a run that would mix code is not resumed."""
    cell = run / CELL / "cell.json"
    reseal(cell, lambda content: content["code"].update(source="0" * 16))
    with pytest.warns(UserWarning, match="other source code"):
        assert numbers(run) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_run(run).dataframe("learner")
    shutil.rmtree(run / "cells" / "learner")
    before = snapshot(run)
    result = outcome(lambda: resume_run(run, progress=False))
    assert isinstance(result, UserError) and result.code == "incompatible"
    assert snapshot(run) == before
    with short_report():
        resume_run(run, progress=False, force=True)
    assert outcome(lambda: numbers(run)) == expected


@pytest.mark.cut(2)
@pytest.mark.parametrize("name", ["claims.json", "report.html"])
@pytest.mark.parametrize("content", [None, "", "[]", "forged"])
def test_final_files_are_written_again(name, content, run, template, capsys) -> None:
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    if name == "claims.json":
        assert isinstance(outcome(lambda: open_run(run).claims), UserError)
    with short_report():
        resume_run(run)
    assert f"{name} is missing or was changed: it is written again" in capsys.readouterr().err
    assert (run / name).read_bytes() == (template / name).read_bytes()
    resume_run(run)
    assert "nothing left to do" in capsys.readouterr().err


def test_forged_claims_that_look_right(run, template) -> None:
    claims = json.loads((run / "claims.json").read_text())
    claims[0]["estimate"] *= -1
    (run / "claims.json").write_text(json.dumps(claims))
    assert isinstance(outcome(lambda: open_run(run).claims), UserError)
    with short_report():
        resume_run(run, progress=False)
    assert (run / "claims.json").read_bytes() == (template / "claims.json").read_bytes()


def test_files_of_the_user_stay(run) -> None:
    """Hidden files that no run writes, beside those that a killed run leaves."""
    left = [run / ".status.json.7.part", run / "cells" / ".mirror.checkpoint"]
    own = [run / ".thesis.7.part", run / "cells" / ".notes.checkpoint", run / "cells" / "notes.txt"]
    for path in [*left, *own]:
        path.write_text("text")
    partial = run / "cells" / ".mirror.7.part"
    partial.mkdir()
    (partial / "metrics.parquet").write_text("torn")
    resume_run(run, progress=False)
    assert not partial.exists() and not any(path.exists() for path in left)
    assert all(path.exists() for path in own)


@pytest.mark.full
@pytest.mark.parametrize("name", ["link figures to a folder", "link report.html", "pipe run.json"])
def test_a_real_report(name, run, outside) -> None:
    """The writer of the report does not follow links either."""
    ATTACKS[name](run, outside)
    before = snapshot(outside), snapshot(run)
    assert isinstance(outcome(lambda: resume_run(run, progress=False)), UserError)
    assert (snapshot(outside), snapshot(run)) == before


@pytest.mark.parametrize("name", ["link cells to a folder", "pipe status.json", "zarr 2"])
def test_the_command_claims(name, run, outside, template, capsys) -> None:
    """It reads runs in the folder, and writes into new folders only."""
    ATTACKS[name](run, outside)
    before = snapshot(outside), snapshot(run)
    file = str(template.with_suffix(".yaml"))
    assert main(["claims", file, "--run", "--out", str(run.parent)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (snapshot(outside), snapshot(run)) == before


@pytest.mark.parametrize("name", ["cells", "status.json", "run.json"])
def test_the_command_resume(name, run, outside, capsys) -> None:
    link(name)(run, outside)
    before = snapshot(outside), snapshot(run)
    assert main(["resume", str(run)]) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert (snapshot(outside), snapshot(run)) == before


@pytest.mark.full
@pytest.mark.cut(4)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_the_list_of_claims(name, run, outside, template, capsys, monkeypatch) -> None:
    """It reads finished runs under `runs/`, and leaves out what it cannot read."""
    monkeypatch.chdir(run.parent)
    folder = run.parent / "runs" / "small" / "run"
    folder.parent.mkdir(parents=True)
    shutil.copytree(run, folder, symlinks=True)
    ATTACKS[name](folder, outside)
    before = snapshot(outside), snapshot(folder)
    assert main(["claims", str(template.with_suffix(".yaml"))]) == 0
    assert capsys.readouterr().err == ""
    assert (snapshot(outside), snapshot(folder)) == before
