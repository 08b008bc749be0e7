"""Language models in this process: weights of transformers from a folder or the hub."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from mores.agents.language.language_model import LanguageModel
from mores.agents.language.models.local_engine import LocalEngine
from mores.agents.language.models.local_loading import load_model, merge_adapter
from mores.agents.language.models.model_files import file_digests, model_folder
from mores.core.errors import ParameterError, UserError

MEGABYTE = 2**20


class LocalModel(LanguageModel):
    """A causal language model of transformers, loaded into this process.

    Description:
        Weights are read from safetensors; pickled weights and code of the model's repository are
        refused. All requests of a phase are computed in one call of the engine
        (`mores.agents.language.models.local_engine`), in batches that are padded to a few sizes.

    Precision:
        In 32 bits the result of a conversation has the same bits whatever else is in the batch, so
        that arms of an experiment differ only where their prompts differ. In 16 bits (`bfloat16`) a
        model takes half the memory, and rounding is 65,000 times coarser: arms whose texts are
        equal stay equal, and another library or machine changes about one token in a hundred.

    Memory:
        Weights, the keys and values of a batch (at most twice `batch_megabytes`), and those of the
        beginnings of prompts that were used last (`kept_megabytes`): rules and personas are
        computed once and not every round.
    """

    path: str = Field(description="folder of the model, or its name on the Hugging Face Hub")
    revision: str = Field(default="", description="commit, branch or tag on the hub; empty: newest")
    adapter: str = Field(
        default="", description="folder of a LoRA adapter in PEFT's format, merged when loaded"
    )
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="precision")
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda(:\d+)?|mps|xpu(:\d+)?)$",
        description="device of PyTorch: cpu, cuda, cuda:1, mps, xpu",
    )
    rows: int = Field(
        default=64, ge=4, le=4096, description="largest number of conversations in a forward pass"
    )
    full: bool = Field(
        default=False,
        description="whether every pass has exactly `rows` rows, filled up with copies, and one "
        "block; false: the smallest of a few numbers of rows with which the bits of a row do not "
        "depend on the others",
    )
    block: int = Field(
        default=16,
        ge=4,
        le=1024,
        description="tokens of a block of a prompt, which is computed and kept as a whole",
    )
    columns: int = Field(
        default=64,
        ge=4,
        le=4096,
        description="prompts are padded to multiples of so many tokens",
    )
    batch_megabytes: int = Field(
        default=2048,
        ge=1,
        description="largest size of the keys and values of a batch, 2^20 bytes; it lowers the "
        "number of rows of long conversations",
    )
    kept_megabytes: int = Field(
        default=256, ge=0, description="largest size of kept beginnings of prompts, 2^20 bytes"
    )

    @model_validator(mode="after")
    def _check_columns(self) -> LocalModel:
        if self.columns % self.block:
            message = f"columns: must be a multiple of block, {self.block}"
            raise ParameterError("columns", message=message, code="conflict")
        return self

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer.

        Raises:
            UserError: a library or file is missing, or the files cannot be loaded safely.
        """
        folder = model_folder(self.path, self.revision)
        return load_model(folder, self.path, getattr(torch, self.dtype))

    def engine(self) -> LocalEngine:
        """See `LanguageModel`."""
        return _engine(type(self), self.model_dump_json())

    def make_engine(self) -> LocalEngine:
        """A new engine with weights of its own; `engine` is shared in the process.

        Raises:
            UserError: see `load`; there is no such device, or no memory on it.
        """
        model, tokenizer = self.load()
        if self.adapter:
            model = merge_adapter(model, self.adapter)
        try:
            model = model.to(self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"cannot move the model to {self.device}: {reason}",
                code="unsupported",
                path="device",
            ) from None
        return LocalEngine(
            model.eval(),
            tokenizer,
            self.rows,
            self.full,
            self.block,
            self.columns,
            self.kept_megabytes * MEGABYTE,
            self.batch_megabytes * MEGABYTE,
        )

    def identity(self) -> Mapping[str, str]:
        """See `LanguageModel`: digests of the files, and what else determines the numbers."""
        folder = model_folder(self.path, self.revision)
        adapter = Path(self.adapter).expanduser() if self.adapter else None
        return {**file_digests(folder, adapter), **self.shapes()}

    def shapes(self) -> dict[str, str]:
        """Library, precision, kind of device and padded shapes."""
        return {
            "library": "transformers",
            "dtype": self.dtype,
            "device": self.device.partition(":")[0],
            "shapes": f"rows {self.rows}{' full' if self.full else ''}, block {self.block}, "
            f"columns {self.columns}",
        }


@functools.cache
def _engine(model_class: type[LocalModel], data: str) -> LocalEngine:
    return model_class.model_validate_json(data).make_engine()
