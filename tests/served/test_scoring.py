"""Scores from a server equal those of the model in process; labels of one token with a bound."""

from __future__ import annotations

import math

import pytest
import torch

from mores.agents.language.language_model import Message, ScoreRequest
from mores.agents.language.models.served import ServedModel
from mores.agents.language.models.served_scoring import label_logps
from mores.agents.language.models.tiny import TinyModel, tiny_model
from tests.refusals import refused
from tests.served.servers import NAME, Request, Response, Server, chat_answer, json_response

CONVERSATION = (Message("system", "You are a person."), Message("user", "Agree?\nA. yes\nB. no"))


async def tiny_server(request: Request) -> Response:
    """Endpoints of vLLM: /tokenize, and /v1/completions with log-probabilities of the prompt."""
    model, tokenizer = tiny_model(32, 2, 0)
    body = request.body
    if request.path == "/tokenize":
        if "prompt" in body:
            tokens = tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
        else:
            tokens = tokenizer.apply_chat_template(
                body["messages"],
                tokenize=True,
                add_generation_prompt=body.get("add_generation_prompt", True),
                return_dict=False,
            )
        return json_response({"tokens": list(tokens), "count": len(tokens)})
    if request.path == "/v1/completions" and body["echo"]:
        prompt = body["prompt"]
        ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        logps = [None, *(float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1))]
        logprobs = {"token_logprobs": [*logps, -1.0]}
        choice = {"index": 0, "text": "", "logprobs": logprobs, "finish_reason": "length"}
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return json_response({"model": NAME, "choices": [choice], "usage": usage})
    return json_response({"detail": "Not Found"}, 404)


TOKENS = {"A": 0.5, " A": 0.2, "B": 0.1, "Well": 0.1, "C": 0.05}


async def listed_labels(request: Request) -> Response:
    """A paid API: likely next tokens of a chat, and nothing else."""
    if request.path != "/v1/chat/completions":
        return json_response({"error": {"message": "unknown"}}, 404)
    answer = chat_answer("A")
    listed = [{"token": token, "logprob": math.log(p)} for token, p in TOKENS.items()]
    top = listed[: request.body["top_logprobs"]]
    answer["choices"][0]["logprobs"] = {"content": [{"token": "A", "top_logprobs": top}]}
    return json_response(answer)


async def ignoring(request: Request) -> Response:
    """`transformers serve`, and llama.cpp with `echo`: the parameters are ignored."""
    if request.path == "/v1/chat/completions":
        return json_response(chat_answer("A"))
    if request.path == "/v1/completions":
        choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        return json_response({"model": NAME, "choices": [choice]})
    return json_response({"detail": "Not Found"}, 404)


def engine(server: Server, **parameters):
    defaults = {"model": NAME, "retry_delay": 0, "max_retries": 2}
    return ServedModel(url=server.url, **{**defaults, **parameters}).engine()


@pytest.mark.parametrize("with_end", [False, True])
@pytest.mark.parametrize("tokenizer", [False, True])
def test_scores_of_texts_equal_those_in_process(with_end, tokenizer, tmp_path):
    statements = ("I agree with that.", "No.", "1", "10", "naïve ☃")
    asked = [
        ScoreRequest(CONVERSATION, statements, with_end),
        ScoreRequest(CONVERSATION[1:], ("A", "B"), with_end),
    ]
    tiny_model(32, 2, 0)[1].save_pretrained(tmp_path)
    expected = TinyModel().engine().score(asked)
    with Server(tiny_server) as server:
        served = engine(server, tokenizer=str(tmp_path) if tokenizer else "")
        found = served.score(asked)
        assert served.usage.requests == 2
        assert served.usage.prompt_tokens > 7 * 20
        count = len(server.requests)
        assert served.score(asked) == found
        assert len(server.requests) == count + 7  # tokens are known
    for score, reference in zip(found, expected, strict=True):
        assert score.num_tokens == reference.num_tokens
        assert score.logps == pytest.approx(reference.logps, abs=1e-4)


def test_labels_of_one_token():
    with Server(listed_labels) as server:
        served = engine(server)
        assert served.scores
        (score,) = served.score([ScoreRequest(CONVERSATION, ("A", "B", "D"))])
        assert [math.exp(x) for x in score.logps[:2]] == pytest.approx([0.7, 0.1])
        assert math.exp(score.logps[2]) == pytest.approx(0.05)  # at most; .05 is left over as well
        assert server.bodies()[-1]["max_tokens"] == 1
        assert server.bodies()[-1]["logprobs"] is True
        with refused("unsupported", "readout"):
            served.score([ScoreRequest(CONVERSATION, ("Xylophone", "Q"))])
        with refused("unsupported", "readout"):
            served.score([ScoreRequest(CONVERSATION, ("I agree.", "No."))])
        with refused("unsupported", "readout"):
            served.score([ScoreRequest(CONVERSATION, ("1", "10"), with_end=True)])


def test_labels_of_several_tokens_are_refused(tmp_path):
    """By the tokenizer; without it, where a likely token begins the label."""
    asked = [ScoreRequest(CONVERSATION, ("A", "We"))]  # "We" is two tokens of the tokenizer
    tiny_model(32, 2, 0)[1].save_pretrained(tmp_path)
    with Server(listed_labels) as server:
        assert engine(server).score(asked)
        with refused("unsupported", "readout"):
            engine(server, tokenizer=str(tmp_path)).score(asked)
        with refused("unsupported", "readout"):
            engine(server).score([ScoreRequest(CONVERSATION, ("A", "B1"))])
    (_, found) = label_logps(("A", "Yes"), [("A", math.log(0.9)), ("Y", math.log(0.004))]) or (0, 0)
    assert math.exp(found) == pytest.approx(0.008)  # the last listed, and what begins the label


@pytest.mark.parametrize(("status", "calls"), [(500, 3), (501, 1)])
def test_a_probe_that_fails_leaves_the_next_method(status, calls):
    """As of servers that do not know `echo`; calls that are repeated have the usual number."""

    async def handle(request: Request) -> Response:
        if request.path == "/v1/completions":
            return json_response({"error": {"message": "not implemented"}}, status)
        return await listed_labels(request)

    with Server(handle) as server:
        (score,) = engine(server).score([ScoreRequest(CONVERSATION, ("A", "B"))])
        assert len(server.bodies("/v1/completions")) == calls
    assert math.exp(score.logps[0]) == pytest.approx(0.7)


def test_the_bound_is_an_upper_bound():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        p = torch.rand(12, generator=generator, dtype=torch.float64) ** 3
        p = p / p.sum()
        order = p.argsort(descending=True).tolist()
        listed = [(f"t{i}", math.log(p[i])) for i in order[:5]]
        labels = [f"t{order[0]}", *(f"t{i}" for i in order[5:])]
        found = label_logps(labels, listed)
        assert found is not None
        assert found[0] == listed[0][1]
        for index, logp in zip(order[5:], found[1:], strict=True):
            assert logp >= math.log(p[index]) - 1e-9
    assert label_logps(["x"], listed) is None


@pytest.mark.parametrize("scoring", ["auto", "prompt", "next_token"])
def test_a_server_without_probabilities_names_the_readout(scoring):
    with Server(ignoring) as server:
        served = engine(server, scoring=scoring)
        assert not served.scores
        with refused("unsupported", "readout") as raised:
            served.score([ScoreRequest(CONVERSATION, ("A", "B"))])
        assert "free_text" in str(raised.value)
        assert len(server.requests) == (2 if scoring == "auto" else 1)


def test_a_stopped_method_is_refused_where_the_server_lacks_it():
    with Server(listed_labels) as server, refused("unsupported", "readout"):
        engine(server, scoring="prompt").score([ScoreRequest(CONVERSATION, ("A", "B"))])


def test_echo_without_tokens_needs_the_tokenizer(tmp_path):
    async def sglang(request: Request) -> Response:
        """Log-probabilities of the prompt, but no tokens of conversations."""
        if request.path == "/tokenize" and "messages" in request.body:
            return json_response({"error": "prompt is missing"}, 422)
        return await tiny_server(request)

    tiny_model(32, 2, 0)[1].save_pretrained(tmp_path)
    with Server(sglang) as server:
        asked = [ScoreRequest(CONVERSATION, ("I agree.", "No."))]
        with refused("unsupported", "readout") as raised:
            engine(server).score(asked)
        assert "tokenizer" in str(raised.value)
        assert engine(server, tokenizer=str(tmp_path)).score(asked)
