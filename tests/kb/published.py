"""Samples in the shapes that publishers give their files, written for the tests: a few drugs, and what may be wrong."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from collections.abc import Sequence
from pathlib import Path


def conso(rxcui: str, kind: str, text: str, *, vocabulary: str = "RXNORM", code: str = "", srl: str = "0",
          suppressed: str = "N") -> str:
    return f"{rxcui}|ENG||||||A{rxcui}|{rxcui}|{rxcui}||{vocabulary}|{kind}|{code or rxcui}|{text}|{srl}|{suppressed}|4096|"


def rel(first: str, second: str, word: str, *, vocabulary: str = "RXNORM") -> str:
    """RXNREL: the second concept stands in the relation ``word`` to the first."""
    return f"{first}||CUI|RO|{second}||CUI|{word}|R{first}{second}||{vocabulary}|{vocabulary}||||4096|"


def sat(rxcui: str, name: str, value: str) -> str:
    return f"{rxcui}|||A{rxcui}|AUI|{rxcui}|AT{value}||{name}|RXNORM|{value}|N|4096|"


RXNCONSO = [
    conso("11289", "IN", "warfarin"),
    conso("11289", "SU", "WARFARIN", vocabulary="MTHSPL", code="5Q7ZVV76EI"),
    conso("11289", "IN", "Warfarin", vocabulary="ATC", code="B01AA03"),
    conso("11289", "SY", "4-hydroxy-3-(3-oxo-1-phenylbutyl)coumarin"),
    conso("11289", "FSN", "Warfarin (substance)", vocabulary="SNOMEDCT_US", code="48603004", srl="9"),
    conso("114194", "PIN", "warfarin sodium"),
    conso("202421", "BN", "Coumadin"),
    conso("405155", "BN", "Jantoven"),
    conso("855331", "SCDC", "warfarin sodium 5 MG"),
    conso("855332", "SCD", "warfarin sodium 5 MG Oral Tablet"),
    conso("855334", "SBD", "warfarin sodium 5 MG Oral Tablet [Coumadin]"),
    conso("855336", "SBD", "warfarin sodium 5 MG Oral Tablet [Jantoven]", suppressed="O"),
    conso("317541", "DF", "Oral Tablet"),
    conso("1546356", "DF", "Pack"),
    conso("700001", "GPCK", "{10 (warfarin sodium 5 MG Oral Tablet) } Pack"),
    conso("211832", "BN", "Yosprala"),
    conso("7646", "IN", "omeprazole"),
    conso("318272", "SCDC", "aspirin 81 MG"),
    conso("1722670", "SCDC", "omeprazole 40 MG"),
    conso("1722689", "SCD", "aspirin 81 MG / omeprazole 40 MG Delayed Release Oral Tablet"),
    conso("1722695", "SBD", "aspirin 81 MG / omeprazole 40 MG Delayed Release Oral Tablet [Yosprala]"),
    conso("999001", "SCD", "of unknown ingredients Oral Tablet"),
    conso("1191", "IN", "aspirin"),
    conso("1191", "SU", "ASPIRIN", vocabulary="MTHSPL", code="R16CO5Y76E"),
    conso("4815", "IN", "glyburide", vocabulary="DRUGBANK", code="DB01016"),
    conso("4815", "IN", "glyburide"),
    conso("9999999", "IN", "  "),
    "this line was cut off|ENG|",
]
RXNREL = [
    rel("855331", "11289", "ingredient_of"), rel("11289", "855331", "has_ingredient"),
    rel("855331", "114194", "precise_ingredient_of"),
    rel("855332", "855331", "constitutes"), rel("855331", "855332", "consists_of"),
    rel("855334", "855332", "has_tradename"), rel("855332", "855334", "tradename_of"),
    rel("855334", "202421", "ingredient_of"), rel("202421", "11289", "has_tradename"),
    rel("11289", "405155", "tradename_of"), rel("855332", "317541", "dose_form_of"),
    rel("855334", "317541", "dose_form_of"), rel("114194", "11289", "has_form"),
    rel("11289", "1191", "has_form", vocabulary="MSH"),
    rel("700001", "855332", "contained_in"), rel("855332", "700001", "contains"), rel("700001", "1546356", "dose_form_of"),
    rel("318272", "1191", "ingredient_of"), rel("1722670", "7646", "ingredient_of"),
    rel("1722689", "318272", "constitutes"), rel("1722689", "1722670", "constitutes"),
    rel("1722695", "1722689", "has_tradename"), rel("1722695", "211832", "ingredient_of"),
]
RXNSAT = [sat("855332", "NDC", "00093172001"), sat("855334", "NDC", "00056017270"), sat("855334", "RXTERM_FORM", "Tab"),
          sat("1722670", "RXN_STRENGTH", "40 MG"), sat("1722695", "NDC", "70347-0081-30"), sat("1722695", "NDC", "1234567890")]


def write_rxnorm(folder: Path, *, without: Sequence[str] = ()) -> Path:
    """The three files of a release in ``folder``; names of ingredients in ``without`` are not in it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [line for line in RXNCONSO if not any(f"|{name}|0|" in line for name in without)]
    for name, lines in (("RXNCONSO", rows), ("RXNREL", RXNREL), ("RXNSAT", RXNSAT)):
        (folder / f"{name}.RRF").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


CHEMBL_SCHEMA = """
CREATE TABLE version (name VARCHAR(50), creation_date DATE, comments VARCHAR(2000));
CREATE TABLE molecule_dictionary (molregno BIGINT PRIMARY KEY, pref_name VARCHAR(255), chembl_id VARCHAR(20),
    max_phase NUMERIC(2,1), therapeutic_flag SMALLINT, structure_type VARCHAR(10), molecule_type VARCHAR(30));
CREATE TABLE compound_structures (molregno BIGINT PRIMARY KEY, molfile TEXT, standard_inchi VARCHAR(4000),
    standard_inchi_key VARCHAR(27), canonical_smiles VARCHAR(4000));
CREATE TABLE molecule_synonyms (molregno BIGINT, syn_type VARCHAR(50), molsyn_id BIGINT PRIMARY KEY, synonyms VARCHAR(250));
CREATE TABLE molecule_atc_classification (mol_atc_id BIGINT PRIMARY KEY, level5 VARCHAR(10), molregno BIGINT);
CREATE TABLE molecule_hierarchy (molregno BIGINT PRIMARY KEY, parent_molregno BIGINT, active_molregno BIGINT);
CREATE TABLE target_dictionary (tid BIGINT PRIMARY KEY, target_type VARCHAR(30), pref_name VARCHAR(200), tax_id BIGINT,
    organism VARCHAR(150), chembl_id VARCHAR(20));
CREATE TABLE drug_mechanism (mec_id BIGINT PRIMARY KEY, record_id BIGINT, molregno BIGINT,
    mechanism_of_action VARCHAR(250), tid BIGINT, action_type VARCHAR(50));
CREATE TABLE drug_indication (drugind_id BIGINT PRIMARY KEY, record_id BIGINT, molregno BIGINT,
    max_phase_for_ind NUMERIC(2,1), mesh_id VARCHAR(20), mesh_heading VARCHAR(200), efo_id VARCHAR(20),
    efo_term VARCHAR(200));
CREATE TABLE assays (assay_id BIGINT PRIMARY KEY, tid BIGINT);
CREATE TABLE activities (activity_id BIGINT PRIMARY KEY, assay_id BIGINT, molregno BIGINT, pchembl_value NUMERIC(4,2));
"""
MOLECULES = [
    (1, "ALLOPURINOL", "CHEMBL1467", 4, "O=c1[nH]cnc2[nH]ncc12", "OFCNXPDARWKPPY-UHFFFAOYSA-N"),
    (2, "FEBUXOSTAT", "CHEMBL1164729", 4, "Cc1nc(-c2ccc(OCC(C)C)c(C#N)c2)sc1C(=O)O", "BQSJTQLCZDPROO-UHFFFAOYSA-N"),
    (3, "COLCHICINE", "CHEMBL107", 4, "COc1cc2c(c(OC)c1OC)-c1ccc(OC)c(=O)cc1[C@@H](NC(C)=O)CC2",
     "IAKHMKGGTNLKSZ-INIZCTEOSA-N"),
    (4, "PHENELZINE", "CHEMBL1089", 4, "NNCCc1ccccc1", "RMUCZJUITONUFY-UHFFFAOYSA-N"),
    (5, "PHENELZINE SULFATE", "CHEMBL1200769", 4, "NNCCc1ccccc1.O=S(=O)(O)O", "RXBKMJIPNDOHFR-UHFFFAOYSA-N"),
    (6, None, "CHEMBL6329", None, "Cc1cc(-n2ncc(=O)[nH]c2=O)ccc1C(=O)c1ccccc1Cl", "OWRSAHYFSSNENM-UHFFFAOYSA-N"),
    (7, "WRONGLY DRAWN", "CHEMBL77777", 2, "CCO", "RMUCZJUITONUFY-UHFFFAOYSA-N"),
    (8, None, "CHEMBL88888", -1, "CCCC", "IJDNQMDRQITEOD-UHFFFAOYSA-N"),
]


def write_chembl(path: Path, *, gout: str = "Gout") -> Path:
    """A ChEMBL database of eight molecules; ``gout`` is what it calls the disease."""
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as base:
        base.executescript(CHEMBL_SCHEMA)
        base.execute("INSERT INTO version VALUES ('ChEMBL_36', '2025-07-28', '')")
        for number, name, chembl, phase, smiles, key in MOLECULES:
            base.execute("INSERT INTO molecule_dictionary VALUES (?, ?, ?, ?, 0, 'MOL', 'Small molecule')",
                         (number, name, chembl, phase))
            if smiles:
                base.execute("INSERT INTO compound_structures VALUES (?, '', '', ?, ?)", (number, key, smiles))
            base.execute("INSERT INTO molecule_hierarchy VALUES (?, ?, ?)", (number, 4 if number == 5 else number, number))
        base.executemany("INSERT INTO molecule_synonyms VALUES (?, ?, ?, ?)", [
            (1, "TRADE_NAME", 1, "Zyloprim"), (1, "INN", 2, "Allopurinol"), (2, "TRADE_NAME", 3, "Uloric"),
            (4, "TRADE_NAME", 4, "Nardil"), (6, "RESEARCH_CODE", 5, "R-1")])
        base.executemany("INSERT INTO molecule_atc_classification VALUES (?, ?, ?)", [
            (1, "M04AA01", 1), (2, "M04AA03", 2), (3, "M04AC01", 3), (4, "N06AF03", 4), (5, "not a code", 4)])
        base.executemany("INSERT INTO target_dictionary VALUES (?, 'SINGLE PROTEIN', ?, 9606, 'Homo sapiens', ?)", [
            (10, "Xanthine dehydrogenase", "CHEMBL1929"), (11, "Monoamine oxidase", "CHEMBL2095205"),
            (12, "Tubulin", "CHEMBL2095182")])
        base.executemany("INSERT INTO drug_mechanism VALUES (?, ?, ?, ?, ?, ?)", [
            (1, 1, 1, "Xanthine dehydrogenase inhibitor", 10, "INHIBITOR"),
            (2, 2, 2, "Xanthine dehydrogenase inhibitor", 10, "INHIBITOR"),
            (3, 3, 3, "Tubulin inhibitor", 12, "INHIBITOR"), (4, 4, 4, "Monoamine oxidase inhibitor", 11, "INHIBITOR"),
            (5, 5, 4, "Unknown", None, None)])
        base.executemany("INSERT INTO drug_indication VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [
            (1, 1, 1, 4, "D006073", gout, "EFO:0004274", "gout"), (2, 2, 2, 4, "D006073", gout, "EFO:0004274", "gout"),
            (3, 3, 3, 4, "D006073", gout, "EFO:0004274", "gout"), (4, 4, 4, 4, "D003866", "Depressive Disorder", None, None),
            (5, 5, 1, 2, None, None, "EFO:0003918", "obstructive sleep apnea"), (6, 6, 2, 1, None, None, None, None)])
        base.executemany("INSERT INTO assays VALUES (?, ?)", [(100, 10), (101, 10), (102, None)])
        base.executemany("INSERT INTO activities VALUES (?, ?, ?, ?)", [
            (1, 100, 2, 8.9), (2, 101, 2, 8.1), (3, 100, 6, 9.0), (4, 102, 2, 9.9), (5, 100, 1, 5.0), (6, 100, 1, None)])
    base.close()
    return path


PRIMEKG = """relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source
contraindication,contraindication,0,DB00780,drug,Phenelzine,DrugBank,1,8233,disease,pheochromocytoma,MONDO
contraindication,contraindication,1,8233,disease,pheochromocytoma,MONDO,0,DB00780,drug,Phenelzine,DrugBank
indication,indication,2,DB00437,drug,Allopurinol,DrugBank,3,5393,disease,gout,MONDO
off-label use,off-label use,4,DB00682,drug,Warfarin,DrugBank,5,13924_12592,disease,"stroke, ischemic",MONDO_grouped
drug_protein,target,2,DB00437,drug,Allopurinol,DrugBank,6,7498,gene/protein,XDH,NCBI
protein_protein,ppi,6,7498,gene/protein,XDH,NCBI,7,217,gene/protein,ALDH2,NCBI
protein_protein,ppi,7,217,gene/protein,ALDH2,NCBI,6,7498,gene/protein,XDH,NCBI
indication,indication,9,DB99999,drug,Unknownium,DrugBank,3,5393,disease,gout,MONDO
drug_weather,rains,2,DB00437,drug,Allopurinol,DrugBank,8,1,weather,rain,NOAA
"""
HETIONET = """source\tmetaedge\ttarget
Compound::DB00437\tCtD\tDisease::DOID:13189
Compound::DB00722\tCpD\tDisease::DOID:784
Compound::DB00437\tCbG\tGene::7498
Compound::DB00682\tCcSE\tSide Effect::C0019080
Gene::2625\tGpBP\tBiological Process::GO:2000696
Gene::9021\tGr>G\tGene::7498
Compound::DB00437\tXyZ\tGene::1
"""
HETIONET_NODES = "id\tname\tkind\nDisease::DOID:13189\tgout\tDisease\nDisease::DOID:784\tchronic kidney failure\tDisease\n"
KGX_EDGES = """id\tsubject\tpredicate\tobject\tscore\tpublications\tknowledge_level\tagent_type\tprimary_knowledge_source
e1\tDRUGBANK:DB00682\tbiolink:interacts_with\tNCBIGene:1559\t0.93\tPMID:12345\tobservation\tmanual_agent\tinfores:mine
e2\tDRUGBANK:DB00682\tbiolink:treats\tMONDO:0000831\thigh\t\tassertion\tmanual_agent\tinfores:mine
e3\tDRUGBANK:DB00682\tbiolink:treats\t\t\t\t\t\tinfores:mine
"""
KGX_NODES = ("id\tcategory\tname\nDRUGBANK:DB00682\tbiolink:SmallMolecule\tWarfarin\nNCBIGene:1559\tbiolink:Gene\tCYP2C9\n"
             "MONDO:0000831\tbiolink:Disease\tthrombotic disease\n")


def write_text(path: Path, text: str) -> Path:
    """The file, made."""
    path.write_text(text, encoding="utf-8")
    return path


DRUGCENTRAL = """--
-- PostgreSQL database dump
--
CREATE TABLE public.structures (cd_id integer NOT NULL, name character varying(250));
COPY public.identifier (id, identifier, id_type, struct_id, parent_match) FROM stdin;
1\tDB00780\tDRUGBANK_ID\t2141\t\\N
2\tCHEMBL1089\tChEMBL_ID\t2141\t\\N
3\t8123\tRXNORM\t2141\t\\N
4\tsomething\tKEGG_DRUG\t2141\t\\N
\\.
COPY public.omop_relationship (id, struct_id, concept_id, relationship_name, concept_name, umls_cui, snomed_full_name, cui_semantic_type, snomed_conceptid) FROM stdin;
1\t2141\t40\tindication\tDepressive disorder\tC0011581\tDepressive disorder (disorder)\tT048\t35489007
2\t2141\t41\tcontraindication\tPheochromocytoma\tC0031511\t\\N\tT191\t302835009
3\t2141\t42\toff-label use\tPanic disorder\tC0030319\t\\N\tT048\t\\N
4\t2141\t43\treduce risk\tBulimia\t\\N\t\\N\t\\N\t\\N
5\t9999\t44\tindication\tOf nobody\t\\N\t\\N\t\\N\t\\N
\\.
COPY public.struct2atc (struct_id, atc_code, id) FROM stdin;
2141\tN06AF03\t1
\\.
COPY public.structures (cd_id, cd_formula, id, cas_reg_no, name, molfile, smiles, inchi, inchikey) FROM stdin;
7\tC8H12N2\t2141\t51-71-8\tphenelzine\tline\\nof a molfile\tNNCCC1=CC=CC=C1\tInChI=1S/C8H12N2\tRMUCZJUITONUFY-UHFFFAOYSA-N
8\t\\N\t5001\t\\N\tinfliximab\t\\N\t\\N\t\\N\t\\N
broken\trow
\\.
COPY public.synonyms (syn_id, id, name, preferred_name, parent_id, lname) FROM stdin;
1\t2141\tphenethylhydrazine\t\\N\t\\N\tphenethylhydrazine
\\.
DROP TABLE public.structures;
"""
LABELS: dict[str, object] = {"meta": {"license": "https://open.fda.gov/license/"}, "results": [
    {"set_id": "s-1", "effective_time": "20200101", "contraindications": ["Old words."],
     "openfda": {"unii": ["R16CO5Y76E"], "substance_name": ["ASPIRIN"], "brand_name": ["Ecotrin"]}},
    {"set_id": "s-2", "effective_time": "20240101", "indications_and_usage": ["For pain \n and fever."],
     "contraindications": ["Allergy to NSAIDs."], "boxed_warning": ["Bleeding."],
     "openfda": {"unii": ["R16CO5Y76E"], "substance_name": ["ASPIRIN"], "brand_name": ["Bayer Aspirin"]}},
    {"set_id": "s-3", "effective_time": "20240101", "indications_and_usage": ["Both."],
     "openfda": {"unii": ["R16CO5Y76E", "362O9ITL9D"], "substance_name": ["ASPIRIN", "ACETAMINOPHEN"]}},
    {"set_id": "s-6", "effective_time": "20240101",
     "openfda": {"unii": ["R16CO5Y76E", "KG60484QX9"], "substance_name": ["ASPIRIN", "OMEPRAZOLE"], "brand_name": ["Yosprala"],
                 "product_ndc": ["70347-081"], "package_ndc": ["70347-081-30"], "route": ["ORAL"]}},
    {"set_id": "s-7", "effective_time": "20240101",
     "openfda": {"unii": ["KG60484QX9"], "substance_name": ["OMEPRAZOLE"], "product_ndc": ["0186-0606"],
                 "generic_name": ["OMEPRAZOLE"], "package_ndc": ["0186-0606-31", "0186-0606-3x"], "route": ["ORAL"],
                 "manufacturer_name": ["Somebody Inc."]}},
    {"set_id": "s-8", "effective_time": "20240101",
     "openfda": {"unii": ["R16CO5Y76E", "3G6A5W338E"], "substance_name": ["ASPIRIN", "CAFFEINE"], "product_ndc": ["1-1"]}},
    {"set_id": "s-4", "openfda": {}}, {"set_id": "s-5", "openfda": {"unii": ["5Q7ZVV76EI"], "substance_name": ["WARFARIN"]}},
    "no label"]}
DRUGBANK = """<?xml version="1.0" encoding="UTF-8"?>
<drugbank xmlns="http://www.drugbank.ca" version="5.1" exported-on="2024-03-14">
<drug type="small molecule" created="2005-06-13"><drugbank-id primary="true">DB00682</drugbank-id>
 <drugbank-id>APRD00341</drugbank-id><name>Warfarin</name><description>Shut: an anticoagulant.</description>
 <cas-number>81-81-2</cas-number><unii>5Q7ZVV76EI</unii><indication>Shut: thrombosis.</indication>
 <synonyms><synonym language="english">Warfarina</synonym></synonyms>
 <international-brands><international-brand><name>Marevan</name><company/></international-brand></international-brands>
 <products><product><name>Coumadin</name></product></products>
 <atc-codes><atc-code code="B01AA03"><level code="B01AA">Vitamin K antagonists</level></atc-code></atc-codes>
 <drug-interactions><drug-interaction><drugbank-id>DB00945</drugbank-id><name>Aspirin</name>
  <description>Shut: bleeding.</description></drug-interaction></drug-interactions>
 <external-identifiers><external-identifier><resource>ChEBI</resource><identifier>10033</identifier></external-identifier>
 </external-identifiers>
 <targets><target><id>BE0000048</id><name>Vitamin K epoxide reductase</name><actions><action>inhibitor</action></actions>
  <polypeptide id="Q9BQB6" source="Swiss-Prot"/></target></targets>
</drug>
<drug type="biotech"><drugbank-id primary="true">DB00002</drugbank-id><name>Cetuximab</name><description/></drug>
<drug type="small molecule"><name>Nameless</name></drug>
</drugbank>
"""
UNICHEM = ("UCI\tSTANDARDINCHI\tSTANDARDINCHIKEY\n161671\tInChI=1S/C8H12N2\tRMUCZJUITONUFY-UHFFFAOYSA-N\n"
           "2\tInChI=1S/CH4/h1H4\tVNWKTOKETHGBQD-UHFFFAOYSA-N\n")
REFERENCE = ("UCI\tSRC_ID\tSRC_COMPOUND_ID\tASSIGNMENT\n161671\t2\tDB00780\t1\n161671\t22\t3675\t1\n161671\t22\t999\t0\n"
             "161671\t6\tC07430\t1\n2\t22\t297\t1\n161671\t7\tnot a number\t1\n")


def spl(set_id: str, products: str, sections: str, *, when: str = "20240315", kind: str = "HUMAN PRESCRIPTION DRUG LABEL") -> str:
    """A label in the shape of DailyMed's XML (HL7 version 3)."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<?xml-stylesheet href="https://www.accessdata.fda.gov/spl/stylesheet/spl.xsl" type="text/xsl"?>
<document xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<id root="d-{set_id}"/><code code="34391-3" codeSystem="2.16.840.1.113883.6.1" displayName="{kind}"/>
<title>A label</title><effectiveTime value="{when}"/><setId root="{set_id}"/><versionNumber value="7"/>
<author><time/><assignedEntity><representedOrganization><id extension="1" root="1.3.6.1.4.1.519.1"/><name>Bristol-Myers Squibb</name>
</representedOrganization></assignedEntity></author>
<component><structuredBody>
<component><section><id root="p"/><code code="48780-1" codeSystem="2.16.840.1.113883.6.1" displayName="SPL LISTING DATA ELEMENTS SECTION"/>
{products}</section></component>
{sections}
</structuredBody></component></document>"""


def spl_product(ndc: str, brand: str, generic: str, ingredients: str, *, form: str = "TABLET") -> str:
    return f"""<subject><manufacturedProduct><manufacturedProduct>
<code code="{ndc}" codeSystem="2.16.840.1.113883.6.69"/><name>{brand}<suffix/></name>
<formCode code="C42998" codeSystem="2.16.840.1.113883.3.26.1.1" displayName="{form}"/>
<asEntityWithGeneric><genericMedicine><name>{generic}</name></genericMedicine></asEntityWithGeneric>
{ingredients}
<ingredient classCode="IACT"><ingredientSubstance><code code="J2B2A4N98G" codeSystem="2.16.840.1.113883.4.9"/><name>LACTOSE</name>
</ingredientSubstance></ingredient>
<asContent><quantity><numerator value="100" unit="1"/><denominator value="1"/></quantity><containerPackagedProduct>
<code code="{ndc}-70" codeSystem="2.16.840.1.113883.6.69"/><formCode code="C43169" displayName="BOTTLE"/></containerPackagedProduct>
</asContent></manufacturedProduct><consumedIn><substanceAdministration>
<routeCode code="C38288" codeSystem="2.16.840.1.113883.3.26.1.1" displayName="ORAL"/></substanceAdministration></consumedIn>
</manufacturedProduct></subject>"""


def spl_ingredient(unii: str, name: str, moiety: str, moiety_name: str, amount: str, unit: str = "mg", below: str = "1") -> str:
    return f"""<ingredient classCode="ACTIB"><quantity><numerator value="{amount}" unit="{unit}"/><denominator value="{below}"
unit="{"1" if below == "1" else "mL"}"/></quantity><ingredientSubstance><code code="{unii}" codeSystem="2.16.840.1.113883.4.9"/>
<name>{name}</name><activeMoiety><activeMoiety><code code="{moiety}" codeSystem="2.16.840.1.113883.4.9"/><name>{moiety_name}</name>
</activeMoiety></activeMoiety></ingredientSubstance></ingredient>"""


def spl_section(code: str, title: str, body: str, *, inner: str = "") -> str:
    return f"""<component><section><id root="s{code}"/><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><title>{title}</title>
<text>{body}</text>{inner}</section></component>"""


WARFARIN_SODIUM = ("6153CWM0CL", "WARFARIN SODIUM", "5Q7ZVV76EI", "WARFARIN")
SPLS = {
    "coumadin.xml": spl(
        "set-coumadin",
        spl_product("0056-0172", "Coumadin", "warfarin sodium", spl_ingredient(*WARFARIN_SODIUM, "5"))
        + spl_product("0056-0170", "Coumadin", "warfarin sodium", spl_ingredient(*WARFARIN_SODIUM, "2.5")),
        spl_section("34066-1", "WARNING: BLEEDING RISK", "<paragraph>Can cause <content styleCode='bold'>major</content> bleeding.</paragraph>")
        + spl_section("34067-9", "1 INDICATIONS AND USAGE", "<paragraph>COUMADIN is indicated for:</paragraph><list><item>Prophylaxis"
                      "<sup>1</sup> of thrombosis</item><item>Atrial fibrillation</item></list>")
        + spl_section("34070-3", "4 CONTRAINDICATIONS", "<paragraph>Pregnancy, except in women with mechanical heart valves.</paragraph>")
        + spl_section("34068-7", "2 DOSAGE", "", inner=spl_section(
            "42229-5", "2.1 Individualised Dosing", "<table><tr><td>INR</td><td>2-3</td></tr></table>"))),
    "old.xml": spl("set-old", spl_product("0093-1720", "Warfarin Sodium", "Warfarin Sodium", spl_ingredient(*WARFARIN_SODIUM, "5")),
                   spl_section("34067-9", "INDICATIONS", "Old words about thrombosis."), when="20190101"),
    "percocet.xml": spl(
        "set-percocet", spl_product("63481-623", "Percocet", "oxycodone and acetaminophen",
                                    spl_ingredient("C1ENJ2TE6C", "OXYCODONE HYDROCHLORIDE", "CD35PMG570", "OXYCODONE", "5")
                                    + spl_ingredient("362O9ITL9D", "ACETAMINOPHEN", "362O9ITL9D", "ACETAMINOPHEN", "325", "mg", "5")),
        spl_section("34067-9", "INDICATIONS", "For pain.")),
    "animal.xml": spl("set-animal", "", "", kind="PRESCRIPTION ANIMAL DRUG LABEL"),
    "cosmetic.xml": spl("set-cosmetic", spl_product("1111-2222", "Cream", "", ""), "", kind="COSMETIC"),
    "broken.xml": "<document xmlns='urn:hl7-org:v3'><id root='cut'",
}


def write_dailymed(path: Path) -> Path:
    """A release: a zip whose members are a zip a label, with a picture, and one label beside them."""
    with zipfile.ZipFile(path, "w") as release:
        for name, said in SPLS.items():
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as one:
                one.writestr(name, said)
                one.writestr("figure.jpg", b"no xml")
            release.writestr(f"prescription/20240315_{name.removesuffix('.xml')}.zip", buffer.getvalue())
        release.writestr("prescription/damaged.zip", b"PK no zip")
    return path
