"""The in-process engine against plain forward passes, one conversation at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.language.language_model import GenerateRequest, Message, ScoreRequest
from mores.agents.language.models.row_independence import least_independent_rows
from mores.agents.language.models.tiny import TinyModel
from tests.language.local_engines import (
    RULES,
    conversation,
    engine,
    noise,
    plain_reply,
    plain_scores,
)
from tests.refusals import refused

ENGINE = engine()
people = st.integers(0, 3)
conversations = st.builds(conversation, people, st.integers(0, 70), st.integers(0, 2))
texts = st.lists(st.sampled_from(("A", "B", "Yes", "I do not mind it.", "x" * 19)), min_size=1)
score_requests = st.builds(ScoreRequest, conversations, texts.map(tuple), st.booleans())
generate_requests = st.builds(
    GenerateRequest, conversations, st.integers(1, 20), st.sampled_from((0.0, 0.7, 1.0))
)


# --- results --------------------------------------------------------------------------------------


@given(st.lists(score_requests, min_size=1, max_size=7))
def test_scores_are_those_of_plain_forward_passes(requests: list[ScoreRequest]) -> None:
    scores = ENGINE.score(requests)
    for request, score in zip(requests, scores, strict=True):
        assert score.logps == pytest.approx(plain_scores(ENGINE, request), abs=1e-5)
        end = int(request.with_end)
        assert score.num_tokens == tuple(len(text) + end for text in request.continuations)


@given(st.lists(generate_requests, min_size=1, max_size=7))
def test_replies_are_those_of_generation_one_by_one(requests: list[GenerateRequest]) -> None:
    replies = ENGINE.generate(requests, noise)
    for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
        tokens, gaps = plain_reply(ENGINE, request, index)
        tolerance = ENGINE.near_tie / (request.temperature or 1.0)
        if min(gaps) > tolerance:  # rounding may decide closer ones
            assert reply.token_ids == tokens
        assert reply.near_ties == sum(gap < tolerance for gap in gaps)
        assert reply.is_complete == ENGINE.chat.is_end(reply.token_ids[-1])
        assert len(reply.logps) == len(reply.token_ids) <= request.max_new_tokens


@pytest.mark.parametrize(("temperature", "ties"), [(0.5, 1), (2.0, 0)])
def test_near_ties_are_those_of_logits(temperature: float, ties: int) -> None:
    """The tolerance of perturbed logits is that of logits over the temperature."""
    request = GenerateRequest(conversation(0), 1, temperature)
    with torch.no_grad():
        raw = ENGINE.model(torch.tensor([ENGINE.prompt(request.conversation)])).logits[0, -1]
    numbers = -raw / temperature  # perturbed logits of 0, but for two tokens
    numbers[7], numbers[8] = numbers[7] + 10, numbers[8] + 10 - ENGINE.near_tie
    (reply,) = ENGINE.generate([request], lambda indices, position: numbers[None])
    assert reply.token_ids == (7,) and reply.near_ties == ties


def test_the_precision_of_a_tiny_model_is_that_of_its_identity() -> None:
    own = TinyModel(hidden_size=8, num_layers=1, dtype="bfloat16").make_engine()
    assert {x.dtype for x in own.model.parameters()} == {torch.bfloat16}
    assert own.near_tie > ENGINE.near_tie


def test_log_probabilities_of_generated_tokens_are_their_scores() -> None:
    request = GenerateRequest(conversation(0), 12, 1.0)
    (reply,) = ENGINE.generate([request], noise)
    prompt = ENGINE.prompt(request.conversation)
    with torch.no_grad():
        raw = ENGINE.model(torch.tensor([[*prompt, *reply.token_ids]])).logits[0]
    logps = raw.log_softmax(-1)[len(prompt) - 1 : -1]
    expected = logps.gather(-1, torch.tensor(reply.token_ids)[:, None])[:, 0]
    assert reply.logps == pytest.approx(expected.tolist(), abs=1e-5)


def test_drawn_tokens_have_the_probabilities_of_the_model() -> None:
    """Chi-square over the first token of 4,000 replies, at temperature 0.5."""
    request, count = GenerateRequest(conversation(1), 1, 0.5), 4000
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(count, 261, generator=generator).clamp(1e-6, 1 - 1e-6)
    numbers = -(-uniform.log()).log()
    replies = ENGINE.generate([request] * count, lambda indices, position: numbers[list(indices)])
    with torch.no_grad():
        raw = ENGINE.model(torch.tensor([ENGINE.prompt(request.conversation)])).logits[0, -1]
    expected = count * (raw / 0.5).softmax(-1)
    observed = torch.bincount(torch.tensor([r.token_ids[0] for r in replies]), minlength=261)
    order = expected.argsort(descending=True)
    large = int((expected >= 8).sum())
    cells = [expected[order[:large]], expected[order[large:]].sum()[None]]
    counts = [observed[order[:large]], observed[order[large:]].sum()[None]]
    statistic = ((torch.cat(counts) - torch.cat(cells)) ** 2 / torch.cat(cells)).sum()
    assert abs(statistic - large) < 4 * (2 * large) ** 0.5
    assert large > 20


def test_a_reply_ends_at_a_text_of_the_request() -> None:
    whole, _ = plain_reply(ENGINE, GenerateRequest(conversation(2), 20, 0.0))
    text = ENGINE.chat.decode(whole)
    stop = text[7:9]
    request = GenerateRequest(conversation(2), 20, 0.0, stop=("never", stop))
    (reply,) = ENGINE.generate([request], None)
    assert reply.is_complete and reply.text == text[: text.index(stop)]
    assert reply.token_ids == whole[: len(reply.token_ids)]
    assert stop in ENGINE.chat.decode(reply.token_ids)
    assert stop not in ENGINE.chat.decode(reply.token_ids[:-1])


# --- results do not depend on the batch -----------------------------------------------------------


@given(
    st.lists(score_requests, min_size=1, max_size=6),
    st.lists(generate_requests, min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_bits_do_not_depend_on_companions_order_or_kept_beginnings(
    scored: list[ScoreRequest], drawn: list[GenerateRequest], random: object, fresh: bool
) -> None:
    scores, replies = ENGINE.score(scored), ENGINE.generate(drawn, noise)
    if fresh:
        ENGINE.store.clear()
    order = random.sample(range(len(scored)), len(scored))  # type: ignore[attr-defined]
    others = [ScoreRequest(conversation(7, i), ("Z",)) for i in range(len(scored) % 4)]
    again = ENGINE.score([*others, *(scored[i] for i in order)])[len(others) :]
    assert again == [scores[i] for i in order]
    chosen = order[0] % len(drawn)
    alone = ENGINE.generate([drawn[chosen]], lambda indices, position: noise([chosen], position))
    assert alone == [replies[chosen]]


def test_bits_do_not_depend_on_the_number_of_rows() -> None:
    requests = [ScoreRequest(conversation(i % 5, 3 * i), ("Yes", "No way")) for i in range(30)]
    expected = ENGINE.score(requests)
    for other in (engine(rows=64), engine(rows=12), engine(rows=16, full=True)):
        assert other.score(requests) == expected


def test_products_of_few_rows_are_avoided_where_their_bits_differ() -> None:
    least = least_independent_rows(ENGINE.model)
    assert 4 <= least <= 64
    for rows, columns in ((1, 1), (1, 16), (3, 2), (9, 1)):
        padded = ENGINE.forward.padded(rows, columns)
        assert padded >= rows and padded * columns >= least
    assert engine(rows=16, full=True).forward.padded(1, 16) == 16


# --- what is computed -----------------------------------------------------------------------------


def test_common_beginnings_are_computed_once_and_kept_for_the_next_call() -> None:
    own = engine(rows=64)
    requests = [ScoreRequest(conversation(i), ("Y", "N")) for i in range(40)]
    lengths = [len(own.prompt(r.conversation)) for r in requests]
    common = len(f"<s>{RULES} You are person ") // 16 * 16  # bytes are tokens
    own.score(requests)
    assert own.usage.prompt_tokens == sum(lengths) and own.usage.requests == 40
    blocks = own.usage.computed_tokens
    assert blocks <= sum(lengths) - 39 * (common - 16)
    own.score(requests)  # only the last block of each
    assert own.usage.computed_tokens - blocks == sum(1 + (n - 1) % 16 for n in lengths)
    before = own.usage.computed_tokens
    own.score(requests[:1] * 50)  # equal prompts once
    assert own.usage.computed_tokens - before == 1 + (lengths[0] - 1) % 16


def test_kept_beginnings_have_a_limit() -> None:
    own = engine(kept_bytes=50_000)
    requests = [ScoreRequest(conversation(i, 60), ("Yes", "I do")) for i in range(20)]
    scores = own.score(requests)
    assert 0 < own.store.num_bytes <= 50_000
    assert own.score(requests[::-1]) == scores[::-1]
    nothing = engine(kept_bytes=0)
    assert nothing.score(requests) == scores and nothing.store.num_bytes == 0


def test_usage_counts_reply_tokens() -> None:
    own = engine()
    replies = own.generate([GenerateRequest(conversation(i), 5) for i in range(3)], noise)
    assert own.usage.reply_tokens == sum(len(r.token_ids) for r in replies)


def test_no_request_is_no_result() -> None:
    assert ENGINE.score([]) == [] and ENGINE.generate([], None) == []


def test_equal_specifications_share_an_engine() -> None:
    assert TinyModel().engine() is TinyModel().engine()
    assert TinyModel().engine() is not TinyModel(weights_seed=1).engine()


# --- mistakes -------------------------------------------------------------------------------------


def test_requests_that_cannot_be_answered_are_refused() -> None:
    long = (Message("user", "word " * 1700),)
    with refused("too_large", path="conversation"):
        ENGINE.score([ScoreRequest(long, ("A",))])
    with refused("too_large", path="conversation"):
        ENGINE.generate([GenerateRequest(long, 3, 0.0)], None)
    with refused("missing", path="gumbel"):
        ENGINE.generate([GenerateRequest(conversation(0), 3, 1.0)], None)
    with refused("missing", path="continuations"):
        ENGINE.score([ScoreRequest(conversation(0), ())])
    with refused("out_of_range", path="adapter"):
        ENGINE.score([ScoreRequest(conversation(0), ("A",), adapter=0)])


def test_a_reply_ends_where_the_context_ends() -> None:
    own = engine()
    own.model.config.max_position_embeddings = 120
    prompt = (Message("user", "x" * 100),)
    length = len(own.prompt(prompt))
    (reply,) = own.generate([GenerateRequest(prompt, 100, 0.0)], None)
    whole, _ = plain_reply(own, GenerateRequest(prompt, 120 - length, 0.0))
    assert reply.token_ids == whole and not reply.is_complete
    own.score([ScoreRequest(prompt, ("x" * (121 - length),))])
    with refused("too_large", path="conversation"):
        own.score([ScoreRequest(prompt, ("x" * (122 - length),))])
