"""mores imports at the lowest version of Gymnasium that it declares.

Reports about peers: an import fails with another version of Gymnasium,
https://github.com/pytorch/rl/issues/2495; no version of two libraries fits both,
https://github.com/ray-project/ray/issues/34396
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOWEST = ROOT / ".venv-clients/gymnasium-1.2/bin/python"  # scripts/clients.sh makes it
# Generic classes of the lowest version: only these may be subscripted when a module is imported.
GENERIC = {
    "gymnasium.Env",
    "gymnasium.Wrapper",
    "gymnasium.spaces.Space",
    "gymnasium.vector.VectorEnv",
}


def evaluated_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run. Annotations do not: every file has `from __future__ import annotations`."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from evaluated_nodes(child)


def test_no_class_is_subscripted_that_was_not_generic() -> None:
    """`MultiDiscrete[np.int64]` is a `TypeError` before Gymnasium 1.4."""
    found, files = [], sorted((ROOT / "src/mores/clients").glob("*.py"))
    for file in files:
        for node in evaluated_nodes(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Subscript):
                name = ast.unparse(node.value)
                if name.startswith("gymnasium.") and name not in GENERIC:
                    found.append(f"{file.name}:{node.lineno}: {name}")
    assert files and not found


@pytest.mark.full
@pytest.mark.skipif(not LOWEST.exists(), reason="make test-clients makes the environment")
def test_environments_of_the_lowest_version() -> None:
    code = (
        "import gymnasium, mores; "
        "env = gymnasium.make_vec('mores/DRMDP-v0', num_envs=2); env.reset(seed=1); "
        "env.step(env.action_space.sample()); print(gymnasium.__version__)"
    )
    run = subprocess.run(
        [LOWEST, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": "src:."},
    )
    assert run.stdout.startswith("1.2.")
