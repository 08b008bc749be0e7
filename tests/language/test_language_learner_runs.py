"""Runs with language models that learn: twins, stages, checkpoints, resumption, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mores.agents.language.adapter_files import export_checkpoint, read_adapter
from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.cell_store import write_cell_result
from mores.experiments.run import cell_execution, checkpoint
from mores.experiments.run.run_folder import CellTask
from mores.experiments.scenario.loading import load_scenario
from mores.registry import REGISTRIES
from tests.cases import FULL
from tests.cells import expand
from tests.language.word_model import WordModel

pytest.importorskip("transformers")

SCENARIO = """\
name: language_learning
about: Adapters train on reward, are fitted to preferences, and act greedily.
env: {kind: token_feedback, vocab_size: 3, completion_length: 2, num_prompt_features: 1, num_completions: 4}
policies:
  assistant:
    kind: language_learner
    model: {kind: words, hidden_size: 8, num_layers: 1}
    adapters: {rank: 2}
    objective: {kind: grpo, learning_rate: 0.05}
rounds: 2
replicates: 2
worlds: 2
metrics: [score]
stages:
  - {name: train, loop: train, roles_to_train: assistant, episodes: 2}
  - {name: record, episodes: 2}
  - name: fit
    loop: fit_offline
    roles_to_train: assistant
    dataset_stages: [record]
    episodes: 2
    policies: {policies.assistant.objective: {kind: dpo, learning_rate: 0.05}}
  - {name: test, loop: search}
control: one
arms:
  one: {}
  twin: {policies.assistant.objective.max_grad_norm: 0.5}
  fast: {policies.assistant.objective.learning_rate: 0.1}
"""  # noqa: E501


class Killed(BaseException):
    """Simulates the end of the process."""


@pytest.fixture(autouse=True)
def fast_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of few tokens; a checkpoint at every possible moment."""
    monkeypatch.setitem(REGISTRIES["language_model"], "words", WordModel)
    monkeypatch.setattr(checkpoint, "EPISODE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "STAGE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_WRITE_FRACTION", 1e9)


def _cells(folder: Path) -> tuple[Any, dict[str, Any]]:
    (folder / "s.yaml").write_text(SCENARIO)
    scenario = load_scenario(str(folder / "s.yaml")).scenario
    return scenario, {cell.arm: cell for cell in expand(scenario)}


def _simulate(cell: Any, scenario: Any, folder: Path) -> CellResult:
    state = checkpoint.CellCheckpoint(CellTask(folder, cell, scenario, range(2)))
    result = cell_execution.run_cell(cell, scenario, range(2), lambda _: None, checkpoint=state)
    assert not state.notes or "before" in state.notes[0] or "continues" in state.notes[0]
    write_cell_result(folder, result)
    return result


def _contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_killed_and_resumed(tmp_path, monkeypatch) -> None:
    """A cell that is killed at any of its checkpoints ends in the same bytes."""
    scenario, cells = _cells(tmp_path)
    original, count, limit = checkpoint.CellCheckpoint._write, [0], [0]

    def write(self: Any, cell_runner: Any, cursor: Any) -> None:
        original(self, cell_runner, cursor)
        count[0] += 1
        if count[0] == limit[0]:
            raise Killed

    monkeypatch.setattr(checkpoint.CellCheckpoint, "_write", write)
    _simulate(cells["one"], scenario, tmp_path / "whole")
    expected, num_checkpoints = _contents(tmp_path / "whole"), count[0]
    assert num_checkpoints >= 7 and any("safetensors" in name for name in expected)
    for limit[0] in range(1, num_checkpoints + 1, 1 if FULL else 4):
        count[0], folder = 0, tmp_path / f"killed {limit[0]}"
        with pytest.raises(Killed):
            _simulate(cells["one"], scenario, folder)
        count[0] = -1000
        _simulate(cells["one"], scenario, folder)
        assert _contents(folder) == expected


def test_twins_and_stages(tmp_path) -> None:
    """An arm without effect equals its twin in every bit; another learning rate does not."""
    scenario, cells = _cells(tmp_path)
    results = {
        arm: _simulate(cell, scenario, tmp_path / arm) for arm, cell in sorted(cells.items())
    }
    tensors = {
        arm: {(c.stage, n): t for c in result.checkpoints for n, t in c.tensors.items()}
        for arm, result in results.items()
    }
    assert {stage for stage, _ in tensors["one"]} == {"train", "fit"}
    differing = set()
    for key, tensor in tensors["one"].items():
        assert torch.equal(tensor, tensors["twin"][key])
        if not torch.equal(tensor, tensors["fast"][key]):
            differing.add(key[1].rpartition(".")[2])
    assert differing == {"lora_A", "lora_B"}
    for one, twin in zip(results["one"].stages, results["twin"].stages, strict=True):
        assert np.array_equal(one.metrics["score"], twin.metrics["score"])
    # The fitted adapters continue from the trained ones, and the initial ones are those of all.
    name = next(name for stage, name in tensors["one"] if name.endswith("lora_B"))
    trained, fitted = tensors["one"]["train", name], tensors["one"]["fit", name]
    assert not torch.equal(trained, fitted) and len(trained) == 2
    checkpoint = tmp_path / "one" / "checkpoints" / "fit.assistant.safetensors"
    _check_export(checkpoint, {n: t for (s, n), t in tensors["one"].items() if s == "fit"})


def _check_export(checkpoint: Path, tensors: dict[str, torch.Tensor]) -> None:
    """An adapter of a checkpoint becomes one of PEFT."""
    model, folder = WordModel(hidden_size=8, num_layers=1).load()[0], checkpoint.parent
    export_checkpoint(checkpoint, folder / "peft", 1)
    config, parameters = read_adapter(folder / "peft", model)
    own = {name: tensor for name, tensor in tensors.items() if name in parameters}
    tokens = torch.arange(5, 12)[None]
    logits = []
    for stack, index in ((StackedLoRA(model, LoRA(rank=2), own), 1),
                         (StackedLoRA(model, config, parameters), 0)):  # fmt: skip
        with torch.no_grad(), stack.active(torch.tensor([index])):
            logits.append(model(tokens).logits)
    assert torch.equal(logits[0], logits[1])
