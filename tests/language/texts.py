"""Helpers for tests of language models: vocabulary, texts, and settings for trainers."""

from __future__ import annotations

import os
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face library reads it
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

WORDS = "please say yes no maybe thanks one two three four five good bad Critique of the answer:"


def words() -> Any:
    """A tokenizer with a few words."""
    from tests.learners.tiny_language_model import tiny_tokenizer

    return tiny_tokenizer(WORDS.split())


def model(tokenizer: Any, seed: int = 0) -> Any:
    """A model with random weights."""
    from tests.learners.tiny_language_model import tiny_llama

    return tiny_llama(tokenizer, seed)


def lora(base: Any) -> Any:
    """The model with adapters that initially change nothing."""
    import peft

    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return peft.get_peft_model(base, config)


def chat(text: str) -> list[dict[str, str]]:
    """A conversation of one user message."""
    return [{"role": "user", "content": text}]


PAIRS = [
    {"prompt": chat("please say"), "first": "yes thanks", "second": "no", "preferred": True},
    {"prompt": chat("say one two"), "first": "no no bad", "second": "three", "preferred": False},
    {"prompt": chat("maybe"), "first": "good", "second": "bad bad", "preferred": True},
    {"prompt": chat("say two"), "first": "three four", "second": "five", "preferred": True},
]
ANSWERS = [
    {"prompt": chat("say one two"), "completion": "three"},
    {"prompt": chat("please say"), "completion": "yes thanks"},
    {"prompt": chat("say two"), "completion": "three four five"},
    {"prompt": chat("maybe"), "completion": "good"},
]


def settings(folder: Any, kind: Any, **more: Any) -> Any:
    """Settings of a trainer: on the CPU, without output, without checkpoints by default."""
    defaults = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "bf16": False,
        "disable_tqdm": True,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_steps": 1,
        "seed": 0,
    }
    return kind(**{**defaults, **more})


def logged(trainer: Any, name: str) -> list[float]:
    """Logged values of a trainer under a name, by step."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
