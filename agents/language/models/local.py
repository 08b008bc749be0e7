"""Language models in process: weights of transformers from a folder or the hub."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field

from mores.agents.language.language_model import LanguageModel
from mores.agents.language.models.local_engine import LocalEngine
from mores.agents.language.optional_imports import import_optional


class LocalModel(LanguageModel):
    """A causal language model of transformers, loaded into this process."""

    path: str = Field(description="folder of the model, or its name on the hub")
    rows: int = Field(
        default=64, ge=4, le=4096, description="largest number of conversations in a forward pass"
    )

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        transformers = import_optional("transformers")
        transformers.utils.logging.disable_progress_bar()
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            self.path, dtype=torch.float32, use_safetensors=True
        )
        return model.eval(), tokenizer

    def engine(self) -> LocalEngine:
        """See `LanguageModel`."""
        return _engine(type(self), self.model_dump_json())

    def identity(self) -> Mapping[str, str]:
        """See `LanguageModel`."""
        return {"path": self.path}


@functools.cache
def _engine(model_class: type[LocalModel], data: str) -> LocalEngine:
    specification = model_class.model_validate_json(data)
    return LocalEngine(*specification.load(), specification.rows)
