"""The samples of published files, enlarged by copies under new ids, so that a kill finds an ingest at work.

Copies claim nothing that others do: no code, structure or key of the sample is repeated. What graphs and pairs are about
are the drugs of ``write_base``, which are ingested before.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from sqlite3 import connect

from kb.chemistry import standardise
from tests.kb import published

KNOWN, DRUGS, ROWS = 1500, 3000, 20_000
"""Drugs that are known before, copies of drugs in a file, and rows of a graph or of a table of pairs."""
BASE = ("--column", "key=id", "--column", "name=name", "--column", "smiles=smiles", "--column", "identifier.drugbank=db")


def smiles_of(number: int) -> str:
    """The structure of the drug of that number: no two have the same."""
    return "C" * (number % 40 + 1) + "O" * (number // 40 + 1)


def write_base(folder: Path) -> tuple[str, ...]:
    """What follows ``mkmed kb ingest`` for the drugs that are known before."""
    rows = [f"c{n},compound {n},{smiles_of(n)},DB{50_000 + n}" for n in range(KNOWN)]
    path = published.write_text(folder / "base.csv", "\n".join(["id,name,smiles,db", *rows]) + "\n")
    return ("--source", "tabular", "--path", str(path), *BASE)


def write_enlarged(name: str, folder: Path) -> tuple[str, ...]:
    """What follows ``mkmed kb ingest`` for the sample of that name."""
    given = published.SAMPLES[name].write(folder)
    path = given["path"]
    assert isinstance(path, Path)
    _ENLARGE[name](path)
    words = ["--source", published.SAMPLES[name].source or name, "--path", str(path)]
    for option, values in (("--also", given.get("also")), ("--column", given.get("columns"))):
        for role, value in values.items() if isinstance(values, dict) else ():
            words += [option, f"{role}={value}"]
    return (*words, *(("--licence", str(given["licence"])) if "licence" in given else ()))


def _rxnorm(folder: Path) -> None:
    concepts = sorted({line.split("|")[0] for line in published.RXNCONSO if line.split("|")[0].isdigit()}, key=int)

    def copies(lines: list[str], vocabulary: int, apart: Callable[[list[str], int], None]) -> Iterator[str]:
        for number in range(DRUGS // 10):
            new = {old: str(20_000_000 + number * 100 + place) for place, old in enumerate(concepts)}
            for line in lines:
                cells = [new.get(cell, cell) for cell in line.split("|")]
                if len(cells) > vocabulary and cells[vocabulary] == "RXNORM":
                    apart(cells, number)
                    yield "|".join(cells)

    def renamed(cells: list[str], number: int) -> None:
        cells[14] = cells[14] and f"{cells[14]} of {number}"

    def coded(cells: list[str], number: int) -> None:
        cells[10] = f"{number:05d}{cells[10][5:]}"

    for file, lines, place, apart in (("RXNCONSO", published.RXNCONSO, 11, renamed), ("RXNSAT", published.RXNSAT, 9, coded),
                                      ("RXNREL", published.RXNREL, 10, lambda cells, number: None)):
        with (folder / f"{file}.RRF").open("a", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in copies(lines, place, apart))


def _chembl(path: Path) -> None:
    numbers = range(1000, 1000 + DRUGS)
    with connect(path) as base:
        base.executemany("INSERT INTO molecule_dictionary VALUES (?, ?, ?, 4, 0, 'MOL', 'Small molecule')",
                         [(n, f"copy {n}", f"CHEMBL{9_000_000 + n}") for n in numbers])
        base.executemany("INSERT INTO molecule_hierarchy VALUES (?, ?, ?)", [(n, n, n) for n in numbers])
        base.executemany("INSERT INTO molecule_synonyms VALUES (?, 'TRADE_NAME', ?, ?)", [(n, n, f"Brand {n}") for n in numbers])
        base.executemany("INSERT INTO drug_mechanism VALUES (?, ?, ?, 'Tubulin inhibitor', 12, 'INHIBITOR')", [(n, n, n) for n in numbers])
        base.executemany("INSERT INTO drug_indication VALUES (?, ?, ?, 3, 'D006073', 'Gout', NULL, NULL)", [(n, n, n) for n in numbers])
    base.close()


def _drugcentral(path: Path) -> None:
    rows = {"structures": "{0}\t\\N\t{0}\t\\N\tcopy {0}\t\\N\t\\N\t\\N\t\\N\n",
            "synonyms": "{0}\t{0}\tsynonym {0}\t\\N\t\\N\tsynonym {0}\n",
            "omop_relationship": "{0}\t{0}\t40\tindication\tDisease {0}\tC0011581\t\\N\tT048\t\\N\n"}
    blocks = path.read_text(encoding="utf-8").split("\\.\n")
    for place, block in enumerate(blocks):
        for table, row in rows.items():
            if f"COPY public.{table} " in block:
                blocks[place] = block + "".join(row.format(n) for n in range(10_000, 10_000 + DRUGS))
    path.write_text("\\.\n".join(blocks), encoding="utf-8")


def _openfda(path: Path) -> None:
    labels = json.loads(path.read_text(encoding="utf-8"))
    labels["results"] += [
        {"set_id": f"c-{n}", "effective_time": "20240101", "indications_and_usage": [f"For disease {n}."],
         "openfda": {"unii": [f"{n:09d}X"], "substance_name": [f"COPY {n}"], "brand_name": [f"Brand {n}"],
                     "product_ndc": [f"{n:05d}-001"], "package_ndc": [f"{n:05d}-001-30"], "route": ["ORAL"]}}
        for n in range(DRUGS)]
    path.write_text(json.dumps(labels), encoding="utf-8")


def _dailymed(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as release:
        for n in range(DRUGS):
            contained = published.spl_ingredient(f"{n:09d}X", f"COPY {n}", f"{n:09d}X", f"COPY {n}", "5")
            product = published.spl_product(f"{n:05d}-001", f"Brand {n}", f"copy {n}", contained)
            section = published.spl_section("34067-9", "INDICATIONS", f"For disease {n}.")
            release.writestr(f"prescription/c{n}.xml", published.spl(f"c-{n}", product, section))


def _drugbank(path: Path) -> None:
    drugs = "".join(
        f'<drug type="small molecule"><drugbank-id primary="true">DB{20_000 + n}</drugbank-id><name>Copy {n}</name>'
        f"<description>Shut: copy {n}.</description><drug-interactions><drug-interaction><drugbank-id>DB{20_001 + n}</drugbank-id>"
        f"<name/><description>Shut: {n}.</description></drug-interaction></drug-interactions></drug>\n" for n in range(DRUGS))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("</drugbank>\n", f"{drugs}</drugbank>\n"), encoding="utf-8")


def _unichem(path: Path) -> None:
    with path.open("a") as structures, (path.parent / "reference.tsv").open("a") as references:
        for n in range(KNOWN):
            structures.write(f"{1_000_000 + n}\tInChI=1S/copy\t{standardise(smiles_of(n)).inchikey}\n")
            references.write(f"{1_000_000 + n}\t22\t{70_000_000 + n}\t1\n{1_000_000 + n}\t18\tHMDB{n:07d}\t1\n")


def _hetionet(path: Path) -> None:
    with path.open("a") as edges:
        edges.writelines(f"Compound::DB{50_000 + n % KNOWN}\tCtD\tDisease::DOID:{20_000 + n}\n" for n in range(ROWS))


def _hetionet_json(path: Path) -> None:
    import bz2

    graph = json.loads(bz2.decompress(path.read_bytes()))
    graph["edges"] += [
        {"source_id": ["Compound", f"DB{50_000 + n % KNOWN}"], "target_id": ["Disease", f"DOID:{20_000 + n}"], "kind": "treats",
         "direction": "both", "data": {"source": "PharmacotherapyDB", "license": "CC0 1.0", "unbiased": False, "affinity_nM": n}}
        for n in range(ROWS // 2)]
    path.write_bytes(bz2.compress(json.dumps(graph).encode()))


def _primekg(path: Path) -> None:
    with path.open("a") as edges:
        edges.writelines(
            f"contraindication,contraindication,{n},DB{50_000 + n % KNOWN},drug,compound {n % KNOWN},DrugBank,{n},{20_000 + n},"
            f"disease,disease {n},MONDO\n" for n in range(ROWS))


def _graph(path: Path) -> None:
    with path.open("a") as edges:
        edges.writelines(f"c{n}\tCompound::DB{50_000 + n % KNOWN}\tbiolink:treats\tDisease::mine:{n}\t0.5\tPMID:{n}\tassertion\tx\t"
                         "infores:mine\n" for n in range(ROWS))


def _atc(path: Path) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    rows = "".join(f'<z:row ATCCode="{letters[n // 7800 % 26]}{n // 78 % 100:02d}{letters[n // 3 % 26]}A01" DDD="{n + 1}" UnitType="mg"'
                   f' AdmCode="{"OPR"[n % 3]}"/>\n' for n in range(ROWS))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("</rs:data>", f"{rows}</rs:data>"), encoding="utf-8")


def _interactions(path: Path) -> None:
    with path.open("a") as pairs:
        pairs.writelines(f"a,compound {n % KNOWN},b,compound {(n + 1 + n // KNOWN) % KNOWN},Moderate\n" for n in range(ROWS))


_ENLARGE: dict[str, Callable[[Path], None]] = {
    "rxnorm": _rxnorm, "chembl": _chembl, "drugcentral": _drugcentral, "openfda": _openfda, "dailymed": _dailymed,
    "drugbank": _drugbank, "unichem": _unichem, "hetionet": _hetionet, "hetionet, JSON": _hetionet_json, "primekg": _primekg,
    "graph": _graph, "atc": _atc, "interactions": _interactions,
}
