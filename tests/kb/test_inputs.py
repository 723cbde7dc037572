"""What may be opened at all: regular files, within their limits; everything else is a usage error at once."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import cli
from kb.errors import DataError, SourceError, UsageError
from kb.files import replace_file, require_place
from kb.inputs import encoding_of, open_plain, open_regular, read_lines, read_text, read_toml, require_text


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def listening(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return folder / "socket"


ODD: dict[str, Callable[[Path], Path]] = {
    "a device": lambda _: Path("/dev/zero"), "a pipe": pipe, "a folder": lambda folder: folder,
    "cannot be read": listening, "does not exist": lambda folder: folder / "none",
}


@pytest.mark.parametrize("kind", ODD)
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=kind) as error:
        open_regular(ODD[kind](tmp_path), "--path")
    assert "--path" in error.value.message and error.value.hint
    with pytest.raises(UsageError, match="cannot be read"):
        open_regular(Path("a\0b"), "--path")


@pytest.mark.parametrize("kind", ["a device", "a pipe", "a folder", "does not exist"])
@pytest.mark.parametrize("arguments", [
    ["kb", "ingest", "--source", "tabular", "--column", "name=Name", "--path"],
    ["kb", "ingest", "--source", "drkg", "--path"], ["kb", "ingest", "--source", "interactions", "--path"],
    ["kb", "ingest", "--source", "pubchem", "--ids"], ["embed", "pretrain", "--print-config", "--config"],
    ["recsys", "train", "--cohort", "x", "--print-config", "--config"],
], ids=lambda given: " ".join(given[1:4]))
def test_commands_refuse_what_never_ends(kind: str, arguments: list[str], tmp_path: Path, database_environment: object,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*arguments, str(ODD[kind](tmp_path))]) == 2
    said = capsys.readouterr().err
    assert kind in said and arguments[-1] in said


def test_a_setting_file_that_is_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    os.mkfifo(tmp_path / "config.toml")
    assert cli.run(["kb", "coverage"]) == 2
    assert "a pipe" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--refresh", "nan"), ("--refresh", "inf"), ("--refresh", "-1")])
def test_days_are_a_finite_number(option: str, value: str, database_environment: object,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["kb", "ingest", "--source", "pubchem", option, value]) == 2
    assert "--refresh" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("REQUEST_DEADLINE", "inf"), ("REQUEST_DEADLINE", "nan"),
                                             ("REQUEST_DEADLINE", "1e9"), ("REQUESTS_PER_SECOND", "nan")])
def test_settings_are_finite_numbers(name: str, value: str, database_environment: object,
                                     monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(f"MKMED_{name}", value)
    assert cli.run(["kb", "coverage"]) == 2
    assert name.lower() in capsys.readouterr().err


def test_a_packed_file_stops_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(100 << 20)))
    with pytest.raises(SourceError, match="unpacks to more than 67,108,864 bytes"), open_plain(path) as stream:
        while stream.read(1 << 20):
            pass
    path.write_bytes(gzip.compress(b"x" * 1000)[:-6])
    with pytest.raises(SourceError, match="damaged"), open_plain(path) as stream:
        stream.read()


def test_lines_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n" + b"b" * 100 + b"\nc\n" + b"d" * 10 + b"\nlast")
    with open_plain(path) as stream:
        assert list(read_lines(stream, 10)) == [b"a\n", None, b"c\n", b"d" * 10 + b"\n", b"last"]


def test_texts_are_decoded_or_their_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    for codec in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("β-ionone\n".encode(codec))
        assert read_text(path, "--ids") == "β-ionone\n"
    path.write_bytes("é".encode("cp1252") + b"x")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_text(path, "--ids")
    path.write_bytes(b"1234")
    with pytest.raises(UsageError, match="more than 3 bytes"):
        read_text(path, "--ids", 3)
    assert encoding_of(b"\xff\xfea\0") == "utf-16"
    with pytest.raises(DataError, match="UTF-16"):
        require_text("Name,SMILES\n".encode("utf-16-le"), "table.csv")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_an_output_replaces_files_only(tmp_path: Path, kind: str) -> None:
    """Root once turned a device into a page: what is no file is refused, and stays what it is."""
    path = tmp_path / "out.svg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/null")
    before = path.lstat()
    for write in (lambda: replace_file(path, "x"), lambda: require_place(path)):
        with pytest.raises(UsageError, match=r"device|folder"):
            write()
    assert path.lstat().st_ino == before.st_ino and path.lstat().st_mode == before.st_mode


def test_a_link_in_the_place_of_an_output_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out").symlink_to(tmp_path / "precious")
    replace_file(tmp_path / "out", "new")
    assert (tmp_path / "precious").read_text() == "kept" and (tmp_path / "out").read_text() == "new"
    assert not (tmp_path / "out").is_symlink() and sorted(p.name for p in tmp_path.iterdir()) == ["out", "precious"]


@pytest.mark.parametrize("content", ["a = " + "9" * 5000, "a = " + "[" * 5000, "a = 1\nb", 'a = "\xff"'])
def test_what_is_no_toml_is_a_usage_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"TOML|UTF-8"):
        read_toml(tmp_path / "c.toml", "--config")
