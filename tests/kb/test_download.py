"""Large files by HTTP: resumed, bounded in time and size, complete or not there at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
from slow_server import address, serving

from kb.errors import Transient, TransportError, UsageError
from kb.http.download import DownloadLimits, download

QUICK = DownloadLimits(size=10 << 20, seconds=5.0, pause=0.01)
BODY = gzip.compress(random.Random(1).randbytes(1_000_000))
OTHER = gzip.compress(random.Random(2).randbytes(900_000))


@pytest.mark.parametrize("faults", [(), ("cut",), ("cut", "cut"), ("503", "cut", "no range"), ("no length",), ("html",), ("html", "html", "cut"),
                                    ("cut", "wrong range"), ("cut", "nameless range"), ("cut", "other version"),
                                    ("cut without length",), ("cut", "cut without length"), ("cut", "no tag")])
def test_a_download_comes_whole(tmp_path: Path, faults: tuple[str, ...]) -> None:
    with serving(BODY, *faults) as server:
        got = download(address(server), tmp_path, limits=QUICK)
        assert got.read_bytes() == BODY
        asked = len(server.asked)
        assert download(address(server), tmp_path, limits=QUICK) == got and len(server.asked) == asked
    assert [p.name for p in tmp_path.iterdir()] == [got.name]
    if faults == ("cut", "cut"):
        assert server.asked[1]["Range"] == f"bytes={len(BODY) // 2}-" and server.asked[1]["If-Range"] == '"v1"'


def test_a_download_goes_on_in_a_later_call_unless_the_file_changed(tmp_path: Path) -> None:
    with serving(BODY, *["cut"] + ["500"] * 4) as server:
        with pytest.raises(Transient):
            download(address(server), tmp_path, limits=QUICK)
        server.faults, server.body, server.tag = [], OTHER, '"v2"'
        assert download(address(server), tmp_path, limits=QUICK).read_bytes() == OTHER


def test_where_nothing_came_from_is_said_with_a_way_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Transient, match=r"nothing came from .*: Connection refused") as error:
        download("http://127.0.0.1:9/drkg.tar.gz", tmp_path, limits=QUICK)
    assert "--path" in str(error.value.hint) and "network" in str(error.value.hint)
    assert capsys.readouterr().err.count("drkg.tar.gz: Connection refused; trying again") == 4
    with serving(BODY, *["cut"] * 5) as server, pytest.raises(Transient, match="did not come whole") as error:
        download(address(server), tmp_path, limits=QUICK)
    assert "goes on" in str(error.value.hint) and not [p for p in tmp_path.iterdir() if p.suffix == ".gz"]


def test_a_download_is_bounded_in_time_and_size(tmp_path: Path) -> None:
    with serving(BODY, "drip") as server, pytest.raises(Transient, match="deadline"):
        download(address(server), tmp_path / "a", limits=replace(QUICK, seconds=0.5))
    for fault in ("", "no length"):
        with serving(BODY, fault) as server, pytest.raises(TransportError, match="limit"):
            download(address(server), tmp_path / "b", limits=replace(QUICK, size=1000))
    with serving(BODY, "404") as server, pytest.raises(TransportError, match="404"):
        download(address(server), tmp_path / "c", limits=QUICK)
    with pytest.raises(UsageError):
        download("file:///etc/passwd", tmp_path / "d")


def test_a_url_cannot_name_a_path(tmp_path: Path) -> None:
    with serving(BODY) as server:
        got = download(address(server, "..%2F..%2Fx?a=/../../y"), tmp_path / "cache", limits=QUICK)
    assert got.parent == tmp_path / "cache" and "/" not in got.name


def test_a_page_is_never_kept_and_an_old_one_is_thrown_away(tmp_path: Path) -> None:
    with serving(BODY, *["html"] * 5) as server:
        with pytest.raises(Transient, match=r"could be kept.*it is not gzip"):
            download(address(server), tmp_path, limits=QUICK)
        assert list(tmp_path.iterdir()) == []
        got = download(address(server), tmp_path, limits=QUICK)
        got.write_bytes(b"<html>what an earlier release took for the file</html>")
        assert download(address(server), tmp_path, limits=QUICK).read_bytes() == BODY


@pytest.mark.parametrize("note", ["", "{}", "[]", "null", '{"tag": 1, "total": 2}', '{"tag": "\\"v1\\"", "total": "x"}', "\0"])
def test_a_broken_note_starts_anew(note: str, tmp_path: Path) -> None:
    with serving(BODY, "cut", "500", "500", "500", "500") as server:
        with pytest.raises(Transient):
            download(address(server), tmp_path, limits=QUICK)
        (path,) = tmp_path.glob("*.part.json")
        path.write_text(note)
        assert download(address(server), tmp_path, limits=QUICK).read_bytes() == BODY


def test_what_has_no_length_must_prove_itself(tmp_path: Path) -> None:
    plain = b"Gene::1\tr\tGene::2\n" * 1000
    with serving(plain, "no length") as server, pytest.raises(TransportError, match="how long"):
        download(address(server, "drkg.tsv"), tmp_path, limits=QUICK)
    digest = hashlib.sha256(plain)
    with serving(plain, "no length") as server:
        server.headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert download(address(server, "drkg.tsv"), tmp_path, limits=QUICK).read_bytes() == plain


def test_a_published_sha256_decides(tmp_path: Path) -> None:
    right, wrong = hashlib.sha256(BODY).hexdigest(), hashlib.sha256(OTHER).hexdigest()
    with serving(BODY) as server:
        with pytest.raises(Transient, match="its sha256 is"):
            download(f"{address(server)}#sha256={wrong}", tmp_path, limits=QUICK)
        got = download(f"{address(server)}#sha256={right}", tmp_path, limits=QUICK)
        assert got.read_bytes() == BODY
        got.write_bytes(OTHER)
        assert download(f"{address(server)}#sha256={right}", tmp_path, limits=QUICK).read_bytes() == BODY
        with pytest.raises(UsageError):
            download(f"{address(server)}#sha256=xyz", tmp_path, limits=QUICK)
    for address_ in ("http://[", "http://[/x", "http://[::1/x.gz", "https://\0/x"):
        with pytest.raises((UsageError, TransportError)):
            download(address_, tmp_path, limits=QUICK)
