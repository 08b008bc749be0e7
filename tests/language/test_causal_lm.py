"""Output of a language model on a batch, against single samples; and of its reference."""

from __future__ import annotations

import pytest
import torch

from mores.agents.language.causal_lm import lm_output, reference_output, with_reference
from mores.agents.language.reference_model import make_reference_model, save_and_reload
from mores.agents.language.token_layout import token_batch
from mores.agents.learning.batch import FeedbackBatch
from tests.language.texts import model, words
from tests.refusals import refused

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

PROMPTS = [[5, 6, 7, 8], [9], [6, 6]]
COMPLETIONS = [[10, 1], [11, 12, 13, 1], [7]]


def gpt2() -> torch.nn.Module:
    """A model with absolute positions: padding must not shift them."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "initializer_range": 0.5}
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=30, **sizes)).eval()


def lora(base: torch.nn.Module) -> torch.nn.Module:
    """The model with adapters that change its output."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(base, config)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return adapted


@pytest.mark.parametrize("kind", ["llama", "gpt2", "adapters"])
def test_padded_samples_equal_single_samples(kind: str) -> None:
    """Padding does not change a sample's output; entropies equal torch's."""
    net = gpt2() if kind == "gpt2" else model(words())
    net = lora(net).eval() if kind == "adapters" else net
    batch = token_batch(PROMPTS, COMPLETIONS)
    out = lm_output(net, batch, temperature=0.7, compute_embedding=True)
    assert out.logits is not None and out.entropy is not None and out.embedding is not None
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        with torch.no_grad():
            single = net(torch.tensor([prompt + completion]), output_hidden_states=True)
        logits = single.logits[0, len(prompt) - 1 : -1] / 0.7
        expected = torch.distributions.Categorical(logits=logits)
        steps = len(completion)
        close: dict[str, float] = {"atol": 1e-5, "rtol": 0}
        expected_logp = expected.log_prob(torch.tensor(completion))
        torch.testing.assert_close(out.logp[0, row, :steps], expected_logp, **close)
        torch.testing.assert_close(out.entropy[0, row, :steps], expected.entropy(), **close)
        torch.testing.assert_close(
            out.embedding[0, row], single.hidden_states[-1][0, -1], atol=1e-5, rtol=1e-5
        )


def test_illegal_tokens_are_excluded() -> None:
    """Log-probabilities and entropy are those among the legal tokens, and gradients are finite."""
    net, batch = model(words()), token_batch([[5, 6]], [[7]])
    legal = torch.zeros(1, 1, 1, net.config.vocab_size, dtype=torch.bool)
    legal[..., [7, 8]] = True
    out = lm_output(net, batch.replace(action_mask=legal))
    raw = net(torch.tensor([[5, 6]])).logits[0, -1]
    expected = torch.distributions.Categorical(logits=raw[[7, 8]])
    torch.testing.assert_close(out.logp[0, 0, 0], expected.log_prob(torch.tensor(0)))
    assert out.entropy is not None
    torch.testing.assert_close(out.entropy[0, 0, 0], expected.entropy())
    (out.entropy.sum() + out.logp.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_heads() -> None:
    """Values belong to the states that predict tokens, scores to each sample's last token."""
    net = gpt2()
    value, score = torch.nn.Linear(16, 1), torch.nn.Linear(16, 3)
    out = lm_output(net, token_batch(PROMPTS, COMPLETIONS), value_head=value, score_head=score)
    states = net(torch.tensor([[9, 11, 12, 13, 1]]), output_hidden_states=True).hidden_states[-1][0]
    assert out.value is not None and out.score is not None
    torch.testing.assert_close(out.value[0, 1], value(states)[:4, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.score[0, 1], score(states[-1]), atol=1e-5, rtol=1e-5)


def test_references() -> None:
    """A model without its adapters, and a frozen copy, equal the original model."""
    base, batch = model(words()), token_batch(PROMPTS, COMPLETIONS)
    before = lm_output(base, batch)
    frozen = make_reference_model(base)
    adapted = lora(base).train()
    with torch.no_grad():
        assert not torch.allclose(lm_output(adapted, batch).logp, before.logp, atol=1e-2)
    with_logits = with_reference(adapted, batch, include_logits=True)
    mask = batch.mask
    for logp in (with_logits.reference_logp, reference_output(adapted, batch, frozen).logp):
        assert logp is not None and not logp.requires_grad
        torch.testing.assert_close(logp[mask], before.logp.detach()[mask], atol=1e-6, rtol=0)
    assert with_logits.reference_logits is not None and adapted.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_save_and_reload(tmp_path, monkeypatch) -> None:
    """The same model, with a path."""
    tokenizer = words()
    net, batch = model(tokenizer), token_batch(PROMPTS, COMPLETIONS)
    loaded = save_and_reload(net, tmp_path / "model", tokenizer)
    assert loaded.config._name_or_path == str(tmp_path / "model")
    assert torch.equal(lm_output(loaded, batch).logp, lm_output(net, batch).logp)
    reloaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert reloaded("say yes")["input_ids"] == tokenizer("say yes")["input_ids"]
    monkeypatch.chdir(tmp_path)
    with refused("not_writable", path="model"):
        save_and_reload(net, "model")


def test_invalid_batches() -> None:
    net, batch = model(words()), token_batch(PROMPTS, COMPLETIONS)
    fields = batch.observation, batch.action, batch.mask
    two_models = FeedbackBatch(*(x.repeat(2, 1, 1) for x in fields))
    for invalid, code, path in (
        (two_models, "wrong_shape", "batch"),
        (batch.replace(observation=batch.observation.float()), "wrong_type", "observation"),
        (batch.replace(observation=batch.action), "wrong_shape", "observation"),
        (token_batch([[5] * 127], [[6, 1]]), "too_large", "observation"),
    ):
        with refused(code, path=path):
            lm_output(net, invalid)
    with refused("missing", path="reference_model"):
        reference_output(net, batch)
    with refused("unsupported", path="model"):
        make_reference_model(lora(net))
    with refused("out_of_range", path="temperature"):
        lm_output(net, batch, temperature=0.0)
    with refused("wrong_shape", path="completions"):
        token_batch(PROMPTS, COMPLETIONS[:2])
