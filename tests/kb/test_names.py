"""A written text means the same drugs everywhere: names, brands, combinations, salts, biosimilars, packs, premixes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import NotFound
from kb.names.lexicon import Meaning, base_drugs, make_lexicon
from kb.names.matching import understand
from kb.names.tables import brand_names, generic_of, written_names
from kb.names.words import FORMS, canonical_name, plain_words, without_salt, without_strengths
from tests.bundled_drugs import lexicon


def named(text):
    words = lexicon()
    reading = understand(text, words)
    return {words.names[drug].lower() for drug in reading.drugs}


@pytest.mark.parametrize(("text", "drugs"), [
    ("adalimumab-atto", {"adalimumab"}),
    ("infliximab-dyyb", {"infliximab"}),
    ("insulin glargine-yfgn", {"insulin glargine"}),
    ("*NF* dapagliflozin", {"dapagliflozin"}),
    ("OxycoDONE (Immediate Release)", {"oxycodone"}),
    ("Taxol", {"paclitaxel"}), ("Temodar", {"temozolomide"}), ("Cytoxan", {"cyclophosphamide"}),
    ("5FU", {"fluorouracil"}), ("5-FU", {"fluorouracil"}), ("VP-16", {"etoposide"}), ("CPT-11", {"irinotecan"}),
    ("TYLENOL", {"acetaminophen"}), ("Premarin", {"conjugated estrogens"}), ("lipitor 40 mg", {"atorvastatin"}),
    ("ACETAMINOPHEN; HYDROCODONE", {"acetaminophen", "hydrocodone"}),
    ("oxycodone & acetaminophen", {"acetaminophen", "oxycodone"}),
    ("hydrocodone-acetaminophen 5-325", {"acetaminophen", "hydrocodone"}),
    ("fluticasone-salmeterol", {"fluticasone", "salmeterol"}),
    ("lisinopril + amlodipine", {"lisinopril", "amlodipine"}),
    ("Dyazide", {"hydrochlorothiazide", "triamterene"}),
    ("acetylsalicylic acid", {"acetylsalicylic acid"}),
    ("carboplatin/taxol", {"carboplatin", "paclitaxel"}),
    ("abuse-deterrent 12 hr oxycodone hydrochloride 80 mg extended release oral tablet [oxycontin]", {"oxycodone"}),
    ("NuvaRing", {"ethinylestradiol", "etonogestrel"}),
    ("Vitamin B 12 5 MG/ML Injectable Solution", {"cyanocobalamin"}),
    ("{7 (Inert Ingredients 1 MG Oral Tablet) / 21 (Mestranol 0.05 MG / Norethindrone 1 MG Oral Tablet) } Pack "
     "[Norinyl 1+50 28 Day]", {"mestranol", "norethisterone"}),
    ("5 ML VIAL : DILTIAZEM HCL 25 MG/5ML IV SOLN", {"diltiazem"}),
    ("100 ML  -  POTASSIUM CHLORIDE 20 MEQ/100ML IV SOLN", {"potassium chloride"}),
    ("HYDROmorphone (Dilaudid)", {"hydromorphone"}),
    ("atorvastatin calcium", {"atorvastatin"}),
    ("amoxicillin 250 mg / potassium clavulanate 125 mg", {"amoxicillin", "clavulanic acid"}),
    ("metoprolol tartrate 25 MG Oral Tablet [Lopressor]", {"metoprolol"}),
    ("levothyroxine sodium (SYNTHROID)", {"levothyroxine"}),
    ("Butalbital-Acet-Caffeine", {"butalbital", "acetaminophen", "caffeine"}), ("octreotide acet", {"octreotide"}),
    ("hydrocodon", {"hydrocodone"}),
    ("NOREPINEPHRINE 8 MG in 250mL NS", {"norepinephrine"}),
    ("heparin 25,000 units-D5W", {"heparin"}),
    ("Potassium Chl 20 mEq / 1000 mL D5 1/2 NS", {"potassium chloride", "dextrose, unspecified form", "sodium chloride"}),
    ("magnesium sulfate in water", {"magnesium sulfate"}),
    ("lidocaine hcl/epinephrine", {"lidocaine", "epinephrine"}),
    ("PHENObarbital Alcohol Withdrawal Dose Taper", {"phenobarbital"}),
    ("calcium gluconate sliding scale - ionized calcium", {"calcium gluconate"}),
    ("Insulin (Humalog)", {"insulin lispro"}),
    ("ASPART insulin", {"insulin aspart"}),
    ("UNK", set()), ("Bag", set()), ("PACILTAXEL", set()), ("", set()), ("sodium something strange", set()),
])
def test_what_a_text_names(text, drugs):
    assert named(text) == drugs


def test_what_was_not_understood_is_said():
    reading = understand("aspirin unobtainium 5 mg", lexicon())
    assert reading.left == ("unobtainium",) and len(reading.drugs) == 1
    assert understand("PACILTAXEL", lexicon()).left == ("paciltaxel",)
    assert understand("5 mg po tab", lexicon()).left == ()


def test_a_vehicle_is_told_apart():
    words = lexicon()
    reading = understand("dopamine 400 mg in dextrose 250 ml", words)
    assert [words.names[d] for d in reading.vehicles] == ["Dextrose, unspecified form"]
    assert understand("0.9% sodium chloride", words).vehicles == ()


def test_a_name_of_several_drugs_is_never_chosen_silently():
    few = make_lexicon({1: "alpha", 2: "beta", 3: "gamma"}, [(1, "shared"), (2, "shared"), (1, "coded"), (2, "coded")],
                       with_atc=[2])
    assert few.meanings["shared"] == Meaning("name", (2,))  # one of the two is in use
    none = make_lexicon({1: "alpha", 2: "beta"}, [(1, "shared"), (2, "shared")])
    assert none.meanings["shared"].drugs == () and none.meanings["shared"].rivals == (1, 2)
    assert understand("shared 5 mg", none).drugs == ()
    preferred = make_lexicon({1: "alpha", 2: "beta"}, [(2, "alpha")])
    assert preferred.meanings["alpha"].drugs == (1,)


def test_salts_fold_into_their_base_and_minerals_do_not():
    names = {1: "metoprolol", 2: "metoprolol tartrate", 3: "potassium", 4: "potassium chloride", 5: "isosorbide",
             6: "isosorbide mononitrate", 7: "norethisterone", 8: "norethindrone acetate"}
    folded = base_drugs(names, [(7, "norethindrone")])
    assert folded == {2: 1, 8: 7}
    assert base_drugs({1: "a", 2: "b", 3: "c"}, extra=[(1, 2), (2, 3), (3, 1)]) != {1: 1}  # a circle ends


def test_a_combination_whose_part_is_lacking_says_so():
    few = make_lexicon({1: "acetaminophen"}, [])
    (part,) = understand("percocet", few).parts
    assert part.meaning.drugs == (1,) and part.meaning.missing == ("oxycodone",)


def test_the_bundled_tables_are_sound():
    words = lexicon()
    assert len(written_names()) > 1500 and len(brand_names()) > 9000
    for name, meaning in words.meanings.items():
        if meaning.how == "shorthand":
            assert not meaning.missing, name  # everything that shorthand means is in the corpus
            assert meaning.drugs or meaning.atc or meaning.nothing, name
    assert not set(brand_names()) & set(FORMS)


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_any_text_can_be_read(text):
    words = lexicon()
    reading = understand(text, words)
    assert all(drug in words.names and words.base(drug) == drug for drug in (*reading.drugs, *reading.vehicles))


@given(st.sampled_from(["metoprolol", "warfarin", "ceftriaxone"]), st.sampled_from(["sodium", "tartrate", "hcl", ""]),
       st.sampled_from(["5 mg", "2.5 mg/ml", "1 g", ""]), st.sampled_from(["po tabs", "IV SOLN", "(PF)", ""]))
def test_salt_strength_and_form_never_change_the_drug(drug, salt, strength, form):
    assert named(f"{drug} {salt} {strength} {form}".upper()) == {drug}


def test_words():
    assert without_strengths(plain_words("5 ML VIAL : DILTIAZEM HCL 25 MG/5ML")).split() == ["vial", ":", "diltiazem", "hcl"]
    assert canonical_name("Trimethoprim/Sulfamethoxazole") == "trimethoprim sulfamethoxazole" == canonical_name(
        "trimethoprim and sulfamethoxazole")
    assert without_salt("hydrocortisone sodium succinate") == "hydrocortisone" and without_salt("sodium") == "sodium"


def test_brands_stand_for_generics():
    assert generic_of("Lipitor") == ("atorvastatin",) and generic_of("Percocet") == ("oxycodone", "acetaminophen")
    assert generic_of("temodar") == ("temozolomide",) and generic_of("warfarin") in ((), ("warfarin",))
    assert generic_of("bag") == () == generic_of("multivitamin") == generic_of("no such name")


def test_the_knowledge_base_is_asked_by_brand(database):
    from datetime import UTC, datetime

    from kb.ledger.entries import start_run
    from kb.normalise import Identifier
    from kb.query.names import find_drug
    from kb.sources.contract import Document, DrugRecord, RecordBatch
    from tests.recsys.by_hand import Hand, register_source, write_batch

    document = Document("hand", "https://example.org/list", "text/plain", "CC0-1.0", "somebody",
                        datetime(2026, 1, 1, tzinfo=UTC), "test", payload=b"drugs")
    record = DrugRecord("drugbank:DB01076", "Atorvastatin", document, identifiers=(Identifier.parse("drugbank:DB01076"),))
    with database.begin() as connection:
        register_source(connection, Hand())
        write_batch(connection, start_run(connection, "ingest"), "hand", RecordBatch(drugs=[record]))
        assert find_drug(connection, "lipitor") == find_drug(connection, "atorvastatin")
        with pytest.raises(NotFound, match="oxycodone with acetaminophen"):
            find_drug(connection, "percocet")
        with pytest.raises(NotFound, match="no drug"):
            find_drug(connection, "taxol")
