"""CPU time of an update of adapters in upper layers: kept states against whole forward passes.

Four pairs of replies of `reply_ratings`, each of another prompt: log-probabilities with gradients
to the adapters, forward and backward. Both ways compute the same numbers: the largest difference,
relative to the log-probability, is a column. Times are of the process, the least of several.

    python -m benchmarks.language_kept_states --model smollm2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.closed_replies import closed_reply_logps
from mores.agents.language.kept_states import KeptStates
from mores.agents.language.language_model import Message
from mores.core.random_streams import RandomStreams
from mores.envs.feedback.reply_table import read_reply_table
from mores.registry.component import from_data
from mores.registry.specs import model_from_word

NUM_PAIRS = 4
TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")


def update_seconds(score: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """Least CPU time of scores and their gradients, and the scores."""
    seconds, logps = list[float](), torch.empty(0)
    for _ in range(repeats):
        start = time.process_time()
        logps = score()
        logps.sum().backward()
        seconds.append(time.process_time() - start)
    return min(seconds), logps.detach()


def measure(engine: Any, layers: int, repeats: int) -> str:
    """A row of the table."""
    model, table = engine.model, read_reply_table(None)
    lora = LoRA(layers=layers, target_modules=TARGETS)
    parameters = lora.init_parameters(model, RandomStreams.of(0, 1))
    for name, value in parameters.items():
        if name.endswith("lora_B"):
            value.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(0))
        value.requires_grad_()
    adapters = StackedLoRA(model, lora, parameters)
    prompts, replies = list[list[int]](), list[list[int]]()
    for row in range(NUM_PAIRS):
        prompt = list(engine.prompt((Message("user", table.prompts[row]),)))
        for reply in table.replies[row][:2]:
            prompts.append(prompt)
            replies.append(list(engine.chat.reply(reply, False)))
    index = torch.zeros(len(replies), dtype=torch.int64)
    kept = KeptStates(model, layers)
    start = time.process_time()
    with torch.no_grad():
        kept.closed_reply_logps(None, prompts, replies, index)
    preparation = time.process_time() - start
    fast, own = update_seconds(
        lambda: kept.closed_reply_logps(adapters, prompts, replies, index), repeats
    )
    slow, ordinary = update_seconds(
        lambda: closed_reply_logps(model, adapters, prompts, replies, index), min(repeats, 2)
    )
    difference = float(((own - ordinary) / ordinary).abs().max())
    return f"{layers:6} {slow:9.2f} {fast:9.2f} {preparation:12.2f} {difference:12.1e}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="smollm2, tiny, a folder or a hub name")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = from_data("language_model", model_from_word(arguments.model), strict=False)
    engine = model.engine()
    print(f"{'layers':>6} {'ordinary':>9} {'kept':>9} {'first call':>12} {'difference':>12}")
    for layers in arguments.layers:
        print(measure(engine, layers, arguments.repeats))


if __name__ == "__main__":
    main()
