"""The knowledge base that the documentation's commands meet: a piece of the bundled corpus, runs, cohorts and files."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

from tests.handbook.pages import ROOT
from tests.handbook.shell import Shell

SMALL = ("--set graph.features=neighbourhood --set text.model=scratch --set image.model=scratch --set train.epochs=2 "
         "--set modalities=text,graph --set graph.components=6 --set molecule.fingerprint_components=16 --set width=16")
"""A training of seconds."""
NAMES = ("metformin", "phenformin", "buformin", "insulin human", "insulin lispro", "insulin glargine", "insulin aspart",
         "atorvastatin", "warfarin")
"""Drugs that the pages name; the first of the corpus do not hold all of them."""

SETUP = f"""
mkmed kb ingest --source tabular --path loose.csv --column key=KEY --column identifier.drugbank=DRUGBANK
mkmed kb ingest --source corpus --limit 40
mkmed kb ingest --source corpus --ids names.txt
mkmed kb ingest --source rdkit --modality property --modality image
mkmed kb ingest --source tabular --path mine.csv --dataset my-drugs --column name=NAME --column smiles=SMILES
mkmed kb snapshot before-drkg
mkmed kb ingest --source drkg --path drkg.tsv --allow-subset
mkmed kb snapshot after-drkg
mkmed embed pretrain --name first {SMALL}
mkmed embed encode --in compounds --out screen --licence CC0-1.0
mkmed recsys prepare --ehr synthetic --option patients=150
mkmed recsys prepare --ehr mimic3 --root mimic-iii --allow-subset --min-visits 1
mkmed recsys train --recommender popularity --set resamples=50
mkmed recsys train --recommender mkmed --set epochs=1 --set resamples=50
"""
"""What a reader has done before: the first lines of README and of the pages, small."""


def write_files(folder: Path) -> None:
    """Every file that a command on a page reads, small."""
    data = ROOT / "mkmed" / "demo" / "data"
    (folder / "names.txt").write_text("\n".join(NAMES))
    (folder / "loose.csv").write_text("KEY,DRUGBANK\nmine-1,DB00331\n")
    patient = json.loads((data.parent / "patient.json").read_text())
    (folder / "patients.ndjson").write_text("".join(json.dumps({"id": name, **patient}) + "\n" for name in ("a", "b")))
    (folder / "compounds").mkdir()
    (folder / "compounds" / "a.smi").write_text("CCO ethanol\nCC(=O)Oc1ccccc1C(=O)O aspirin\nCN(C)C(=N)N dimethylguanidine\n")
    (folder / "cids.txt").write_text("2244\n4091\n")
    (folder / "mine.csv").write_text("NAME,SMILES\nphenformin,N=C(N)NC(=N)NCCc1ccccc1\n")
    (folder / "pairs.csv").write_text("drug_a,drug_b,severity\nmetformin,drugbank:DB00682,minor\n")
    (folder / "recipe.toml").write_text('name = "small"\n[[source]]\nname = "corpus"\nlimit = 40\n')
    (folder / "notes.tsv").write_text("XZWYZXLIPXDOLR-UHFFFAOYSA-N\tMetformin\tGiven with meals.\n")
    (folder / "drkg.tsv").write_text("Compound::DB00331\tGNBR::T::Compound:Disease\tDisease::MESH:D003924\n"
                                     "Compound::DB00331\tHetionet::CbG::Compound:Gene\tGene::5562\n")
    with tarfile.open(folder / "drkg.tar.gz", "w:gz") as archive:
        archive.add(folder / "drkg.tsv", "drkg.tsv")
    (folder / "mimic-iii").symlink_to(data / "ehr_mimic3_demo")
    (folder / "mimic-iv").symlink_to(data / "ehr_mimic4_demo")
    (folder / "mkmed").mkdir()
    (folder / "mkmed" / "demo").symlink_to(ROOT / "mkmed" / "demo")
    shutil.copy(ROOT / "mkmed" / "demo" / "patient.json", folder)
    sample = ROOT / "tests" / "data" / "pubchem_bulk" / "Compound_sample.sdf.gz"
    shutil.copy(sample, folder / "Compound_000000001_000500000.sdf.gz")
    (folder / "export").mkdir()
    visits = [(f"v{p}-{v}", p, v) for p in range(40) for v in (1, 2)]
    tables = {"visits": ("visit,patient,day,sex", lambda visit, p, v: f"{visit},p{p},2020-0{v}-02,{'FM'[p % 2]}"),
              "diagnoses": ("visit,codes", lambda visit, p, _: f"{visit},I1{p % 3} J1{p % 4}"),
              "procedures": ("visit,codes", lambda visit, p, _: f"{visit},"),
              "medications": ("visit,codes", lambda visit, p, _: f"{visit},ATC:C07AB02 ATC:B01AA03")}
    for name, (head, row) in tables.items():
        (folder / "export" / f"{name}.csv").write_text("\n".join([head, *(row(*visit) for visit in visits), ""]))
    (folder / "eicu").symlink_to(data / "ehr_eicu_demo")
    (folder / "docs" / "pictures").mkdir(parents=True)


def filled(shell: Shell) -> None:
    """Fill the knowledge base; an error says what the program said."""
    write_files(shell.folder)
    done = shell.run(SETUP)
    assert done.returncode == 0, done.stdout + done.stderr
