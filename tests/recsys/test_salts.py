"""An order for a salt, a hydrate or a user's own form of a drug is an order for the drug, by what the structures say."""

from __future__ import annotations

import pytest

from kb.identity.claims import Claim, resolve
from kb.ingest.engine import ingest
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from recsys.orders.order import Order
from recsys.orders.resolve import _meant_by, read_resolver
from tests.bundled_drugs import drugs

METOPROLOL, SUCCINIC = "CC(C)NCC(O)COc1ccc(CCOC)cc1", "OC(=O)CCC(O)=O"
AMOXICILLIN = "CC1(C)S[C@@H]2[C@H](NC(=O)[C@H](N)c3ccc(O)cc3)C(=O)N2[C@H]1C(O)=O"
TABLE = {
    "Metoprolol": (METOPROLOL, "C07AB02"), "Metoprolol succinate": (f"{METOPROLOL}.{METOPROLOL}.{SUCCINIC}", ""),
    "Metformin": ("CN(C)C(=N)NC(=N)N", "A10BA02"), "Glucotox": ("CN(C)C(=N)NC(=N)N.Cc1ccc(cc1)S(O)(=O)=O", ""),
    "Amoxicillin": (AMOXICILLIN, "J01CA04"), "Moxiwet": (f"{AMOXICILLIN}.O.O.O", ""),
    "Theophylline": ("Cn1c(=O)c2[nH]cnc2n(C)c1=O", "R03DA04"),
    "Aminophylline": ("Cn1c(=O)c2[nH]cnc2n(C)c1=O.Cn1c(=O)c2[nH]cnc2n(C)c1=O.NCCN", "R03DA05"),
    "Gluconic acid": ("OC[C@@H](O)[C@@H](O)[C@H](O)[C@@H](O)C(O)=O", ""),
    "Calcium gluconate": ("[Ca+2].OC[C@@H](O)[C@@H](O)[C@H](O)[C@@H](O)C([O-])=O"
                          ".OC[C@@H](O)[C@@H](O)[C@H](O)[C@@H](O)C([O-])=O", ""),
    "Insulin": ("", "A10AB01"), "Insulin glargine": ("", "A10AE04"),
}
COLUMNS = {"name": "Name", "smiles": "SMILES", "atc": "ATC"}


@pytest.mark.parametrize(("text", "wanted"), [
    ("metoprolol succinate 25 mg er tab", "Metoprolol"),
    ("GlucoTox 500 mg tablet", "Metformin"),  # a private name of a private salt: nothing in it says metformin
    ("moxiwet caps", "Amoxicillin"),
    ("metformin hydrochloride 850 mg", "Metformin"),  # a salt that the knowledge base does not have
    ("aminophylline inj", "Aminophylline"),  # a drug in its own right, by its ATC code
    ("calcium gluconate 1 g", "Calcium gluconate"),  # what matters is the metal
    ("insulin glargine 100 unit/ml", "Insulin glargine"),
])
def test_salts_and_hydrates_by_structure(known, text, wanted):
    assert [one.name for one in known.resolve(Order(name=(text.lower(),))).ingredients] == [wanted]


@pytest.fixture
def known(fresh_database, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("Name,SMILES,ATC\n" + "".join(f"{name},{smiles},{atc}\n" for name, (smiles, atc) in TABLE.items()))
    ingest(fresh_database, Settings(workers=1), "tabular", IngestOptions(path=path, columns=COLUMNS))
    with fresh_database.connect() as connection:
        return read_resolver(connection)


def test_no_drug_of_the_corpus_is_two_registered_substances():
    claims = [Claim("corpus", row["key"], row["inchikey"] or None, frozenset(filter(None, row["identifiers"].split(" | "))),
                    name=row["name"]) for row in drugs()]
    identities, conflicts = resolve(claims)
    numbers: dict[tuple[str, str], set[str]] = {}
    for claim in claims:
        for one in claim.identifiers:
            if one.startswith("unii:"):
                numbers.setdefault((identities["corpus", claim.key], "unii"), set()).add(one)
    assert [key for key, held in numbers.items() if len(held) > 1] == []
    name = {row["key"]: row["name"] for row in drugs()}
    assert {name[c.key] for c in conflicts if c.kind == "structure"} == {
        "Tocofersolan", "Neomycin", "Enoxaparin", "Synthetic camphor", "Benzododecinium", "Dihydroergocryptine", "sotorasib"}


def test_an_identifier_of_several_drugs_orders_none_of_them_and_an_ndc_all():
    assert _meant_by("cas", {1, 2}, frozenset()) == ()  # heparins share a CAS number
    assert _meant_by("cas", {1, 2}, frozenset({2})) == (2,)
    assert _meant_by("ndc", {1, 2}, frozenset({2})) == (1, 2)
