"""Adapters in PEFT's format: `adapter_model.safetensors` and `adapter_config.json` in a folder.

One adapter of a stack is a LoRA of PEFT: `peft.PeftModel.from_pretrained(model, folder)` gives its
logits, and vLLM or `transformers serve` load it beside the base model. Files hold tensors and JSON;
nothing in them is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mores.agents.language.adapters import LoRA
from mores.core.errors import UserError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX, SUFFIX = "base_model.model.", ".weight"  # around the name of a parameter, in PEFT's files
# Settings of PEFT under which an adapter would be another function; others have no effect on it.
UNSUPPORTED: Mapping[str, Sequence[Any]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": ([], None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "trainable_token_indices": ([], {}, None),
    "target_parameters": ([], None),
    "layer_replication": ([], None),
    "lora_bias": (False, None),
}


def write_adapter(
    folder: str | Path,
    config: LoRA,
    parameters: Mapping[str, Tensor],
    index: int,
    base_model: str = "",
) -> None:
    """Write one adapter of a stack.

    Args:
        folder: made if it does not exist.
        config: size and place of the adapters.
        parameters: of the stack, `[adapter, out, in]`, as in `StackedLoRA`; other tensors, of a
            learner's checkpoint, are left out.
        index: number of the adapter in the stack.
        base_model: name or folder of the base model, for the config.

    Raises:
        UserError: there is no such adapter.
    """
    from safetensors.torch import save_file

    own = {name: tensor for name, tensor in parameters.items() if _is_adapter(name)}
    count = len(next(iter(own.values()))) if own else 0
    if not 0 <= index < count:
        raise UserError(
            f"there is no adapter {index}: the stack has {count}", code="out_of_range", path="index"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{PREFIX}{name}{SUFFIX}": tensor[index].detach().cpu().contiguous().clone()
        for name, tensor in own.items()
    }
    numbers = sorted({int(part) for name in own for part in name.split(".") if part.isdigit()})
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(config.target_modules),
        "layers_to_transform": None if config.layers is None else numbers,
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def export_checkpoint(
    checkpoint: str | Path, folder: str | Path, index: int = 0, member: int | None = None
) -> LoRA:
    """Write an adapter of a checkpoint of a run in PEFT's format; its size and place.

    Args:
        checkpoint: `RUN/cells/CELL/checkpoints/STAGE.ROLE.safetensors`, beside its `.json`.
        folder: made if it does not exist.
        index: number of the adapter: replicate by replicate, those of a replicate in order.
        member: number of the learner in a policy `per_agent`; `None`: the policy is the learner.

    Raises:
        UserError: there is no such checkpoint, learner or adapter.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(checkpoint)
    try:
        policy = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["policy"]
        tensors = load_file(path)
        if member is not None:
            policy = policy["policies"][member]
            prefix = f"policy {member}/"
            tensors = {
                n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)
            }
        if policy["kind"] != "language_learner":
            raise ValueError(f"the policy is of kind {policy['kind']}")
        config = LoRA.model_validate_json(json.dumps(policy["adapters"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, SafetensorError) as error:
        raise UserError(
            f"{path}: no checkpoint of a language learner: {error}",
            code="unreadable",
            path=str(path),
        ) from None
    base_model = policy["model"].get("path") or policy["model"]["kind"]
    write_adapter(folder, config, tensors, index, base_model)
    return config


def read_adapter(folder: str | Path, model: nn.Module) -> tuple[LoRA, dict[str, Tensor]]:
    """Config, and parameters `[1, ...]` by name, of an adapter in PEFT's format.

    Args:
        folder: with both files.
        model: the base model.

    Raises:
        UserError: a file is missing or unreadable; it is no plain LoRA, or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{folder}: no adapter in PEFT's format: {error}", code="unreadable", path=str(folder)
        ) from None
    if not isinstance(content, dict) or content.get("peft_type") != "LORA":
        raise UserError(f"{folder}: not a LoRA", code="unsupported", path="peft_type")
    for name, allowed in UNSUPPORTED.items():
        if content.get(name) not in allowed:
            raise UserError(
                f"{folder}: {name}: {content[name]!r:.60} is not supported",
                code="unsupported",
                path=name,
            )
    parameters = {
        name.removeprefix(PREFIX).removesuffix(SUFFIX): tensor.float()[None]
        for name, tensor in tensors.items()
    }
    config = _config(content, parameters)
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in parameters.items()}
    if shapes != config.parameter_shapes(model):
        raise UserError(
            f"{folder}: its layers and sizes are not those of the model",
            code="incompatible",
            path=WEIGHTS,
        )
    # In the order of the model's layers, as every stack.
    return config, {name: parameters[name] for name in config.parameter_shapes(model)}


def stack_adapters(adapters: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """One stack of several adapters of equal size and place."""
    return {name: torch.cat([each[name] for each in adapters]) for name in adapters[0]}


def _config(content: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> LoRA:
    """Size and place, from PEFT's config and the names of layers."""
    numbers = {int(part) for name in parameters for part in name.split(".") if part.isdigit()}
    chosen = content.get("layers_to_transform") is not None
    targets = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in parameters}
    return LoRA(
        rank=int(content["r"]),
        alpha=float(content["lora_alpha"]),
        target_modules=tuple(sorted(targets)),
        layers=len(numbers) if chosen else None,
    )


def _is_adapter(name: str) -> bool:
    return name.endswith((".lora_A", ".lora_B"))
