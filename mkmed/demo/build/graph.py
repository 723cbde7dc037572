"""Puts the knowledge graph together: the open part of DRKG, DrugCentral's targets and DrugMechDB's mechanisms.

Rows of DRKG's non-commercial origins (bioarx, DrugBank, GNBR, STRING) and of SIDER are not in it, nor are edges of
Hetionet whose own licence is non-commercial or not stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kb.licences import recognise_licence
from mkmed.demo.build.tables import flat, read_tsv

Triple = tuple[str, str, str]

LICENCES = {
    "Hetionet": ("Hetionet v1.0", "CC0-1.0"),
    "DGIDB": ("DGIdb, as taken over by DRKG", "LicenseRef-DGIdb"),
    "DrugCentral": ("DrugCentral targets", "CC-BY-4.0"),
    "DrugMechDB": ("DrugMechDB", "CC0-1.0"),
}
"""First part of a relation's name → its database and licence."""

BINDING, ASSOCIATION = "Hetionet::CbG::Compound:Gene", "Hetionet::DaG::Disease:Gene"
STATED = {
    BINDING: ("Hetionet v1.0: ChEMBL, BindingDB, DrugCentral", "CC-BY-SA-3.0"),
    ASSOCIATION: ("Hetionet v1.0: DISEASES, DisGeNET, GWAS Catalog", "ODbL-1.0"),
}
"""Relations of Hetionet of which it publishes a licence edge by edge, with the strictest of the open ones."""

_TYPES = {
    "Drug": "Compound",
    "ChemicalSubstance": "Chemical Substance",
    "BiologicalProcess": "Biological Process",
    "MolecularActivity": "Molecular Function",
    "CellularComponent": "Cellular Component",
    "GrossAnatomicalStructure": "Anatomy",
    "OrganismTaxon": "Tax",
    "PhenotypicFeature": "Phenotype",
    "GeneFamily": "Gene Family",
    "MacromolecularComplex": "Complex",
}
"""DrugMechDB's node types in DRKG's words, where DRKG has them."""


def drkg_triples(sources: Path) -> Iterator[Triple]:
    """Hetionet's and DGIdb's rows in DRKG's vocabulary, of which an edge's own licence, where published, is open."""
    open_edges = _open_edges(sources)
    with (sources / "demo_corpus/drkg_subset_no_nc.tsv").open(encoding="utf-8") as lines:
        for line in lines:
            head, relation, tail = line.rstrip("\n").split("\t")
            if relation not in STATED or (head, relation, tail) in open_edges:
                yield head, relation, tail


def _open_edges(sources: Path) -> set[Triple]:
    """The edges that Hetionet's own tables of bindings and associations state under an open licence."""
    found: set[Triple] = set()
    for row in read_tsv(sources / "hetionet/CbG-binding.tsv"):
        if _is_open(row["license"]):
            found.add((f"Compound::{row['drugbank_id']}", BINDING, f"Gene::{row['entrez_gene_id']}"))
    for row in read_tsv(sources / "hetionet/DaG-association.tsv"):
        if _is_open(row["license"]):
            found.add((f"Disease::{row['doid_id']}", ASSOCIATION, f"Gene::{row['entrez_gene_id']}"))
    return found


def _is_open(stated: str) -> bool:
    licence = recognise_licence(stated)
    return licence is not None and licence.is_open


def target_triples(sources: Path) -> Iterator[Triple]:
    """Drug–target pairs of DrugCentral."""
    for row in read_tsv(sources / "drugcentral_pharmgkb/rephetio_targets.tsv"):
        if row["GeneID"].isdigit() and re.fullmatch(r"DB\d{5}", row["drugbank_id"]):
            yield (
                f"Compound::{row['drugbank_id']}",
                "DrugCentral::target::Compound:Gene",
                f"Gene::{row['GeneID']}",
            )


def mechanism_triples(sources: Path) -> tuple[list[Triple], dict[str, str]]:
    """DrugMechDB's edges and the indications that they explain, and the entities' names."""
    drugs = {}
    paths = list(read_tsv(sources / "drugmechdb/drugmechdb_paths.tsv.gz"))
    for row in paths:
        drugbank = drugbank_of(row["drugbank"])
        if drugbank:
            drugs[row["drug_mesh"]] = drugbank
    entity, names = {}, {}
    for row in read_tsv(sources / "drugmechdb/drugmechdb_nodes.tsv.gz"):
        found = drugs.get(row["id"]) or drugbank_of(row["id"].removeprefix("DB:") if "DB:" in row["id"] else "")
        kind = "Compound" if found else _TYPES.get(row["type"], row["type"])
        local = found or (row["id"].removeprefix("taxonomy:") if kind == "Tax" else row["id"])
        entity[row["id"]] = f"{kind}::{local}"
        names[f"{kind}::{local}"] = flat(row["name"])
    triples = set()
    for row in read_tsv(sources / "drugmechdb/drugmechdb_edges.tsv.gz"):
        head, tail = entity[row["source"]], entity[row["target"]]
        triples.add((head, _relation(row["predicate"], head, tail), tail))
    for row in paths:
        head, tail = entity.get(row["drug_mesh"], ""), entity.get(row["disease_mesh"], "")
        if head and tail:
            triples.add((head, _relation("indication", head, tail), tail))
    return sorted(triples), names


def _relation(predicate: str, head: str, tail: str) -> str:
    return f"DrugMechDB::{predicate}::{head.split('::')[0]}:{tail.split('::')[0]}"


def drugbank_of(written: str) -> str | None:
    """The DrugBank id in ``written``, where some have lost their leading D or got it twice."""
    digits = re.fullmatch(r"(?:DB|D|B|DBDB)(\d{5})", written.strip())
    return f"DB{digits[1]}" if digits else None


def entity_names(sources: Path) -> dict[str, str]:
    """The names of DRKG's entities, where they have one."""
    rows = read_tsv(sources / "demo_corpus/kg_entity_names.tsv")
    return {row["entity"]: row["name"] for row in rows if row["name"]}


def relation_rows(triples: list[Triple]) -> list[dict[str, str]]:
    """One row a relation: the types it connects, its database and licence."""
    found = {}
    for head, relation, tail in triples:
        provider, licence = STATED.get(relation) or LICENCES[relation.split("::")[0]]
        found[relation] = {
            "relation": relation,
            "head_type": head.split("::")[0],
            "tail_type": tail.split("::")[0],
            "provider": provider,
            "licence": licence,
        }
    return [found[relation] for relation in sorted(found)]
