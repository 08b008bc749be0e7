"""Stacked adapters: separate models in one forward pass, equal to PEFT's."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from mores.agents.language.adapter_files import read_adapter, stack_adapters, write_adapter
from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.closed_replies import closed_reply_logps, plan_sequences
from mores.agents.learning.adam import Adam
from mores.agents.learning.train_state import FLAT_NAME, TrainState
from mores.core.random_streams import RandomStreams
from tests.refusals import refused

pytest.importorskip("transformers")

TARGETS = ("q_proj", "v_proj", "down_proj")


@functools.cache
def tiny() -> Any:
    from mores.agents.language.models.tiny import tiny_model

    return tiny_model(32, 2, 0)[0]


def trained(config: LoRA, num_adapters: int) -> dict[str, torch.Tensor]:
    """Adapters that change the model."""
    parameters = config.init_parameters(tiny(), RandomStreams.of(0, num_adapters))
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.3 * torch.randn(x.shape, generator=generator) if name.endswith("B") else x
        for name, x in parameters.items()
    }


def rows(length: int = 12, count: int = 5) -> torch.Tensor:
    return torch.randint(5, 200, (count, length), generator=torch.Generator().manual_seed(1))


def logits(adapters: StackedLoRA, tokens: torch.Tensor, index: list[int]) -> torch.Tensor:
    with torch.no_grad(), adapters.active(torch.tensor(index)):
        return adapters.model(tokens).logits


def test_rows_have_their_own_adapters() -> None:
    """Each row equals the model with its adapter merged; -1 is the base model, bit for bit."""
    config = LoRA(rank=4, target_modules=TARGETS)
    adapters = StackedLoRA(tiny(), config, trained(config, 3))
    tokens, index = rows(), [2, 0, -1, 1, 0]
    found = logits(adapters, tokens, index)
    base = tiny()(tokens).logits
    assert torch.equal(found[2], base[2])
    for row, adapter in enumerate(index):
        if adapter < 0:
            continue
        weights = {f"{name}.weight": w for name, w in adapters.merged(adapter).items()}
        merged = torch.func.functional_call(tiny(), weights, (tokens[row : row + 1],)).logits
        torch.testing.assert_close(found[row], merged[0], atol=2e-5, rtol=0)
        assert (found[row] - base[row]).abs().max() > 0.1
    assert torch.equal(tiny()(tokens).logits, base)  # nothing stays active
    # The other rows of a pass, and their adapters, change no bit of a row.
    assert torch.equal(logits(adapters, tokens, [2, 1, 1, 1, 1])[0], found[0])


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_bits_do_not_depend_on_the_shape_of_a_pass(rank: int) -> None:
    """The change of a token is the same among other rows and other numbers of columns."""
    config = LoRA(rank=rank, target_modules=("q_proj",), layers=1)
    adapters = StackedLoRA(tiny(), config, trained(config, 3))
    (module,) = adapters.modules.values()
    x = torch.randn(6, 130, 32, generator=torch.Generator().manual_seed(2))
    index = torch.tensor([2, 0, -1, 1, 0, 2])

    def outputs(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), adapters.active(index):
            hooks = list(module._forward_hooks.values())
            zero = torch.zeros(*x.shape[:2], module.out_features)
            return hooks[0](module, (x,), zero) if hooks else zero

    whole = outputs(x, index)
    assert bool((whole[2] == 0).all())
    for rows, columns in ((slice(0, 6), 1), (slice(1, 4), 7), (slice(4, 6), 16), (slice(0, 1), 64)):
        for start in (0, 3, 60):
            part = outputs(x[rows, start : start + columns], index[rows])
            assert torch.equal(part, whole[rows, start : start + columns])


def test_adapters_begin_as_the_base_model_in_every_batch() -> None:
    """B is 0; A of replicate 3 is the same alone and among others."""
    config, model = LoRA(target_modules=TARGETS, layers=1), tiny()
    many = config.init_parameters(model, RandomStreams.of(5, 6), 2)
    alone = config.init_parameters(model, RandomStreams.of(5, [3]), 2)
    assert all(".1." in name for name in many) and len(many) == 2 * len(TARGETS)
    for name, tensor in many.items():
        assert torch.equal(tensor[6:8], alone[name])
        assert bool((tensor == 0).all()) == name.endswith("lora_B")
    a = many["model.layers.1.self_attn.q_proj.lora_A"]
    bound = 32**-0.5  # uniform: standard deviation of the bound over sqrt(3)
    assert a.abs().max() <= bound and abs(float(a.std()) - bound / 3**0.5) < 0.02
    assert not torch.equal(a[0], a[1])


def test_gradients_are_separate() -> None:
    """An adapter gets the gradient of its own rows alone, the same as if it were the only one."""
    config = LoRA(rank=4, target_modules=TARGETS)
    values = trained(config, 3)

    def gradients(index: list[int]) -> dict[str, torch.Tensor]:
        leaves = {name: x.clone().requires_grad_() for name, x in values.items()}
        prompts = [row.tolist() for row in rows(count=len(index))]
        logps = closed_reply_logps(
            tiny(), StackedLoRA(tiny(), config, leaves), prompts, [[7, 1]] * len(index),
            torch.tensor(index),
        )  # fmt: skip
        logps.sum().backward()
        return {name: x.grad for name, x in leaves.items() if x.grad is not None}

    joint, single = gradients([1, 0, 2, 0]), gradients([1])
    for name, gradient in joint.items():
        torch.testing.assert_close(gradient[1], single[name][1], atol=1e-6, rtol=1e-5)
        assert float(single[name][[0, 2]].abs().max()) == 0
        assert float(gradient[0].abs().max()) > 0


@pytest.mark.parametrize("rows_per_pass", [None, 3])
def test_log_probabilities_of_replies(rows_per_pass: int | None) -> None:
    """Values and gradients equal those of one reply at a time, with few sequences."""
    config = LoRA(rank=4, target_modules=TARGETS)
    values = trained(config, 2)
    prompts = [
        tokens.tolist()[:length] for tokens, length in zip(rows(), (4, 9, 9, 12, 5), strict=True)
    ]
    replies = [[7], [8], [7, 1], [8, 9, 1]]
    pairs = [(p, r, (i + j) % 3 - 1) for i, p in enumerate(prompts) for j, r in enumerate(replies)]

    def evaluate(pairs: list[Any], **options: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        leaves = {name: x.clone().requires_grad_() for name, x in values.items()}
        adapters = StackedLoRA(tiny(), config, leaves)
        found = closed_reply_logps(
            tiny(), adapters, [p for p, _, _ in pairs], [r for _, r, _ in pairs],
            torch.tensor([m for _, _, m in pairs]), **options,
        )  # fmt: skip
        gradients = torch.autograd.grad(found.sum(), list(leaves.values()), materialize_grads=True)
        return found.detach(), list(gradients)

    found, gradients = evaluate(pairs, rows=rows_per_pass)
    single = [evaluate([pair]) for pair in pairs]
    torch.testing.assert_close(found, torch.cat([f for f, _ in single]), atol=2e-5, rtol=0)
    for gradient, *others in zip(gradients, *(g for _, g in single), strict=True):
        torch.testing.assert_close(gradient, torch.stack(others).sum(0), atol=1e-4, rtol=1e-4)
    # One-token replies are read from the prompt; [7] and [7, 1] from one sequence.
    plan = plan_sequences([[5, 6]] * 4, replies, [0] * 4)
    assert sorted(plan.sequences) == [[5, 6, 7], [5, 6, 8, 9]]


def test_peft_loads_an_adapter(tmp_path) -> None:
    """Written files give equal logits in PEFT, and PEFT's files are read."""
    peft = pytest.importorskip("peft")
    from mores.agents.language.models.tiny import tiny_model

    for config in (LoRA(rank=4, target_modules=TARGETS), LoRA(rank=2, alpha=6.0, layers=1)):
        parameters = trained(config, 3)
        folder = tmp_path / str(config.rank)
        write_adapter(folder, config, {**parameters, "replicate": torch.arange(3)}, 1)
        found = logits(StackedLoRA(tiny(), config, parameters), rows(), [1] * 5)
        fresh = tiny_model(32, 2, 0)[0]  # PEFT changes the model
        with torch.no_grad():
            theirs = peft.PeftModel.from_pretrained(fresh, folder)(rows()).logits
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
        read_config, read = read_adapter(folder, tiny())
        assert set(read_config.target_modules) == set(config.target_modules)
        assert read_config.scale == config.scale and read_config.layers == config.layers
        both = stack_adapters([read, read])
        assert all(torch.equal(both[name][1], parameters[name][1]) for name in parameters)
    own = peft.LoraConfig(r=3, lora_alpha=7, target_modules=["k_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(tiny_model(32, 2, 0)[0], own)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
        theirs = model(rows()).logits
    model.save_pretrained(tmp_path / "theirs")
    config, parameters = read_adapter(tmp_path / "theirs", tiny())
    found = logits(StackedLoRA(tiny(), config, parameters), rows(), [0] * 5)
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)


def test_refusals(tmp_path) -> None:
    """Adapters that do not fit the model, and files that are no plain LoRA."""
    model = tiny()
    with refused("unknown_name", path="target_modules"):
        LoRA(target_modules=("q_prog",)).modules(model)
    with refused("unknown_name", path="target_modules"):
        LoRA(target_modules=("lm_head",)).modules(model)
    with refused("out_of_range", path="layers"):
        LoRA(layers=3).modules(model)
    config = LoRA()
    adapters = StackedLoRA(model, config, trained(config, 2))
    with refused("out_of_range", path="adapter"), adapters.active(torch.tensor([0, 2])):
        pass
    with refused("too_large", path="prompts"):
        closed_reply_logps(model, None, [[5] * 9000], [[6]], torch.tensor([-1]))
    with refused("wrong_shape", path="replies.0"):
        closed_reply_logps(model, None, [[5]], [[]], torch.tensor([-1]))
    with refused("out_of_range", path="index"):
        write_adapter(tmp_path, config, trained(config, 2), 2)
    write_adapter(tmp_path, config, trained(config, 2), 0)
    text = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(text.replace('"none"', '"all"'))
    with refused("unsupported", path="bias"):
        read_adapter(tmp_path, model)


def test_revision_changes_with_the_weights() -> None:
    """Kept states of an engine are those of one revision; fused optimizers change it as well."""
    config = LoRA()
    train_state = TrainState.create(trained(config, 2), uses_reference_model=False)
    adapters = StackedLoRA(tiny(), config, train_state.parameters)
    first = adapters.revision
    assert adapters.revision == first
    gradient = {FLAT_NAME: torch.ones_like(train_state.flat_parameters)}
    weights = {FLAT_NAME: train_state.flat_parameters}
    Adam(1e-3).step(weights, gradient, train_state.optimizer_state)
    assert adapters.revision != first


@pytest.mark.parametrize("changed", [{"alpha": 8.0}, {"target_modules": ("k_proj", "o_proj")}])
def test_revision_is_that_of_size_and_place_as_well(changed: dict[str, Any]) -> None:
    """Equal numbers that change the model in another way have another revision."""
    config = LoRA(layers=1, target_modules=("q_proj", "o_proj"))
    other = LoRA(**{**config.model_dump(), **changed})
    values = trained(config, 1)
    names = other.parameter_shapes(tiny())
    renamed = dict(zip(names, values.values(), strict=True))
    revisions = [StackedLoRA(tiny(), *x).revision for x in ((config, values), (other, renamed))]
    assert revisions[0] != revisions[1]
