"""What a language model says of a batch: by hand, sample by sample; and what its reference says."""

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
    """A model that counts places from its first token: padding must not shift them."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "initializer_range": 0.5}
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=30, **sizes)).eval()


def lora(base: torch.nn.Module) -> torch.nn.Module:
    """The model with adapters that say something."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(base, config)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return adapted


@pytest.mark.parametrize("kind", ["llama", "gpt2", "adapters"])
def test_sample_by_sample(kind: str) -> None:
    """Padded together, samples say what each says alone; entropies are torch's."""
    net = gpt2() if kind == "gpt2" else model(words())
    net = lora(net).eval() if kind == "adapters" else net
    batch = token_batch(PROMPTS, COMPLETIONS)
    said = lm_output(net, batch, temperature=0.7, compute_embedding=True)
    assert said.logits is not None and said.entropy is not None and said.embedding is not None
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        with torch.no_grad():
            alone = net(torch.tensor([prompt + completion]), output_hidden_states=True)
        logits = alone.logits[0, len(prompt) - 1 : -1] / 0.7
        expected = torch.distributions.Categorical(logits=logits)
        steps = len(completion)
        torch.testing.assert_close(
            said.logp[0, row, :steps],
            expected.log_prob(torch.tensor(completion)),
            atol=1e-5,
            rtol=0,
        )
        torch.testing.assert_close(
            said.entropy[0, row, :steps], expected.entropy(), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            said.embedding[0, row], alone.hidden_states[-1][0, -1], atol=1e-5, rtol=1e-5
        )


def test_closed_tokens_have_no_say() -> None:
    """Log-probabilities and entropy are those among the open tokens, and gradients are finite."""
    net, batch = model(words()), token_batch([[5, 6]], [[7]])
    legal = torch.zeros(1, 1, 1, net.config.vocab_size, dtype=torch.bool)
    legal[..., [7, 8]] = True
    said = lm_output(net, batch.replace(action_mask=legal))
    raw = net(torch.tensor([[5, 6]])).logits[0, -1]
    expected = torch.distributions.Categorical(logits=raw[[7, 8]])
    torch.testing.assert_close(said.logp[0, 0, 0], expected.log_prob(torch.tensor(0)))
    assert said.entropy is not None
    torch.testing.assert_close(said.entropy[0, 0, 0], expected.entropy())
    (said.entropy.sum() + said.logp.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_heads() -> None:
    """Values come from where a token is predicted, scores from each sample's last token."""
    net = gpt2()
    value, score = torch.nn.Linear(16, 1), torch.nn.Linear(16, 3)
    said = lm_output(net, token_batch(PROMPTS, COMPLETIONS), value_head=value, score_head=score)
    states = net(torch.tensor([[9, 11, 12, 13, 1]]), output_hidden_states=True).hidden_states[-1][0]
    assert said.value is not None and said.score is not None
    torch.testing.assert_close(said.value[0, 1], value(states)[:4, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(said.score[0, 1], score(states[-1]), atol=1e-5, rtol=1e-5)


def test_references() -> None:
    """Without its adapters a model is what it was; a frozen copy stays what it was."""
    base, batch = model(words()), token_batch(PROMPTS, COMPLETIONS)
    before = lm_output(base, batch)
    frozen = make_reference_model(base)
    adapted = lora(base).train()
    with torch.no_grad():
        assert not torch.allclose(lm_output(adapted, batch).logp, before.logp, atol=1e-2)
    referred = with_reference(adapted, batch, include_logits=True)
    mask = batch.mask
    for said in (referred.reference_logp, reference_output(adapted, batch, frozen).logp):
        assert said is not None and not said.requires_grad
        torch.testing.assert_close(said[mask], before.logp.detach()[mask], atol=1e-6, rtol=0)
    assert referred.reference_logits is not None and adapted.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_saved_then_loaded(tmp_path, monkeypatch) -> None:
    """The same model, with a path."""
    tokenizer = words()
    net, batch = model(tokenizer), token_batch(PROMPTS, COMPLETIONS)
    loaded = save_and_reload(net, tmp_path / "model", tokenizer)
    assert loaded.config._name_or_path == str(tmp_path / "model")
    assert torch.equal(lm_output(loaded, batch).logp, lm_output(net, batch).logp)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again("say yes")["input_ids"] == tokenizer("say yes")["input_ids"]
    monkeypatch.chdir(tmp_path)
    with refused("not_writable", path="model"):
        save_and_reload(net, "model")


def test_bad_batches() -> None:
    net, batch = model(words()), token_batch(PROMPTS, COMPLETIONS)
    two = FeedbackBatch(*(x.repeat(2, 1, 1) for x in (batch.observation, batch.action, batch.mask)))
    for bad, code, path in (
        (two, "wrong_shape", "batch"),
        (batch.replace(observation=batch.observation.float()), "wrong_type", "seen"),
        (batch.replace(observation=batch.action), "wrong_shape", "seen"),
        (token_batch([[5] * 127], [[6, 1]]), "too_large", "seen"),
    ):
        with refused(code, path=path):
            lm_output(net, bad)
    with refused("missing", path="frozen"):
        reference_output(net, batch)
    with refused("unsupported", path="model"):
        make_reference_model(lora(net))
    with refused("out_of_range", path="temperature"):
        lm_output(net, batch, temperature=0.0)
    with refused("wrong_shape", path="completions"):
        token_batch(PROMPTS, COMPLETIONS[:2])
