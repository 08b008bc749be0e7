"""Resuming runs: what is played again, what is refused, and what disks may say."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.killed.histories import bytes_of
from mores import UserError
from mores.run import Result, engine, files, resume, run
from mores.run import cells as cells_module
from mores.run.folder import Hold
from mores.run.provenance import surroundings
from mores.run.resuming import differences
from mores.scenario.load import load

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, people: 12, noise: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 5
measures: [centre, spread]
control: twin
arms:
  twin: {env.assistants: 0}
  mirror: {players.assistant: {kind: mirror}}
  persuade: {players.assistant: {kind: persuade, goal: [5, 5], reach: 1.0}}
claims:
  - {says: moved, kind: statistical, measure: causal_drift, arm: mirror, bound: {above: 0}}
  - {says: closer, kind: statistical, measure: spread, arm: mirror, against: twin, at: 3,
     bound: {below: 0}}
"""


def _no_pictures(patch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs, and has its own tests."""

    def write(job, *_):
        files.write_text(job.folder / "report.html", "a report")

    patch.setattr(engine, "_report", write)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_pictures(monkeypatch)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A finished run, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        _no_pictures(patch)
        return _run(tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture
def finished(template, tmp_path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(template, tmp_path / "finished", copy_function=shutil.copy2))


def _run(folder: Path, text: str = SCENARIO, changes: tuple[str, ...] = (), **more) -> Result:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run(load(str(file), changes), folder, progress=False, **more)


def _broken_off(folder: Path, monkeypatch: pytest.MonkeyPatch, **more) -> None:
    """A run that was killed in its second cell."""
    played = cells_module.play_cell

    def play(cell, *rest, **named):
        if cell.arm == "mirror":
            raise KeyboardInterrupt
        return played(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "play_cell", play)
        with pytest.raises(KeyboardInterrupt):
            _run(folder, **more)
    assert [path.name for path in (folder / "cells").iterdir()] == ["twin"]


def test_only_what_is_missing_is_played(tmp_path, monkeypatch):
    """The folder is enough: overrides and replicates stand in it; the file may be gone."""
    options = {"changes": ("env.noise=0.2", "rounds=4"), "only": [1, 3]}
    whole = bytes_of(_run(tmp_path / "whole", **options).folder)
    folder = tmp_path / "run"
    _broken_off(folder, monkeypatch, **options)
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    before = (folder / "cells" / "twin" / "cell.json").stat().st_mtime_ns
    (tmp_path / "run.yaml").unlink()
    folder = folder.rename(tmp_path / "moved")
    result = resume(folder, progress=False)
    assert bytes_of(folder) == whole
    assert (folder / "cells" / "twin" / "cell.json").stat().st_mtime_ns == before
    origin = json.loads((folder / "provenance.json").read_text())
    assert [note["there"] for note in origin["resumed"]] == [1]
    assert result.scenario.rounds == 4


def test_a_finished_run_is_judged_again_and_not_touched(finished, capsys):
    times = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    verdicts = resume(finished).verdicts
    assert "finished" in capsys.readouterr().err
    told = json.loads((finished / "claims.json").read_text())
    assert [v.verdict for v in verdicts] == [claim["verdict"] for claim in told]
    assert [v.estimate.value for v in verdicts] == [claim["estimate"] for claim in told]
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == times


@pytest.mark.parametrize("victim", ["measures.parquet", "cell.json", "trajectory.zarr/zarr.json"])
@pytest.mark.parametrize("how", ["torn", "gone", "changed"])
def test_damaged_cells_are_played_again(finished, capsys, victim, how):
    whole = bytes_of(finished)
    file = finished / "cells" / "mirror" / victim
    data = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-20] if how == "torn" else data[:-9] + b"?" + data[-8:])
    resume(finished)
    assert "cell mirror is damaged" in capsys.readouterr().err
    assert bytes_of(finished) == whole


@pytest.mark.parametrize("last", ["done", "judging"])
def test_a_run_stopped_after_its_last_cell(finished, last):
    whole = bytes_of(finished)
    if last == "judging":
        (finished / "claims.json").unlink()
    status = finished / "status.json"
    status.write_text(status.read_text().replace('"done",', '"running",', 1))
    assert [verdict.verdict for verdict in resume(finished, progress=False).verdicts]
    assert bytes_of(finished) == whole
    assert json.loads(status.read_text())["state"] == "done"


def test_folders_that_cannot_be_resumed(tmp_path, finished):
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            resume(folder, progress=False)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "no such folder")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is a file")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    refused(tmp_path / "foreign", "not a run's folder")
    order = (finished / "run.json").read_text()
    for torn in (order[:30], "[]", order.replace('"format": 1', '"format": 2'), "{}",
                 order.replace('"only": null', '"only": "all"')):  # fmt: skip
        (finished / "run.json").write_text(torn)
        refused(finished, r"cannot read .*run\.json")
    (finished / "run.json").write_text(order)
    scenario = finished / "scenario.yaml"
    text = scenario.read_text()
    scenario.write_text(text.replace("noise: 0.1", "noise: 0.2"))
    refused(finished, r"another one.*resolved\.yaml:[0-9]+: 'noise: 0.1' was, 'noise: 0.2' is")
    scenario.write_text(text[:100])
    refused(finished, "its scenario is none")
    scenario.write_text(text)
    with Hold(finished):
        refused(finished, rf"another process \({os.getpid()}\) is running it")
    (finished / "run.json").unlink()
    refused(finished, "earlier version")
    for name in ("status.json", "log.txt", "claims.json", "report.html"):
        (finished / name).unlink()
    files.remove_folder(finished / "cells")
    (finished / "cells").mkdir()
    refused(finished, "had not begun")


def test_other_versions_are_refused_unless_forced(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    _broken_off(folder, monkeypatch)
    path = folder / "provenance.json"
    origin = json.loads(path.read_text())
    here = surroundings()
    assert differences(origin, here) == ([], [])
    origin["versions"]["torch"] = "1.0"
    origin["processor"] = "Abacus"
    path.write_text(json.dumps(origin))
    with pytest.raises(UserError, match=r"begun with torch 1\.0, here .*--force"):
        resume(folder)
    assert (folder / "cells" / "twin").is_dir()
    resume(folder, force=True)
    assert "processor Abacus, here" in capsys.readouterr().err
    note = json.loads(path.read_text())["resumed"][0]
    assert note["versions"]["torch"] == here["versions"]["torch"]


OWN = """\
from mores import register
from mores.agents.policies.assistants import Mirror

class Own(Mirror):
    pass

register("player", "{name}", Own)
"""


def test_files_of_ones_own_are_loaded_when_named_again(tmp_path):
    """By a process that has not loaded them, and by its workers; never because a folder says so."""
    own, file, folder = tmp_path / "own.py", tmp_path / "scenario.yaml", tmp_path / "run"
    own.write_text(OWN.replace("{name}", "my_own"))
    file.write_text(SCENARIO.replace("kind: mirror", "kind: my_own"))
    program = [sys.executable, "-c", "import sys; from mores.cli import main; sys.exit(main())"]

    def mores(*words: str) -> None:
        words = (*words, "--jobs", "2")
        done = subprocess.run([*program, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    mores("run", str(file), "--out", str(folder), "--load", str(own))
    whole = bytes_of(folder)
    files.remove_folder(folder / "cells" / "mirror")
    with pytest.raises(UserError, match=r"name that file again, mores resume .* --load own\.py"):
        resume(folder, progress=False)
    mores("resume", str(folder), "--load", str(own))
    assert bytes_of(folder) == whole
    files.remove_folder(folder / "cells" / "mirror")
    (tmp_path / "elsewhere").mkdir()
    own = own.rename(tmp_path / "elsewhere" / own.name)
    own.write_text(own.read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"has changed since .* --force"):
        resume(folder, modules=[own], progress=False)
    mores("resume", str(folder), "--load", str(own), "--force")
    assert bytes_of(folder) == whole


def test_a_full_disk_stops_a_run_and_keeps_what_is_whole(tmp_path, monkeypatch):
    whole = bytes_of(_run(tmp_path / "whole").folder)
    folder, opened = tmp_path / "run", pathlib.Path.open

    def full(path, mode="r", *rest, **named):
        if set(mode) & set("wa") and "persuade" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", full)
        with pytest.raises(UserError, match=r"cannot write .*persuade: No space left on device"):
            _run(folder)
    assert sorted(path.name for path in (folder / "cells").iterdir()) == ["mirror", "twin"]
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["to_do"]) == ("stopped", ["persuade"])
    resume(folder, progress=False)
    assert bytes_of(folder) == whole


def test_a_limit_that_the_system_sets(tmp_path):
    """Files of at most so many bytes, as on a full disk: in a process of its own."""
    file, folder = tmp_path / "scenario.yaml", tmp_path / "run"
    file.write_text(SCENARIO.replace("replicates: 5", "replicates: 400"))
    code = f"""
import resource, sys
import mores.run.cells, pyarrow.parquet, xarray, zarr
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
from mores.cli import main
sys.exit(main(["run", {str(file)!r}, "--out", {str(folder)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()[-2:]
    assert first.startswith(f"cannot write {folder}/cells/twin: File too large")
    assert second == f"0 of 3 cells are kept; to go on: mores resume {folder}"
    assert not list((folder / "cells").iterdir())
    resume(folder, force=True, progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(finished):
    files.remove_folder(finished / "cells" / "mirror")
    (finished / "cells").chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
            resume(finished, progress=False)
    finally:
        (finished / "cells").chmod(0o700)


def test_a_folder_on_a_disk_that_refuses(finished, monkeypatch):
    files.remove_folder(finished / "cells" / "mirror")

    def refuse(path, *rest, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot write .*mirror: Read-only file system"):
        resume(finished, progress=False)


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    whole = bytes_of(_run(tmp_path / "whole").folder)
    played = cells_module.play_cell

    def play(cell, *rest, **named):
        if cell.arm == "mirror":
            raise ZeroDivisionError("a defect")
        return played(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "play_cell", play)
        with pytest.raises(ZeroDivisionError):
            _run(tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["done"] == ["twin", "persuade"]
    assert "a defect" in status["failed"]["mirror"]
    resume(tmp_path / "run", progress=False)
    assert bytes_of(tmp_path / "run") == whole
