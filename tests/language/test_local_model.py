"""Loading local models: digests, safe files, adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.language_model import GenerateRequest, ScoreRequest
from mores.agents.language.models.local import LocalModel
from mores.agents.language.models.tiny import TinyModel, tiny_model
from mores.core.errors import UserError
from tests.language.local_engines import conversation, engine, noise
from tests.refusals import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model."""
    model, tokenizer = tiny_model(8, 1, 0)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


REQUESTS = [ScoreRequest(conversation(i), ("Yes", "No")) for i in range(3)]


def test_a_saved_model_gives_the_same_scores(folder: Path) -> None:
    saved, drawn = LocalModel(path=str(folder)), TinyModel(hidden_size=8, num_layers=1)
    assert saved.engine().score(REQUESTS) == drawn.engine().score(REQUESTS)
    assert saved.engine() is LocalModel(path=str(folder)).engine()


def test_the_identity_covers_whatever_determines_the_numbers(folder: Path) -> None:
    model = LocalModel(path=str(folder))
    identity = dict(model.identity())
    assert LocalModel(path=str(folder)).identity() == identity
    changed = {
        "dtype": LocalModel(path=str(folder), dtype="bfloat16"),
        "shapes": LocalModel(path=str(folder), rows=16),
    }
    for part, other in changed.items():
        found = other.identity()
        assert {name for name in identity if found[name] != identity[name]} == {part}
    other_model, _ = tiny_model(8, 1, 1)
    other_model.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# #}")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "extra": 1}))
    found = model.identity()
    differing = {name for name in identity if found[name] != identity[name]}
    assert differing == {"weights", "chat_template", "tokenizer"}
    assert TinyModel().identity() != TinyModel(weights_seed=1).identity()


def test_half_precision_gives_similar_scores(folder: Path) -> None:
    exact = LocalModel(path=str(folder)).engine().score(REQUESTS)
    half = LocalModel(path=str(folder), dtype="bfloat16").engine().score(REQUESTS)
    for one, other in zip(exact, half, strict=True):
        assert other.logps == pytest.approx(one.logps, abs=0.5) and other.logps != one.logps


def test_models_that_cannot_be_loaded_safely_are_refused(folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((folder / "config.json").read_text())
    with refused("unreadable", path="path"):
        LocalModel(path=str(pickled)).engine()
    (pickled / "pytorch_model.bin").write_bytes(b"")
    with refused("unreadable", path="path"):
        LocalModel(path=str(pickled)).engine()
    for unknown in ("nobody/no-such-model", "no folder\nat all"):
        with pytest.raises(UserError, match="no folder of that name") as raised:
            LocalModel(path=unknown).identity()
        assert raised.value.code == "unreadable" and "\n" not in str(raised.value)


def test_code_of_a_model_is_not_executed(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('executed')")
    with pytest.raises(Exception, match="trust_remote_code"):
        LocalModel(path=str(folder)).engine()


def test_other_mistakes_are_told_in_one_line(folder: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cannot move the model to cuda") as raised:
            LocalModel(path=str(folder), device="cuda").engine()
        assert raised.value.path == "device"
    with refused("unreadable", path="adapter"):
        LocalModel(path=str(folder), adapter=str(folder)).engine()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(Exception, match="cannot read"):
        LocalModel(path=str(folder)).engine()


# --- adapters -------------------------------------------------------------------------------------


def stacked(model: Any, count: int = 3) -> StackedLoRA:
    """Random adapters."""
    config, generator = LoRA(rank=2), torch.Generator().manual_seed(0)
    parameters = {
        name: torch.randn(count, *shape, generator=generator)
        for name, shape in config.parameter_shapes(model).items()
    }
    return StackedLoRA(model, config, parameters)


def test_rows_of_a_pass_have_their_own_adapters() -> None:
    own = engine()
    own.adapters = stacked(own.model)
    requests = [
        ScoreRequest(conversation(i % 2, i), ("Yes", "No"), adapter=i % 4 - 1) for i in range(12)
    ]
    drawn = [GenerateRequest(r.conversation, 6, adapter=r.adapter) for r in requests]
    scores, replies = own.score(requests), own.generate(drawn, noise)
    assert own.score(requests[::-1]) == scores[::-1]
    for adapter in range(-1, 3):
        merged = engine(seed=0)
        if adapter >= 0:
            for name, weight in own.adapters.merged(adapter).items():
                merged.model.get_submodule(name).weight.data.copy_(weight)
        chosen = [i for i, request in enumerate(requests) if request.adapter == adapter]
        alone = merged.score(
            [ScoreRequest(requests[i].conversation, ("Yes", "No")) for i in chosen]
        )
        for i, score in zip(chosen, alone, strict=True):
            assert score.logps == pytest.approx(scores[i].logps, abs=1e-4)
            if adapter < 0:
                assert score == scores[i]
        (reply,) = own.generate([drawn[chosen[0]]], lambda _, p, i=chosen[0]: noise([i], p))
        assert reply == replies[chosen[0]]


def test_beginnings_of_changed_adapters_are_computed_again() -> None:
    own = engine()
    adapters = own.adapters = stacked(own.model)
    request = ScoreRequest(conversation(0), ("Yes",), adapter=1)
    before = own.score([request])
    for parameter in adapters.parameters.values():
        parameter.mul_(2.0)
    after = own.score([request])
    own.store.clear()
    assert own.score([request]) == after != before


def test_a_fixed_adapter_is_merged(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, _ = tiny_model(8, 1, 0)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    adapted = LocalModel(path=str(folder), adapter=str(tmp_path / "adapter"))
    base = LocalModel(path=str(folder))
    assert adapted.engine().score(REQUESTS) != base.engine().score(REQUESTS)
    assert adapted.identity()["adapter"] and "adapter" not in base.identity()
