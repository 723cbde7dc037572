"""Two gloo processes take the same step as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(target: Path, processes: int) -> dict:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1",
                    f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, str(HERE / "gloo_job.py"), str(target)], env=environment, cwd=ROOT, timeout=180,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(target.read_text())


def test_two_processes_equal_one(tmp_path):
    one, two = run(tmp_path / "one.json", 1), run(tmp_path / "two.json", 2)
    assert (one["world"], two["world"]) == (1, 2)
    assert one["terms"].keys() == two["terms"].keys() >= {"align.text", "consistency", "relation"}
    for name, value in one["terms"].items():
        np.testing.assert_allclose(two["terms"][name], value, rtol=1e-5)
    assert any(np.abs(g).max() > 1e-3 for n, g in one["grads"].items() if n.startswith("towers.molecule"))
    for name, grad in one["grads"].items():
        np.testing.assert_allclose(two["grads"][name], grad, atol=1e-5, err_msg=name)
