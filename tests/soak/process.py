"""A process of its own for each training: forked, so that nothing is imported twice."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 45.0
"""Seconds after which a training of a second or two counts as hung."""
GRACE_S = 5.0


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        code: Its exit code; minus the signal that killed it.
        hung: Whether it, or a process that it had started, had to be killed by us.
        took_s: Seconds that it ran.
    """

    code: int
    hung: bool
    took_s: float


def forked(
    work: Callable[[], None], folder: Path, *, kill: tuple[signal.Signals, float] | None = None
) -> Ending:
    """Do ``work`` in a forked process, and wait until it and its children have ended.

    Args:
        work: What to do.
        folder: Where its output goes, and where it says that it has ``started``.
        kill: A signal to send, and the seconds to wait from then on.
    """
    began_s = time.monotonic()
    child = os.fork()
    if child == 0:
        _live(work, folder)
    if kill is not None:
        _kill(child, folder, *kill)
    code = _wait(child, began_s + LIMIT_S)
    hung = code is None
    if hung:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGUSR1)  # say where they stand
            time.sleep(1.0)
            os.killpg(child, signal.SIGKILL)
        code = _wait(child, time.monotonic() + GRACE_S)
    hung |= _left_behind(child)
    return Ending(-1 if code is None else code, hung, time.monotonic() - began_s)


def _live(work: Callable[[], None], folder: Path) -> None:
    os.setsid()
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr)
    code = 1
    try:
        os.chdir(folder)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - it is written down, and the process ends
        traceback.print_exc()
    finally:
        os._exit(code)


def _kill(child: int, folder: Path, which: signal.Signals, delay_s: float) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not (folder / "started").exists() and time.monotonic() < limit_s:
        time.sleep(0.005)
    time.sleep(delay_s)
    with suppress(ProcessLookupError):
        os.kill(child, which)


def _wait(child: int, limit_s: float) -> int | None:
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit_s:
            return None
        time.sleep(0.02)


def _left_behind(session: int) -> bool:
    """Whether processes of the session outlive the one that started them."""
    limit_s = time.monotonic() + GRACE_S
    while time.monotonic() < limit_s:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    os.killpg(session, signal.SIGKILL)
    return True
