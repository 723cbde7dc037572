"""What an EHR calls a drug, as a medication key and as names worth looking up.

The documented rule for names, in the order of the candidates that it gives:

1. the text in lower case, white space made single, volumes before a colon dropped (``5 ML VIAL : DILTIAZEM HCL …``);
2. without parentheses, then what stood inside them (``hydromorphone (dilaudid)``);
3. without strengths, units, dosage forms and routes (``warfarin sodium 5 mg po tabs`` -> ``warfarin sodium``);
4. without salts (``warfarin``) ;
5. each part of a combination joined by ``/``, ``-``, ``+`` or ``and`` (``acetaminophen-caff-butalbital``);
6. its leading words, longest first (``ondansetron 2ml sdv`` -> ``ondansetron``), single salts and short words not.

The first candidate that is a name or synonym in the knowledge base decides; parts of a combination count together.
What the knowledge base has no name or no ATC code for is looked up in ``shorthand.tsv``: hospital shorthand, brands,
fluids, insulins, vaccines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from kb.identity.identifiers import normalise_ndc
from kb.normalise import tidy

_FORMS = re.findall(r"\S+", """
tab tabs tablet tablets cap caps capsule capsules soln sol solution solutions susp suspension syrup elixir inj
injection injectable syringe vial vials amp ampul ampule bag bags bottle btl pack packet packets piggyback premix pmix
dose doses ir er xr sr cr dr la ec xl cd od sa ud pf iv po im sc sq subq pr sl ng pg gt oral orally topical ophth
ophthalmic otic nasal rectal vaginal inhaled inhalation inh neb nebs nebulizer nebulized hfa mdi diskus aerosol spray
patch patches cream ointment oint gel lotion drops drop gtt liquid liqd powder pwdr concentrate conc enema suppository
supp kit device chewable chew disintegrating dissolve sublingual enteric coated immediate delayed extended sustained
controlled release rapid intravenous intramuscular subcutaneous transdermal infusion drip flush lock bolus ivpb mini
bulk free adult pediatric infant pedi unit units mg mcg gm g ml l meq mmol mcl ug kg hr hour min iu cc mg/ml mcg/ml
gram grams base human recombinant sterile preservative emergency crush tbcr tbec cpdr cp24 tb24 tbdp refrig nf usp
protocol sliding scale custom once daily sdv mdv solr ij lvp inhaler crys rinse replacement metered actuat act pen
injector autoinjector prefilled recon reconstituted isn packs vl udc lozenge troche film gum swab pca pump continuous
intermittent titrate prn scheduled hold order desensitization flex cont opht ophthalmologic syr
""")
_SALTS = re.findall(r"\S+", """
hydrochloride hcl sodium na potassium calcium magnesium sulfate sulphate so4 phosphate succinate tartrate bitartrate
maleate mesylate besylate acetate acet citrate fumarate gluconate lactate nitrate bromide hydrobromide hbr chloride
carbonate tromethamine disodium dipotassium monohydrate dihydrate trihydrate anhydrous hemihydrate pamoate palmitate
decanoate propionate valerate furoate axetil proxetil medoxomil hyclate monohyclate etexilate dimesylate tosylate
""")
_STRENGTH = re.compile(
    r"\d[\d,.]*\s*(-|to)?\s*[\d.,]*\s*(%|mg|mcg|gm|g|ml|l|meq|mmol|units?|iu|u|mcl|ug|hr|h|cc|mm|inch|in)?"
    r"(\s*/\s*([\d.]+\s*)?(ml|mg|l|hr|h|act|actuation|24hr|spray|dose|tab|each))?(?![a-z])"
)
_DROPPED = re.compile(r"(?<![a-z])(" + "|".join(sorted(map(re.escape, _FORMS), key=len, reverse=True)) + r")(?![a-z])")
_SALT = re.compile(r"(?<![a-z])(" + "|".join(sorted(_SALTS, key=len, reverse=True)) + r")(?![a-z])")


NOTHING: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@lru_cache(maxsize=1)
def shorthand() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What ``shorthand.tsv`` says an order means: drug names, and ATC codes for want of a drug that has one."""
    lines = files("recsys").joinpath("shorthand.tsv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader((line for line in lines if not line.startswith("#")), delimiter="\t"))[1:]
    found = {}
    for order, means in rows:
        parts = [part.strip() for part in means.split(";")]
        names = tuple(name for part in parts if not part.startswith("ATC:") for name in part.split(" + "))
        found[order] = names, tuple(part[4:] for part in parts if part.startswith("ATC:"))
    return found


def _squeeze(text: str) -> str:
    return tidy(re.sub(r"[^a-z0-9'/+\- ]", " ", text)).strip(" -/+'")


@lru_cache(maxsize=200_000)
def name_candidates(text: str) -> tuple[tuple[str, ...], ...]:
    """The names worth looking up for a drug text, best first; a candidate of several names is a combination."""
    text = re.sub(r"\bnda\d+\b", " ", tidy(text.lower().replace("*", " ").replace("_", " ").replace(" w/", " + ")))
    if " : " in text:
        text = max(text.split(" : "), key=lambda part: len(_squeeze(_DROPPED.sub(" ", _STRENGTH.sub(" ", part)))))
    outside = re.sub(r"\([^)]*\)?|\[[^\]]*\]?", " ", text)
    inside = [part.strip() for part in re.findall(r"[(\[]([^)\]]+)", text)]
    plain = [text, tidy(outside)]
    bare = [_squeeze(_DROPPED.sub(" ", _STRENGTH.sub(" ", part))) for part in (outside, *inside)]
    unsalted = [_squeeze(_SALT.sub(" ", part)) for part in bare]
    singles = [*plain, bare[0], unsalted[0], *inside, *bare[1:], *unsalted[1:]]
    found: list[tuple[str, ...]] = [(name,) for name in dict.fromkeys(singles) if len(name) > 2 or name in shorthand()]
    for part in (tidy(outside), bare[0], unsalted[0]):
        parts = [_squeeze(p) for p in re.split(r"/|-|\+| and | with |,", part)]
        if len(parts) > 1:
            found.append(tuple(p for p in dict.fromkeys(parts) if len(p) > 3))
    words = bare[0].split()
    leading = [" ".join(words[:n]) for n in range(len(words) - 1, 0, -1)]
    found += [(name,) for name in leading if len(name) > 4 and name not in _SALTS]
    return tuple(dict.fromkeys(candidate for candidate in found if candidate))


def medication_key(
    *, ndc: str = "", rxcuis: Sequence[str] = (), atc: Sequence[str] = (), names: Sequence[str] = (), route: str = ""
) -> str:
    """The medication key of an order: what identifies it, best first, tab-separated; empty where nothing does."""
    parts = [f"ATC:{code}" for code in atc]
    number = normalise_ndc(ndc) if ndc else None
    if number:
        parts.append(f"NDC:{number}")
    parts += [f"RXCUI:{code}" for code in rxcuis if code]
    texts = (tidy(name.lower().replace("\t", " ")) for name in names)
    parts += [f"NAME:{name}" for name in dict.fromkeys(texts) if name and name not in ("0", "nan", "null", "none")]
    if parts and route.strip():
        parts.append(f"ROUTE:{tidy(route.upper())}")
    return "\t".join(parts)
