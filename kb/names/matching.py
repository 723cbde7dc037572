"""Reading a drug text: which names of the lexicon it holds, longest first, and which words are left over.

The documented rule:

1. Lower case, white space single, marks without meaning gone (``*NF*``, apostrophes, an NDA number).
2. What stands in brackets or parentheses is set aside; it is read only where nothing outside is a drug, or where
   outside only ``insulin`` is said. A pack in braces is read as the combination of all its tablets.
3. Numbers with a unit go out (``5 mg/ml``, ``12 hr``, ``0.9 %``).
4. From left to right the longest run of words that is a name is taken, across ``/``, ``-``, ``+``, ``&``, ``;``, ``,``,
   ``and``, ``with``: so all parts of a combination are found, and a combination that has a name of its own is one.
5. A salt after a name belongs to it, as does ``sodium`` or ``potassium`` before one, and the four letters of a
   biosimilar. Words of form, route and packing mean nothing.
6. A word that is no name but the beginning of exactly one drug's name (six letters or more) means that drug.
7. After ``in``, and beside a drug that is no fluid, a diluent (saline, dextrose, water) is the vehicle, no ingredient.

What remains is ``left``: words that nobody understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kb.names.lexicon import SHORTEST, Lexicon, Meaning
from kb.names.words import (
    ANIONS,
    CATIONS,
    FORMS,
    HARD,
    SALTS,
    Word,
    canonical_name,
    plain_words,
    without_strengths,
    words,
)

DILUENTS = frozenset({"sodium chloride", "dextrose unspecified form", "dextrose", "glucose", "water", "sodium lactate",
                      "dextrose monohydrate"})
FLUIDS = DILUENTS | frozenset("""potassium chloride|calcium chloride|calcium gluconate|sodium acetate|
sodium bicarbonate|potassium phosphate|monopotassium phosphate|dipotassium phosphate|magnesium chloride|
potassium acetate|amino acids|sodium phosphate monobasic|sodium phosphate dibasic|
magnesium acetate|calcium acetate""".replace("\n", "").split("|"))
"""Canonical names of what infusion fluids are made of; beside anything else, a diluent is a vehicle."""

_PACK = re.compile(r"[{}()]")
_ASIDE = re.compile(r"\(([^()]*)\)?|\[([^\[\]]*)\]?")
_BIOSIMILAR = re.compile(r"[a-z]{4}")
_BIOLOGIC_STEM = re.compile(r"(mab|cept|stim|grastim|ase|alfa|beta|poetin|aspart|glargine|lispro|kinra|tropin|tide)$")


@dataclass(frozen=True, slots=True)
class NamedPart:
    """One name that was found, with its meaning."""

    name: str
    meaning: Meaning
    vehicle: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text names: parts in their order, and the words that were left over."""

    parts: tuple[NamedPart, ...]
    left: tuple[str, ...] = ()

    @property
    def drugs(self) -> tuple[int, ...]:
        """The base drugs named, vehicles left out, each once."""
        found = (drug for part in self.parts if not part.vehicle for drug in part.meaning.drugs)
        return tuple(dict.fromkeys(found))

    @property
    def vehicles(self) -> tuple[int, ...]:
        """The drugs that only carry the others."""
        return tuple(dict.fromkeys(drug for part in self.parts if part.vehicle for drug in part.meaning.drugs))


NOTHING = Reading(())


def understand(text: str, lexicon: Lexicon) -> Reading:
    """The reading of a drug text as it was written."""
    text = plain_words(text)
    whole = lexicon.meanings.get(canonical_name(text))
    if whole is not None and (whole.drugs or whole.atc or whole.nothing or whole.missing):
        return Reading((NamedPart(canonical_name(text), whole),))
    if "{" in text:
        outside, inside = _PACK.sub(" / ", re.sub(r"\[[^\]]*\]?", " ", text)), []
    else:
        inside = [a or b for a, b in _ASIDE.findall(text) if a or b]
        outside = _ASIDE.sub(" ", text)
    main = _read(outside, lexicon)
    if inside and (not main.parts or _only_insulin(main)):
        aside = next((found for found in (_read(part, lexicon) for part in inside) if found.parts), None)
        if aside is not None and (not main.parts or any("insulin" in _shown(p, lexicon) for p in aside.parts)):
            return Reading(_settled(aside.parts, lexicon), main.left)
    return Reading(_settled(main.parts, lexicon), main.left)


def _only_insulin(reading: Reading) -> bool:
    return bool(reading.parts) and all(part.name == "insulin" for part in reading.parts)


def _read(text: str, lexicon: Lexicon) -> Reading:
    """The names in a text without parentheses, longest first from left to right."""
    row = words(without_strengths(text))
    if not row:
        return NOTHING
    content = sum(1 for word in row if not _is_noise(word.text))
    parts: list[NamedPart] = []
    left: list[str] = []
    at, after_name, carried = 0, False, False
    while at < len(row):
        carried = carried or row[at].before == "in"
        size, meaning = _longest(row, at, lexicon, content, after_name)
        if meaning is not None:
            name = " ".join(word.text for word in row[at:at + size])
            parts.append(NamedPart(name, meaning, vehicle=carried))
            at, after_name = at + size, True
            continue
        word = row[at]
        if not _absorbed(word, parts, after_name, lexicon):
            found = None if _is_noise(word.text) else lexicon.beginning(word.text)
            if found is not None:
                parts.append(NamedPart(word.text, found, vehicle=carried))
                after_name = True
            elif not _is_noise(word.text):
                left.append(word.text)
                after_name = False
        at += 1
    return Reading(tuple(parts), tuple(left))


def _is_noise(word: str) -> bool:
    """Whether a word says nothing of the drug: a form, a number, one or two letters."""
    return word in FORMS or word in SALTS or len(word) < 3 or any(sign.isdigit() for sign in word)


def _longest(row: Sequence[Word], at: int, lexicon: Lexicon, content: int,
             after_name: bool) -> tuple[int, Meaning | None]:
    """The longest name that begins at a word, in words, and its meaning."""
    first = row[at].text
    most = min(lexicon.longest.get(first, 0), len(row) - at)
    for size in range(most, 0, -1):
        name = first if size == 1 else " ".join(word.text for word in row[at:at + size])
        meaning = lexicon.meanings.get(name)
        if meaning is None or (meaning.rivals and size < most):
            continue
        if size == 1 and not _stands_alone(row, at, meaning, content, after_name):
            continue
        return size, meaning
    return 0, None


def _stands_alone(row: Sequence[Word], at: int, meaning: Meaning, content: int, after_name: bool) -> bool:
    """Whether a name of one word means itself here, not the salt of another name nor a chance syllable."""
    word = row[at]
    if word.text in FORMS:
        return False
    if word.text in CATIONS or word.text in ANIONS:
        if after_name and word.before not in HARD:
            return False  # atorvastatin calcium
        following = row[at + 1] if at + 1 < len(row) else None
        if following is not None and following.before == "" and word.text in ("sodium", "potassium"):
            return False  # potassium clavulanate
    if meaning.how == "shorthand" or len(word.text) >= SHORTEST:
        return True
    if len(word.text) == SHORTEST - 1:
        return content <= 1
    # A symbol: the "co" of co-codamol is no carbon monoxide, the "ac" of ac-dc no actinium.
    return all(other is word or not other.text.isalpha() or other.text in FORMS or other.text in SALTS for other in row)


def _absorbed(word: Word, parts: Sequence[NamedPart], after_name: bool, lexicon: Lexicon) -> bool:
    """Whether a word belongs to the name before it: a salt, or the letters of a biosimilar."""
    if not after_name or not parts:
        return word.text in SALTS
    if word.text in SALTS:
        return True
    if word.before == "-" and _BIOSIMILAR.fullmatch(word.text):
        last = parts[-1]
        return bool(set(last.meaning.drugs) & lexicon.biologics) or bool(_BIOLOGIC_STEM.search(last.name))
    return False


def _settled(parts: Sequence[NamedPart], lexicon: Lexicon) -> tuple[NamedPart, ...]:
    """The parts without what another part says better, diluents beside a drug marked as vehicles."""
    names = [part.name for part in parts]
    specific = any(name != "insulin" and "insulin" in lexicon_name for name, lexicon_name in
                   ((part.name, _shown(part, lexicon)) for part in parts))
    kept = [part for part in parts if not (part.name == "insulin" and specific and len(names) > 1)]
    kept = [part for part in kept if not (part.name in CATIONS and any(part.name in other.name.split()
                                          for other in kept if other.name != part.name))]
    real = [part for part in kept if not part.meaning.nothing] or kept
    fluid = [all(canonical_name(lexicon.names.get(drug, "")) in FLUIDS for drug in part.meaning.drugs)
             and bool(part.meaning.drugs) for part in real]
    diluent = [all(canonical_name(lexicon.names.get(drug, "")) in DILUENTS for drug in part.meaning.drugs)
               and bool(part.meaning.drugs) for part in real]
    drug_beside = not all(fluid)
    out = []
    for part, thin in zip(real, diluent, strict=True):
        water = all(canonical_name(lexicon.names.get(drug, "")) == "water" for drug in part.meaning.drugs)
        vehicle = thin and len(real) > 1 and (drug_beside or water or (part.vehicle and not all(diluent)))
        out.append(NamedPart(part.name, part.meaning, vehicle))
    return tuple(out)


def _shown(part: NamedPart, lexicon: Lexicon) -> str:
    """The preferred names of a part's drugs, lower case."""
    return " ".join(lexicon.names.get(drug, "").lower() for drug in part.meaning.drugs)
