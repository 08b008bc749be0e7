"""Values, names and tokens that mutations insert."""

from __future__ import annotations

import functools
from typing import Any

from mores.experiments.scenario.specification import Bound, Claim, Scenario
from mores.experiments.scenario.stages import Calibration, Sensitivity, Stage, Target, Uncertainty
from mores.registry import REGISTRIES, class_of

TOKENS = (
    *("", " ", "  ", "\t", "\n", "\r\n", "\r", "- ", "? ", ": ", ":", ",", "[", "]", "{", "}"),
    *("#", " #", "&a ", "*a", "<<: ", "<<: *a", "!", "!!str ", "!!python/name:os.system ", "!x "),
    *("!!python/object/apply:os.system ['touch /tmp/mutated']", "!<tag:yaml.org,2002:int> "),
    *("|", ">", "|-9", ">+", "'", '"', "''", "%", "%YAML 1.1\n---\n", "%TAG ! a:\n---\n", "@", "`"),
    *("---\n", "...\n", "~", "null", "true", "yes", "no", "on", "0", "-0", "-1", "1e400", "010"),
    *("0x1F", "0o17", "0b1", "1_000", "12:30", "2024-01-01", ".inf", "-.INF", ".nan", "+.5", "1."),
    *("9" * 19, "9" * 30, "1" * 5000, "0x" + "f" * 30, "1e-400", "0.1e", "\\", "\\x", '"\\ud800"'),
    *('"\\U0001F600"', '"\\U00110000"', '"\\x00"', '"\\e[2J"', '"\\N"', '"\\_"', '"\\L"', "é", "ﬁ"),
    *(
        "\u00a0",
        "\u0085",
        "\u2028",
        "\u2029",
        "\u200b",
        "\u202e",
        "\ufeff",
        "\ufffe",
        "\x00",
        "\x07",
    ),
    *("\x1b[2J", "\x7f", "\ud800", "\udfff", "\U0001f600", "\U000e0001", "\U0010ffff", "e\u0301"),
    *(
        "١٢",
        "½",
        "²",
        "Ａ",
        "ı",
        "ß",
        "İ",
        "\u3000",
        "${HOME}",
        "{{1+1}}",
        "%s",
        "{0}",
        "../..",
        "~/x",
    ),
    *("env.", ".env", "policies..kind", "env.kind", "policies", "population", "arms.", "__class__"),
    *("env.__class__", "env.model_config", "kind", "a" * 3000, "[" * 40, "- " * 40, "{a: " * 40),
)

VALUES = (
    *(None, True, False, 0, 1, 2, 3, 7, -1, 0.0, -0.0, 0.5, 1.0, -0.5, 1e-9, 1e-320, 1e30, 1e308),
    *(
        2**31,
        2**53,
        2**63 - 1,
        -(2**63) + 1,
        2**64,
        10**30,
        10**100,
        "",
        " ",
        "a",
        "1",
        "1.0",
        "true",
    ),
    *(
        "null",
        "kind",
        "env",
        "a b",
        "a\nb",
        "é",
        "\U0001f600",
        "\ud800",
        "\x00",
        "\u2028",
        "a" * 2000,
    ),
    *("../../etc/passwd", "/dev/zero", "/etc/passwd", "os.system", "__import__('os')", "main"),
    *([], [[]], {}, [None], [1, 2], [2, 1], [0.5, "a"], ["a", "a"], [{"kind": "mlp"}], [[1], [2]]),
    *(
        {"kind": "mirror"},
        {"kind": 1},
        {"kind": None},
        {"kind": []},
        {"a": 1},
        {"": 1},
        {"kind": ""},
    ),
    *({"kind": "file", "path": "/dev/zero"}, {"above": 1}, {"within": [1, 0]}, {"within": []}),
    *({"within": [1e308, -1e308]}, {"differs_from": 0}, {"above": 0, "below": 0}, list(range(200))),
)

SECTION_MODELS = (Scenario, Claim, Bound, Stage, Uncertainty, Sensitivity, Calibration, Target)


SCALARS = (bool, int, float, str)
COMPONENTS = (
    *("environment", "policy", "recipe", "population", "graph", "channel", "network"),
    "update_rule",
)


@functools.cache
def kinds() -> tuple[str, ...]:
    """Kinds of all registries."""
    return tuple(sorted({kind for registry in REGISTRIES.values() for kind in registry}))


@functools.cache
def keys() -> tuple[str, ...]:
    """Keys of sections of a scenario, and parameters of all environments, policies and graphs."""
    names = {f.alias or name for model in SECTION_MODELS for name, f in model.model_fields.items()}
    for registry in COMPONENTS:
        for kind in REGISTRIES[registry]:
            names |= set(getattr(class_of(registry, kind), "model_fields", ()))
    return tuple(sorted(names))


def words() -> tuple[str, ...]:
    """Names that occur in scenarios."""
    metrics = ("mean_value", "drift", "effect_vs_control", "ai_error", "all_finite", "mean_return")
    roles = ("person", "assistant", "player", "agent", "principal", "annotator")
    return (*kinds(), *keys(), *metrics, *roles, "rollout", "main", "twin", "exact", "learned")


@functools.cache
def parameters_of(kind: object) -> tuple[tuple[str, Any], ...]:
    """Names and default values of the parameters of the first class of that kind."""
    for registry in COMPONENTS:
        if kind in REGISTRIES[registry]:
            fields = getattr(class_of(registry, str(kind)), "model_fields", {})
            return tuple(
                (field.alias or name, field.default if isinstance(field.default, SCALARS) else None)
                for name, field in fields.items()
            )
    return ()
