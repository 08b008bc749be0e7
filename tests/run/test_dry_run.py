"""The dry run finds errors between stages, with their location, before the run starts."""

from __future__ import annotations

import pytest

from mores.agents.learning import update
from mores.experiments.run import dry_run
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import refused

THREE = "{kind: bradley_terry, annotator_error_rates: [0.1, 0.1, 0.1]}"
TOKENS = """\
name: dry_run
about: A recipe trains on recorded episodes and is evaluated.
env: {kind: token_feedback}
policies: {assistant: {kind: dpo, network: {kind: mlp, hidden_sizes: [4]}}}
rounds: 6
metrics: [score]
stages:
  - {name: gather, episodes: 500}
  - {name: fit, loop: fit_offline, roles_to_train: assistant}
  - {name: test}
"""
GAME = """\
name: dry_run
about: A recipe trains on reward and is evaluated.
env: {kind: matrix_game, payoffs: public_goods}
policies: {player: {kind: ppo, num_steps: 4, network: {kind: mlp, hidden_sizes: [4]}}}
rounds: 8
metrics: [cooperation_rate]
stages:
  - {name: train, loop: train, roles_to_train: player, episodes: 500}
  - {name: test}
"""
FIT = "episodes: 9}\n  - {name: fit, loop: fit_offline, roles_to_train: player}"
OFFLINE = GAME.replace("loop: train, roles_to_train: player, episodes: 500}", FIT)
PPO, TEST = "kind: ppo, num_steps: 4", "{name: test"
PLAYER, ASSISTANT = "policies.player", "policies.assistant"


@pytest.mark.full
def test_it_has_a_time_limit(tmp_path, monkeypatch):
    """Updates have one epoch; cells beyond the time limit are not trained."""
    num_epochs = []
    run_epochs = update.run_epochs

    def count(*arguments, **named):
        num_epochs.append(arguments[8])
        return run_epochs(*arguments, **named)

    monkeypatch.setattr(update, "run_epochs", count)
    text = GAME.replace("num_steps: 4", "num_steps: 4, update_epochs: 1000")
    text += "sweep: {policies.player.num_steps: [2, 3, 4, 5]}\n"
    _check(tmp_path, text)
    assert set(num_epochs) == {1} and len(num_epochs) > 4
    num_epochs.clear()
    monkeypatch.setattr(dry_run, "MAX_SECONDS", 0.0)
    _check(tmp_path, text)
    assert not num_epochs


def _check(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return check_scenario(load_scenario(str(file)))


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("text", "old", "new", "code", "path"),
    [
        # other numbers of agents
        (GAME, TEST, f"{TEST}, env: {{env.num_agents: 4}}", "incompatible", PLAYER),
        (TOKENS, "{name: gather", "{name: gather, env: {env.num_completions: 4}", "incompatible",
         ASSISTANT),
        # other observations of the same size, other actions
        (TOKENS, TEST, f"{TEST}, env: {{env.num_prompt_features: 16, env.completion_length: 5}}",
         "incompatible", ASSISTANT),
        (GAME.replace("public_goods", "public_goods, memory_depth: 0"), TEST,
         f"{TEST}, env: {{env.num_levels: 3}}", "incompatible", PLAYER),
        (GAME.replace(", payoffs: public_goods", ""), TEST, f"{TEST}, env: {{env.num_levels: 3}}",
         "conflict", "stages.1.env.env.num_levels"),
        (GAME.replace("payoffs: public_goods", "num_levels: 3"), "stages:",
         "sweep: {env.continuation_probability: [0.5, 1]}\nstages:", "conflict", "env"),
        (GAME.replace(", payoffs: public_goods", ""), TEST,
         f"{TEST}, env: {{env.num_levels: 3, env.continuation_probability: 0.5}}", "conflict",
         "stages.1.env.env.num_levels"),
        # missing feedback
        *((OFFLINE, PPO, f"kind: {kind}", "missing", PLAYER)
          for kind in ("dpo", "simpo", "sft", "dckd", "adpa", "kto", "cut")),
        *((GAME, PPO, f"kind: {kind}", "missing", PLAYER)
          for kind in ("grao", "grpo, reward_aggregation: sum")),
        (TOKENS, "kind: dpo", "kind: dpo, parameter_sharing: agent", "conflict", ASSISTANT),
        (TOKENS.replace("feedback}", f"feedback, choice: {THREE}}}"), "dpo",
         "dpo, estimate_reliability: true, num_annotators: 2", "out_of_range", ASSISTANT),
        # parameters that do not continue, or do not fit
        (TOKENS, "kind: dpo", "kind: alignment_recovery", "wrong_order", ASSISTANT),
        (TOKENS, TEST, f"{TEST}, policies: {{{ASSISTANT}.network.hidden_sizes: [5]}}",
         "incompatible", f"stages.2.policies.{ASSISTANT}.network.hidden_sizes"),
        (TOKENS, TEST, f"{TEST}, policies: {{{ASSISTANT}.parameter_sharing: group}}", "missing",
         f"stages.2.policies.{ASSISTANT}.parameter_sharing"),
        (GAME.replace(TEST, f"{TEST}, loop: search"), PPO, f"{PPO}, search: lookahead",
         "unsupported", PLAYER),
        (GAME, "mlp, hidden_sizes: [4]", "transformer, hidden_size: 4, num_layers: 1, "
         "context_length: 6", "too_large", PLAYER),
        (GAME, TEST, f"{TEST}, policies: {{{PLAYER}: {{kind: per_agent, policies: [{{{PPO}}}, "
         "{kind: imitate_last}]}}", "not_trained", f"stages.1.policies.{PLAYER}"),
        (GAME.replace("kind: ppo, num_steps: 4, network: {kind: mlp, hidden_sizes: [4]}",
                      f"kind: per_agent, policies: [{{{PPO}}}, {{kind: imitate_last}}]"), TEST,
         f"{TEST}, policies: {{{PLAYER}.policies: [{{kind: imitate_last}}, {{{PPO}}}]}}",
         "not_trained", f"stages.1.policies.{PLAYER}.policies"),
        (GAME.replace("public_goods", "public_goods, memory_depth: 0").replace("stages:", "arms: "
         "{main: {}, other: {policies.player: {kind: strategy, name: grudger}}}\nstages:"),
         "name: dry_run", "name: dry_run", "unsupported", f"arms.other.{PLAYER}"),
    ],
    ids=lambda value: "text" if "\n" in value else None,
)  # fmt: skip
def test_errors_between_stages(workdir, text, old, new, code, path):
    assert old in text
    with refused(code, path):
        _check(workdir, text.replace(old, new))


@pytest.mark.parametrize("text", [TOKENS, GAME, TOKENS.replace("rounds: 6", "rounds: 600")])
def test_valid_scenarios_pass(tmp_path, text):
    assert len(_check(tmp_path, text)) == 1


@pytest.mark.full
def test_a_cut_episode_is_no_error(tmp_path):
    """A completion of 300 tokens is longer than a dry run, and lacks feedback."""
    long = "token_feedback, vocab_size: 300, completion_length: 300, num_completions: 2"
    text = TOKENS.replace("token_feedback", f"{long}, num_prompt_features: 1")
    _check(tmp_path, text.replace("rounds: 6", "rounds: 300"))
