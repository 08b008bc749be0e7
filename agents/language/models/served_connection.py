"""HTTP to a server: one thread with an event loop a process, one pool of connections a server.

Calls are made from ordinary code, in scripts, worker processes and notebooks, whose own event loop
is not touched. Keys are read from the environment when a call is sent, go into its header, and are
removed from whatever the server answers, whole or in part; they are in no object that can be
printed or stored. An answer has at most 16 MiB, after decompression.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email.utils
import functools
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError, printable

T = TypeVar("T")
KEY_PLACEHOLDER = "[key]"
KEY_RUN = 8  # characters in a row of a key that are removed from answers
MAX_BYTES = 2**24  # of an answer
_NO_KEY_CHARACTER = re.compile(r"[^!-~]+")
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
        """A text without the key and without runs of 8 of its characters.

        Characters that no key can have, such as blanks and NUL, do not interrupt a run.
        """
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        if not key:
            return text
        length = min(len(key), KEY_RUN)
        compact = _NO_KEY_CHARACTER.sub("", text)
        if len(compact) < length:
            return text
        runs = {key[start : start + length] for start in range(len(key) - length + 1)}
        found = [run for run in runs if run in compact]
        return _without_runs(text, compact, found) if found else text

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


def _without_runs(text: str, compact: str, runs: list[str]) -> str:
    """A text with runs replaced; `compact` is the text without characters that no key can have."""
    is_secret = bytearray(len(compact))
    for run in runs:
        start = compact.find(run)
        while start >= 0:
            is_secret[start : start + len(run)] = b"\1" * len(run)
            start = compact.find(run, start + 1)
    parts, index, inside, between = [], 0, False, ""
    for character in text:
        if not "!" <= character <= "~":
            between += character  # dropped inside a run
            continue
        if is_secret[index]:
            parts.append("" if inside else f"{between}{KEY_PLACEHOLDER}")
        else:
            parts.append(f"{between}{character}")
        inside, between = bool(is_secret[index]), ""
        index += 1
    return "".join(parts) + between


class _BadBody(Exception):
    """A body that is too large or cannot be decompressed."""


async def _read_body(response: Any) -> str:
    """Text of a response that is read as a stream.

    Raises:
        _BadBody: it has more than `MAX_BYTES`, or another encoding than gzip and deflate.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "deflate"):
        raise _BadBody("an answer in an unknown encoding")
    inflate = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += inflate.decompress(chunk, MAX_BYTES + 1 - len(body)) if inflate else chunk
        except zlib.error:
            raise _BadBody("an answer that cannot be decompressed") from None
        if len(body) > MAX_BYTES:
            raise _BadBody(f"an answer of more than {MAX_BYTES:,} bytes")
    return body.decode("utf-8", "replace")


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
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip", **key.header()}
        httpx, failure, response, text = self._httpx, None, None, ""
        try:
            with self._client() as client:
                async with (
                    asyncio.timeout(seconds),
                    client.stream(method, address, content=content, headers=headers) as response,
                ):
                    text = await _read_body(response)
        except _BadBody as error:
            failure = ServerFailure(str(error), computed=True)
        except TimeoutError:
            reason = f"no answer within {seconds:g} seconds"
            failure = ServerFailure(reason, computed=True, timed_out=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            shown = printable(key.remove_from(str(error)), 120) or type(error).__name__
            failure = ServerFailure(f"cannot connect ({shown})")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            shown = printable(key.remove_from(str(error)), 120)
            name = type(error).__name__
            failure = ServerFailure(f"the connection broke ({name}: {shown})", computed=True)
        if failure is not None or response is None:
            raise failure or ServerFailure("no answer")  # no context that holds the request
        if response.status_code != 200:
            raise _status_failure(response, text, key)
        try:
            return key.remove_from_data(json.loads(text))
        except (ValueError, RecursionError):
            shown = printable(key.remove_from(text), 40)
        raise ServerFailure(f"an answer that is not JSON: {shown!r}", computed=True)


def _status_failure(response: Any, text: str, key: ApiKey) -> ServerFailure:
    """The failure that an HTTP status other than 200 means."""
    status, kind = response.status_code, ""
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
