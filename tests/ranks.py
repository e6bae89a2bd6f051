"""Work done on several ranks: one forked process each, told its place as a cluster would."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

LIMIT_S = 120.0


def on_ranks(work: Callable[[], Any], ranks: int = 2) -> list[Any]:
    """Do ``work`` on each of ``ranks`` processes, and return what each has returned.

    Raises:
        RuntimeError: If it fails on a rank, or takes longer than two minutes; the others are ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
    processes = [
        context.Process(target=_one, args=(work, rank, ranks, port, pipes[rank][1]))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    try:
        return _answers([receiving for receiving, _ in pipes])
    finally:
        for process in processes:
            process.join(5.0)
            process.kill()


def _one(work: Callable[[], Any], rank: int, ranks: int, port: int, answer: Connection) -> None:
    place = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    try:
        answer.send((work(), ""))
    except BaseException:  # noqa: BLE001 - it is raised again where the ranks were started
        answer.send((None, traceback.format_exc()))


def _answers(pipes: list[Connection]) -> list[Any]:
    answers: dict[int, Any] = {}
    limit_s = time.monotonic() + LIMIT_S
    while len(answers) < len(pipes):
        for rank, pipe in enumerate(pipes):
            if rank not in answers and pipe.poll(0.05):
                answers[rank], failure = pipe.recv()
                if failure:
                    raise RuntimeError(f"on rank {rank}: {failure}")
        if time.monotonic() > limit_s:
            silent = sorted(set(range(len(pipes))) - set(answers))
            raise RuntimeError(f"ranks {silent} have not ended after {LIMIT_S:.0f} s")
    return [answers[rank] for rank in range(len(pipes))]
