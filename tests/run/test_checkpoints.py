"""A run that is killed inside a cell continues inside it, and ends in the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.killed.histories import file_digests
from mores.core.random_streams import Worlds
from mores.experiments.results import atomic_files, tensor_file
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.cell_store import write_cell_result
from mores.experiments.run import (
    cell_execution,
    checkpoint,
    engine,
    resume_run,
    run_scenario,
)
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.run_folder import CellTask
from mores.experiments.scenario.loading import load_scenario
from tests.cells import expand
from tests.refusals import check_message
from tests.run.small_run import log_lines

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "run" / "bandit_learners.py"
TRAINING = """\
name: training
about: Gamblers train on recorded episodes, then on reward, in long stages.
env: {kind: multi_agent_bandit}
policies: {gambler: {kind: offline_learner}}
rounds: 4
replicates: 3
worlds: 2
trajectory: {worlds: 3}
metrics: [reward, best]
stages:
  - {name: before, episodes: 3}
  - {name: fit, loop: fit_offline, roles_to_train: gambler, episodes: 3}
  - name: train
    loop: train
    roles_to_train: gambler
    episodes: EPISODES
    policies: {policies.gambler.kind: online_learner, policies.gambler.stopping_replicate: 1}
  - {name: counter, policies: {policies.gambler: {kind: episode_counter}}}
  - {name: refit, loop: fit_offline, roles_to_train: gambler, episodes: 2}
  - {name: test, episodes: 2}
  - {name: counts, episodes: 3, policies: {policies.gambler: {kind: stage_counter}}}
claims:
  - {statement: They learned, kind: statistical, metric: best, bound: {above: 0}}
"""
CAMPS = """\
name: camps
about: Two camps with names.
env: {kind: coevolution}
population:
  kind: normal
  num_people: 8
  components: [{name: left, mean_offset: [-1]}, {name: right, mean_offset: [1]}]
rounds: 2
replicates: 3
metrics: [{kind: group_means, num_groups: 2}, group_gap]
stages: [{name: first, episodes: 2}, {name: second, episodes: 2}]
claims:
  - {statement: The gap, kind: report, metric: "group_means[left]"}
"""


@pytest.fixture(autouse=True)
def fast_run(monkeypatch: pytest.MonkeyPatch, bandit_kinds: None) -> None:
    """No report, which takes longer than these runs; a checkpoint at every possible moment."""

    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)
    monkeypatch.setattr(checkpoint, "EPISODE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "STAGE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_WRITE_FRACTION", 1e9)


def _run(folder: Path, text: str = TRAINING, episodes: int = 4):
    file = folder.with_suffix(".yaml")
    file.write_text(text.replace("EPISODES", str(episodes)))
    return run_scenario(load_scenario(str(file)), folder, progress=False)


def _simulate(cell, scenario, folder: Path, callback=lambda fraction: None) -> CellResult:
    """Simulate a cell with checkpoints and write it."""
    state = checkpoint.CellCheckpoint(CellTask(folder, cell, scenario, range(3)))
    result = cell_execution.run_cell(cell, scenario, range(3), callback, checkpoint=state)
    assert not state.notes or "before" in state.notes[0] or "continues" in state.notes[0]
    write_cell_result(folder, result)
    return result


def _file_contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class Killed(BaseException):
    """Simulates the end of the process."""


@contextlib.contextmanager
def _killed_after(count: int) -> Iterator[list[tuple[int, int, int]]]:
    """Kill the process after so many checkpoints (0: never); yield the list of their positions."""
    cursors: list[tuple[int, int, int]] = []
    original_write = checkpoint.CellCheckpoint._write

    def write(self, cell_runner, cursor):
        original_write(self, cell_runner, cursor)
        cursors.append(tuple(cursor))
        if len(cursors) == count:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.CellCheckpoint, "_write", write)
        yield cursors


@pytest.mark.cut(2)
@pytest.mark.parametrize(("chunk", "step"), [(2**23, 1), (8, 6)])
def test_every_checkpoint_leads_to_the_same_bytes(tmp_path, monkeypatch, chunk, step):
    """Killed when a checkpoint is written, with one chunk of worlds or with three."""
    monkeypatch.setattr(cell_execution, "MAX_CHUNK_ELEMENTS", chunk)
    (tmp_path / "s.yaml").write_text(TRAINING.replace("EPISODES", "3"))
    scenario = load_scenario(str(tmp_path / "s.yaml")).scenario
    (cell,) = expand(scenario)
    progress: list[float] = []

    def simulated_files(folder: Path) -> dict[str, bytes]:
        result = _simulate(cell, scenario, folder, progress.append)
        assert len(result.stopped) == 1 and result.num_models == 6
        return _file_contents(folder)

    with _killed_after(0) as cursors:
        expected = simulated_files(tmp_path / "whole")
    per_chunk = 3 + 3 + 3 + 1 + 2 + 2 + 3
    assert len(cursors) == per_chunk * (1 if chunk > 8 else 3)
    assert sum(name.endswith("safetensors") for name in expected) == 3
    for count in range(len(cursors), 0, -step):
        with _killed_after(count), pytest.raises(Killed):
            simulated_files(tmp_path / f"killed-{count}")
        progress.clear()
        assert simulated_files(tmp_path / f"killed-{count}") == expected, cursors[count - 1]
        assert sum(progress) == pytest.approx(1.0)


def test_metrics_with_named_components_are_restored(tmp_path):
    """Of people in named groups: `group_means[left]` and one checkpoint after each episode."""
    (tmp_path / "camps.yaml").write_text(CAMPS)
    scenario = load_scenario(str(tmp_path / "camps.yaml")).scenario
    (cell,) = expand(scenario)
    with _killed_after(0) as cursors:
        _simulate(cell, scenario, tmp_path / "whole")
    assert len(cursors) == 4
    for count in (2, 4):
        with _killed_after(count), pytest.raises(Killed):
            _simulate(cell, scenario, tmp_path / f"killed-{count}")
        _simulate(cell, scenario, tmp_path / f"killed-{count}")
        assert _file_contents(tmp_path / f"killed-{count}") == _file_contents(tmp_path / "whole")


def test_a_run_continues_inside_its_cell(tmp_path):
    whole = _run(tmp_path / "whole").folder
    assert not list((whole / "cells").glob(".*"))  # its checkpoint was removed
    folder = tmp_path / "run"
    with _killed_after(9), pytest.raises(Killed):
        _run(folder)
    assert [path.name for path in (folder / "cells").iterdir()] == [".main.checkpoint"]
    with _killed_after(0) as cursors:
        resume_run(folder, progress=False)
    assert cursors[0] == (0, 3, 0)  # the ninth was before the last episode of the third stage
    assert file_digests(folder) == file_digests(whole)
    (note, *_) = log_lines(folder, "main")
    assert "3" in note and "train" in note
    check_message(note)
    statuses = [json.loads((f / "status.json").read_text()) for f in (whole, folder)]
    stopped, other = (status["stopped_learners"] for status in statuses)
    assert stopped == other and len(stopped["main"]) == 1


def _damage(file: Path, damage: str) -> None:
    """Damage a checkpoint."""
    data = bytearray(file.read_bytes())
    if damage == "torn":
        file.write_bytes(data[:-7])
    elif damage == "flipped":
        data[-3] ^= 1
        file.write_bytes(bytes(data))
    elif damage == "metadata changed":
        file.write_bytes(data.replace(b'cursor\\": [0, 2, 1]', b'cursor\\": [0, 2, 3]'))
    elif damage == "impossible cursor":  # with a valid checksum
        tensors, metadata = tensor_file.read(file)
        tensor_file.write(file, tensors, metadata | {"cursor": [0, 9, 9]})
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    assert not file.is_file() or file.read_bytes() != data or damage == "flipped"


@pytest.mark.cut(4)
@pytest.mark.parametrize("damage", ["torn", "flipped", "metadata changed", "impossible cursor",
                                    "folder"])  # fmt: skip
def test_a_damaged_checkpoint_is_ignored(tmp_path, damage):
    expected = file_digests(_run(tmp_path / "whole").folder)
    folder = tmp_path / "run"
    with _killed_after(7), pytest.raises(Killed):
        _run(folder)
    _damage(folder / "cells" / ".main.checkpoint", damage)
    resume_run(folder, progress=False)
    assert file_digests(folder) == expected
    notes = log_lines(folder, "main")
    assert len(notes) == (3 if damage == "folder" else 2)  # none of a continuation
    for note in notes:
        check_message(": ".join(note.split(": ")[:2]))


@pytest.mark.full
def test_a_checkpoint_of_another_experiment_or_of_other_code_is_ignored(tmp_path, monkeypatch):
    text = TRAINING.replace("rounds: 4", "rounds: 4\nseed: 1")
    folder, other = tmp_path / "run", tmp_path / "other"
    with _killed_after(7), pytest.raises(Killed):
        _run(folder, text)
    with _killed_after(7), pytest.raises(Killed):
        _run(other)
    file = other / "cells" / ".main.checkpoint"
    (folder / "cells" / ".main.checkpoint").unlink()
    shutil.copy(file, folder / "cells" / ".main.checkpoint")
    shutil.copy(file, folder / "cells" / ".removed.checkpoint")
    resume_run(folder, progress=False)
    (foreign,) = (folder / "cells").glob(".*")  # of no cell of the run: it is left alone
    foreign.unlink()
    assert file_digests(folder) == file_digests(_run(tmp_path / "whole", text).folder)
    system = checkpoint.system_info()
    monkeypatch.setattr(
        checkpoint, "system_info", lambda: {**system, "source": {"digest": "of other code"}}
    )
    resume_run(other, force=True, progress=False)
    check_message(log_lines(other, "main")[0])


def test_a_cell_whose_policy_state_cannot_be_saved(tmp_path):
    """The log has one note, and the results do not change."""
    text = TRAINING.replace(
        "{kind: offline_learner", "{kind: offline_learner, unserializable: true"
    )
    folder = _run(tmp_path / "run", text).folder
    note, *stopped = log_lines(folder, "main")
    check_message(note)
    assert note not in stopped
    expected = file_digests(_run(tmp_path / "saved").folder)
    files = file_digests(folder)
    names = [name for name in files if "metrics" in name or name.endswith("safetensors")]
    assert len(names) == 4 and all(files[name] == expected[name] for name in names)


def test_a_full_disk_stops_checkpoints_and_not_the_run(tmp_path, monkeypatch):
    original_write = atomic_files.write_bytes

    def write(path, data, sync=True):
        if ".checkpoint" in str(path):
            message = f"cannot write {path}: No space left on device"
            raise atomic_files.WriteError(message, code="not_writable", path=str(path))
        original_write(path, data, sync)

    monkeypatch.setattr(atomic_files, "write_bytes", write)
    folder = _run(tmp_path / "run").folder
    check_message(": ".join(log_lines(folder, "main")[0].split(": ")[:2]))
    assert not list((folder / "cells").glob(".*"))


def test_checkpoints_are_due_at_intervals(tmp_path, monkeypatch):
    """60 s in a stage, 5 s at its end; longer if writing takes more than 5 % of the time."""
    (tmp_path / "s.yaml").write_text(TRAINING.replace("EPISODES", "4"))
    loaded = load_scenario(str(tmp_path / "s.yaml"))
    (cell,) = expand(loaded)
    clock = [100.0]
    monkeypatch.setattr(checkpoint, "EPISODE_INTERVAL", 60.0)
    monkeypatch.setattr(checkpoint, "STAGE_INTERVAL", 5.0)
    monkeypatch.setattr(checkpoint, "MAX_WRITE_FRACTION", 0.05)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    state = checkpoint.CellCheckpoint(CellTask(tmp_path / "main", cell, loaded.scenario, range(3)))

    def due() -> tuple[bool, bool]:
        return state.is_due(stage_ended=False), state.is_due(stage_ended=True)

    def slow(*_) -> None:
        clock[0] += 4.0

    monkeypatch.setattr(state, "_write", slow)
    assert due() == (False, False)
    clock[0] += 5.0
    assert due() == (False, True)
    clock[0] += 55.0
    assert due() == (True, True)
    worlds = Worlds.grid(range(3), 2)
    cell_runner = CellRunner(cell.build(), loaded.scenario, worlds, len(worlds), lambda _: None)
    state.attach(cell_runner)
    cell_runner.on_episode_end(Cursor(), False)
    clock[0] += 79.0
    assert due() == (False, False)  # it took 4 s: the next is due after 80 s
    clock[0] += 1.0
    assert due() == (True, True)


@pytest.mark.cut(2)
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_a_recipe_continues_in_the_same_bits(tmp_path, monkeypatch, network):
    """The last bits depend on Adam's moments, a partial rollout, and recurrent states."""
    overrides = ["replicates=3", "worlds=2", "rounds=20", "record_every=20", "stages.0.episodes=4"]
    scenario = load_scenario("repeated_dilemma", overrides).scenario
    pairs = next(cell for cell in expand(scenario) if cell.arm == "pairs")
    spec = {**pairs.policies["player"], "network": {"kind": network}}
    cell = dataclasses.replace(pairs, policies={"player": spec})

    with _killed_after(0) as cursors:
        _simulate(cell, scenario, tmp_path / "whole")
    expected = _file_contents(tmp_path / "whole")
    assert cursors[:3] == [(0, 0, 1), (0, 0, 2), (0, 0, 3)]
    for count in range(1, len(cursors) + 1):
        folder = tmp_path / f"killed-{count}"
        with _killed_after(count), pytest.raises(Killed):
            _simulate(cell, scenario, folder)
        _simulate(cell, scenario, folder)
        assert _file_contents(folder) == expected, cursors[count - 1]


# --- killed ---------------------------------------------------------------------------------------

PROGRAM = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from mores.experiments.run import checkpoint as store
store.EPISODE_INTERVAL = store.STAGE_INTERVAL = 0.0
store.MAX_WRITE_FRACTION = 1e9
from mores.cli.commands import main
"""
# Killed after some CPU time of the process, which does not depend on the load of the machine.
KILLED = f"""\
{PROGRAM}
import os, signal
write = store.CellCheckpoint._write

def write_and_kill(self, cell_runner, cursor):
    write(self, cell_runner, cursor)
    if list(cursor[1:]) == [2, 10]:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)

signal.signal(signal.SIGVTALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
store.CellCheckpoint._write = write_and_kill
sys.exit(main(sys.argv[1:]))
"""
RESUMED = f"{PROGRAM}\nsys.exit(main(sys.argv[1:]))"


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.full
def test_killed_inside_a_long_stage(tmp_path, monkeypatch):
    """By SIGKILL, in the middle of an episode; started and resumed by the command line."""
    (tmp_path / "s.yaml").write_text(TRAINING.replace("EPISODES", "100"))
    folder = tmp_path / "run"
    command = ["run", str(tmp_path / "s.yaml"), "--out", str(folder), "--load", str(PLUGIN)]
    killed = _python(KILLED, *command)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _, metadata = tensor_file.read(folder / "cells" / ".main.checkpoint")
    assert metadata["cursor"][1] == 2, "not in the long stage"
    command = ["resume", str(folder), "--force", "--allow-undecided", "--load", str(PLUGIN)]
    resumed = _python(RESUMED, *command)
    assert resumed.returncode == 0, resumed.stderr
    check_message(re.sub("[0-9]+", "...", log_lines(folder, "main")[0]))
    monkeypatch.setattr(checkpoint, "EPISODE_INTERVAL", 1e9)
    monkeypatch.setattr(checkpoint, "STAGE_INTERVAL", 1e9)
    whole = tmp_path / "whole"
    loaded = load_scenario(str(tmp_path / "s.yaml"))
    run_scenario(loaded, whole, progress=False)
    assert file_digests(whole) == file_digests(folder)


POINTS = f"""\
import json, random, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.killed import cases, histories
from mores.registry.plugins import load_plugins
from mores.experiments.run import checkpoint as store
cases.import_all()
load_plugins([{str(PLUGIN)!r}])
folder, jobs, num_kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
case = cases.Case("training", sys.argv[4])
store.EPISODE_INTERVAL = store.STAGE_INTERVAL = 1e9
reference, rng, count = histories.reference(case, folder / "whole"), random.Random(jobs), 0
restore = store.CellCheckpoint._restore

def count_reads(self, cell_runner):
    cursor = restore(self, cell_runner)
    with open(folder / "reads", "a") as file:  # not a commit point
        file.write("x")
    return cursor

store.CellCheckpoint._restore = count_reads
store.EPISODE_INTERVAL = store.STAGE_INTERVAL = 0.0
store.MAX_WRITE_FRACTION = 1e9
for index in range(12):
    if count >= num_kills:
        break
    run = folder / f"killed-{{index}}"
    kills = histories.kill_and_compare(case, run, jobs, num_kills - count, rng, reference)
    count += sum(kills.values())
print(json.dumps([count, len(Path(folder / "reads").read_text())]))
"""


@pytest.mark.full
@pytest.mark.parametrize(("jobs", "num_kills"), [(1, 120), (2, 8)])
def test_killed_at_commit_points(tmp_path, jobs, num_kills):
    """Also between the writing of a checkpoint and its commit; in a process that forks."""
    text = TRAINING.replace("EPISODES", "6")
    result = _python(POINTS, str(tmp_path), str(jobs), str(num_kills), text)
    assert result.returncode == 0, result.stderr
    count, num_reads = json.loads(result.stdout)
    assert count >= num_kills
    assert num_reads > 0
