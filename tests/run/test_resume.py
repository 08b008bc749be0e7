"""Resumed runs: missing and damaged cells, refused folders and formats, disk errors."""

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

from benchmarks.killed.histories import file_digests
from mores import UserError
from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import system_info
from mores.experiments.results.run_manifest import PluginFile, RunManifest
from mores.experiments.run import RunResult, cell_execution, engine, resume_run, run_scenario
from mores.experiments.run.resume import compare_system_info
from mores.experiments.run.run_folder import lock_run
from mores.experiments.run.stored_run import load_run_plugins
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import check_message, refused
from tests.run.small_run import change_sealed, refused_as_unreadable

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, num_people: 12, noise_std: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 5
metrics: [mean_value, rms_distance]
control: twin
arms:
  twin: {env.num_assistants: 0}
  mirror: {policies.assistant: {kind: mirror}}
  persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}
claims:
  - {statement: moved, kind: statistical, metric: effect_vs_control, arm: mirror, bound: {above: 0}}
  - {statement: closer, kind: statistical, metric: rms_distance, arm: mirror, compare_to: twin,
     at_round: 3, bound: {below: 0}}
"""


def _without_report(patch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs, and has its own tests."""

    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "a report")

    patch.setattr(engine, "_write_report", write)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_report(monkeypatch)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A finished run to copy."""
    with pytest.MonkeyPatch.context() as patch:
        _without_report(patch)
        return _run(tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture
def finished(template, workdir) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(template, workdir / "finished", copy_function=shutil.copy2))


def _run(
    folder: Path, text: str = SCENARIO, overrides: tuple[str, ...] = (), **options
) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file), overrides), folder, progress=False, **options)


def _interrupted_run(folder: Path, monkeypatch: pytest.MonkeyPatch, **options) -> None:
    """A run that was stopped in its second cell."""
    run_cell = cell_execution.run_cell

    def interrupted(cell, *rest, **named):
        if cell.arm == "mirror":
            raise KeyboardInterrupt
        return run_cell(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cell_execution, "run_cell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _run(folder, **options)
    assert [path.name for path in (folder / "cells").iterdir()] == ["twin"]


def test_only_missing_cells_are_simulated(tmp_path, monkeypatch):
    """The folder is sufficient: it has overrides and replicates; the scenario file may be gone."""
    options = {"overrides": ("env.noise_std=0.2", "rounds=4"), "only_replicates": [1, 3]}
    whole = file_digests(_run(tmp_path / "whole", **options).folder)
    folder = tmp_path / "run"
    _interrupted_run(folder, monkeypatch, **options)
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    before = (folder / "cells" / "twin" / "cell.json").stat().st_mtime_ns
    (tmp_path / "run.yaml").unlink()
    folder = folder.rename(tmp_path / "moved")
    result = resume_run(folder, progress=False)
    assert file_digests(folder) == whole
    assert (folder / "cells" / "twin" / "cell.json").stat().st_mtime_ns == before
    provenance = json.loads((folder / "provenance.json").read_text())
    assert [entry["num_cells_done"] for entry in provenance["resumed"]] == [1]
    assert result.scenario.rounds == 4


def test_a_finished_run_is_evaluated_again_and_not_changed(finished, capsys):
    times = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    verdicts = resume_run(finished).verdicts
    check_message(re.sub("on [0-9TZ:-]+;", "on ...;", capsys.readouterr().err))
    claims = json.loads((finished / "claims.json").read_text())
    assert [v.status for v in verdicts] == [claim["verdict"] for claim in claims]
    assert [v.estimate.value for v in verdicts] == [claim["estimate"] for claim in claims]
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == times


@pytest.mark.cut(4)
@pytest.mark.parametrize("name", ["metrics.parquet", "cell.json", "trajectory.zarr/zarr.json"])
@pytest.mark.parametrize("damage", ["torn", "missing", "changed"])
def test_damaged_cells_are_simulated_again(finished, capsys, name, damage):
    whole = file_digests(finished)
    file = finished / "cells" / "mirror" / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-20] if damage == "torn" else data[:-9] + b"?" + data[-8:])
    resume_run(finished)
    line = capsys.readouterr().err.splitlines()[0]
    assert name in line and "mirror" in line
    line = re.sub(r"cannot read.*\)", "...)", line)  # in the words of libraries
    check_message(re.sub(r"[0-9]+(?= bytes)|(?<=not )[0-9]+", "...", line))
    assert file_digests(finished) == whole


@pytest.mark.parametrize("step", ["done", "claims"])
def test_a_run_stopped_after_its_last_cell(finished, step):
    whole = file_digests(finished)
    if step == "claims":
        (finished / "claims.json").unlink()
    status = finished / "status.json"
    change_sealed(status, state="running")
    assert [verdict.status for verdict in resume_run(finished, progress=False).verdicts]
    assert file_digests(finished) == whole
    assert json.loads(status.read_text())["state"] == "done"


def test_folders_that_cannot_be_resumed(workdir, finished):
    def refuses(folder: Path, code: str, path: Path | str | None = None) -> None:
        with refused(code, str(path or folder)) as caught:
            resume_run(folder, progress=False)
        assert "\n" not in str(caught.value)

    refuses(workdir / "nowhere", "unreadable")
    (workdir / "file").write_text("")
    refuses(workdir / "file", "unreadable")
    (workdir / "foreign").mkdir()
    (workdir / "foreign" / "thesis.tex").write_text("text")
    refuses(workdir / "foreign", "unreadable")
    manifest = (finished / "run.json").read_text()
    for torn in (manifest[:30], "[]", "{}", manifest.replace('"scenario": "small",', ""),
                 manifest.replace('replicates": null', 'replicates": "all"')):  # fmt: skip
        (finished / "run.json").write_text(torn)
        with refused_as_unreadable(finished / "run.json"):
            resume_run(finished, progress=False)
    (finished / "run.json").write_text(manifest)
    scenario = finished / "scenario.yaml"
    text = scenario.read_text()
    scenario.write_text(text.replace("noise_std: 0.1", "noise_std: 0.2"))
    with pytest.raises(UserError) as caught:
        resume_run(finished, progress=False)
    resolved = finished / "resolved.yaml"
    assert (caught.value.code, caught.value.path) == ("incompatible", str(resolved))
    start, line, *rest = re.split(r"resolved\.yaml:([0-9]+)", str(caught.value))
    assert "noise_std: 0.1" in resolved.read_text().splitlines()[int(line) - 1]
    check_message(f"{start} {rest}")
    scenario.write_text(text[:100])
    refuses(finished, "unreadable", scenario)
    scenario.write_text(text)
    with lock_run(finished), pytest.raises(UserError) as caught:
        resume_run(finished, progress=False)
    assert (caught.value.code, caught.value.path) == ("busy", str(finished))
    assert f"({os.getpid()})" in str(caught.value)
    check_message(str(caught.value).replace(f"({os.getpid()})", "(...)"))
    (finished / "run.json").unlink()
    refuses(finished, "unreadable", finished / "run.json")
    for name in ("status.json", "log.txt", "claims.json", "report.html"):
        (finished / name).unlink()
    atomic_files.remove_folder(finished / "cells")
    (finished / "cells").mkdir()
    refuses(finished, "unreadable")


def test_other_versions_are_refused_unless_forced(workdir, monkeypatch, capsys):
    folder = workdir / "run"
    _interrupted_run(folder, monkeypatch)
    path = folder / "provenance.json"
    provenance = json.loads(path.read_text())
    system = system_info()
    assert compare_system_info(provenance, system) == ([], [])
    provenance["versions"]["torch"] = "1.0"
    provenance["processor"] = "Abacus"
    change_sealed(path, **provenance)
    with pytest.raises(UserError) as caught:
        resume_run(folder)
    assert (caught.value.code, caught.value.path) == ("incompatible", str(folder))
    check_message(str(caught.value).replace(system["versions"]["torch"], "..."))
    assert (folder / "cells" / "twin").is_dir()
    resume_run(folder, force=True)
    stderr = capsys.readouterr().err
    for name in (system["versions"]["torch"], system["processor"]):
        stderr = stderr.replace(name, "...")
    check_message(re.sub("[0-9:]+$", "...", stderr.strip()))
    entry = json.loads(path.read_text())["resumed"][0]
    assert entry["versions"]["torch"] == system["versions"]["torch"]


PLUGIN = """\
from mores import register
from mores.agents.scripted.assistants import Mirror

class PluginMirror(Mirror):
    pass

register("policy", "{name}", PluginMirror)
"""


@pytest.mark.full
def test_plugin_files_are_loaded_when_named_again(workdir):
    """By a process that has not loaded them and its workers; never because a folder names them."""
    plugin, file, folder = workdir / "plugin.py", workdir / "scenario.yaml", workdir / "run"
    plugin.write_text(PLUGIN.replace("{name}", "plugin_mirror"))
    file.write_text(SCENARIO.replace("kind: mirror", "kind: plugin_mirror"))
    program = [
        sys.executable,
        "-c",
        "import sys; from mores.cli.commands import main; sys.exit(main())",
    ]

    def mores(*words: str) -> None:
        words = (*words, "--jobs", "2", "--allow-undecided")
        result = subprocess.run([*program, *words], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    mores("run", str(file), "--out", str(folder), "--load", str(plugin))
    whole = file_digests(folder)
    atomic_files.remove_folder(folder / "cells" / "mirror")
    with pytest.raises(UserError) as caught:
        resume_run(folder, progress=False)
    assert (caught.value.code, caught.value.path) == ("missing", "plugin.py")
    check_message(str(caught.value).replace(str(Path.cwd()), "..."))
    mores("resume", str(folder), "--load", str(plugin))
    assert file_digests(folder) == whole
    atomic_files.remove_folder(folder / "cells" / "mirror")
    (workdir / "elsewhere").mkdir()
    plugin = plugin.rename(workdir / "elsewhere" / plugin.name)
    plugin.write_text(plugin.read_text() + "# changed\n")
    with refused("incompatible", str(plugin)):
        resume_run(folder, plugin_files=[plugin], progress=False)
    mores("resume", str(folder), "--load", str(plugin), "--force")
    assert file_digests(folder) == whole


@pytest.mark.parametrize(
    "path", ["/runs/code/plugin.py", "/elsewhere/plugin.py", "/runs/\x1b[31mplugin\n.py"]
)
def test_a_plugin_file_is_named_as_the_run_named_it(path: str) -> None:
    """Relative to the working directory of the run, which may have been written by others."""
    plugins = [PluginFile(path=path, digest="")]
    manifest = RunManifest.model_construct(plugin_files=plugins, working_directory="/runs")
    with refused("missing", Path(path).name):
        load_run_plugins(Path("run"), manifest, [])


@pytest.mark.full
def test_two_plugin_files_of_one_name(workdir):
    """Both are run, by workers too, and recognized by their content when they have moved."""
    files = [workdir / name / "plugin.py" for name in ("first", "second")]
    for file in files:
        file.parent.mkdir()
        file.write_text(PLUGIN.replace("{name}", f"{file.parent.name}_mirror"))
    text = SCENARIO.replace("{kind: mirror}", "{kind: first_mirror}")
    persuader = "{kind: persuader, goal: [5, 5], goal_weight: 1.0}"
    text = text.replace(persuader, "{kind: second_mirror}")
    (workdir / "scenario.yaml").write_text(text)
    code = "import sys; from mores.cli.commands import main; sys.exit(main())"

    def mores(*words: str) -> None:
        loads = [word for file in files for word in ("--load", str(file))]
        command = [sys.executable, "-c", code, *words, "--jobs", "2", "--allow-undecided", *loads]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    mores("run", "scenario.yaml", "--out", "run")
    whole = file_digests(workdir / "run")
    for name in ("mirror", "persuade"):
        atomic_files.remove_folder(workdir / "run" / "cells" / name)
    (workdir / "first").rename(workdir / "third")
    files = [files[1], workdir / "third" / "plugin.py"]
    mores("resume", "run")
    assert file_digests(workdir / "run") == whole


def test_a_full_disk_stops_a_run_and_keeps_complete_cells(workdir, monkeypatch):
    whole = file_digests(_run(workdir / "whole").folder)
    folder, original_open = workdir / "run", pathlib.Path.open

    def full(path, mode="r", *rest, **named):
        if set(mode) & set("wa") and "persuade" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return original_open(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", full)
        with refused("not_writable", str(folder / "cells" / "persuade")):
            _run(folder)
    assert sorted(path.name for path in (folder / "cells").iterdir()) == ["mirror", "twin"]
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["to_do"]) == ("stopped", ["persuade"])
    resume_run(folder, progress=False)
    assert file_digests(folder) == whole


@pytest.mark.full
def test_a_file_size_limit(workdir):
    """The effect is that of a full disk; in a separate process."""
    file, folder = workdir / "scenario.yaml", workdir / "run"
    file.write_text(SCENARIO.replace("replicates: 5", "replicates: 400"))
    code = f"""
import resource, sys
import mores.experiments.run.cell_execution, pyarrow.parquet, xarray, zarr
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
from mores.cli.commands import main
sys.exit(main(["run", {str(file)!r}, "--out", {str(folder)!r}]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    check_message("\n".join(result.stderr.splitlines()[-2:]))
    assert not list((folder / "cells").iterdir())
    resume_run(folder, force=True, progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(finished):
    atomic_files.remove_folder(finished / "cells" / "mirror")
    (finished / "cells").chmod(0o500)
    try:
        with pytest.raises(UserError) as caught:  # not in the golden file, which root may write
            resume_run(finished, progress=False)
        path = finished / "cells" / "mirror"
        assert (caught.value.code, caught.value.path) == ("not_writable", str(path))
    finally:
        (finished / "cells").chmod(0o700)


def test_a_folder_on_a_read_only_disk(finished, monkeypatch):
    atomic_files.remove_folder(finished / "cells" / "mirror")

    def refuse(path, *rest, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with refused("not_writable", str(finished / "cells" / "mirror")):
        resume_run(finished, progress=False)


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    whole = file_digests(_run(tmp_path / "whole").folder)
    run_cell = cell_execution.run_cell

    def failing(cell, *rest, **named):
        if cell.arm == "mirror":
            raise ZeroDivisionError("a defect")
        return run_cell(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cell_execution, "run_cell", failing)
        with pytest.raises(ZeroDivisionError):
            _run(tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["done"] == ["twin", "persuade"]
    assert "a defect" in status["failed"]["mirror"]
    resume_run(tmp_path / "run", progress=False)
    assert file_digests(tmp_path / "run") == whole
