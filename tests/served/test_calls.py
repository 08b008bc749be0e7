"""Faults of a server: repetitions, then a clear stop, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from mores.agents.language.language_model import GenerateRequest, Message
from mores.agents.language.models.served import ServedModel
from mores.agents.language.models.served_connection import run
from mores.agents.language.models.served_limits import Pace, RateLimit
from mores.agents.language.models.served_retries import RetryRule, time_limit
from mores.agents.language.models.served_store import ReplyStore
from mores.core.errors import UserError
from tests.refusals import refused
from tests.served.servers import NAME, Request, Response, Server, chat_answer, json_response
from tests.served.servers import stub_model as stub

TRANSIENT = ("reset", "close", "stall", "garbage", "half", "half_json", "no_choices", "429", "500")


def requests(count: int, text: str = "Agree?") -> list[GenerateRequest]:
    conversation = (Message("system", "You are a person."), Message("user", text))
    return [
        GenerateRequest(conversation, 8, address=f"person {index}, round 0")
        for index in range(count)
    ]


def engine(server: Server, **parameters):
    # The time limit doubles after each time-out: a slow machine does not fail.
    defaults = {"model": NAME, "retry_delay": 0, "timeout": 1.0, "max_retries": 12}
    return ServedModel(url=server.url, **{**defaults, **parameters}).engine()


def texts(served, asked) -> list[str]:
    return [reply.text for reply in served.generate(asked, None)]


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_failed_call_is_repeated(fault):
    with Server(stub) as server:
        expected = texts(engine(server), requests(3))
    with Server(stub, [fault, fault]) as server:
        served = engine(server)
        assert texts(served, requests(3)) == expected
        assert len(server.requests) == 5
        assert served.usage.retries == 2


@pytest.mark.parametrize("fault", [fault for fault in TRANSIENT if fault != "stall"])
def test_after_the_last_repetition_there_is_one_clear_line(fault):
    with Server(stub, [fault] * 3) as server:
        with refused("server_failed", "model") as raised:
            texts(engine(server, max_retries=2), requests(1))
        assert len(server.requests) == 3
    text = str(raised.value)
    assert "\n" not in text and "\x1b" not in text and text.isprintable()
    assert raised.value.__cause__ is None and raised.value.__context__ is None


def test_time_outs():
    with Server(stub, ["stall"] * 2) as server, refused("server_failed", "model"):
        texts(engine(server, max_retries=1, timeout=0.05), requests(1))
    assert [time_limit(2.0, n) for n in (0, 1, 2, 3, 9)] == [2, 4, 8, 16, 16]


@pytest.mark.parametrize("fault", ["401", "quota", "redirect"])
def test_what_the_server_refuses_is_not_repeated(fault):
    with Server(stub, [fault]) as server:
        with refused("server_refused", "model") as raised:
            texts(engine(server), requests(1))
        assert len(server.requests) == 1
    assert "sk-secret" not in str(raised.value)  # some servers quote the key


def test_another_model_is_refused():
    with Server(stub, ["other_model"]) as server:
        with refused("other_model", "model"):
            texts(engine(server), requests(1))
        assert len(server.requests) == 1
        with refused("server_refused", "model"):
            texts(engine(server, model="stub-2"), requests(1))


def test_a_dated_snapshot_is_the_model():
    async def handle(request: Request) -> Response:
        name = f"{NAME}-2026-08-06" if request.body["seed"] % 2 else f"{NAME}@main"
        return json_response({**chat_answer("yes"), "model": name})

    with Server(handle) as server:
        assert texts(engine(server), requests(4)) == ["yes"] * 4

    async def smaller(request: Request) -> Response:
        return json_response({**chat_answer("yes"), "model": f"{NAME}-mini"})

    with Server(smaller) as server, refused("other_model", "model"):
        texts(engine(server), requests(1))


def test_no_server():
    with Server(stub) as server:
        pass
    with refused("server_failed", "model") as raised:
        texts(engine(server, max_retries=1), requests(3))
    assert "cannot connect" in str(raised.value)


def test_delays_are_exponential_and_fixed_by_the_request():
    rule = RetryRule(max_retries=9, first_seconds=1.0)
    delays = [rule.delay("key", repetition) for repetition in range(9)]
    assert all(2**k / 2 <= delay <= 2**k for k, delay in enumerate(delays[:6]))
    assert max(delays) <= 60
    assert delays == [rule.delay("key", repetition) for repetition in range(9)]
    assert rule.delay("other key", 0) != delays[0]
    assert rule.delay("key", 0, retry_after=30.0) == 30.0


def test_no_run_waits_longer_than_an_hour():
    async def closed(request: Request) -> Response:
        return json_response({"error": "closed"}, 429, **{"retry-after": "86400"})

    with Server(closed) as server:
        with refused("server_failed", "model") as raised:
            texts(engine(server), requests(3))
        assert len(server.requests) <= 3
    assert "86400 seconds" in str(raised.value)


def test_retry_after_holds_for_the_whole_server():
    waited = []

    async def busy(request: Request) -> Response:
        first = len(server.requests) == 1
        answer = json_response({"error": "busy"}, 429, **{"retry-after": "1000"})
        return answer if first else await stub(request)

    with Server(busy) as server:
        served = engine(server, concurrency=1)
        clock = [1e9]
        served.caller.pace._clock = lambda: clock[0]

        async def wait(seconds: float, stop: asyncio.Event) -> None:
            waited.append(seconds)
            clock[0] += seconds

        served.caller.wait = wait
        texts(served, requests(2))
    # the failed call waits; the other call finds its place in time then
    assert waited[0] == 1000 and sum(waited) < 1003


def test_calls_run_concurrently_within_the_bound():
    together = asyncio.Barrier(8)  # each answer waits for seven other calls

    async def handle(request: Request) -> Response:
        await together.wait()
        return await stub(request)

    with Server(handle) as server:
        texts(engine(server, concurrency=8, timeout=60), requests(32))
        assert server.most_in_flight == 8


def test_results_are_in_the_order_of_requests():
    with Server(stub) as server:
        alone = [texts(engine(server), [request])[0] for request in requests(20)]
        assert texts(engine(server, concurrency=7), requests(20)) == alone
        assert len(set(alone)) == 20  # equal prompts, another seed each


def test_works_where_an_event_loop_runs():
    async def notebook() -> list[str]:
        return texts(engine(server), requests(2))

    with Server(stub) as server:
        assert len(asyncio.run(notebook())) == 2


def test_calls_in_flight_are_finished_and_kept_when_one_fails(tmp_path):
    async def handle(request: Request) -> Response:
        return (
            json_response({"error": "bad"}, 400) if not server.bodies()[1:] else await stub(request)
        )

    parameters = {"mode": "record", "store": str(tmp_path / "replies.sqlite"), "concurrency": 4}
    with Server(handle) as server:
        with refused("server_refused", "model"):
            texts(engine(server, **parameters), requests(400))
        sent = len(server.bodies())
        assert sent < 400
        assert len(ReplyStore(parameters["store"])) == sent - 1
        texts(engine(server, **parameters), requests(400))
        assert len(server.bodies()) == 400 + 1  # nothing that was answered is asked again


def test_an_interrupt_cancels_the_calls():
    with Server(stub, ["stall"] * 4) as server:
        served = engine(server, timeout=600)
        calls = [served._call(request) for request in requests(4)]

        async def interrupted() -> None:
            task = asyncio.create_task(served.caller._all(calls, ""))
            while server.in_flight < 4:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(interrupted())
        served.caller.mode = "live"
        assert len(texts(served, requests(2))) == 2


def test_ctrl_c_ends_a_call_that_waits():
    with Server(stub, ["stall"] * 2) as server:
        served = engine(server, timeout=600.0)

        def interrupt() -> None:
            while server.in_flight < 2:
                pass
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            texts(served, requests(2))
        assert len(texts(served, requests(2))) == 2


def test_pace(tmp_path):
    """Two processes that share a store share the rate: their starts interleave."""
    now = [1000.0]
    paces = [
        Pace(
            ReplyStore(str(tmp_path / "s.sqlite")),
            "url",
            RateLimit(600.0, 60_000.0),
            lambda: now[0],
        )
        for _ in range(2)
    ]
    waits = [paces[index % 2].wait(tokens=10) for index in range(61)]
    assert max(waits[:11]) < 1e-9  # those of one second start at once
    assert waits[60] == pytest.approx(5.0, abs=1e-6)  # the others at 10 a second
    now[0] += 60
    assert paces[0].wait(10) == 0
    assert paces[1].wait(tokens=3000) == 0  # three seconds of tokens, which the next call waits for
    assert paces[0].wait(10) == pytest.approx(2.01, abs=0.02)
    paces[1].pause(9.0)
    assert paces[0].wait(10) == pytest.approx(9.0, abs=0.02)


def test_replies():
    async def handle(request: Request) -> Response:
        text = {"a": None, "b": "broken \ud800 text", "c": "one STOP two"}
        answer = chat_answer(text[request.body["messages"][-1]["content"]])
        answer["choices"][0]["finish_reason"] = "length"
        return json_response(answer)

    with Server(handle) as server:
        served = engine(server)
        asked = [
            GenerateRequest((Message("user", text),), 8, 0.0, stop=("STOP", "1", "2", "3", "4"))
            for text in "abc"
        ]
        replies = served.generate(asked, None)
        assert [reply.text for reply in replies] == ["", "broken ? text", "one "]
        assert not any(reply.is_complete for reply in replies)
        body = server.bodies()[0]
        assert "seed" not in body and body["temperature"] == 0 and len(body["stop"]) == 4
        codes = served.reply_codes(replies[1])
        assert served.reply_message(codes) == Message("assistant", "broken ? text")


def test_parameters_of_requests():
    with Server(stub) as server:
        served = engine(server, limit_name="max_completion_tokens", extra_body={"top_p": 0.5})
        texts(served, requests(1))
        (body,) = server.bodies()
    assert body["max_completion_tokens"] == 8 and body["top_p"] == 0.5
    assert "max_tokens" not in body and 0 <= body["seed"] < 2**31
    assert body["messages"][1] == {"role": "user", "content": "Agree?"}


def test_the_only_model_of_a_server_needs_no_name():
    async def two(request: Request) -> Response:
        return json_response({"data": [{"id": "a"}, {"id": "b"}]})

    with Server(stub) as server:
        texts(engine(server, model=""), requests(1))
        assert server.bodies()[0]["model"] == NAME
    with Server(two) as server, refused("missing", "model"):
        texts(engine(server, model=""), requests(1))


def test_adapters_are_refused():
    asked = GenerateRequest((Message("user", "x"),), 8, adapter=0)
    with Server(stub) as server, refused("unsupported", "adapter"):
        engine(server).generate([asked], None)


def test_errors_of_many_calls_are_one_error():
    with Server(stub, ["500"] * 1000) as server, pytest.raises(UserError) as raised:
        texts(engine(server, max_retries=0, concurrency=8), requests(100))
    assert raised.value.code == "server_failed"
