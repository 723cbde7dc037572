"""openFDA's drug labels (US Food and Drug Administration): indications, contraindications, warnings and doses as texts.

Reads ``drug-label-NNNN-of-NNNN.json.zip`` (or the unpacked JSON, or a folder of either) label by label. Products have
their NDCs and routes; forms and strengths are not in these files.

Source: https://open.fda.gov/apis/drug/label/searchable-fields/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from kb.errors import SourceError, UsageError
from kb.inputs import open_plain
from kb.licences import CC0, Licence
from kb.sources.labels import Contained, Label, LabelProduct, LabelSource, is_unii
from kb.sources.stream import Left, is_zip, open_in_zip

SECTIONS = {
    "indications_and_usage": "indications", "contraindications": "contraindications", "boxed_warning": "boxed warning",
    "drug_interactions": "interactions", "dosage_and_administration": "dose",
}
UNPACKED = 1 << 34


class OpenFda(LabelSource):
    """One drug a substance, with the sections of its newest label."""

    name = "openfda"
    title = "openFDA drug labels"
    url = "https://open.fda.gov/apis/drug/label/"
    licences: ClassVar[tuple[Licence, ...]] = (CC0,)
    provider = "FDA label (openFDA)"
    parser = "openfda/2"
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

    def labels(self, path: Path) -> Iterator[Label | Left]:
        """Every label of every file."""
        for part in self.measured(path):
            for said in _results(part):
                yield _label(said) if isinstance(said, dict) else Left("that are no label")


def _label(said: dict[str, Any]) -> Label | Left:
    about = said.get("openfda")
    about = about if isinstance(about, dict) else {}
    uniis, names = _texts(about.get("unii")), [name.title() for name in _texts(about.get("substance_name"))]
    if not uniis or not names or not all(map(is_unii, uniis)):
        return Left("without an identified substance")
    sections = {heading: text for name, heading in SECTIONS.items() if (text := " ".join(_texts(said.get(name))))}
    brands = _texts(about.get("brand_name"))
    # The two lists are sorted each for itself, so that of several it is not known which name is whose.
    substances = tuple((unii, names[0] if len(uniis) == len(names) == 1 else "") for unii in uniis)
    brand = brands[0] if len(brands) == 1 else ""
    name = brand or "; ".join(_texts(about.get("generic_name"))) or "; ".join(names)
    packages = _texts(about.get("package_ndc"))
    products = tuple(
        LabelProduct(ndc, name, brand, tuple(Contained(unii, "") for unii in uniis),
                     route="; ".join(_texts(about.get("route"))),
                     packages=tuple(code for code in packages if code.startswith(f"{ndc}-")))
        for ndc in _texts(about.get("product_ndc")))
    return Label(str(said.get("set_id") or ""), str(said.get("effective_time") or ""), substances, sections,
                 tuple(brands), products, "; ".join(_texts(about.get("manufacturer_name"))))


def _texts(value: Any) -> list[str]:
    found = value if isinstance(value, list) else []
    return [" ".join(item.split()) for item in found if isinstance(item, str) and item.strip()]


def _results(path: Path) -> Iterator[Any]:
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
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise SourceError(f"{path.name} is not whole JSON: {error}", hint="download it again") from None
        if not seen:
            raise SourceError(f"{path.name} has no labels", hint="is it drug-label-….json of openFDA?")
