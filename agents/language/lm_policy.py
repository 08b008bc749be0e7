"""A language model that answers turn after turn, and what it said as tokens to learn from.

A *dialogue* is what one seat hears and says in one episode: a first text, its reply, what it sees
next, its reply, ... As tokens that is a prompt and one long completion, in which `mask` tells the
model's own tokens from what it was told in between.

Where options are few, the reply is *closed*: an open option is drawn with the probability that the
model itself gives to its label, among all labels of open options (`choosing`). A trainer raises
log p of what went well, and not the log q by which it was drawn. The two differ by log Z, the
probability of answering with any label at all: with advantages of mean zero (GRPO's) that makes no
difference on average in a game of one turn; over several turns it also draws the model to
label-like answers in states that turn out well. Free replies are sampled token by token, and have
no such gap.

All chance comes from uniform numbers that the caller draws, one a closed reply or one a token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mores.agents.language.causal_lm import (
    NO_TOKEN,
    eval_mode,
    forward_logits,
    forward_next,
    max_context_length,
)
from mores.agents.language.closed_choice import inverse_cdf_sample, token_log_probabilities
from mores.agents.language.prompting import Prompter, unparsed_action
from mores.agents.language.tokenization import PromptTokenizer, Tokens
from mores.core.environment import Discrete, Phase, Role
from mores.core.errors import UserError

UniformFunction = Callable[
    [str, int], Float[Tensor, "dialogue number"]
]  # purpose, how many: uniform


@dataclasses.dataclass(frozen=True)
class DialoguePolicy:
    """How a language model plays.

    Args:
        prompter: how it is told the game, and read.
        closed_choice: choose among the labels of open options; else, and wherever there are no options,
            let it say what it likes.
        max_new_tokens: tokens of a free reply at most.
        batch_size: texts that go through the model together.
    """

    prompter: Prompter = dataclasses.field(default_factory=Prompter)
    closed_choice: bool = True
    max_new_tokens: int = 16
    batch_size: int = 256

    def check(self, phases: Sequence[Phase], role: Role) -> None:
        """Refuse a talk that does not fit the game.

        Raises:
            UserError: it names phases or options that there are not.
        """
        self.prompter.check(phases, role)

    def start_dialogues(
        self,
        model: nn.Module,
        tokenizer: Any,
        role: Role,
        num_dialogues: int,
        temperature: float = 1.0,
    ) -> DialogueBatch:
        """So many dialogues, in which nothing has been said yet.

        Args:
            model: causal, of transformers.
            tokenizer: its tokenizer.
            role: that it plays in all of them.
            num_dialogues: how many.
            temperature: logits are divided by it.

        Raises:
            UserError: the tokenizer has no end token.
        """
        generation = getattr(model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        ends = [] if ends is None else [ends] if isinstance(ends, int) else ends
        return DialogueBatch(
            self, model, PromptTokenizer(tokenizer, tuple(ends)), role, num_dialogues, temperature
        )


class DialogueBatch:
    """What a language model heard and said at several seats that play at once.

    Attributes:
        prompts: what each was told first, as tokens.
        completions: all that followed.
        masks: which of these tokens the model said itself (1) and which it was told (0).
        logps: their log-probabilities when it said them; 0 where it was told.
        unparsed: how many replies of each could not be read.
    """

    def __init__(
        self,
        policy: DialoguePolicy,
        model: nn.Module,
        tokenizer: PromptTokenizer,
        role: Role,
        num_dialogues: int,
        temperature: float,
    ) -> None:
        self.policy, self.model, self.tokenizer, self.role = policy, model, tokenizer, role
        self.temperature = temperature
        self.prompts: list[Tokens] = [[] for _ in range(num_dialogues)]
        self.completions: list[Tokens] = [[] for _ in range(num_dialogues)]
        self.masks: list[list[int]] = [[] for _ in range(num_dialogues)]
        self.logps: list[list[float]] = [[] for _ in range(num_dialogues)]
        self.unparsed = [0] * num_dialogues

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "dialogue size"],
        action_mask: Bool[Tensor, "dialogue option"] | None,
        active: Bool[Tensor, " dialogue"],
        uniforms: UniformFunction,
    ) -> Tensor:
        """Tell what is seen, let the model reply, and read what it does.

        Args:
            phase: in which it acts.
            observation: what each seat sees.
            action_mask: options open to each; `None`: all.
            active: dialogues that go on; the others hear nothing.
            uniforms: uniform numbers by purpose, for all dialogues.

        Returns:
            Acts `[dialogue]` or `[dialogue, size]`; what could not be read is an act that no space
            has (`talk.unread`).

        Raises:
            UserError: a dialogue is longer than the model can read.
        """
        talk, space = self.policy.prompter, phase.action_spaces[self.role.name]
        open_now = [None] * len(observation) if action_mask is None else list(action_mask.cpu())
        which = active.nonzero()[:, 0].tolist()
        for number in which:
            sight = talk.describe(self.role, phase, observation[number].cpu(), open_now[number])
            self._append_observation(number, sight)
        acts = [unparsed_action(space)] * len(observation)
        with torch.no_grad(), eval_mode(self.model):
            if self.policy.closed_choice and isinstance(space, Discrete):
                labels = talk.option_labels(space)
                chosen = self._closed_replies(which, labels, open_now, uniforms("reply", 1)[:, 0])
                for number, option in zip(which, chosen, strict=True):
                    acts[number] = torch.tensor(option)
            else:
                for number, reply in zip(which, self._free_replies(which, uniforms), strict=True):
                    act = talk.parse_reply(space, reply, open_now[number])
                    self.unparsed[number] += act is None
                    acts[number] = unparsed_action(space) if act is None else act
        return torch.stack(acts)

    def _append_observation(self, dialogue: int, text: str) -> None:
        """Tell a dialogue something."""
        if self.prompts[dialogue]:
            self._append(dialogue, self.tokenizer.encode_user_turn(text))
        else:
            opening = self.policy.prompter.opening(self.role)
            self.prompts[dialogue] = self.tokenizer.encode_opening(f"{opening}\n{text}")

    def _append(self, dialogue: int, tokens: Tokens, logps: Sequence[float] | None = None) -> None:
        """Tokens that were told, or with log-probabilities: said."""
        self.completions[dialogue] += tokens
        self.masks[dialogue] += [0 if logps is None else 1] * len(tokens)
        self.logps[dialogue] += [0.0] * len(tokens) if logps is None else logps

    # --- closed replies ------------------------------------------------------------------------

    def _closed_replies(
        self,
        dialogues: Sequence[int],
        labels: Sequence[str],
        action_mask: Sequence[Tensor | None],
        uniform: Float[Tensor, " dialogue"],
    ) -> list[int]:
        """Options drawn by the model's own probability of their labels."""
        replies = [self.tokenizer.encode_reply(label) for label in labels]
        everything = list(range(len(labels)))
        options = [
            everything if (mask := action_mask[number]) is None else mask.nonzero()[:, 0].tolist()
            for number in dialogues
        ]
        asked = [
            (number, replies[option])
            for number, open_ in zip(dialogues, options, strict=True)
            for option in open_
        ]
        scores = self._reply_logps(asked).tolist()
        chosen = []
        for number, open_ in zip(dialogues, options, strict=True):
            own, scores = scores[: len(open_)], scores[len(open_) :]
            at = inverse_cdf_sample(torch.tensor(own, dtype=torch.float64), float(uniform[number]))
            option = open_[at]
            logps = token_log_probabilities([replies[o] for o in open_], own, at)
            self._append(number, replies[option], logps)
            chosen.append(option)
        return chosen

    def _reply_logps(self, replies: Sequence[tuple[int, Tokens]]) -> Float[Tensor, " text"]:
        """Log-probability of each reply, after what was said in its dialogue."""
        found = []
        for start in range(0, len(replies), self.policy.batch_size):
            some = replies[start : start + self.policy.batch_size]
            texts = [[*self._tokens(number), *reply] for number, reply in some]
            most = max(len(reply) for _, reply in some)
            tokens = self._left_pad(texts)
            raw = forward_logits(self.model, tokens, most + 1)[0][:, -(most + 1) : -1]
            logps = (raw.float() / self.temperature).log_softmax(-1)
            said = logps.gather(-1, tokens[:, -most:, None])[..., 0]
            place = torch.arange(most, device=said.device)
            lengths = torch.tensor([len(reply) for _, reply in some], device=said.device)
            own = place >= most - lengths[:, None]
            found.append(torch.where(own, said, 0.0).sum(-1).cpu().double())
        return torch.cat(found)

    # --- free replies --------------------------------------------------------------------------

    def _free_replies(self, dialogues: Sequence[int], uniforms: UniformFunction) -> list[str]:
        """Replies sampled token by token, until they end or are too long."""
        uniform = uniforms("token", self.policy.max_new_tokens)
        replies: list[str] = []
        for start in range(0, len(dialogues), self.policy.batch_size):
            some = dialogues[start : start + self.policy.batch_size]
            replies += self._sample_replies(some, uniform[list(some)])
        return replies

    def _sample_replies(
        self, dialogues: Sequence[int], uniform: Float[Tensor, "text number"]
    ) -> list[str]:
        """Replies of dialogues that go through the model together."""
        said: list[Tokens] = [[] for _ in dialogues]
        logps: list[list[float]] = [[] for _ in dialogues]
        seen, cache = self._left_pad([self._tokens(number) for number in dialogues]), None
        for place in range(uniform.shape[1]):
            raw, cache = forward_next(self.model, seen, cache)
            rows = (raw.float() / self.temperature).log_softmax(-1).cpu().double()
            tokens = [
                inverse_cdf_sample(row, float(u))
                for row, u in zip(rows, uniform[:, place], strict=True)
            ]
            for number, token in enumerate(tokens):
                if not self.tokenizer.is_complete(said[number]):
                    said[number].append(token)
                    logps[number].append(float(rows[number, token]))
            if all(map(self.tokenizer.is_complete, said)):
                break
            seen = torch.cat([seen, torch.tensor(tokens, device=seen.device)[:, None]], 1)
        for number, own, scores in zip(dialogues, said, logps, strict=True):
            self._append(number, own, scores)
            if not self.tokenizer.is_complete(own):  # was cut off: its end is told
                self._append(number, self.tokenizer.encode_reply("")[-1:])
        return [self.tokenizer.decode_reply(own) for own in said]

    # --- the model -----------------------------------------------------------------------------

    def _tokens(self, dialogue: int) -> Tokens:
        return [*self.prompts[dialogue], *self.completions[dialogue]]

    def _left_pad(self, texts: list[Tokens]) -> Int[Tensor, "text place"]:
        """Texts as tokens that end at the same place.

        Raises:
            UserError: one is longer than the model can read.
        """
        width, most = max(map(len, texts)), max_context_length(self.model)
        if most is not None and width > most:
            raise UserError(
                f"a dialogue has {width} tokens, and the model reads {most} at most: "
                "play fewer rounds, or tell less",
                code="too_large",
                path="rounds",
            )
        tokens = torch.full((len(texts), width), NO_TOKEN, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens[row, width - len(text) :] = torch.tensor(text)
        return tokens.to(next(self.model.parameters()).device)
