"""Training over several stages: policies that change, checkpoints, models that stop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mores.experiments.results import atomic_files
from mores.experiments.results.run_reader import open_run
from mores.experiments.results.stored_cell import find_damage
from mores.experiments.run import cell_execution, engine, run_scenario
from mores.experiments.scenario.expansion import build_cells, resolved_yaml
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.strict_yaml import parse
from tests.cells import expand, expand_and_verify
from tests.refusals import check_message, refused
from tests.run.bandit_learners import BEST
from tests.run.small_run import log_lines, problem_paths

pytestmark = pytest.mark.usefixtures("bandit_kinds")

PIPELINE = """\
name: pipeline
about: Gamblers train on recorded episodes, then on reward, and are evaluated.
env: {kind: multi_agent_bandit}
policies: {gambler: {kind: offline_learner, learning_rate: 0.1}}
rounds: 6
replicates: 4
worlds: 2
seed: 5
metrics: [reward, best]
control: twin
stages:
  - {name: before, episodes: 3}
  - {name: fit, loop: fit_offline, roles_to_train: gambler, episodes: 2}
  - name: train
    loop: train
    roles_to_train: gambler
    episodes: 12
    policies: {policies.gambler.kind: online_learner}
  - {name: test, rounds: 20, policies: {policies.gambler.kind: online_learner}}
arms:
  twin: {policies.gambler: {kind: random_gambler}}
  quick: {}
  slow: {policies.gambler.learning_rate: 0.001}
claims:
  - {statement: They learned, kind: learned, metric: best, arm: quick, compare_to: twin,
     ablation: slow, bound: {above: 0.15}}
"""
END = "}\n  - {name: test"  # of the third stage
ONLINE = f"policies.gambler.kind: online_learner{END}"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes longer than these runs."""

    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "a report")

    monkeypatch.setattr(engine, "_write_report", write)


def _run(folder: Path, text: str = PIPELINE, **options):
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, **{"progress": False, **options})


def _loaded(tmp_path: Path, text: str = PIPELINE):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return load_scenario(str(file))


def test_every_stage_has_its_policies(tmp_path):
    loaded = _loaded(tmp_path)
    cells = {cell.arm: cell for cell in expand_and_verify(loaded)}
    kinds = {
        arm: [type(staged.policies["gambler"]).__name__ for staged in cell.build().stages]
        for arm, cell in cells.items()
    }
    assert kinds == {
        "twin": ["RandomGambler"] * 4,  # set as a whole by its arm, which no stage changes
        "quick": ["OfflineLearner", "OfflineLearner", "OnlineLearner", "OnlineLearner"],
        "slow": ["OfflineLearner", "OfflineLearner", "OnlineLearner", "OnlineLearner"],
    }
    slow = cells["slow"].build().stages
    assert [s.policies["gambler"].learning_rate for s in slow] == [0.001] * 4
    assert slow[0].policies["gambler"] is slow[1].policies["gambler"]  # until a stage changes it
    assert slow[0].policies["guard"] is slow[3].policies["guard"]
    text = resolved_yaml(loaded.scenario, build_cells(loaded))
    resolved = parse(text, "resolved.yaml").document["cells"]
    assert resolved["quick"]["policies"]["gambler"]["kind"] == "offline_learner"
    stages = resolved["slow"]["stages"]
    assert list(stages) == ["train", "test"]
    assert stages["test"]["policies"]["gambler"]["kind"] == "online_learner"
    assert stages["test"]["policies"]["gambler"]["learning_rate"] == 0.001
    assert "stages" not in resolved["twin"]


@pytest.mark.full
def test_the_next_policy_continues_from_the_trained_parameters(tmp_path, no_report):
    """From the offline to the online learner; without training the weights are constant."""
    run = open_run(_run(tmp_path / "run").folder)
    assert run.checkpoints("quick") == [("fit", "gambler"), ("train", "gambler")]
    assert run.checkpoints("twin") == []
    fitted = run.checkpoint("quick", "fit", "gambler")
    trained = run.checkpoint("quick", "train", "gambler")
    assert list(trained.tensors) == list(fitted.tensors) == ["replicate", "stopped_at", "weights"]
    assert trained.tensors["weights"].shape == (8, 3)  # of 4 replicates, 2 agents
    assert trained.tensors["replicate"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    best = [c.tensors["weights"].softmax(-1)[:, BEST].mean() for c in (fitted, trained)]
    assert best[0] > 0.4 and best[1] > best[0] + 0.1
    metadata, policy = trained.metadata, trained.metadata["policy"]
    assert (policy["kind"], policy["learning_rate"]) == ("online_learner", 0.1)
    assert (metadata["num_agents"], metadata["num_models"]) == (2, 8)
    assert metadata["replicates"] == [0, 1, 2, 3]
    assert metadata["tensors"]["weights"] == {"shape": [8, 3], "dtype": "float32"}
    table = run.dataframe("quick")
    table = table[(table.stage == "test") & (table.metric == "best") & (table["round"] > 0)]
    expected = trained.tensors["weights"].softmax(-1)[:, BEST]
    # 4 x 2 worlds of 20 rounds and 2 agents: the standard error is below .028
    assert table.value.mean() == pytest.approx(float(expected.mean()), abs=0.1)
    # with a learning rate of 0, the online learner has the fitted weights
    text = PIPELINE.replace(
        ONLINE, f"{ONLINE[: -len(END)]}, policies.gambler.learning_rate: 0.0{END}"
    )
    text = text.replace("slow: {policies.gambler.learning_rate: 0.001}", "slow: {}")
    frozen = open_run(_run(tmp_path / "frozen", text[: text.index("claims:")]).folder)
    for stage in ("fit", "train"):
        tensors = frozen.checkpoint("quick", stage, "gambler").tensors
        assert torch.equal(tensors["weights"], fitted.tensors["weights"])


@pytest.mark.full
def test_chunks_of_worlds_make_one_checkpoint(tmp_path, no_report, monkeypatch):
    text = PIPELINE.replace("arms:", "arms:\n  only: {}\n").replace("control: twin\n", "")
    text = re.sub(r"  (twin|quick|slow):.*\n", "", text)
    text = text[: text.index("claims:")]
    whole = _run(tmp_path / "whole", text).folder
    monkeypatch.setattr(cell_execution, "MAX_CHUNK_ELEMENTS", 10)
    parts = _run(tmp_path / "parts", text).folder
    names = sorted(p.relative_to(whole) for p in (whole / "cells").rglob("*") if p.is_file())
    assert sum(name.suffix == ".safetensors" for name in names) == 2
    for name in names:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


@pytest.mark.full
def test_checkpoints_are_found_and_have_checksums(workdir, no_report):
    folder = _run(workdir / "run", only_replicates=[1, 3]).folder
    run = open_run(folder)
    assert run.checkpoint("quick", "train", "gambler").metadata["replicates"] == [1, 3]
    for names, code, path in [
        (("quik", "train", "gambler"), "unknown_name", "cell"),
        (("quick", "trian", "gambler"), "unknown_name", "stage"),
        (("quick", "train", "guard"), "unknown_name", "role"),
        (("twin", "train", "gambler"), "not_trained", "cell"),
    ]:
        with refused(code, path):
            run.checkpoint(*names)
    cell = folder / "cells" / "quick"
    assert find_damage(cell) is None
    file = cell / "checkpoints" / "train.gambler.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    check_message(find_damage(cell) or "")
    with refused("unreadable", str(file)):
        run.checkpoint("quick", "train", "gambler")
    file.write_bytes(data[:40])
    with refused("unreadable", str(file)):
        run.checkpoint("quick", "train", "gambler")


def test_policies_of_other_classes_have_separate_states(tmp_path, no_report):
    """An episode counter has a state that no learner reads; each continues from its own."""
    text = PIPELINE[: PIPELINE.index("stages:")].replace("control: twin\n", "")
    text = text.replace("kind: offline_learner, learning_rate: 0.1", "kind: online_learner") + (
        "stages:\n"
        "  - {name: first, loop: train, roles_to_train: gambler, episodes: 4}\n"
        "  - {name: counter, policies: {policies.gambler: {kind: episode_counter}}, episodes: 2}\n"
        "  - {name: default, policies: {policies.gambler: null}}\n"
        "  - {name: second, loop: train, roles_to_train: gambler,\n"
        "     policies: {policies.gambler.learning_rate: 0.0}}\n"
        "  - {name: last, policies: {policies.gambler: {kind: episode_counter}}}\n"
    )
    folder = _run(tmp_path / "run", text).folder
    run = open_run(folder)
    checkpoints = [run.checkpoint("main", stage, "gambler") for stage in ("first", "second")]
    assert torch.equal(*(checkpoint.tensors["weights"] for checkpoint in checkpoints))
    table = run.dataframe()
    table = table[(table.metric == "best") & (table["round"] > 0)]
    by_stage = table.groupby(["stage", "episode"], observed=True).value.mean()
    assert by_stage["counter"].tolist() == [0.0, 1.0]  # the first option, then the second, the best
    assert by_stage["last"].tolist() == [0.0]  # the third
    resolved = parse((folder / "resolved.yaml").read_text(), "resolved.yaml").document
    stage = resolved["cells"]["main"]["stages"]["default"]
    assert stage["policies"]["gambler"]["kind"] == "random_gambler"


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        (ONLINE, f"gambler.kind: online_learner{END}", "invalid_value",
         "stages.2.policies.gambler.kind"),
        (ONLINE, f"policies.gamblr.kind: online_learner{END}", "unknown_name",
         "stages.2.policies.policies.gamblr.kind"),
        (ONLINE, f"policies.gambler.kind: online_lerner{END}", "unknown_name",
         "stages.2.policies.policies.gambler.kind"),
        (ONLINE, f"policies.gambler.noise_rewrd: true{END}", "unknown_name",
         "stages.2.policies.policies.gambler.noise_rewrd"),
        (ONLINE, f"policies.guard.kind: online_learner{END}", "missing",
         "stages.2.policies.policies.guard.kind"),
        (ONLINE, f"policies.guard: 3{END}", "wrong_type", "stages.2.policies.policies.guard"),
        (ONLINE, f"policies.gambler.kind: offline_learner{END}", "unsupported",
         "stages.2.roles_to_train.0"),
        ("loop: fit_offline,", "loop: fit_offline, dataset_stages: [],", "invalid_value",
         "stages.1.dataset_stages"),
        ("learning_rate: 0.1", "learning_rate: -1", "out_of_range",
         "policies.gambler.learning_rate"),
        ("arms:\n", "sweep: {policies.gambler: [{kind: offline_learner}]}\narms:\n", "conflict",
         "stages.2.policies.policies.gambler.kind stages.3.policies.policies.gambler.kind "
         "arms.twin.policies.gambler"),
        ("  quick: {}\n  slow: {policies.gambler.learning_rate: 0.001}",
         "  quick: {policies.gambler: {kind: online_learner}}\n  slow: {policies.gambler: null}",
         "conflict",
         "stages.2.policies.policies.gambler.kind stages.3.policies.policies.gambler.kind"),
        ("ablation: slow", "ablation: slw", "unknown_name", "claims.0.ablation"),
        ("ablation: slow, ", "", "missing", "claims.0.kind"),
        ("kind: learned", "kind: statistical", "conflict", "claims.0.ablation"),
        ("ablation: slow", "ablation: twin", "conflict", "claims.0.ablation"),
        ("arm: quick, compare_to: twin,\n     ablation: slow", "ablation: twin", "not_trained",
         "claims.0.kind claims.0.ablation claims.0.ablation"),
        ("arm: quick, compare_to: twin", "arm: twin, compare_to: quick", "not_trained",
         "claims.0.kind"),
        ("ablation: slow", "ablation: slow, stage: before", "not_trained", "claims.0.kind"),
    ],
)  # fmt: skip
def test_mistakes(workdir, old, new, code, path):
    assert old in PIPELINE
    with refused(code, path.split()[0]) as caught:
        expand_and_verify(_loaded(workdir, PIPELINE.replace(old, new)))
    assert problem_paths(caught.value) == path.split()


def test_an_arm_holds_in_stages_that_do_not_replace_the_policy(workdir):
    def rates(change: str) -> list[float]:
        cells = expand(_loaded(workdir, PIPELINE.replace(ONLINE, f"{change}{END}")))
        slow = next(cell for cell in cells if cell.arm == "slow").build()
        return [staged.policies["gambler"].learning_rate for staged in slow.stages]

    replaced = "policies.gambler: {kind: online_learner}"
    assert rates(replaced) == [0.001, 0.001, 0.3, 0.001]
    changed = "policies.gambler.kind: online_learner, policies.gambler.learning_rate: 1.0"
    assert rates(changed) == [0.001, 0.001, 1.0, 0.001]
    text = PIPELINE.replace(ONLINE, f"{replaced}{END}")
    everywhere = re.sub(r"policies: \{policies.gambler.kind: online_learner\}", "", text)
    everywhere = re.sub(
        r"- \{name: (\w+),", r"- {name: \1, policies: {policies.gambler: null},", everywhere
    )
    with refused("conflict", "stages.0.policies.policies.gambler"):
        expand(_loaded(workdir, everywhere))


def test_a_stage_is_changed_from_the_command_line(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(PIPELINE)
    path = "stages.2.policies.policies.gambler.noise_reward"
    loaded = load_scenario(str(file), [f"{path}=true"])
    (quick,) = [cell for cell in expand(loaded) if cell.arm == "quick"]
    stages = quick.build().stages
    assert stages[2].policies["gambler"].model_dump()["noise_reward"] is True
    assert stages[3].policies["gambler"].model_dump()["noise_reward"] is False


def test_an_arm_that_lacks_the_role_lacks_it_in_every_stage(tmp_path):
    text = PIPELINE.replace("twin: {policies.gambler: {kind: random_gambler}}",
                            "twin: {env.num_gamblers: 0}")  # fmt: skip
    twin = next(cell for cell in expand_and_verify(_loaded(tmp_path, text)) if cell.arm == "twin")
    assert all(set(staged.policies) == {"guard"} for staged in twin.build().stages)
    assert not any(stage.policies for stage in twin.stages)


STOPPING = """\
name: stopping
about: One of a few models stops because of NaN.
env: {kind: multi_agent_bandit}
rounds: 4
replicates: 6
metrics: [best]
stages:
  - {name: early, loop: train, roles_to_train: gambler}
  - {name: train, loop: train, roles_to_train: gambler, episodes: 10}
  - {name: test}
arms:
  trains: {policies.gambler: {kind: online_learner}}
  stops: {policies.gambler: {kind: online_learner, stopping_replicate: 2}}
  noise: {policies.gambler: {kind: online_learner, noise_reward: true}}
claims:
  - {statement: All train, kind: learned, metric: best, arm: trains, ablation: noise,
     bound: {above: 0}}
  - {statement: One stops, kind: statistical, metric: best, arm: stops, compare_to: trains,
     bound: {within: [-1, 1]}}
  - {statement: None stops early, kind: statistical, metric: best, arm: stops, stage: early,
     bound: {within: [-1, 2]}}
"""


@pytest.mark.full
def test_stopped_models_are_reported_everywhere(tmp_path, capsys):
    folder = _run(tmp_path / "run", STOPPING, progress=True).folder
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], list(status["stopped_learners"])) == ("done", ["stops"])
    (message,) = status["stopped_learners"]["stops"]
    assert message.startswith("stage train: gambler, replicate 2, model 0: ")
    check_message(message)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert line.startswith("stopping: cell stops: ")
    check_message(line)
    assert log_lines(folder, "stops") == [f"stops: {message}"]
    first, second, third = json.loads((folder / "claims.json").read_text())
    remark = second["reason"].split("; ")[-1]
    assert "1 of 6" in remark and "stops" in remark
    check_message(remark)
    assert second["n"] == 6  # stopped models are included
    assert "1 of 6" not in first["reason"] + third["reason"]  # no remark at all
    page = re.sub(r"\s+", " ", (folder / "report.html").read_text())
    (text,) = re.findall(r"1 of 12 [^<.;:]*stops", page)
    check_message(text)
    assert page.count(remark) == 1
    tensors = open_run(folder).checkpoint("stops", "train", "gambler").tensors
    assert (tensors["stopped_at"] >= 0).nonzero().flatten().tolist() == [4]


def test_tensors_of_a_state_dict_must_fit_together(workdir, no_report, monkeypatch):
    from tests.run.bandit_learners import OnlineLearner

    tensors = {"a": torch.zeros(()), "b": torch.zeros(3)}
    monkeypatch.setattr(OnlineLearner, "state_dict", lambda self, state: tensors)
    with refused("failed", "arms.trains.policies.gambler"):
        _run(workdir / "run", STOPPING, only_replicates=[0])


def test_a_learned_claim_over_a_run(tmp_path, no_report):
    """Models train on reward and not on noise; both estimates are recorded."""
    folder = _run(tmp_path / "run", STOPPING.replace("episodes: 10", "episodes: 30")).folder
    (claim, *_) = json.loads((folder / "claims.json").read_text())
    table = open_run(folder).dataframe()
    last = table[(table.stage == "test") & (table["round"] == 4)].groupby("arm", observed=True)
    assert claim["estimate"] == pytest.approx(last.value.mean()["trains"])
    assert claim["ablation"]["estimate"] == pytest.approx(last.value.mean()["noise"])
    assert claim["n"] == claim["ablation"]["n"] == 6
    assert np.isfinite(claim["ablation"]["low"])
