"""Wall time of 200 agents with a served model, over the least that concurrency allows.

A server on this machine answers each call after 50 ms. With c calls in flight, n calls take at
least ceil(n / c) * 50 ms. Server and client share the cores. The minimum over the repeats counts:
other processes on the machine only add time.

    python benchmarks/language_served.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from mores.agents.language.language_model import GenerateRequest, Message
from mores.agents.language.models.served import ServedModel

MODEL = "stub"
ANSWER = json.dumps(
    {
        "model": MODEL,
        "choices": [{"message": {"content": "I agree."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 4},
    }
).encode()
HEAD = f"HTTP/1.1 200 OK\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()


class ServedTime(NamedTuple):
    """Wall time of one phase.

    Attributes:
        concurrency: calls in flight.
        limit: least time, in seconds.
        seconds: measured time, minimum over the repeats.
        ratio: measured over least.
        ratios: of all repeats.
    """

    concurrency: int
    limit: float
    seconds: float
    ratio: float
    ratios: list[float]


def serve(delay: float, port: Connection) -> None:
    """Answer every request after a delay, in a process of its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(delay)
            writer.write(HEAD + ANSWER)

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def served(
    agents: int = 200,
    concurrencies: tuple[int, ...] = (8, 16, 32),
    repeats: int = 7,
    delay: float = 0.05,
) -> list[ServedTime]:
    """Times of a phase in which all agents reply once.

    Args:
        agents: number of calls of a phase.
        concurrencies: numbers of calls in flight.
        repeats: number of phases at each.
        delay: seconds that the server takes for a call.
    """
    own, other = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(delay, other), daemon=True
    )
    process.start()
    url = f"http://127.0.0.1:{own.recv()}"
    found = []
    try:
        for concurrency in concurrencies:
            engine = ServedModel(url=url, model=MODEL, concurrency=concurrency).engine()
            requests = [
                GenerateRequest(
                    (
                        Message("system", "You take part in a survey. " * 8),
                        Message("user", f"Agent {agent}: do you agree? Answer in one sentence."),
                    ),
                    max_new_tokens=16,
                    address=f"agent {agent}",
                )
                for agent in range(agents)
            ]
            engine.generate(requests[:concurrency], None)  # connects
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                engine.generate(requests, None)
                times.append(time.perf_counter() - start)
            limit = math.ceil(agents / concurrency) * delay
            least = min(times)
            ratios = [round(seconds / limit, 3) for seconds in times]
            found.append(ServedTime(concurrency, limit, least, least / limit, ratios))
    finally:
        process.kill()
    return found


def results() -> list[dict[str, Any]]:
    """The times, for a file of results."""
    return [each._asdict() for each in served()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    for each in served(repeats=parser.parse_args().repeats):
        print(
            f"{each.concurrency:3d} calls in flight: {each.seconds:.3f} s, "
            f"{each.ratio:.2f} times the least {each.limit:.2f} s (all repeats: {each.ratios})"
        )
