"""A launcher of a user, options and refusals: nothing else has to be installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pickle
from pathlib import Path

import pytest

from benchmarks.killed.histories import file_digests
from mores.cli.commands import main
from mores.experiments.launchers import CellRequest, open_executor, simulate_remote_cell
from mores.experiments.launchers.file_transfer import write_files
from mores.experiments.results.provenance import code_info
from mores.experiments.run import extend, resume_run
from mores.experiments.run.cell_executor import CellLost
from mores.registry import REGISTRIES
from tests.launchers.small_runs import SCENARIO, load_marking, run
from tests.refusals import check_message, refused
from tests.run.small_run import log_lines

LAUNCHER = """\
import mores
from mores.experiments.launchers import Launcher, RemoteExecutor, WorkerLost, simulate_remote_cell


class Executor(RemoteExecutor):
    def __init__(self, num_workers, shared_folder, num_lost):
        super().__init__(num_workers, shared_folder)
        self.num_lost = num_lost  # of the first cell
        self.first = None

    def submit(self, requests):
        self.first = self.first or requests[0].name
        return [Handle(request) for request in requests]

    def wait(self, handles):
        return handles[-1:]

    def result(self, handle):
        if handle.request.name == self.first and self.num_lost:
            self.num_lost -= 1
            raise WorkerLost("its machine was lost")
        return simulate_remote_cell(handle.request)

    def cancel(self, handles):
        pass

    def stop(self):
        pass


class Handle:
    def __init__(self, request):
        self.request = request


@mores.register("launcher", "in_reverse")
class InReverse(Launcher):
    shared_folder: bool = False
    num_lost: int = 0

    def open(self, jobs):
        return Executor(jobs or 0, self.shared_folder, self.num_lost)
"""
PLAIN = SCENARIO.replace(
    "  persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}\n", ""
)


@pytest.fixture
def own_launcher(tmp_path: Path) -> Path:
    """A file that registers a launcher; loaded once by all tests."""
    file = tmp_path / "own.py"
    file.write_text(LAUNCHER)
    if "in_reverse" not in REGISTRIES["launcher"]:
        from mores.registry.plugins import load_plugins

        load_plugins([file])
    return file


def test_a_launcher_of_a_user(tmp_path, own_launcher, capsys):
    """Files that are sent back are those of one process; a machine may be lost once."""
    expected = file_digests(run(tmp_path / "one", PLAIN).folder)
    out = tmp_path / "two"
    command = ["run", str(tmp_path / "one.yaml"), "--out", str(out), "--load", str(own_launcher)]
    options = ["--launcher", "in_reverse", "--launcher-option", "num_lost=1", "--allow-undecided"]
    assert main([*command, *options]) == 0
    assert file_digests(out) == expected
    retry, note = log_lines(out, "twin")
    check_message(retry)
    assert note.startswith("twin: simulated on ")
    assert not list(out.rglob(".*"))


@pytest.mark.full
def test_cells_written_in_place(tmp_path, own_launcher):
    """With a shared folder; the run resumes here after a machine was lost twice."""
    expected = file_digests(run(tmp_path / "one", PLAIN).folder)
    options = {"shared_folder": True, "num_lost": 2}
    with refused("failed") as caught, open_executor("in_reverse", 1, options) as executor:
        run(tmp_path / "two", PLAIN, jobs=executor)
    assert isinstance(caught.value, CellLost)
    assert json.loads((tmp_path / "two" / "status.json").read_text())["done"] == ["mirror"]
    resume_run(tmp_path / "two", progress=False)
    assert file_digests(tmp_path / "two") == expected


@pytest.mark.full
def test_earlier_replicates_are_sent(tmp_path, own_launcher):
    """An extended run keeps the replicates of the run before, wherever cells are simulated."""
    expected = file_digests(run(tmp_path / "one", PLAIN).folder)
    run(tmp_path / "two", PLAIN.replace("replicates: 5", "replicates: 3"))
    with open_executor("in_reverse") as executor:
        extend(tmp_path / "two", replicates=5, jobs=executor, progress=False)
    assert file_digests(tmp_path / "two") == expected | {
        "claims.json": file_digests(tmp_path / "two")["claims.json"]  # their second look
    }
    assert any("3 replicates before" in line for line in log_lines(tmp_path / "two", "twin"))


@pytest.mark.full
def test_a_file_of_the_user_is_sent(tmp_path, own_launcher, monkeypatch):
    """A machine that lacks the file of `--load` runs a copy of it, with the same numbers."""
    load_marking(tmp_path, "sent", "pass")
    text = PLAIN.replace("{kind: mirror}", f"{{kind: sent, folder: {tmp_path}}}")
    expected = file_digests(run(tmp_path / "one", text).folder)

    def without_file(cls, task, shared_folder, of=CellRequest.of.__func__):
        request = of(cls, task, shared_folder)
        plugins = tuple((f"/nowhere/{path}", content) for path, content in request.plugins)
        return dataclasses.replace(request, plugins=plugins)

    monkeypatch.setattr(CellRequest, "of", classmethod(without_file))
    with open_executor("in_reverse") as executor:
        run(tmp_path / "two", text, jobs=executor)
    assert file_digests(tmp_path / "two") == expected


def test_what_another_machine_refuses():
    request = CellRequest("twin", pickle.dumps(None), code_info(), (), "/nowhere", "", {})
    versions = code_info()["versions"] | {"torch": "2.0.0"}
    reply = simulate_remote_cell(
        dataclasses.replace(request, code={**code_info(), "versions": versions})
    )
    error = reply.outcome.error
    assert error is not None and getattr(error, "code", "") == "incompatible"
    assert "torch 2.0.0" in str(error)


@pytest.mark.full
def test_a_folder_that_is_not_shared(tmp_path, own_launcher, monkeypatch):
    """The other machine has another folder, or the cell that it wrote is not here."""
    of = CellRequest.of.__func__
    monkeypatch.setattr(
        CellRequest,
        "of",
        classmethod(lambda cls, *given: dataclasses.replace(of(cls, *given), run_digest="other")),
    )
    with (
        pytest.raises(Exception, match="does not have the run's folder"),
        open_executor("in_reverse", options={"shared_folder": True}) as executor,
    ):
        run(tmp_path / "run", PLAIN, jobs=executor)


def test_paths_of_files_that_are_sent_back_stay_in_the_folder(tmp_path):
    for path in ("../x", "/x", "a/../../x", ""):
        with refused("invalid_value", path):
            write_files(tmp_path / "cell", {path: b""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--launcher", "rya"],
        ["--launcher-option", "partition=gpu"],
        ["--launcher", "slurm", "--launcher-option", "partition"],
        ["--launcher", "slurm", "--launcher-option", "partitoin=x"],
        ["--launcher", "slurm", "--launcher-option", "timeout_min=x"],
        ["--launcher", "ray"],  # it is not installed
        ["--launcher", "slurm"],
    ],
    ids=" ".join,
)
def test_refusals(arguments, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("ray", "submitit") else find(name, *rest),
    )
    assert main(["run", "voters", "--out", str(tmp_path / "run"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    check_message(line)
    assert not (tmp_path / "run").exists()
