"""The bundled EHR extracts: whole, small, licensed, and put together from nothing but the published files."""

import gzip
import hashlib
from pathlib import Path

import pytest

from kb.errors import ContractViolation, NotFound
from mkmed.demo.build import ehr

DATA = Path(__file__).parents[2] / "mkmed" / "demo" / "data"
FOLDERS = sorted(DATA.glob("ehr_*"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_is_the_one_that_was_checked(folder):
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == set(sums) | {"SHA256SUMS", "README.md"}
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    readme = (folder / "README.md").read_text()
    assert "Licence:" in readme and "Origin:" in readme and any(name.startswith("LICENSE") for name in files)


def test_the_extracts_are_those_of_the_script_and_small():
    assert [folder.name for folder in FOLDERS] == sorted(ehr.FOLDERS.values())
    assert sum(path.stat().st_size for folder in FOLDERS for path in folder.rglob("*") if path.is_file()) < 6 * 2**20


def unpack(target):
    """The published MIMIC-III demo folder, from the bundled extract."""
    target.mkdir()
    for name in ehr.SOURCES["mimic3"]:
        bundled = DATA / "ehr_mimic3_demo" / name.lower().replace(".csv", ".csv.gz")
        packed = bundled if bundled.exists() else DATA / "ehr_mimic3_demo" / name
        payload = packed.read_bytes()
        (target / name).write_bytes(gzip.decompress(payload) if packed.suffix == ".gz" else payload)
    return target


def test_building_from_the_published_files_gives_the_bundled_tables(tmp_path):
    source = unpack(tmp_path / "published")
    ehr.main(["--mimic3", str(source), "--target", str(tmp_path / "out")])
    for path in (DATA / "ehr_mimic3_demo").glob("*.csv.gz"):
        built = tmp_path / "out" / "ehr_mimic3_demo" / path.name
        assert gzip.decompress(built.read_bytes()) == gzip.decompress(path.read_bytes())


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
    source = unpack(tmp_path / "published")
    with (source / "PATIENTS.csv").open("a") as file:
        file.write("1\n")
    with pytest.raises(ContractViolation, match=r"PATIENTS\.csv"):
        ehr.build_extract("mimic3", source, tmp_path / "out")
    (source / "PATIENTS.csv").unlink()
    with pytest.raises(NotFound, match=r"PATIENTS\.csv"):
        ehr.build_extract("mimic3", source, tmp_path / "out")
