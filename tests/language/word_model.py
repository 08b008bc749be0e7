"""A tiny model with a token for each word of an environment's texts: prompts of few tokens."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers reads it

import torch

from mores.agents.language.models.tiny import TinyModel
from mores.envs.strategic.matrix_game import MatrixGame

# The best reply to tit for tat is to change the action in every round: the payoff is then 1.
ANTICOORDINATION = MatrixGame.model_validate({"payoffs": [[0.0, 1.0], [1.0, 0.0]]})
ALL_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class WordModel(TinyModel):
    """Random Llama for the texts of `ANTICOORDINATION`; other words are one unknown token."""

    hidden_size: int = 32

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        return word_llama(self.weights_seed, self.hidden_size, self.num_layers)

    def identity(self) -> Mapping[str, str]:
        """Its parameters."""
        return {"model": f"words {self.hidden_size} {self.num_layers} {self.weights_seed}"}


@functools.cache
def game_words() -> tuple[str, ...]:
    """Words of all texts of the game, in every situation."""
    game = ANTICOORDINATION
    space, texts = game.roles[0].observation_space, [game.role_rules("player")]
    histories = [(own, other) for own in (0, 1) for other in (0, 1)]
    observations = [torch.zeros(space.size)] + [
        space.join(
            own_actions=torch.eye(2)[own], other_actions=torch.eye(2)[other],
            game_started=torch.ones(1),
        )
        for own, other in histories
    ]  # fmt: skip
    for observation in observations:
        turn = game.describe("player", "choose", observation)
        texts += [turn.situation, turn.question, *turn.options]
    return (*" ".join(texts).split(), *["A.", "B.", "A", "B", "Answer", "with", "or", "only."])


def word_llama(seed: int, hidden_size: int, num_layers: int) -> tuple[Any, Any]:
    """A new model with weights of this seed, and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.learners.tiny_language_model import tiny_tokenizer

    tokenizer: Any = tiny_tokenizer(game_words())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval(), tokenizer
