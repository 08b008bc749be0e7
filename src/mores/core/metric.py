"""The metric contract: a quantity of each world, computed from named inputs after a round.

`Environment.metrics` are an environment's own. A registered metric is a plain function, usable in
every environment that has its inputs. Its parameters say what it needs:

    def my_metric(values, initial_values, groups=None, memory=None, *, weight: float = 1.0): ...

`values`, `initial_values` are inputs, found by name (`metric_inputs`); an input with a default is
optional. Keyword-only arguments are parameters of the metric, given in a scenario file. The result
is `[world]`, or `[world, n]` with one number for each value, group or agent. The annotation of the
result names the dimension of n: `Float[Tensor, "world value"]`. Components have names if it is
`value` or `group`.

A metric of a *trajectory* has an argument `memory` and returns `(result, memory)`. It is called at
the start of an episode with `memory=None`, and after every round with the memory that it returned
before: a fold over the rounds, so that no trajectory is stored.
"""

from __future__ import annotations

import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Num
from pydantic import create_model
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import UserError

MEMORY = "memory"  # argument of metrics of a trajectory
# Names that a parameter cannot have: keys of a specification, attributes of `FunctionMetric`.
SPECIFICATION_KEYS = ("kind", "name")
RESERVED = (
    *(*SPECIFICATION_KEYS, "inputs", "function", "function_inputs", "has_memory", "evaluate"),
    *("component_dimension", "result_dimension"),
)


class MetricOutput(NamedTuple):
    """Value of a metric, and its memory for the next round, a tree of tensors (`core.pytree`)."""

    value: Num[Tensor, "world *n"]
    memory: Any = None


class Metric(Config, ABC):
    """A metric with its parameters."""

    has_memory: ClassVar[bool] = False  # called in every round, not only in recorded ones

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, bool]:
        """Names of the inputs, and whether the metric needs them."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest possible value; `None`: it has no bounds. See `Environment`."""
        return None

    @property
    def component_dimension(self) -> str | None:
        """Name of the second dimension of the result, such as `value`; `None`: unknown."""
        return None

    @abstractmethod
    def evaluate(self, inputs: Mapping[str, Tensor], memory: Any = None) -> MetricOutput:
        """Value of all worlds. `memory`: of the round before; `None` at the start of an episode."""


class FunctionMetric(Metric):
    """A metric defined by a function; the fields are its keyword-only arguments."""

    function: ClassVar[Callable[..., Any]]
    function_inputs: ClassVar[Mapping[str, bool]]
    result_dimension: ClassVar[str | None] = None

    @property
    def component_dimension(self) -> str | None:
        """See `Metric`."""
        return self.result_dimension

    @property
    def inputs(self) -> Mapping[str, bool]:
        """See `Metric`."""
        return self.function_inputs

    def evaluate(self, inputs: Mapping[str, Tensor], memory: Any = None) -> MetricOutput:
        """See `Metric`."""
        parameters = {name: getattr(self, name) for name in type(self).model_fields}
        if not self.has_memory:
            return MetricOutput(self.function(**inputs, **parameters))
        output = self.function(**inputs, memory=memory, **parameters)
        if not isinstance(output, tuple) or len(output) != 2:
            raise UserError(
                f"metric {type(self).__name__}: must return (result, memory), not {output!r:.60}",
                code="failed",
                path="metrics",
            )
        return MetricOutput(*output)


def metric_class(kind: str, entry: Any) -> type[Metric]:
    """The class of a registered metric: the entry itself, or one made from a function.

    Raises:
        UserError: neither; or arguments that have no meaning for a metric.
    """
    if isinstance(entry, type) and issubclass(entry, Metric):
        for name in SPECIFICATION_KEYS:
            if name in entry.model_fields:
                raise _reserved(kind, name)
        return entry
    if not inspect.isfunction(entry):
        raise UserError(
            f"metric {kind!r}: a function or a subclass of Metric is needed, not {entry!r:.60}",
            code="wrong_type",
            path=kind,
        )
    inputs: dict[str, bool] = {}
    fields: dict[str, Any] = {}
    for name, argument in inspect.signature(entry).parameters.items():
        optional = argument.default is not argument.empty
        if argument.kind is argument.KEYWORD_ONLY and name != MEMORY:
            if name in RESERVED or name.startswith(("_", "model_")):
                raise _reserved(kind, name)
            default = argument.default if optional else ...
            fields[name] = (_annotation(entry, argument), default)
        elif argument.kind is argument.POSITIONAL_OR_KEYWORD and (optional or name != MEMORY):
            inputs[name] = not optional
        else:
            rule = "memory needs the default None and must not be keyword-only"
            if name != MEMORY:
                rule = f"{argument} is neither an input by name nor a parameter"
            raise UserError(f"metric {kind!r}: {rule}", code="invalid_value", path=kind)
    has_memory = inputs.pop(MEMORY, None) is not None
    if not inputs:
        message = f"metric {kind!r}: the function needs an input, such as values"
        raise UserError(message, code="missing", path=kind)
    made = create_model(
        entry.__name__,
        __base__=FunctionMetric,
        __module__=entry.__module__,
        __doc__=_description(entry, inputs),
        **fields,
    )
    made.function, made.function_inputs = staticmethod(entry), inputs
    made.has_memory = has_memory
    made.result_dimension = _result_dimension(entry)
    return made


def _reserved(kind: str, name: str) -> UserError:
    message = f"metric {kind!r}: a parameter cannot have the name {name!r}; choose another"
    return UserError(message, code="invalid_value", path=kind)


def _description(function: Any, inputs: Mapping[str, bool]) -> str:
    """The docstring with the inputs."""
    names = [name if needed else f"{name} (optional)" for name, needed in inputs.items()]
    doc = inspect.getdoc(function)
    return f"{doc}\n\nInputs: {', '.join(names)}." if doc else f"Inputs: {', '.join(names)}."


def _result_dimension(function: Any) -> str | None:
    """The second dimension in the annotation of the result, if it has one."""
    annotation = inspect.signature(function).return_annotation
    try:
        if isinstance(annotation, str):
            annotation = _evaluated(annotation, function)
        if typing.get_origin(annotation) is tuple:  # with a memory
            annotation = typing.get_args(annotation)[0]
        world, dimension = annotation.dim_str.split()  # of jaxtyping
    except Exception:  # it has another form, or names what is imported for type checkers only
        return None
    return dimension if world == "world" and dimension.isidentifier() else None


def _annotation(function: Any, argument: inspect.Parameter) -> Any:
    """Type of a parameter: its annotation, else the type of its default."""
    annotation = argument.annotation
    if annotation is argument.empty:
        return Any if argument.default is None else type(argument.default)
    if isinstance(annotation, str):  # other annotations may not be evaluable, such as shapes
        return _evaluated(annotation, function)
    return annotation


def _evaluated(annotation: str, function: Any) -> Any:
    holder = type("Holder", (), {"__annotations__": {"x": annotation}})
    names = inspect.unwrap(function).__globals__
    return typing.get_type_hints(holder, names, include_extras=True)["x"]
