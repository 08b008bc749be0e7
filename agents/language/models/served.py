"""Language models behind OpenAI-compatible servers: vLLM, SGLang, `transformers serve`, paid APIs.

    model: {kind: served, url: "http://127.0.0.1:8000/v1", model: Qwen/Qwen3-8B}
    model: {kind: served, url: "https://api.openai.com/v1", model: gpt-4.1-mini,
            api_key_env: OPENAI_API_KEY, price_per_million_input: .4,
            price_per_million_output: 1.6, max_cost: 5, mode: record, store: replies.sqlite}

`docs/how-to/language_models.md` has example configurations; `served_calls` says how replies are
stored.
"""

from __future__ import annotations

import functools
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from mores.agents.language.language_model import GenerateRequest, LanguageModel, ScoreRequest
from mores.agents.language.models.served_budget import Amount, Budget, Prices
from mores.agents.language.models.served_calls import Caller, Mode
from mores.agents.language.models.served_connection import ApiKey
from mores.agents.language.models.served_engine import Sampling, ServedEngine
from mores.agents.language.models.served_limits import RateLimit
from mores.agents.language.models.served_retries import RetryRule
from mores.agents.language.models.served_scoring import Scoring
from mores.agents.language.models.served_store import store_at
from mores.core.errors import ParameterError

# Names of environment variables, in capitals; an API key entered by mistake usually does not match.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_RESERVED = frozenset(
    {"model", "messages", "prompt", "seed", "stop", "stream", "n", "temperature", "logprobs"}
    | {"top_logprobs", "max_tokens", "max_completion_tokens", "echo"}
)


class ServedModel(LanguageModel):
    """A model behind a server; sampled tokens cannot use the common random numbers of the arms."""

    model_config = ConfigDict(hide_input_in_errors=True)  # an address could hold a password
    tags: ClassVar[Mapping[str, object]] = {"served": True}
    couples: ClassVar[bool] = False

    url: str = Field(
        description="address of the server; without a path, /v1 is appended; the name of a model "
        "may follow after #"
    )
    model: str = Field(
        default="", max_length=500, description="name of the model; empty: the server's only one"
    )
    api_key_env: str = Field(
        default="", description="environment variable that holds the key; empty: no key is sent"
    )
    concurrency: int = Field(
        default=32, ge=1, le=4096, description="maximum concurrent requests per process"
    )
    requests_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="maximum requests per minute, of all processes that share the store",
    )
    tokens_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="maximum tokens per minute, of all processes that share the store",
    )
    timeout: float = Field(
        default=120.0, gt=0, le=86400, description="time limit of a request, seconds"
    )
    max_retries: int = Field(default=6, ge=0, le=100, description="repetitions of a failed request")
    retry_delay: float = Field(
        default=1.0, ge=0, le=60, description="seconds before the first repetition"
    )
    mode: Mode = Field(
        default="live",
        description="live: replies are computed; record: replies are computed and stored; replay: "
        "only stored replies are used",
    )
    cache: Literal["off", "on"] = Field(
        default="off", description="whether arms and runs share stored replies to equal requests"
    )
    store: str = Field(default="", description="file of stored replies, spending and request times")
    price_per_million_input: float = Field(
        default=0.0, ge=0, description="price of a million prompt tokens"
    )
    price_per_million_output: float = Field(
        default=0.0, ge=0, description="price of a million reply tokens"
    )
    # A budget holds for all that was ever spent on this model and address, as its store has it.
    max_cost: float | None = Field(
        default=None,
        ge=0,
        description="budget in the currency of the prices, of all runs that share the store; "
        "without a store, of a process",
    )
    max_requests: int | None = Field(
        default=None, ge=0, description="budget of requests sent; scope: as of max_cost"
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        description="budget of prompt and reply tokens together; scope: as of max_cost",
    )
    scoring: Scoring = Field(
        default="auto",
        description="how given replies are scored. prompt: the server returns the log-probability "
        "of each token of a text; next_token: of the most likely next tokens, for replies of one "
        "token; auto: the first of the two that the server supports",
    )
    top_logprobs: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="number of most likely tokens requested per position",
    )
    tokenizer: str = Field(
        default="", description="folder of the model's tokenizer; empty: tokens are estimated"
    )
    limit_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="parameter of the request that limits a reply"
    )
    send_seed: bool = Field(
        default=True, description="whether a seed is sent with each sampled reply"
    )
    extra_body: Mapping[str, Any] = Field(
        default={}, description="further parameters of requests, such as top_p"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_after_address(cls, data: Any) -> Any:
        """`url#name` names a server and a model in one string."""
        if not isinstance(data, Mapping) or not isinstance(data.get("url"), str):
            return data
        url, _, name = data["url"].partition("#")
        if not name:
            return data
        if data.get("model"):
            message = "the model is named twice: after # in url, and as model"
            raise ParameterError("model", message=message, code="conflict")
        return {**data, "url": url, "model": name}

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        """The address without / at its end, with /v1 if it has no path.

        Refuses what is no address, and secrets in it. No message shows the address.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, is_address = urllib.parse.urlsplit(""), False
        if not is_address or parts.scheme not in ("http", "https") or not url.isprintable():
            message = "must be the address of a server, such as http://127.0.0.1:8000/v1"
            raise ParameterError(message=message)
        if "@" in parts.netloc or parts.query:
            message = "must hold no user, password or parameters: name the environment variable "
            message += "of the key as api_key_env"
            raise ParameterError(message=message)
        return url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"

    @field_validator("api_key_env")
    @classmethod
    def _check_variable(cls, name: str) -> str:
        if name and not _VARIABLE.fullmatch(name):
            message = "must be the name of an environment variable in capitals, such as "
            message += "OPENAI_API_KEY, and not a key"
            raise ParameterError(message=message)
        return name

    @field_validator("extra_body")
    @classmethod
    def _check_extra(cls, extra: Mapping[str, Any]) -> Mapping[str, Any]:
        if taken := sorted(_RESERVED & set(extra)):
            message = f"{taken[0]} is set by mores"
            raise ParameterError(taken[0], message=message, code="conflict")
        return extra

    @model_validator(mode="after")
    def _check_store(self) -> ServedModel:
        if not self.store and (self.mode != "live" or self.cache == "on"):
            message = "replies are kept in a file: name one"
            raise ParameterError("store", message=message, code="missing")
        return self

    def engine(self) -> ServedEngine:
        """See `LanguageModel`. Connections are made with the first call."""
        return _engine(os.getpid(), type(self), self.model_dump_json())

    def identity(self) -> Mapping[str, str]:
        """The server and the name of the model; weights behind a name can change without notice."""
        return {"server": self.url, "model": self.model}

    def estimate(self, requests: Sequence[GenerateRequest | ScoreRequest]) -> Amount:
        """Calls, tokens and cost of requests, before they are made; nothing is sent."""
        return self.engine().estimate(requests)

    def connect(self) -> ServedEngine:
        """A new engine."""
        caller = Caller(
            url=self.url,
            key=ApiKey(self.api_key_env),
            store=store_at(self.store),
            mode=self.mode,
            share=self.cache == "on",
            budget=Budget(self.max_cost, self.max_requests, self.max_tokens),
            prices=Prices(self.price_per_million_input, self.price_per_million_output),
            rate=RateLimit(self.requests_per_minute, self.tokens_per_minute),
            retries=RetryRule(self.max_retries, self.retry_delay),
            seconds=self.timeout,
            concurrency=self.concurrency,
            ledger_name=f"{self.model} at {self.url}",
        )
        sampling = Sampling(self.limit_name, self.send_seed, dict(self.extra_body))
        return ServedEngine(
            caller, self.model, sampling, self.scoring, self.tokenizer, self.top_logprobs
        )


# A process has an engine of its own, a forked one too: connections and locks cannot be shared.
@functools.cache
def _engine(process: int, model_class: type[ServedModel], data: str) -> ServedEngine:
    return model_class.model_validate_json(data).connect()
