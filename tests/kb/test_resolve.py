"""Identity: a function of the set of claims, whatever their order."""

from hypothesis import given
from hypothesis import strategies as st

from kb.identity.claims import Claim, portray, resolve

KEYS = ["AAAAAAAAAAAAAA-AAAAAAAAAA-N", "BBBBBBBBBBBBBB-BBBBBBBBBB-N"]
identifiers = st.frozensets(
    st.sampled_from([f"drugbank:DB0000{i}" for i in range(4)] + ["unii:AAAAAAAAAA", "unii:BBBBBBBBBB", "cas:50-00-0"]), max_size=3
)
claims = st.builds(
    Claim,
    source=st.sampled_from(["a", "b"]),
    key=st.sampled_from([f"user:{i}" for i in range(6)]),
    inchikey=st.sampled_from([None, None, *KEYS]),
    identifiers=identifiers,
)
claim_sets = st.lists(claims, max_size=8, unique_by=lambda c: (c.source, c.key))


@given(claim_sets, st.randoms())
def test_order_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    first, second = resolve(found), resolve(shuffled)
    assert first[0] == second[0]
    assert set(first[1]) == set(second[1])


@given(claim_sets)
def test_repeating_does_not_matter(found):
    assert resolve(found + found) == resolve(found)


@given(claim_sets)
def test_two_structures_are_never_one_drug(found):
    identities, conflicts = resolve(found)
    apart = {(c.source, c.key) for c in conflicts if c.kind == "structure"}
    for claim in found:
        if claim.inchikey and (claim.source, claim.key) not in apart:
            assert identities[claim.source, claim.key] == f"inchikey:{claim.inchikey}"
        if (claim.source, claim.key) in apart:
            assert identities[claim.source, claim.key] != f"inchikey:{claim.inchikey}"


@given(claim_sets)
def test_one_structure_has_one_unii(found):
    identities, _ = resolve(found)
    of: dict[str, list[set[str]]] = {}
    for claim in found:
        unii = {i for i in claim.identifiers if i.startswith("unii:")}
        if claim.inchikey and unii and identities[claim.source, claim.key] == f"inchikey:{claim.inchikey}":
            of.setdefault(claim.inchikey, []).append(unii)
    for numbers in of.values():
        assert any(all(one & other for other in numbers) for one in numbers)


def test_a_structure_drawn_for_two_registered_substances_makes_no_drug_of_them():
    heparin = Claim("corpus", "drugbank:DB01109", KEYS[0], frozenset({"unii:T2410KM04A", "pubchem.compound:772"}),
                    name="Heparin", smiles="C", formula="CH4")
    enoxaparin = Claim("corpus", "drugbank:DB01225", KEYS[0], frozenset({"unii:E47C0NF7LV", "pubchem.compound:772"}),
                       name="Enoxaparin", smiles="C", formula="CH4")
    brand = Claim("names", "drugbank:DB01225", None, frozenset({"drugbank:DB01225"}), name="Enoxaparin")
    fetched = Claim("pubchem", "pubchem.compound:772", KEYS[0], name="Heparin")
    identities, conflicts = resolve([enoxaparin, brand, heparin, fetched])
    assert identities == {
        ("corpus", "drugbank:DB01109"): f"inchikey:{KEYS[0]}", ("pubchem", "pubchem.compound:772"): f"inchikey:{KEYS[0]}",
        ("corpus", "drugbank:DB01225"): "drugbank:DB01225", ("names", "drugbank:DB01225"): "drugbank:DB01225",
    }
    assert [(c.key, c.identifier, c.kind) for c in conflicts] == [
        ("drugbank:DB01225", f"inchikey:{KEYS[0]}", "structure")]
    shown = portray("drugbank:DB01225", [enoxaparin, brand])
    assert (shown.name, shown.smiles, shown.inchikey, shown.formula) == ("Enoxaparin", None, None, None)


def test_without_a_number_of_its_own_a_record_follows_the_structure():
    known = Claim("corpus", "drugbank:DB00221", KEYS[0], frozenset({"unii:AAAAAAAAAA", "drugcentral:1491"}))
    again = Claim("corpus", "drugcentral:1491", KEYS[0], frozenset({"drugcentral:1491"}))
    stranger = Claim("corpus", "drugcentral:5461", KEYS[0], frozenset({"drugcentral:5461"}))
    identities, _ = resolve([known, again, stranger])
    assert identities["corpus", "drugcentral:1491"] == f"inchikey:{KEYS[0]}"
    assert identities["corpus", "drugcentral:5461"] == "drugcentral:5461"


def test_a_record_without_structure_joins_the_one_that_shares_its_identifier():
    with_structure = Claim("a", "user:1", KEYS[0], frozenset({"drugbank:DB00001"}))
    without = Claim("b", "user:2", None, frozenset({"drugbank:DB00001"}))
    assert set(resolve([with_structure, without])[0].values()) == {f"inchikey:{KEYS[0]}"}


def test_two_salts_under_one_identifier_are_a_conflict_not_a_merge():
    salts = [Claim("a", f"user:{i}", key, frozenset({"drugbank:DB00001"})) for i, key in enumerate(KEYS)]
    loose = Claim("b", "user:9", None, frozenset({"drugbank:DB00001"}))
    identities, conflicts = resolve([*salts, loose])
    assert identities["b", "user:9"] == "drugbank:DB00001"
    assert [c.identities for c in conflicts] == [tuple(f"inchikey:{k}" for k in KEYS)]


def test_cas_numbers_do_not_decide_identity():
    a = Claim("a", "user:1", None, frozenset({"cas:50-00-0"}))
    b = Claim("b", "user:2", None, frozenset({"cas:50-00-0"}))
    assert len(set(resolve([a, b])[0].values())) == 2


def test_a_portrait_prefers_the_listed_sources_and_keeps_biologic():
    shown = portray(
        "drugbank:DB1",
        [Claim("zz", "k", name="Zed", kind="biologic"), Claim("corpus", "k", name="Good", kind="unknown")],
    )
    assert (shown.name, shown.kind, shown.smiles) == ("Good", "biologic", None)
