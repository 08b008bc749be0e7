"""Stacked networks against those of torch, policy by policy, and against themselves in parts."""

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
from mores.agents.learning.stacked_model import ModelInputs, StackedModel
from mores.core import pytree
from mores.core.environment import Box, Discrete
from mores.core.random_streams import RandomStreams, Worlds
from tests.refusals import refused

P, INPUTS, CONTEXT = 3, 5, 9
BODIES = {
    "mlp": MLP(hidden_sizes=[7, 6]),
    "relu": MLP(hidden_sizes=[7], activation="relu"),
    "gru": GRU(hidden_size=6),
    "transformer": Transformer(hidden_size=8, num_heads=2, num_layers=2, context_length=CONTEXT),
}


@functools.cache
def stacked(name: str) -> dict[str, torch.Tensor]:
    """Parameters of a body, of `P` policies, none of them zero."""
    body, source = BODIES[name], torch.Generator().manual_seed(3)
    made = init_linear_parameters(body.layers("policy", INPUTS), RandomStreams.of(0, P), 1)
    made |= body.extra_parameters("policy", P)
    return {k: x + 0.1 * torch.randn(x.shape, generator=source) for k, x in made.items()}


def sights(samples: int, steps: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(P, samples, steps, INPUTS, generator=source)


def nothing(name: str, samples: int) -> torch.Tensor:
    return torch.zeros(P, samples, BODIES[name].recurrent_state_size(INPUTS))


# --- against torch ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "relu"])
def test_a_perceptron_is_torchs(name):
    body, weights, seen = BODIES[name], stacked(name), sights(2, 4)
    found = body.forward_sequence(weights, "policy", seen, None, None)
    activation = torch.nn.ReLU if name == "relu" else torch.nn.Tanh
    sizes = [INPUTS, *body.hidden]
    for policy in range(P):
        layers = []
        for i in range(len(body.hidden)):
            layer = torch.nn.Linear(sizes[i], sizes[i + 1])
            layer.weight.data = weights[f"policy.{i}.weight"][policy].T
            layer.bias.data = weights[f"policy.{i}.bias"][policy, 0]
            layers += [layer, activation()]
        theirs = torch.nn.Sequential(*layers)
        torch.testing.assert_close(found[policy], theirs(seen[policy]))


def test_a_gated_unit_is_torchs():
    body, weights, seen = BODIES["gru"], stacked("gru"), sights(2, 6)
    before = torch.randn(P, 2, body.hidden, generator=torch.Generator().manual_seed(1))
    found = body.forward_sequence(weights, "policy", seen, None, before)
    for policy in range(P):
        theirs = torch.nn.GRU(INPUTS, body.hidden, batch_first=True)
        theirs.weight_ih_l0.data = weights["policy.seen.weight"][policy].T
        theirs.bias_ih_l0.data = weights["policy.seen.bias"][policy, 0]
        theirs.weight_hh_l0.data = weights["policy.past.weight"][policy].T
        theirs.bias_hh_l0.data = weights["policy.past.bias"][policy, 0]
        expected, _ = theirs(seen[policy], before[policy][None])
        torch.testing.assert_close(found[policy], expected)


def test_attention_is_torchs():
    """Blocks are `TransformerEncoderLayer`s of torch with the normalisation first."""
    body, weights = BODIES["transformer"], stacked("transformer")
    width, steps = body.hidden, CONTEXT
    seen = sights(2, steps)
    found = body.forward_sequence(weights, "policy", seen, None, None)
    future = torch.nn.Transformer.generate_square_subsequent_mask(steps)
    for policy in range(P):

        def of(name: str, policy: int = policy) -> torch.Tensor:
            return weights[f"policy.{name}"][policy]

        x = seen[policy] @ of("embed.weight") + of("embed.bias") + of("place.weight")[:steps]
        for i in range(body.blocks):
            block = torch.nn.TransformerEncoderLayer(
                width, body.heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            copied = {
                "self_attn.in_proj_weight": of(f"{i}.attend.weight").T,
                "self_attn.in_proj_bias": of(f"{i}.attend.bias")[0],
                "self_attn.out_proj.weight": of(f"{i}.mix.weight").T,
                "self_attn.out_proj.bias": of(f"{i}.mix.bias")[0],
                "linear1.weight": of(f"{i}.up.weight").T,
                "linear1.bias": of(f"{i}.up.bias")[0],
                "linear2.weight": of(f"{i}.down.weight").T,
                "linear2.bias": of(f"{i}.down.bias")[0],
                "norm1.weight": of(f"{i}.first.gain")[0],
                "norm1.bias": of(f"{i}.first.offset")[0],
                "norm2.weight": of(f"{i}.second.gain")[0],
                "norm2.bias": of(f"{i}.second.offset")[0],
            }
            block.load_state_dict(copied)
            x = block(x, src_mask=future, is_causal=True)
        last = of("last.gain")[0], of("last.offset")[0]
        expected = torch.nn.functional.layer_norm(x, (width,), *last)
        torch.testing.assert_close(found[policy], expected, atol=2e-5, rtol=1e-4)


# --- against themselves -------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=15)
@given(data=st.data())
def test_step_by_step_is_at_once(name, data):
    """Acting step by step, forgetting where an episode begins, is what learning sees at once."""
    body, weights = BODIES[name], stacked(name)
    samples, steps = 2, data.draw(st.integers(1, CONTEXT))
    flags = st.lists(st.booleans(), min_size=P * samples * steps, max_size=P * samples * steps)
    begins = torch.tensor(data.draw(flags)).view(P, samples, steps)
    seen = sights(samples, steps, data.draw(st.integers(0, 99)))
    whole = body.forward_sequence(weights, "policy", seen, begins, None)
    carry = nothing(name, samples)
    for t in range(steps):
        carry = torch.where(begins[:, :, t, None], 0.0, carry)
        features, carry = body.forward_step(weights, "policy", seen[:, :, t], carry)
        torch.testing.assert_close(features, whole[:, :, t], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=15)
@given(data=st.data())
def test_a_stretch_may_be_cut_anywhere(name, data):
    """With what was remembered at the cut, the second part says what it says in the whole."""
    body, weights = BODIES[name], stacked(name)
    samples, steps = 2, CONTEXT
    cut = data.draw(st.integers(1, steps - 1))
    begins = torch.zeros(P, samples, steps, dtype=torch.bool)
    for place in data.draw(st.lists(st.tuples(*map(st.integers, [0] * 3, [P - 1, 1, steps - 1])))):
        begins[place] = True
    seen = sights(samples, steps)
    whole = body.forward_sequence(weights, "policy", seen, begins, None)
    carry = nothing(name, samples)
    for t in range(cut):
        carry = torch.where(begins[:, :, t, None], 0.0, carry)
        _, carry = body.forward_step(weights, "policy", seen[:, :, t], carry)
    rest = body.forward_sequence(weights, "policy", seen[:, :, cut:], begins[:, :, cut:], carry)
    torch.testing.assert_close(rest, whole[:, :, cut:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BODIES)
def test_nobody_sees_the_future_or_anybody_elses_past(name):
    """What a step says depends on its own sample's sights up to it, since its episode began."""
    body, weights = BODIES[name], stacked(name)
    seen = sights(2, 6).requires_grad_()
    begins = torch.zeros(P, 2, 6, dtype=torch.bool)
    begins[1, 0, 2] = True
    said = body.forward_sequence(weights, "policy", seen, begins, None)
    for t in range(6):
        probe = said[1, 0, t] @ torch.arange(1.0, body.features_dim + 1)
        (slope,) = torch.autograd.grad(probe, seen, retain_graph=True)
        felt = (slope != 0).any(-1)  # policy sample step
        remembers = body.recurrent_state_size(INPUTS) > 0
        first = (2 if t >= 2 else 0) if remembers else t
        expected = torch.zeros_like(felt)
        expected[1, 0, first : t + 1] = True
        assert torch.equal(felt, expected), f"step {t}"


def test_an_episode_longer_than_the_context_is_refused():
    body, weights = BODIES["transformer"], stacked("transformer")
    carry = nothing("transformer", 1)
    for _ in range(CONTEXT):
        _, carry = body.forward_step(weights, "policy", sights(1, 1)[:, :, 0], carry)
    with refused("too_large", path="network.context"):
        body.forward_step(weights, "policy", sights(1, 1)[:, :, 0], carry)


def test_heads_must_divide_the_width():
    with refused("conflict", path="ppo.network"):
        make_policy("ppo", network={"kind": "transformer", "hidden": 32, "heads": 3})


# --- first weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_first_weights_are_orthogonal(shape):
    made = init_linear_parameters({"a": LinearSpec(*shape, gain=2.0)}, RandomStreams.of(0, 200), 1)
    weight = made["a.weight"]
    product = weight @ weight.mT if shape[0] <= shape[1] else weight.mT @ weight
    torch.testing.assert_close(
        product, 4.0 * torch.eye(min(shape)).expand_as(product), atol=1e-5, rtol=1e-5
    )
    assert not made["a.bias"].any()
    # Uniform over orthogonal matrices: every entry has mean 0 and mean square 1 / max(shape).
    # Within 5 standard errors, of 200 matrices from seed 0.
    mean, square = weight.mean(0) / 2, (weight / 2).square().mean(0)
    spread = (1 / max(shape)) ** 0.5
    assert mean.abs().max() < 5 * spread / 200**0.5
    assert (square - 1 / max(shape)).abs().max() < 5 * 2**0.5 / max(shape) / 200**0.5


@pytest.mark.parametrize("name", BODIES)
def test_a_replicate_begins_alone_as_among_others(name):
    spaces = {"speak": Discrete(3), "point": Box.of(at=2)}
    stack = StackedModel(BODIES[name], INPUTS, spaces, has_value_head=True, num_scores=2)
    among = stack.init_parameters(RandomStreams.of(7, Worlds.grid(range(5), 1)), 2)
    alone = stack.init_parameters(RandomStreams.of(7, Worlds.grid([3], 1)), 2)
    for key, tensor in alone.items():
        assert torch.equal(tensor, among[key][6:8]), key
    drawn = [k for k in among if k.endswith(".weight")]
    assert all(
        not torch.equal(among[k][i], among[k][j]) for k in drawn for i in range(9) for j in range(i)
    )


# --- the stack ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_what_is_asked_later_is_what_was_said_when_acting(name):
    """With two phases, a critic and an episode that begins on the way."""
    stack = StackedModel(
        BODIES[name], INPUTS, {"speak": Discrete(3), "point": Box.of(at=2)}, has_value_head=True
    )
    weights = stack.init_parameters(RandomStreams.of(1, P), 1)
    phases, steps = list(stack.action_spaces), CONTEXT // 2
    seen = {phase: sights(2, steps, seed) for seed, phase in enumerate(phases)}
    begins = torch.zeros(P, 2, steps, dtype=torch.bool)
    begins[1, :, 2] = begins[0, 1, 1] = True
    carry, said = (
        stack.initial_recurrent_state(P, 2, torch.device("cpu")),
        {phase: [] for phase in phases},
    )
    for t in range(steps):
        carry = torch.where(begins[:, :, t, None], 0.0, carry)
        expected = stack.predict_values(weights, seen["speak"][:, :, t], carry)
        for phase in phases:
            raw, value, carry = stack.forward_step(weights, phase, seen[phase][:, :, t], carry)
            said[phase].append((raw, value))
            if phase == "speak":
                torch.testing.assert_close(value, expected)
    acted = {
        "speak": torch.zeros(P, 2, steps, dtype=torch.int64),
        "point": torch.ones(P, 2, steps, 2),
    }
    for phase in phases:
        out = stack.evaluate_actions(
            weights, ModelInputs(phase, seen[phase], acted[phase], episode_start=begins)
        )
        raws, values = (torch.stack(part, 2) for part in zip(*said[phase], strict=True))
        torch.testing.assert_close(out.value, values, atol=1e-5, rtol=1e-4)
        log_std = stack.log_std(weights, phase)
        log_std = None if log_std is None else log_std[:, :, None]
        then = stack.action_distributions[phase].log_probs(raws, acted[phase], None, log_std)
        torch.testing.assert_close(out.logp, then.logp, atol=1e-5, rtol=1e-4)


def test_a_summary_is_over_real_steps():
    stack = StackedModel(BODIES["mlp"], INPUTS, {"speak": Discrete(3)}, num_scores=2)
    weights = stack.init_parameters(RandomStreams.of(1, P), 1)
    seen, acted = sights(2, 4), torch.zeros(P, 2, 4, dtype=torch.int64)
    real = torch.ones(P, 2, 4, dtype=torch.bool)
    real[:, 0, 2:] = False
    short = stack.evaluate_actions(weights, ModelInputs("speak", seen[:, :, :2], acted[:, :, :2]))
    long = stack.evaluate_actions(
        weights,
        ModelInputs("speak", torch.where(real[..., None], seen, torch.nan), acted, valid=real),
    )
    torch.testing.assert_close(long.score[:, 0], short.score[:, 0])
    torch.testing.assert_close(long.embedding[:, 0], short.embedding[:, 0])


@pytest.mark.parametrize(
    ("network", "code", "path", "meant"),
    [
        ({"kind": "mpl"}, "unknown_name", "ppo.network.kind", "mlp"),
        ({"hidden": [4]}, "missing", "ppo.network", None),
        ({"kind": "gru", "hiden": 4}, "unknown_name", "ppo.network.hiden", "hidden"),
        ({"kind": "gru", "context": 4}, "unknown_name", "ppo.network.context", None),
        ({"kind": "mlp", "hidden": 4}, "wrong_type", "ppo.network.hidden", None),
        (
            {"kind": "mlp", "activation": "relo"},
            *("invalid_value", "ppo.network.activation", "relu"),
        ),
    ],
)
def test_mistakes_in_a_network_are_told_in_words(
    network: dict[str, Any], code: str, path: str, meant: str | None
) -> None:
    with refused(code, path) as told:
        make_policy("ppo", network=network)
    assert meant is None or str(told.value).endswith(f"; did you mean {meant!r}?")


def test_what_does_not_fit_into_memory_is_refused_before_it_is_made(monkeypatch) -> None:
    game = make_environment("matrix_game")
    player = make_policy("dpo", share="agent", network={"kind": "mlp", "hidden": [8]})
    draws = RandomStreams.of(0, 3)
    made = player.initial_state(game.roles[0], game.phases, draws).learned.train_state
    found = pytree.flatten([made.parameters, made.optimizer_state, made.reference]).values()
    gradients = sum(tensor.nbytes for tensor in made.parameters.values())
    needed = gradients + sum(tensor.nbytes for tensor in found if tensor.dim() > 1)
    monkeypatch.setattr(memory_check, "_free_bytes", lambda device: needed)
    player.initial_state(game.roles[0], game.phases, draws)
    monkeypatch.setattr(memory_check, "_free_bytes", lambda device: needed - 1)
    with refused("too_large", path="players.player"):
        player.initial_state(game.roles[0], game.phases, draws)
