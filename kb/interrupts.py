"""How the program ends when it is told to: SIGINT, SIGTERM and SIGHUP, before, during and after a command.

Only what comes with Python is imported here, so that a signal during the program's own imports is answered, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TOLD = signal.SIGUSR2
"""What tells the main thread that SIGINT came."""
ORDERLY_SECONDS = 10.0
"""How long a program that was told to stop may take over it before it can be told again."""
AGAIN_SECONDS = 0.05
"""How long after a stop was dropped it is raised again."""


class _Stopping:
    """Whether this process was told to stop, and when."""

    since: float | None = None
    leaving = False
    raised = 0
    """How many signals were answered by an exception."""
    last = signal.SIGINT


def _wait_for_sigint() -> None:
    """Keep SIGINT from every thread and wait for it in one of its own, which tells the main thread by another signal.

    RDKit takes SIGINT over while it matches substructures or embeds, and drops it: about one Ctrl-C in five was lost.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN or signal.getsignal(TOLD) is _as_sigint:
        return
    signal.signal(TOLD, _as_sigint)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_pass_on, name="signals", daemon=True).start()


def _pass_on() -> None:
    while True:
        signal.sigwait({signal.SIGINT})
        signal.pthread_kill(threading.main_thread().ident or 0, TOLD)


def _as_sigint(_number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)


@contextmanager
def left_to_a_child() -> Iterator[None]:
    """Ctrl-C is the business of a program that is started within this."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, previous)


def _leave_at_once(number: int, _frame: object) -> None:
    """Nothing was begun: there is nothing to put in order."""
    told = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    os.write(2, f"error: {told}; nothing was begun\n".encode())
    os._exit(128 + number)


def _leave_in_order(number: int, _frame: FrameType | None) -> None:
    """Raise: transactions roll back, and the last user stops the embedded server.

    A second signal within ``ORDERLY_SECONDS`` changes nothing: it would only tear that order apart.
    """
    now = time.monotonic()
    if _Stopping.since is not None and now - _Stopping.since < ORDERLY_SECONDS:
        return
    again, _Stopping.since = _Stopping.since is not None, now
    if _Stopping.leaving and again:
        os._exit(128 + number)
    if _Stopping.leaving:
        return
    _raise(number, _frame)


def _raise(number: int, _frame: FrameType | None) -> None:
    _Stopping.raised += 1
    _Stopping.last = signal.Signals(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def raised() -> int:
    """How many signals were answered by an exception so far; Python's own handler of Ctrl-C is made to count, too.

    Python runs a handler wherever it next runs Python code, also in a function that a C library calls; some of these
    (psycopg2's reading of notices) drop whatever is raised there. Who calls such a library compares this number
    before and after, and tells ``raise_again``. The handler is set anew each time: two threads in RDKit's substructure
    search put back each other's, and leave one in place that drops every Ctrl-C from then on.
    """
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _raise)
    ):
        signal.signal(signal.SIGINT, _raise)
    return _Stopping.raised


def raise_again(before: int) -> None:
    """Raise what a signal raised since there were ``before`` of them, in the thread that signals are told to."""
    if _Stopping.raised != before and threading.current_thread() is threading.main_thread():
        _raise(_Stopping.last, None)


def _handle(handler: signal._HANDLER) -> None:
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup keeps SIGHUP away, and so do we
            signal.signal(number, handler)


def while_loading() -> None:
    """From here to ``while_running`` a signal ends the program at once, with a word and its exit code."""
    _handle(_leave_at_once)
    _wait_for_sigint()


def while_running() -> None:
    """From here a signal raises KeyboardInterrupt or SystemExit in the main thread."""
    _handle(_leave_in_order)
    signal.signal(signal.SIGALRM, _raise_dropped)
    sys.unraisablehook = _raise_later


def _raise_dropped(_number: int, frame: FrameType | None) -> None:
    if not _Stopping.leaving:
        _raise(_Stopping.last, frame)


def _raise_later(dropped: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a weak reference's callback or in ``__del__``; a stop is raised again soon."""
    if _Stopping.since is not None and issubclass(dropped.exc_type, KeyboardInterrupt | SystemExit):
        if not _Stopping.leaving:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    else:
        sys.__unraisablehook__(dropped)


def while_leaving() -> None:
    """From here the program is ending by itself: a signal is told no more, and a second one after a while ends it."""
    _Stopping.leaving = True
