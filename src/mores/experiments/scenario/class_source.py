"""Docstring, tags and methods of a class, read from its source without importing its module.

`mores list` needs nothing else, and importing every registered class takes seconds (torch).
"""

from __future__ import annotations

import ast
import functools

from mores.registry.tables import module_file

# Their classes have no tags, and no docstring that describes a registered class.
_NEUTRAL_PACKAGES = ("abc", "typing", "pydantic", "torch")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class UnreadableClassError(Exception):
    """The source does not determine the class: import it instead."""


@functools.cache
def class_skeleton(entry_point: str) -> type:
    """A stand-in for `module:Class` with the same bases, docstring, tags and `trains`.

    Raises:
        UnreadableClassError: the source cannot be found, or defines one of these dynamically.
    """
    module, _, name = entry_point.partition(":")
    try:
        statements = _statements(module)
    except (OSError, SyntaxError, ValueError, ImportError) as error:
        raise UnreadableClassError(module) from error
    classes = {node.name: node for node in statements if isinstance(node, ast.ClassDef)}
    imports = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in statements
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }
    if name in imports:
        return class_skeleton(imports[name])
    if name not in classes:
        raise UnreadableClassError(entry_point)
    locations = {each: f"{module}:{each}" for each in classes} | imports
    bases = []
    for base in classes[name].bases:
        text = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        package, _, attribute = text.rpartition(".")  # `torch.nn.Module`
        location = f"{package}:{attribute}" if package else locations.get(text)
        if location is None:
            raise UnreadableClassError(text)
        if location.partition(":")[0].partition(".")[0] not in _NEUTRAL_PACKAGES:
            bases.append(class_skeleton(location))
    docstring = ast.get_docstring(classes[name], clean=False)
    namespace: dict[str, object] = {"__module__": module, "__doc__": docstring}
    try:
        for item in classes[name].body:
            for attribute in _assigned_names(item) & {"tags", "trains", "__doc__"}:
                value = getattr(item, "value", None)
                namespace[attribute] = item if value is None else ast.literal_eval(value)
        return type(name, tuple(bases), namespace)
    except (ValueError, TypeError) as error:  # no literal; no consistent order of the bases
        raise UnreadableClassError(entry_point) from error


def source_docstring(location: str) -> str:
    """Docstring of a function or class `module:name` from its source, or why there is none."""
    module, _, name = location.partition(":")
    try:
        statements = _statements(module)
    except (OSError, SyntaxError, ValueError, ImportError) as error:
        return f"(cannot be read: {error})"
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in statements if isinstance(node, kinds) and node.name == name]
    return (ast.get_docstring(found[-1]) if found else None) or f"({location})"


@functools.cache
def _statements(module: str) -> list[ast.stmt]:
    """Statements of a module, also those of `if TYPE_CHECKING:`."""
    body = ast.parse(module_file(module).read_text(encoding="utf-8")).body
    return sum((node.body for node in body if isinstance(node, ast.If)), body)


def _assigned_names(item: ast.stmt) -> set[str]:
    """Names that a statement of a class gives a value."""
    if isinstance(item, _FUNCTIONS):
        return {item.name}
    targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
