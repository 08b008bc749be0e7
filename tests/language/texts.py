"""What the tests of language models share: words, texts, and quiet settings for trainers."""

from __future__ import annotations

import os
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face reads it
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

WORDS = "please say yes no maybe thanks one two three four five good bad Judgement of the answer:"


def words() -> Any:
    """A tokenizer that knows a few words."""
    from tests.learners.tiny_language_model import tiny_tokenizer

    return tiny_tokenizer(WORDS.split())


def model(tokenizer: Any, seed: int = 0) -> Any:
    """A model with random weights."""
    from tests.learners.tiny_language_model import tiny_llama

    return tiny_llama(tokenizer, seed)


def lora(base: Any) -> Any:
    """The model with adapters that change nothing yet."""
    import peft

    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return peft.get_peft_model(base, config)


def chat(text: str) -> list[dict[str, str]]:
    """A conversation that begins with this."""
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
    """Settings of a trainer: on the CPU, silent, nothing saved unless asked for."""
    quiet = {
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
    return kind(**{**quiet, **more})


def logged(trainer: Any, name: str) -> list[float]:
    """What a trainer logged under a name, step by step."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
