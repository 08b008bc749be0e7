"""Extended runs: the bytes of one long run, verdicts at their second look, refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mores
from benchmarks.killed.histories import file_digests
from mores import UserError, open_run
from mores.cli.commands import main
from mores.experiments.results import atomic_files
from mores.experiments.run import (
    RunResult,
    cell_execution,
    engine,
    extend,
    pending_extension,
    resume_run,
    run_scenario,
)
from mores.experiments.run.run_folder import EXTENDED, NEW_FILES, lock_run
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import check_message, refused
from tests.run.small_run import change_sealed

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, num_people: 12, noise_std: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 18
record_every: 4
trajectory: {worlds: 19}
metrics: [mean_value, rms_distance]
control: twin
arms:
  twin: {env.num_assistants: 0}
  mirror: {policies.assistant: {kind: mirror}}
claims:
  - {statement: moved, kind: statistical, metric: effect_vs_control, arm: mirror, bound: {above: 0}}
  - {statement: closer, kind: statistical, metric: rms_distance, arm: mirror, compare_to: twin,
     at_round: 3, bound: {below: 0}}
  - {statement: finite, kind: exact, metric: rms_distance, arm: mirror, bound: {above: 0}}
"""
PERSUADE = "  persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}\n"
LARGER = SCENARIO.replace("claims:\n", f"{PERSUADE}claims:\n") + (
    "  - {statement: further, kind: statistical, metric: rms_distance, arm: persuade,\n"
    "     compare_to: mirror, bound: {above: 0}}\n"
)
TRAINING = """\
name: training
about: Gamblers train on recorded episodes, then on reward; one of the models stops.
env: {kind: multi_agent_bandit}
policies: {gambler: {kind: offline_learner}}
rounds: 4
replicates: 2
worlds: 2
trajectory: {worlds: 5}
metrics: [reward, best]
stages:
  - {name: before, episodes: 3}
  - {name: fit, loop: fit_offline, roles_to_train: gambler, episodes: 2}
  - name: train
    loop: train
    roles_to_train: gambler
    episodes: 2
    policies: {policies.gambler.kind: online_learner, policies.gambler.stopping_replicate: 3}
  - {name: test}
claims:
  - {statement: They learned, kind: statistical, metric: best, bound: {above: 0}}
"""
RUN_FILES = {"run.json", "cells.json", "scenario.yaml", "resolved.yaml", "status.json", "log.txt",
             "provenance.json", "claims.json", "report.html", "cells"}  # fmt: skip


def _without_report(patch: pytest.MonkeyPatch) -> None:
    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "a report")

    patch.setattr(engine, "_write_report", write)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs."""
    _without_report(monkeypatch)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A finished run to copy."""
    with pytest.MonkeyPatch.context() as patch:
        _without_report(patch)
        patch.setattr(engine, "loaded_plugin_files", list)  # without those of other tests
        return _run(tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture
def finished(template, workdir) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(template, workdir / "finished", copy_function=shutil.copy2))


def _run(folder: Path, text: str = SCENARIO, overrides: tuple[str, ...] = (), **options: Any):
    """A run. Whole runs to compare with are elsewhere: claims would have changed since them."""
    file = folder.with_suffix(".yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return run_scenario(load_scenario(str(file), overrides), folder, progress=False, **options)


def _claims(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "claims.json").read_text())


def _cell_files(folder: Path) -> dict[str, str]:
    files = file_digests(folder)
    del files["claims.json"]
    return files


def _looks(result: RunResult) -> list[int]:
    return [verdict.look.number for verdict in result.verdicts]


def _assert_differs_in_looks_only(folder: Path, long: Path) -> None:
    """The extended run has the same data, estimates and n; looks, and what a level changes."""
    by_look = {"look", "level", "earlier_looks", "low", "high", "reason", "verdict", "alpha",
               "adjusted_alpha", "adjusted_verdict", "warning"}  # fmt: skip
    for extended, whole in zip(_claims(folder), _claims(long), strict=True):
        changed = {key for key in {*extended, *whole} if extended.get(key) != whole.get(key)}
        assert changed <= by_look
        if extended.get("look", 1) == 1:
            assert changed <= {"adjusted_alpha", "adjusted_verdict"}


def test_more_replicates(workdir, finished, monkeypatch):
    """Only the new ones are simulated, and the cells are those of one long run, byte for byte."""
    simulated = []
    run_cell = cell_execution.run_cell

    def record(cell, scenario, replicates, *rest, **named):
        simulated.append((cell.id, list(replicates)))
        return run_cell(cell, scenario, replicates, *rest, **named)

    long = _run(workdir / "elsewhere" / "long", overrides=("replicates=24",))
    monkeypatch.setattr(cell_execution, "run_cell", record)
    before = _claims(finished)
    result = mores.extend(finished, replicates=24, progress=False)
    assert simulated == [("twin", [*range(18, 24)]), ("mirror", [*range(18, 24)])]
    assert _cell_files(finished) == _cell_files(long.folder)
    _assert_differs_in_looks_only(finished, long.folder)
    assert {path.name for path in finished.iterdir()} == RUN_FILES
    assert _looks(result) == [2, 2, 1]
    after = _claims(finished)
    for entry, earlier in zip(after[:2], before[:2], strict=True):
        (look,) = entry["earlier_looks"]
        assert (entry["level"], look["look"], look["n"], entry["n"]) == (0.975, 1, 18, 24)
        assert [look[key] for key in ("verdict", "low", "high", "data")] == [
            earlier[key] for key in ("verdict", "low", "high", "data")
        ]
    assert "look" not in after[2]
    check_message(mores.experiments.claims.looks.describe_look(
        result.verdicts[0].claim, result.verdicts[0].look, result.verdicts[0].level
    ))  # fmt: skip
    assert open_run(finished).metrics("mirror").sizes["world"] == 24
    # the same again is nothing to add; a third look
    assert _looks(extend(finished, replicates=24, progress=False)) == [2, 2, 1]
    third = extend(finished, overrides=["replicates=25"], progress=False)
    assert _looks(third) == [3, 3, 1]
    assert [look.look for look in third.verdicts[0].look.earlier] == [1, 2]
    assert third.verdicts[0].level == 1.0 - 0.05 / 4
    assert _looks(resume_run(finished, progress=False)) == [3, 3, 1]
    provenance = json.loads((finished / "provenance.json").read_text())
    assert len(provenance["extended"]) == 2


def test_more_arms(workdir, finished):
    """Given by a scenario file; claims on the arms before keep their look and their verdict."""
    long = _run(workdir / "elsewhere" / "long", LARGER)
    (workdir / "larger.yaml").write_text(LARGER)
    before = _claims(finished)
    times = {p: p.stat().st_mtime_ns for p in (finished / "cells").rglob("*") if p.is_file()}
    result = extend(finished, scenario=workdir / "larger.yaml", progress=False)
    assert file_digests(finished) == file_digests(long.folder)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert _looks(result) == [1, 1, 1, 1]
    assert [entry["verdict"] for entry in _claims(finished)[:3]] == [c["verdict"] for c in before]
    assert (finished / "scenario.yaml").read_text() == LARGER
    twice = extend(finished, replicates=20, progress=False)
    assert _looks(twice) == [2, 2, 1, 2]


def test_other_figures(workdir, finished):
    """They are drawn from what is there: no cell is simulated again."""

    def written() -> dict[Path, int]:
        files = (path for path in (finished / "cells").rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    figure = "{kind: response, x: [0, 1], y: rms_distance, series: {all: [twin, mirror]}}"
    path = workdir / "figures.yaml"
    for text, kinds in ((f"{SCENARIO}figures: [{figure}]\n", ["response"]), (SCENARIO, [])):
        path.write_text(text)
        result = extend(finished, scenario=path, progress=False)
        assert [figure.kind for figure in result.scenario.figures] == kinds
        assert written() == before
        assert _looks(result) == [1, 1, 1]


def test_more_rounds(workdir, finished, capsys):
    """Simulated from the start: a claim on an early round has the same data as before."""
    long = _run(workdir / "elsewhere" / "long", overrides=("rounds=9",))
    result = extend(finished, rounds=9)
    check_message(capsys.readouterr().err.splitlines()[0])
    assert _cell_files(finished) == _cell_files(long.folder)
    _assert_differs_in_looks_only(finished, long.folder)
    assert _looks(result) == [2, 1, 1]
    assert not list((finished / "cells").glob(".*"))


@pytest.mark.full
def test_everything_at_once(workdir, finished):
    (workdir / "larger.yaml").write_text(LARGER)
    long = _run(workdir / "elsewhere" / "long", LARGER, ("rounds=7", "replicates=20"))
    extend(finished, 20, 7, scenario=workdir / "larger.yaml", progress=False)
    assert _cell_files(finished) == _cell_files(long.folder)
    _assert_differs_in_looks_only(finished, long.folder)


def test_an_unfinished_run(workdir, monkeypatch):
    """Without verdicts there was no look; cells that are missing get all replicates at once."""
    long = _run(workdir / "elsewhere" / "long", overrides=("replicates=20",))
    run_cell = cell_execution.run_cell

    def interrupted(cell, *rest, **named):
        if cell.arm == "mirror":
            raise KeyboardInterrupt
        return run_cell(cell, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cell_execution, "run_cell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _run(workdir / "run")
        with pytest.raises(KeyboardInterrupt):
            extend(workdir / "run", replicates=20, progress=False)
    assert _looks(extend(workdir / "run", replicates=20, progress=False)) == [1, 1, 1]
    assert file_digests(workdir / "run") == file_digests(long.folder)


def test_learners(workdir, bandit_kinds):
    """Checkpoints, stopped models and counts of updates are those of one long run."""
    long = _run(workdir / "elsewhere" / "long", TRAINING, ("replicates=5",))
    run = _run(workdir / "run", TRAINING)
    assert len(extend(run.folder, replicates=5, progress=False).verdicts) == 1
    assert _cell_files(run.folder) == _cell_files(long.folder)
    cell = json.loads((run.folder / "cells" / "main" / "cell.json").read_text())
    assert cell["num_models"] == 10 and len(cell["stopped"]) == 1


@pytest.mark.full
def test_draws_keep_their_replicates(workdir, capsys):
    """Claims over uncertain parameters have no new data, and keep their look."""
    text = SCENARIO.replace("record_every: 4", "uncertainty: {parameters: "
                            "{env.ai_influence: [.1, .2]}, replicates: 1}")  # fmt: skip
    text += (
        "  - {statement: over, kind: statistical, metric: effect_vs_control, arm: mirror,\n"
        "     interval: parameters, bound: {above: 0}}\n"
    )
    overrides = ("rounds=2", "claims.1.at_round=2", "env.num_people=3")
    run = _run(workdir / "run", text, overrides)
    long = _run(workdir / "elsewhere" / "long", text, (*overrides, "replicates=19"))
    result = extend(run.folder, replicates=19)
    assert _looks(result) == [2, 2, 1, 1]
    check_message("\n".join(capsys.readouterr().err.splitlines()[:2]))
    assert _cell_files(run.folder) == _cell_files(long.folder)


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("override", "code", "path"),
    [
        ("replicates=17", "out_of_range", "replicates"),
        ("rounds=5", "out_of_range", "rounds"),
        ("worlds=2", "conflict", "worlds"),
        ("seed=1", "conflict", "seed"),
        ("record_every=2", "conflict", "record_every"),
        ("env.noise_std=0.2", "conflict", "env.noise_std"),
        ("metrics=[mean_value]", "conflict", "metrics"),
        ("arms.twin={env.num_assistants: 1}", "conflict", "arms.twin.env.num_assistants"),
        ("claims.0.bound.above=0.1", "conflict", "claims.0.bound.above"),
        ("name=other", "conflict", "name"),
    ],
)
def test_other_changes_are_refused(finished, override, code, path):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    with refused(code, path):
        extend(finished, overrides=[override], progress=False)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_scenarios_that_are_refused(workdir, finished):
    """A claim on arms that were seen, or on a copy of one, on a round that was not recorded, and an
    arm that is gone."""
    file = workdir / "other.yaml"
    seen = LARGER.replace("arm: persuade,\n", "arm: mirror,\n").replace("compare_to: mirror", "")
    cases = [
        (seen.replace(",\n     , bound", ",\n     bound"), "conflict", "claims.3"),
        (LARGER.replace("compare_to: mirror,", "compare_to: mirror, at_round: 5,"), "conflict",
         "twin"),
        (LARGER.replace("  mirror: {", "  other: {").replace("mirror,", "other,"), "conflict",
         "arms.mirror"),
        (LARGER.replace(PERSUADE, "  persuade: {policies.assistant: {kind: mirror}}\n"), "conflict",
         "arms.persuade"),
    ]  # fmt: skip
    for text, code, path in cases:
        file.write_text(text)
        with refused(code, path):
            extend(finished, scenario=file, progress=False)


def test_folders_that_are_refused(workdir, finished):
    def refuses(code: str, path: Path | str, **options: Any) -> None:
        before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
        with refused(code, str(path)) as caught:
            extend(finished, replicates=20, progress=False, **options)
        assert "\n" not in str(caught.value)
        assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before

    with refused("unreadable", "nowhere"):
        extend("nowhere", replicates=20)
    with lock_run(finished), pytest.raises(UserError) as caught:
        extend(finished, replicates=20, progress=False)
    assert (caught.value.code, caught.value.path) == ("busy", str(finished))
    claims = (finished / "claims.json").read_bytes()
    (finished / "claims.json").write_bytes(claims.replace(b'"look": 1', b'"look": 0'))
    refuses("unreadable", finished / "claims.json")
    (finished / "claims.json").unlink()
    refuses("unreadable", finished / "claims.json")
    (finished / "claims.json").write_bytes(claims)
    stray = finished / "cells" / "twin" / "notes.txt"
    stray.write_text("mine")
    refuses("conflict", stray)
    stray.unlink()
    status = (finished / "status.json").read_text()
    change_sealed(finished / "status.json", state="running")
    refuses("unreadable", finished / "claims.json")
    (finished / "claims.json").unlink()  # as after a cell was lost and resuming was interrupted
    refuses("unreadable", finished / "claims.json")
    (finished / "claims.json").write_bytes(claims)
    (finished / "status.json").write_text(status)
    provenance = json.loads((finished / "provenance.json").read_text())
    provenance["versions"]["torch"] = "1.0"
    change_sealed(finished / "provenance.json", **provenance)
    with pytest.raises(UserError) as caught:
        extend(finished, replicates=20, progress=False)
    assert (caught.value.code, caught.value.path) == ("incompatible", str(finished))


def test_some_replicates_only(workdir):
    run = _run(workdir / "run", only_replicates=[3, 5])
    with refused("conflict", "replicates"):
        extend(run.folder, replicates=20, progress=False)


PLUGIN = """\
from mores import register
from mores.agents.scripted.assistants import Mirror

class {name}(Mirror):
    pass

register("policy", "{name}", {name})
"""


@pytest.mark.full
def test_plugin_files(workdir, finished):
    """A new arm may need one, which the run then has; one that has changed is refused."""
    plugin, file = workdir / "own.py", workdir / "larger.yaml"
    plugin.write_text(PLUGIN.replace("{name}", "extension_mirror"))
    own = "  own: {policies.assistant: {kind: extension_mirror}}\n"
    file.write_text(SCENARIO.replace("claims:\n", f"{own}claims:\n"))

    def mores_extend(*words: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from mores.cli.commands import main; sys.exit(main())"
        options = ["--load", str(plugin), "--allow-undecided"]
        command = [sys.executable, "-c", code, "extend", str(finished), *words, *options]
        return subprocess.run(command, capture_output=True, text=True)

    done = mores_extend("--scenario", str(file), "--jobs", "2")
    assert done.returncode == 0, done.stderr
    (entry,) = open_run(finished).manifest.plugin_files
    assert Path(entry.path).name == "own.py"
    plugin.write_text(plugin.read_text() + "# changed\n")
    done = mores_extend("replicates=20")
    assert done.returncode == 2
    check_message(done.stderr)
    assert "own" in open_run(finished).cells


class Killed(BaseException):
    """Simulates the end of the process."""


def test_an_interrupted_extension(workdir, finished, monkeypatch):
    """A reader names the command that completes it; a damaged one is refused in one line."""

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pending_extension, "set_cell_aside", killed)
        with pytest.raises(Killed):
            extend(finished, replicates=20, progress=False)
    with refused("unreadable", str(finished / "extension")):
        open_run(finished)
    folder = finished / "extension"
    for name in (*NEW_FILES, EXTENDED):
        content = (folder / name).read_bytes()
        if name != "scenario.yaml":  # whose effect is in resolved.yaml
            (folder / name).write_bytes(content[:-40] + b"?" + content[-39:])
            with pytest.raises(UserError) as caught:
                resume_run(finished, progress=False)
            assert caught.value.code == "unreadable" and "\n" not in str(caught.value)
        (folder / name).unlink()
        with pytest.raises(UserError) as caught:
            resume_run(finished, progress=False)
        assert caught.value.code == "unreadable" and "\n" not in str(caught.value)
        (folder / name).write_bytes(content)
    elsewhere = _run(workdir / "elsewhere" / "other", overrides=("seed=1",)).folder
    shutil.copytree(folder, elsewhere / "extension")
    with refused("unreadable", str(elsewhere / "extension")):
        resume_run(elsewhere, progress=False)
    assert _looks(resume_run(finished, progress=False)) == [2, 2, 1]
    assert not folder.exists()


@pytest.mark.full
@pytest.mark.cut(2)
@pytest.mark.parametrize("damage", ["torn", "other code", "foreign", "other metrics"])
def test_earlier_cells_that_cannot_be_used(workdir, finished, monkeypatch, damage):
    """The cell is simulated from its start, and the log says why."""
    long = _run(workdir / "elsewhere" / "long", overrides=("replicates=20",))
    with monkeypatch.context() as patch:
        patch.setattr(cell_execution, "run_cell", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extend(finished, replicates=20, progress=False)
    earlier = finished / "cells" / ".mirror.earlier"
    if damage == "torn":
        (earlier / "metrics.parquet").write_bytes(b"PAR1")
    elif damage == "foreign":
        (earlier / "notes.txt").write_text("mine")
    elif damage == "other metrics":
        content = json.loads((earlier / "cell.json").read_text())
        stages = [{**stage, "metrics": ["a", "b", "c"]} for stage in content["stages"]]
        change_sealed(earlier / "cell.json", stages=stages)
    else:
        content = json.loads((earlier / "cell.json").read_text())
        change_sealed(earlier / "cell.json", code={**content["code"], "source": "0"})
    resume_run(finished, progress=False)
    assert (damage == "foreign") == earlier.exists()
    if damage == "foreign":
        shutil.rmtree(earlier)
    assert _cell_files(finished) == _cell_files(long.folder)
    lines = [line for line in (finished / "log.txt").read_text().splitlines() if "mirror" in line]
    assert any("from its start" in line for line in lines) == (damage != "foreign")


def test_command_line(workdir, finished, capsys):
    assert main(["extend", str(finished), "replicates=20", "--allow-undecided"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "second look" in output and "97.5 %" in output
    assert main(["extend", str(finished), "replicates=20", "seed=3"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["extend", "--help"]) == 0


def test_files_of_the_user_in_the_folder_of_an_earlier_cell(finished: Path) -> None:
    """They were removed with it."""
    earlier = finished / "cells" / ".mirror.earlier"
    earlier.mkdir()
    (earlier / "thesis.txt").write_text("years of work")
    with refused("conflict"):
        extend(finished, replicates=19, progress=False)
    assert (earlier / "thesis.txt").exists() and not (finished / "extension").exists()
    shutil.rmtree(earlier)
    earlier.write_text("a file")
    with refused("conflict"):
        extend(finished, replicates=19, progress=False)
    earlier.unlink()
    with refused("wrong_type", "jobs"):
        extend(finished, replicates=19, jobs="many", progress=False)  # type: ignore[arg-type]


def test_a_pending_extension_whose_scenario_was_damaged(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would replace the scenario of the run."""

    def stop(folder: Path) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            "mores.experiments.run.extension.apply_pending_extension",
            lambda folder: (finished / "extension").exists() and stop(folder),
        )
        with pytest.raises(KeyboardInterrupt):
            extend(finished, replicates=19, progress=False)
    scenario = (finished / "scenario.yaml").read_bytes()
    (finished / "extension" / "scenario.yaml").write_text("")
    with refused("unreadable"):
        resume_run(finished, progress=False)
    assert (finished / "scenario.yaml").read_bytes() == scenario
