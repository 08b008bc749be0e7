"""Turns of `welfare_game` as text: request, answer or question, length and payoffs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, lines, listed, paragraph, percent
from mores.core.turn_text import TurnText
from mores.core.welfare import Welfare
from mores.envs.strategic.welfare_functions import (
    AssistantOnly,
    CobbDouglas,
    Linear,
    Minimum,
    UserOnly,
)
from mores.envs.strategic.welfare_task import ANSWER_AND_ASK, CLARIFY, DIRECT, WelfareTask

Parts = Mapping[str, Sequence[float]]
ACT_TEXTS = {
    DIRECT: "answer directly",
    CLARIFY: "ask a clarifying question first, then answer",
    ANSWER_AND_ASK: "answer, with a follow-up question",
}


def user_rules(task: WelfareTask, can_ask: bool, max_writing_cost: float) -> str:
    """Rules of a user."""
    ask = ", ask a clarifying question first, or answer with a follow-up question"
    ask = ask if can_ask else " or ask a clarifying question first"
    window = task.user_window
    length = ""
    if window is not None:
        length = (
            f"You gain up to {compact(window.weight)} if an answer has {compact(window.low)} to "
            f"{compact(window.high)} hundred words."
        )
    return paragraph(
        "In every round you make a request to an AI assistant, definite or vague. A definite one "
        f"costs effort, between 0 and {compact(max_writing_cost)}, new every time.",
        f"The assistant can answer directly{ask}. {_accuracy(task)}",
        f"Your reward is {compact(task.user_accuracy_weight)} for a correct answer, less your cost "
        "of each additional turn, your cost of reading what the assistant writes, and the effort; "
        f"a follow-up question costs {compact(task.followup_cost)}.",
        length,
    )


def assistant_rules(
    role: str,
    task: WelfareTask,
    welfare: Welfare,
    cue_accuracy: float,
    estimates: tuple[float, float],
) -> str:
    """Rules of assistant or composer.

    Args:
        role: the role.
        task: payoffs of a conversation.
        welfare: function of both utilities.
        cue_accuracy: probability that the cue is right.
        estimates: weights of the accuracy and of the asymmetry of estimates.
    """
    first = (
        "You are an AI assistant. In every round a user makes a request, definite or vague. It "
        f"looks to you like what it is with probability {percent(cue_accuracy)}."
    )
    if role == "composer":
        first += " You have decided how to answer; now you decide the rest."
    window = task.assistant_window
    length = ""
    if window is not None:
        length = (
            f" and gains up to {compact(window.weight)} if an answer has {compact(window.low)} to "
            f"{compact(window.high)} hundred words"
        )
    accuracy, asymmetry = estimates if role == "composer" else (0.0, 0.0)
    extra = [
        f"minus {compact(accuracy)} times the mean squared error of your estimates of utilities"
        if accuracy
        else "",
        f"plus {compact(asymmetry)} times a score of how unequal your estimates for user and "
        "operator are"
        if asymmetry
        else "",
    ]
    return paragraph(
        first,
        _accuracy(task),
        f"The user gains {compact(task.user_accuracy_weight)} by a correct answer and pays for "
        f"additional turns, for reading, and {compact(task.followup_cost)} for a follow-up "
        f"question. The operator gains {compact(task.assistant_accuracy_weight)} by a correct "
        f"answer{length} and pays for the words that you write: a clarifying question has "
        f"{compact(100 * task.question_words)}, a follow-up question "
        f"{compact(100 * task.followup_words)}.",
        f"Your reward is {', '.join(filter(None, [welfare_sentence(welfare), *extra]))}.",
    )


def welfare_sentence(welfare: Welfare) -> str:
    """The welfare function of the utilities of user and operator, in words."""
    if isinstance(welfare, AssistantOnly):
        return "the operator's utility"
    if isinstance(welfare, UserOnly):
        return "the user's utility"
    if isinstance(welfare, Linear):
        share = percent(welfare.user_weight)
        return f"the mean of both utilities, in which the user's counts {share}"
    if isinstance(welfare, CobbDouglas):
        share = percent(welfare.user_weight)
        return f"the geometric mean of both utilities, in which the user's counts {share}"
    if isinstance(welfare, Minimum):
        return "the smaller of both utilities"
    return f"a function of both utilities, {type(welfare).__name__}"


def _accuracy(task: WelfareTask) -> str:
    text = (
        f"An answer to a definite request is correct with probability "
        f"{percent(task.accuracy_definite)}, to a vague one with {percent(task.accuracy_vague)}"
    )
    if task.words_scale is not None:
        text += f", times 1 - exp(-n / {compact(task.words_scale)}) with n hundred words"
    return f"{text}. A question makes a vague request definite, and takes a turn."


def user_turn(seen: Parts) -> TurnText:
    """Own costs, and the form of the request."""
    effort = decimal(seen["writing_cost"][0])
    situation = (
        f"An additional turn costs you {decimal(seen['delay_cost'][0])}, reading a hundred words "
        f"{decimal(seen['reading_cost'][0], 3)}."
    )
    options = ("a vague request, without effort", f"a definite request, at a cost of {effort}")
    return TurnText(situation, "Which request do you make?", "choice", options)


def _seen_by_assistant(seen: Parts) -> str:
    cue = "vague" if seen["cue"][0] > 0 else "definite"
    return (
        f"The request looks {cue}. An additional turn costs the user "
        f"{decimal(seen['delay_cost'][0])}, reading a hundred words "
        f"{decimal(seen['reading_cost'][0], 3)}. A hundred words that you write cost the operator "
        f"{decimal(seen['price'][0], 3)}."
    )


def assistant_turn(seen: Parts) -> TurnText:
    """The look of the request and the costs, and the act."""
    options = tuple(ACT_TEXTS[act] for act in sorted(ACT_TEXTS))
    return TurnText(_seen_by_assistant(seen), "What do you do?", "choice", options)


def composer_turn(seen: Parts, max_words: float | None, estimates_payoffs: bool) -> TurnText:
    """The act, and the question for the length of answers and for estimates.

    Args:
        seen: the parts of the observation.
        max_words: longest answer, hundred words; `None`: the length is not chosen.
        estimates_payoffs: whether payoffs are estimated.
    """
    acts = [ACT_TEXTS[act] for act, bit in enumerate(seen["act"]) if bit > 0]
    act = f"You have decided to {acts[0]}." if acts else ""
    parts = []
    if max_words is not None:
        parts.append(f"the length of an answer in hundred words, from 0 to {compact(max_words)}")
    if estimates_payoffs:
        parts.append(
            "12 estimates of utilities from -2 to 2, for a definite request and then for a vague "
            "one: operator and user if you answer directly, if you ask first, if you answer with a "
            "follow-up question"
        )
    count = (max_words is not None) + 12 * estimates_payoffs
    numbers = "a number" if count == 1 else f"{count} numbers"
    question = f"State {numbers}: {listed(parts)}."
    return TurnText(lines(_seen_by_assistant(seen), act), question, "numbers")
