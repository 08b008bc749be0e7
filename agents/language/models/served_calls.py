"""Calls to a server: stored replies, budget, pace, repetitions, and the check of the answer.

All calls of a phase run concurrently. When one has failed for good, calls that have not started do
not start, calls in flight are finished and stored, and the first failure is raised: whatever was
answered is there when the run is resumed.

Kept replies. The key of a reply is the SHA-256 of its request: endpoint, name of the model, texts,
parameters, seed, the address of the draw, and the cell of the run. Neither the address of the
server nor its key are part of it. With the address, two agents with equal prompts have two replies;
with the cell, so have two arms. `share` leaves out the cell: arms with equal prompts at equal
addresses then get the same reply, so that a comparison of two equal arms shows nothing about the
model.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from mores.agents.language.models.served_answers import OtherModel, UnusableAnswer
from mores.agents.language.models.served_budget import Amount, Budget, Prices
from mores.agents.language.models.served_connection import (
    ApiKey,
    ServerFailure,
    connection_to,
    run,
)
from mores.agents.language.models.served_limits import Pace, RateLimit
from mores.agents.language.models.served_retries import LONGEST_PAUSE_SECONDS, RetryRule, time_limit
from mores.agents.language.models.served_store import ReplyStore, canonical_json
from mores.core.current_cell import current_cell
from mores.core.errors import UserError, printable

Mode = Literal["live", "record", "replay"]
Answer = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """A call to an endpoint.

    Attributes:
        path: of the endpoint, below the base address; from the root if it begins with "/".
        body: JSON of the request; `None`: the call is a GET.
        parse: what is kept of the answer, as JSON; raises `UnusableAnswer` or `OtherModel`.
        address: address of the draw.
        prompt_tokens: tokens of the conversation at most.
        reply_tokens: tokens of the reply at most.
        estimated_tokens: tokens of both, for the rate.
        optional: whether the server may lack the endpoint: a refusal is then an answer, `None`, and
            so is status 501, or 500 after the last repetition.
        is_same_in_cells: whether the answer is a property of the server, and not of a cell.
    """

    path: str
    body: Mapping[str, Any] | None
    parse: Callable[[Any], Answer]
    address: str = ""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    estimated_tokens: int = 0
    optional: bool = False
    is_same_in_cells: bool = False


class _Stopped(Exception):
    """Another call of the phase has failed."""


class Ledger:
    """What was spent on a model, and the advances of this process's calls in flight."""

    def __init__(self, store: ReplyStore, name: str) -> None:
        self.store, self.name = store, name
        self.advances = 0
        self.settled = asyncio.Event()


@functools.cache
def _ledger(process: int, store: ReplyStore, name: str) -> Ledger:
    return Ledger(store, name)


@dataclasses.dataclass
class Caller:
    """Makes calls to one server.

    Attributes:
        url: base address of the server.
        key: its key.
        store: kept replies, spending and pace.
        mode: live: every call is sent, unless `share`; record: a call is sent unless its reply is
            kept, and kept; replay: no call is sent.
        share: whether replies are kept, and shared by all cells.
        budget: limits of what is spent.
        prices: of tokens.
        rate: limits of the pace.
        retries: when failed calls are repeated.
        seconds: time limit of a call.
        concurrency: largest number of calls in flight.
        num_retries: repeated calls, so far.
        num_kept: calls answered by kept replies, so far.
    """

    url: str
    key: ApiKey
    store: ReplyStore
    mode: Mode
    share: bool
    budget: Budget
    prices: Prices
    rate: RateLimit
    retries: RetryRule
    seconds: float
    concurrency: int
    ledger_name: str
    num_retries: int = 0
    num_kept: int = 0

    def __post_init__(self) -> None:
        self.pace = Pace(self.store, self.url, self.rate)

    @property
    def keeps(self) -> bool:
        """Whether replies are kept."""
        return self.share or self.mode != "live"

    def __call__(self, calls: Sequence[Call]) -> list[Answer | None]:
        """The answers, in order.

        Raises:
            UserError: a call failed for good, the budget is spent, or a recording lacks a reply.
        """
        cell = "" if self.share else current_cell()
        return run(self._all(calls, cell))

    async def wait(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait, or less if the phase stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        _check_going_on(stop)

    async def _all(self, calls: Sequence[Call], cell: str) -> list[Answer | None]:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._answer(call, cell, stop)) for call in calls]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        failures = [each for each in answers if isinstance(each, BaseException)]
        for failure in failures:
            if not isinstance(failure, _Stopped):
                raise failure
        return [each for each in answers if not isinstance(each, BaseException)]

    async def _answer(self, call: Call, cell: str, stop: asyncio.Event) -> Answer | None:
        request = canonical_json({"path": call.path, "body": call.body, "address": call.address})
        cell = "" if call.is_same_in_cells else cell
        key = hashlib.sha256(f"{cell}\n{request}".encode()).hexdigest()
        try:
            if self.keeps:
                kept = self.store.get(key)
                if kept is not None:
                    self.num_kept += 1
                    return kept["answer"]
            if self.mode == "replay":
                raise self._not_recorded(call)
            self.key.read()  # a missing key is no failure of the server
            async with connection_to(self.url, self.concurrency).places:
                answer = await self._repeat(call, key, stop)
            if self.keeps:
                kept = self.store.put(key, cell, call.address, request, {"answer": answer})
                return kept["answer"]
            return answer
        except BaseException:
            stop.set()
            raise

    async def _repeat(self, call: Call, key: str, stop: asyncio.Event) -> Answer | None:
        """The answer to a call, which is repeated if it fails."""
        repetition = time_outs = 0
        while True:
            _check_going_on(stop)
            try:
                return await self._attempt(call, time_limit(self.seconds, time_outs), stop)
            except ServerFailure as error:
                failure = error
            if call.optional and not failure.retry and failure.status not in (401, 403):
                return None
            if call.optional and (
                failure.status == 501
                or (failure.status == 500 and repetition == self.retries.max_retries)
            ):
                return None  # how some servers answer to parameters that they do not know
            if not failure.retry:
                raise UserError(
                    f"the server {self.url} refused a request: {failure.reason}",
                    code="server_refused",
                    path="model",
                )
            if repetition == self.retries.max_retries:
                raise UserError(
                    f"the server {self.url} failed: {failure.reason}, after "
                    f"{repetition} repetitions; a run can be resumed when the server works",
                    code="server_failed",
                    path="model",
                )
            if failure.retry_after is not None and failure.retry_after > LONGEST_PAUSE_SECONDS:
                raise UserError(
                    f"the server {self.url} asks for a pause of {failure.retry_after:.0f} seconds: "
                    f"{failure.reason}; no run waits longer than {LONGEST_PAUSE_SECONDS:.0f}: it "
                    "can be resumed then",
                    code="server_failed",
                    path="model",
                )
            time_outs += failure.timed_out
            if failure.retry_after is not None:
                self.pace.pause(failure.retry_after)
            delay = self.retries.delay(key, repetition, failure.retry_after)
            repetition += 1
            self.num_retries += 1
            await self.wait(delay, stop)

    async def _attempt(self, call: Call, seconds: float, stop: asyncio.Event) -> Answer:
        """The answer to a call that is sent once."""
        advance = self.prices.amount(1, call.prompt_tokens, call.reply_tokens)
        ledger = await self._pay(advance, stop)
        used = advance  # if the call ends without an answer
        try:
            delay = self.pace.wait(call.estimated_tokens)
            if delay:
                used = Amount()
                await self.wait(delay, stop)
                used = advance
            method = "GET" if call.body is None else "POST"
            base = self.url.removesuffix("/v1") if call.path.startswith("/") else f"{self.url}/"
            data = await connection_to(self.url, self.concurrency).send(
                method, base + call.path, call.body or {}, self.key, seconds
            )
            try:
                answer = call.parse(data)
            except UnusableAnswer as error:
                reason = f"an answer that cannot be used: {printable(error, 120)}"
                raise ServerFailure(reason, computed=True) from None
            except OtherModel as error:
                raise UserError(
                    f"the server {self.url} answered with the model {printable(error.given, 60)!r}"
                    f", not with {printable(error.asked, 60)!r}",
                    code="other_model",
                    path="model",
                ) from None
            for name in ("prompt_tokens", "reply_tokens"):
                if answer.get(name) is None:  # not stated, or not plausible
                    answer[name] = getattr(call, name)
            used = self.prices.amount(1, answer["prompt_tokens"], answer["reply_tokens"])
            return answer
        except ServerFailure as failure:
            used = advance if failure.computed else Amount(requests=1)
            raise
        finally:
            self.store.spend(ledger.name, used - advance)
            ledger.advances -= 1
            ledger.settled.set()

    async def _pay(self, advance: Amount, stop: asyncio.Event) -> Ledger:
        """Pay a call in advance; wait for calls in flight where their advances are in the way."""
        ledger = _ledger(os.getpid(), self.store, self.ledger_name)
        while True:
            _check_going_on(stop)  # the call that was waited for may have failed
            reason = self.store.spend(ledger.name, advance, self.budget.reason_against)
            if not reason:
                ledger.advances += 1
                return ledger
            if not ledger.advances:
                spent = self.store.spent(ledger.name)
                raise UserError(
                    f"the next call could pass {reason}: {spent.requests} requests, "
                    f"{spent.prompt_tokens + spent.reply_tokens} tokens and a cost of "
                    f"{spent.cost:.6g} are spent; a new run with a larger budget and the same "
                    "store does not pay for kept replies again",
                    code="budget",
                    path="model",
                )
            ledger.settled.clear()
            await ledger.settled.wait()

    def _not_recorded(self, call: Call) -> UserError:
        where = f" at {printable(call.address, 120)}" if call.address else ""
        return UserError(
            f"the recording {self.store.path} has no reply to a request{where}: prompt, model, "
            f"parameters or arm differ from those recorded ({len(self.store)} replies)",
            code="not_recorded",
            path="store",
        )


def _check_going_on(stop: asyncio.Event) -> None:
    if stop.is_set():
        raise _Stopped
