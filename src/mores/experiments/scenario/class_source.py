"""Docstring, tags and methods of a class, read from its source without importing its module.

`mores list` needs nothing else, and importing every registered class takes seconds (torch).
"""

from __future__ import annotations

import ast
import functools

from mores.registry.source_files import module_file

# Their classes have no tags, and no docstring that describes a registered class.
_NEUTRAL_PACKAGES = ("abc", "typing", "pydantic", "torch")


class UnreadableClassError(Exception):
    """The source does not determine the class: import it instead."""


@functools.cache
def class_skeleton(entry_point: str) -> type:
    """A stand-in for `module:Class` with the same bases, docstring and literal tags.

    Raises:
        UnreadableClassError: the source cannot be found, or defines one of these dynamically.
    """
    module, _, name = entry_point.partition(":")
    definitions, imports = _module_names(module)
    if name in imports:
        return class_skeleton(imports[name])
    node = definitions.get(name)
    if node is None or not all(map(_registers, node.decorator_list)) or node.keywords:
        raise UnreadableClassError(entry_point)
    namespace: dict[str, object] = {"__module__": module, "__doc__": ast.get_docstring(node, False)}
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not item.name.startswith("__"):
                namespace[item.name] = item
            continue
        targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
        assigned = {target.id for target in targets if isinstance(target, ast.Name)}
        if named := assigned & {"tags", "trains", "__doc__"}:
            namespace[named.pop()] = _literal_value(item, assigned)
    bases = [_base_entry_point(base, module, definitions, imports) for base in node.bases]
    skeletons = tuple(class_skeleton(base) for base in bases if base is not None)
    try:
        return type(name, skeletons, namespace)
    except TypeError as error:  # no consistent order of the bases
        raise UnreadableClassError(entry_point) from error


def source_docstring(location: str) -> str:
    """Docstring of a function or class `module:name` from its source, or why there is none."""
    module, _, name = location.partition(":")
    try:
        tree = ast.parse(module_file(module).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, ImportError) as error:
        return f"(cannot be read: {error})"
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in tree.body if isinstance(node, kinds) and node.name == name]
    return (ast.get_docstring(found[-1]) if found else None) or f"({location})"


def _registers(decorator: ast.expr) -> bool:
    """Whether a decorator is `register(...)`, which returns the class unchanged."""
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("register")


def _literal_value(item: ast.stmt, assigned: set[str]) -> object:
    """The value of an assignment to `tags` or `trains`."""
    value = getattr(item, "value", None)
    if "__doc__" in assigned or len(assigned) > 1 or value is None:
        raise UnreadableClassError(ast.unparse(item))
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise UnreadableClassError(ast.unparse(item)) from error


def _base_entry_point(
    base: ast.expr, module: str, definitions: dict[str, ast.ClassDef], imports: dict[str, str]
) -> str | None:
    """`module:Class` of a base class. None for classes of `_NEUTRAL_PACKAGES`."""
    base = base.value if isinstance(base, ast.Subscript) else base  # Environment[State]
    if isinstance(base, ast.Name) and base.id in definitions:
        return f"{module}:{base.id}"
    location = imports.get(base.id) if isinstance(base, ast.Name) else None
    if isinstance(base, ast.Attribute):  # of a module: `torch.nn.Module`
        location = f"{ast.unparse(base.value)}:{base.attr}"
    if location is None:
        raise UnreadableClassError(ast.unparse(base))
    package = location.partition(":")[0].partition(".")[0]
    return None if package in _NEUTRAL_PACKAGES else location


@functools.cache
def _module_names(module: str) -> tuple[dict[str, ast.ClassDef], dict[str, str]]:
    """Classes that a module defines, and `module:name` of each name that it imports."""
    definitions: dict[str, ast.ClassDef] = {}
    imports: dict[str, str] = {}
    try:
        tree = ast.parse(module_file(module).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, ImportError, KeyError) as error:
        raise UnreadableClassError(module) from error
    checked_only = [node.body for node in tree.body if isinstance(node, ast.If)]  # TYPE_CHECKING
    for node in sum(checked_only, tree.body):
        if isinstance(node, ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports |= {(a.asname or a.name): f"{node.module}:{a.name}" for a in node.names}
    return definitions, imports
