"""A process that saves checkpoints without pause is killed 25 times: what was acknowledged can always be read back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from embed.runs import checkpoint

ROOT = Path(__file__).parents[2]
KILLS = 25
SAVER = """
import sys, torch
from pathlib import Path
from embed.runs import checkpoint
folder, start = Path(sys.argv[1]), int(sys.argv[2])
for step in range(start, start + 100_000):
    checkpoint.save(folder / "last.pt", {"w": torch.full((200_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""


def killed_after(folder: Path, start: int, seconds: float) -> int:
    """The last step that a saver acknowledged before it was killed, ``seconds`` after its first."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", SAVER, str(folder), str(start)], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True, env=environment) as saver:
        assert saver.stdout is not None
        said = [saver.stdout.readline()]
        time.sleep(seconds)
        saver.send_signal(signal.SIGKILL)
        said += saver.stdout.readlines()
    return max(int(line) for line in said if line.endswith("\n"))


def test_no_kill_loses_an_acknowledged_checkpoint(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    step = 0
    for _ in range(KILLS):
        acknowledged = killed_after(tmp_path, step + 1, dice.uniform(0.0, 0.2))
        tensors, meta = checkpoint.load_checkpoint(tmp_path / "last.pt")
        step = meta["step"]
        assert step >= acknowledged
        assert bool((tensors["w"] == step).all())
    assert step > KILLS
