"""Kept replies: killed processes, two processes, arms, record and replay."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
from multiprocessing.connection import Connection
from typing import Any

import pytest

from mores.agents.language.language_model import GenerateRequest, Message, ScoreRequest
from mores.agents.language.models.served import ServedModel
from mores.agents.language.models.served_store import ReplyStore
from mores.core.current_cell import current_cell, simulating_cell
from tests.refusals import refused
from tests.served.servers import NAME, Server
from tests.served.servers import stub_model as stub
from tests.served.test_calls import requests, texts


def engine(server: Server, store: object, **parameters):
    defaults = {"model": NAME, "retry_delay": 0, "mode": "record", "store": str(store)}
    return ServedModel(url=server.url, **{**defaults, **parameters}).engine()


def ask_and_report(url: str, store: str, count: int, progress: Connection) -> None:
    """Ask in phases of 50 calls, and tell how many calls are answered."""
    model = ServedModel(url=url, model=NAME, mode="record", store=store, retry_delay=0)
    for start in range(0, count, 50):
        model.engine().generate(requests(count)[start : start + 50], None)
        progress.send(start + 50)
    progress.send("done")
    progress.recv()  # until it is killed


def start_process(server: Server, store: object, count: int) -> tuple[Any, Connection]:
    context = multiprocessing.get_context("fork")  # needs no import of torch
    own, other = context.Pipe()
    arguments = (server.url, str(store), count, other)
    process = context.Process(target=ask_and_report, args=arguments, daemon=True)
    process.start()
    return process, own


def test_a_thousand_replies_survive_sigkill(tmp_path):
    store = tmp_path / "replies.sqlite"
    with Server(stub) as server:
        process, progress = start_process(server, store, 1200)
        while progress.recv() < 1000:
            pass
        os.kill(process.pid, signal.SIGKILL)  # in the midst of further calls
        process.join()
        assert process.exitcode == -signal.SIGKILL
    kept = len(ReplyStore(str(store)))
    assert kept >= 1000
    with Server(stub) as server:
        replayed = texts(engine(server, store, mode="replay"), requests(1000))
        assert not server.requests
        again = texts(engine(server, store), requests(1200))
        assert again[:1000] == replayed
        assert len(server.requests) == 1200 - kept  # no answer is asked for twice
    (check,) = sqlite3.connect(store).execute("PRAGMA integrity_check").fetchone()
    assert check == "ok"


def test_two_processes_keep_one_reply(tmp_path):
    store = tmp_path / "replies.sqlite"
    with Server(stub) as server:
        started = [start_process(server, store, 200) for _ in range(2)]
        for process, progress in started:
            while progress.recv() != "done":
                pass
            process.kill()
        assert len(ReplyStore(str(store))) == 200
        assert 200 <= len(server.requests) <= 400
        assert engine(server, store).spent().requests == len(server.requests)


def test_an_earlier_reply_is_the_one_that_both_get(tmp_path):
    store = ReplyStore(str(tmp_path / "replies.sqlite"))
    assert store.put("key", "", "", "{}", {"text": "first"}) == {"text": "first"}
    assert store.put("key", "", "", "{}", {"text": "second"}) == {"text": "first"}


def test_agents_with_equal_prompts_have_their_own_draws(tmp_path):
    with Server(stub) as server:
        served = engine(server, tmp_path / "s.sqlite")
        assert len(set(texts(served, requests(10)))) == 10
        assert len(server.requests) == 10
        texts(served, requests(10))
        assert len(server.requests) == 10 and served.usage.cache_hits == 10
        same = GenerateRequest((Message("user", "x"),), 8)
        with refused("missing", "address"):
            served.generate([same], None)


def test_arms_have_their_own_replies_unless_they_share(tmp_path):
    """The control and its twin are both computed: equality of the two is a result."""
    with Server(stub) as server:
        for cache, expected in (("off", 2), ("on", 1)):
            served = engine(server, tmp_path / f"{cache}.sqlite", cache=cache)
            server.requests.clear()
            for cell in ("control", "twin"):
                with simulating_cell(cell):
                    texts(served, requests(5))
            assert len(server.requests) == 5 * expected
            assert current_cell() == ""


def test_live_keeps_nothing_and_cache_keeps(tmp_path):
    with Server(stub) as server:
        for mode, cache, kept in (("live", "off", 0), ("live", "on", 3)):
            store = tmp_path / f"{cache}.sqlite"
            texts(engine(server, store, mode=mode, cache=cache), requests(3))
            assert len(ReplyStore(str(store))) == kept
            assert engine(server, store, mode=mode, cache=cache).spent().requests == 3


def test_replay_needs_no_server_and_no_key(tmp_path, monkeypatch):
    store, variable = tmp_path / "replies.sqlite", "MORES_TEST_KEY"
    monkeypatch.setenv(variable, "sk-test-3")
    with Server(stub) as server:
        served = engine(server, store, api_key_env=variable, model="")
        recorded = texts(served, requests(5))
        usage = served.usage
    monkeypatch.delenv(variable)
    served = engine(server, store, api_key_env=variable, model="", mode="replay", max_requests=0)
    assert texts(served, requests(5)) == recorded
    assert served.usage.prompt_tokens == usage.prompt_tokens  # metrics are those of the recording
    assert served.usage.reply_tokens == usage.reply_tokens
    with refused("not_recorded", "store"):
        texts(served, requests(6))
    with refused("not_recorded", "store"):
        texts(served, requests(5, text="Do you agree?"))
    with simulating_cell("another arm"), refused("not_recorded", "store"):
        texts(served, requests(5))


def test_a_recording_does_not_depend_on_the_address_of_the_server(tmp_path):
    store = tmp_path / "replies.sqlite"
    with Server(stub) as server:
        recorded = texts(engine(server, store), requests(5))
    with Server(stub) as other:
        assert texts(engine(other, store), requests(5)) == recorded
        assert not other.requests


def test_a_recording_can_be_read_without_mores(tmp_path):
    store = tmp_path / "replies.sqlite"
    with Server(stub) as server, simulating_cell("control"):
        recorded = texts(engine(server, store), requests(1))
    query = "SELECT cell, address, request, answer FROM replies"
    ((cell, address, request, answer),) = sqlite3.connect(store).execute(query)
    assert (cell, address) == ("control", "person 0, round 0")
    assert json.loads(request)["body"]["messages"][1]["content"] == "Agree?"
    assert json.loads(answer)["answer"]["text"] == recorded[0]


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but some text that somebody needs" * 100)
    with refused("not_writable", "store"):
        ReplyStore(str(text))
    assert text.read_text().startswith("not a database")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    with refused("incompatible", "store"):
        ReplyStore(str(other))
    with refused("not_writable", "store"):
        ReplyStore("/proc/nowhere/replies.sqlite")


def test_a_store_is_named_where_replies_are_kept():
    for parameters in ({"mode": "record"}, {"mode": "replay"}, {"cache": "on"}):
        with pytest.raises(ValueError, match="replies are kept in a file"):
            ServedModel(url="http://127.0.0.1:1", **parameters)


def test_scores_without_an_address_are_shared_by_agents(tmp_path):
    from tests.served.test_scoring import listed_labels

    with Server(listed_labels) as server:
        served = engine(server, tmp_path / "s.sqlite")
        asked = [ScoreRequest((Message("user", "?"),), ("A", "B"))]
        first = served.score(asked)
        calls = len(server.requests)
        assert served.score(asked * 3) == first * 3
        assert len(server.requests) == calls
