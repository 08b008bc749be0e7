"""HTTP to a server: one thread with an event loop a process, one pool of connections a server.

Calls are made from ordinary code, in scripts, worker processes and notebooks, whose own event loop
is not touched. Keys are read from the environment when a call is sent, go into its header, and are
removed from whatever the server answers; they are in no object that can be printed or stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email.utils
import functools
import json
import os
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError, printable

T = TypeVar("T")
KEY_PLACEHOLDER = "[key]"
RETRIED = frozenset({408, 409, 425, 429})  # and all from 500 on
CONNECT_SECONDS = 10.0


class ServerFailure(Exception):
    """A call that failed.

    Args:
        reason: why, without secrets.
        retry: whether the same call can succeed later.
        retry_after: seconds after which the server wants the next call.
        computed: whether the server may have computed an answer, and charge it.
        timed_out: whether the time limit passed.
        status: HTTP status; 0 without one.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry: bool = True,
        retry_after: float | None = None,
        computed: bool = False,
        timed_out: bool = False,
        status: int = 0,
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.retry_after = reason, retry, retry_after
        self.computed, self.timed_out, self.status = computed, timed_out, status


@dataclasses.dataclass(frozen=True)
class ApiKey:
    """Name of the environment variable that holds a key; empty: there is none."""

    variable: str

    def read(self) -> str:
        """The key.

        Raises:
            UserError: the variable is not set, or is no key. The message does not show it.
        """
        if not self.variable:
            return ""
        key = os.environ.get(self.variable, "").strip()
        if not key:
            raise UserError(
                f"the environment variable {self.variable} is not set: it holds the server's key",
                code="missing",
                path="api_key_env",
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UserError(
                f"the environment variable {self.variable} does not hold a key: it has blanks or "
                "characters that no header can have",
                code="invalid_value",
                path="api_key_env",
            )
        return key

    def header(self) -> dict[str, str]:
        """The header that authorizes a call."""
        key = self.read()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def remove_from(self, text: str) -> str:
        """A text without the key, should it contain it."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        return text.replace(key, KEY_PLACEHOLDER) if key else text

    def remove_from_data(self, data: Any) -> Any:
        """JSON data without the key, should a text in it contain it."""
        match data:
            case str():
                return self.remove_from(data)
            case list():
                return [self.remove_from_data(each) for each in data]
            case dict():
                return {
                    self.remove_from(name): self.remove_from_data(x) for name, x in data.items()
                }
            case _:
                return data


class Connection:
    """The connections to one server, and the places of calls in flight.

    Each place has an httpx client with one connection: the pool of a single client takes a time
    that grows with the square of its connections (httpcore 1.0), 6 ms a call with 64.

    Args:
        url: base address, up to and with `/v1`.
        concurrency: largest number of calls in flight.
    """

    def __init__(self, url: str, concurrency: int) -> None:
        httpx = import_optional("httpx", "llm")
        self.url, self._httpx = url, httpx
        self.places = asyncio.Semaphore(concurrency)
        secure = url.startswith("https://")
        self._ssl_context = httpx.create_ssl_context(verify=secure)
        self._free: list[Any] = []

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """A client that no other call uses, most recently used first."""
        # Redirects are not followed: they could carry keys and texts elsewhere.
        client = (
            self._free.pop()
            if self._free
            else self._httpx.AsyncClient(
                timeout=self._httpx.Timeout(None, connect=CONNECT_SECONDS),
                verify=self._ssl_context,
            )
        )
        try:
            yield client
        finally:
            self._free.append(client)

    async def send(
        self, method: str, address: str, body: Mapping[str, Any], key: ApiKey, seconds: float
    ) -> Any:
        """The JSON that a server answers.

        Args:
            method: GET or POST.
            address: absolute address.
            body: JSON of the request; not sent by GET.
            key: of the server.
            seconds: time limit of the whole call.

        Raises:
            ServerFailure: the call failed.
        """
        content = None if method == "GET" else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **key.header()}
        httpx, failure, response = self._httpx, None, None
        try:
            with self._client() as client:
                async with asyncio.timeout(seconds):
                    response = await client.request(
                        method, address, content=content, headers=headers
                    )
        except TimeoutError:
            reason = f"no answer within {seconds:g} seconds"
            failure = ServerFailure(reason, computed=True, timed_out=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            text = printable(key.remove_from(str(error)), 120) or type(error).__name__
            failure = ServerFailure(f"cannot connect ({text})")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            text = printable(key.remove_from(str(error)), 120)
            name = type(error).__name__
            failure = ServerFailure(f"the connection broke ({name}: {text})", computed=True)
        if failure is not None or response is None:
            raise failure or ServerFailure("no answer")  # no context that holds the request
        if response.status_code != 200:
            raise _status_failure(response, key)
        try:
            return key.remove_from_data(json.loads(response.text))
        except (ValueError, RecursionError):
            shown = printable(key.remove_from(response.text), 40)
        raise ServerFailure(f"an answer that is not JSON: {shown!r}", computed=True)


def _status_failure(response: Any, key: ApiKey) -> ServerFailure:
    """The failure that an HTTP status other than 200 means."""
    status = response.status_code
    text, kind = response.text, ""
    try:
        data = json.loads(text)
        error = data.get("error", data)
        if isinstance(error, dict):
            kind = str(error.get("code") or "")
            text = str(error.get("message") or error.get("detail") or text)
        else:
            text = str(error)
    except (ValueError, AttributeError, RecursionError):
        pass
    reason = f"status {status}"
    if status in (401, 403):  # some servers quote the key in part
        return ServerFailure(f"{reason}: the key is missing or wrong", retry=False, status=status)
    if text.strip():
        reason += f" ({printable(key.remove_from(text.strip()), 160)})"
    retry = (status in RETRIED or status >= 500) and kind != "insufficient_quota"
    after = _retry_after(response.headers.get("retry-after"))
    return ServerFailure(reason, retry=retry, retry_after=after, status=status)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


# --- one event loop and pool a process ------------------------------------------------------------


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, computed in the thread of this process that has the event loop."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _event_loop(os.getpid()))
    try:
        return future.result()
    except BaseException:  # an interrupt of the user's: no call goes on unseen
        future.cancel()
        raise


@functools.cache
def _event_loop(process: int) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="mores-served", daemon=True).start()
    return loop


_connections: dict[tuple[int, str], tuple[int, Connection]] = {}
_lock = threading.Lock()


def connection_to(url: str, concurrency: int) -> Connection:
    """The connection of this process to a server; the concurrency stated last counts."""
    with _lock:
        key = os.getpid(), url
        if key not in _connections:
            _connections[key] = concurrency, Connection(url, concurrency)
        before, connection = _connections[key]
        if before != concurrency:
            connection.places = asyncio.Semaphore(concurrency)
            _connections[key] = concurrency, connection
        return connection
