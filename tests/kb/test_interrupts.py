"""A signal is answered wherever it comes, also where Python drops what is raised."""

from __future__ import annotations

import subprocess
import sys

import pytest

DROPPED = """
import os, signal, time, weakref
from kb import interrupts
interrupts.while_loading()
interrupts.while_running()
class Thing:
    {body}
thing = Thing()
def told(_):
    os.kill(os.getpid(), signal.{name})
    until = time.monotonic() + 5
    while time.monotonic() < until:
        pass
{watch}
try:
    del thing
    time.sleep(5)
    print("unheard")
except BaseException as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("name, heard", [("SIGINT", "KeyboardInterrupt "), ("SIGTERM", "SystemExit 143")])
@pytest.mark.parametrize("body, watch", [("pass", "kept = weakref.ref(thing, told)"),
                                         ("__del__ = lambda self: told(self)", "")])
def test_a_stop_that_python_drops_is_raised_again(name: str, heard: str, body: str, watch: str) -> None:
    code = DROPPED.format(name=name, body=body, watch=watch)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines() == [heard]
    assert ended.stderr == ""


TAKEN_OVER = """
import ctypes, signal
from kb import interrupts
interrupts.raised()
ignored = ctypes.c_void_p(1)
ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGINT), ignored)
def pressed():
    try:
        signal.raise_signal(signal.SIGINT)
        return "lost"
    except KeyboardInterrupt:
        return "told"
print(pressed())
interrupts.raised()
print(pressed())
"""


def test_ctrl_c_that_a_library_took_over_for_good_is_ours_again() -> None:
    """Threads in RDKit's substructure search put back each other's handler of SIGINT: the last one stays, and drops."""
    ended = subprocess.run([sys.executable, "-c", TAKEN_OVER], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == ["lost", "told"]
