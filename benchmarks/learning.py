"""Speed of learning in mores, compared with Stable-Baselines3, loops over modules, and torch.func.

    python -m benchmarks.learning --out benchmarks/results/learning.json
    python -m benchmarks.learning --only stack pairs --device cuda

cartpole  One agent, until the most probable actions hold the pole for 475 of 500 rounds, on average
          over 64 evaluation worlds. Evaluations, every 1024 samples, are not timed. CartPole equals
          Gymnasium's, which is checked first. Stable-Baselines3 runs Gymnasium's CartPole with the
          settings of RL Baselines3 Zoo (`zoo`) and with the best settings of our search (`tuned`);
          with the latter also our batch of worlds (`batched`).
own       The same in `token_feedback`, until the most probable tokens have 90 % of the optimal
          return, which is known exactly. Stable-Baselines3 runs it through Gymnasium, one world
          after another (`tuned`), and as our batch of worlds (`batched`).
stack     Many small models at once: see `benchmarks/learning_parts/stacked_models.py`.
networks  Networks by hand and modules: see `benchmarks/learning_parts/stacked_networks.py`.
pairs     A whole training of many models: see `benchmarks/learning_parts/prisoners_dilemma.py`.

Settings of all learners were searched on seeds 200 to 209; seeds 0, 1, ... are reported. Learners
take turns in one process, on one thread; CPU time counts, wall time on an accelerator. A training
that misses the threshold counts with the time of its whole sample budget. Results are medians and
ratios of medians; the rates of the machine, measured before and after, give the scale of absolute
ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning_parts import (
    machine,
    prisoners_dilemma,
    stacked_models,
    stacked_networks,
)

PARTS = ("cartpole", "own", "stack", "networks", "pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seeds", type=int, default=5, help="of cartpole and own, 0 ... N - 1")
    parser.add_argument("--policies", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument(
        "--repeats", type=int, default=5, help="timings in stack, networks and pairs"
    )
    parser.add_argument("--out", type=Path, default=None, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "machine": machine.description(args.device),
        "rates": [machine.rates(args.device)],
        "rows": {},
    }
    print(results["machine"], results["rates"][0], flush=True)
    for part in args.only:
        results["rows"][part] = _measure(part, args)
    results["rates"].append(machine.rates(args.device))
    print(results["rates"][1])
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


def _measure(part: str, args: argparse.Namespace) -> Any:
    """Results of a part. Prints each row."""
    if part == "stack":
        rows = []
        for batch in args.batches:
            for num_models in args.policies:
                rows.append(stacked_models.row(num_models, batch, args.device, args.repeats))
                print(part, rows[-1], flush=True)
        return rows
    if part == "networks":
        rows = []
        for kind in stacked_networks.PAIRS:
            for num_models in args.policies:
                rows.append(stacked_networks.row(kind, num_models, args.device, args.repeats))
                print(part, rows[-1], flush=True)
        return rows
    if part == "pairs":
        row = prisoners_dilemma.measure(args.pairs, args.device, args.repeats)
        print(part, row, flush=True)
        return row
    # These modules need Stable-Baselines3.
    from benchmarks.learning_parts import cart_pole_check, ppo_comparison, tasks

    if part == "cartpole":
        difference = cart_pole_check.check_cart_pole()
        print(f"cartpole: maximum difference from Gymnasium's {difference:.1e}", flush=True)
        return {"apart": difference, **ppo_comparison.compare(tasks.CART_POLE, args.seeds)}
    return ppo_comparison.compare(tasks.TOKEN_FEEDBACK, args.seeds)


if __name__ == "__main__":
    main()
