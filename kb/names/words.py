"""A written drug text as words: strengths taken out, abbreviations written out, forms and salts known as such."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from kb.normalise import tidy


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\S+", text))


FORMS = _words("""
tab tabs tablet tablets cap caps capsule capsules soln sol solution solutions susp suspension syrup elixir inj
injection injectable syringe syringes vial vials amp ampul ampule ampoule bag bags bottle btl pack packet packets
piggyback piggy back premix pmix dose doses ir er xr sr cr dr la ec xl cd xt sa pf iv po im sc sq subq pr sl ng pg gt
oral orally topical ophth ophthalmic otic nasal rectal rect re vaginal inhaled inhalation inhalant inh neb nebs nebu
nebulizer nebulized hfa mdi diskus aerosol spray patch patches cream crm ointment oint gel lotion drops drop gtt liquid
liqd liq powder pwdr pwd concentrate conc enema suppository supp device chewable chew disintegrating dissolve
dispersible disperse sublingual enteric coated immediate delayed extended sustained controlled release released rapid
intravenous intramuscular subcutaneous transdermal infusion drip flush lock bolus ivpb mini bulk free adult pediatric
infant pedi ped unit units mg mcg gm g ml l meq mmol mcl ug kg hr hour hours min iu cc gram grams base human recombinant
rdna sterile preservative emergency crush tbcr tbec cpdr cpcr cp24 tb24 tbdp tbdr tr refrig nf usp bp protocol sliding
scale custom once daily bid tid qid prn sdv mdv solr solp syrg ij lvp inhaler crys crystals cryst part rinse replacement
metered actuat actuation act pen penject injector autoinjector auto prefilled recon reconstituted reconstitute isn packs
udc udpwd ud lozenge troche film swab pca pump continuous intermittent titrate scheduled hold order orders
desensitization flex cont container plas plast excel opht syr inert ingredients sso mbp pb bq mt mouth wash
mouthwash gum
drug implant intrauterine system mucosal dry accuhaler respimat ellipta handihaler turbuhaler flexhaler jelly urojet
glydo foam paste pads pad kit lozenges adhesive crtrdg crtr cartridge carpuject ndl needle bulkvial locked abuse
deterrent strength maximum regular modified purified porcine bovine patient own med supply home non formulary
nonformulary study placebo each other misc miscellaneous day days week month hrs caplet caplets softgel softgels
geltab gelcap wafer granules granule sprinkle elix ster single multi use multidose singledose fliptop minibag
minibags maintenance clearance catheter dwell central line picc midline cvl cup tube can glass plastic mixed oncology
critical care alcohol-free sugarfree sugar-free unspecified form buffered level normal ready premade additive diluent
for of the to or a an per via by from as ie not all type route emul emulsion ivemul intralipid mg/ml gen generic brand
abboject subl inhale inhl pgbk crea range suc peripheral lok sub blist blister respule respules mmole
concentrated pwdpkt
del rel orderable pwpk prmx package ndc aers dilution ent coat transparent dressing external rtu assess childrens final
stock taper ptch standard physician monitored aepb odt powd top throat flushsyrg prefill crrt sprinkles tincture half
variable enem subcu extemp irrigation irrigant hickman comfort guidelines mwsh vag supps fiber singles ring adsorbed
corrective dosing load initial rescue loading ionized hyperkalemia oint ointmt nasl spry soluble effervescent tbef cpsr
pref filled vaginally rectally intranasal buccal lozg loz minitab chewtab gran grn inhalr dev kwikpen flexpen solostar
flextouch mini-bag advantage adv add-vantage addvantage excel latex viaflex galaxy range titration weight based lean
iso osmotic isoosmotic osm iso-osm isotonic hypertonic viscous fat micronized
""") - {"intralipid", "fat", "alcohol-free", "sugarfree"}
"""Words that say how a drug is given, packed or dosed, never which drug it is."""

CATIONS = _words("""sodium potassium calcium magnesium zinc iron ferrous ferric aluminum aluminium ammonium lithium
copper bismuth barium silver disodium dipotassium monosodium trisodium""")
ANIONS = _words("""
hydrochloride dihydrochloride monohydrochloride sulfate bisulfate phosphate diphosphate succinate hemisuccinate tartrate
bitartrate ditartrate maleate dimaleate mesylate dimesylate besylate tosylate acetate diacetate citrate fumarate
hemifumarate gluconate lactate nitrate bromide hydrobromide chloride carbonate tromethamine monohydrate
dihydrate trihydrate hemihydrate sesquihydrate pentahydrate hydrate anhydrous pamoate embonate palmitate decanoate
enanthate cypionate hydroxide valerate propionate furoate undecanoate caproate axetil proxetil medoxomil
cilexetil hyclate etexilate
oxalate malate stearate gluceptate lactobionate estolate ethylsuccinate napsylate edisylate isethionate
besilate mesilate
aspartate glucuronate hydroxynaphthoate iodide benzoate trifenatate camsylate xinafoate
arginine lysine erbumine olamine meglumine dipropionate acetonide hexacetonide acet
""")
SALTS = ANIONS | CATIONS

SPELLED = {
    "hcl": "hydrochloride", "hydrochlorid": "hydrochloride", "hbr": "hydrobromide", "sod": "sodium", "na": "sodium",
    "chl": "chloride", "chlor": "chloride", "pot": "potassium", "so4": "sulfate", "sulf": "sulfate",
    "sulphate": "sulfate", "succ": "succinate", "succin": "succinate", "tart": "tartrate", "phos": "phosphate",
    "phosph": "phosphate", "gluc": "gluconate", "glucon": "gluconate", "carb": "carbonate", "bicarb": "bicarbonate",
    "mag": "magnesium", "magnes": "magnesium", "hydrox": "hydroxide", "hydroxid": "hydroxide", "simeth": "simethicone",
    "vit": "vitamin", "vitamins": "vitamin", "mesilate": "mesylate", "besilate": "besylate", "ca": "calcium",
    "sulphur": "sulfur", "oestradiol": "estradiol", "anhydr": "anhydrous", "insuln": "insulin",
    "insulins": "insulin", "dext": "dextrose", "alum": "aluminum",
    "bicar": "bicarbonate", "bicarbo": "bicarbonate", "bic": "bicarbonate", "vac": "vaccine",
    "vacc": "vaccine", "vaccines": "vaccine", "aluminium": "aluminum",
    "acetomenophen": "acetaminophen",
}
"""Abbreviations and spellings of single words."""

HARD = frozenset("/+&;:,") | {"and", "with", "w", "plus", "-"}
"""What stands between the parts of a combination; a hyphen may also be inside a name, and names are tried first."""

_UNITS = (r"%|mg|mcg|microgram|milligram|gm|gram|grams|g|ml|l|meq|mmol|units?|unt|unit\(s\)|iu|u|mcl|ug|kg|hr|hrs|h|cc|"
          r"mm|inch|in|million|mu|actuat|puffs?|mci|kit|days?|ea|each|sprays?|doses?|tab|cm2|cm|valent")
_NUMBER = r"(?<![a-z0-9])\d[\d,.]*"
_STRENGTH = re.compile(
    rf"{_NUMBER}\s*(?:(?:-|to)\s*(?:\d[\d,.]*\s*)?)?(?:{_UNITS})(?![a-z0-9])"
    rf"(?:\s*/\s*(?:[\d.,]+\s*)?(?:ml|mg|l|hr|h|actuat(?:ion)?|act|24hr|spray|dose|tab(?:let)?|each|day|g|cm2|cm|kg|min)"
    rf"(?![a-z]))?(?:\s*-\s*%)?")
_HALF = re.compile(r"(?<![\d/])(?:1/2|0\.45\s*%|half)\s*(?:strength\s*)?(?:ns|normal saline|nacl|sodium chloride)\b")
_TOKEN = re.compile(r"[a-z0-9]+(?:\.\d+)?|[/+&;:,-]")
_CLEAN = (
    (re.compile(r"\*+\s*(?:nf|unit|locked dose|non-?formulary)\s*\*+"), " "),
    (re.compile(r"\bnda\d+\b|\brdna\b"), " "),
    (re.compile(r"\bw/(?!v)"), " with "),
    (re.compile(r"['’`´®™*_\"#]"), ""),
    (re.compile(r"(?<=[a-z])\.(?=[a-z]\b|\s|$)"), ""),
)
_MARKED = re.compile(r"[*'’`´®™_\"#./]|nda\d|rdna")
"""What a text has that any of ``_CLEAN`` may find; most names have none of it."""


class Word(NamedTuple):
    """One word, and the separator that stands before it: empty, a character of HARD, or ``in``."""

    text: str
    before: str


def plain_words(text: str) -> str:
    """The text in lower case with white space single, and without marks that carry no meaning."""
    text = tidy(text).lower()
    if not _MARKED.search(text):
        return text
    for pattern, with_what in _CLEAN:
        text = pattern.sub(with_what, text)
    return text


def without_strengths(text: str) -> str:
    """The plain text with numbers that have a unit taken out, and half-normal saline written as saline."""
    return _STRENGTH.sub(" ", _HALF.sub(" saline ", text))


def words(text: str) -> tuple[Word, ...]:
    """The words of a plain text, abbreviations written out, each with the separator before it."""
    found: list[Word] = []
    before = ""
    for word in _TOKEN.findall(text):
        if word in HARD:
            # a hyphen with nothing to join, as in "100 ml - potassium", separates
            before = word if before in ("", "-") or word != "-" else before
        elif word == "in":
            before = "in"
        else:
            if word == "acet" and (before in HARD or not found):  # a part of its own, not the salt of the one before
                word = "acetaminophen"
            found.append(Word(SPELLED.get(word, word), before if found else ""))
            before = ""
    return tuple(found)


@lru_cache(maxsize=500_000)
def canonical_name(name: str) -> str:
    """The form under which a name is looked up: its words, separators and connectives left out."""
    return " ".join(word.text for word in words(plain_words(name)))


def without_salt(name: str) -> str:
    """A canonical name without the salts, hydrates and simple esters at its end, of which one word always stays."""
    parts = name.split()
    while len(parts) > 1 and parts[-1] in SALTS:
        parts.pop()
    return " ".join(parts)
