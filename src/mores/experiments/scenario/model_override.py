"""The override `model=WORD`: another language model in every policy of a scenario that has one.

WORD is a kind of the registry `language_model`, a folder, a hub name or the address of a server.
Models that a sweep sets stay. Parameters of the model that arms, stages or a sweep set
(`policies.person.model.dtype`) apply to the new model; one that it lacks is an error of the arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mores import registry
from mores.core.errors import UserError
from mores.experiments.scenario.source_locations import KeyPath
from mores.registry.component import component
from mores.registry.specs import model_from_word

MODEL = "model"
SECTIONS = ("policies", "arms", "stages")


def model_paths(document: Mapping[str, Any]) -> list[KeyPath]:
    """Paths of the language models of all policies, also of those that have the default.

    Raises:
        UserError: there is none.
    """
    paths = [path for section in SECTIONS for path in _paths(document.get(section), (section,))]
    if not paths:
        raise UserError(
            "override model=...: no policy of the scenario has a language model; write the path, "
            "as in policies.person.model=...",
            code="unsupported",
            path=MODEL,
        )
    return paths


def _paths(node: Any, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _paths(each, (*path, index))
    elif isinstance(node, Mapping):
        if _has_language_model(node.get("kind")):
            yield (*path, MODEL)
        for name, each in node.items():
            if isinstance(name, str) and _sets_model(name):
                yield (*path, name)
            elif name != MODEL:
                yield from _paths(each, (*path, name))
    elif path[-1] != "kind" and _has_language_model(node):  # the kind alone, in place of a mapping
        yield path


def with_model(node: Any, path: KeyPath, model: Any) -> None:
    """Set the model at one of `model_paths`; a kind alone becomes a mapping."""
    for part in path[:-1]:
        node = node[part]
    last = path[-1]
    is_kind = last != MODEL and not (isinstance(last, str) and _sets_model(last))
    node[last] = {"kind": node[last], MODEL: model} if is_kind else model


def model_with_kind(word: Any) -> Any:
    """A model as a mapping, to which arms may add parameters; anything else is returned as it is.

    A word is a kind, or what `model_from_word` makes of it.
    """
    model = model_from_word(word)
    return {"kind": model} if isinstance(model, str) else model


def _sets_model(key: str) -> bool:
    """Whether a dotted key of an arm or stage sets a policy's model."""
    return key.startswith("policies.") and key.endswith(f".{MODEL}")


def _has_language_model(kind: Any) -> bool:
    """Whether the policies of a kind have a language model."""
    if not isinstance(kind, str):
        return False
    try:
        policy_class = registry.class_of("policy", kind)
    except UserError:  # reported when the scenario is built
        return False
    field = policy_class.model_fields.get(MODEL)
    annotations = [] if field is None else field.metadata
    return any(
        isinstance(each, component) and each.registry_name == "language_model"
        for each in annotations
    )
