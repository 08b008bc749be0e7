"""Speed and exactness of language models as agents.

    python -m benchmarks.language --out benchmarks/results/language.json
    python -m benchmarks.language --only tiny gumbel

tiny      64 agents in one call against one by one, with a random Llama: 256 wide, 4 layers, 32,000
          tokens (Llama's vocabulary): see `benchmarks/language_parts/batching.py`.
bytes     The same with 261 tokens, as the model `tiny` has: its output layer costs nothing.
smollm2   The same with SmolLM2-135M, if it is installed; fewer agents one by one.
gumbel    Milliseconds of the Gumbel numbers of a token, over a vocabulary of 49,152.
null      Two equal arms in different batches: see `benchmarks/language_parts/null_arm.py`.
served    200 agents with a served model: see `benchmarks/language_served.py`.

One process, one thread, CPU time, the fastest of the repeats: other processes on the machine only
add time. Ratios are from one run; the rates of the machine, measured before and after, give the
scale of absolute numbers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.language_parts import batching, null_arm
from benchmarks.learning_parts import machine
from mores.agents.language.coupling import token_gumbel
from mores.agents.language.models.local_engine import LocalEngine
from mores.agents.language.models.smollm2 import SmolLM2, model_folder
from mores.core.random_streams import RandomStreams, Worlds

PARTS = ("tiny", "bytes", "smollm2", "gumbel", "null", "served")
BARS = {"together": (6, 9), "choice": (15, 25)}  # smallest and wanted ratio to one by one


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5, help="timings of tiny and gumbel")
    parser.add_argument("--alone", type=int, default=8, help="agents of smollm2 one by one")
    parser.add_argument("--rounds", type=int, default=16, help="of the null arm, 64 personas each")
    parser.add_argument("--out", type=Path, default=None, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"machine": _machine(), "rates": [machine.rates("cpu")], "rows": {}}
    print(results["machine"], results["rates"][0], flush=True)
    for part in args.only:
        results["rows"][part] = measured = _measure(part, args)
        print(part, json.dumps(measured, indent=2), flush=True)
    results["rates"].append(machine.rates("cpu"))
    if args.out is not None:
        before = json.loads(args.out.read_text())["rows"] if args.out.exists() else {}
        results["rows"] = {**before, **results["rows"]}
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    for part in {"tiny"} & set(args.only):
        for name, (bar, goal) in BARS.items():
            ratio = results["rows"][part]["times_one_by_one"][name]
            print(f"{part} {name}: {ratio} times one by one; bar {bar}, goal {goal}")


def _measure(part: str, args: argparse.Namespace) -> Any:
    if part in ("tiny", "bytes"):
        engine = batching.random_llama(32_000 if part == "tiny" else 261)
        return batching.measure(engine, repeats=args.repeats)
    if part == "gumbel":
        return _gumbel(args.repeats)
    if part == "served":
        if importlib.util.find_spec("benchmarks.language_served") is None:
            return None
        from benchmarks import language_served

        return language_served.results()
    if not (model_folder() / "config.json").is_file():
        return None
    engine = SmolLM2().engine()
    if part == "null":
        return null_arm.measure(engine.model, engine.tokenizer, rounds=args.rounds)
    streams = RandomStreams.of(0, 1).child("player/person/answer")
    rows = torch.stack([torch.zeros(64, dtype=torch.int64), torch.arange(64)], 1)
    gumbel = token_gumbel(streams, rows, 0, engine.vocabulary_size)
    own = LocalEngine(engine.model, engine.tokenizer)
    return batching.measure(own, alone=args.alone, repeats=1, gumbel=gumbel)


def _gumbel(repeats: int, width: int = 49_152, count: int = 64) -> dict[str, float]:
    """Milliseconds a row-token."""
    streams, best = RandomStreams.of(0, Worlds.grid(4, 16)), float("inf")
    rows = torch.stack([torch.arange(count), torch.arange(count) % 7], 1)
    numbers = token_gumbel(streams, rows, 0, width)
    for position in range(repeats):
        start = time.process_time()
        numbers(range(count), position)
        best = min(best, (time.process_time() - start) / count)
    return {"vocabulary": width, "milliseconds": round(1e3 * best, 3)}


def _machine() -> dict[str, Any]:
    import transformers

    return {
        **machine.description("cpu"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    main()
