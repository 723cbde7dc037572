"""openFDA's drug labels (US Food and Drug Administration): indications, contraindications, warnings and doses as texts.

Reads ``drug-label-NNNN-of-NNNN.json.zip`` (or the unpacked JSON, or a folder of either) label by label. A substance is
known by its UNII; of its labels the newest gives the texts, all give brand names. A label of several substances is left
out. The sections are as the manufacturer wrote them and the FDA received them, not a judgement of the FDA.

Source: https://open.fda.gov/apis/drug/label/searchable-fields/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kb.errors import SourceError, UsageError
from kb.inputs import open_plain
from kb.licences import CC0, Licence
from kb.modalities import Modality
from kb.sources.contract import Document, Name, TextRecord
from kb.sources.stream import Entry, Left, StreamSource, is_zip, make_drug, open_in_zip

SECTIONS = {
    "indications_and_usage": "indications", "contraindications": "contraindications", "boxed_warning": "boxed warning",
    "drug_interactions": "interactions", "dosage_and_administration": "dose",
}
LONGEST = 20_000
"""Characters of a section that are kept; a longer one says that it was cut."""
PROVIDER = "FDA label (openFDA)"
PAGE = "https://dailymed.nlm.nih.gov/dailymed/lookup.cfm?setid="
UNPACKED = 1 << 34


@dataclass(slots=True)
class Substance:
    """What the labels of one UNII say."""

    name: str
    newest: str = ""
    label: dict[str, str] = field(default_factory=dict)
    page: str = ""
    brands: set[str] = field(default_factory=set)
    rxcui: set[str] = field(default_factory=set)
    labels: int = 0


class OpenFda(StreamSource):
    """One drug a substance, with the sections of its newest label."""

    name = "openfda"
    title = "openFDA drug labels"
    url = "https://open.fda.gov/apis/drug/label/"
    licences: ClassVar[tuple[Licence, ...]] = (CC0,)
    modalities = (Modality.text,)
    parser = "openfda/1"
    media_type = "application/json"
    bytes_an_item = 8000

    def measured(self, path: Path) -> list[Path]:
        """The file, or the labels' files of the folder in the order of their names."""
        if not path.is_dir():
            return [path]
        found = sorted(p for p in path.iterdir() if p.name.endswith((".json", ".json.zip", ".json.gz")))
        if not found:
            raise UsageError(f"{path} has no .json or .json.zip", hint="give the folder of the downloaded labels")
        return found

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Left]:
        """Every substance by its UNII."""
        known: dict[str, Substance] = {}
        left: Counter[str] = Counter()
        for label in (label for part in self.measured(path) for label in _labels(part)):
            reason = _take(label, known)
            if reason:
                left[reason] += 1
        for unii in sorted(known):
            yield _entry(unii, known[unii], document)
        yield from (Left(reason, items=count) for reason, count in left.items())


def _take(label: Any, known: dict[str, Substance]) -> str | None:
    """Add a label to what is known of its substance; or the reason why it is left out."""
    about = label.get("openfda") if isinstance(label, dict) else None
    if not isinstance(about, dict) or not _texts(about.get("unii")):
        return "without an identified substance"
    uniis, names = _texts(about.get("unii")), _texts(about.get("substance_name")) or _texts(about.get("generic_name"))
    if len(set(uniis)) > 1:
        return "of several substances"
    sections = {heading: text for name, heading in SECTIONS.items() if (text := " ".join(_texts(label.get(name))))}
    if not sections or not names:
        return "without a section that is read"
    found = known.setdefault(uniis[0], Substance(names[0].title()))
    found.labels += 1
    found.brands |= {brand for brand in _texts(about.get("brand_name")) if brand.lower() != found.name.lower()}
    dated = f"{label.get('effective_time', '')} {label.get('set_id', '')}"
    if dated >= found.newest:
        found.newest, found.label, found.page = dated, sections, PAGE + str(label.get("set_id", ""))
    return None


def _texts(value: Any) -> list[str]:
    found = value if isinstance(value, list) else []
    return [" ".join(item.split()) for item in found if isinstance(item, str) and item.strip()]


def _entry(unii: str, said: Substance, document: Document) -> Entry:
    key = f"unii:{unii}"
    drug, faults = make_drug(key, said.name, document, identifiers=[("unii", unii)],
                             names=[Name(brand, "brand") for brand in sorted(said.brands)])
    texts = []
    for heading, text in said.label.items():
        content = text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} … (cut)"
        texts.append(TextRecord(key, document, PROVIDER, content, document.licence, heading, said.page))
    return Entry(drug, texts=texts, faults=faults, items=said.labels)


def _labels(path: Path) -> Iterator[Any]:
    """The labels of one file, one after another; raises SourceError for what is no JSON of labels."""
    import ijson

    with ExitStack() as stack:
        opened = open_in_zip(path, ".json") if is_zip(path) else open_plain(path, limit=UNPACKED)
        stream = stack.enter_context(opened)
        seen = False
        try:
            for label in ijson.items(stream, "results.item", use_float=True):
                seen = True
                yield label
        except ijson.JSONError as error:
            raise SourceError(f"{path.name} is not whole JSON: {error}", hint="download it again") from None
        if not seen:
            raise SourceError(f"{path.name} has no labels", hint="is it drug-label-….json of openFDA?")
