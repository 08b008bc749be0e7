"""A real `transformers serve` on this machine behind injected faults: a clear stop, and resuming.

Twelve people with a tiny random model talk for three rounds, each seeing their own replies. The
draws of `transformers serve` are not reproducible: one seed serves all its requests. A recording
makes a rerun equal.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mores.agents.language.language_model import (
    Conversation,
    GenerateRequest,
    Message,
    ScoreRequest,
)
from mores.agents.language.models.served import ServedModel
from mores.agents.language.models.tiny import tiny_model
from mores.core.errors import UserError
from tests.refusals import refused
from tests.served.servers import Response, Server, proxy_to

PEOPLE, ROUNDS = 12, 3
PROGRAM = Path(sys.executable).parent / "transformers"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not PROGRAM.exists(), reason="needs transformers[serving]"),
]


class RealServer:
    """`transformers serve` as a process that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.port, self.process = 0, None

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [PROGRAM, "serve", self.folder, "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*map(str, command), "--device", "cpu", "--log-level", "info"],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Uvicorn running" in line:
                break
        else:
            raise AssertionError("".join(lines))
        # what it writes later must not fill the pipe
        subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[RealServer]:
    folder = tmp_path_factory.mktemp("tiny-llama")
    for part in tiny_model(32, 2, 0):
        part.save_pretrained(folder)
    server = RealServer(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


def talk(model: ServedModel) -> list[list[str]]:
    """Replies by round and person."""
    engine = model.engine()
    memories: list[Conversation] = [()] * PEOPLE
    rounds = []
    for number in range(ROUNDS):
        asked = []
        for person in range(PEOPLE):
            message = Message("user", f"Person {person}, round {number}: do you agree?")
            memories[person] += (message,)
            address = f"person {person}, round {number}"
            asked.append(GenerateRequest(memories[person], 6, 1.0, address=address))
        replies = engine.generate(asked, None)
        for person, reply in enumerate(replies):
            memories[person] += (engine.reply_message(engine.reply_codes(reply)),)
        rounds.append([reply.text for reply in replies])
    return rounds


def model_at(url: str, real: RealServer, store: Path, **parameters) -> ServedModel:
    defaults = {"mode": "record", "retry_delay": 0, "max_retries": 20, "timeout": 5.0}
    return ServedModel(url=url, model=real.folder, store=str(store), **{**defaults, **parameters})


FAULTS = (
    *("garbage", "half", "half_json", "429", "500", "reset", "close", "no_choices", "stall"),
    *("500", "", "reset", "", "", "429", "half_json"),
)


def test_faults_are_overcome_and_replay_is_equal(real, tmp_path):
    store = tmp_path / "replies.sqlite"
    with Server(proxy_to(lambda: real.port), FAULTS) as proxy:
        model = model_at(proxy.url, real, store)
        rounds = talk(model)
        assert len(proxy.requests) == PEOPLE * ROUNDS + sum(map(bool, FAULTS))
        assert model.engine().usage.retries == sum(map(bool, FAULTS))
        assert model.engine().usage.reply_tokens > PEOPLE * ROUNDS
    assert len({text for texts in rounds for text in texts}) > PEOPLE  # drawn, each by itself
    replay = model_at("http://127.0.0.1:9/v1", real, store, mode="replay")
    assert talk(replay) == rounds


def test_killed_in_mid_run_then_resumed(real, tmp_path):
    store = tmp_path / "replies.sqlite"

    async def dying(request) -> Response:
        if len(proxy.requests) == PEOPLE + 5:  # in the second round
            real.kill()
        return await proxy_to(lambda: real.port)(request)

    with Server(dying) as proxy:
        with refused("server_failed", "model") as raised:
            talk(model_at(proxy.url, real, store, max_retries=2))
        assert "resumed" in str(raised.value)
    kept = _kept(store)
    assert len(kept) >= PEOPLE
    real.start()
    with Server(proxy_to(lambda: real.port)) as proxy:
        rounds = talk(model_at(proxy.url, real, store))
        assert len(proxy.requests) == PEOPLE * ROUNDS - len(kept)  # nothing is asked again
    assert kept.items() <= _kept(store).items()
    assert talk(model_at("http://127.0.0.1:9/v1", real, store, mode="replay")) == rounds


def test_another_model_stops_the_run(real, tmp_path):
    with Server(proxy_to(lambda: real.port), ["", "other_model"]) as proxy:
        with refused("other_model", "model"):
            talk(model_at(proxy.url, real, tmp_path / "a.sqlite"))
        with pytest.raises(UserError) as raised:
            model = model_at(proxy.url, real, tmp_path / "b.sqlite")
            talk(model.model_copy(update={"model": "org/another"}))
        assert raised.value.code == "server_refused"


def test_the_server_names_its_model_and_cannot_score(real, tmp_path):
    model = ServedModel(url=f"http://127.0.0.1:{real.port}")
    assert model.engine().model == real.folder
    (reply,) = model.engine().generate([GenerateRequest((Message("user", "x"),), 4, 0.0)], None)
    assert reply.text
    with refused("unsupported", "readout"):
        model.engine().score([ScoreRequest((Message("user", "x"),), ("A", "B"))])


def _kept(store: Path) -> dict[str, str]:
    import sqlite3

    return dict(sqlite3.connect(store).execute("SELECT key, answer FROM replies"))
