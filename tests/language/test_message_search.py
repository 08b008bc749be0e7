"""Searches for messages: against plain forward passes, and against decoding without a search."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mores import registry
from mores.agents.language.causal_lm import forward_logits
from mores.agents.language.language_model import GenerateRequest, Message
from mores.agents.language.models.tiny import TinyModel
from mores.core.turn_text import decode_message
from mores.sim.simulator import Simulator
from tests.refusals import refused

ENVIRONMENT = {"num_writers": 2, "word_sets": (("a", "e"), ("o", "the"))}


def messages(kind: str, **parameters: Any) -> tuple[list[str], Simulator]:
    """Messages of four agents after a round."""
    environment = registry.make("environment", "text_requests", ENVIRONMENT)
    policy = registry.make("policy", kind, {"model": "tiny", "max_new_tokens": 6, **parameters})
    simulator = Simulator(environment, {"writer": policy}, worlds=2, rounds=2)
    simulator.reset(0)
    simulator.step()
    return [decode_message(each) for each in simulator.state.messages.flatten(0, 1)], simulator


def test_lookahead_without_weight_is_greedy_decoding() -> None:
    greedy, _ = messages("language", temperature=0.0)
    searched, _ = messages("language_lookahead", weight=0.0, depth=2)
    assert searched == greedy


def test_the_first_of_n_messages_is_the_drawn_one() -> None:
    """Both have the random numbers of the first call: a larger n never has a smaller score."""
    drawn, one = messages("language")
    assert messages("language_best_of_n", num_candidates=1)[0] == drawn
    _, many = messages("language_best_of_n", num_candidates=16)
    assert (many.state.covered >= one.state.covered).all()
    assert float(many.state.covered.sum()) > float(one.state.covered.sum())


def test_lookahead_is_that_of_plain_forward_passes() -> None:
    """The rule of DeAL, computed token by token without caches and batches."""
    searched, simulator = messages("language_lookahead", weight=3.0, depth=2, num_candidates=3)
    model, _ = TinyModel().load()
    engine = TinyModel().engine()
    environment, role = simulator.environment, simulator.roles["writer"]
    state = environment.reset(start_streams(simulator))
    assert role.text is not None
    found = []
    for obs in environment.observe(state, "writer", "write").flatten(0, 1):
        turn = role.text.describe("write", obs, None)
        user = "\n".join(part for part in (turn.situation, turn.question) if part)
        conversation = (Message("system", role.text.rules), Message("user", user))
        prompt = engine.prompt(conversation)

        def logps(tokens: list[int], prompt: tuple[int, ...] = prompt) -> torch.Tensor:
            raw, _ = forward_logits(model, torch.tensor([[*prompt, *tokens]]), 1)
            return raw[0, -1].detach().float().log_softmax(-1)

        reply: list[int] = []
        while len(reply) < 6 and not (reply and engine.chat.is_end(reply[-1])):
            values = {}
            for token in logps(reply).topk(3).indices.tolist():
                ahead = [*reply, token]
                while len(ahead) < len(reply) + 3 and not engine.chat.is_end(ahead[-1]):
                    ahead.append(int(logps(ahead).argmax()))
                score = environment.message_score("writer", "write", obs, engine.chat.decode(ahead))
                values[token] = float(logps(reply)[token]) + 3.0 * score
            reply.append(max(values, key=lambda token: values[token]))
        found.append(engine.chat.decode(reply))
    assert searched == found


def start_streams(simulator: Simulator) -> Any:
    """Streams of the start of the first episode of a simulator with seed 0."""
    from mores.core import stream_addresses as addresses
    from mores.core.random_streams import RandomStreams

    streams = RandomStreams.of(0, simulator.worlds)
    return streams.child(addresses.EPISODE_START).child(addresses.ENVIRONMENT)


def test_a_reply_continues_what_it_begins_with() -> None:
    """`reply_start`: the rest of a greedy reply is what follows its first tokens."""
    engine = TinyModel().engine()
    conversation = (Message("user", "Say a word."),)
    whole = engine.generate([GenerateRequest(conversation, 8, 0.0)], None)[0].token_ids
    rest = engine.generate(
        [GenerateRequest(conversation, 8 - n, 0.0, reply_start=whole[:n]) for n in range(1, 4)],
        None,
    )
    assert [(*whole[:n], *each.token_ids) for n, each in enumerate(rest, 1)] == [whole] * 3
    candidates = engine.next_tokens([GenerateRequest(conversation, 1, 0.0)], 4)[0]
    assert candidates[0].token == whole[0]
    assert [each.logp for each in candidates] == sorted((c.logp for c in candidates), reverse=True)


def test_a_search_needs_a_score_and_a_temperature() -> None:
    with refused("conflict", path="language_best_of_n.temperature"):
        registry.make("policy", "language_best_of_n", {"temperature": 0.0})
    environment = registry.make("environment", "perspectives", {"questions": ("Why?",)})
    policy = registry.make("policy", "language_best_of_n", {"max_new_tokens": 2})
    simulator = Simulator(environment, {"writer": policy}, rounds=1)
    with refused("unsupported", path="policies.writer"):
        simulator.reset(0)


@pytest.mark.parametrize("kind", ["language_best_of_n", "language_lookahead"])
def test_searches_count_all_generated_tokens(kind: str) -> None:
    _, simulator = messages(kind, num_candidates=3)
    metrics = simulator.policies["writer"].metrics(simulator.policy_states["writer"])
    assert (metrics["reply_tokens"] >= 2 * 3).all()
    assert (metrics["prompt_tokens"] > 0).all()
