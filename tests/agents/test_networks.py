"""Stacked networks against torch modules, and sequences against single steps."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mores import make_environment, make_policy
from mores.agents.learning import memory_check
from mores.agents.learning.networks import GRU, MLP, LinearSpec, Transformer
from mores.agents.learning.networks.layers import init_linear_parameters
from mores.agents.learning.networks.module_network import as_network
from mores.agents.learning.stacked_model import ModelInputs, StackedModel
from mores.core import pytree
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.spaces import Box, Discrete
from tests.agents.user_networks import LSTM, Attention, GatedCell
from tests.refusals import refused

M, INPUTS, CONTEXT = 3, 5, 9
ENCODERS = {
    "mlp": MLP(hidden_sizes=[7, 6]),
    "relu": MLP(hidden_sizes=[7], activation="relu"),
    "gru": GRU(hidden_size=6),
    "transformer": Transformer(hidden_size=8, num_heads=2, num_layers=2, context_length=CONTEXT),
    "module": as_network("module", Attention)(),
    "recurrent module": as_network("recurrent module", GatedCell)(),
    "module without vmap": as_network("module without vmap", LSTM)(),
}


@functools.cache
def make_parameters(name: str) -> dict[str, torch.Tensor]:
    """Nonzero parameters of an encoder, for `M` models."""
    encoder, generator = ENCODERS[name], torch.Generator().manual_seed(3)
    layers = encoder.layers("policy", INPUTS)
    parameters = init_linear_parameters(layers, RandomStreams.of(0, M), 1)
    parameters |= encoder.init_other_parameters("policy", INPUTS, RandomStreams.of(0, M), 1)
    return {k: x + 0.1 * torch.randn(x.shape, generator=generator) for k, x in parameters.items()}


def make_observations(samples: int, steps: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(M, samples, steps, INPUTS, generator=generator)


def initial_state(name: str, samples: int) -> torch.Tensor:
    return torch.zeros(M, samples, ENCODERS[name].recurrent_state_size(INPUTS))


# --- against torch ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "relu"])
def test_the_perceptron_equals_torch(name):
    encoder, parameters, obs = ENCODERS[name], make_parameters(name), make_observations(2, 4)
    features = encoder.forward_sequence(parameters, "policy", obs, None, None)
    activation = torch.nn.ReLU if name == "relu" else torch.nn.Tanh
    sizes = [INPUTS, *encoder.hidden_sizes]
    for model in range(M):
        layers = []
        for i in range(len(encoder.hidden_sizes)):
            layer = torch.nn.Linear(sizes[i], sizes[i + 1])
            layer.weight.data = parameters[f"policy.{i}.weight"][model].T
            layer.bias.data = parameters[f"policy.{i}.bias"][model, 0]
            layers += [layer, activation()]
        torch_module = torch.nn.Sequential(*layers)
        torch.testing.assert_close(features[model], torch_module(obs[model]))


def test_the_gru_equals_torch():
    encoder, parameters, obs = ENCODERS["gru"], make_parameters("gru"), make_observations(2, 6)
    hidden = torch.randn(M, 2, encoder.hidden_size, generator=torch.Generator().manual_seed(1))
    features = encoder.forward_sequence(parameters, "policy", obs, None, hidden)
    for model in range(M):
        torch_module = torch.nn.GRU(INPUTS, encoder.hidden_size, batch_first=True)
        torch_module.weight_ih_l0.data = parameters["policy.input_gates.weight"][model].T
        torch_module.bias_ih_l0.data = parameters["policy.input_gates.bias"][model, 0]
        torch_module.weight_hh_l0.data = parameters["policy.hidden_gates.weight"][model].T
        torch_module.bias_hh_l0.data = parameters["policy.hidden_gates.bias"][model, 0]
        expected, _ = torch_module(obs[model], hidden[model][None])
        torch.testing.assert_close(features[model], expected)


def test_the_transformer_equals_torch():
    """Blocks are `TransformerEncoderLayer`s of torch with `norm_first`."""
    encoder, parameters = ENCODERS["transformer"], make_parameters("transformer")
    width, heads, steps = encoder.hidden_size, encoder.num_heads, CONTEXT
    obs = make_observations(2, steps)
    features = encoder.forward_sequence(parameters, "policy", obs, None, None)
    future = torch.nn.Transformer.generate_square_subsequent_mask(steps)
    for model in range(M):

        def of(name: str, model: int = model) -> torch.Tensor:
            return parameters[f"policy.{name}"][model]

        x = (
            obs[model] @ of("embed.weight")
            + of("embed.bias")
            + of("position_embedding.weight")[:steps]
        )
        for i in range(encoder.num_layers):
            block = torch.nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            state_dict = {
                "self_attn.in_proj_weight": of(f"{i}.qkv_proj.weight").T,
                "self_attn.in_proj_bias": of(f"{i}.qkv_proj.bias")[0],
                "self_attn.out_proj.weight": of(f"{i}.out_proj.weight").T,
                "self_attn.out_proj.bias": of(f"{i}.out_proj.bias")[0],
                "linear1.weight": of(f"{i}.linear1.weight").T,
                "linear1.bias": of(f"{i}.linear1.bias")[0],
                "linear2.weight": of(f"{i}.linear2.weight").T,
                "linear2.bias": of(f"{i}.linear2.bias")[0],
                "norm1.weight": of(f"{i}.norm1.weight")[0],
                "norm1.bias": of(f"{i}.norm1.bias")[0],
                "norm2.weight": of(f"{i}.norm2.weight")[0],
                "norm2.bias": of(f"{i}.norm2.bias")[0],
            }
            block.load_state_dict(state_dict)
            x = block(x, src_mask=future, is_causal=True)
        last = of("norm.weight")[0], of("norm.bias")[0]
        expected = torch.nn.functional.layer_norm(x, (width,), *last)
        torch.testing.assert_close(features[model], expected, atol=2e-5, rtol=1e-4)


# --- sequences against single steps -------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=15)
@given(data=st.data())
def test_a_sequence_equals_its_steps(name, data):
    """Single steps, with state 0 at the start of an episode, equal the evaluation in training."""
    encoder, parameters = ENCODERS[name], make_parameters(name)
    samples, steps = 2, data.draw(st.integers(1, CONTEXT))
    flags = st.lists(st.booleans(), min_size=M * samples * steps, max_size=M * samples * steps)
    starts = torch.tensor(data.draw(flags)).view(M, samples, steps)
    obs = make_observations(samples, steps, data.draw(st.integers(0, 99)))
    sequence = encoder.forward_sequence(parameters, "policy", obs, starts, None)
    state = initial_state(name, samples)
    for t in range(steps):
        state = torch.where(starts[:, :, t, None], 0.0, state)
        features, state = encoder.forward_step(parameters, "policy", obs[:, :, t], state)
        torch.testing.assert_close(features, sequence[:, :, t], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=15)
@given(data=st.data())
def test_a_sequence_may_be_cut_anywhere(name, data):
    """With the recurrent state at the cut, the second part has the features of the whole."""
    encoder, parameters = ENCODERS[name], make_parameters(name)
    samples, steps = 2, CONTEXT
    cut = data.draw(st.integers(1, steps - 1))
    starts = torch.zeros(M, samples, steps, dtype=torch.bool)
    for index in data.draw(st.lists(st.tuples(*map(st.integers, [0] * 3, [M - 1, 1, steps - 1])))):
        starts[index] = True
    obs = make_observations(samples, steps)
    sequence = encoder.forward_sequence(parameters, "policy", obs, starts, None)
    state = initial_state(name, samples)
    for t in range(cut):
        state = torch.where(starts[:, :, t, None], 0.0, state)
        _, state = encoder.forward_step(parameters, "policy", obs[:, :, t], state)
    obs, starts = obs[:, :, cut:], starts[:, :, cut:]
    second = encoder.forward_sequence(parameters, "policy", obs, starts, state)
    torch.testing.assert_close(second, sequence[:, :, cut:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_features_depend_on_the_past_of_the_episode_only(name):
    """The gradient reaches earlier observations of the same sample and episode, and no others."""
    encoder, parameters = ENCODERS[name], make_parameters(name)
    obs = make_observations(2, 6).requires_grad_()
    starts = torch.zeros(M, 2, 6, dtype=torch.bool)
    starts[1, 0, 2] = True
    features = encoder.forward_sequence(parameters, "policy", obs, starts, None)
    for t in range(6):
        probe = features[1, 0, t] @ torch.arange(1.0, encoder.features_dim(INPUTS) + 1)
        (gradient,) = torch.autograd.grad(probe, obs, retain_graph=True)
        depends = (gradient != 0).any(-1)  # model sample step
        is_recurrent = encoder.recurrent_state_size(INPUTS) > 0
        first = (2 if t >= 2 else 0) if is_recurrent else t
        expected = torch.zeros_like(depends)
        expected[1, 0, first : t + 1] = True
        assert torch.equal(depends, expected), f"step {t}"


def test_an_episode_longer_than_the_context_is_refused():
    encoder, parameters = ENCODERS["transformer"], make_parameters("transformer")
    obs, state = make_observations(1, 1)[:, :, 0], initial_state("transformer", 1)
    for _ in range(CONTEXT):
        _, state = encoder.forward_step(parameters, "policy", obs, state)
    with refused("too_large", path="network.context_length"):
        encoder.forward_step(parameters, "policy", obs, state)


def test_heads_must_divide_the_width():
    with refused("conflict", path="ppo.network"):
        make_policy("ppo", network={"kind": "transformer", "hidden_size": 32, "num_heads": 3})


# --- initial weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_initial_weights_are_orthogonal(shape):
    layers = {"a": LinearSpec(*shape, gain=2.0)}
    parameters = init_linear_parameters(layers, RandomStreams.of(0, 200), 1)
    weight = parameters["a.weight"]
    product = weight @ weight.mT if shape[0] <= shape[1] else weight.mT @ weight
    torch.testing.assert_close(
        product, 4.0 * torch.eye(min(shape)).expand_as(product), atol=1e-5, rtol=1e-5
    )
    assert not parameters["a.bias"].any()
    # Uniform over orthogonal matrices: every entry has mean 0 and mean square 1 / max(shape).
    # Within 5 standard errors, of 200 matrices from seed 0.
    mean, square = weight.mean(0) / 2, (weight / 2).square().mean(0)
    std = (1 / max(shape)) ** 0.5
    assert mean.abs().max() < 5 * std / 200**0.5
    assert (square - 1 / max(shape)).abs().max() < 5 * 2**0.5 / max(shape) / 200**0.5


@pytest.mark.parametrize("name", ENCODERS)
def test_initial_parameters_do_not_depend_on_other_replicates(name):
    spaces = {"speak": Discrete(3), "point": Box.of(at=2)}
    stack = StackedModel(ENCODERS[name], INPUTS, spaces, has_value_head=True, num_scores=2)
    together = stack.init_parameters(RandomStreams.of(7, Worlds.grid(range(5), 1)), 2)
    alone = stack.init_parameters(RandomStreams.of(7, Worlds.grid([3], 1)), 2)
    for key, tensor in alone.items():
        assert torch.equal(tensor, together[key][6:8]), key
    weights = [key for key in together if key.endswith(".weight") and ".norm" not in key]
    for weight in (together[key] for key in weights):
        assert all(not torch.equal(weight[i], weight[j]) for i in range(10) for j in range(i))


# --- stacked models -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_evaluation_equals_acting(name):
    """With two phases, a value head and episodes that start within the sequence."""
    spaces = {"speak": Discrete(3), "point": Box.of(at=2)}
    stack = StackedModel(ENCODERS[name], INPUTS, spaces, has_value_head=True)
    parameters = stack.init_parameters(RandomStreams.of(1, M), 1)
    phases, steps = list(stack.action_spaces), CONTEXT // 2
    obs = {phase: make_observations(2, steps, seed) for seed, phase in enumerate(phases)}
    starts = torch.zeros(M, 2, steps, dtype=torch.bool)
    starts[1, :, 2] = starts[0, 1, 1] = True
    state = stack.initial_recurrent_state(M, 2, torch.device("cpu"))
    outputs = {phase: [] for phase in phases}
    for t in range(steps):
        state = torch.where(starts[:, :, t, None], 0.0, state)
        expected = stack.predict_values(parameters, obs["speak"][:, :, t], state)
        for phase in phases:
            raw, value, state = stack.forward_step(parameters, phase, obs[phase][:, :, t], state)
            outputs[phase].append((raw, value))
            if phase == "speak":
                torch.testing.assert_close(value, expected)
    actions = {
        "speak": torch.zeros(M, 2, steps, dtype=torch.int64),
        "point": torch.ones(M, 2, steps, 2),
    }
    for phase, action in actions.items():
        inputs = ModelInputs(phase, obs[phase], action, episode_start=starts)
        out = stack.evaluate_actions(parameters, inputs)
        raw, value = (torch.stack(part, 2) for part in zip(*outputs[phase], strict=True))
        torch.testing.assert_close(out.value, value, atol=1e-5, rtol=1e-4)
        log_std = stack.log_std(parameters, phase)
        log_std = None if log_std is None else log_std[:, :, None]
        acting = stack.action_distributions[phase].log_probs(raw, action, None, log_std)
        torch.testing.assert_close(out.logp, acting.logp, atol=1e-5, rtol=1e-4)


def test_embeddings_are_means_over_valid_steps():
    stack = StackedModel(ENCODERS["mlp"], INPUTS, {"speak": Discrete(3)}, num_scores=2)
    parameters = stack.init_parameters(RandomStreams.of(1, M), 1)
    obs, action = make_observations(2, 4), torch.zeros(M, 2, 4, dtype=torch.int64)
    valid = torch.ones(M, 2, 4, dtype=torch.bool)
    valid[:, 0, 2:] = False
    inputs = ModelInputs("speak", obs[:, :, :2], action[:, :, :2])
    short = stack.evaluate_actions(parameters, inputs)
    obs = torch.where(valid[..., None], obs, torch.nan)
    padded = stack.evaluate_actions(parameters, ModelInputs("speak", obs, action, valid=valid))
    torch.testing.assert_close(padded.score[:, 0], short.score[:, 0])
    torch.testing.assert_close(padded.embedding[:, 0], short.embedding[:, 0])


@pytest.mark.parametrize(
    ("network", "code", "path", "suggestion"),
    [
        ({"kind": "mpl"}, "unknown_name", "ppo.network.kind", "mlp"),
        ({"hidden_sizes": [4]}, "missing", "ppo.network", None),
        ({"kind": "gru", "hiden_size": 4}, "unknown_name", "ppo.network.hiden_size", "hidden_size"),
        ({"kind": "gru", "context": 4}, "unknown_name", "ppo.network.context", None),
        ({"kind": "mlp", "hidden_sizes": 4}, "wrong_type", "ppo.network.hidden_sizes", None),
        (
            {"kind": "mlp", "activation": "relo"},
            *("invalid_value", "ppo.network.activation", "relu"),
        ),
    ],
)
def test_errors_in_a_network(
    network: dict[str, Any], code: str, path: str, suggestion: str | None
) -> None:
    with refused(code, path) as error:
        make_policy("ppo", network=network)
    assert suggestion is None or str(error.value).endswith(f"; did you mean {suggestion!r}?")


def test_models_that_exceed_the_memory_are_refused_before_they_are_made(monkeypatch) -> None:
    environment, streams = make_environment("matrix_game"), RandomStreams.of(0, 3)
    network = {"kind": "mlp", "hidden_sizes": [8]}
    policy, role = make_policy("dpo", parameter_sharing="agent", network=network), "player"
    arguments = environment.roles[0], environment.phases, streams
    state = policy.initial_state(*arguments).persistent_state.train_state
    tensors = pytree.flatten([state.parameters, state.optimizer_state, state.reference_parameters])
    gradients = sum(tensor.nbytes for tensor in state.parameters.values())
    needed = gradients + sum(tensor.nbytes for tensor in tensors.values() if tensor.dim() > 1)
    monkeypatch.setattr(memory_check, "_free_bytes", lambda device: needed)
    policy.initial_state(*arguments)
    monkeypatch.setattr(memory_check, "_free_bytes", lambda device: needed - 1)
    with refused("too_large", path=f"policies.{role}"):
        policy.initial_state(*arguments)
