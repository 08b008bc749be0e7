"""A language role of a scenario as a task of Inspect; its log, opened by Inspect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import mores
from tests.refusals import refused

SCENARIO = """\
name: dilemma
about: A model against a rule.
env: {kind: matrix_game, payoffs: prisoners_dilemma}
policies: {player: {kind: language, model: tiny, persona: {kind: text, content: You are fair.}}}
rounds: 3
replicates: 3
metrics: [cooperation_rate]
control: both
arms: {both: {}, rule: {policies.player: {kind: random}}}
"""


@pytest.fixture
def scenario_file(tmp_path: Path) -> str:
    file = tmp_path / "dilemma.yaml"
    file.write_text(SCENARIO)
    return str(file)


def scripted_model(replies: list[str]) -> Any:
    """A model of Inspect with given replies; it counts words as tokens, without a download."""
    from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, get_model, modelapi

    @modelapi(name="scripted")
    class Scripted(ModelAPI):
        async def generate(self, *args: Any, **kwargs: Any) -> ModelOutput:
            output = ModelOutput.from_content("scripted", replies.pop(0))
            output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
            return output

        async def count_text_tokens(self, text: str) -> int:
            return len(text.split())

    assert Scripted
    return get_model("scripted/replies", memoize=False)


def test_a_model_of_inspect_plays_a_role(scenario_file: str, tmp_path: Path) -> None:
    """Two agents and three rounds in each sample; the last sample always cooperates (option 1)."""
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.log import list_eval_logs, read_eval_log

    model = scripted_model(["1", "1", "2", "<script>2</script>", "1", "2", *["2"] * 6, *["1"] * 6])
    task = mores.inspect_task(scenario_file, role="player")
    folder = tmp_path / "logs"
    options = {"log_dir": str(folder), "display": "none", "max_samples": 1}
    log = inspect_ai.eval(task, model=model, **options)[0]
    assert log.status == "success"
    stored = read_eval_log(list_eval_logs(str(folder))[0].name)
    assert stored.samples is not None
    assert len(stored.samples) == 3
    rates = [each.scores["mores_metrics"].value["cooperation_rate"] for each in stored.samples]
    assert rates[1:] == [0.0, 1.0]
    sample = stored.samples[0]
    value = sample.scores["mores_metrics"].value
    assert value["unparsable"] == 1
    assert {"return", "cooperation_rate"} <= value.keys()
    texts = [message.text for message in sample.messages]
    assert any("You are fair." in text for text in texts)
    assert "<script>2</script>" in texts
    assert stored.stats.model_usage


def test_wrong_arguments(scenario_file: str) -> None:
    pytest.importorskip("inspect_ai")
    with refused("unknown_name", path="arm"):
        mores.inspect_task(scenario_file, role="player", arm="bothh")
    with refused("unknown_name", path="role"):
        mores.inspect_task(scenario_file, role="playr")
    with refused("unsupported", path="role"):
        mores.inspect_task(scenario_file, role="player", arm="rule")


def test_without_inspect_it_says_what_to_install(
    scenario_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with refused("not_installed", path="inspect_ai"):
        mores.inspect_task(scenario_file, role="player")


def test_points_of_a_scale_are_the_numbers_of_its_options(tmp_path: Path) -> None:
    """A rating from -10 to 10 in five points: the reply 4 is 5."""
    inspect_ai = pytest.importorskip("inspect_ai")
    file = tmp_path / "panel.yaml"
    file.write_text(
        "name: panel\nabout: Answers on a scale.\n"
        "env: {kind: panel, num_people: 2, low: -10, high: 10, num_waves: 2, wave_interval: 1}\n"
        "policies: {person: {kind: language, readout: {kind: expected_rating, points: 5}}}\n"
        "rounds: 2\nreplicates: 1\nmetrics: [mean_answer]\n"
    )
    task = mores.inspect_task(str(file), role="person")
    options = {"log_dir": str(tmp_path / "logs"), "display": "none"}
    log = inspect_ai.eval(task, model=scripted_model(["4"] * 4), **options)[0]
    assert log.status == "success"
    assert log.samples[0].scores["mores_metrics"].value["unparsable"] == 0
    assert log.samples[0].scores["mores_metrics"].value["mean_answer"] == 5.0
