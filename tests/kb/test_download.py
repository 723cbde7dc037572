"""Large files by HTTP: resumed, bounded in time and size, complete or not there at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from slow_server import address, serving

from kb.errors import Transient, TransportError, UsageError
from kb.http.download import Limits, download

QUICK = Limits(size=10 << 20, seconds=5.0, pause=0.01)
BODY = bytes(range(256)) * 4000


@pytest.mark.parametrize("faults", [(), ("cut",), ("cut", "cut"), ("503", "cut", "no range"), ("no length",)])
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
        server.faults, server.body, server.tag = [], BODY[::-1], '"v2"'
        assert download(address(server), tmp_path, limits=QUICK).read_bytes() == BODY[::-1]


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
