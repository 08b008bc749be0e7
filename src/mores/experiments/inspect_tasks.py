"""A scenario's language role as a task of Inspect (inspect_ai): its solver, scorer and log.

    import inspect_ai, mores

    task = mores.inspect_task("llm_tin_men", role="agent", arm="principal_only")
    log = inspect_ai.eval(task, model="openai/gpt-4o-mini")[0]

Each sample is one replicate of an arm: its community is simulated, and all agents of the role are
asked through Inspect's model, turn by turn, with the rules, persona and texts of the scenario.
Inspect counts the tokens, keeps the messages and writes its log, which `inspect view` opens.
Replies are parsed strictly; one without an action is counted, and a legal action takes its place.
Random numbers of everything but the model are those of the arm in mores: arms share them, and not
the model's draws.

Needs the extra `inspect`. Left out: memory of earlier turns, training, readouts of probabilities.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core import stream_addresses as addresses
from mores.core.arguments import check_integer
from mores.core.environment import Phase, Role
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Space
from mores.core.turn_text import NUMBER_PATTERN, unparsed_action
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.expansion import build_cells
from mores.experiments.scenario.loading import LoadedScenario, load_scenario
from mores.experiments.scenario.specification import Scenario
from mores.sim.policy_parameters import PolicyParameters
from mores.sim.simulator import Simulator


@runtime_checkable
class AskingPolicy(Protocol):
    """A policy that asks a language model: `mores.agents.language`."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Any:
        """See `Policy`."""
        ...

    def ask(
        self,
        phase: Phase,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
        state: Any,
        world: int,
        agent: int,
    ) -> Any:
        """What an agent is asked: its conversation before the turn, and the turn."""
        ...

    def generation_text(self, asked: Any) -> str:
        """The message of a turn whose reply is generated."""
        ...


def inspect_task(
    scenario: str | LoadedScenario,
    role: str,
    arm: str | None = None,
    replicates: int | None = None,
    overrides: Sequence[str] = (),
) -> Any:
    """Task of Inspect in which a model plays a role of a scenario.

    Args:
        scenario: a file, the name of a scenario, or a loaded one.
        role: role whose policy is a language model.
        arm: the arm; default: the control, or the only one.
        replicates: number of samples; default: that of the scenario.
        overrides: changes `dotted.path=value`, as on the command line.

    Returns:
        An `inspect_ai.Task`. The score of a sample has the mean return of the role's agents, the
        number of replies without an action, and those metrics of the scenario at the end that are
        single numbers of the environment's own.

    Raises:
        UserError: inspect_ai is not installed; there is no such arm or role; its policy asks no
            language model; the scenario trains.
    """
    inspect = _import_inspect("inspect_ai")
    loaded = load_scenario(scenario, overrides) if isinstance(scenario, str) else scenario
    built = _cell(loaded, arm)
    _check_role(built, role)
    specification = loaded.scenario
    count = check_integer(
        "replicates", specification.replicates if replicates is None else replicates
    )
    samples = [
        inspect.dataset.Sample(
            input=f"{specification.name}: the role {role} in {built.cell.arm}",
            id=f"replicate_{number}",
            metadata={"replicate": number},
        )
        for number in range(count)
    ]
    return inspect.Task(
        dataset=samples,
        solver=_solver(specification, built, role),
        scorer=_scorer(),
        name=f"{specification.name}_{built.cell.arm}_{role}",
        metadata={"scenario": specification.name, "arm": built.cell.arm, "role": role},
    )


def _cell(loaded: LoadedScenario, arm: str | None) -> BuiltCell:
    scenario = loaded.scenario
    names = scenario.arm_names
    chosen = arm or scenario.control or names[0]
    if chosen not in names:
        message = f"arm: there is no arm {chosen!r}{did_you_mean(chosen, names)}"
        raise UserError(message, code="unknown_name", path="arm")
    if scenario.sweep:
        message = f"{scenario.name} has a sweep: choose its point by overrides, and sweep={{}}"
        raise UserError(message, code="unsupported", path="sweep")
    return next(built for built in build_cells(loaded) if built.cell.arm == chosen)


def _check_role(built: BuiltCell, role: str) -> None:
    names = [each.name for each in built.environment.roles]
    if role not in names:
        message = f"role: there is no role {role!r}{did_you_mean(role, names)}"
        raise UserError(message, code="unknown_name", path="role")
    if not isinstance(built.policies[role], AskingPolicy):
        message = f"{role}: its policy in {built.cell.arm} asks no language model"
        raise UserError(message, code="unsupported", path="role")
    if any(stage.stage.roles_to_train for stage in built.stages):
        message = "a scenario that trains has no task: Inspect evaluates models"
        raise UserError(message, code="unsupported", path="stages")


def _solver(scenario: Scenario, built: BuiltCell, role: str) -> Any:
    """Solver that simulates a replicate with the model of the sample."""
    solvers = _import_inspect("inspect_ai.solver")
    models = _import_inspect("inspect_ai.model")

    @solvers.solver(name="mores_role")
    def mores_role() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            episode = _Episode(scenario, built, role, int(state.metadata["replicate"]))
            model, messages = models.get_model(), list[Any]()
            while episode.is_running:
                for question in episode.questions():
                    asked = [models.ChatMessageSystem(content=text) for text in question.system]
                    asked += [models.ChatMessageUser(content=question.text)]
                    output = await model.generate(asked)
                    messages += [*asked, output.message]
                    episode.answer(question, output.completion)
                    state.output = output
                episode.step()
            state.messages = [*state.messages[:1], *messages]
            state.metadata["results"] = episode.results()
            return state

        return solve

    return mores_role()


def _scorer() -> Any:
    """Scorer that reports what the solver measured."""
    scorers = _import_inspect("inspect_ai.scorer")

    @scorers.scorer(metrics={"*": [scorers.mean(), scorers.stderr()]}, name="mores_metrics")
    def mores_metrics() -> Any:
        async def score(state: Any, target: Any) -> Any:
            return scorers.Score(value=dict(state.metadata["results"]))

        return score

    return mores_metrics()


class _Question:
    """What one agent is asked in a phase: rules and persona, and the text of the turn."""

    def __init__(self, agent: int, asked: Any, text: str, mask: Tensor | None) -> None:
        self.agent, self.asked, self.text, self.mask = agent, asked, text, mask
        self.system = [each.text for each in asked.conversation if each.role == "system"]


class _Episode:
    """The last stage of one replicate, with all agents of a role external."""

    def __init__(self, scenario: Scenario, built: BuiltCell, role: str, replicate: int) -> None:
        stage = built.stages[-1]
        policies = {name: each for name, each in stage.policies.items() if name != role}
        count = next(each.num_agents for each in stage.environment.roles if each.name == role)
        self.role, self._count = role, count
        self.simulator = Simulator(
            stage.environment,
            policies,
            {role: list(range(count))},
            [replicate],
            stage.rounds,
            population=built.population,
            stage=len(built.stages) - 1,
        )
        self.simulator.reset(scenario.seed)
        self._metric_names = set(scenario.metric_names)
        self._policy, self._state = self._with_people(stage.policies[role], scenario.seed)
        self._answers: dict[int, Tensor] = {}
        self._unparsable, self._return = 0, torch.zeros(count)

    def _with_people(self, policy: Any, seed: int) -> tuple[Any, Any]:
        """The policy with its parameters of people, and its state."""
        simulator = self.simulator
        role = simulator.roles[self.role]
        streams = RandomStreams.of(seed, simulator.worlds, stage=simulator.stage)
        start = streams.child(addresses.EPISODE_START)
        parameters = PolicyParameters({self.role: policy}, {self.role: role})
        samples = parameters.sample(simulator.environment, simulator.state, start)
        resolved = parameters.resolve(samples, streams)[self.role]
        scope = start.child(f"{addresses.POLICY}/{self.role}")
        return resolved, resolved.initial_state(role, simulator.phases, scope)

    @property
    def is_running(self) -> bool:
        """Whether an agent of the role has to act."""
        return not self.simulator.all_finished

    @property
    def _space(self) -> Space:
        return self.simulator.phase.action_spaces[self.role]

    def questions(self) -> list[_Question]:
        """What the agents are asked now."""
        simulator, phase = self.simulator, self.simulator.phase
        observation = simulator.observe(self.role)[0].cpu()
        mask = simulator.environment.action_mask(simulator.state, self.role, phase.name)
        found = []
        for agent in range(self._count):
            own = None if mask is None else mask[0, agent].cpu()
            asked = self._policy.ask(phase, observation[agent], own, self._state, 0, agent)
            found.append(_Question(agent, asked, self._policy.generation_text(asked), own))
        return found

    def answer(self, question: _Question, reply: str) -> None:
        """Keep the action of a reply; one without an action is counted."""
        action = self._action(question, reply)
        self._unparsable += action is None
        self._answers[question.agent] = unparsed_action(self._space) if action is None else action

    def _action(self, question: _Question, reply: str) -> Tensor | None:
        space, turn = self._space, question.asked.turn
        if turn.form == "probabilities":
            assert isinstance(space, Box)
            return _certain(reply, len(turn.options), space.size)
        if turn.form == "choice" and isinstance(space, Box):  # a point of a scale is asked
            point = _certain(reply, len(turn.options), len(turn.options))
            return None if point is None else self._point(int(point.argmax()), space)
        text = self.simulator.roles[self.role].text
        assert text is not None
        return text.parse_reply(self.simulator.phase.name, reply, question.mask)

    def _point(self, index: int, space: Box) -> Tensor:
        """The action of a point of the readout's scale."""
        return torch.tensor([self._policy.readout.scale(space)[index]], dtype=torch.float32)

    def step(self) -> None:
        """Apply the actions."""
        actions = torch.stack([self._answers[agent] for agent in range(self._count)])
        if isinstance(self._space, Discrete):
            actions = actions.long()
        turn = self.simulator.step({self.role: actions[None]})
        self._return = self._return + turn.reward[self.role][0].cpu()
        self._answers = {}

    def results(self) -> dict[str, float]:
        """Mean return, replies without an action, and metrics that are single numbers."""
        metrics = self.simulator.environment.metrics(self.simulator.state)
        return {
            "return": float(self._return.mean()),
            "unparsable": float(self._unparsable),
            **{
                name: float(value[0])
                for name, value in metrics.items()
                if name in self._metric_names and value.dim() == 1
            },
        }


def _certain(reply: str, num_options: int, size: int) -> Tensor | None:
    """Probability 1 of the option whose number, from 1 on, is the reply; `None`: it is none."""
    word = reply.strip().rstrip(".")
    if not NUMBER_PATTERN.fullmatch(word) or float(word) not in range(1, num_options + 1):
        return None
    return torch.nn.functional.one_hot(torch.tensor(int(float(word)) - 1), size).float()


def _import_inspect(name: str) -> Any:
    """A module of inspect_ai.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"inspect_ai cannot be imported ({error}): pip install 'mores[inspect]'",
            code="not_installed",
            path="inspect_ai",
        ) from None
