"""A run that is killed inside a cell goes on inside it, and ends in the same bytes."""

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
import torch

from benchmarks.killed.histories import bytes_of
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import write_cell_result
from mores.experiments.run import cell_execution as cells_module
from mores.experiments.run import checkpoint_store, engine, resume_run, run_scenario
from mores.experiments.scenario.expansion import expand
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import check_message
from tests.run.small_run import logged

HERE = Path(__file__).resolve().parents[2]
PUPILS = HERE / "tests" / "run" / "pupils.py"
TRAINING = """\
name: training
about: Gamblers learn from a record, then as they act, in stages that are long.
env: {kind: arcade}
players: {gambler: {kind: reader}}
rounds: 4
replicates: 3
worlds: 2
sample: 3
measures: [earned, best]
stages:
  - {name: before, episodes: 3}
  - {name: read, loop: fit, learn: gambler, episodes: 3}
  - name: climb
    loop: improve
    learn: gambler
    episodes: EPISODES
    players: {players.gambler.kind: climber, players.gambler.broken: 1}
  - {name: away, players: {players.gambler: {kind: hermit}}}
  - {name: reread, loop: fit, learn: gambler, episodes: 2}
  - {name: test, episodes: 2}
claims:
  - {says: They learned, kind: statistical, measure: best, bound: {above: 0}}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, arcade: None) -> None:
    """A report takes longer than these runs; states are written at every moment they may be."""

    def write(job, *_):
        atomic_files.write_text(job.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)
    monkeypatch.setattr(checkpoint_store, "EPISODE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint_store, "STAGE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint_store, "MAX_WRITE_FRACTION", 1e9)


def _run(folder: Path, text: str = TRAINING, episodes: int = 4):
    file = folder.with_suffix(".yaml")
    file.write_text(text.replace("EPISODES", str(episodes)))
    return run_scenario(load_scenario(str(file)), folder, progress=False)


class Killed(BaseException):
    """Stands for the end of the process."""


@contextlib.contextmanager
def _ended_after(count: int) -> Iterator[list[tuple[int, int, int]]]:
    """The process ends once so many states were written; they are told."""
    told: list[tuple[int, int, int]] = []
    wrote = checkpoint_store.CheckpointStore._write

    def write(self, state):
        wrote(self, state)
        told.append(tuple(state.at))
        if len(told) == count:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_store.CheckpointStore, "_write", write)
        yield told


@pytest.mark.slow
@pytest.mark.parametrize(("chunk", "step"), [(2**23, 1), (8, 6)])
def test_every_state_leads_to_the_same_bytes(tmp_path, monkeypatch, chunk, step):
    """Ended at moments at which a state is written, in one chunk of worlds or in three."""
    monkeypatch.setattr(cells_module, "MAX_CHUNK_ELEMENTS", chunk)
    (tmp_path / "s.yaml").write_text(TRAINING.replace("EPISODES", "3"))
    scenario = load_scenario(str(tmp_path / "s.yaml")).scenario
    (cell,) = expand(scenario)
    ticks: list[float] = []

    def played(folder: Path) -> dict[str, bytes]:
        kept = checkpoint_store.CheckpointStore(folder, cell, scenario, range(3))
        record = cells_module.run_cell(
            cell, scenario, range(3), ticks.append, checkpoint_store=kept
        )
        assert len(record.stopped) == 1 and record.num_models == 6
        write_cell_result(folder, record)
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    with _ended_after(0) as told:
        against = played(tmp_path / "whole")
    by_chunk = 3 + 3 + 3 + 1 + 2 + 2
    assert len(told) == by_chunk * (1 if chunk > 8 else 3)
    assert sum(name.endswith("safetensors") for name in against) == 3
    for count in range(len(told), 0, -step):
        with _ended_after(count), pytest.raises(Killed):
            played(tmp_path / f"ended-{count}")
        ticks.clear()
        assert played(tmp_path / f"ended-{count}") == against, told[count - 1]
        assert sum(ticks) == pytest.approx(1.0)


def test_a_run_goes_on_inside_its_cell(tmp_path):
    whole = _run(tmp_path / "whole").folder
    assert not list((whole / "cells").glob(".*"))  # what was kept on the way is gone
    folder = tmp_path / "run"
    with _ended_after(9), pytest.raises(Killed):
        _run(folder)
    assert [path.name for path in (folder / "cells").iterdir()] == [".main.working"]
    with _ended_after(0) as told:
        resume_run(folder, progress=False)
    assert told[0] == (0, 3, 0)  # the ninth was before the last episode of the third stage
    assert bytes_of(folder) == bytes_of(whole)
    (note, *_) = logged(folder, "main")
    assert "3" in note and "climb" in note
    check_message(note)
    told = [
        json.loads((f / "status.json").read_text())["stopped_learners"] for f in (whole, folder)
    ]
    assert told[0] == told[1] and len(told[0]["main"]) == 1


def _broken(about: Path, how: str) -> None:
    """Damage the state in a folder."""
    told = json.loads(about.read_text())
    state = about.parent / told["file"]
    if how == "torn":
        state.write_bytes(state.read_bytes()[:-7])
    elif how == "flipped":
        data = bytearray(state.read_bytes())
        data[-3] ^= 1
        state.write_bytes(bytes(data))
    elif how == "gone":
        state.unlink()
    elif how == "about torn":
        about.write_bytes(about.read_bytes()[:50])
    elif how == "about changed":
        about.write_text(about.read_text().replace('"at": [0, 2, 1]', '"at": [0, 2, 3]'))
    elif how == "seals mended":  # by somebody who wants another number of the episode
        told["at"] = [0, 9, 9]
        del told["seal"]
        about.write_text(json.dumps({**told, "seal": checkpoint_store._self_checksum(told)}))
    elif how == "a folder":
        state.unlink()
        state.mkdir()


@pytest.mark.parametrize(
    "how",
    ["torn", "flipped", "gone", "about torn", "about changed", "seals mended", "a folder"],
)
def test_a_state_that_is_damaged_is_ignored(tmp_path, how):
    against = bytes_of(_run(tmp_path / "whole").folder)
    folder = tmp_path / "run"
    with _ended_after(7), pytest.raises(Killed):
        _run(folder)
    _broken(folder / "cells" / ".main.working" / "about.json", how)
    resume_run(folder, progress=False)
    assert bytes_of(folder) == against
    notes = logged(folder, "main")
    assert len(notes) == (3 if how == "a folder" else 2)  # none says that it goes on
    for note in notes:
        check_message(": ".join(note.split(": ")[:2]))


def test_a_state_of_another_experiment_or_of_other_code_is_ignored(tmp_path, monkeypatch):
    other = TRAINING.replace("rounds: 4", "rounds: 4\nseed: 1")
    folder = tmp_path / "run"
    with _ended_after(7), pytest.raises(Killed):
        _run(folder, other)
    with _ended_after(7), pytest.raises(Killed):
        _run(tmp_path / "mine")
    state = tmp_path / "mine" / "cells" / ".main.working"
    shutil.rmtree(folder / "cells" / ".main.working")
    shutil.copytree(state, folder / "cells" / ".main.working")
    shutil.copytree(state, folder / "cells" / ".gone.working")
    resume_run(folder, progress=False)
    assert bytes_of(folder) == bytes_of(_run(tmp_path / "whole", other).folder)
    assert not list((folder / "cells").glob(".*"))
    here = checkpoint_store.system_info()
    monkeypatch.setattr(
        checkpoint_store, "system_info", lambda: {**here, "source": {"digest": "of other code"}}
    )
    resume_run(tmp_path / "mine", force=True, progress=False)
    check_message(logged(tmp_path / "mine", "main")[0])


def test_a_memory_that_cannot_be_saved_is_played_from_its_start(tmp_path):
    """It says so in the log, once, and the run is as it would have been."""
    text = TRAINING.replace("{kind: reader}", "{kind: reader, secret: true}")
    folder = _run(tmp_path / "run", text).folder
    note, *stopped = logged(folder, "main")
    check_message(note)
    assert note not in stopped
    plain = bytes_of(_run(tmp_path / "plain").folder)
    mine = bytes_of(folder)
    same = [name for name in mine if "measures" in name or name.endswith("safetensors")]
    assert len(same) == 4 and all(mine[name] == plain[name] for name in same)


def test_a_full_disk_ends_the_states_and_not_the_run(tmp_path, monkeypatch):
    wrote = atomic_files.write_bytes

    def write(path, data, sync=True):
        if ".working" in str(path):
            message = f"cannot write {path}: No space left on device"
            raise atomic_files.WriteError(message, code="not_writable", path=str(path))
        wrote(path, data, sync)

    monkeypatch.setattr(atomic_files, "write_bytes", write)
    folder = _run(tmp_path / "run").folder
    check_message(": ".join(logged(folder, "main")[0].split(": ")[:2]))
    assert not list((folder / "cells").glob(".*"))


def test_states_are_written_when_it_is_time(tmp_path, monkeypatch):
    """In a stage once a minute, at its end if five seconds have passed; seldom if it takes long."""
    (tmp_path / "s.yaml").write_text(TRAINING.replace("EPISODES", "4"))
    loaded = load_scenario(str(tmp_path / "s.yaml"))
    (cell,) = expand(loaded)
    clock = [100.0]
    monkeypatch.setattr(checkpoint_store.time, "monotonic", lambda: clock[0])
    for name, value in {"OFTEN": 60.0, "SOON": 5.0, "SHARE": 0.05}.items():
        monkeypatch.setattr(checkpoint_store, name, value)
    kept = checkpoint_store.CheckpointStore(tmp_path / "main", cell, loaded.scenario, range(3))

    def due() -> tuple[bool, bool]:
        return kept.is_due(stage_finished=False), kept.is_due(stage_finished=True)

    def slow() -> checkpoint_store.CellCheckpoint:
        clock[0] += 4.0
        return checkpoint_store.CellCheckpoint((0, 0, 1), {"x": torch.ones(1)}, {})

    assert due() == (False, False)
    clock[0] += 5.0
    assert due() == (False, True)
    clock[0] += 55.0
    assert due() == (True, True)
    kept.write(slow)
    clock[0] += 79.0
    assert due() == (False, False)  # it took four seconds: not before eighty have passed
    clock[0] += 1.0
    assert due() == (True, True)
    found = kept.read()
    assert found is not None and found.cursor == (0, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_a_recipe_goes_on_in_the_same_bits(tmp_path, monkeypatch, network):
    """Adam's moments, half a rollout, what a network remembers: all of it decides the last bits."""
    changes = ["replicates=3", "worlds=2", "rounds=20", "every=20", "stages.0.episodes=4"]
    scenario = load_scenario("repeated_dilemma", changes).scenario
    pairs = next(cell for cell in expand(scenario) if cell.arm == "pairs")
    asked = {**pairs.policies["player"], "network": {"kind": network}}
    cell = dataclasses.replace(pairs, policies={"player": asked})

    def played(folder: Path) -> dict[str, bytes]:
        kept = checkpoint_store.CheckpointStore(folder, cell, scenario, range(3))
        write_cell_result(
            folder,
            cells_module.run_cell(cell, scenario, range(3), lambda _: None, checkpoint_store=kept),
        )
        assert not kept.notes or "before" in kept.notes[0] or "goes on" in kept.notes[0]
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    with _ended_after(0) as told:
        against = played(tmp_path / "whole")
    assert told[:3] == [(0, 0, 1), (0, 0, 2), (0, 0, 3)]
    for count in range(1, len(told) + 1):
        with _ended_after(count), pytest.raises(Killed):
            played(tmp_path / f"ended-{count}")
        assert played(tmp_path / f"ended-{count}") == against, told[count - 1]


# --- killed ---------------------------------------------------------------------------------------

PROGRAM = f"""\
import sys
sys.path.insert(0, {str(HERE)!r})
from mores.experiments.run import working
working.OFTEN = working.SOON = 0.0
working.SHARE = 1e9
from mores.cli.commands import main
"""
# A while of the process's own time after a state: how busy the machine is does not matter.
KILLED = f"""\
{PROGRAM}
import os, signal
write = working.Working._write

def then_killed(self, state):
    write(self, state)
    if list(state.at[1:]) == [2, 10]:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)

signal.signal(signal.SIGVTALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
working.Working._write = then_killed
sys.exit(main(sys.argv[1:]))
"""
AGAIN = f"{PROGRAM}\nsys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_killed_inside_a_long_stage(tmp_path, monkeypatch):
    """By SIGKILL, in the middle of some episode, as users begin and resume runs."""
    (tmp_path / "s.yaml").write_text(TRAINING.replace("EPISODES", "100"))
    folder = tmp_path / "run"
    begin = ["run", str(tmp_path / "s.yaml"), "--out", str(folder), "--load", str(PUPILS)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *begin], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    about = json.loads((folder / "cells" / ".main.working" / "about.json").read_text())
    assert about["at"][1] == 2, "not in the long stage"
    again = [sys.executable, "-c", AGAIN, "resume", str(folder), "--force"]
    done = subprocess.run([*again, "--load", str(PUPILS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_message(re.sub("[0-9]+", "...", logged(folder, "main")[0]))
    monkeypatch.setattr(checkpoint_store, "EPISODE_INTERVAL", 1e9)
    monkeypatch.setattr(checkpoint_store, "STAGE_INTERVAL", 1e9)
    whole = tmp_path / "whole"
    loaded = load_scenario(str(tmp_path / "s.yaml"))
    assert bytes_of(run_scenario(loaded, whole, progress=False).folder) == bytes_of(folder)


POINTS = f"""\
import json, random, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from benchmarks.killed import cases, histories
from mores.registry.plugins import load_plugins
from mores.experiments.run import working
cases.warm()
load_modules([{str(PUPILS)!r}])
place, jobs, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
case = cases.Case("training", sys.argv[4])
working.OFTEN = working.SOON = 1e9
against, rng, count = histories.reference(case, place / "whole"), random.Random(jobs), 0
read = working.Working.read

def told(self):
    found = read(self)
    if found is not None:
        with open(place / "read", "a") as file:  # no commit point
            file.write("x")
    return found

working.Working.read = told
working.OFTEN = working.SOON = 0.0
working.SHARE = 1e9
for number in range(12):
    if count >= most:
        break
    found = histories.history(case, place / f"killed-{{number}}", jobs, most - count, rng, against)
    count += sum(found.values())
print(json.dumps([count, len(Path(place / "read").read_text())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "most"), [(1, 40), (2, 8)])
def test_killed_at_commit_points(tmp_path, jobs, most):
    """Also between the writing of a state and its becoming the state; in a process that forks."""
    text = TRAINING.replace("EPISODES", "6")
    done = subprocess.run(
        [sys.executable, "-c", POINTS, str(tmp_path), str(jobs), str(most), text],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count, goes_on = json.loads(done.stdout)
    assert count >= most
    assert goes_on > 0
