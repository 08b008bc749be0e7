"""Turns of `matrix_game` as text: payoffs, past actions, and the options with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, lines, listed, paragraph, percent, plural
from mores.core.turn_text import TurnText
from mores.envs.strategic.bimatrix_games import Bimatrix
from mores.envs.strategic.public_goods import PublicGoods

MAX_OPTIONS_WITH_PAYOFFS = 4  # beyond it, payoffs are in the rules alone
COOPERATE = ("cooperate", "defect")
OPTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "prisoners_dilemma": COOPERATE,
    "stag_hunt": ("hunt the stag", "hunt the hare"),
    "chicken": ("swerve", "drive straight"),
    "harmony": COOPERATE,
    "deadlock": COOPERATE,
    "matching_pennies": ("heads", "tails"),
    "rock_paper_scissors": ("rock", "paper", "scissors"),
}


def matrix_rules(game: Bimatrix, names: Sequence[str], continuation: float, tremble: float) -> str:
    """Rules of a game of two."""
    first = "You play a game of several rounds with another player. In every round both of you "
    first += "choose at the same time, without talking. Your reward is the sum of your payoffs."
    rows, columns = game.num_options
    cells = []
    if is_symmetric(game):
        for own in range(rows):
            pairs = zip(game.row_payoffs[own], game.column_payoffs[own], strict=True)
            other = [
                f"if the other player chooses {names[j]}, you get {compact(mine)} and the other "
                f"{compact(theirs)}"
                for j, (mine, theirs) in enumerate(pairs)
            ]
            cells.append(f"If you choose {names[own]}: {'; '.join(other)}.")
    else:
        for own in range(rows):
            other = [
                f"{names[j]}: {compact(game.row_payoffs[own][j])} and "
                f"{compact(game.column_payoffs[own][j])}"
                for j in range(columns)
            ]
            cells.append(f"Player 1 {names[own]}, player 2 {'; '.join(other)}.")
        cells.insert(0, "Payoffs of player 1 and of player 2 by their choices:")
    return lines(first, *cells, _chances(continuation, tremble))


def public_goods_rules(game: PublicGoods, continuation: float, tremble: float) -> str:
    """Rules of a public goods game."""
    share = game.multiplier / game.num_agents
    return paragraph(
        f"You and {plural(game.num_agents - 1, 'other player')} are a group. In every round each "
        f"of you has {compact(game.endowment)} and decides, at the same time and without talking, "
        "how much of it to contribute to a project.",
        f"Contributions are multiplied by {compact(game.multiplier)} and shared equally: each "
        f"member gets {compact(share)} for every 1 that anybody contributes.",
        "Your reward in a round is what you keep and your share of the project.",
        _chances(continuation, tremble),
    )


def _chances(continuation: float, tremble: float) -> str:
    again = f"After every round another one follows with probability {percent(continuation)}."
    slip = f"With probability {percent(tremble)} a player takes another option than intended."
    return paragraph(again if continuation < 1 else "", slip if tremble else "")


def option_names(game: str | None, rule: Bimatrix | PublicGoods, max_options: int) -> list[str]:
    """Names of the options: those of a named game, contributions, or numbers.

    Args:
        game: name of the game, if it has one.
        rule: its payoffs.
        max_options: largest number of options of an agent.
    """
    if isinstance(rule, PublicGoods):
        shares = [1.0 - option / (rule.num_levels - 1) for option in range(rule.num_levels)]
        return [f"contribute {compact(share * rule.endowment)}" for share in shares]
    return list(OPTION_NAMES.get(game or "", ())) or [
        f"option {option + 1}" for option in range(max_options)
    ]


def is_symmetric(game: Bimatrix) -> bool:
    """Whether the payoffs of both players are the same function of own and other's option."""
    return game.row_payoffs == tuple(zip(*game.column_payoffs, strict=True))


def matrix_turn(
    seen: Mapping[str, Sequence[float]],
    rule: Bimatrix | PublicGoods,
    names: Sequence[str],
    memory_depth: int,
) -> TurnText:
    """Past actions and the choice.

    Args:
        seen: the parts of the observation.
        rule: payoffs.
        names: of the options.
        memory_depth: number of observed rounds.
    """
    player = _player(seen, rule)
    options = _with_payoffs(rule, names, player)
    who = ""
    if isinstance(rule, Bimatrix) and not is_symmetric(rule):
        who = "You are not told which player you are."
        who = who if player is None else f"You are player {player + 1}."
    history = _history(seen, names, memory_depth, rule)
    if not history:
        earlier = "There were earlier rounds, which you do not see."
        history = [earlier if seen["game_started"][0] else "This is the first round."]
    return TurnText(
        lines(who, *history),
        "What do you choose?",
        "choice",
        tuple(options),
        ordered=isinstance(rule, PublicGoods),
    )


def _player(seen: Mapping[str, Sequence[float]], rule: Bimatrix | PublicGoods) -> int | None:
    """Index of the player, where payoffs depend on it and it is observed; 0 if they do not."""
    if isinstance(rule, PublicGoods) or is_symmetric(rule):
        return 0
    return int(seen["second_player"][0]) if "second_player" in seen else None


def _with_payoffs(
    rule: Bimatrix | PublicGoods, names: Sequence[str], player: int | None
) -> list[str]:
    if isinstance(rule, PublicGoods):
        return [
            f"{name} and keep {compact(rule.endowment * option / (rule.num_levels - 1))}"
            for option, name in enumerate(names)
        ]
    if player is None or len(names) > MAX_OPTIONS_WITH_PAYOFFS:
        return list(names)
    payoffs = rule.row_payoffs if player == 0 else tuple(zip(*rule.column_payoffs, strict=True))
    texts = []
    for option, name in enumerate(names):
        if option >= len(payoffs):  # an option of the other player alone
            texts.append(name)
            continue
        each = [f"{compact(payoff)} if the other chooses {names[j]}"
                for j, payoff in enumerate(payoffs[option])]  # fmt: skip
        texts.append(f"{name}: you get {', '.join(each)}")
    return texts


def _history(
    seen: Mapping[str, Sequence[float]],
    names: Sequence[str],
    memory_depth: int,
    rule: Bimatrix | PublicGoods,
) -> list[str]:
    """One line for each observed round, newest first."""
    k, found = len(names), []
    for age in range(memory_depth):
        own = seen["own_actions"][age * k : (age + 1) * k]
        others = seen["other_actions"][age * k : (age + 1) * k]
        if not any(own) and not any(others):
            break
        when = "Last round" if age == 0 else f"{age + 1} rounds ago"
        chosen = names[max(range(k), key=own.__getitem__)] if any(own) else "nothing"
        if isinstance(rule, PublicGoods) and rule.num_agents > 2:
            parts = [f"{percent(s)} {name}" for s, name in zip(others, names, strict=True) if s > 0]
            found.append(f"{when}: you {chosen}; of the others {listed(parts)}.")
        else:
            other = names[max(range(k), key=others.__getitem__)] if any(others) else "nothing"
            found.append(f"{when}: you: {chosen}; the other player: {other}.")
    return found
