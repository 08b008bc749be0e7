"""Whether measures and claims speak of what there is: arms, measures, rounds, predictions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mores.core.check_metrics import measured
from mores.core.errors import UserError
from mores.core.random_streams import Draws
from mores.experiments.scenario.cell import Built, Cell, Staged
from mores.experiments.scenario.claim_inputs import DERIVED, arm_of, arms_looked_at
from mores.experiments.scenario.conditions import MOST_CELLS, ONLY_ARM
from mores.experiments.scenario.first_round_check import broken, first_round
from mores.experiments.scenario.source_locations import Places, Problem, nearest, problem_at, shown
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Stage, Target
from mores.experiments.scenario.verify_training import fitted, in_vain

_INDEXED = re.compile(r"\[(0|[1-9][0-9]{0,8})\]$")
MOST_KEPT = 2**29  # of each measure in a cell: 2 GiB
MOST_NUMBERS = 2**31  # that the seats of one world may see: 8 GiB


def claims(scenario: Scenario, places: Places) -> list[Problem]:
    """What is wrong with measures and claims as the file alone tells."""
    problems: list[Problem] = []

    def wrong(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at(places, message, *path, code=code))

    replicates = scenario.replicates
    if scenario.uncertain is not None:
        replicates = max(replicates, scenario.uncertain.replicates)
    each = [s.episodes * (scenario.rounds_in(s) // scenario.every + 1) for s in scenario.played]
    kept = replicates * scenario.worlds * sum(each)
    if kept > MOST_KEPT:
        message = f"{kept:.1e} numbers of each measure are too many: raise every, or lower it"
        wrong("too_large", message, "replicates")

    for i, name in enumerate(scenario.measures):
        if name in DERIVED:
            message = f"{name} is for claims, and computed from {DERIVED[name]}: list that here"
            wrong("invalid_value", message, "measures", i)
    for i, claim in enumerate(scenario.claims):
        stage = scenario.stage(claim.stage)
        problems += _looked_at(scenario, places, claim, stage, "claims", i)
        if stage.loop == "fit":
            message = f"nobody plays in {stage.name}: name another stage"
            wrong("invalid_value", message, "claims", i)
    if all(stage.loop == "fit" for stage in scenario.played):
        wrong("missing", "somebody must play in some stage", "stages")
    problems += _too_many(scenario, places)
    for path, look in _looks(scenario):
        problems += _looked_at(scenario, places, look, scenario.stage(None), *path)
    return problems


def _looked_at(
    scenario: Scenario,
    places: Places,
    look: Claim | Target | Sensitivity,
    stage: Stage,
    *path: str | int,
) -> list[Problem]:
    """What is wrong with the arms, the measure and the round of what stands at a path."""
    problems: list[Problem] = []

    def wrong(code: str, message: str, *key: str) -> None:
        problems.append(problem_at(places, message, *path, *key, code=code))

    arms, arm = list(scenario.arms) or [ONLY_ARM], arm_of(scenario, look)
    if isinstance(look, Sensitivity) and look.arm is None and len(arms) > 1:
        wrong("missing", "does not say which arm: name one")  # of the control: says nothing
    elif arm is None:
        wrong("missing", "does not say which arm; name one, or a control")
    elif arm not in arms:
        wrong("unknown_name", f"there is no arm {arm!r}{nearest(arm, scenario.arms)}", "arm")
    if look.against is not None and look.against not in arms:
        near = nearest(look.against, scenario.arms) or "; the scenario has no arms"
        wrong("unknown_name", f"there is no arm {look.against!r}{near}", "against")
    elif look.against is not None and look.against == arm:
        wrong("conflict", "is the arm itself; compare with another", "against")
    ablation = look.ablation if isinstance(look, Claim) else None
    if ablation is not None and ablation not in arms:
        near = nearest(ablation, scenario.arms) or "; the scenario has no arms"
        wrong("unknown_name", f"there is no arm {ablation!r}{near}", "ablation")
    elif ablation is not None and ablation == arm:
        wrong("conflict", "is the arm itself: what is left there says nothing", "ablation")
    elif ablation is not None and look.measure in DERIVED and ablation == scenario.control:
        message = f"is the control, and {look.measure} is nothing there: name another arm"
        wrong("conflict", message, "ablation")
    if _whole(look.measure) not in [*scenario.measures, *DERIVED]:
        near = nearest(look.measure, dict.fromkeys([*scenario.measures, *DERIVED]))
        message = f"{look.measure!r} is not among the scenario's measures{near}"
        wrong("unknown_name", message, "measure")
    for message in _derived(scenario, look.measure):
        wrong("missing", message, "measure")
    if look.measure in DERIVED and arm is not None and arm == scenario.control:
        wrong("conflict", "is about the control itself: name another arm", "measure")
    rounds = scenario.rounds_in(stage)
    if look.at is not None and look.at > rounds:
        message = f"must be at most {rounds}, the number of rounds, not {look.at}"
        wrong("out_of_range", message, "at")
    return problems


def cell(scenario: Scenario, places: Places, cell: Cell, built: Built) -> list[Problem]:
    """What is wrong with a cell once its first world begins: seats, measures, predictions."""
    problems: list[Problem] = []
    begun: dict[tuple[int, ...], Mapping[str, Any] | None] = {}  # one often serves several stages
    for number, staged in enumerate(built.stages):
        for role in staged.game.roles:
            if role.name not in staged.players:
                message = f"nobody plays {role.name!r}: name a player for it"
                found = cell.origin.problem(("players",), message, key=True, code="missing")
                problems.append(found)
        problems += fitted(places, built, number)
        problems += in_vain(scenario, places, cell, built, number)
        who = (id(staged.game), *map(id, staged.players.values()))
        if who not in begun:
            begun[who] = _begun(cell, staged, built, scenario.seed, problems)
        measures = begun[who]
        if measures is not None and staged.stage.loop != "fit":
            problems += _measures(scenario, places, cell, staged, built, measures)
    return list(dict.fromkeys(problems))


def _looks(scenario: Scenario) -> list[tuple[tuple[str | int, ...], Target | Sensitivity]]:
    """Targets and the sensitivity analysis, with where they stand."""
    looks: list[tuple[tuple[str | int, ...], Target | Sensitivity]] = []
    if scenario.calibration is not None:
        targets = enumerate(scenario.calibration.targets)
        looks += [(("calibration", "targets", i), target) for i, target in targets]
    if scenario.uncertain is not None and scenario.uncertain.sensitivity is not None:
        looks.append((("uncertain", "sensitivity"), scenario.uncertain.sensitivity))
    return looks


def _too_many(scenario: Scenario, places: Places) -> Iterator[Problem]:
    """More cells at uncertain parameters than can be run."""
    uncertain = scenario.uncertain
    if uncertain is None:
        return
    claims = [claim for claim in scenario.claims if claim.interval == "parameters"]
    draws = uncertain.draws * len(arms_looked_at(scenario, claims))
    counts: dict[tuple[str, ...], int] = {("uncertain", "draws"): draws}
    asked = uncertain.sensitivity
    if asked is not None:
        more = 2 if asked.method == "sobol" else 1
        points = asked.points * (len(uncertain.parameters) + more)
        cells = points * len(arms_looked_at(scenario, [asked]))
        counts["uncertain", "sensitivity", "size"] = cells
    for path, cells in counts.items():
        if cells > MOST_CELLS:
            message = f"makes {cells:,} cells; at most {MOST_CELLS:,} are run"
            yield problem_at(places, message, *path, code="too_large")


def _measures(
    scenario: Scenario,
    places: Places,
    cell: Cell,
    staged: Staged,
    built: Built,
    measures: Mapping[str, Any],
) -> list[Problem]:
    """Measures and predictions that are asked for and are not there."""
    problems: list[Problem] = []

    def wrong(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at(places, message, *path, code=code))

    for i, name in enumerate(scenario.measures):
        if name not in measures and name not in DERIVED:
            near = nearest(name, measures)
            message = f"{cell.env['kind']} has no measure {name!r}{near}"
            wrong("unknown_name", message, "measures", i)
    if staged.stage.name == scenario.played[-1].name:
        problems += _indexed(scenario, places, cell.arm, measures)
    for i, claim in enumerate(scenario.claims):
        if scenario.stage(claim.stage).name != staged.stage.name:
            continue
        if cell.arm not in (arm_of(scenario, claim), claim.against, claim.ablation):
            continue
        message = _beyond(claim.measure, measures, cell.arm)
        if message:
            wrong("unknown_name", message, "claims", i, "measure")
        resample = getattr(built.population, "resample", False)
        if claim.interval == "people" and resample is not True:
            message = f"people needs people.resample to be true, and in {cell.arm} it is not"
            wrong("conflict", message, "claims", i, "interval")
        if claim.prediction is not None:
            known = staged.game.predictions(staged.players, staged.rounds)
            if claim.prediction not in known:
                near = nearest(claim.prediction, known) or "; it makes none"
                message = f"{cell.env['kind']} predicts no {claim.prediction!r} in {cell.arm}{near}"
                wrong("unknown_name", message, "claims", i, "prediction")
            elif claim.kind == "reward_implied" and claim.prediction not in staged.game.solved:
                message = f"reward_implied: no exact solver computes {claim.prediction!r}"
                wrong("unsupported", message, "claims", i, "kind")
    return problems


def _indexed(
    scenario: Scenario, places: Places, arm: str, measures: Mapping[str, Any]
) -> list[Problem]:
    """Targets and results of a sensitivity analysis that ask for a number that is not there."""
    problems = []
    for path, look in _looks(scenario):
        message = _beyond(look.measure, measures, arm)
        if arm in (arm_of(scenario, look), look.against) and message:
            problems.append(problem_at(places, message, *path, "measure", code="unknown_name"))
    return problems


def _beyond(measure: str, measures: Mapping[str, Any], arm: str) -> str | None:
    """What is wrong with the index of a measure in an arm."""
    size = _size(measures.get(_whole(measure)))
    if size is None or _number(measure) < size:
        return None
    many = f"{size} number{'s' if size > 1 else ''} in {arm}, counted from 0"
    numbers = many if size else "one number"
    return f"{_whole(measure)} is {numbers}"


def _begun(
    cell: Cell, staged: Staged, built: Built, seed: int, problems: list[Problem]
) -> Mapping[str, Any] | None:
    """Begin one world as the table does, and look at its measures."""
    numbers = sum(role.count * role.sees.size for role in staged.game.roles)
    if numbers > MOST_NUMBERS:
        message = f"is too large: in one world {numbers:,} numbers are seen"
        problems.append(cell.origin.problem(("env",), message, code="too_large"))
        return None
    draws = Draws.of(seed, [0]).within("start")
    try:
        found = _measured(cell, staged, built, draws, problems)
        if not problems:
            wrong = first_round(staged.game, staged.players, built.population, seed)
            kind = cell.env["kind"]
            problems.extend(
                cell.origin.problem(("env",), f"{kind}: {shown(one, 300)}", code=one.code)
                for one in wrong
            )
        return found
    except Exception as error:
        message, code = f"{cell.env['kind']}: breaks at its start: {broken(error)}", "failed"
        if isinstance(error, MemoryError) or "allocate" in str(error):  # PyTorch has no class
            message, code = "is too large: not one world fits into memory", "too_large"
        problems.append(cell.origin.problem(("env",), message, code=code))
        return None


def _measured(
    cell: Cell, staged: Staged, built: Built, draws: Draws, problems: list[Problem]
) -> Mapping[str, Any] | None:
    game, players, population = staged.game, staged.players, built.population
    try:
        start = None if population is None else population.people(draws.within("people"))
    except UserError as error:
        problems.append(cell.origin.problem(("people",), shown(error, 300), code=error.code))
        return None
    for role in game.roles:
        if role.name in players:
            try:
                players[role.name].start(role, game.phases, draws.within(role.name))
            except UserError as error:
                origin = cell.asked(built.stages.index(staged)).origin
                path = ("players", role.name)
                problems.append(origin.part(path, shown(error, 300), code=error.code))
    try:
        return measured(game, game.reset(draws.within("game"), start), draws.worlds)
    except UserError as error:
        problems.append(cell.origin.problem(("env",), shown(error, 300), code=error.code))
    return None


def _whole(measure: str) -> str:
    """`centre` of `centre[1]`, which is the second number of it."""
    return _INDEXED.sub("", measure)


def _number(measure: str) -> int:
    """1 of `centre[1]`; -1 where all numbers are meant."""
    found = _INDEXED.search(measure)
    return int(found[1]) if found else -1


def _size(found: Any) -> int | None:
    """Of how many numbers a measure of a world is; 0: it is one number, without index."""
    return None if found is None else (found.shape[1] if found.dim() > 1 else 0)


def _derived(scenario: Scenario, name: str) -> list[str]:
    """What a derived measure lacks."""
    if name not in DERIVED:
        return []
    lacks = []
    if scenario.control is None:
        lacks.append(f"{name} is measured against a control: name one")
    if DERIVED[name] not in scenario.measures:
        lacks.append(f"{name} is computed from {DERIVED[name]}: list it among the measures")
    return lacks
