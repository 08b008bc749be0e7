"""How fast policies learn here: against Stable-Baselines3, loops over modules, and torch.func.

    python -m benchmarks.learning --out benchmarks/results/learning.json
    python -m benchmarks.learning --only stack pairs --device cuda

cartpole  One policy until the likeliest acts hold the pole for 475 of 500 rounds, on average over
          64 worlds that are played for this evaluation only; evaluations every 1024 acts are not
          timed. CartPole is Gymnasium's, which is checked first. Stable-Baselines3 has it from
          Gymnasium with the settings of RL Baselines3 Zoo (`zoo`) and with those that served it
          best in our search (`tuned`); with these also from our batch of worlds (`batched`).
own       The same in our `requests`: until the likeliest words earn 90 % of what can be earned,
          which is known exactly. Stable-Baselines3 has it through Gymnasium, a world after another,
          as its users would (`tuned`), and from our batch of worlds (`batched`).
stack     Many small policies at once: see `benchmarks/learned/stacks.py`.
pairs     A whole training of many policies: see `benchmarks/learned/pairs.py`.

Settings were searched on seeds 200 to 209, for both sides; reported are seeds 0, 1, ... What is
compared takes turns in one process, on one thread; processor time counts, on an accelerator the
time of day. A learner that does not get there within its budget of acts counts with the time that
the budget took. Figures are medians and ratios of medians; read absolute ones beside the rates of
the machine, which are measured before and after.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.learned import machine, pairs, stacks

PARTS = ("cartpole", "own", "stack", "pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seeds", type=int, default=5, help="of the races, 0 ... N - 1")
    parser.add_argument("--policies", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns of what is timed step by step"
    )
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "machine": machine.described(asked.device),
        "rates": [machine.rates(asked.device)],
        "rows": {},
    }
    print(found["machine"], found["rates"][0], flush=True)
    for part in asked.only_replicates:
        found["rows"][part] = _measured(part, asked)
    found["rates"].append(machine.rates(asked.device))
    print(found["rates"][1])
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=2) + "\n")


def _measured(part: str, asked: argparse.Namespace) -> Any:
    """The figures of a part, printed as they come."""
    if part == "stack":
        rows = []
        for batch in asked.batches:
            for policies in asked.num_models:
                rows.append(stacks.row(policies, batch, asked.device, asked.repeats))
                print(part, rows[-1], flush=True)
        return rows
    if part == "pairs":
        row = pairs.measured(asked.pairs, asked.device, asked.repeats)
        print(part, row, flush=True)
        return row
    from benchmarks.learned import race, same_game, tasks  # they need Stable-Baselines3

    if part == "cartpole":
        apart = same_game.same_cart_pole()
        print(f"cartpole: ours and Gymnasium's differ by {apart:.1e} at most", flush=True)
        return {"apart": apart, **race.raced(tasks.CART_POLE, asked.seeds)}
    return race.raced(tasks.REQUESTS, asked.seeds)


if __name__ == "__main__":
    main()
