"""Environments with the parameters for which their text is tested, and what it leaves out."""

from __future__ import annotations

from typing import Any

PUBLIC_GOODS = {"payoffs": "public_goods", "num_agents": 4, "num_levels": 3}
ASYMMETRIC = [[[1, 2, 3], [4, 5, 6]], [[0, 1, 0], [2, 0.25, 7]]]
MEASURED = {
    "kind": "linear",
    "num_agents": 2,
    "measured": [True, False],
    "intrinsic_effort": [0.5, 0.25],
    "noise": [[1.0, 0.2], [0.2, 1.0]],
    "risk_aversion": [0.5, 1.5],
    "agent_reward": "mean_variance",
}
TWO_CLASSES = [{"share": 0.5}, {"share": 0.5, "stakes": 2.0, "success_chance": [0.9, 0.5, 0.1]}]
THREE_PREFERENCES = {
    "rewards": [[1, -1], [1, 3], [0.5, 0.25]],
    "natural_transitions": [[0.75, 0.25, 0], [0.5, 0.25, 0.25], [0, 0, 1]],
    "influenced_transitions": [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    "initial_distribution": [0.5, 0.25, 0.25],
}

PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "biased_users": [
        {"num_people": 3},
        {"num_people": 3, "shared_code": 0.5, "num_answers": 4, "elicit_beliefs": False},
        {"num_people": 3, "task": "pretraining"},
    ],
    "coevolution": [
        {"num_people": 3},
        {"num_people": 3, "audience": "person", "value_names": ["equality", "tradition"]},
        {"num_people": 2, "challenge": "predict", "forecast_horizon": 2, "observe_target": True},
        {"num_people": 3, "num_assistants": 0, "num_values": 1, "initial_std": 2.0},
    ],
    "contracts": [
        {"game": {"kind": kind, "num_agents": 2}}
        for kind in (
            *("cheap_talk", "inspection", "limited_liability", "limited_commitment", "off_switch"),
            *("screening", "linear"),
        )
    ]
    + [{"game": MEASURED}, {"game": {"kind": "off_switch", "error_rate": 0.1}}],
    "control": [
        {"num_tasks": 3},
        {"num_tasks": 3, "protocol": "auditor", "task_classes": TWO_CLASSES, "attack_prior": 0.5},
        {"num_tasks": 3, "protocol": "audit_rate", "num_audits": 2, "catch_penalty": 0.5},
        {"num_tasks": 3, "monitor_acts": True, "num_references": 2},
        {
            "num_tasks": 3,
            "monitor_acts": True,
            "num_references": 2,
            "protocol": {"kind": "untrusted_monitoring"},
            "informed": False,
            "objective": "success_count",
        },
        {"num_tasks": 3, "num_people": 3, "vote_rates": [0.01, 0.05, 0.2]},
        {"num_tasks": 3, "protocol": "resampling"},
    ],
    "dr_mdp": [
        {"num_people": 2, "susceptibility": 0.5},
        {"num_people": 2, "horizon": 4, "objective": "constrained", **THREE_PREFERENCES},
        {"num_people": 2, "horizon": 4, "objective": "pareto", **THREE_PREFERENCES},
    ],
    "lock_in": [
        {"num_people": 3},
        {"num_people": 3, "trust_in_ai": {"kind": "uniform", "low": 0.1, "high": 0.3}},
    ],
    "matrix_game": [
        {"memory_depth": 2},
        {"memory_depth": 0, "payoffs": "chicken"},
        {"payoffs": "rock_paper_scissors", "tremble_probability": 0.1},
        {"payoffs": "battle_of_the_sexes", "observe_player": True},
        {"payoffs": "matching_pennies", "continuation_probability": 0.9},
        {"payoffs": ASYMMETRIC, "observe_player": True, "option_names": ["red", "blue", "green"]},
        PUBLIC_GOODS,
        {**PUBLIC_GOODS, "num_agents": 2, "endowment": 10.0, "memory_depth": 3},
    ],
    "moral_hazard": [{"num_agents": 2}, {"num_agents": 1, "num_shares": 3, "num_efforts": 6}],
    "pairwise_preferences": [{"num_people": 3}, {"num_people": 3, "collect_ratings": True}],
    "panel": [
        {"num_people": 4},
        {"num_people": 4, "conversation_round": 1},
        {"num_people": 4, "low": None, "high": None},
    ],
    "principal_agent": [
        {"num_people": 3},
        {
            "num_people": 2,
            "num_principals": 2,
            "num_products": 3,
            "num_values": 3,
            "commission": 0.1,
            "num_sales": 5,
            "audits_unread_sales": True,
        },
        {
            "num_people": 3,
            "observe_visibility": False,
            "rationale_must_be_true": True,
            "customer_sees_act": 0.5,
            "principal_sees_act": 0.5,
            "unparsable_probability": 0.2,
        },
        {"num_people": 4, "tasks": ["propaganda_film", "electric_car"]},
    ],
    "token_feedback": [
        {"num_completions": 2, "vocab_size": 5, "completion_length": 2},
        {"num_completions": 2, "vocab_size": 4, "completion_length": 3, "review": True},
    ],
    "weak_to_strong": [{"num_items": 1, "labels_per_item": 1, "num_topics": 3}],
    "welfare_game": [
        {"num_users": 3},
        {"num_users": 3, "welfare": "minimum", "can_ask": False, "estimate_accuracy_weight": 1.0},
        {"num_users": 3, "choose_length": False, "welfare": "linear"},
        {
            "num_users": 3,
            "task": {"user_window": {}, "assistant_window": {"weight": 0.3}, "words_scale": None},
            "delay_cost": {"kind": "uniform", "low": 0.1, "high": 0.5},
        },
    ],
}
# Environments made of text, whose own tests compare it: here, forms and replies alone.
OF_TEXT: dict[str, dict[str, Any]] = {
    "opinion_messages": {"num_people": 2},
    "perspectives": {},
    "reply_ratings": {"num_pairs": 2},
    "survey": {"num_people": 2},
    "text_requests": {"num_writers": 2},
}
CASES = [(kind, i) for kind, sets in PARAMETERS.items() for i in range(len(sets))]

# Parts of observations that the text does not show, and why.
NOT_SHOWN: dict[tuple[str, str, str], str] = {
    ("principal_agent", "agent", "task_features"): "contained in the utilities that are shown",
    ("principal_agent", "agent", "true_rationales"): "shown after the choice, as true or false",
    **{
        ("principal_agent", role, part): "0 unless this party sees the act or reads the rationale"
        for role in ("customer", "principal")
        for part in ("choice", "rationale", "reads")
    },
    ("moral_hazard", "agent", "effort"): "0 when the agent acts: it chooses the effort then",
    ("moral_hazard", "agent", "output"): "0 when the agent acts, before there is an output",
    ("matrix_game", "player", "game_started"): "shown by past actions; else as the first round",
    ("panel", "assistant", "trend"): "always 0",
    ("dr_mdp", "assistant", "natural_transitions"): "in the rules: parameters",
    ("dr_mdp", "assistant", "influenced_transitions"): "in the rules: parameters",
    ("dr_mdp", "assistant", "initial_distribution"): "in the rules: parameters",
    ("dr_mdp", "assistant", "rewards"): "in the rules, and of the present preference in the turn",
    ("biased_users", "assistant", "claim"): "not observed in phase believe, where it is 0",
    ("biased_users", "assistant", "cue"): "0 unless the cue is shown",
    ("biased_users", "assistant", "cue_shown"): "not in phase believe, where no cue is observed",
    ("coevolution", "person", "advice"): "0 without assistants",
    ("welfare_game", "composer", "act"): "one-hot",
}

# Parameters that no role may know from the text, with another value.
LATENT: dict[str, dict[str, Any]] = {
    "biased_users": {"biased_share": 0.9, "claim_error_rate": 0.1, "task_seed": 9},
    "coevolution": {"ai_influence": 0.9, "rounds_per_year": 5.0},
    "control": {"attack_prior": 0.3},
    "dr_mdp": {"susceptible_share": 0.1},
    "lock_in": {"truth_std": 7.0, "prior_precision": 3.0},
    "panel": {"ai_influence": 0.9, "initial_mean": 1.5, "num_waves": 2},
    "principal_agent": {"condition_shares": [1, 0, 0, 1], "ai_influence": 0.9, "held_out_seed": 4},
    "token_feedback": {"task_seed": 9, "inappropriate_vocab_share": 0.6, "conflict": 0.5},
    "weak_to_strong": {"task_seed": 9, "help_correlation": 0.9, "curvature": 0.1},
    "welfare_game": {"reward_source": "random"},
    "pairwise_preferences": {"margins": [0.7]},
}
