"""Pipelines of training: players that change from stage to stage, what they learn, who stops."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mores.analysis.run_reader import open_run
from mores.experiments.results import atomic_files
from mores.experiments.results.cell_store import find_damage
from mores.experiments.run import cell_execution as cells_module
from mores.experiments.run import engine, run_scenario
from mores.experiments.scenario.expansion import expand, expand_and_verify, resolved_yaml
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.strict_yaml import parse
from tests.refusals import check_message, refused
from tests.run.pupils import BEST
from tests.run.small_run import logged, paths_of

pytestmark = pytest.mark.usefixtures("arcade")

PIPELINE = """\
name: pipeline
about: Gamblers learn from a record, then as they act, and are tested.
env: {kind: arcade}
players: {gambler: {kind: reader, learning_rate: 0.1}}
rounds: 6
replicates: 4
worlds: 2
seed: 5
measures: [earned, best]
control: twin
stages:
  - {name: before, episodes: 3}
  - {name: read, loop: fit, learn: gambler, episodes: 2}
  - name: climb
    loop: improve
    learn: gambler
    episodes: 12
    players: {players.gambler.kind: climber}
  - {name: test, rounds: 20, players: {players.gambler.kind: climber}}
arms:
  twin: {players.gambler: {kind: anyhow_gambler}}
  quick: {}
  slow: {players.gambler.learning_rate: 0.001}
claims:
  - {says: They learned, kind: learned, measure: best, arm: quick, against: twin, ablation: slow,
     bound: {above: 0.15}}
"""
END = "}\n  - {name: test"  # of the third stage
CLIMB = f"players.gambler.kind: climber{END}"


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs."""

    def write(job, *_):
        atomic_files.write_text(job.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)


def _run(folder: Path, text: str = PIPELINE, **options):
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, **{"progress": False, **options})


def _loaded(tmp_path: Path, text: str = PIPELINE):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return load_scenario(str(file))


def test_every_stage_has_players_of_its_own(tmp_path):
    loaded = _loaded(tmp_path)
    cells = {cell.arm: cell for cell in expand_and_verify(loaded)}
    kinds = {
        arm: [type(staged.policies["gambler"]).__name__ for staged in cell.build().stages]
        for arm, cell in cells.items()
    }
    assert kinds == {
        "twin": ["Anyhow"] * 4,  # named whole by its arm: it stays who it is
        "quick": ["Reader", "Reader", "Climber", "Climber"],
        "slow": ["Reader", "Reader", "Climber", "Climber"],
    }
    slow = cells["slow"].build().stages
    assert [s.policies["gambler"].learning_rate for s in slow] == [0.001] * 4
    assert slow[0].policies["gambler"] is slow[1].policies["gambler"]  # the same until it changes
    assert slow[0].policies["guard"] is slow[3].policies["guard"]
    told = parse(resolved_yaml(loaded.scenario, list(cells.values())), "resolved.yaml").document[
        "cells"
    ]
    assert told["quick"]["players"]["gambler"]["kind"] == "reader"
    stages = told["slow"]["stages"]
    assert list(stages) == ["climb", "test"]
    assert stages["test"]["players"]["gambler"]["kind"] == "climber"
    assert stages["test"]["players"]["gambler"]["learning_rate"] == 0.001
    assert "stages" not in told["twin"]


def test_what_was_learned_goes_over_to_the_next_player(tmp_path, no_pictures):
    """The weights go on from the reader to the climber; then nobody learns and they stay."""
    result = _run(tmp_path / "run")
    found = open_run(result.folder)
    assert found.checkpoints("quick") == [("read", "gambler"), ("climb", "gambler")]
    assert found.checkpoints("twin") == []
    read = found.checkpoint("quick", "read", "gambler")
    climbed = found.checkpoint("quick", "climb", "gambler")
    assert list(climbed.tensors) == list(read.tensors) == ["replicate", "stopped", "weights"]
    assert climbed.tensors["weights"].shape == (8, 3)  # of 4 replicates, 2 seats
    assert climbed.tensors["replicate"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    best = [c.tensors["weights"].softmax(-1)[:, BEST].mean() for c in (read, climbed)]
    assert best[0] > 0.4 and best[1] > best[0] + 0.1
    about = climbed.metadata
    assert (about["player"]["kind"], about["player"]["learning_rate"]) == ("climber", 0.1)
    assert (about["seats"], about["policies"], about["replicates"]) == (2, 8, [0, 1, 2, 3])
    assert about["tensors"]["weights"] == {"shape": [8, 3], "dtype": "float32"}
    tested = found.dataframe("quick")
    tested = tested[(tested.stage == "test") & (tested.measure == "best") & (tested["round"] > 0)]
    expected = climbed.tensors["weights"].softmax(-1)[:, BEST]
    # 4 x 2 worlds of 20 rounds and 2 seats: the standard error is below .028
    assert tested.value.mean() == pytest.approx(float(expected.mean()), abs=0.1)
    # with a climber that learns from nothing, the weights are those that were read
    still = PIPELINE.replace(
        CLIMB, f"{CLIMB[: -len(END)]}, players.gambler.learning_rate: 0.0{END}"
    )
    still = still.replace("slow: {players.gambler.learning_rate: 0.001}", "slow: {}")
    still = still[: still.index("claims:")]
    still = open_run(_run(tmp_path / "still", still).folder)
    again = still.checkpoint("quick", "climb", "gambler")
    assert torch.equal(again.tensors["weights"], read.tensors["weights"])
    assert torch.equal(read.tensors["weights"],
                       still.checkpoint("quick", "read", "gambler").tensors["weights"])  # fmt: skip


def test_chunks_of_worlds_make_one_checkpoint(tmp_path, no_pictures, monkeypatch):
    text = PIPELINE.replace("arms:", "arms:\n  only: {}\n").replace("control: twin\n", "")
    text = re.sub(r"  (twin|quick|slow):.*\n", "", text)
    text = text[: text.index("claims:")]
    whole = _run(tmp_path / "whole", text).folder
    monkeypatch.setattr(cells_module, "MAX_CHUNK_ELEMENTS", 10)
    parts = _run(tmp_path / "parts", text).folder
    names = sorted(p.relative_to(whole) for p in (whole / "cells").rglob("*") if p.is_file())
    assert sum(name.suffix == ".safetensors" for name in names) == 2
    for name in names:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_checkpoints_are_sealed_and_found(here, no_pictures):
    folder = _run(here / "run", only=[1, 3]).folder
    found = open_run(folder)
    assert found.checkpoint("quick", "climb", "gambler").metadata["replicates"] == [1, 3]
    for asked, code, path in [
        (("quik", "climb", "gambler"), "unknown_name", "cell"),
        (("quick", "clim", "gambler"), "unknown_name", "stage"),
        (("quick", "climb", "guard"), "unknown_name", "role"),
        (("twin", "climb", "gambler"), "not_trained", "cell"),
    ]:
        with refused(code, path):
            found.checkpoint(*asked)
    cell = folder / "cells" / "quick"
    assert find_damage(cell) is None
    file = cell / "checkpoints" / "climb.gambler.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    check_message(find_damage(cell) or "")
    with refused("unreadable", str(file)):
        found.checkpoint("quick", "climb", "gambler")
    file.write_bytes(data[:40])
    with refused("unreadable", str(file)):
        found.checkpoint("quick", "climb", "gambler")


def test_a_player_of_another_family_starts_anew_and_the_first_finds_its_own(tmp_path, no_pictures):
    """A hermit counts beginnings in its own memory, which no climber could read."""
    text = PIPELINE[: PIPELINE.index("stages:")].replace("control: twin\n", "")
    text = text.replace("kind: reader, learning_rate: 0.1", "kind: climber") + (
        "stages:\n"
        "  - {name: one, loop: improve, learn: gambler, episodes: 4}\n"
        "  - {name: away, players: {players.gambler: {kind: hermit}}, episodes: 2}\n"
        "  - {name: nobody, players: {players.gambler: null}}\n"
        "  - {name: back, loop: improve, learn: gambler,\n"
        "     players: {players.gambler.learning_rate: 0.0}}\n"
        "  - {name: again, players: {players.gambler: {kind: hermit}}}\n"
    )
    folder = _run(tmp_path / "run", text).folder
    found = open_run(folder)
    weights = [found.checkpoint("main", s, "gambler").tensors["weights"] for s in ("one", "back")]
    assert torch.equal(*weights)
    table = found.dataframe()
    played = table[(table.measure == "best") & (table["round"] > 0)]
    by_stage = played.groupby(["stage", "episode"], observed=True).value.mean()
    assert by_stage["away"].tolist() == [0.0, 1.0]  # its first option, then its second, the best
    assert by_stage["again"].tolist() == [0.0]  # and its third
    told = parse((folder / "resolved.yaml").read_text(), "resolved.yaml").document
    assert told["cells"]["main"]["stages"]["nobody"]["players"]["gambler"]["kind"] == "Anyhow"


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        (CLIMB, f"gambler.kind: climber{END}", "invalid_value", "stages.2.players.gambler.kind"),
        (CLIMB, f"players.gamblr.kind: climber{END}", "unknown_name",
         "stages.2.players.players.gamblr.kind"),
        (CLIMB, f"players.gambler.kind: climer{END}", "unknown_name",
         "stages.2.players.players.gambler.kind"),
        (CLIMB, f"players.gambler.deaff: true{END}", "unknown_name",
         "stages.2.players.players.gambler.deaff"),
        (CLIMB, f"players.guard.kind: climber{END}", "missing",
         "stages.2.players.players.guard.kind"),
        (CLIMB, f"players.guard: 3{END}", "wrong_type", "stages.2.players.players.guard"),
        (CLIMB, f"players.gambler.kind: reader{END}", "unsupported", "stages.2.learn.0"),
        ("loop: fit,", "loop: fit, record: [],", "invalid_value", "stages.1.record"),
        ("learning_rate: 0.1", "learning_rate: -1", "out_of_range",
         "players.gambler.learning_rate"),
        ("arms:\n", "sweep: {players.gambler: [{kind: reader}]}\narms:\n", "conflict",
         "stages.2.players.players.gambler.kind stages.3.players.players.gambler.kind "
         "arms.twin.players.gambler"),
        ("  quick: {}\n  slow: {players.gambler.learning_rate: 0.001}",
         "  quick: {players.gambler: {kind: climber}}\n  slow: {players.gambler: null}",
         "conflict",
         "stages.2.players.players.gambler.kind stages.3.players.players.gambler.kind"),
        ("ablation: slow", "ablation: slw", "unknown_name", "claims.0.ablation"),
        (", ablation: slow", "", "missing", "claims.0.kind"),
        ("kind: learned", "kind: statistical", "conflict", "claims.0.ablation"),
        ("ablation: slow", "ablation: twin", "conflict", "claims.0.ablation"),
        ("arm: quick, against: twin, ablation: slow", "ablation: twin", "not_trained",
         "claims.0.kind claims.0.ablation claims.0.ablation"),
        ("arm: quick, against: twin", "arm: twin, against: quick", "not_trained",
         "claims.0.kind"),
        ("ablation: slow", "ablation: slow, stage: before", "not_trained", "claims.0.kind"),
    ],
)  # fmt: skip
def test_mistakes(here, old, new, code, path):
    assert old in PIPELINE
    with refused(code, path.split()[0]) as caught:
        expand_and_verify(_loaded(here, PIPELINE.replace(old, new)))
    assert paths_of(caught.value) == path.split()


def test_an_arm_counts_in_the_stages_that_do_not_replace_the_player(here):
    text = PIPELINE.replace(CLIMB, f"players.gambler: {{kind: climber}}{END}")
    slow = next(cell for cell in expand(_loaded(here, text)) if cell.arm == "slow").build()
    rates = [staged.policies["gambler"].learning_rate for staged in slow.stages]
    assert rates == [0.001, 0.001, 0.3, 0.001]
    text = PIPELINE.replace(
        CLIMB, f"players.gambler.kind: climber, players.gambler.learning_rate: 1.0{END}"
    )
    slow = next(cell for cell in expand(_loaded(here, text)) if cell.arm == "slow").build()
    assert [s.policies["gambler"].learning_rate for s in slow.stages] == [0.001, 0.001, 1.0, 0.001]
    text = PIPELINE.replace(CLIMB, f"players.gambler: {{kind: climber}}{END}")
    everywhere = re.sub(r"players: \{players.gambler.kind: climber\}", "", text)
    everywhere = re.sub(
        r"- \{name: (\w+),", r"- {name: \1, players: {players.gambler: null},", everywhere
    )
    with refused("conflict", "stages.0.players.players.gambler"):
        expand(_loaded(here, everywhere))


def test_a_stage_is_changed_from_the_command_line(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(PIPELINE)
    loaded = load_scenario(str(file), ["stages.2.players.players.gambler.deaf=true"])
    (quick,) = [cell for cell in expand(loaded) if cell.arm == "quick"]
    stages = quick.build().stages
    assert stages[2].policies["gambler"].model_dump()["deaf"] is True
    assert stages[3].policies["gambler"].model_dump()["deaf"] is False


def test_an_arm_that_lacks_the_role_lacks_it_in_every_stage(tmp_path):
    text = PIPELINE.replace("twin: {players.gambler: {kind: anyhow_gambler}}",
                            "twin: {env.gamblers: 0}")  # fmt: skip
    twin = next(cell for cell in expand_and_verify(_loaded(tmp_path, text)) if cell.arm == "twin")
    assert all(set(staged.policies) == {"guard"} for staged in twin.build().stages)
    assert not any(stage.policies for stage in twin.stages)


STOPPING = """\
name: stopping
about: One of a few learners meets a number that is none.
env: {kind: arcade}
rounds: 4
replicates: 6
measures: [best]
stages:
  - {name: early, loop: improve, learn: gambler}
  - {name: train, loop: improve, learn: gambler, episodes: 10}
  - {name: test}
arms:
  fine: {players.gambler: {kind: climber}}
  breaks: {players.gambler: {kind: climber, broken: 2}}
  deaf: {players.gambler: {kind: climber, deaf: true}}
claims:
  - {says: All is fine, kind: learned, measure: best, arm: fine, ablation: deaf,
     bound: {above: 0}}
  - {says: Not all, kind: statistical, measure: best, arm: breaks, against: fine,
     bound: {within: [-1, 1]}}
  - {says: Not yet, kind: statistical, measure: best, arm: breaks, stage: early,
     bound: {within: [-1, 2]}}
"""


def test_learners_that_stop_are_told_everywhere(tmp_path, capsys):
    folder = _run(tmp_path / "run", STOPPING, progress=True).folder
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], list(status["stopped_learners"])) == ("done", ["breaks"])
    (line,) = status["stopped_learners"]["breaks"]
    assert line.startswith("stage train: gambler, replicate 2, policy 0: ")
    check_message(line)
    (told,) = [one for one in capsys.readouterr().err.splitlines() if line in one]
    assert told.startswith("stopping: cell breaks: ")
    check_message(told)
    assert logged(folder, "breaks") == [f"breaks: {line}"]
    first, second, third = json.loads((folder / "claims.json").read_text())
    remark = second["reason"].split("; ")[-1]
    assert "1 of 6" in remark and "breaks" in remark
    check_message(remark)
    assert second["verdict"] == "holds"  # they count as they are
    assert ";" not in first["reason"] + third["reason"]  # no remark at all
    page = re.sub(r"\s+", " ", (folder / "report.html").read_text())
    (stopped,) = re.findall(r"1 of 12 [^<.;:]*breaks", page)
    check_message(stopped)
    assert page.count(remark) == 1
    stopped = open_run(folder).checkpoint("breaks", "train", "gambler").tensors["stopped"]
    assert (stopped >= 0).nonzero().flatten().tolist() == [4]


def test_learned_tensors_must_fit_together(here, no_pictures, monkeypatch):
    from tests.run.pupils import Climber

    monkeypatch.setattr(
        Climber, "state_dict", lambda self, memory: {"a": torch.zeros(()), "b": torch.zeros(3)}
    )
    with refused("failed", "arms.fine.players.gambler"):
        _run(here / "run", STOPPING, only=[0])


def test_a_learned_claim_over_a_run(tmp_path, no_pictures):
    """They learn, and those who hear noise in place of reward do not; both figures are told."""
    folder = _run(tmp_path / "run", STOPPING.replace("episodes: 10", "episodes: 30")).folder
    (told, *_) = json.loads((folder / "claims.json").read_text())
    table = open_run(folder).dataframe()
    last = table[(table.stage == "test") & (table["round"] == 4)].groupby("arm", observed=True)
    assert told["estimate"] == pytest.approx(last.value.mean()["fine"])
    assert told["ablation"]["estimate"] == pytest.approx(last.value.mean()["deaf"])
    assert told["n"] == told["ablation"]["n"] == 6
    assert np.isfinite(told["ablation"]["low"])
