"""The result of a training: curves, evaluation, continuation, policies for other loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mores.core.arguments import check_integer, check_seed
from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.learner import Learner
from mores.core.people import Population
from mores.core.policy import Policy
from mores.experiments.learning_curve import learning_curve
from mores.experiments.trained_file import TrainedContents, write_trained
from mores.experiments.trained_policy import TrainedPolicy, replicate_parameters
from mores.experiments.training_episodes import EpisodeCallback, run_episodes, select_metrics
from mores.experiments.training_setup import TEST_STAGE, TrainingSetup, as_trained
from mores.registry.specs import Spec, environment_from_spec, from_spec, policies_from_specs
from mores.sim import policy_states
from mores.sim.agent_recorder import AgentRecorder, with_records
from mores.sim.metric_tracker import MetricSpecs
from mores.sim.simulator import Simulator

if TYPE_CHECKING:
    import xarray


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        policy_states: policy states after training, by role; to be read only.
        curves: metrics at the end of every episode, `return_ROLE` among them: an xarray Dataset
            over world and episode, with the replicate of each world; worlds of one replicate share
            their learners.
        learning: what the learners report about their updates in every episode, by `ROLE.NAME`: an
            xarray Dataset over replicate and episode; NaN in episodes without update.
        records: requested actions, rewards and observations: `AgentRecorder.agent_dataset`.
        diagnostics: models that stopped because a number was not finite, or were never updated.
        setup: how the policies were trained.
        trainer: `mores.train`.
    """

    policy_states: Mapping[str, Any]
    curves: xarray.Dataset
    learning: xarray.Dataset
    records: xarray.Dataset
    diagnostics: tuple[str, ...]
    setup: TrainingSetup
    trainer: Callable[..., TrainingResult] = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        """The size of the training, without its tensors."""
        setup = self.setup
        return (
            f"<TrainingResult: {', '.join(sorted(setup.trained_roles))} of "
            f"{type(setup.environment).__name__}, {self.learning.sizes['replicate']} replicates, "
            f"{self.curves.sizes['world']} worlds, {setup.num_episodes} episodes, the last ones "
            f"of {setup.rounds} rounds; diagnostics: {list(self.diagnostics)}>"
        )

    @property
    def environment(self) -> Environment[Any]:
        """The environment of the training."""
        return self.setup.environment

    @property
    def policies(self) -> dict[str, Policy]:
        """The policies by role, without what they learned: see `policy` and `train`."""
        trained = self.setup.trained_roles
        return {r: as_trained(p) if r in trained else p for r, p in self.setup.policies.items()}

    def train(
        self,
        episodes: int,
        *,
        record: Collection[str] = (),
        record_worlds: int | None = None,
        track: Any = None,
        callback: EpisodeCallback | None = None,
        progress: bool | None = None,
    ) -> TrainingResult:
        """Go on with the training, as if it had not been interrupted; this result stays as it is.

        Args:
            episodes: number of further episodes.
            record, record_worlds, track, callback, progress: see `mores.train`.

        Returns:
            The result of the whole training: its curves begin with those of this result, and are
            equal to those of one training of all episodes, bit for bit.

        Raises:
            UserError: as in `mores.train`.
        """
        setup = self.setup
        return self.trainer(
            setup.environment,
            {role: setup.policies[role] for role in setup.requested_roles},
            episodes=episodes,
            rounds=setup.rounds,
            roles_to_train=setup.learning_roles,
            metrics={n: n if metric is None else metric for n, metric in setup.metrics.items()},
            population=setup.population,
            record=record,
            record_worlds=record_worlds,
            track=track,
            callback=callback,
            start=self,
            progress=progress,
        )

    def policy(
        self,
        role: str,
        *,
        replicate: int | None = None,
        agent: int = 0,
        phase: str | None = None,
        deterministic: bool = True,
        seed: int = 0,
    ) -> TrainedPolicy:
        """The trained policy of a role as a function of observations, for any loop.

        Args:
            role: name of the role.
            replicate: number of the replicate whose models act; default: the first.
            agent: index of the agent in the role.
            phase: name of the phase to act in; default: all in which the role acts, one a call.
            deterministic: take the likeliest action, or search as the policy's `search` states;
                else sample.
            seed: of its random numbers.

        Raises:
            UserError: an unknown name, or a number out of range; a parameter of the policy differs
                between people.
        """
        policy, setup = self._policy_of(role), self.setup
        replicates = setup.worlds.replicate.unique().tolist()
        chosen = replicates[0] if replicate is None else replicate
        parameters = replicate_parameters(role, self.state_dict(role), replicates, chosen)
        return TrainedPolicy(
            setup.environment, role, policy, parameters, chosen, agent, phase, deterministic, seed
        )

    def learning_curve(self, name: str, level: float = 0.95) -> xarray.Dataset:
        """Mean of a metric over replicates by episode, with its interval.

        Worlds of a replicate share their learners, and are averaged first: the number of replicates
        is the n of the interval, the one of claims (`mores.analysis.mean_intervals`), with the
        bounds that the environment declares. Replicates whose value is NaN are left out.

        Args:
            name: of `curves` or `learning`, or of a component: `NAME[0]`.
            level: nominal coverage of the interval.

        Returns:
            `mean`, `low` and `high` over episode; NaN where fewer than two replicates have a value.

        Raises:
            UserError: an unknown name, or one of several components; a wrong level.
        """
        bounds = self.environment.metric_bounds
        return learning_curve(self.curves, self.learning, name, level, bounds)

    def evaluate(
        self,
        episodes: int = 1,
        rounds: int | None = None,
        search: bool = True,
        policies: Mapping[str, Spec | Policy] | None = None,
        metrics: MetricSpecs = (),
        seed: int | None = None,
        environment: Spec | Environment[Any] | None = None,
        population: Population | Spec | None = None,
        record: Collection[str] = (),
        record_worlds: int | None = None,
    ) -> xarray.Dataset:
        """Simulate without training, with people and random numbers that training did not use.

        Args:
            episodes: number of episodes.
            rounds: of an episode; default: as in training.
            search: decide with the search that policies support; learners take the most likely
                action, or search as their `search` parameter states. Else they sample.
            policies: policies that replace those of training, by role. A learner of the same recipe
                takes over the role's trained parameters, as in a stage that changes policies.
            metrics: as in `mores.train`; default: all of the environment and the return of every
                role, whatever training recorded.
            seed: default: that of training, so that two evaluations are equal.
            environment: default: that of training. Another environment, or other parameters, with
                the same observations and actions for the trained roles. Named and trained policies
                act there in their roles; other roles have the environment's default policies.
            population: default: that of training. What a population determines in the environment,
                such as the unit of `human`, is that of this one.
            record, record_worlds: see `mores.train`.

        Returns:
            Metrics at the end of every episode, over world and episode; with `record` also the
            records, where worlds that were not recorded are NaN.

        Raises:
            UserError: unknown names or wrong values; a learner would act untrained, since these
                agents were not trained; trained parameters do not fit the environment.
        """
        if not isinstance(search, bool):
            raise UserError(
                f"search: true or false, not {search!r:.40}", code="wrong_type", path="search"
            )
        setup = self.setup
        env, people = setup.environment, setup.population
        if population is not None:
            people = from_spec("population", population, "population")
        elsewhere = environment is not None or population is not None
        if environment is not None:
            env = environment_from_spec(environment, people)
        elif people is not None and population is not None:
            env = env.with_population(people, setup.population)
        replaced = policies_from_specs({} if policies is None else policies)
        usual = policies_elsewhere(setup, env) if elsewhere else setup.policies
        combined = {**usual, **replaced}
        for role, policy in combined.items():
            trained = [setup.policies[role]] if role in setup.trained_roles else []
            unchanged = role not in replaced and policy is setup.policies.get(role)
            if not unchanged and policy_states.is_untrained(role, policy, trained):
                raise UserError(
                    f"{role}: a learner would act untrained: it needs parameters of the same "
                    "agents of per_agent, or of a learner alone (learning_rate: 0, if intended)",
                    code="not_trained",
                    path=f"policies.{role}",
                )
        store: dict[str, Any] = {}
        policy_states.store_states(store, setup.policies, setup.copy_states(self.policy_states))
        episodes = check_integer("episodes", episodes)
        rounds = setup.rounds if rounds is None else check_integer("rounds", rounds)
        seed = setup.seed if seed is None else check_seed(seed)
        recorder = AgentRecorder(env, record, setup.worlds, record_worlds, rounds, episodes)
        simulator = Simulator(
            env,
            combined,
            worlds=setup.worlds,
            rounds=rounds,
            population=people,
            stage=TEST_STAGE,
            device=setup.device,
            roles_to_train=(),
            search=search,
            recorder=recorder if record else None,
        )
        simulator.reset(seed, policy_states.stored_states(store, combined))
        names = select_metrics(simulator, metrics)
        curves = run_episodes(simulator, episodes, names, recorder).curves
        return with_records(curves, recorder) if record else curves

    def state_dict(self, role: str) -> dict[str, Tensor]:
        """Parameters of a role's policy by name; tensors lead with the models.

        Raises:
            UserError: there is no such role.
        """
        policy, state = self._policy_of(role), self.policy_states[role]
        tensors = policy.state_dict(state) if isinstance(policy, Learner) else {}
        return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}

    def _policy_of(self, role: Any) -> Policy:
        policies = self.setup.policies
        if not isinstance(role, str) or role not in policies:
            raise UserError(
                f"no role {role!r:.60}{did_you_mean(role, policies)}",
                code="unknown_name",
                path=f"policies.{role}",
            )
        return policies[role]

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file, atomically, for `mores.load_trained`.

        Optimizers and unfinished rollouts are part of it, so that the training can go on. Records
        are not.

        Args:
            path: of the file, such as `learners.safetensors`.

        Returns:
            The path.

        Raises:
            UserError: the file cannot be written; a class is not registered (`mores.register`); a
                policy state holds more than tensors and plain values.
        """
        contents = TrainedContents(
            self.policy_states, self.curves, self.learning, self.diagnostics, self.setup
        )
        return write_trained(path, contents)


def policies_elsewhere(setup: TrainingSetup, environment: Environment[Any]) -> dict[str, Policy]:
    """Policies of another environment by role: trained ones go on in their roles.

    Raises:
        UserError: it has no trained role.
    """
    roles = [role.name for role in environment.roles]
    if not setup.trained_roles & set(roles):
        trained_roles, known = ", ".join(sorted(setup.trained_roles)), ", ".join(roles)
        raise UserError(
            f"environment: it has no trained role ({trained_roles}); its roles are {known}",
            code="incompatible",
            path="environment",
        )
    trained = {role: setup.policies[role] for role in setup.trained_roles}
    requested = {role: setup.policies[role] for role in setup.requested_roles & set(roles)}
    defaults = policies_from_specs(environment.default_policies())
    return {**policy_states.continuing_policies(environment, defaults, trained), **requested}
