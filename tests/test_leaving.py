"""How the program's process ends: what was written and registered is kept, and no module is taken apart."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import pytest

PROGRAM = """
    import atexit, sys, types
    class Late:
        def __del__(self):
            print("taken apart", file=sys.__stderr__, flush=True)
    kept = Late()
    def run():
        atexit.register(lambda: print("last words"))
        sys.stdout.write("written")
        {ends}
    sys.modules["cli"] = types.SimpleNamespace(main=run)
    from mkmed.__main__ import main
    main()
"""


@pytest.mark.parametrize(("ends", "code", "said"), [
    ("sys.exit(0)", 0, ""), ("sys.exit(3)", 3, ""), ("raise RuntimeError('unforeseen')", 1, "RuntimeError: unforeseen"),
    ("sys.exit('no number')", 1, "no number"), ("sys.exit()", 0, ""), ("pass", 0, "")])
def test_the_code_and_what_was_written_are_kept(ends: str, code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", dedent(PROGRAM).replace("{ends}", ends)], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (code, "writtenlast words\n")
    assert said in done.stderr and "taken apart" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_what_could_not_be_written_is_an_error() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-c", dedent(PROGRAM).replace("{ends}", "sys.exit(0)")], stdout=full,
                              stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
