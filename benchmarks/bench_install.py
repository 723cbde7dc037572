"""The size of an installation: the core without torch, everything, and what each extra adds to everything.

``python benchmarks/bench_install.py`` makes environments in a temporary folder (minutes, 5 GB of disk, a package index)
and prints MiB of site-packages, pip and setuptools left out, compiled files left in. ``--only core`` measures one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

from record import report

ROOT = Path(__file__).parent.parent
LIMIT = 600
"""MiB that the core may take."""
CHECK = """
import sys, mkmed
with mkmed.open() as kb:
    kb.sql("SELECT 1")
sys.exit("torch is here" if "torch" in sys.modules else 0)
"""


def pip(python: Path, *words: str) -> None:
    """Install with the tested versions."""
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c",
                    str(ROOT / "constraints.txt"), *words], check=True, cwd=ROOT)


def size(place: Path) -> float:
    """MiB of the environment's packages, without pip's own."""
    (packages,) = place.glob("lib/python*/site-packages")
    own = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
    files = [path for path in packages.rglob("*") if path.is_file() and not path.is_symlink()
             and path.relative_to(packages).parts[0].partition("-")[0] not in own]
    return sum(path.stat().st_blocks * 512 for path in files) / 2**20


def installed(python: Path) -> set[str]:
    """The names of what is installed in an environment."""
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True,
                            check=True).stdout
    return {line.partition("==")[0] for line in listed.splitlines()}


def fresh(place: Path) -> Path:
    """The Python of a new environment."""
    venv.create(place, with_pip=True, clear=True)
    return place / "bin" / "python"


def wheel(place: Path) -> str:
    """mkmed as a wheel, from what git knows."""
    source = place / "source"
    source.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", str(source)], input=names, cwd=ROOT, check=True)
    build = [str(fresh(place / "builder")), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place)]
    subprocess.run([*build, str(source)], check=True)
    return str(next(place.glob("mkmed-*.whl")))


def main() -> None:
    """Measure, print, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    extras = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    parser.add_argument("--only", choices=["core", "all", *extras])
    only = parser.parse_args().only
    rows: dict[str, float] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mkmed-install-") as folder:
        made = wheel(Path(folder))

        def measure(name: str, *steps: tuple[str, ...]) -> None:
            place = Path(folder) / "venv"
            begun = time.monotonic()
            python = fresh(place)
            for step in steps:
                pip(python, *step)
            rows[name], seconds[name] = size(place), time.monotonic() - begun
            print(f"{name:<12} {rows[name]:7.0f} MiB  {seconds[name]:5.0f} s", flush=True)

        if only in (None, "core"):
            measure("core", ("-r", "requirements-core.txt"), ("--no-deps", made))
            home = Path(folder) / "home"
            home.mkdir(mode=0o711)
            Path(folder).chmod(0o711)
            subprocess.run([str(Path(folder) / "venv" / "bin" / "python"), "-c", CHECK], check=True, cwd=folder,
                           env={"MKMED_HOME": str(home), "PATH": "/usr/bin:/bin"})
            print(f"{'':<12} reads a knowledge base; the limit is {LIMIT} MiB")
        if only != "core":
            measure("all", (made,))
            python = Path(folder) / "venv" / "bin" / "python"
            before = installed(python)
            for extra in extras if only is None else {only} & set(extras):
                begun = time.monotonic()
                pip(python, f"{made}[{extra}]")
                rows[extra], seconds[extra] = size(Path(folder) / "venv"), time.monotonic() - begun
                print(f"{extra:<12} {rows[extra] - rows['all']:+7.0f} MiB  {seconds[extra]:5.0f} s", flush=True)
                new = installed(python) - before
                subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *new], check=True)
    if only is None:
        table = [{"installed": name, "MiB": round(value), "more than all": round(value - rows["all"]),
                  "seconds": round(seconds[name])} for name, value in rows.items()]
        report("install", table, limit_of_the_core=LIMIT)
    if rows.get("core", 0) > LIMIT:
        sys.exit(f"the core has {rows['core']:.0f} MiB")


if __name__ == "__main__":
    main()
