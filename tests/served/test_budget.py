"""Budgets stop before they are passed; estimates and counts of tokens."""

from __future__ import annotations

import pytest

from mores.agents.language.language_model import GenerateRequest, Message, ScoreRequest
from mores.agents.language.models.served import ServedModel
from mores.agents.language.models.served_budget import Amount
from tests.refusals import refused
from tests.served.servers import NAME, Request, Response, Server, chat_answer, json_response
from tests.served.servers import stub_model as stub
from tests.served.test_calls import requests, texts

PRICES = {"price_per_million_input": 0.4, "price_per_million_output": 1.6}


def engine(server: Server, store: object, **parameters):
    defaults = {"model": NAME, "retry_delay": 0, "store": str(store)}
    return ServedModel(url=server.url, **{**defaults, **parameters}).engine()


async def ten_and_three(request: Request) -> Response:
    return json_response(chat_answer("yes", prompt_tokens=10, reply_tokens=3))


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("limit", [{"max_requests": 7}, {"max_tokens": 400}, {"max_cost": 3e-4}])
def test_a_budget_is_never_passed_and_used_up(limit, concurrency, tmp_path):
    with Server(ten_and_three) as server:
        served = engine(server, tmp_path / "s.sqlite", concurrency=concurrency, **limit, **PRICES)
        with refused("budget", "model"):
            texts(served, requests(1000))
        spent = served.spent()
    assert spent.requests == len(server.requests)
    used = {
        "max_requests": spent.requests,
        "max_tokens": spent.prompt_tokens + spent.reply_tokens,
        "max_cost": spent.cost,
    }
    ((name, most),) = limit.items()
    # less is left than a call of these could use at most
    next_call = {"max_requests": 1, "max_tokens": 120, "max_cost": 1e-4}[name]
    assert most - next_call < used[name] <= most
    assert spent.cost == pytest.approx(spent.requests * (10 * 0.4 + 3 * 1.6) / 1e6)


def test_calls_that_wait_for_the_budget_are_not_sent_after_a_failure(tmp_path):
    """The budget has room for one call at a time; the first is refused for good."""
    with Server(ten_and_three, ["401"]) as server:
        with refused("server_refused", "model"):
            texts(engine(server, tmp_path / "s.sqlite", max_tokens=150), requests(6))
        assert len(server.requests) == 1


def test_a_run_goes_on_with_a_larger_budget(tmp_path):
    parameters = {"mode": "record", "store": str(tmp_path / "s.sqlite")}
    with Server(stub) as server:
        with refused("budget", "model"):
            texts(engine(server, max_requests=5, **parameters), requests(9))
        with refused("budget", "model"):  # what was spent before is remembered
            texts(engine(server, max_requests=5, **parameters), requests(9))
        assert len(server.requests) == 5
        texts(engine(server, max_requests=9, **parameters), requests(9))
        assert len(server.requests) == 9
        texts(engine(server, max_requests=0, **parameters), requests(9))  # kept: nothing is sent


def test_failed_calls_count(tmp_path):
    """What a server may have computed is paid; what it refused is not."""
    with Server(ten_and_three, ["500", "429", "garbage"]) as server:
        served = engine(server, tmp_path / "s.sqlite")
        texts(served, requests(1))
        spent = served.spent()
    assert spent.requests == 4
    assert spent.prompt_tokens > 10 + 40 and spent.reply_tokens == 3 + 8
    assert served.usage.prompt_tokens == 10 and served.usage.reply_tokens == 3


def test_an_estimate_sends_nothing():
    served = ServedModel(url="http://127.0.0.1:1", model=NAME, **PRICES)
    conversation = (Message("system", "s" * 400), Message("user", "u" * 200))
    asked = [GenerateRequest(conversation, 50)] * 100
    # (400 + 200) / 4 + 2 * 4 = 158 tokens
    assert served.engine().count_tokens(conversation) == 158
    estimate = served.estimate(asked)
    expected = Amount(100, 15800, 5000, (15800 * 0.4 + 5000 * 1.6) / 1e6)
    assert (estimate.requests, estimate.prompt_tokens) == (100, 15800)
    assert estimate.cost == pytest.approx(expected.cost)
    assert served.estimate([ScoreRequest(conversation, ("Yes", "No"))]).requests == 2


def test_usage_and_cost():
    async def handle(request: Request) -> Response:
        answer = chat_answer("yes", prompt_tokens=1000, reply_tokens=200)
        answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 600}
        return json_response(answer)

    with Server(handle) as server:
        served = engine(server, "", **PRICES)
        replies = served.generate(requests(5), None)
    usage, counted = served.usage, replies[0].counted
    assert counted is not None
    assert (counted.prompt_tokens, counted.cached_tokens, counted.reply_tokens) == (1000, 600, 200)
    assert counted.cost == pytest.approx(usage.cost / 5)
    assert (usage.requests, usage.prompt_tokens, usage.reply_tokens) == (5, 5000, 1000)
    assert usage.computed_tokens == 2000
    assert usage.cost == pytest.approx((5000 * 0.4 + 1000 * 1.6) / 1e6)


def test_a_tokenizer_counts_exactly(tmp_path):
    from mores.agents.language.models.tiny import tiny_model

    _, tokenizer = tiny_model(32, 2, 0)
    tokenizer.save_pretrained(tmp_path)
    served = ServedModel(url="http://127.0.0.1:1", model=NAME, tokenizer=str(tmp_path)).engine()
    text = "ä" * 10
    # a token a byte, and <|user|> ... <|end|> <|assistant|>
    assert served.count_tokens((Message("user", text),)) == 20 + 3
    with refused("unreadable", "tokenizer"):
        ServedModel(url="http://127.0.0.1:1", model=NAME, tokenizer=str(tmp_path / "no")).engine()
