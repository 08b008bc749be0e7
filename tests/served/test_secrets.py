"""Keys reach no message, log, store, dump or repr, also after failures."""

from __future__ import annotations

import logging
import pickle
import traceback

import pytest
from pydantic import ValidationError

import mores
from mores import registry
from mores.agents.language.language_model import Message, ScoreRequest
from mores.agents.language.models.served import ServedModel
from mores.core.errors import UserError
from mores.registry.specs import model_from_word
from tests.refusals import refused
from tests.served.servers import NAME, Request, Response, Server, chat_answer, json_response
from tests.served.servers import stub_model as stub
from tests.served.test_calls import requests, texts

KEY, VARIABLE = "sk-secret+key/7431", "MORES_TEST_KEY"


def test_the_key_is_sent_and_reaches_nothing_else(tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv(VARIABLE, KEY)
    caplog.set_level(logging.DEBUG)
    store, seen = tmp_path / "s.sqlite", []

    async def quoting(request: Request) -> Response:
        """A server that says the key wherever it can."""
        header = request.headers["authorization"]
        step = len(server.requests)
        if step < 4:
            error = {"error": {"message": f"bad {header} " * step, "code": header}}
            return json_response(error, (500, 429, 503)[step - 1])
        if step == 4:
            return Response(200, f"no JSON: {header}".encode())
        if step == 5:
            return json_response({"model": NAME, header: [header]})
        return json_response(chat_answer(f"You sent {header}"))

    parameters = {"model": NAME, "api_key_env": VARIABLE, "mode": "record", "store": str(store)}
    with Server(quoting) as server:
        model = ServedModel(url=server.url, retry_delay=0, **parameters)
        served = model.engine()
        replies = texts(served, requests(1))
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert replies == ["You sent Bearer [key]"]
        for step in range(6):  # every failure, as the last one
            server.requests[:] = server.requests[:step]
            with pytest.raises(UserError) as raised:
                model = ServedModel(url=server.url, retry_delay=0, max_retries=0, **parameters)
                texts(model.engine(), requests(2, f"{step}")) if step < 5 else model.engine().score(
                    [ScoreRequest((Message("user", "x"),), ("A", "B"))]
                )
            seen.append("".join(traceback.format_exception(raised.value)))
            seen.append(repr(raised.value.__dict__))
    seen += [repr(model), str(model), model.model_dump_json(), repr(model.identity())]
    seen += [repr(served), repr(served.caller), repr(vars(served.caller)), caplog.text]
    seen += [repr(pickle.dumps(model)), *capfd.readouterr()]
    seen += [file.read_bytes().decode(errors="replace") for file in tmp_path.iterdir()]
    assert len(seen) > 15 and store.exists()
    assert not [text for text in seen if KEY in text or "7431" in text]


def test_a_missing_or_wrong_key(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with Server(stub) as server:
        model = ServedModel(url=server.url, model=NAME, api_key_env=VARIABLE)
        with refused("missing", "api_key_env"):
            texts(model.engine(), requests(1))
        for wrong in ("sk-7431\nInjected: header", "sk 7431", "sk-74\u20ac31"):
            monkeypatch.setenv(VARIABLE, wrong)
            with refused("invalid_value", "api_key_env") as raised:
                texts(model.engine(), requests(1))
            assert "sk" not in str(raised.value)
        assert not server.requests
        monkeypatch.setenv(VARIABLE, f"{KEY}\n")  # as `$(cat key)` or a file may give it
        assert texts(model.engine(), requests(1))


BAD = {
    "url": (
        "http://user:sk-7431@host/v1",
        "http://sk-7431@host/v1",
        "https://host/v1?api-key=sk-7431",
        "ftp://host/sk-7431",
        "sk-7431",
        "http://",
        "http://host:99999/sk-7431",
        "http://[sk-7431",
    ),
    "api_key_env": ("sk-7431", "sk7431AbC", "OPENAI_API_KEY sk-7431", "A" * 65),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_secrets_in_parameters_are_refused_and_not_shown(name, value):
    with pytest.raises(ValidationError) as raised:
        ServedModel(**{"url": "http://127.0.0.1:1", name: value})
    texts = [str(raised.value), "".join(traceback.format_exception(raised.value))]
    with pytest.raises(Exception) as made:
        registry.build("language_model", {"kind": "served", "url": "http://h", name: value})
    texts.append(str(made.value))
    with pytest.raises(UserError) as policy:
        model = {"kind": "served", "url": "http://h", name: value}
        mores.make_policy("language", model=model)
    texts.append(str(policy.value))
    assert not [text for text in texts if "7431" in text], texts


def test_addresses():
    for given, url, name in (
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", ""),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1", ""),
        ("https://host/api/v1#org/model-7b", "https://host/api/v1", "org/model-7b"),
    ):
        model = ServedModel(url=given)
        assert (model.url, model.model) == (url, name)
        word = model_from_word(given)
        assert word == {"kind": "served", "url": given}
    assert model.identity() == {"server": "https://host/api/v1", "model": "org/model-7b"}
    with pytest.raises(ValidationError):
        ServedModel(url="http://h/v1#a", model="b")
    with pytest.raises(ValidationError):
        ServedModel(url="http://h/v1", extra_body={"model": "b"})


def test_httpx_is_imported_at_the_first_call(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)  # as if it were not installed
    served = ServedModel(url="http://127.0.0.1:1", model=NAME).engine()
    with refused("not_installed", "httpx"):
        texts(served, requests(1))
