"""What would stop a run after training is told by the check, with its place, before anything."""

from __future__ import annotations

import pytest

from mores.agents.learners import lesson
from mores.errors import UserError
from mores.run import rehearsal
from mores.run.rehearsal import check
from mores.scenario.load import load

ANSWERS = """\
name: rehearsed
about: A recipe learns from a record, and plays.
env: {kind: requests}
players: {assistant: {kind: dpo, network: {kind: mlp, hidden: [4]}}}
rounds: 6
measures: [score]
stages:
  - {name: gather, episodes: 500}
  - {name: fit, loop: fit, learn: assistant}
  - {name: test}
"""
GAME = """\
name: rehearsed
about: A recipe learns as it acts, and plays.
env: {kind: matrix_game, payoffs: public_goods}
players: {player: {kind: ppo, horizon: 4, network: {kind: mlp, hidden: [4]}}}
rounds: 8
measures: [cooperation]
stages:
  - {name: train, loop: improve, learn: player, episodes: 500}
  - {name: test}
"""
RECORD = GAME.replace("loop: improve, learn: player, episodes: 500}",
                      "episodes: 9}\n  - {name: fit, loop: fit, learn: player}")  # fmt: skip
PPO, TEST = "kind: ppo, horizon: 4", "{name: test"


def test_it_ends_in_time(tmp_path, monkeypatch):
    """Lessons are gone over once, and what takes too long altogether is left to the run."""
    work = []
    teach = lesson.go_over

    def counted(*given, **named):
        work.append(given[8])  # epochs
        return teach(*given, **named)

    monkeypatch.setattr(lesson, "go_over", counted)
    long = GAME.replace("horizon: 4", "horizon: 4, epochs: 1000")
    swept = long + "sweep: {players.player.horizon: [2, 3, 4, 5]}\n"
    _checked(tmp_path, swept)
    assert set(work) == {1} and len(work) > 4
    work.clear()
    monkeypatch.setattr(rehearsal, "MOST_SECONDS", 0.0)
    _checked(tmp_path, swept)
    assert not work


def _checked(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return check(load(str(file)))


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        # other seats
        (GAME, TEST, f"{TEST}, env: {{env.agents: 4}}",
         "4:19: players.player: in stage test: player had 2 seats when its learner began, and has "
         "4 here"),
        (ANSWERS, "{name: gather", "{name: gather, env: {env.answers: 4}",
         "in stage test: assistant had 4 seats when its learner began, and has 8 here"),
        # other sights, though as many numbers, and other acts
        (ANSWERS, TEST, f"{TEST}, env: {{env.features: 16, env.length: 5}}",
         "in stage test: assistant learned to see request (4), answer (72), judgement (12), and "
         "sees request (16)"),
        (GAME.replace("public_goods", "public_goods, memory: 0"), TEST,
         f"{TEST}, env: {{env.levels: 3}}",
         "in stage test: player learned to choose one of 2 in phase 'choose', and chooses one of "),
        (GAME.replace(", payoffs: public_goods", ""), TEST, f"{TEST}, env: {{env.levels: 3}}",
         "9:36: stages.1.env.env.levels: levels goes with payoffs: public_goods"),
        (GAME.replace("payoffs: public_goods", "levels: 3"), "stages:",
         "sweep: {env.continuation: [0.5, 1]}\nstages:",
         "3:6: env: levels goes with payoffs: public_goods"),
        (GAME.replace(", payoffs: public_goods", ""), TEST,
         f"{TEST}, env: {{env.levels: 3, env.continuation: 0.5}}",
         "9:36: stages.1.env.env.levels: levels goes with payoffs: public_goods"),
        # feedback that is not there
        *((RECORD, PPO, f"kind: {kind}",
           f"4:19: players.player: in stage fit: {kind} learns from preferences, and in the stages "
           "before there were none (feedback `preferred`)") for kind in ("dpo", "simpo")),
        *((RECORD, PPO, f"kind: {kind}",
           f"in stage fit: {kind} imitates demonstrations, and in the stages before there were "
           "none (feedback `demonstration`)") for kind in ("sft", "dckd", "adpa")),
        (RECORD, PPO, "kind: kto", "kto learns from what was wanted and what was not, and in the"),
        (RECORD, PPO, "kind: cut", "cut learns from judgements, and in the stages before there"),
        (GAME, PPO, "kind: grao", "in stage train: grao needs an environment that demonstrates"),
        (GAME, PPO, "kind: grpo, aggregate: sum", "in stage train: aggregate: sum needs an env"),
        (ANSWERS, "kind: dpo", "kind: dpo, share: agent",
         "dpo learns from preferences between answers of one policy, and here seats 2i and 2i + 1"),
        (ANSWERS.replace("requests}", "requests, error_rates: [0.1, 0.1, 0.1]}"), "kind: dpo",
         "kind: dpo, robust: true, annotators: 2", "annotators: 2 are numbered 0 to 1, not 0 to 2"),
        # what does not go on, or does not fit
        (ANSWERS, "kind: dpo", "kind: restoring", "restoring gives back what a stage before"),
        (ANSWERS, TEST, f"{TEST}, players: {{players.assistant.network.hidden: [5]}}",
         "stages.2.players.players.assistant.network.hidden: in stage test: assistant "
         "cannot go on from what was learned before"),
        (ANSWERS, TEST, f"{TEST}, players: {{players.assistant.share: group}}",
         "stages.2.players.players.assistant.share: share: group needs groups"),
        (GAME.replace(TEST, f"{TEST}, loop: assist"), PPO, f"{PPO}, search: look_ahead",
         "in stage test: search: look_ahead needs a role that knows what it sees after its own"),
        (GAME, "mlp, hidden: [4]", "transformer, hidden: 4, blocks: 1, context: 6",
         "in stage train: transformer: the episode is longer than its context, 6"),
        (GAME, TEST, f"{TEST}, players: {{players.player: {{kind: cast, seats: [{{{PPO}}}, "
         "{kind: copy}]}}",
         "stages.1.players.players.player: plays untrained in stage test: it never learns"),
        (GAME.replace("kind: ppo, horizon: 4, network: {kind: mlp, hidden: [4]}",
                      "kind: cast, seats: [{kind: ppo, horizon: 4}, {kind: copy}]"), TEST,
         f"{TEST}, players: {{players.player.seats: [{{kind: copy}}, {{{PPO}}}]}}",
         "stages.1.players.players.player.seats: plays untrained in stage test"),
        (GAME.replace("public_goods", "public_goods, memory: 0").replace("stages:", "arms: {main: "
         "{}, other: {players.player: {kind: strategy, name: grudger}}}\nstages:"),
         "name: rehearsed", "name: rehearsed",
         "7:42: arms.other.players.player: grudger needs to see what was done last"),
    ],
)  # fmt: skip
def test_mistakes_that_show_when_stages_follow_each_other(tmp_path, text, old, new, said):
    assert old in text
    with pytest.raises(UserError) as caught:
        _checked(tmp_path, text.replace(old, new))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", [ANSWERS, GAME, ANSWERS.replace("rounds: 6", "rounds: 600")])
def test_what_is_fine_is_fine(tmp_path, text):
    assert len(_checked(tmp_path, text)) == 1


def test_of_an_episode_that_is_cut_off_nothing_is_concluded(tmp_path):
    """An answer of 300 words is longer than a rehearsal: that nobody judged it says nothing."""
    long = ANSWERS.replace("requests", "requests, words: 300, length: 300, answers: 2, features: 1")
    _checked(tmp_path, long.replace("rounds: 6", "rounds: 300"))
