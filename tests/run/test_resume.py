"""Resuming runs: what is played again, what is refused, and what disks may say."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.killed.histories import bytes_of
from mores import UserError
from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import system_info
from mores.experiments.run import RunResult, engine, resume_run, run_scenario
from mores.experiments.run import cell_execution as cells_module
from mores.experiments.run.resume import compare_system_info
from mores.experiments.run.run_folder import RunLock
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import check_message, refused
from tests.run.small_run import unreadable

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
        atomic_files.write_text(job.folder / "report.html", "a report")

    patch.setattr(engine, "_write_report", write)


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
def finished(template, here) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(template, here / "finished", copy_function=shutil.copy2))


def _run(folder: Path, text: str = SCENARIO, changes: tuple[str, ...] = (), **more) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file), changes), folder, progress=False, **more)


def _broken_off(folder: Path, monkeypatch: pytest.MonkeyPatch, **more) -> None:
    """A run that was killed in its second cell."""
    played = cells_module.run_cell

    def play(cell, *rest, **named):
        if cell.arm == "mirror":
            raise KeyboardInterrupt
        return played(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "run_cell", play)
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
    result = resume_run(folder, progress=False)
    assert bytes_of(folder) == whole
    assert (folder / "cells" / "twin" / "cell.json").stat().st_mtime_ns == before
    origin = json.loads((folder / "provenance.json").read_text())
    assert [note["there"] for note in origin["resumed"]] == [1]
    assert result.scenario.rounds == 4


def test_a_finished_run_is_judged_again_and_not_touched(finished, capsys):
    times = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    verdicts = resume_run(finished).verdicts
    check_message(re.sub("on [0-9TZ:-]+;", "on ...;", capsys.readouterr().err))
    told = json.loads((finished / "claims.json").read_text())
    assert [v.status for v in verdicts] == [claim["verdict"] for claim in told]
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
    resume_run(finished)
    damaged = capsys.readouterr().err.splitlines()[0]
    assert victim in damaged and "mirror" in damaged
    damaged = re.sub(r"cannot read.*\)", "...)", damaged)  # in the words of libraries
    check_message(re.sub(r"[0-9]+(?= bytes)|(?<=be )[0-9]+", "...", damaged))
    assert bytes_of(finished) == whole


@pytest.mark.parametrize("last", ["done", "judging"])
def test_a_run_stopped_after_its_last_cell(finished, last):
    whole = bytes_of(finished)
    if last == "judging":
        (finished / "claims.json").unlink()
    status = finished / "status.json"
    status.write_text(status.read_text().replace('"done",', '"running",', 1))
    assert [verdict.status for verdict in resume_run(finished, progress=False).verdicts]
    assert bytes_of(finished) == whole
    assert json.loads(status.read_text())["state"] == "done"


def test_folders_that_cannot_be_resumed(here, finished):
    def resumed(folder: Path, code: str, path: Path | str | None = None) -> None:
        with refused(code, str(path or folder)) as caught:
            resume_run(folder, progress=False)
        assert "\n" not in str(caught.value)

    resumed(here / "nowhere", "unreadable")
    (here / "file").write_text("")
    resumed(here / "file", "unreadable")
    (here / "foreign").mkdir()
    (here / "foreign" / "thesis.tex").write_text("mine")
    resumed(here / "foreign", "unreadable")
    order = (finished / "run.json").read_text()
    for torn in (order[:30], "[]", order.replace('"format": 1', '"format": 2'), "{}",
                 order.replace('"only": null', '"only": "all"')):  # fmt: skip
        (finished / "run.json").write_text(torn)
        with unreadable(finished / "run.json"):
            resume_run(finished, progress=False)
    (finished / "run.json").write_text(order)
    scenario = finished / "scenario.yaml"
    text = scenario.read_text()
    scenario.write_text(text.replace("noise: 0.1", "noise: 0.2"))
    with pytest.raises(UserError) as caught:
        resume_run(finished, progress=False)
    resolved = finished / "resolved.yaml"
    assert (caught.value.code, caught.value.path) == ("incompatible", str(resolved))
    said, number, *rest = re.split(r"resolved\.yaml:([0-9]+)", str(caught.value))
    assert "noise: 0.1" in resolved.read_text().splitlines()[int(number) - 1]
    check_message(f"{said} {rest}")
    scenario.write_text(text[:100])
    resumed(finished, "unreadable", scenario)
    scenario.write_text(text)
    with RunLock(finished), pytest.raises(UserError) as caught:
        resume_run(finished, progress=False)
    assert (caught.value.code, caught.value.path) == ("busy", str(finished))
    assert f"({os.getpid()})" in str(caught.value)
    check_message(str(caught.value).replace(f"({os.getpid()})", "(...)"))
    (finished / "run.json").unlink()
    resumed(finished, "incompatible")
    for name in ("status.json", "log.txt", "claims.json", "report.html"):
        (finished / name).unlink()
    atomic_files.remove_folder(finished / "cells")
    (finished / "cells").mkdir()
    resumed(finished, "unreadable")


def test_other_versions_are_refused_unless_forced(here, monkeypatch, capsys):
    folder = here / "run"
    _broken_off(folder, monkeypatch)
    path = folder / "provenance.json"
    origin = json.loads(path.read_text())
    here_is = system_info()
    assert compare_system_info(origin, here_is) == ([], [])
    origin["versions"]["torch"] = "1.0"
    origin["processor"] = "Abacus"
    path.write_text(json.dumps(origin))
    with pytest.raises(UserError) as caught:
        resume_run(folder)
    assert (caught.value.code, caught.value.path) == ("incompatible", str(folder))
    check_message(str(caught.value).replace(here_is["versions"]["torch"], "..."))
    assert (folder / "cells" / "twin").is_dir()
    resume_run(folder, force=True)
    told = capsys.readouterr().err
    for name in (here_is["versions"]["torch"], here_is["processor"]):
        told = told.replace(name, "...")
    check_message(re.sub("[0-9.]+ s$", "... s", told.strip()))
    note = json.loads(path.read_text())["resumed"][0]
    assert note["versions"]["torch"] == here_is["versions"]["torch"]


OWN = """\
from mores import register
from mores.agents.scripted.assistants import Mirror

class Own(Mirror):
    pass

register("policy", "{name}", Own)
"""


def test_files_of_ones_own_are_loaded_when_named_again(here):
    """By a process that has not loaded them, and by its workers; never because a folder says so."""
    own, file, folder = here / "own.py", here / "scenario.yaml", here / "run"
    own.write_text(OWN.replace("{name}", "my_own"))
    file.write_text(SCENARIO.replace("kind: mirror", "kind: my_own"))
    program = [
        sys.executable,
        "-c",
        "import sys; from mores.cli.commands import main; sys.exit(main())",
    ]

    def mores(*words: str) -> None:
        words = (*words, "--jobs", "2")
        done = subprocess.run([*program, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    mores("run", str(file), "--out", str(folder), "--load", str(own))
    whole = bytes_of(folder)
    atomic_files.remove_folder(folder / "cells" / "mirror")
    with pytest.raises(UserError) as caught:
        resume_run(folder, progress=False)
    assert (caught.value.code, caught.value.path) == ("missing", "own.py")
    check_message(str(caught.value).replace(str(Path.cwd()), "..."))
    mores("resume", str(folder), "--load", str(own))
    assert bytes_of(folder) == whole
    atomic_files.remove_folder(folder / "cells" / "mirror")
    (here / "elsewhere").mkdir()
    own = own.rename(here / "elsewhere" / own.name)
    own.write_text(own.read_text() + "# changed\n")
    with refused("incompatible", str(own)):
        resume_run(folder, plugin_files=[own], progress=False)
    mores("resume", str(folder), "--load", str(own), "--force")
    assert bytes_of(folder) == whole


def test_a_full_disk_stops_a_run_and_keeps_what_is_whole(here, monkeypatch):
    whole = bytes_of(_run(here / "whole").folder)
    folder, opened = here / "run", pathlib.Path.open

    def full(path, mode="r", *rest, **named):
        if set(mode) & set("wa") and "persuade" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", full)
        with refused("not_writable", str(folder / "cells" / "persuade")):
            _run(folder)
    assert sorted(path.name for path in (folder / "cells").iterdir()) == ["mirror", "twin"]
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["to_do"]) == ("stopped", ["persuade"])
    resume_run(folder, progress=False)
    assert bytes_of(folder) == whole


def test_a_limit_that_the_system_sets(here):
    """Files of at most so many bytes, as on a full disk: in a process of its own."""
    file, folder = here / "scenario.yaml", here / "run"
    file.write_text(SCENARIO.replace("replicates: 5", "replicates: 400"))
    code = f"""
import resource, sys
import mores.experiments.run.cell_execution, pyarrow.parquet, xarray, zarr
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
from mores.cli.commands import main
sys.exit(main(["run", {str(file)!r}, "--out", {str(folder)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    check_message("\n".join(done.stderr.splitlines()[-2:]))
    assert not list((folder / "cells").iterdir())
    resume_run(folder, force=True, progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(finished):
    atomic_files.remove_folder(finished / "cells" / "mirror")
    (finished / "cells").chmod(0o500)
    try:
        with pytest.raises(UserError) as caught:  # not in the golden file, which root may write
            resume_run(finished, progress=False)
        path = finished / "cells" / "mirror"
        assert (caught.value.code, caught.value.path) == ("not_writable", str(path))
    finally:
        (finished / "cells").chmod(0o700)


def test_a_folder_on_a_disk_that_refuses(finished, monkeypatch):
    atomic_files.remove_folder(finished / "cells" / "mirror")

    def refuse(path, *rest, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with refused("not_writable", str(finished / "cells" / "mirror")):
        resume_run(finished, progress=False)


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    whole = bytes_of(_run(tmp_path / "whole").folder)
    played = cells_module.run_cell

    def play(cell, *rest, **named):
        if cell.arm == "mirror":
            raise ZeroDivisionError("a defect")
        return played(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "run_cell", play)
        with pytest.raises(ZeroDivisionError):
            _run(tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["done"] == ["twin", "persuade"]
    assert "a defect" in status["failed"]["mirror"]
    resume_run(tmp_path / "run", progress=False)
    assert bytes_of(tmp_path / "run") == whole
