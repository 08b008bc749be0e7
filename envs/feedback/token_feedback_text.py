"""Turns of `token_feedback` as text: a completion token by token, and its review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, lines, paragraph, plural
from mores.core.turn_text import TurnText

Parts = Mapping[str, Sequence[float]]


def rules(vocab_size: int, length: int, num_principals: int, penalty: float, timing: str) -> str:
    """Rules of an assistant."""
    whom = "a principal" if num_principals == 1 else f"{num_principals} principals"
    when = "after every token" if timing == "per_token" else "at the end"
    return paragraph(
        f"You complete a prompt with {plural(length, 'token')}, one in every round, from a "
        f"vocabulary of {vocab_size:,}. A prompt is a list of numbers, its features.",
        f"Tokens have utilities for {whom}, which depend on the prompt; a token counts once. Some "
        f"tokens are inappropriate for a prompt and cost {compact(penalty)} each. Nobody tells you "
        "which: you learn it from your rewards.",
        f"Your reward, {when}, is the sum of the utilities of your tokens, less the costs, divided "
        f"by {length}.",
    )


def turn(phase: str, seen: Parts, vocab_size: int, length: int) -> TurnText:
    """Prompt and completion so far, and the next token or the review."""
    steps = [seen["completion"][i * vocab_size : (i + 1) * vocab_size] for i in range(length)]
    tokens = [f"token {step.index(max(step)) + 1}" for step in map(list, steps) if any(step)]
    critique = [f"token {i + 1}" for i, bit in enumerate(seen["critique"]) if bit > 0]
    situation = lines(
        f"Prompt: {' '.join(map(decimal, seen['prompt']))}.",
        f"Completion so far: {', '.join(tokens)}." if tokens else "The completion is empty.",
        f"Criticized as inappropriate: {', '.join(critique)}." if critique else "",
    )
    if phase == "answer":
        options = tuple(f"token {i + 1}" for i in range(vocab_size))
        return TurnText(situation, "Which token comes next?", "choice", options)
    question = (
        f"Which of your tokens are criticized? State {plural(length, 'number')} from 0 (no) to 1 "
        "(yes), one for each position of the completion."
    )
    return TurnText(situation, question, "numbers")
