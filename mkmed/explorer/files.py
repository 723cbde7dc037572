"""The explorer's files: the page, its style and script, and 3Dmol.js (Rego and Koes 2015, BSD-3-Clause, npm 2.5.5)."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/explorer/style.css": ("style.css", "text/css; charset=utf-8"),
    "/explorer/explorer.js": ("explorer.js", "text/javascript; charset=utf-8"),
    "/explorer/3Dmol-min.js": ("vendor/3Dmol-min.js", "text/javascript; charset=utf-8"),
}
"""Path of the service, file, and media type."""
VENDORED = {"vendor/3Dmol-min.js": "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"}
"""sha256 of what npm published as 3dmol 2.5.5, build/3Dmol-min.js."""
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
          "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
"""The page may ask this service and nobody else."""


def read(path: str) -> tuple[bytes, str]:
    """The bytes and the media type behind a path of FILES."""
    name, kind = FILES[path]
    return (FOLDER / name).read_bytes(), kind
