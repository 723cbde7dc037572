"""Orders resolve to ingredients by a stated order of evidence, and to one class by route and form."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kb.errors import DataError, UsageError
from kb.names.words import canonical_name
from recsys.formats.contract import CodePairs
from recsys.orders.classes import added_codes, choose_class, is_combination, use_of
from recsys.orders.medications import INGREDIENT, MedicationMap, ingredients_of, map_orders
from recsys.orders.order import Order
from recsys.orders.own_map import OwnMap, parse_map, read_map_file
from recsys.orders.resolve import (
    AMBIGUOUS,
    DISAGREE,
    LACKING,
    MAPPED_AWAY,
    NO_DRUG,
    NO_NAME,
    NOT_A_DRUG,
    PARTLY,
    PRODUCT_DISAGREES,
    VEHICLE,
    Resolver,
)
from recsys.orders.routes import millilitres, route_of
from tests.bundled_drugs import drug, lexicon, resolver

LISTS = Path(__file__).parents[1] / "data" / "orders"


def order(name="", **parts):
    return Order(name=(name.lower(),) if name else (), **parts)


@pytest.fixture(scope="module")
def known():
    return resolver()


@pytest.fixture(scope="module")
def labelled(known):
    return {level: MedicationMap(level, "one", known) for level in ("1", "2", "3", "4", "5", INGREDIENT)}


def names(resolved):
    return [one.name.lower() for one in resolved.ingredients]


# The faults that were reported, each as the class that an order must have at ATC level 3.
@pytest.mark.parametrize(("text", "route", "classes"), [
    ("hydrochlorothiazide 25 mg", "PO", ("C03A",)),
    ("ibuprofen 400 mg tablet", "PO", ("M01A",)),
    ("hydrocodone-acetaminophen 5-325", "PO", ("N02A", "N02B")),
    ("fluticasone-salmeterol diskus (250/50)", "IH", ("R03A", "R03B")),
    ("ACETAMINOPHEN; HYDROCODONE", "PO", ("N02A", "N02B")),
    ("lidocaine 5% patch", None, ("N01B",)),
    ("lidocaine 5% patch", "TP", ("N01B",)),
    ("lidocaine 1%", None, ("N01B",)),
    ("lidocaine", "IV", ("C01B",)),
    ("NuvaRing", None, ("G02B",)),
    ("Vitamin B 12 5 MG/ML Injectable Solution", None, ("B03B",)),
    ("abuse-deterrent 12 hr oxycodone hydrochloride 80 mg extended release oral tablet", None, ("N02A",)),
    ("lipitor", "PO", ("C10A",)),
    ("dexamethasone", "IV", ("H02A",)), ("dexamethasone", "LEFT EYE", ("S01B",)), ("dexamethasone", "TP", ("D07A",)),
    ("dexamethasone", None, ("H02A",)),
    ("prednisone", "PO", ("H02A",)),
    ("hydrocortisone 10 mg/ml topical cream", None, ("D07A",)), ("hydrocortisone", "PO", ("H02A",)),
    ("vancomycin", "IV", ("J01X",)), ("vancomycin oral liquid", "PO", ("A07A",)),
    ("metronidazole", "PO", ("P01A",)), ("metronidazole", "IV", ("J01X",)),
    ("potassium chloride", "PO", ("A12B",)), ("potassium chloride", "IV", ("B05X",)),
    ("nystatin oral suspension", "PO", ("A07A",)), ("miconazole powder 2%", "TP", ("D01A",)),
    ("aspirin 81 mg", "PO", ("B01A",)), ("aspirin 650 mg tab", "PO", ("N02B",)),
    ("fentanyl citrate", "IV", ("N01A",)), ("fentanyl patch", "TP", ("N02A",)),
    ("chlorhexidine gluconate 0.12% oral rinse", None, ("A01A",)),
    ("timolol maleate 0.25%", "LEFT EYE", ("S01E",)), ("timolol 10 mg", "PO", ("C07A",)),
    ("albuterol", None, ("R03A",)), ("clonidine", None, ("C02A",)),
    ("budesonide 0.25 mg/ml inhalation suspension", None, ("R03B",)),
    ("ethinyl estradiol / norgestimate", None, ("G03A",)),
    ("Mirena 52 MG Intrauterine System", None, ("G02B",)),
    ("nitroglycerin ointment", "TP", ("C01D",)),
    ("medroxyprogesterone acetate 150 mg/ml injection", None, ("G03A",)),
    ("sulfameth/trimethoprim", "PO", ("J01E",)),
    ("multivitamins", "PO", ("A11B",)),
    ("losartan-hctz", "PO", ("C03A", "C09C")),
])
def test_an_ingredient_has_one_class(labelled, text, route, classes):
    labels = labelled["3"].label(order(text, route=route))
    assert labels.labels == tuple(f"ATC:{code}" for code in classes)
    assert len(labels.labels) <= max(len(names(labelled["3"].resolver.resolve(order(text, route=route)))), 1)


@pytest.mark.parametrize(("text", "found"), [  # a symbol beside another word is a part of its name, no drug
    ("co-amoxiclav 500/125 tablet", {"amoxicillin", "clavulanic acid"}), ("Co-Codamol 30/500", {"codeine", "acetaminophen"}),
    ("co-careldopa", {"levodopa", "carbidopa"}), ("co-strange", set()), ("CO Q-10", set()), ("ac-dc", set()),
    ("carbon monoxide", {"carbon monoxide"}), ("K phos", {"monopotassium phosphate"}),
    ("enoxaparin 40 mg/0.4 ml sub-q syringe .4 ml syringe", {"enoxaparin"}),  # Q is not L-glutamine, R not arginine
    ("nitroglycerin 50 mg in d5w 250 ml r", {"nitroglycerin"}),
    ("calcium carbonate-vitamin D3", {"calcium carbonate", "cholecalciferol"}),
])
def test_a_short_name_is_a_drug_only_alone(known, text, found):
    assert set(names(known.resolve(order(text)))) == found


@pytest.mark.parametrize(("text", "found"), [  # brands whose first word is the brand of one part
    ("Synjardy 5-500", {"empagliflozin", "metformin"}), ("Soliqua", {"insulin glargine", "lixisenatide"}),
    ("Cipro HC otic", {"ciprofloxacin", "hydrocortisone"}), ("Talwin NX", {"pentazocine", "naloxone"}),
    ("Climara Pro patch", {"estradiol", "levonorgestrel"}), ("Juluca", {"dolutegravir", "rilpivirine"}),
    ("Soma compound", {"carisoprodol", "acetylsalicylic acid"}), ("Tekturna HCT", {"aliskiren", "hydrochlorothiazide"}),
    ("Exforge HCT", {"amlodipine", "valsartan", "hydrochlorothiazide"}), ("banana bag", {"thiamine", "folic acid", "magnesium sulfate"}),
])
def test_a_brand_of_a_combination_has_all_its_parts(known, text, found):
    assert set(names(known.resolve(order(text)))) == found


def test_the_class_of_an_order_is_the_one_that_was_given_it_by_hand(labelled):
    with (LISTS / "classes.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len({(row["order"], row["route"]) for row in rows}) == len(rows) >= 150 and all(row["why"] for row in rows)
    found = [labelled["3"].label(order(row["order"], route=row["route"])).labels for row in rows]
    assert all(len(labels) == 1 for labels in found)
    right = sum(labels == (f"ATC:{row['classes']}",) for labels, row in zip(found, rows, strict=True))
    assert right >= 0.97 * len(rows)


def test_the_literature_s_protocol_has_every_class(known):
    every = MedicationMap("3", "literature", known)
    hctz = every.label(order("hydrochlorothiazide", route="PO")).labels
    assert {"ATC:C03A", "ATC:C03E", "ATC:C09D", "ATC:C09X"} <= set(hctz)
    assert {"ATC:C01E", "ATC:G02C", "ATC:M01A"} <= set(every.label(order("ibuprofen", route="PO")).labels)


def test_levels_roll_up(labelled):
    found = {level: labelled[level].label(order("warfarin 5 mg", route="PO")).labels for level in "12345"}
    assert found == {"1": ("ATC:B",), "2": ("ATC:B01",), "3": ("ATC:B01A",), "4": ("ATC:B01AA",), "5": ("ATC:B01AA03",)}
    (key,) = labelled[INGREDIENT].label(order("warfarin sodium 5 mg")).labels
    assert key == "DRUG:drugbank:DB00682" == labelled[INGREDIENT].label(order("coumadin")).labels[0]
    assert labelled[INGREDIENT].label(order("multivitamin")).labels == ("ATC:A11BA",)


def test_codes_come_before_names_and_disagreement_is_counted(known):
    both = known.resolve(order("acetaminophen 325 / hydrocodone 5", rxcui=("161",)))  # RxNorm names one part only
    assert names(both) == ["acetaminophen", "hydrocodone"] and both.ingredients[0].how == "rxcui and name"
    against = known.resolve(order("warfarin", rxcui=("1191",)))
    assert names(against) == ["acetylsalicylic acid"] and against.remarks == (DISAGREE,)
    assert known.resolve(order("", rxcui=("1191",))).ingredients[0].how == "rxcui"
    assert known.resolve(order("warfarin", rxcui=("99999999",))).ingredients[0].how == "name"
    assert names(known.resolve(Order(code="UNII:none", name=("warfarin",)))) == ["warfarin"]


def test_products_by_table_and_by_the_source_s_own_orders():
    fresh = resolver()
    for written in ("000591", "591"):
        product = fresh.resolve(Order(gsn=written))
        assert names(product) == ["acetylcysteine"] and product.ingredients[0].how == "gsn table"
    assert fresh.resolve(order("warfarin", gsn="000591")).remarks == (PRODUCT_DISAGREES,)
    by_atc = fresh.resolve(Order(atc=("C07AB02",)))
    assert names(by_atc) == ["metoprolol"] and by_atc.ingredients[0].how == "atc"
    assert fresh.resolve(Order(hicl="2812")).reason == NO_DRUG
    fresh.learn([(order("WARFARIN SODIUM 5 MG PO TABS", hicl="2812"), 8), (order("coumadin", hicl="2812"), 1),
                 (order("aspirin", hicl="77"), 1), (order("warfarin", hicl="77"), 1)])
    learned = fresh.resolve(Order(hicl="2812"))
    assert names(learned) == ["warfarin"] and learned.ingredients[0].how == "hicl of others"
    assert fresh.resolve(Order(hicl="77")).reason == NO_DRUG  # its named orders do not agree


def test_every_order_without_labels_has_a_reason(known, labelled):
    assert known.resolve(Order()).reason == NO_NAME
    assert known.resolve(order("bag")).reason == NOT_A_DRUG
    assert known.resolve(order("unobtainium 5 mg")).reason == NO_DRUG
    assert known.resolve(order("aspirin unobtainium")).remarks == (PARTLY,)
    small = Resolver(type(lexicon())({"shared": lexicon().meanings["aspirin"].__class__("name", rivals=(1, 2))},
                                     names={1: "one", 2: "two"}))
    ambiguous = small.resolve(order("shared"))
    assert ambiguous.reason == AMBIGUOUS and ambiguous.rivals == ("one", "two")
    assert labelled["3"].label(order("unobtainium")).reason == NO_DRUG


@pytest.mark.parametrize(("text", "parts", "vehicle"), [
    ("d5w", {"kind": "BASE", "route": "IV"}, True),
    ("ns", {"kind": "BASE", "route": "IV", "strength": "1000mL Bag"}, True),
    ("sodium chloride", {"kind": "ADDITIVE", "route": "IV"}, True),
    ("sodium chloride 3% (hypertonic)", {"kind": "BASE", "route": "IV"}, False),
    ("potassium chloride", {"kind": "ADDITIVE", "route": "IV"}, False),
    ("potassium chl 20 meq / 1000 ml d5 1/2 ns", {"kind": "BASE", "route": "IV"}, False),
    ("sodium chloride 0.9% flush", {"kind": "MAIN", "route": "IV"}, True),
    ("sodium chloride 0.9 % iv : 1000 ml", {}, False),
    ("250 ml flex cont : sodium chloride 0.9 % iv soln", {}, True),
    ("dextrose 50%", {"route": "IV"}, False),
    ("glucose gel", {}, False),
    ("sodium chloride nasal", {"route": "NU"}, False),
    ("lactated ringers iv soln", {}, False),
    ("sterile water", {"route": "IV"}, True),
    ("heparin flush (10 units/ml)", {"route": "IV"}, False),
])
def test_diluents_are_vehicles(known, text, parts, vehicle):
    assert (known.resolve(order(text, **parts)).reason == VEHICLE) is vehicle
    assert resolver(keep_vehicles=True).resolve(order(text, **parts)).found


def test_the_user_s_own_map_wins(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("﻿order,means,note\nHydrocerin,ATC:D02A,cream\nNDC:00536-3381-01,warfarin,\n"
                    "ASPIRIN EC ,none,\nhouse mix,aspirin + unobtainium,\n\n", encoding="utf-8")
    own = read_map_file(path)
    mine = resolver(own)
    assert mine.resolve(order("hydrocerin")).product == "D02A"
    assert names(mine.resolve(order("bisacodyl", ndc="00536338101"))) == ["warfarin"]
    assert mine.resolve(order("aspirin  ec")).reason == MAPPED_AWAY
    mixed = mine.resolve(order("house mix"))
    assert names(mixed) == ["acetylsalicylic acid"] and mixed.remarks == (LACKING,)
    assert len(own) == 4 and len(own.sha256) == 64 and OwnMap().sha256 == ""
    with pytest.raises(UsageError, match="does not exist"):
        read_map_file(tmp_path / "none.csv")
    with pytest.raises(DataError, match="columns a, b") as wrong:
        parse_map("a,b\n1,2\n", "x.csv")
    assert "order,means" in wrong.value.hint
    with pytest.raises(DataError, match="line 3"):
        parse_map("order,means\naspirin,warfarin\nASPIRIN,none\n", "x.csv")
    with pytest.raises(DataError, match="line 2"):
        parse_map("order,means\naspirin,\n", "x.csv")


@pytest.mark.parametrize(("means", "hint"), [("asprin", "aspirin"), ("ATC:heart", "mkmed kb search"), ("xyzzy + plugh", "none")])
def test_a_row_of_the_map_that_names_nothing_is_refused(means, hint):
    with pytest.raises(DataError, match="names no drug and no class") as wrong:
        resolver(OwnMap({"house mix": means})).check_map()
    assert hint in wrong.value.hint
    resolver(OwnMap({"a": "aspirin + xyzzy", "b": "ATC:B01A", "c": "none", "d": "Warfarin"})).check_map()


def test_mapping_keeps_rows_and_says_which_ingredient_was_under_which_label(known):
    keys = [order("aspirin 81 mg").key, order("plavix").key, order("unobtainium").key, order("percocet").key]
    pairs = CodePairs("rx", np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 3]), np.ones(5, np.int64), keys)
    mapped = map_orders(pairs, MedicationMap("3", "one", known))
    assert mapped.pairs.rows.sum() + sum(mapped.lost.values()) == 5 and mapped.lost == {NO_DRUG: 1}
    assert mapped.how == {"name": 3, "shorthand": 1} or sum(mapped.how.values()) == 4
    under = ingredients_of(mapped.ordered.names)
    assert under["ATC:B01A"] == tuple(sorted({known.key(drug("aspirin")), known.key(drug("clopidogrel"))}))
    assert set(under) == {"ATC:B01A", "ATC:N02A", "ATC:N02B"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frequent_orders.tsv", "tail_orders.tsv"])
def test_orders_of_the_open_demos_resolve_as_labelled_by_hand(name):
    """Precision and recall of ingredients, each distinct order once; what the lists are is said in their folder."""
    keeping = resolver(keep_vehicles=True)
    right, wrong, missed = Counter(), Counter(), Counter()
    with (LISTS / name).open(encoding="utf-8") as stream:
        listed = list(csv.DictReader(stream, delimiter="\t"))
    for row in listed:
        wanted = {part[:8] if part.startswith("ATC:") else f"DRUG:{identity(part)}"
                  for part in row["ingredients"].split(" + ") if part != "none"}
        found = keeping.resolve(order(row["order"], kind=row["kind"] or None))
        got = {key[:8] if key.startswith("ATC:") else key for key in found.keys}
        for counter, some in ((right, wanted & got), (wrong, got - wanted), (missed, wanted - got)):
            counter[row["source"]] += len(some)
    assert len(listed) >= 200
    assert right.total() / (right.total() + wrong.total()) >= 0.97
    assert right.total() / (right.total() + missed.total()) >= 0.95


def identity(name):
    return resolver().identities[drug(name)]


def test_routes_and_volumes():
    assert route_of("PO", None, ()) == "oral" and route_of(None, "TAB", ()) == "oral"
    assert route_of("LEFT EYE", None, ()) == "eye" and route_of("IV DRIP", None, ()) == "iv"
    assert route_of(None, None, ("3 ml plas cont: ipratropium-albuterol 0.5-2.5 (3) mg/3ml in soln",)) == "inhaled"
    assert route_of("TP", None, ("fentanyl patch",)) == "patch" and route_of("", "", ()) == ""
    assert millilitres(("1,000 ML BAG", "50 ml")) == 1000 and millilitres(("1 L",)) == 1000 and millilitres(()) == 0


def test_codes_of_combinations_are_known_as_such():
    for code in ("C03EA01", "C09DA01", "N02BE51", "R03AK06", "J01CR02", "A02AD01", "C07BB02", "N06AA59", "G01AE10"):
        assert is_combination(code), code
    for code in ("C03AA03", "M01AE01", "A06AD15", "R03AC02", "B01AC06", "J01CA04", "A10AB01", "N02BE01"):
        assert not is_combination(code), code
    assert choose_class(["C03EA01", "C09DX01"], "oral", ()) == "C03EA01"  # only combinations: better than nothing
    assert choose_class([], "oral", ()) == "" and use_of("S01BA01").routes == {"eye"}


def test_added_codes_are_of_drugs_of_the_corpus_and_well_formed():
    words = lexicon()
    for name, codes in added_codes().items():
        assert len(words.meanings[canonical_name(name)].drugs) == 1, name
        assert all(len(code) in (4, 5, 7) and code[0].isalpha() for code in codes), name
