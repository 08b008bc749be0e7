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

from mores.agents.language.causal_lm import NOTHING, evaluating, longest, read, read_on
from mores.agents.language.closed_choice import inverse, token_log_probabilities
from mores.agents.language.prompting import Talk, unread
from mores.agents.language.tokenization import Tokens, Wording
from mores.core.environment import Discrete, Phase, Role
from mores.core.errors import UserError

Chance = Callable[[str, int], Float[Tensor, "dialogue number"]]  # purpose, how many: uniform


@dataclasses.dataclass(frozen=True)
class Speaker:
    """How a language model plays.

    Args:
        talk: how it is told the game, and read.
        closed: choose among the labels of open options; else, and wherever there are no options,
            let it say what it likes.
        longest: tokens of a free reply at most.
        at_once: texts that go through the model together.
    """

    talk: Talk = dataclasses.field(default_factory=Talk)
    closed: bool = True
    longest: int = 16
    at_once: int = 256

    def check(self, phases: Sequence[Phase], role: Role) -> None:
        """Refuse a talk that does not fit the game.

        Raises:
            UserError: it names phases or options that there are not.
        """
        self.talk.check(phases, role)

    def dialogues(
        self, model: nn.Module, tokenizer: Any, role: Role, count: int, temperature: float = 1.0
    ) -> Dialogues:
        """So many dialogues, in which nothing has been said yet.

        Args:
            model: causal, of transformers.
            tokenizer: its tokenizer.
            role: that it plays in all of them.
            count: how many.
            temperature: logits are divided by it.

        Raises:
            UserError: the tokenizer has no end token.
        """
        generation = getattr(model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        ends = [] if ends is None else [ends] if isinstance(ends, int) else ends
        return Dialogues(self, model, Wording(tokenizer, tuple(ends)), role, count, temperature)


class Dialogues:
    """What a language model heard and said at several seats that play at once.

    Attributes:
        prompts: what each was told first, as tokens.
        completions: all that followed.
        masks: which of these tokens the model said itself (1) and which it was told (0).
        logps: their log-probabilities when it said them; 0 where it was told.
        unread: how many replies of each could not be read.
    """

    def __init__(
        self,
        speaker: Speaker,
        model: nn.Module,
        wording: Wording,
        role: Role,
        count: int,
        temperature: float,
    ) -> None:
        self.speaker, self.model, self.wording, self.role = speaker, model, wording, role
        self.temperature = temperature
        self.prompts: list[Tokens] = [[] for _ in range(count)]
        self.completions: list[Tokens] = [[] for _ in range(count)]
        self.masks: list[list[int]] = [[] for _ in range(count)]
        self.logps: list[list[float]] = [[] for _ in range(count)]
        self.unread = [0] * count

    def answer(
        self,
        phase: Phase,
        seen: Float[Tensor, "dialogue size"],
        legal: Bool[Tensor, "dialogue option"] | None,
        going: Bool[Tensor, " dialogue"],
        chance: Chance,
    ) -> Tensor:
        """Tell what is seen, let the model reply, and read what it does.

        Args:
            phase: in which it acts.
            seen: what each seat sees.
            legal: options open to each; `None`: all.
            going: dialogues that go on; the others hear nothing.
            chance: uniform numbers by purpose, for all dialogues.

        Returns:
            Acts `[dialogue]` or `[dialogue, size]`; what could not be read is an act that no space
            has (`talk.unread`).

        Raises:
            UserError: a dialogue is longer than the model can read.
        """
        talk, space = self.speaker.talk, phase.acts[self.role.name]
        open_now = [None] * len(seen) if legal is None else list(legal.cpu())
        which = going.nonzero()[:, 0].tolist()
        for number in which:
            sight = talk.sight(self.role, phase, seen[number].cpu(), open_now[number])
            self._hear(number, sight)
        acts = [unread(space)] * len(seen)
        with torch.no_grad(), evaluating(self.model):
            if self.speaker.closed and isinstance(space, Discrete):
                labels = talk.labels(space)
                chosen = self._choose(which, labels, open_now, chance("reply", 1)[:, 0])
                for number, option in zip(which, chosen, strict=True):
                    acts[number] = torch.tensor(option)
            else:
                for number, reply in zip(which, self._say(which, chance), strict=True):
                    act = talk.read(space, reply, open_now[number])
                    self.unread[number] += act is None
                    acts[number] = unread(space) if act is None else act
        return torch.stack(acts)

    def _hear(self, number: int, sight: str) -> None:
        """Tell a dialogue something."""
        if self.prompts[number]:
            self._append(number, self.wording.between(sight))
        else:
            opening = self.speaker.talk.opening(self.role)
            self.prompts[number] = self.wording.opening(f"{opening}\n{sight}")

    def _append(self, number: int, tokens: Tokens, logps: Sequence[float] | None = None) -> None:
        """Tokens that were told, or with log-probabilities: said."""
        self.completions[number] += tokens
        self.masks[number] += [0 if logps is None else 1] * len(tokens)
        self.logps[number] += [0.0] * len(tokens) if logps is None else logps

    # --- closed replies ------------------------------------------------------------------------

    def _choose(
        self,
        which: Sequence[int],
        labels: Sequence[str],
        legal: Sequence[Tensor | None],
        uniform: Float[Tensor, " dialogue"],
    ) -> list[int]:
        """Options drawn by the model's own probability of their labels."""
        replies = [self.wording.reply(label) for label in labels]
        everything = list(range(len(labels)))
        options = [
            everything if (mask := legal[number]) is None else mask.nonzero()[:, 0].tolist()
            for number in which
        ]
        asked = [
            (number, replies[option])
            for number, open_ in zip(which, options, strict=True)
            for option in open_
        ]
        scores = self._log_probabilities(asked).tolist()
        chosen = []
        for number, open_ in zip(which, options, strict=True):
            own, scores = scores[: len(open_)], scores[len(open_) :]
            at = inverse(torch.tensor(own, dtype=torch.float64), float(uniform[number]))
            option = open_[at]
            logps = token_log_probabilities([replies[o] for o in open_], own, at)
            self._append(number, replies[option], logps)
            chosen.append(option)
        return chosen

    def _log_probabilities(self, asked: Sequence[tuple[int, Tokens]]) -> Float[Tensor, " text"]:
        """Log-probability of each reply, after what was said in its dialogue."""
        found = []
        for start in range(0, len(asked), self.speaker.at_once):
            some = asked[start : start + self.speaker.at_once]
            texts = [[*self._text(number), *reply] for number, reply in some]
            most = max(len(reply) for _, reply in some)
            tokens = self._stacked(texts)
            raw = read(self.model, tokens, most + 1)[0][:, -(most + 1) : -1]
            logps = (raw.float() / self.temperature).log_softmax(-1)
            said = logps.gather(-1, tokens[:, -most:, None])[..., 0]
            place = torch.arange(most, device=said.device)
            lengths = torch.tensor([len(reply) for _, reply in some], device=said.device)
            own = place >= most - lengths[:, None]
            found.append(torch.where(own, said, 0.0).sum(-1).cpu().double())
        return torch.cat(found)

    # --- free replies --------------------------------------------------------------------------

    def _say(self, which: Sequence[int], chance: Chance) -> list[str]:
        """Replies sampled token by token, until they end or are too long."""
        uniform = chance("token", self.speaker.longest)
        replies: list[str] = []
        for start in range(0, len(which), self.speaker.at_once):
            some = which[start : start + self.speaker.at_once]
            replies += self._sampled(some, uniform[list(some)])
        return replies

    def _sampled(self, which: Sequence[int], uniform: Float[Tensor, "text number"]) -> list[str]:
        """Replies of dialogues that go through the model together."""
        said: list[Tokens] = [[] for _ in which]
        logps: list[list[float]] = [[] for _ in which]
        seen, cache = self._stacked([self._text(number) for number in which]), None
        for place in range(uniform.shape[1]):
            raw, cache = read_on(self.model, seen, cache)
            rows = (raw.float() / self.temperature).log_softmax(-1).cpu().double()
            tokens = [
                inverse(row, float(u)) for row, u in zip(rows, uniform[:, place], strict=True)
            ]
            for number, token in enumerate(tokens):
                if not self.wording.ended(said[number]):
                    said[number].append(token)
                    logps[number].append(float(rows[number, token]))
            if all(map(self.wording.ended, said)):
                break
            seen = torch.cat([seen, torch.tensor(tokens, device=seen.device)[:, None]], 1)
        for number, own, scores in zip(which, said, logps, strict=True):
            self._append(number, own, scores)
            if not self.wording.ended(own):  # was cut off: its end is told
                self._append(number, self.wording.reply("")[-1:])
        return [self.wording.said(own) for own in said]

    # --- the model -----------------------------------------------------------------------------

    def _text(self, number: int) -> Tokens:
        return [*self.prompts[number], *self.completions[number]]

    def _stacked(self, texts: list[Tokens]) -> Int[Tensor, "text place"]:
        """Texts as tokens that end at the same place.

        Raises:
            UserError: one is longer than the model can read.
        """
        width, most = max(map(len, texts)), longest(self.model)
        if most is not None and width > most:
            raise UserError(
                f"a dialogue has {width} tokens, and the model reads {most} at most: "
                "play fewer rounds, or tell less",
                code="too_large",
                path="rounds",
            )
        tokens = torch.full((len(texts), width), NOTHING, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens[row, width - len(text) :] = torch.tensor(text)
        return tokens.to(next(self.model.parameters()).device)
