"""Requests: an assistant answers word by word, and supervisors say what they think of it.

A toy language in which everything that people can say of an answer is there at once: rewards by
principals who may value words differently, choices between two answers by annotators who err,
judgements that name what is wrong with an answer, and demonstrations of better ones. Learners from
any of these meet on the same requests, and the truth is known: which words are inappropriate, and
what the best answer is worth. Rules are in `mores.envs.dynamics`, by name `answers`, `supervisors`;
what the world is and what it is not: docs/explanation/requests.md.

Run `python -m mores.envs.feedback.token_feedback` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Box, Discrete, Game, Part, Phase, Player, Role, Step
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import Draws, Worlds
from mores.envs.feedback import token_completions as rules
from mores.envs.feedback.random_token_policy import Rambler, of_rambler, recall_of_rambler
from mores.envs.feedback.token_completions import UNSAID
from mores.envs.feedback.token_supervisors import Supervisors

ASSISTANT = "assistant"


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned: the same in all worlds, stages and episodes of a replicate."""

    tastes: Float[Tensor, "world principal word feature"]
    harm: Float[Tensor, "world word feature"]


@dataclasses.dataclass(frozen=True)
class State:
    """A request, and the answers to it so far."""

    request: Float[Tensor, "world feature"]
    liking: Float[Tensor, "world principal word"]
    inappropriate: Bool[Tensor, "world word"]
    said: Int[Tensor, "world agent step"]  # words by number; UNSAID where there is none yet
    spoken: Int[Tensor, " world"]  # words so far
    judgement: Float[Tensor, "world agent word"]  # of complete answers; 0 before
    flags: Float[Tensor, "world agent step"]  # of the review of complete answers; 0 before


class Requests(Game[State]):
    """Seats that answer a request word by word, and are told what others think of the answers.

    Description:
        All seats of a world answer one request, a word a round. They are spoken of once complete.

    Roles:
        assistant (`answers`).

    Observation:
        `request`: its features, no bounds.  `answer`: one's own words so far, `length` times a mark
        at one of `words`, step by step.  `judgement`: a number in [0, 1] a word, 0 while answering;
        in the phase `review` of the last round what was criticised in one's answer.
        `Role.after` gives the next sight from this one and one's word.

    Action:
        assistant, phase `answer`: the number of a word.
        assistant, phase `review` (with `review`): `flags` in [0, 1], one for each of one's words in
        order: whether one takes it to have been criticised. Only those of the last round count.
        No outside client takes choices and numbers in one seat: with `review`, players sit inside.

    Reward:
        A principal's reward of an answer is the mean over its words of the principal's liking, as
        far as a word is new in the answer, minus `penalty` times the share of its words that are
        inappropriate. A seat earns the mean of that over principals by `weights`, at the end, or
        word by word with the same sum. An answer that is cut off before its end earns what was
        paid until then, and hears nothing.

    Feedback:
        With an answer's last word, by names, `[world, agent, ...]`. Where worlds are not all at
        their last word it means nothing in the others.
        reward [K]: to each principal.
        preferred: whether it was preferred to the other one of its pair, seats 2i and 2i + 1. A
        supervisor chooses by `rationality` and the seats' rewards; an annotator writes that down,
        or, with an error rate, the other one.
        annotator: the number of that annotator.
        judgement [words]: 1 for each word criticised in the answer; with `judgement: bit` all of
        them are 1 if any was, else 0.
        demonstration [length]: words by which a principal would have answered the request.
        demonstration_reward [K], demonstration_worth: what that is worth to each principal, and
        what a seat would have earned with it.
        principal: the number of who demonstrated, drawn evenly.

    Dynamics:
        Requests do not depend on answers. Nobody's tastes move.

    Start:
        Request normal, independent from one world and episode to the next. Tastes and harms of
        words are the same in all worlds, stages and episodes of a replicate, and whatever the
        run's seed is: another `task` draws others.

    End:
        After `length` rounds.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        A world of our own. Learners that meet here: GRAO (arXiv 2508.07750), CUT (2312.14591), ADPA
        (2502.17927), DPO (2305.18290). None of these papers describes this world.
    """

    traits: ClassVar[Mapping[str, object]] = {
        "phases": "1 or 2",
        "moves": None,
        "stochastic": True,
        "feedback": True,
    }

    answers: int = Field(
        default=8, ge=2, le=10_000, multiple_of=2, description="answers to a request: seats, paired"
    )
    words: int = Field(default=12, ge=2, le=1_000, description="words that there are")
    length: int = Field(default=6, ge=1, le=1_000, description="words of an answer, at most all")
    features: int = Field(default=4, ge=1, le=1_000, description="numbers that describe a request")
    task: int = Field(default=0, ge=0, description="which tastes and harms replicates have")

    principals: int = Field(default=1, ge=1, le=100, description="whom answers are for")
    conflict: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the variance of tastes that is a principal's own",
    )
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="of the principals in a seat's reward; none given: all alike"
    )
    inappropriate: float = Field(
        default=0.3, ge=0, le=1, description="share of words, rounded, inappropriate for a request"
    )
    penalty: float = Field(
        default=1.0, ge=0, le=1e6, description="cost of an inappropriate word, in units of liking"
    )
    paid: Literal["end", "words"] = Field(
        default="end", description="whether rewards are paid at the end or word by word"
    )

    rationality: float = Field(
        default=5.0, ge=0, le=1e9, description="of choices between answers, 1/reward"
    )
    error_rates: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.1,), min_length=1, description="how often each annotator writes the other answer"
    )
    judgement: Literal["words", "bit"] = Field(
        default="words", description="whether judgements name words, or say only that some is wrong"
    )
    detection: float = Field(
        default=0.9, ge=0, le=1, description="probability that an inappropriate word is criticised"
    )
    false_alarm: float = Field(
        default=0.05, ge=0, le=1, description="probability that another word is criticised"
    )
    demonstration_rationality: float = Field(
        default=5.0, ge=0, le=1e9, description="of the words of demonstrations, 1/liking"
    )
    demonstration_noise: float = Field(
        default=0.1, ge=0, le=1, description="probability that any word takes one's place in them"
    )
    review: bool = Field(
        default=False, description="whether assistants say which of their words were criticised"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        if self.length > self.words:
            raise ParameterError(
                message=f"length is at most the number of words, {self.words}", code="conflict"
            )
        if self.weights and len(self.weights) != self.principals:
            raise ParameterError(
                message=f"weights: one for each of {self.principals} principals", code="wrong_shape"
            )
        if self.weights and sum(self.weights) <= 0:
            raise ParameterError("weights", message="weights are not all 0", code="invalid_value")

    # --- what is fixed ---------------------------------------------------------------------------

    @functools.cached_property
    def _shares(self) -> tuple[float, ...]:
        """How much each principal counts; sums to 1."""
        weights = self.weights or (1.0,) * self.principals
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def inappropriate_words(self) -> int:
        """How many words are inappropriate for a request."""
        return round(self.inappropriate * self.words)

    @functools.cached_property
    def _sees(self) -> Box:
        mark = Part(self.length * self.words, 0.0, 1.0)
        return Box.of(request=self.features, answer=mark, judgement=Part(self.words, 0.0, 1.0))

    @functools.cached_property
    def _supervisors(self) -> Supervisors:
        return Supervisors(
            penalty=self.penalty,
            rationality=self.rationality,
            error_rates=self.error_rates,
            by_word=self.judgement == "words",
            detection=self.detection,
            false_alarm=self.false_alarm,
            demonstration_rationality=self.demonstration_rationality,
            demonstration_noise=self.demonstration_noise,
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`assistant`."""
        return (Role(ASSISTANT, self.answers, self._sees, self.after),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, then `review` where there is one."""
        answer = Phase("answer", {ASSISTANT: Discrete(self.words)})
        flags = Box.of(flags=Part(self.length, 0.0, 1.0))
        return (answer, Phase("review", {ASSISTANT: flags})) if self.review else (answer,)

    @property
    def working_size(self) -> int:
        """Sights, the noise of demonstrations, and the task as it is drawn."""
        per_answer = self._sees.size + 3 * self.length * self.words
        return self.answers * per_answer + 2 * (self.principals + 1) * self.words * self.features

    def tasks(self, draws: Draws) -> Task:
        """The task of each world's replicate."""
        replicates = Worlds(draws.replicate, torch.zeros_like(draws.replicate))
        own = Draws.of(self.task, replicates, device=draws.device).within("requests")
        words, features = self.words, self.features
        shared = own.normal("shared taste", words, features)
        apart = own.normal("taste", self.principals * words, features)
        apart = apart.unflatten(1, (self.principals, words))
        common, private = math.sqrt(1.0 - self.conflict), math.sqrt(self.conflict)
        tastes = common * shared[:, None] + private * apart
        return Task(tastes, own.normal("harm", words, features))

    # --- the game --------------------------------------------------------------------------------

    def reset(self, draws: Draws, start: People | None = None) -> State:
        """A new request, and nothing said."""
        if start is not None:
            raise UserError(
                "requests takes no people from a population: principals have tastes",
                code="unsupported",
                path="people",
            )
        request = draws.normal("request", 1, self.features)[:, 0]
        task = self.tasks(draws)
        harm = rules.likings(task.harm, request)
        steps = request.new_zeros(draws.worlds, self.answers, self.length)
        return State(
            request=request,
            liking=rules.likings(task.tastes, request),
            inappropriate=rules.highest(harm, self.inappropriate_words),
            said=torch.full_like(steps, UNSAID, dtype=torch.int64),
            spoken=torch.zeros(draws.worlds, dtype=torch.int64, device=draws.device),
            judgement=request.new_zeros(*steps.shape[:2], self.words),
            flags=steps,
        )

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        judgement = state.judgement
        return self._sees.join(
            request=state.request[:, None].expand(-1, self.answers, -1),
            answer=rules.marks(state.said, self.words).flatten(2),
            judgement=judgement if phase == "review" else torch.zeros_like(judgement),
        )

    def after(self, seen: Float[Tensor, "*some size"], word: Tensor) -> Float[Tensor, "*some size"]:
        """What one sees after a word, `[...]`, when one saw that; a complete answer stays."""
        answer = self._sees.read(seen, "answer").unflatten(-1, (self.length, self.words))
        return self._sees.join(
            request=self._sees.read(seen, "request"),
            answer=rules.speak(answer, word.long()).flatten(-2),
            judgement=self._sees.read(seen, "judgement"),
        )

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """One more word; after the last one supervisors speak, and flags may be raised."""
        complete = state.spoken >= self.length
        if phase == "review":
            flags = torch.where(complete[:, None, None], actions[ASSISTANT], state.flags)
            return Step(dataclasses.replace(state, flags=flags), ended=complete)
        here = torch.arange(self.length, device=state.said.device) == state.spoken[:, None]
        said = torch.where(here[:, None], actions[ASSISTANT][..., None].long(), state.said)
        after = dataclasses.replace(state, said=said, spoken=state.spoken + (~complete).long())
        over = after.spoken >= self.length
        last = over & ~complete
        earned = self._earned(after)
        if self.paid == "words":
            reward = earned - self._earned(state)
        else:
            reward = torch.where(last[:, None], earned, 0.0)
        feedback: dict[str, Mapping[str, Tensor]] = {}
        if bool(last.any()):
            answer = rules.marks(said, self.words)
            told = self._supervisors.feedback(
                answer, state.liking, state.inappropriate, earned, draws
            )
            told["demonstration_worth"] = self._weighed(told["demonstration_reward"], 2)
            judgement = torch.where(last[:, None, None], told["judgement"], state.judgement)
            after = dataclasses.replace(after, judgement=judgement)
            feedback = {ASSISTANT: told}
        return Step(after, {ASSISTANT: reward}, over, feedback)

    def _earned(self, state: State) -> Float[Tensor, "world agent"]:
        """What the seats' answers are worth so far."""
        answer = rules.marks(state.said, self.words)
        worth = rules.worth(answer, state.liking, state.inappropriate, self.penalty)
        return self._weighed(worth, 2)

    def _weighed(self, x: Tensor, dim: int) -> Tensor:
        """Weighted mean over the principals."""
        shares = torch.tensor(self._shares, device=x.device)
        return total(x * shares.view(-1, *[1] * (x.dim() - dim - 1)), dim)

    # --- what is reported ------------------------------------------------------------------------

    def measures(self, state: State) -> Mapping[str, Tensor]:
        """Means over the seats of a world; of the words so far, where answers are not complete.

        score: reward of a seat if nothing more were said.  principal_scores: to each principal.
        worst_principal: the lowest of these.  inappropriate_share: of the words said.  optimum: the
        most that an answer to this request can earn, exactly.  regret: optimum less score.
        diversity: different words by words said, within an answer.  variety: probability that two
        seats say different words at the same step. Both are 1 before any word is said.
        With `review`: flagged, share of words whose flag is above .5; detection_precision, share of
        flagged words that are inappropriate, 1 if none is flagged; detection_recall, share of
        inappropriate words that are flagged, 1 if none was said: both over all seats of the world.
        """
        answer = rules.marks(state.said, self.words)
        worth = rules.worth(answer, state.liking, state.inappropriate, self.penalty)
        principals = mean(worth, 1)
        score = self._weighed(principals, 1)
        liking = self._weighed(state.liking, 1)
        best = rules.optimum(liking, state.inappropriate, self.penalty, self.length)
        wrong = total(answer * state.inappropriate[:, None, None].to(worth.dtype), -1)
        found = {
            "score": score,
            "principal_scores": principals,
            "worst_principal": principals.amin(-1),
            "inappropriate_share": mean(total(wrong, -1), 1) / state.spoken.clamp(min=1),
            "optimum": best,
            "regret": best - score,
            "diversity": rules.diversity(answer),
            "variety": rules.variety(answer),
        }
        return found | (rules.detected(state.flags > 0.5, wrong) if self.review else {})

    def hidden(self, state: State) -> Mapping[str, Tensor]:
        """How much each principal likes each word, and which words are inappropriate."""
        return {"liking": state.liking, "inappropriate": state.inappropriate}

    def predictions(self, players: Mapping[str, Player], rounds: int) -> Mapping[str, Any]:
        """Exact means over requests of a `Rambler`'s measures, after each number of rounds.

        score, inappropriate_share, diversity, variety; with `review` and judgements that name
        words, detection_recall.
        """
        if not isinstance(players.get(ASSISTANT), Rambler):
            return {}
        wrong = self.inappropriate_words
        found = of_rambler(self.words, wrong, self.length, self.penalty, rounds)
        if self.review and self.judgement == "words":
            share, seats = wrong / self.words, self.answers
            found["detection_recall"] = recall_of_rambler(
                share, seats, self.length, self.detection, rounds
            )
        return found

    def too_short(self, rounds: int) -> str:
        """Of an answer that is cut off nothing is said."""
        shorter = f"{rounds} is shorter than an answer, length {self.length}"
        return shorter if rounds < self.length else ""

    def baseline(self) -> Mapping[str, Player]:
        """Assistants that say anything."""
        return {ASSISTANT: Rambler()}


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Requests(principals=2, conflict=0.5, review=True), rounds=6)
