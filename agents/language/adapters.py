"""Stacked LoRA adapters: P independent adapters of one frozen language model.

For a linear layer with weight W, and adapter p of rank r (Hu et al. 2021, arXiv 2106.09685),

    y = W x + (alpha / r) B_p A_p x,        A_p [r, in],  B_p [out, r].

The adapters of all agents, roles and replicates are stacked, `[adapter, r, in]` and
`[adapter, out, r]` by layer, and the rows of a batch choose theirs: one forward pass serves all of
them, in training as well. (PEFT 0.21 mixes adapters in inference only.) The result of a row does
not depend on the adapters of other rows, and the gradient of an adapter comes from its own rows
alone. Without gradients, a token has the same bits in passes of any number of rows and columns, as
in the base model (`models.row_independence`): engines compute equal prompts in different passes.

B begins at 0, so that every adapter begins as the base model; A is uniform in +-1/sqrt(in), as in
PEFT, from random streams: replicate 37 alone has the same adapter as among others. There is no
dropout. `adapter_files` reads and writes PEFT's format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from mores.agents.language.models.row_independence import least_independent_rows
from mores.core.config import Config
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import RandomStreams

BASE_MODEL = -1  # index of a row without an adapter
LAYER_NUMBER = re.compile(r"\.(\d+)\.")  # of a module's name: `model.layers.3.mlp.up_proj`


class LoRA(Config):
    """Size and place of the adapters of a model."""

    rank: int = Field(default=8, ge=1, le=4096, description="rank r of the change of a layer")
    alpha: float = Field(
        default=16.0, gt=0, le=1e6, description="scale: changes are multiplied by alpha / rank"
    )
    target_modules: tuple[str, ...] = Field(
        default=("q_proj", "v_proj"),
        description="linear layers with an adapter, by the ends of their names",
    )
    layers: int | None = Field(
        default=None, ge=1, description="number of upper layers with adapters; null: all"
    )

    @field_validator("target_modules")
    @classmethod
    def _check_target_modules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names) or not all(names):
            raise ValueError("target_modules: at least one name, each once")
        return names

    @property
    def scale(self) -> float:
        """Factor of B A x."""
        return self.alpha / self.rank

    def modules(self, model: nn.Module) -> dict[str, nn.Linear]:
        """Linear layers with an adapter, by name: within the numbered layers of the model.

        The output layer has none: engines apply it to some positions of some rows only.

        Raises:
            UserError: a target is no linear layer of the model, or there are fewer layers.
        """
        numbered = {
            name: (number, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and (number := _layer_number(name)) is not None
        }
        num_layers = 1 + max((number for number, _ in numbered.values()), default=-1)
        if self.layers is not None and self.layers > num_layers:
            raise UserError(
                f"layers: the model has {num_layers}, not {self.layers}",
                code="out_of_range",
                path="layers",
            )
        first = 0 if self.layers is None else num_layers - self.layers
        for target in self.target_modules:
            if not any(_ends_with(name, target) for name in numbered):
                endings = sorted({name.rpartition(".")[2] for name in numbered})
                raise UserError(
                    f"target_modules: the layers of the model have no linear module {target!r}"
                    f"{did_you_mean(target, endings)}",
                    code="unknown_name",
                    path="target_modules",
                )
        return {
            name: module
            for name, (number, module) in numbered.items()
            if number >= first and any(_ends_with(name, t) for t in self.target_modules)
        }

    def parameter_shapes(self, model: nn.Module) -> dict[str, tuple[int, int]]:
        """Shape of each parameter of an adapter, by name, in the order of the layers."""
        shapes = {}
        for name, module in self.modules(model).items():
            shapes[f"{name}.lora_A"] = (self.rank, module.in_features)
            shapes[f"{name}.lora_B"] = (module.out_features, self.rank)
        return shapes

    def num_parameters(self, model: nn.Module) -> int:
        """Number of parameters of an adapter."""
        return sum(math.prod(shape) for shape in self.parameter_shapes(model).values())

    def init_parameters(
        self, model: nn.Module, streams: RandomStreams, adapters_per_replicate: int = 1
    ) -> dict[str, Tensor]:
        """Initial adapters, `[replicate * adapters_per_replicate, ...]` by name.

        Args:
            model: the base model.
            streams: random streams of the first world of each replicate.
            adapters_per_replicate: adapters in each replicate.
        """
        num_adapters = streams.num_worlds * adapters_per_replicate
        parameters = {}
        for name, shape in self.parameter_shapes(model).items():
            if name.endswith(".lora_B"):
                parameters[name] = torch.zeros(num_adapters, *shape, device=streams.device)
                continue
            uniform = streams.uniform(
                f"weights/{name}", adapters_per_replicate, math.prod(shape)
            ).reshape(num_adapters, *shape)
            parameters[name] = (2.0 * uniform - 1.0) / math.sqrt(shape[1])
        return parameters


def _ends_with(name: str, target: str) -> bool:
    """Whether the last parts of a module's name are those of a target."""
    return f".{name}".endswith(f".{target}")


def _layer_number(name: str) -> int | None:
    """Number of the layer that a module belongs to."""
    found = LAYER_NUMBER.search(name)
    return None if found is None else int(found[1])


@dataclasses.dataclass(frozen=True)
class StackedLoRA:
    """P adapters of one base model: an `AdapterSet` for engines.

    Attributes:
        model: the base model; its weights are not changed.
        config: size and place of the adapters.
        parameters: A and B by name, `LAYER.lora_A` and `LAYER.lora_B`, `[adapter, ...]` each:
            leaves of autograd, or plain tensors.
    """

    model: nn.Module
    config: LoRA
    parameters: Mapping[str, Tensor]

    @functools.cached_property
    def modules(self) -> dict[str, nn.Linear]:
        """Linear layers with an adapter, by name."""
        return self.config.modules(self.model)

    @property
    def num_adapters(self) -> int:
        """Number of adapters P."""
        return len(next(iter(self.parameters.values())))

    @property
    def revision(self) -> int:
        """A number that changes whenever what the adapters do changes: a digest.

        It covers size and place of the adapters, and the name, shape and values of each parameter.
        Weights change in place, by optimizers whose kernels leave no trace on the tensor.
        """
        digest = hashlib.blake2b(self.config.model_dump_json().encode(), digest_size=8)
        for name, tensor in self.parameters.items():
            digest.update(f"\n{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return int.from_bytes(digest.digest(), "big")

    @contextlib.contextmanager
    def active(self, rows: Int[Tensor, " row"]) -> Iterator[None]:
        """Context in which the rows of a batch have their adapters.

        Args:
            rows: index of the adapter of each row of the inputs; -1: the base model.

        Raises:
            UserError: an index is out of range.
        """
        if bool(((rows < BASE_MODEL) | (rows >= self.num_adapters)).any()):
            raise UserError(
                f"adapters go from 0 to {self.num_adapters - 1}, or -1 for the base model",
                code="out_of_range",
                path="adapter",
            )
        handles = []
        try:
            if bool((rows != BASE_MODEL).any()):
                make_hook = self._joint_hooks if torch.is_grad_enabled() else self._separate_hooks
                for name, hook in make_hook(rows):
                    handles.append(self.modules[name].register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    # Hooks are partials, not closures: tests check annotations whenever a function is defined.

    def _joint_hooks(self, rows: Int[Tensor, " row"]) -> Iterator[tuple[str, Any]]:
        """Hooks that compute all rows in one batch of products, with gradients."""
        is_base = rows == BASE_MODEL
        mask = is_base[:, None, None] if bool(is_base.any()) else None
        index = rows.clamp(min=0)
        for name, module in self.modules.items():
            device = module.weight.device
            down = self.parameters[f"{name}.lora_A"].to(device)[index].mT  # row in rank
            up = self.parameters[f"{name}.lora_B"].to(device)[index].mT * self.config.scale
            yield name, functools.partial(_add_joint_changes, down, up, mask)

    def _separate_hooks(self, rows: Int[Tensor, " row"]) -> Iterator[tuple[str, Any]]:
        """Hooks whose products give a position the same bits in a pass of any shape."""
        indices = [index for index in rows.unique().tolist() if index != BASE_MODEL]
        places = [(rows == index).nonzero()[:, 0] for index in indices]
        for name, module in self.modules.items():
            device = module.weight.device
            down = self.parameters[f"{name}.lora_A"][indices].to(device)  # adapter rank in
            up = self.parameters[f"{name}.lora_B"][indices].to(device) * self.config.scale
            if self.config.rank == 1:  # a product with a vector is computed in another way
                down, up = functional.pad(down, (0, 0, 0, 1)), functional.pad(up, (0, 1))
            least = _least_rows(*down.shape[1:], up.shape[1])
            yield name, functools.partial(_add_separate_changes, down, up, places, least)

    def merged(self, adapter: int) -> dict[str, Float[Tensor, "out in"]]:
        """Weights of the layers with one adapter merged into them, by name."""
        return {
            name: module.weight
            + self.config.scale
            * (
                self.parameters[f"{name}.lora_B"][adapter]
                @ self.parameters[f"{name}.lora_A"][adapter]
            ).to(module.weight.dtype)
            for name, module in self.modules.items()
        }


@functools.cache
def _least_rows(rank: int, in_features: int, out_features: int) -> int:
    """Number of rows from which products of these sizes do not depend on it."""
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from torch's generator
        layers = (nn.Linear(in_features, rank, False), nn.Linear(rank, out_features, False))
    return least_independent_rows(nn.ModuleList(layers))


def _add_joint_changes(
    down: Float[Tensor, "row in rank"],
    up: Float[Tensor, "row rank out"],
    is_base: Tensor | None,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    """Forward hook of a layer: its output with the changes of the rows' adapters."""
    change = torch.bmm(torch.bmm(inputs[0].to(down.dtype), down), up)
    changed = output + change.to(output.dtype)
    return changed if is_base is None else torch.where(is_base, output, changed)


def _add_separate_changes(
    down: Float[Tensor, "adapter rank in"],
    up: Float[Tensor, "adapter out rank"],
    places: Sequence[Int[Tensor, " _place"]],
    least_rows: int,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    """The same, adapter by adapter: `places` are the rows of each."""
    changed = output.clone()
    for a, b, place in zip(down, up, places, strict=True):
        x = inputs[0][place].to(a.dtype)  # row position in
        flat = x.flatten(0, 1)
        count = len(flat)
        if count < least_rows:
            flat = functional.pad(flat, (0, 0, 0, least_rows - count))
        change = functional.linear(functional.linear(flat, a), b)[:count]
        changed[place] += change.unflatten(0, x.shape[:2]).to(output.dtype)
    return changed
