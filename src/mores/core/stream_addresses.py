"""Names in the addresses of random streams. They must not change.

The address of a stream is a path such as `/player/person/answer/slip`: scopes, names of roles and
phases, and the name of the stream. Its bytes select the random numbers (`random_streams`), so that
a changed name changes results. If code is renamed, the address is not: a constant below has the
current name, and its value is an earlier name.
`tests/test_stream_addresses.py` checks that every name which the package gives to a stream is in
`ADDRESSES`.

Names of roles and phases, of layers (`weights/policy.0`) and of a policy's agents (`seats 0`) are
parts of addresses as well.
"""

from __future__ import annotations

from collections.abc import Mapping

# Scopes of the simulator and of offline training.
EPISODE_START = "start"
POPULATION = "people"
ENVIRONMENT = "game"
POLICY = "player"
UPDATE = "learner"
OFFLINE = "fit"

# Streams of environments.
RELATIVE_VOLATILITY = "restlessness"
INITIAL_RESIDUAL = "first temporary"
RESIDUAL = "temporary"
CANDIDATES = "met"
HOMOPHILY = "liked"
PERMUTATION = "place"
GRAPH_SEED = "graph seed"
CONTINUATION = "another round"
OUTPUT_NOISE = "luck"
TERMINATION = "quit"
PREFERENCE = "taste"
SUSCEPTIBLE = "takes"
SHARED_UTILITY = "shared taste"
TOKEN_UTILITY = "taste"
INAPPROPRIATE = "harm"
PROMPT = "request"
CRITIQUE = "judgement"
OTHER_TOKEN = "other word"
RANDOM_COMPLETION = "rewarded tokens"
INITIAL_PAIR = "first"
TASK = "requests"

# Streams of policies and populations.
RANDOM_OPTION = "any option"
EXPLORATION = "slips"
TOKEN = "word"
SAMPLE_ORDER = "seat"
JITTER = "spread"
COMPONENT = "camp"
BOUNDED_ACTION = "point"
UNBOUNDED_ACTION = "free point"

# Layers of encoders: current name, and name in addresses.
_ENCODERS = ("policy", "critic")
_LAYERS = {
    "input_gates": "seen",
    "hidden_gates": "past",
    "qkv_proj": "attend",
    "out_proj": "mix",
    "linear1": "up",
    "linear2": "down",
    "position_embedding": "place",
    "norm1": "first",
    "norm2": "second",
    "norm": "last",
}
_NORM_PARAMETERS = {"weight": "gain", "bias": "offset"}


def parameter_address(name: str) -> str:
    """Name of a layer or parameter in addresses: `policy.seen` for `policy.input_gates`.

    Only layers of encoders have another name there than in code.
    """
    encoder, *path = name.split(".")
    if encoder not in _ENCODERS or not path:
        return name
    if len(path) > 1 and path[-2] in ("norm1", "norm2", "norm"):
        path[-1] = _NORM_PARAMETERS.get(path[-1], path[-1])
    return ".".join([encoder, *(_LAYERS.get(part, part) for part in path)])


ADDRESSES: Mapping[str, str] = {
    EPISODE_START: "scope: initial state of an episode",
    POPULATION: "scope: the population",
    ENVIRONMENT: "scope: the environment",
    POLICY: "scope: a policy, then role and phase",
    UPDATE: "scope: online updates of a learner, then role",
    OFFLINE: "scope: offline training, then role",
    "rule": "scope: the update rule of people's values",
    "cohort": "scope: generations (cohorts)",
    "newcomer": "scope: a newcomer's trait state",
    "person": "scope: trait states of people",
    "teacher": "scope: the teacher of distillation",
    "imitate": "scope: the teacher's imitation stage",
    "prefer": "scope: the teacher's preference stage",
    "epoch": "scope: an epoch of an update, with its number",
    "part": "scope: a minibatch, with its number",
    "token": "Gumbel noise of a token of a reply, then the call of the engine and the position",
    "replies": "scope: replies of a language model, then train or eval",
    "seats": "scope: a member of `per_agent`, with its number",
    "parameter": "scope: a parameter that differs between people, then its path",
    "quantile": "quantile of a person in the distribution of a parameter",
    "channel": "scope: a channel of a user's own, then its field",
    INITIAL_PAIR: "scope: the first pair of options",
    TASK: "scope: the task of `token_feedback` or `weak_to_strong`",
    RELATIVE_VOLATILITY: "relative volatility of a person",
    INITIAL_RESIDUAL: "initial state residual",
    RESIDUAL: "innovation of the state residual",
    "disposition": "dispositions, and their innovations",
    "values": "initial values",
    "noise": "noise of values in a round",
    "reference": "noise of history",
    "born": "which people a newcomer replaces",
    "parent": "parent of a newcomer",
    "mutation": "deviation of a newcomer from the parent",
    CANDIDATES: "candidates for neighbors",
    HOMOPHILY: "Gumbel noise of the choice of neighbors",
    PERMUTATION: "permutation of people on the graph",
    GRAPH_SEED: "seed of a random graph",
    "mesa_seed": "seed of a user's Mesa model",
    "truth": "the true value",
    "evidence": "noise of private evidence",
    "held-out tasks": "scope: tasks of an exact evaluation",
    "ideal point": "ideal points of principals and of an agent",
    "attributes": "attributes of products",
    "price": "prices of products",
    "budget": "budgets of customers",
    "product order": "random order of the products of a catalogue",
    "task class": "class of a task",
    "visibility": "who sees act and rationale",
    "unparsable": "whether an answer is unparsable",
    "audit": "whether a principal audits",
    "random answer": "answer in place of the agent's that is rated",
    "treated": "assignment to treatment",
    "stated belief": "which people of a survey are told which belief",
    "start": "initial preferences",
    PREFERENCE: "next preferences; utility of tokens for one principal",
    SUSCEPTIBLE: "whether influence succeeds",
    "pair": "options of a pair",
    "prompt order": "random order of the prompts of a table",
    "rater": "whether the rater of a pair of replies is biased",
    "reply pair": "the two candidate replies of a pair of agents",
    "compared replies": "the two replies that a pair of agents chooses",
    SHARED_UTILITY: "utility of tokens that principals share",
    INAPPROPRIATE: "inappropriateness of tokens",
    PROMPT: "prompt features",
    "preference": "true preference between two completions",
    "annotator": "annotator of a pair",
    "error": "annotation errors",
    CRITIQUE: "errors of critiques",
    "principal": "principal of a demonstration",
    "demonstration": "Gumbel noise of demonstrations",
    "slip": "errors: of demonstrations, of strategies",
    OTHER_TOKEN: "token in place of a demonstrated one",
    RANDOM_COMPLETION: "tokens of a random completion whose reward is given",
    "biased": "whether a person is a biased rater",
    "claim": "claims on held-out items",
    "claim error": "whether a claim is wrong",
    "answer order": "order of the answers of an item",
    "features": "noise of the features of a context",
    "cue": "noise of the cue of a person's type",
    "cue shown": "whether the cue is shown",
    "domain": "domain of a conversation",
    "code": "code of the features of a domain",
    "corpus reply": "kind of a demonstrated reply",
    "fabrication": "answer that a demonstrated reply makes up",
    "requested words": "set of words of a request",
    "question order": "random order of the questions of a survey",
    "rated reply": "random reply that is rated in place of the own one",
    "cost": "effort cost",
    "ability": "maximal effort",
    OUTPUT_NOISE: "noise of output",
    TERMINATION: "termination of moral hazard",
    "agent type": "risk aversion, cost and noise of an agent with linear contracts",
    "outside option": "value of an agent's outside option",
    "random reward": "rewards without information",
    "tremble": "trembles of actions",
    CONTINUATION: "continuation of a repeated game",
    "mode": "whether a run of a control protocol is an attack run",
    "calibration": "quantile of a calibrated threshold",
    "class": "class of a task",
    "score": "noise of a suspicion score",
    "monitor reference": "evidence on honest work with which a monitor's scores are compared",
    "scored": "whether a monitor is rewarded on a task",
    "collusion": "whether an untrusted monitor lets an attack pass",
    "route": "action of a protocol that randomizes",
    "detection": "whether an audit finds an attack",
    "edit": "whether an edit removes an attack",
    "side task": "success of an attack",
    "main task": "success of a main task",
    "answer": "answer noise",
    "choice": "Gumbel noise of a choice",
    "other": "another option than the chosen one",
    "rating": "noise of ratings",
    "flip": "flipped choices",
    "respondent": "resampled respondents",
    SAMPLE_ORDER: "order of respondents",
    JITTER: "jitter of survey answers, then the dimension",
    COMPONENT: "component of a mixture",
    "act": "actions of strategies and learners",
    "option": "uniform random options",
    BOUNDED_ACTION: "uniform random points of a bounded space",
    UNBOUNDED_ACTION: "normal random points of an unbounded space",
    RANDOM_OPTION: "options of an exploring imitator",
    EXPLORATION: "whether an imitator explores",
    TOKEN: "uniform random tokens",
    "candidates": "Gumbel noise of search candidates",
    "weights": "initial weights, then the layer",
    "restored": "random weights to restore, then the parameter",
    "order": "order of samples in an update",
    "heard": "order in which people's messages are read, and which of many",
    "item": "features of items to be judged",
    "test item": "features of held-out items",
    "direction": "directions of concepts in the space of features",
    "topic": "weights of concepts in topics, harmlessness and helpfulness",
    "label": "labels by fair coins",
    "principals": "order of principals in a gradient projection",
}
