"""Many agents in one call of the in-process engine, against one agent after another.

Every agent has a prompt of `prompt_tokens` tokens, of which all agents share the first
`shared_tokens`. One by one is transformers' `generate` with one conversation, greedy, with a cache
of keys and values. The same replies come from one call of the engine, and a choice between two
labels from one call of `score`. The engine keeps nothing from call to call here: beginnings that
are kept make later calls of a run faster still, which is reported apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from mores.agents.language.language_model import (
    GenerateRequest,
    GumbelFunction,
    Message,
    ScoreRequest,
)
from mores.agents.language.models.local_engine import LocalEngine
from mores.agents.language.models.tiny import tiny_model

RULES = (
    "You take part in a survey about everyday life. Read the question, think of who you are, and "
    "answer as that person would. Say what you think in one short sentence. "
)


def random_llama(vocabulary: int) -> LocalEngine:
    """Engine of a random Llama with this number of tokens, of which texts use the first 261."""
    from transformers import LlamaForCausalLM

    small, tokenizer = tiny_model(256, 4, 0)
    small.config.vocab_size = vocabulary
    torch.manual_seed(0)
    return LocalEngine(LlamaForCausalLM(small.config).eval(), tokenizer)


def conversations(
    engine: LocalEngine, agents: int, prompt_tokens: int, shared_tokens: int
) -> list[tuple[Message, ...]]:
    """Conversations with prompts of that length, and that many common tokens at the start."""
    rules = RULES * 12
    own = [f"{n:03d}"[::-1] + " is your number. " for n in range(agents)]

    def build(cut: int, person: str, question: str) -> tuple[Message, ...]:
        return Message("system", rules[:cut] + person), Message("user", question)

    empty = len(engine.prompt(build(0, "", "")))
    head = common_length([engine.prompt(build(0, p, "")) for p in ("A", "B")])
    cut = next(
        c
        for c in range(len(rules))
        if engine.count_tokens(build(c, "", "")) - empty + head >= shared_tokens
    )
    found = []
    for person in own:
        fill = next(
            f
            for f in range(999)
            if engine.count_tokens(build(cut, person, "tea? " * f)) >= prompt_tokens
        )
        length = engine.count_tokens(build(cut, person, "tea? " * fill))
        question = "tea? " * fill
        while length > prompt_tokens and question:
            question = question[:-1]
            length = engine.count_tokens(build(cut, person, question))
        found.append(build(cut, person, question))
    return found


def common_length(prompts: list[tuple[int, ...]]) -> int:
    """Number of first tokens that all prompts share."""
    shortest = min(map(len, prompts))
    return next((i for i in range(shortest) if len({p[i] for p in prompts}) > 1), shortest)


def one_by_one(
    engine: LocalEngine, prompts: list[tuple[int, ...]], new_tokens: int
) -> list[tuple[int, ...]]:
    """Replies of transformers' `generate`, one conversation at a time."""
    replies = []
    for prompt in prompts:
        with torch.inference_mode():
            found = engine.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=engine.tokenizer.eos_token_id,
            )
        replies.append(tuple(found[0, len(prompt) :].tolist()))
    return replies


def measure(
    engine: LocalEngine,
    agents: int = 64,
    alone: int = 64,
    prompt_tokens: int = 224,
    shared_tokens: int = 192,
    new_tokens: int = 24,
    repeats: int = 3,
    gumbel: GumbelFunction | None = None,
) -> dict[str, Any]:
    """Replies and choices a CPU second, and their ratios to one by one.

    Args:
        engine: the engine.
        agents: number of agents of a call.
        alone: number of them that are answered one by one, for comparison.
        prompt_tokens: length of a prompt.
        shared_tokens: length of the common beginning.
        new_tokens: length of a reply.
        repeats: the fastest counts.
        gumbel: numbers for a further call with drawn replies; `None`: none.
    """
    asked = conversations(engine, agents, prompt_tokens, shared_tokens)
    prompts = [engine.prompt(conversation) for conversation in asked]
    generate = [GenerateRequest(c, new_tokens, 0.0) for c in asked]
    drawn = [GenerateRequest(c, new_tokens, 1.0) for c in asked]
    choose = [ScoreRequest(c, ("A", "B")) for c in asked]

    def fresh(step: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            engine.store.clear()
            return step()

        return run

    steps: dict[str, tuple[int, Callable[[], Any]]] = {
        "one_by_one": (alone, lambda: one_by_one(engine, prompts[:alone], new_tokens)),
        "together": (agents, fresh(lambda: engine.generate(generate, None))),
        "together_kept": (agents, lambda: engine.generate(generate, None)),
        "choice": (agents, fresh(lambda: engine.score(choose))),
        "choice_kept": (agents, lambda: engine.score(choose)),
    }
    if gumbel is not None:
        steps["drawn"] = (agents, fresh(lambda: engine.generate(drawn, gumbel)))
    rates, results = dict.fromkeys(steps, 0.0), dict[str, Any]()
    for _ in range(repeats):
        for name, (count, step) in steps.items():
            start = time.process_time()
            results[name] = step()
            rates[name] = max(rates[name], count / (time.process_time() - start))
    equal = [
        reply.token_ids == alone_reply
        for reply, alone_reply in zip(results["together"], results["one_by_one"], strict=False)
    ]
    ties = sum(reply.near_ties for reply in results["together"][:alone])
    return {
        "vocabulary": engine.vocabulary_size,
        "agents": agents,
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "shared_tokens": common_length(prompts),
        "new_tokens": sum(len(r.token_ids) for r in results["together"]) / agents,
        "equal_replies": f"{sum(equal)} of {len(equal)}",
        "near_ties": ties,
        "per_cpu_second": {name: round(rate, 2) for name, rate in rates.items()},
        "times_one_by_one": {
            name: round(rate / rates["one_by_one"], 1)
            for name, rate in rates.items()
            if name != "one_by_one"
        },
    }
