"""What is read from the answers of OpenAI-compatible servers: data, checked piece by piece."""

from __future__ import annotations

import math
import re
from typing import Any

# A provider may answer with a dated snapshot or a revision of the model that was asked for.
_VERSION = re.compile(r"@[\w.-]+|[-@]\d{4}-?\d{2}-?\d{2}")


MOST_COUNTED = 10_000_000  # tokens of one call; a larger count is not believed
MOST_TOKEN = 2**31 - 1  # largest number of a token


class UnusableAnswer(Exception):
    """An answer that lacks something, or has something of another type."""


class OtherModel(Exception):
    """An answer of another model."""

    def __init__(self, asked: str, given: str) -> None:
        super().__init__(asked, given)
        self.asked, self.given = asked, given


def read(data: Any, *path: str | int) -> Any:
    """An item inside nested data.

    Raises:
        UnusableAnswer: it is not there.
    """
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            where = ".".join(map(str, path))
            raise UnusableAnswer(f"no {where}") from None
    return data


def check_model(data: Any, asked: str) -> None:
    """Refuse an answer of another model.

    Raises:
        OtherModel: it is one.
        UnusableAnswer: the answer names no model.
    """
    given = read(data, "model")
    if not isinstance(given, str):
        raise UnusableAnswer("model is no text")
    version = given.removeprefix(asked)
    if given != asked and not (given.startswith(asked) and _VERSION.fullmatch(version)):
        raise OtherModel(asked, given)


def token_counts(data: Any, least_reply: int = 0) -> dict[str, int | None]:
    """Tokens of prompt and reply, and prompt tokens that the server had cached.

    A count of prompt or reply that is absent or implausible is `None`: no whole number, negative,
    above `MOST_COUNTED`, a prompt without tokens, a reply of less than `least_reply`.
    """
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    prompt = _count(usage.get("prompt_tokens"), 1, MOST_COUNTED)
    return {
        "prompt_tokens": prompt,
        "reply_tokens": _count(usage.get("completion_tokens"), least_reply, MOST_COUNTED),
        "cached_tokens": _count(details.get("cached_tokens"), 0, prompt or 0) or 0,
    }


def chat_reply(data: Any, asked: str) -> dict[str, Any]:
    """A generated reply: text, whether it ended by itself, and tokens.

    A reply without text, such as a refusal, is an empty one.
    """
    check_model(data, asked)
    choice = read(data, "choices", 0)
    message = read(choice, "message")
    text = message.get("content") if isinstance(message, dict) else 0
    if not isinstance(text, str | None):
        raise UnusableAnswer("choices.0.message.content is no text")
    complete = read(choice, "finish_reason") == "stop"
    counts = token_counts(data, least_reply=1 if text else 0)
    return {"text": clean_text(text or ""), "complete": complete, **counts}


def next_token_logps(data: Any, asked: str) -> dict[str, Any]:
    """The likeliest next tokens and their log-probabilities, likeliest first."""
    check_model(data, asked)
    listed = read(data, "choices", 0, "logprobs", "content", 0, "top_logprobs")
    if not isinstance(listed, list) or not listed:
        raise UnusableAnswer("choices.0.logprobs.content.0.top_logprobs is no list")
    tokens = [[read(each, "token"), log_probability(read(each, "logprob"))] for each in listed]
    if not all(isinstance(token, str) for token, _ in tokens):
        raise UnusableAnswer("a token is no text")
    return {"tokens": [[clean_text(t), p] for t, p in tokens], **token_counts(data)}


def echoed_logps(data: Any, asked: str, first: int, last: int) -> dict[str, Any]:
    """Log-probabilities of the tokens `first` to `last - 1` of a prompt that is echoed."""
    check_model(data, asked)
    found = read(data, "choices", 0, "logprobs", "token_logprobs")
    if not isinstance(found, list) or len(found) < last:
        raise UnusableAnswer("choices.0.logprobs.token_logprobs does not cover the prompt")
    return {"logps": [log_probability(p) for p in found[first:last]], **token_counts(data)}


def token_list(data: Any) -> dict[str, Any]:
    """Tokens of a text."""
    tokens = read(data, "tokens")
    if not isinstance(tokens, list) or not all(
        type(token) is int and 0 <= token <= MOST_TOKEN for token in tokens
    ):
        raise UnusableAnswer("tokens is no list of tokens")
    return {"tokens": tokens}


def model_names(data: Any) -> dict[str, Any]:
    """Names of the models that a server has."""
    listed = read(data, "data")
    found = [read(each, "id") for each in listed] if isinstance(listed, list) else [None]
    names = [name for name in found if isinstance(name, str)]
    if len(names) < len(found):
        raise UnusableAnswer("data is no list of models")
    return {"names": [clean_text(name) for name in names]}


def log_probability(value: Any) -> float:
    """A log-probability; -inf becomes -9999, as in vLLM, since JSON has no infinity."""
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.nan
    if math.isnan(number):
        raise UnusableAnswer("a log-probability is no number")
    if number > 1e-3:
        raise UnusableAnswer("a log-probability is positive")
    return max(number, -9999.0)


def clean_text(text: str) -> str:
    """A text that can be written as UTF-8: lone surrogates are replaced."""
    return text.encode("utf-8", "replace").decode()


def _count(value: Any, least: int, most: int) -> int | None:
    return value if type(value) is int and least <= value <= most else None
