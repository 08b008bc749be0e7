"""DPO of a language model in `reply_ratings` against a plain loop with torch's Adam.

The loop computes whole forward passes of whole replies: kept states and the normalization over
candidate replies, which cancels in the difference of two replies, must not change the result.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import logsigmoid
from torch.nn.utils import clip_grad_norm_

from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.closed_replies import closed_reply_logps
from mores.agents.language.language_learner import LanguageLearner
from mores.agents.language.language_model import Message
from mores.agents.language.models.tiny import TinyModel
from mores.agents.language.readouts.statements import Statements
from mores.agents.learning.recipes.preferences import DPO
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback.reply_ratings import ReplyRatings
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator

TABLE = Path(__file__).with_name("small_replies.csv")
BETA, RATE, PASSES = 0.3, 0.01, 3


def test_dpo_is_that_of_a_plain_loop():
    """Log-probabilities of all replies after three updates on all pairs."""
    environment = ReplyRatings(num_pairs=8, biased_share=0.25, path=str(TABLE))
    recorder = EpisodeRecorder(["assistant"])
    collect = Simulator(
        environment,
        {"assistant": "distinct_replies"},
        worlds=1,
        rounds=1,
        roles_to_train=[],
        recorder=recorder,
    )
    collect.reset(3)
    prompts = collect.state.prompt
    collect.step()
    kinds = collect.state.replies.view(-1, 2)
    preferred = collect.state.preferred.view(-1, 2)

    lora = LoRA(layers=1, rank=2, target_modules=("q_proj", "v_proj"))
    learner = LanguageLearner(
        model=TinyModel(),
        readout=Statements(baseline=False),
        adapters=lora,
        keep_states=True,
        objective=DPO(beta=BETA, learning_rate=RATE, batch_size=100),
    )
    simulator = Simulator(environment, {"assistant": learner}, worlds=Worlds.of(1), rounds=1)
    simulator.reset(5)
    state = simulator.policy_states["assistant"]
    own = state.learner.persistent_state.train_state.parameters
    start = {name: value.detach().clone() for name, value in own.items()}
    for number in range(PASSES):
        streams = RandomStreams.of(1, 1).at(number).child("fit")
        state = learner.fit_offline(state, recorder.dataset("assistant"), streams)

    engine, table = learner.model.engine(), environment.table
    model = engine.model
    parameters = {name: value.requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(
        list(parameters.values()), RATE, eps=learner.objective.optimizer_config.adam.eps
    )
    rules = Message("system", environment.role_rules("assistant"))
    texts = [
        (table.prompts[row], table.replies[row][kind])
        for row, pair in zip(prompts[0].tolist(), kinds.tolist(), strict=True)
        for kind in pair
    ]
    asked = [list(engine.prompt((rules, Message("user", prompt)))) for prompt, _ in texts]
    replies = [list(engine.chat.reply(reply, False)) for _, reply in texts]
    index = torch.zeros(len(texts), dtype=torch.int64)

    def scores(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        """Log-probability of the preferred and of the other reply of each pair."""
        adapters = StackedLoRA(model, lora, weights)
        logps = closed_reply_logps(model, adapters, asked, replies, index).view(-1, 2)
        best = preferred.long().argmax(-1, keepdim=True)
        return torch.cat([logps.gather(1, best), logps.gather(1, 1 - best)], 1)

    with torch.no_grad():
        reference = scores(parameters)
    losses = []
    for _ in range(PASSES):
        ratio = scores(parameters) - reference
        loss = -logsigmoid(BETA * (ratio[:, 0] - ratio[:, 1])).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(list(parameters.values()), learner.objective.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    with torch.no_grad():
        by_hand, learned = scores(parameters), scores(dict(own))
    assert (by_hand - reference).abs().max() > 0.5
    torch.testing.assert_close(learned, by_hand, rtol=1e-4, atol=1e-3)
