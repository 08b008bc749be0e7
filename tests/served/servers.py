"""Servers on this machine for tests: a stub model, a proxy to a real server, injected faults."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

NAME = "stub-1"


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Response(NamedTuple):
    status: int
    content: bytes
    headers: Mapping[str, str] = {}


Handler = Callable[[Request], Awaitable[Response]]


def json_response(data: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, json.dumps(data).encode(), headers)


class Server:
    """Answers by `handler`, but for each fault in `faults` the next request fails by it.

    reset: the connection is reset; close: it is closed; stall: there is no answer until the client
    leaves; garbage: no JSON; half: half of the answer; half_json: its first half as the whole;
    no_choices, other_model, 429, 500, 401, quota, redirect: such an answer.
    """

    def __init__(self, handler: Handler, faults: Iterable[str] = ()) -> None:
        self.handler, self.faults = handler, deque(faults)
        self.requests: list[Request] = []
        self.in_flight = self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def bodies(self, path: str = "/v1/chat/completions") -> list[Any]:
        return [request.body for request in self.requests if request.path == path]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            self._server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        with contextlib.suppress(*ends):
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    if not await self._answer(request, reader, writer):
                        break
                finally:
                    self.in_flight -= 1
        writer.close()

    async def _answer(self, request: Request, reader: Any, writer: Any) -> bool:
        """Answer a request; whether the connection goes on."""
        fault = self.faults.popleft() if self.faults else ""
        if fault == "stall":
            await reader.read()
            return False
        if fault == "close":
            return False
        if fault == "reset":
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        response = FAULTS[fault]() if fault in FAULTS else await self.handler(request)
        content = response.content
        if fault == "no_choices":
            content = json.dumps({"model": request.body["model"], "choices": []}).encode()
        if fault == "half_json":
            content = content[: len(content) // 2]
        if fault == "other_model":
            content = json.dumps({**json.loads(content), "model": "another-model"}).encode()
        headers = {"content-type": "application/json", **response.headers}
        headers["content-length"] = str(len(content))
        lines = [f"HTTP/1.1 {response.status} x", *(f"{n}: {x}" for n, x in headers.items())]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if fault == "half":
            writer.write(head + content[: len(content) // 2])
            await writer.drain()
            return False
        writer.write(head + content)
        await writer.drain()
        return True


FAULTS: dict[str, Callable[[], Response]] = {
    "garbage": lambda: Response(200, b"<html>\x1b[31m not json \xff"),
    "429": lambda: json_response({"error": {"message": "slow down"}}, 429, **{"retry-after": "0"}),
    "500": lambda: json_response({"error": {"message": "overloaded"}}, 500),
    "401": lambda: json_response({"error": {"message": "wrong key sk-secret"}}, 401),
    "quota": lambda: json_response(
        {"error": {"message": "no money left", "code": "insufficient_quota"}}, 429
    ),
    "redirect": lambda: Response(307, b"", {"location": "http://127.0.0.1:9/v1"}),
}


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    line = (await reader.readline()).decode()
    if not line.strip():
        return None
    method, path, _ = line.split()
    headers = await read_headers(reader)
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, json.loads(content) if content else None)


async def read_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return headers


# --- handlers -------------------------------------------------------------------------------------


async def stub_model(request: Request) -> Response:
    """A reply that its request determines."""
    if request.path == "/v1/models":
        return json_response({"data": [{"id": NAME}]})
    if request.path != "/v1/chat/completions":
        return json_response({"detail": "Not Found"}, 404)
    body = request.body
    if body["model"] != NAME:
        return json_response({"error": {"message": f"no model {body['model']}"}}, 404)
    text = json.dumps([body["messages"], body.get("seed")])
    reply = hashlib.sha256(text.encode()).hexdigest()[:12]
    return json_response(chat_answer(reply, prompt_tokens=len(text) // 4, reply_tokens=3))


def chat_answer(text: str | None, prompt_tokens: int = 10, reply_tokens: int = 3) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": reply_tokens}
    return {"model": NAME, "choices": [{**choice, "finish_reason": "stop"}], "usage": usage}


def proxy_to(port: Callable[[], int]) -> Handler:
    """Passes requests on to a server on a port of this machine; without it, the connection ends."""

    async def handle(request: Request) -> Response:
        reader, writer = await asyncio.open_connection("127.0.0.1", port())
        content = b"" if request.body is None else json.dumps(request.body).encode()
        lines = [
            f"{request.method} {request.path} HTTP/1.1",
            *("host: localhost", "connection: close", "content-type: application/json"),
            f"content-length: {len(content)}",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
        status = int((await reader.readline() or b"x 502").split()[1])
        await read_headers(reader)
        found = await reader.read()
        writer.close()
        return Response(status, found)

    return handle
