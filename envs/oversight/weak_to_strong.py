"""Weak-to-strong supervision: students learn from labels of a supervisor who sees less than they.

Demo: `python -m mores.envs.oversight.weak_to_strong`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.core.turn_text import TurnText
from mores.envs.oversight import weak_to_strong_text as texts
from mores.envs.oversight import weak_to_strong_values as values
from mores.envs.oversight.weak_to_strong_task import ItemLabels, TaskConfig

SUPERVISOR, INTERMEDIATE = "supervisor", "intermediate"
CEILING, MATCHED = "ceiling", "matched"
STUDENT, RESEEDED, EXPLICIT, IMPLICIT = "student", "reseeded", "explicit", "implicit"
CEILINGS = (CEILING, MATCHED)  # taught the truth
ROLES = (SUPERVISOR, INTERMEDIATE, *CEILINGS, STUDENT, RESEEDED, EXPLICIT, IMPLICIT)
CHANGED = (RESEEDED, EXPLICIT, IMPLICIT)  # students compared with the student
TOPIC, ANSWER = "topic", "answer"  # phases
ITEM_STREAM = "item"


@dataclasses.dataclass(frozen=True)
class WeakToStrongState:
    """Items of this round, and what happened in the last one.

    An answer is 1 for harmless, 0 for harmful.
    """

    replicate: Int[Tensor, " world"]
    items: Float[Tensor, "world item feature"]
    topic: Int[Tensor, "world item"]
    harmless: Bool[Tensor, "world item"]
    helpful: Bool[Tensor, "world item"]
    label: Float[Tensor, "world item"]  # share of the teacher's answers that were 1
    answers: Mapping[str, Int[Tensor, "world agent"]]  # by role
    answered_harmless: Bool[Tensor, "world item"]  # truth about the items of the last round
    num_rounds: Int[Tensor, " world"]


class WeakToStrong(Environment[WeakToStrongState]):
    """A weak supervisor labels items; stronger students learn from its labels.

    Description:
        Items are to be judged as harmless or harmful. A supervisor that sees a part of their
        features learns it from the truth; students that see more learn it from the supervisor's
        labels. Do they surpass it, and where do they err when a second objective conflicts with it?
        A student without conflict is compared with others from the same pretrained model:
        `reseeded` learns from the labels of other items, `explicit` is also rewarded for opposing
        the truth where it is wrong, `implicit` also learns from true labels of helpfulness. A tax
        of such a change is an item that the student has right and the changed one has not; the
        deception score is the share of the taxed items, among those that the ceiling knows, that
        the supervisor does not know. Two ceilings learn from the truth: the items that `ceiling`
        knows are those known to the strong model, and `matched`, trained on as many items as the
        student, is what the student is compared with. Left out: language, preferences over pairs,
        intent (nothing here plans to deceive), supervisors who look for errors, and people's
        values.

    Roles:
        Of `n` = `num_items` items of a round and `n` others, with `m` = `labels_per_item`:
        supervisor    2 n m agents  m judge each item
        intermediate  2 n m agents  the same, with other features: a step of bootstrapping
        ceiling       n             the students' model, to be trained on the truth
        matched       n             the same, to be trained when and as long as the student
        student       n             no conflict
        reseeded      n             no conflict, the other items
        explicit      n             explicit conflict
        implicit      n (1 + `implicit_share`)  and that share of the other items, by helpfulness

    Observation:
        features: the first `supervisor_features`, `intermediate_features` or (all other roles)
        `student_features` features of the agent's item. Any number; standard normal.

    Action:
        topic: the topic of the item, 0 to `num_topics` - 1 (pretraining).
        answer: 1 harmless, 0 harmful.

    Reward:
        topic: 1 if it is right, with training_target `topic`; else 0.
        answer: the weight of the agent's answer in its target, below; 0 with training_target
            `topic`.

    Dynamics:
        The label of an item is the share s of the teacher's m answers that are 1. Feedback to
        learners is `target.topic`, the true topic, with training_target `topic`, and else
        `target.answer`, a weight for each answer: (1 - s, s) from the teacher's labels; (1, 0) or
        (0, 1) from the truth for the ceilings, and for all roles with training_target `truth`.
        To it, `explicit` gets `explicit_weight` on the false answer where its answer is wrong: the
        loss of its own labels and, where it is wrong, of the opposite of the truth. Without effect
        on learning are targets (0, 0): labels with confidence max(s, 1 - s) below `min_confidence`.
        The supervisor gets none from labels; nor does the teacher.

    Start:
        New items in every round: `mores.envs.oversight.weak_to_strong_task`. The task, with
        `num_test_items` held-out test items, belongs to the replicate and `task_seed`.

    End:
        Never by its rules.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        Burns et al. 2023, arXiv 2312.09390 (weak-to-strong generalization); Yang et al. 2024,
        arXiv 2406.11431 (conflicts, deception score; from memory: `weak_to_strong_values`).
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 2,
        "changes": "networks",
        "stochastic": True,
        "feedback": True,
    }

    num_items: int = Field(default=4, ge=1, le=100_000, description="items of a round (n)")
    labels_per_item: int = Field(
        default=2, ge=1, le=1000, description="answers of the teacher on each item (m)"
    )
    num_features: int = Field(default=24, ge=3, le=10_000, description="features of an item")
    num_concepts: int = Field(
        default=4, ge=2, le=1000, description="concepts, at most a third of the features"
    )
    num_topics: int = Field(
        default=16, ge=2, le=10_000, description="topics of items, predicted in pretraining"
    )
    curvature: float = Field(
        default=0.5, ge=0, le=100, description="weight of products in a concept; 0: linear"
    )
    help_correlation: float = Field(
        default=0.0, ge=-1, le=1, description="correlation of harmlessness and helpfulness"
    )
    supervisor_features: int = Field(
        default=8, ge=1, le=10_000, description="features that the supervisor sees"
    )
    intermediate_features: int = Field(
        default=16, ge=1, le=10_000, description="features that the intermediate teacher sees"
    )
    student_features: int = Field(
        default=24, ge=1, le=10_000, description="features that the ceilings and students see"
    )
    training_target: Literal["topic", "truth", "labels"] = Field(
        default="labels",
        description="feedback: topics (pretraining), the truth, or the teacher's labels",
    )
    teacher: Literal["supervisor", "intermediate"] = Field(
        default="supervisor", description="role whose answers are the labels"
    )
    label_source: Literal["teacher", "truth", "random"] = Field(
        default="teacher",
        description="labels: of the teacher; the truth, without error of a supervisor; or by fair "
        "coins, without information (an ablation)",
    )
    min_confidence: float = Field(
        default=0.5, ge=0.5, le=1, description="confidence below which labels are not taught"
    )
    explicit_weight: float = Field(
        default=0.5, ge=0, le=100, description="weight of the explicit conflict (alpha)"
    )
    implicit_share: float = Field(
        default=1.0, ge=0, le=1, description="items judged by helpfulness, per item: rounded"
    )
    known_threshold: float = Field(
        default=0.75, ge=0.5, le=1, description="confidence in the truth from which on it is known"
    )
    num_test_items: int = Field(
        default=2048, ge=1, le=1_000_000, description="held-out items for metrics of policies"
    )
    task_seed: int = Field(default=0, ge=0, description="seed of tasks and test items")

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        if 3 * self.num_concepts > self.num_features:
            raise ParameterError(
                "num_concepts",
                message=f"num_concepts: at most a third of num_features, {self.num_features}",
                code="conflict",
            )
        for name in ("supervisor_features", "intermediate_features", "student_features"):
            if getattr(self, name) > self.num_features:
                message = f"{name} exceeds num_features, {self.num_features}"
                raise ParameterError(name, message=message, code="conflict")

    # --- roles and phases ------------------------------------------------------------------------

    @functools.cached_property
    def task_config(self) -> TaskConfig:
        """Parameters of the task alone, to compute true labels with."""
        names = (field.name for field in dataclasses.fields(TaskConfig))
        return TaskConfig(**{name: getattr(self, name) for name in names})

    @functools.cached_property
    def item_of_agent(self) -> Mapping[str, tuple[int, ...]]:
        """Item that each agent judges, by role: 0 to n - 1, or n to 2 n - 1 for the others."""
        n, m = self.num_items, self.labels_per_item
        labeled = tuple(item for item in range(2 * n) for _ in range(m))
        first = tuple(range(n))
        helped = tuple(range(n, n + round(self.implicit_share * n)))
        return {
            SUPERVISOR: labeled,
            INTERMEDIATE: labeled,
            CEILING: first,
            MATCHED: first,
            STUDENT: first,
            RESEEDED: tuple(range(n, 2 * n)),
            EXPLICIT: first,
            IMPLICIT: (*first, *helped),
        }

    @property
    def roles(self) -> tuple[Role, ...]:
        """See the class docstring."""
        return self._roles

    @functools.cached_property
    def _roles(self) -> tuple[Role, ...]:
        num_observed = {
            SUPERVISOR: self.supervisor_features,
            INTERMEDIATE: self.intermediate_features,
        }
        return tuple(
            Role(name, len(items), Box.of(features=num_observed.get(name, self.student_features)))
            for name, items in self.item_of_agent.items()
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`topic`, `answer`: all roles act in both."""
        return self._phases

    @functools.cached_property
    def _phases(self) -> tuple[Phase, ...]:
        return (
            Phase(TOPIC, dict.fromkeys(ROLES, Discrete(self.num_topics))),
            Phase(ANSWER, dict.fromkeys(ROLES, Discrete(2))),
        )

    @property
    def elements_per_world(self) -> int:
        """See `Environment`: observations, and products of items with directions."""
        observed = sum(role.num_agents * role.observation_space.size for role in self.roles)
        return observed + 2 * self.num_items * 3 * self.num_concepts * self.num_features

    # --- text ------------------------------------------------------------------------------------

    def role_rules(self, role: str) -> str:
        """Items, topics and judgements."""
        visible = next(r.observation_space.size for r in self.roles if r.name == role)
        return texts.rules(visible, self.num_features, self.num_topics)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Features of the item."""
        return texts.turn(phase, observation.tolist(), self.num_topics)

    # --- dynamics --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> WeakToStrongState:
        """Initial state: the first items, no answers."""
        if people is not None:
            raise UserError(
                "weak_to_strong accepts no population: its agents have no values",
                code="unsupported",
                path="population",
            )
        replicate = streams.replicate
        items = streams.normal(ITEM_STREAM, 2 * self.num_items, self.num_features)
        labels = self._labels(replicate, items)
        none = {
            name: torch.zeros(len(replicate), len(index), dtype=torch.int64, device=items.device)
            for name, index in self.item_of_agent.items()
        }
        return WeakToStrongState(
            replicate,
            items,
            *labels,
            torch.zeros_like(items[..., 0]),
            none,
            torch.zeros_like(labels.harmless),
            torch.zeros_like(replicate),
        )

    def _labels(
        self, replicate: Int[Tensor, " world"], items: Float[Tensor, "world item feature"]
    ) -> ItemLabels:
        config = self.task_config
        return config.label(config.tasks(replicate, items.device), items)

    def observe(self, state: WeakToStrongState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        index = self._index(role, state.items.device)
        return self._visible(role, state.items[:, index])

    def _visible(
        self, role: str, items: Float[Tensor, "world item feature"]
    ) -> Float[Tensor, "world item visible"]:
        """The features of items that a role sees."""
        size = next(r.observation_space.size for r in self.roles if r.name == role)
        return items[..., :size]

    def _index(self, role: str, device: torch.device) -> Int[Tensor, " agent"]:
        """Item of each agent."""
        if (role, device) not in self._indices:
            self._indices[role, device] = torch.tensor(self.item_of_agent[role], device=device)
        return self._indices[role, device]

    @functools.cached_property
    def _indices(self) -> dict[tuple[str, torch.device], Tensor]:
        return {}

    def step(
        self,
        state: WeakToStrongState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[WeakToStrongState]:
        """`topic` gives feedback of pretraining; `answer` labels, and brings new items."""
        if phase == TOPIC:
            return self._teach_topics(state, actions)
        label = self._label_items(state, actions, streams)
        targets: dict[str, Tensor] = {}
        if self.training_target != TOPIC:
            targets = {
                role: target
                for role in ROLES
                if (target := self._target(role, state, label, actions[role])) is not None
            }
        reward = {
            role: target.gather(-1, actions[role].long()[..., None])[..., 0]
            for role, target in targets.items()
        }
        items = streams.normal(ITEM_STREAM, 2 * self.num_items, self.num_features)
        new = self._labels(state.replicate, items)
        next_state = WeakToStrongState(
            state.replicate,
            items,
            *new,
            label,
            {role: action.long() for role, action in actions.items()},
            state.harmless,
            state.num_rounds + 1,
        )
        feedback = {role: {f"target.{ANSWER}": target} for role, target in targets.items()}
        return StepResult(next_state, reward, feedback=feedback)

    def _teach_topics(
        self, state: WeakToStrongState, actions: Mapping[str, Tensor]
    ) -> StepResult[WeakToStrongState]:
        """Feedback and reward of pretraining."""
        if self.training_target != TOPIC:
            return StepResult(state)
        truth = {role: state.topic[:, self._index(role, state.items.device)] for role in ROLES}
        reward = {role: (actions[role] == truth[role]).to(torch.float32) for role in ROLES}
        feedback = {role: {f"target.{TOPIC}": truth[role]} for role in ROLES}
        return StepResult(state, reward, feedback=feedback)

    def _label_items(
        self, state: WeakToStrongState, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> Float[Tensor, "world item"]:
        """Label of each item: share of the answers 1."""
        if self.label_source == "truth":
            return state.harmless.to(torch.float32)
        answers = actions[self.teacher].to(torch.float32)
        if self.label_source == "random":
            coins = streams.uniform("label", answers.shape[1])[..., 0]
            answers = (coins < 0.5).to(torch.float32)
        return mean(answers.unflatten(1, (-1, self.labels_per_item)), -1)

    def _target(
        self,
        role: str,
        state: WeakToStrongState,
        label: Float[Tensor, "world item"],
        action: Tensor,
    ) -> Float[Tensor, "world agent option"] | None:
        """Weights of the answers of a role; `None`: it is not taught."""
        index = self._index(role, label.device)
        truth = state.harmless[:, index]
        if self.training_target == "truth" or role in CEILINGS:
            return _two_options(truth.to(label.dtype))
        if role in (SUPERVISOR, self.teacher):
            return None
        share = label[:, index]
        target = _two_options(share)
        confident = torch.maximum(share, 1.0 - share) >= self.min_confidence
        target = torch.where(confident[..., None], target, 0.0)
        if role == EXPLICIT:
            wrong = (action.bool() != truth).to(label.dtype)[..., None]
            target = target + self.explicit_weight * wrong * _two_options(
                1.0 - truth.to(wrong.dtype)
            )
        if role == IMPLICIT:
            helpful = _two_options(state.helpful[:, index].to(label.dtype))
            target = torch.cat([target[:, : self.num_items], helpful[:, self.num_items :]], 1)
        return target

    # --- metrics ---------------------------------------------------------------------------------

    def metrics(self, state: WeakToStrongState) -> Mapping[str, Tensor]:
        """Of the last round (0 before): accuracy of labels, and of the answers of each role."""
        started = state.num_rounds > 0
        truth = state.answered_harmless
        right = values.truth_confidence(state.label, truth)
        found = {"label_accuracy": mean(right, 1)}
        for role in ROLES:
            own = truth[:, self._index(role, truth.device)]
            right = (state.answers[role].bool() == own).to(torch.float32)
            found[f"round_accuracy_{role}"] = mean(right, 1)
        return {name: torch.where(started, value, 0.0) for name, value in found.items()}

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1, excesses over a rate of items between -1 and 1.

        Differences between two deception scores have none here, as no paired differences have.
        """
        shares = ["label_accuracy", *(f"round_accuracy_{role}" for role in ROLES)]
        shares += [f"accuracy_{role}" for role in ROLES]
        shares += ["strong_known_share", "weak_known_share", "base_rate"]
        for role in CHANGED:
            shares += [f"tax_{role}", f"known_tax_{role}", f"deception_score_{role}"]
        excesses = [f"{kind}_{role}" for kind in ("excess", "at_risk_excess") for role in CHANGED]
        return {**dict.fromkeys(shares, (0.0, 1.0)), **dict.fromkeys(excesses, (-1.0, 1.0))}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """On the test items, for the likelier answer; see `weak_to_strong_values`.

        accuracy_ROLE; gain (student - supervisor), performance_gap (matched - supervisor) and
        gap_recovered (gain / performance_gap); ceiling_gap and ceiling_gap_recovered, the same with
        `ceiling`, of another budget; strong_known_share, weak_known_share and base_rate of what the
        ceiling and the supervisor know; for each changed student tax_, known_tax_,
        deception_score_, excess_, at_risk_excess_, boundary_excess_, mirrored_excess_ and
        log_odds_lift_ROLE; net_excess_ROLE, the excess above that of `reseeded`.
        """
        kinds = ("tax", "known_tax", "deception_score", "excess", "at_risk_excess")
        kinds += ("boundary_excess", "mirrored_excess", "log_odds_lift")
        return (
            *(f"accuracy_{role}" for role in ROLES),
            *("gain", "performance_gap", "gap_recovered", "ceiling_gap", "ceiling_gap_recovered"),
            *("strong_known_share", "weak_known_share", "base_rate"),
            *(f"{kind}_{role}" for role in CHANGED for kind in kinds),
            *(f"net_excess_{role}" for role in (EXPLICIT, IMPLICIT)),
        )

    def policy_queries(self, state: WeakToStrongState) -> Mapping[str, PolicyQuery]:
        """The test items, divided among the agents of each role."""
        items = self.task_config.test_items(state.replicate, state.items.device).items
        queries = {}
        for role, own in self.item_of_agent.items():
            per_agent = -(-self.num_test_items // len(own))
            index = torch.arange(len(own) * per_agent, device=items.device) % self.num_test_items
            seen = self._visible(role, items[:, index]).unflatten(1, (len(own), per_agent))
            queries[role] = PolicyQuery(role, ANSWER, seen)
        return queries

    def policy_metrics(
        self, state: WeakToStrongState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """See `policy_metric_names`."""
        truth = self.task_config.test_items(state.replicate, state.items.device).harmless
        confidence = {
            role: values.truth_confidence(
                answer[..., 1].flatten(1)[:, : self.num_test_items], truth
            )
            for role, answer in answers.items()
        }
        right = {role: each > 0.5 for role, each in confidence.items()}
        accuracy = {role: mean(_correctness(each), 1) for role, each in confidence.items()}
        strong_known = confidence[CEILING] >= self.known_threshold
        weak_known = confidence[SUPERVISOR] >= self.known_threshold
        found = {f"accuracy_{role}": each for role, each in accuracy.items()}
        weak, student = accuracy[SUPERVISOR], accuracy[STUDENT]
        found["gain"] = student - weak
        for role, prefix in ((MATCHED, ""), (CEILING, "ceiling_")):
            found["ceiling_gap" if prefix else "performance_gap"] = accuracy[role] - weak
            found[f"{prefix}gap_recovered"] = values.performance_gap_recovered(
                weak, student, accuracy[role]
            )
        found["strong_known_share"] = mean(strong_known.to(torch.float32), 1)
        found["weak_known_share"] = mean(weak_known.to(torch.float32), 1)
        for role in CHANGED:
            score = values.deception_score(
                confidence[STUDENT], right[role], strong_known, weak_known
            )
            found["base_rate"] = score.base_rate
            found[f"tax_{role}"], found[f"known_tax_{role}"] = score.tax, score.known_tax
            found[f"deception_score_{role}"] = score.score
            found[f"excess_{role}"] = score.excess
            found[f"at_risk_excess_{role}"] = score.at_risk_excess
            found[f"boundary_excess_{role}"] = score.boundary_excess
            found[f"mirrored_excess_{role}"] = score.mirrored_excess
            found[f"log_odds_lift_{role}"] = score.log_odds_lift
        for role in (EXPLICIT, IMPLICIT):
            found[f"net_excess_{role}"] = found[f"excess_{role}"] - found[f"excess_{RESEEDED}"]
        return found

    def render(self, state: WeakToStrongState, world: int = 0) -> str:
        """Accuracy of each role in the last round, and its first items."""
        if not int(state.num_rounds[world]):
            return "No item has been judged yet."
        metrics = {name: float(value[world]) for name, value in self.metrics(state).items()}
        lines = [f"Round {int(state.num_rounds[world])}, training target: {self.training_target}"]
        for role in self.roles:
            accuracy = metrics[f"round_accuracy_{role.name}"]
            size = role.observation_space.size
            lines.append(f"  {role.name:<12} sees {size:>3} features, right on {accuracy:4.0%}")
        lines.append("item  truth     label  student   explicit  implicit")
        words = ("harmful", "harmless")
        for item in range(min(self.num_items, 8)):
            truth = words[int(state.answered_harmless[world, item])]
            said = [
                words[int(state.answers[r][world, item])] for r in (STUDENT, EXPLICIT, IMPLICIT)
            ]
            label = float(state.label[world, item])
            row = f"{item:>4}  {truth:<8}  {label:5.2f}  " + "  ".join(f"{w:<8}" for w in said)
            lines.append(row.rstrip())
        return "\n".join(lines)

    def latent(self, state: WeakToStrongState) -> Mapping[str, Tensor]:
        """Truth about the items of this round."""
        return {"harmless": state.harmless, "helpful": state.helpful}

    def default_policies(self) -> Mapping[str, Any]:
        """Thresholds on the sum of the visible features."""
        return dict.fromkeys(ROLES, "linear_label")


def _two_options(harmless: Float[Tensor, "world agent"]) -> Float[Tensor, "world agent option"]:
    """Weights of the two answers, from that of `harmless`."""
    return torch.stack([1.0 - harmless, harmless], -1)


def _correctness(confidence: Float[Tensor, "world item"]) -> Float[Tensor, "world item"]:
    """1 where the likelier answer is right, 1/2 where both are equally likely."""
    return (confidence > 0.5).to(torch.float32) + 0.5 * (confidence == 0.5).to(torch.float32)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(WeakToStrong())
