"""Any `torch.nn.Module` as a network: one module class, stacked over models by `torch.func`.

    @mores.register("network", "my_gru")
    class MyGRU(torch.nn.Module):
        def __init__(self, input_size: int, hidden: int = 32): ...
        def forward(self, observation, recurrent_state): return features, recurrent_state

The protocol of such a class:

- `__init__(self, input_size, ...)`: `input_size` is the length of an observation; the others are
  the parameters of the network in a file (`{kind: my_gru, hidden: 16}`), checked against their
  annotations.
- `recurrent_state_size`, an attribute of the class or of its objects: length of the recurrent state
  of a sample. Without it, or with 0, the network has no memory.
- `forward(observation)` returns the features of observations `[sample, size]` as `[sample, width]`.
  With memory, `forward(observation, recurrent_state)` returns features and the next recurrent state
  `[sample, recurrent]`; the state is zero at the start of an episode.

Forward and backward run for all models at once by `torch.func.functional_call` under `vmap`; a
single model needs no `vmap`, and modules that it does not support, such as `torch.nn.LSTM`, run one
model after another. Each model is constructed with torch's generator seeded from the
random streams of its replicate, so its initial parameters depend on nothing else; the state of the
generator is restored. What the module does in `forward` must depend on its inputs and parameters
alone: `module_checks` runs it to find out.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, create_model
from torch import Tensor

from mores.agents.learning.networks import module_checks
from mores.agents.learning.networks.layers import Parameters
from mores.agents.learning.networks.network import Network
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams

SEED_BITS = 24  # of each of the two uniform numbers that make a seed

# Of an operation that vmap runs one model after another, such as that of `torch.nn.GRUCell`.
warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")


class ModuleNetwork(Network):
    """Network of a `torch.nn.Module`. `as_network` makes a subclass for each class of modules."""

    module_class: ClassVar[type[torch.nn.Module]]

    def features_dim(self, input_size: int) -> int:
        """Number of features, found by running the module."""
        return self._checked(input_size).features_dim

    def recurrent_state_size(self, input_size: int) -> int:
        """As the module declares it."""
        return self._checked(input_size).recurrent_state_size

    def num_other_parameters(self, input_size: int) -> int:
        """Number of parameters of the module."""
        return sum(p.numel() for p in self._checked(input_size).module.parameters())

    def init_other_parameters(
        self, prefix: str, input_size: int, streams: RandomStreams, models_per_replicate: int
    ) -> Mapping[str, Tensor]:
        """The parameters of a newly constructed module for each model."""
        self._checked(input_size)
        uniform = streams.uniform(f"weights/{prefix}", models_per_replicate, 2).flatten(0, 1)
        words = (uniform.double() * 2**SEED_BITS).long().tolist()
        modules = [self._construct(input_size, low | high << SEED_BITS) for low, high in words]
        return {
            f"{prefix}.{name}": torch.stack(
                [module.get_parameter(name).detach() for module in modules]
            ).to(streams.device)
            for name, _ in modules[0].named_parameters()
        }

    def forward_step(
        self, parameters: Parameters, prefix: str, observation: Tensor, recurrent_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step."""
        size = observation.shape[-1]
        forward = self._forward(size, observation.device)
        if not self.recurrent_state_size(size):
            return self._over_models(forward, parameters, prefix, observation), recurrent_state
        return self._over_models(forward, parameters, prefix, observation, recurrent_state)

    def forward_sequence(
        self,
        parameters: Parameters,
        prefix: str,
        observation: Tensor,
        episode_start: Tensor | None,
        recurrent_state: Tensor | None,
    ) -> Tensor:
        """With memory step by step, all models at once."""
        models, samples, steps, size = observation.shape
        length = self.recurrent_state_size(size)
        if not length:
            return super().forward_sequence(parameters, prefix, observation, None, None)
        forward = self._forward(size, observation.device)
        state = recurrent_state
        state = observation.new_zeros(models, samples, length) if state is None else state

        def sequence(
            weights: Parameters, observation: Tensor, state: Tensor, *starts: Tensor
        ) -> Tensor:
            features = []
            for t in range(steps):
                for start in starts:  # one or none
                    state = torch.where(start[:, t, None], 0.0, state)
                output, state = forward(weights, observation[:, t], state)
                features.append(output)
            return torch.stack(features, 1)

        starts = () if episode_start is None else (episode_start,)
        return self._over_models(sequence, parameters, prefix, observation, state, *starts)

    def _over_models(
        self,
        function: Callable[..., Any],
        parameters: Parameters,
        prefix: str,
        observation: Tensor,
        *inputs: Tensor,
    ) -> Any:
        """Results of a function of a model's weights and inputs for all models, `[model, ...]`."""
        checked = self._checked(observation.shape[-1])
        weights = {name: parameters[f"{prefix}.{name}"] for name in checked.parameter_names}
        if checked.vectorized and len(observation) > 1:
            return torch.func.vmap(function, randomness="error")(weights, observation, *inputs)
        names, columns = list(weights), [each.unbind() for each in weights.values()]
        results = [
            function(dict(zip(names, row[: len(names)], strict=True)), *row[len(names) :])
            for row in zip(*columns, observation, *inputs, strict=True)
        ]
        if isinstance(results[0], tuple):
            return tuple(torch.stack(part) for part in zip(*results, strict=True))
        return torch.stack(results)

    def _forward(self, input_size: int, device: torch.device) -> Callable[..., Any]:
        """Function of parameters and inputs of one model."""
        module = self._checked(input_size).on(device)
        return lambda weights, *inputs: torch.func.functional_call(module, weights, inputs)

    def _construct(self, input_size: int, seed: int) -> torch.nn.Module:
        """A new module whose initial parameters depend on the seed alone."""
        arguments = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
        }
        with seeded(seed), torch.device("cpu"):
            return self.module_class(input_size=input_size, **arguments)

    def _checked(self, input_size: int) -> module_checks.CheckedModule:
        known = self._checked_modules
        if input_size not in known:
            construct = functools.partial(self._construct, input_size)
            name = self.module_class.__name__
            known[input_size] = module_checks.check_module(name, construct, input_size)
        return known[input_size]

    @functools.cached_property
    def _checked_modules(self) -> dict[int, module_checks.CheckedModule]:
        """Modules by input size. Their parameters are not used, their buffers are."""
        return {}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator of the CPU with a seed; its state is restored."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def as_network(kind: str, entry: Any) -> Any:
    """The network class of a class of `torch.nn.Module`; other entries are returned unchanged.

    Raises:
        UserError: the constructor does not follow the protocol.
    """
    if not (isinstance(entry, type) and issubclass(entry, torch.nn.Module)):
        return entry
    fields = {}
    hints = _type_hints(entry)
    parameters = list(inspect.signature(entry).parameters.values())
    if "input_size" not in [parameter.name for parameter in parameters]:
        _refuse(kind, entry, "needs a parameter `input_size`, the length of an observation")
    for parameter in parameters:
        name = parameter.name
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            _refuse(kind, entry, f"must name its parameters; {parameter} has no name for a file")
        if name == "kind" or name.startswith("_"):
            _refuse(kind, entry, f"must not have a parameter named {name!r}")
        if name == "input_size":
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        if isinstance(default, type) or (callable(default) and default is not ...):
            continue  # such as `activation=nn.ReLU`: no file can hold it, so it stays as it is
        inferred = Any if default is ... or default is None else type(default)
        # A name that networks use, such as `layers`, is one of the file alone.
        field_name = f"{name}_" if hasattr(ModuleNetwork, name) else name
        fields[field_name] = (hints.get(name, inferred), Field(default=default, alias=name))
    network = create_model(entry.__name__, __base__=ModuleNetwork, __doc__=entry.__doc__, **fields)
    network.module_class = entry
    return network


def _type_hints(module_class: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(module_class.__init__)
    except NameError:  # names that are imported for type checkers only
        return {}


def _refuse(kind: str, entry: type, reason: str) -> typing.NoReturn:
    message = f"network {kind!r}: the constructor of {entry.__name__} {reason}"
    raise UserError(message, code="wrong_type", path=kind)
