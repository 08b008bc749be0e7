"""Answers that lie about usage, quote parts of the key, or have no end."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from mores.agents.language.models.served import ServedModel
from mores.agents.language.models.served_answers import UnusableAnswer, log_probability, token_list
from mores.agents.language.models.served_connection import MAX_BYTES, ApiKey
from tests.refusals import refused
from tests.served.servers import NAME, Request, Response, Server, chat_answer, json_response
from tests.served.test_calls import requests, texts

KEY, VARIABLE = "sk-secret+key/7431", "MORES_TEST_KEY"
USAGES: dict[str, Any] = {
    "absent": None,
    "list": [1],
    "text": {"prompt_tokens": "7", "completion_tokens": "7"},
    "negative": {"prompt_tokens": -5, "completion_tokens": -(10**30)},
    "nan": {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
    "fraction": {"prompt_tokens": 1.5, "completion_tokens": True},
    "zero": {"prompt_tokens": 0, "completion_tokens": 0},
    "64 bits": {"prompt_tokens": 10**19, "completion_tokens": 10**19},
    "huge": {"prompt_tokens": 10**400, "completion_tokens": 10**400},
    "cached": {"prompt_tokens_details": {"cached_tokens": 10**19}},
}


@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
def test_an_implausible_usage_is_replaced_by_the_advance(usage):
    async def handle(request: Request) -> Response:
        return json_response({**chat_answer("yes"), "usage": usage})

    prices = {"price_per_million_input": 1, "price_per_million_output": 1}
    with Server(handle) as server:
        parameters = {"model": NAME, "max_tokens": 150, "concurrency": 1, **prices}
        served = ServedModel(url=server.url, retry_delay=0, **parameters).engine()
        (reply,) = served.generate(requests(1), None)
        counted, spent = reply.counted, served.spent()
        assert counted is not None and counted.cached_tokens == 0
        assert counted.prompt_tokens == spent.prompt_tokens > 32
        assert counted.reply_tokens == spent.reply_tokens == 8
        assert served.usage.cost == pytest.approx(spent.cost) and spent.cost > 4e-5
        with refused("budget", "model"):
            texts(served, requests(100))
        assert len(server.requests) < 5


@pytest.mark.parametrize(
    "value", [-(10**400), 10**400, "0", True, None, float("nan")], ids=range(6)
)
def test_no_log_probability(value):
    with pytest.raises(UnusableAnswer):
        log_probability(value)


@pytest.mark.parametrize("token", [-1, 2**31, 10**400, 1.0], ids=range(4))
def test_no_token(token):
    with pytest.raises(UnusableAnswer):
        token_list({"tokens": [token]})


QUOTED = {
    "without its end": KEY[:-4],
    "without its start": KEY[5:],
    "split": f"{KEY[:9]}\0{KEY[9:]}",
    "one by one": "\u200b ".join(KEY),
}


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize("quoted", QUOTED.values(), ids=QUOTED)
def test_parts_of_a_key_are_removed(status, quoted, monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)

    async def handle(request: Request) -> Response:
        if status == 200:
            return Response(200, f"no JSON {quoted} end".encode())
        return json_response({"error": {"message": f"bad {quoted} end"}}, status)

    with Server(handle) as server:
        model = ServedModel(url=server.url, model=NAME, api_key_env=VARIABLE, max_retries=0)
        with refused("server_refused" if status == 400 else "server_failed", "model") as raised:
            texts(model.engine(), requests(1))
    assert "[key] end" in str(raised.value)


def test_other_text_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)
    key = ApiKey(VARIABLE)
    assert key.remove_from("a  sk-secr\n et+key/ 7431") == "a  [key]"
    for text in ("", "sk-secr", "A secret\u00a0key, sk-", "no key"):
        assert key.remove_from(text) == text


def large(text: bytes) -> bytes:
    return b'{"a": "' + text * MAX_BYTES + b'"}'


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (large(b"x"), ""),
        (gzip.compress(large(b"x"), 1), "gzip"),
        (b"no gzip", "gzip"),
        (b"{}", "br"),
    ],
    ids=["large", "bomb", "damaged", "unknown"],
)
def test_bodies_have_a_limit(content, encoding):
    async def handle(request: Request) -> Response:
        return Response(200, content, {"content-encoding": encoding} if encoding else {})

    with Server(handle) as server:
        model = ServedModel(url=server.url, model=NAME, max_retries=0)
        with refused("server_failed", "model"):
            texts(model.engine(), requests(1))


def test_a_compressed_answer_is_read():
    async def handle(request: Request) -> Response:
        content = gzip.compress(json.dumps(chat_answer("yes")).encode())
        return Response(200, content, {"content-encoding": "gzip"})

    with Server(handle) as server:
        assert texts(ServedModel(url=server.url, model=NAME).engine(), requests(1)) == ["yes"]
