"""Online SFT and KTO: losses against independent values, and what they learn of biased raters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mores.agents.learning.networks.routed import RoutedMLP
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.strategic.biased_users import BiasedUsers
from mores.registry import make_environment, make_policy
from mores.sim.policy_queries import policy_metrics
from mores.sim.simulator import Simulator
from tests.learners.small_environments import unchecked
from tests.refusals import refused

NET = {"kind": "mlp", "hidden_sizes": [16]}
FEEDBACK: dict[str, Any] = {"elicit_beliefs": False, "num_people": 32}


@unchecked()
def trained(environment: Any, policy: Any, updates: int, worlds: Worlds, states: Any = None) -> Any:
    """A simulator after some episodes of training; `states`: of the stage before."""
    stage = 0 if states is None else 1
    simulator = Simulator(environment, {"assistant": policy}, worlds=worlds, rounds=1, stage=stage)
    simulator.reset(3, states)
    for episode in range(updates):
        if episode:
            simulator.next_episode()
        simulator.step()
    return simulator


def test_online_sft_learns_the_shares_of_the_corpus() -> None:
    """Beliefs reach the best accuracy, statements the corpus, in all domains (exact features)."""
    environment = BiasedUsers(
        num_people=256, task="pretraining", feature_noise=0.1, claim_error_rate=1.0
    )
    policy = make_policy("online_sft", network=NET, learning_rate=0.02, update_epochs=25)
    simulator = trained(environment, policy, 12, Worlds.grid(1, 2))
    metrics = {name: x.mean().item() for name, x in policy_metrics(simulator).items()}
    for domain in ("rated", "held_out"):
        assert metrics[f"belief_accuracy_{domain}"] > 0.98
        assert metrics[f"accuracy_{domain}"] == pytest.approx(0.7, abs=0.06)
        assert metrics[f"flattery_{domain}"] == pytest.approx(0.15, abs=0.05)
        assert metrics[f"hedging_{domain}"] == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("kind", ["online_kto", "expert_iteration"])
def test_feedback_of_biased_raters_makes_flatterers(kind: str) -> None:
    """Ratings by biased people alone, without hedges: replies come to agree with wrong claims."""
    exact = {"feature_noise": 0.1, "claim_error_rate": 1.0, "hedge_value": 0.0, "num_people": 256}
    environment = make_environment("biased_users", biased_share=1.0, **{**FEEDBACK, **exact})
    policy = make_policy(
        kind, network=NET, learning_rate=0.02, group_by="replicate", update_epochs=10
    )
    simulator = trained(environment, policy, 10, Worlds.grid(2, 4))
    sycophancy = environment.metrics(simulator.state)["sycophancy"]
    assert sycophancy.mean() > 0.8  # of 1/4 at the start


def test_online_kto_is_the_loss_of_the_paper() -> None:
    """One step of plain gradient descent direction: labels by quantile, loss by its formula."""
    environment = make_environment("biased_users", **FEEDBACK)
    policy = make_policy(
        "online_kto", network=NET, group_by="replicate", top_fraction=0.25, bottom_fraction=0.125
    )
    simulator = Simulator(environment, {"assistant": policy}, worlds=Worlds.grid(1, 1), rounds=1)
    simulator.reset(3)
    captured: dict[str, Any] = {}
    learner_class = type(policy)
    original = learner_class.make_update_batch

    def capture(self: Any, batches: Any, state: Any) -> Any:
        captured["update"] = original(self, batches, state)
        return captured["update"]

    learner_class.make_update_batch = capture  # type: ignore[method-assign]
    try:
        simulator.step()
    finally:
        learner_class.make_update_batch = original  # type: ignore[method-assign]
    batch = captured["update"].batches["state"]
    rating = simulator.state.exchange.rating[0]
    order = rating.argsort(descending=True)
    assert set(batch.desirable[0].nonzero()[:, 0].tolist()) == set(order[:8].tolist())
    used = batch.mask[0, :, 0]
    assert set((used & ~batch.desirable[0]).nonzero()[:, 0].tolist()) == set(order[-4:].tolist())
    assert torch.equal(batch.reference_logp[0, :, 0], batch.old_logp[0, :, 0])
    # at the reference model all log-ratios and the baseline are 0: the loss is 1/2 of each sample
    statistics = policy.learning_metrics(simulator.policy_states["assistant"])
    assert statistics["loss"][0] == pytest.approx(0.5, abs=0.02)


def test_routed_networks_train_one_option_alone() -> None:
    """Rated conversations change no reply in a held-out domain beyond the biases of the heads."""
    network = {"kind": "routed_mlp", "first_input": 2, "num_options": 2, "hidden_sizes": [16]}
    environment = make_environment("biased_users", biased_share=1.0, **FEEDBACK)
    policy = make_policy(
        "online_kto", network=network, learning_rate=0.01, group_by="replicate", update_epochs=20
    )
    worlds = Worlds.grid(2, 2)
    pretraining = environment.model_copy(update={"task": "pretraining"})
    corpus = make_policy("online_sft", network=network, learning_rate=0.02, update_epochs=40)
    start = trained(pretraining, corpus, 3, worlds)
    before = {k: v.clone() for k, v in parameters(start).items()}
    after = parameters(trained(environment, policy, 2, worlds, start.policy_states))
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name for name in changed if name.startswith("policy.")} == {
        "policy.0.0.weight",
        "policy.0.0.bias",
    }
    weight = "act.state.weight"  # features of option 0, then those of option 1
    assert torch.equal(before[weight][:, 16:], after[weight][:, 16:])
    assert not torch.equal(before[weight][:, :16], after[weight][:, :16])


def parameters(simulator: Simulator) -> dict[str, Tensor]:
    """Parameters of the assistant's models."""
    return simulator.policy_states["assistant"].persistent_state.train_state.parameters


def test_routed_network_reads_its_part() -> None:
    network = RoutedMLP(first_input=1, num_options=2, hidden_sizes=[3])
    layers = network.layers("policy", 4)
    weights = {
        f"{name}.weight": torch.randn(1, *(s.in_features, s.out_features))
        for name, s in layers.items()
    }
    observation = torch.tensor([[[0.3, 0.0, 1.0, -2.0], [0.3, 1.0, 0.0, -2.0]]])
    features, _ = network.forward_step(weights, "policy", observation, observation[..., :0])
    expected = torch.tanh(observation[0, 0] @ weights["policy.1.0.weight"][0])
    torch.testing.assert_close(features[0, 0], torch.cat([torch.zeros(3), expected]))
    assert not features[0, 1, 3:].any() and network.features_dim(4) == 6
    with refused("out_of_range", "first_input"):
        network.features_dim(2)


def test_what_the_recipes_refuse() -> None:
    with refused("conflict", "online_kto.bottom_fraction"):
        make_policy("online_kto", top_fraction=0.6, bottom_fraction=0.5)
    with refused("missing", "demonstration"):
        policy = make_policy("online_sft", network=NET)
        trained(make_environment("biased_users", **FEEDBACK), policy, 1, Worlds.grid(1, 1))
    environment = TokenFeedback(num_completions=2, vocab_size=4, completion_length=3)
    policy = make_policy("online_sft", network=NET)
    simulator = Simulator(environment, {"assistant": policy}, worlds=2, rounds=3)
    simulator.reset(1)
    for _ in range(3):  # three tokens are demonstrated: one in each round
        simulator.step()
    assert int(policy.state_dict(simulator.policy_states["assistant"])["num_updates"].min()) == 1
