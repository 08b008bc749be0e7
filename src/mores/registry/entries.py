"""The entries of the package, `module:Name` by kind: imported at their first use."""

from __future__ import annotations

ENVIRONMENTS: dict[str, str] = {
    "biased_users": "mores.envs.strategic.biased_users:BiasedUsers",
    "coevolution": "mores.envs.opinion.coevolution:Coevolution",
    "contracts": "mores.envs.strategic.contracts:Contracts",
    "moral_hazard": "mores.envs.strategic.moral_hazard:MoralHazard",
    "dr_mdp": "mores.envs.influence.dr_mdp:DRMDP",
    "lock_in": "mores.envs.opinion.lock_in:LockIn",
    "matrix_game": "mores.envs.strategic.matrix_game:MatrixGame",
    "welfare_game": "mores.envs.strategic.welfare_game:WelfareGame",
    "pairwise_preferences": "mores.envs.feedback.pairwise_preferences:PairwisePreferences",
    "panel": "mores.envs.opinion.panel:Panel",
    "principal_agent": "mores.envs.strategic.principal_agent:PrincipalAgent",
    "token_feedback": "mores.envs.feedback.token_feedback:TokenFeedback",
    "weak_to_strong": "mores.envs.oversight.weak_to_strong:WeakToStrong",
}
ENVIRONMENT_VERSIONS: dict[str, int] = {  # in ids of clients, raised when a default changes numbers
    "coevolution": 1,
    "panel": 1,
}
POLICIES: dict[str, str] = {
    "annotator": "mores.agents.people.annotator:Annotator",
    "survey_respondent": "mores.agents.people.survey_respondent:SurveyRespondent",
    "mirror": "mores.agents.scripted.assistants:Mirror",
    "linear_trend": "mores.agents.scripted.assistants:LinearTrend",
    "persuader": "mores.agents.scripted.assistants:Persuader",
    "silent": "mores.agents.scripted.assistants:Silent",
    "lifelong": "mores.agents.scripted.progressgym:Lifelong",
    "extrapolative": "mores.agents.scripted.progressgym:Extrapolative",
    "vote_extrapolative": "mores.agents.scripted.vote_extrapolation:VoteExtrapolative",
    "static": "mores.agents.scripted.progressgym:Static",
    "persistence": "mores.agents.scripted.progressgym:Persistence",
    "oracle": "mores.agents.scripted.progressgym:Oracle",
    "random": "mores.agents.scripted.uniform_random:UniformRandom",
    "strategy": "mores.agents.scripted.repeated_game:Strategy",
    "per_agent": "mores.agents.composite.per_agent:PerAgentPolicy",
    "imitate_last": "mores.envs.strategic.matrix_game:ImitateLast",
    "truthful_report": "mores.envs.opinion.lock_in:TruthfulReport",
    "fixed_share_principal": "mores.envs.strategic.moral_hazard:FixedSharePrincipal",
    "best_response_agent": "mores.envs.strategic.moral_hazard:BestResponseAgent",
    "customer_first": "mores.envs.strategic.principal_agent_policies:CustomerFirst",
    "principal_first": "mores.envs.strategic.principal_agent_policies:PrincipalFirst",
    "own_disposition": "mores.envs.strategic.principal_agent_policies:OwnDisposition",
    "logit_chooser": "mores.envs.strategic.principal_agent_policies:LogitChooser",
    "feedback_optimum": "mores.envs.strategic.principal_agent_policies:FeedbackOptimum",
    "party_rater": "mores.envs.strategic.principal_agent_policies:PartyRater",
    "threshold_writer": "mores.envs.strategic.welfare_policies:ThresholdWriter",
    "cue_assistant": "mores.envs.strategic.welfare_policies:CueAssistant",
    "welfare_planner": "mores.envs.strategic.welfare_planner:WelfarePlanner",
    "contract_solution": "mores.envs.strategic.contract_games.game:ContractSolution",
    "advocate": "mores.envs.opinion.panel:Advocate",
    "truthful_answer": "mores.envs.opinion.panel:TruthfulAnswer",
    "truthful": "mores.envs.opinion.scripted_policies:Truthful",
    "mean_echo": "mores.envs.opinion.scripted_policies:MeanEcho",
    "random_token": "mores.envs.feedback.random_token_policy:RandomTokenPolicy",
    "honest_assistant": "mores.envs.strategic.biased_users_policies:HonestAssistant",
    "flattering_assistant": "mores.envs.strategic.biased_users_policies:FlatteringAssistant",
    "cue_dependent_assistant": "mores.envs.strategic.biased_users_policies:CueDependentAssistant",
    "dr_mdp_planner": "mores.envs.influence.dr_mdp_planner:DRMDPPlanner",
    "true_label": "mores.envs.oversight.weak_to_strong_policies:TrueLabel",
    "linear_label": "mores.envs.oversight.weak_to_strong_policies:LinearLabel",
}
RECIPES: dict[str, str] = {
    "ppo": "mores.agents.learning.recipes.ppo:PPO",
    "reinforce": "mores.agents.learning.recipes.policy_gradients:REINFORCE",
    "rloo": "mores.agents.learning.recipes.policy_gradients:RLOO",
    "grpo": "mores.agents.learning.recipes.policy_gradients:GRPO",
    "grao": "mores.agents.learning.recipes.policy_gradients:GRAO",
    "expert_iteration": "mores.agents.learning.recipes.expert_iteration:ExpertIteration",
    "online_dpo": "mores.agents.learning.recipes.expert_iteration:OnlineDPO",
    "online_kto": "mores.agents.learning.recipes.online_feedback:OnlineKTO",
    "online_sft": "mores.agents.learning.recipes.online_feedback:OnlineSFT",
    "sft": "mores.agents.learning.recipes.sft:SFT",
    "supervised": "mores.agents.learning.recipes.supervised:Supervised",
    "dpo": "mores.agents.learning.recipes.preferences:DPO",
    "ipo": "mores.agents.learning.recipes.preferences:IPO",
    "simpo": "mores.agents.learning.recipes.preferences:SimPO",
    "cpo": "mores.agents.learning.recipes.preferences:CPO",
    "kto": "mores.agents.learning.recipes.preferences:KTO",
    "cut": "mores.agents.learning.recipes.cut:CUT",
    "dckd": "mores.agents.learning.recipes.distillation:DCKD",
    "adpa": "mores.agents.learning.recipes.distillation:ADPA",
    "alignment_recovery": "mores.agents.learning.recipes.alignment_recovery:AlignmentRecovery",
}
POPULATIONS: dict[str, str] = {
    "normal": "mores.agents.people.normal:NormalPopulation",
    "anes96": "mores.agents.people.anes96:Anes96Population",
    "survey_csv": "mores.agents.people.survey_csv:SurveyCsvPopulation",
}
UPDATE_RULES: dict[str, str] = {
    "degroot": "mores.envs.dynamics.degroot:DeGroot",
    "friedkin_johnsen": "mores.envs.dynamics.friedkin_johnsen:FriedkinJohnsen",
}
GRAPHS: dict[str, str] = {
    "file": "mores.envs.graphs.graph_file:GraphFile",
    "homophily": "mores.envs.graphs.homophily:Homophily",
    "karate_club": "mores.envs.graphs.karate_club:KarateClub",
    "networkx": "mores.envs.graphs.networkx_generator:NetworkxGenerator",
    "permuted": "mores.envs.graphs.homophily:PermutedHomophily",
}
WELFARE_FUNCTIONS: dict[str, str] = {
    "assistant_only": "mores.envs.strategic.welfare_functions:AssistantOnly",
    "user_only": "mores.envs.strategic.welfare_functions:UserOnly",
    "linear": "mores.envs.strategic.welfare_functions:Linear",
    "cobb_douglas": "mores.envs.strategic.welfare_functions:CobbDouglas",
    "minimum": "mores.envs.strategic.welfare_functions:Minimum",
}
CONTRACT_GAMES: dict[str, str] = {
    "cheap_talk": "mores.envs.strategic.contract_games.cheap_talk:CheapTalk",
    "inspection": "mores.envs.strategic.contract_games.inspection:Inspection",
    "limited_commitment": "mores.envs.strategic.moral_hazard:MoralHazard",
    "limited_liability": "mores.envs.strategic.contract_games.limited_liability:LimitedLiability",
    "linear": "mores.envs.strategic.contract_games.linear:Linear",
    "off_switch": "mores.envs.strategic.contract_games.off_switch:OffSwitch",
    "screening": "mores.envs.strategic.contract_games.screening:Screening",
}
CHANNELS: dict[str, str] = {
    "best_option": "mores.agents.channels.choices:BestOption",
    "binary_critique": "mores.agents.channels.critiques:BinaryCritique",
    "boltzmann_choice": "mores.agents.channels.choices:BoltzmannChoice",
    "bradley_terry": "mores.agents.channels.choices:BradleyTerryChoice",
    "demonstration": "mores.agents.channels.demonstrations:SoftmaxDemonstration",
    "noisy_rating": "mores.agents.channels.noisy_rating:NoisyRating",
    "token_critique": "mores.agents.channels.critiques:TokenCritique",
}
METRICS: dict[str, str] = {
    "mean_value": "mores.core.people_statistics:mean_value",
    "rms_distance": "mores.core.people_statistics:rms_distance",
    "group_gap": "mores.core.people_statistics:group_gap",
    "group_means": "mores.metrics.groups:group_means",
    "within_group_rms": "mores.metrics.groups:within_group_rms",
    "eta_squared": "mores.metrics.groups:eta_squared",
    "mean_return": "mores.metrics.returns:MeanReturn",
    "drift": "mores.metrics.drift:drift",
    "displacement": "mores.metrics.drift:displacement",
    "path_length": "mores.metrics.drift:path_length",
    "straightness_index": "mores.metrics.drift:straightness_index",
    "disagreement_half_life": "mores.metrics.drift:disagreement_half_life",
    "wasserstein_from_start": "mores.metrics.distances:wasserstein_from_start",
    "sliced_wasserstein_from_start": "mores.metrics.distances:sliced_wasserstein_from_start",
    "gaussian_wasserstein_from_start": "mores.metrics.distances:gaussian_wasserstein_from_start",
    "energy_distance_from_start": "mores.metrics.distances:energy_distance_from_start",
    "bimodality_coefficient": "mores.metrics.polarization:bimodality_coefficient",
    "esteban_ray_polarization": "mores.metrics.polarization:esteban_ray_polarization",
    "hill_number": "mores.metrics.polarization:hill_number",
    "rao_quadratic_entropy": "mores.metrics.polarization:rao_quadratic_entropy",
}
NETWORKS: dict[str, str] = {
    "mlp": "mores.agents.learning.networks.encoders:MLP",
    "gru": "mores.agents.learning.networks.encoders:GRU",
    "routed_mlp": "mores.agents.learning.networks.routed:RoutedMLP",
    "transformer": "mores.agents.learning.networks.transformer:Transformer",
}
PERSON_PARAMETERS: dict[str, str] = {
    "uniform": "mores.agents.people.distributions:Uniform",
    "normal": "mores.agents.people.distributions:TruncatedNormal",
    "lognormal": "mores.agents.people.distributions:LogNormal",
    "beta": "mores.agents.people.distributions:Beta",
    "by_group": "mores.agents.people.parameters:ByGroup",
    "column": "mores.agents.people.parameters:Column",
    "scaled": "mores.agents.people.parameters:Scaled",
}
HUMANS: dict[str, str] = {
    "fitted": "mores.agents.people.humans:Fitted",
    "idealised": "mores.agents.people.humans:Idealised",
}
TRACKERS: dict[str, str] = {
    "jsonl": "mores.experiments.tracking.json_lines:JSONLinesTracker",
    "mlflow": "mores.experiments.tracking.ml_flow:MLflowTracker",
    "tensorboard": "mores.experiments.tracking.tensor_board:TensorBoardTracker",
    "wandb": "mores.experiments.tracking.weights_and_biases:WandbTracker",
}
FIGURES: dict[str, str] = {
    "profile": "mores.report.figures.profile:Profile",
    "response": "mores.report.figures.response:Response",
    "tradeoff": "mores.report.figures.tradeoff:Tradeoff",
}
