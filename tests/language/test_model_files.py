"""Folders of models and adapters that are incomplete, damaged, or name something outside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face library reads it

import pytest
import torch

from mores.agents.language.language_model import Message, ScoreRequest
from mores.agents.language.models.local import LocalModel
from mores.agents.language.models.tiny import tiny_model
from tests.refusals import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model."""
    model, tokenizer = tiny_model(8, 1, 0)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A saved adapter of PEFT."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(tiny_model(8, 1, 0)[0], config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def edit(file: Path, **changes: Any) -> None:
    """Change names of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def edit_tensors(file: Path, change: Any) -> None:
    """Change the tensors of a file."""
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(file)), file, metadata={"format": "pt"})


CHANGES = {
    "none": lambda _: {"foo\x1b[31m": torch.zeros(1)},
    "missing": lambda tensors: dict(list(tensors.items())[2:]),
    "unexpected": lambda tensors: {**tensors, "other\n": torch.zeros(1)},
    "another shape": lambda tensors: {**tensors, "lm_head.weight": torch.zeros(3, 8)},
}


@pytest.mark.parametrize("change", tuple(CHANGES))
def test_every_weight_is_in_the_file(
    folder: Path, change: str, capfd: pytest.CaptureFixture[str]
) -> None:
    edit_tensors(folder / "model.safetensors", CHANGES[change])
    with refused("incompatible", path="path"):
        LocalModel(path=str(folder)).make_engine()
    assert capfd.readouterr().err == ""  # no report of transformers, with names as they are


@pytest.mark.parametrize("name", ["../model.safetensors", "model.bin", None])
def test_an_index_names_files_of_the_folder(folder: Path, name: str | None) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with refused("unreadable", path=str(index)):
        LocalModel(path=str(folder)).make_engine()


def test_layers_without_weights_are_refused(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=3)
    with refused("incompatible", path="path"):
        LocalModel(path=str(folder)).make_engine()


def test_tied_weights_are_not_missing(folder: Path) -> None:
    edit(folder / "config.json", tie_word_embeddings=True)
    edit_tensors(
        folder / "model.safetensors",
        lambda tensors: {n: t for n, t in tensors.items() if n != "lm_head.weight"},
    )
    model = LocalModel(path=str(folder)).make_engine().model
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("transformers_weights", "adapter_model.bin", "unsupported"),
        ("attn_implementation", "kernels-community/flash-attn", "unsupported"),
        ("num_hidden_layers", 10**9, "too_large"),
        ("vocab_size", 1e30, "too_large"),
    ],
)
def test_a_configuration_names_no_other_file_or_code(
    folder: Path, name: str, value: Any, code: str
) -> None:
    edit(folder / "config.json", **{name: value})
    with refused(code, path=name):
        LocalModel(path=str(folder)).make_engine()


@pytest.mark.parametrize(
    ("value", "code"),
    [(10**6, "out_of_range"), ([1, -1], "out_of_range"), (1.5, "wrong_type"), ("ab", "wrong_type"),
     ([[1]], "wrong_type"), (True, "wrong_type")],
)  # fmt: skip
def test_end_tokens_are_tokens_of_the_model(folder: Path, value: Any, code: str) -> None:
    edit(folder / "generation_config.json", eos_token_id=value)
    with refused(code, path="eos_token_id"):
        LocalModel(path=str(folder)).make_engine()


def test_a_tokenizer_has_no_more_tokens_than_the_model(folder: Path) -> None:
    """Where one is used: some tokenizers have more, for images, and texts never name them."""
    tokenizer = tiny_model(8, 1, 0)[1]
    tokenizer.add_tokens(["hello"])
    tokenizer.save_pretrained(folder)
    engine = LocalModel(path=str(folder)).make_engine()
    for question, reply in (("hello", "A"), ("A", "hello")):
        with refused("incompatible", path="tokenizer"):
            engine.score([ScoreRequest((Message("user", question),), (reply,))])
    tokenizer.add_special_tokens({"eos_token": "<|new|>"})
    tokenizer.save_pretrained(folder)
    with refused("incompatible", path="tokenizer"):
        LocalModel(path=str(folder)).make_engine()


def test_the_default_attention_is_the_one_that_is_named(folder: Path) -> None:
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    loaded, _ = LocalModel(path=str(folder)).load()
    assert plain.config._attn_implementation == loaded.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("kind", ["folder", "link to itself", "link to a device"])
def test_weights_are_a_regular_file(folder: Path, kind: str) -> None:
    weights = folder / "model.safetensors"
    weights.unlink()
    if kind == "folder":
        weights.mkdir()
    else:
        weights.symlink_to(weights if "itself" in kind else Path("/dev/zero"))
    for call in (LocalModel(path=str(folder)).identity, LocalModel(path=str(folder)).make_engine):
        with refused("unreadable"):
            call()


def test_damaged_files_of_the_tokenizer_are_told_in_one_line(folder: Path) -> None:
    template = folder / "chat_template.jinja"
    template.write_bytes(b"\xff\xfe")
    with refused("unreadable", path=str(template)):
        LocalModel(path=str(folder)).identity()
    template.unlink()
    config = folder / "tokenizer_config.json"
    config.write_text("[1]")
    with refused("unreadable", path=str(config)):
        LocalModel(path=str(folder)).identity()


def test_an_adapter_is_no_model(folder: Path, adapter: Path) -> None:
    (folder / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    for path in (folder, adapter):
        with refused("invalid_value", path="path"):
            LocalModel(path=str(path)).identity()
        with refused("invalid_value", path="path"):
            LocalModel(path=str(path)).make_engine()


def test_every_weight_of_an_adapter_is_used(folder: Path, adapter: Path) -> None:
    edit_tensors(
        adapter / "adapter_model.safetensors",
        lambda tensors: {n.replace("q_proj", "zzz\x1b"): t for n, t in tensors.items()},
    )
    with refused("incompatible", path="adapter"):
        LocalModel(path=str(folder), adapter=str(adapter)).make_engine()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("target_modules", "(a+)+$", "wrong_type"),
        ("peft_type", "PROMPT_TUNING", "unsupported"),
        ("rank_pattern", {"(a+)+$": 3}, "unsupported"),
        ("megatron_config", {"a": 1}, "unsupported"),
    ],
)
def test_an_adapter_names_neither_patterns_nor_modules(
    folder: Path, adapter: Path, name: str, value: Any, code: str
) -> None:
    edit(adapter / "adapter_config.json", **{name: value})
    with refused(code, path=name):
        LocalModel(path=str(folder), adapter=str(adapter)).make_engine()


def test_a_misspelled_kind_is_told() -> None:
    with pytest.raises(Exception, match="did you mean 'tiny'"):
        LocalModel(path="tinny").identity()
