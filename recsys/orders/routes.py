"""Where an order goes: its route of administration, from the source's columns and from the words of its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

ANY = frozenset({"oral", "iv", "im", "patch", "rectal", "mouth"})
"""The systemic routes; ``im`` stands for all injections that are not into a vein."""
UNSAID = frozenset({"oral", "iv", "im"})
"""Where an order goes that does not say."""

_COLUMN: tuple[tuple[str, str], ...] = (
    ("eye", r"ophth|\beye|\bo[usd]\b|conjunctiv"),
    ("ear", r"\botic\b|\bear|\ba[usd]\b|auric"),
    ("nasal", r"\bnas|intranasal|nares|\bin\b(?!h)"),
    ("inhaled", r"\bih\b|inhal|\bneb|\binh|respir|aerosol|nebul|\bet\b|endotrach|\bett\b"),
    ("vaginal", r"\bvg\b|\bvag"),
    ("mouth", r"\bmt\b|oral care|orophar|buccal|mucous|dental|swish|\bsl\b|sublingual|\bbc\b|gargle|"
              r"transmucosal|\bmouth"),
    ("rectal", r"\bpr\b|rect|\bre\b"),
    ("patch", r"\btd\b|transderm|patch"),
    ("skin", r"\btp\b|topical|\btop\b|skin|\bex\b|extern|cutaneous"),
    ("irrigation", r"\bir\b|irrig|bladder|intravesic|wound"),
    ("dialysis", r"dialys|crrt|hemodial|\bip\b|intraperit|\bhd\b|cvv"),
    ("local", r"\bid\b|intraderm|infiltr|epidural|\bep\b|\bit\b|intrathec|intraartic|nerve|perineural|"
              r"\binl\b|locale?\b|\blm\b"),
    ("device", r"implant|intrauter|\biud\b"),
    ("urethral", r"urethr|cavern"),
    ("im", r"\bim\b|\bsc\b|subcut|\bsq\b|subq|sub-q|intramusc|hypoderm"),
    ("iv", r"\biv|intraven|\bih?dw\b|\bdwell|central|\bpca\b|\bij\b|iv drip|picc|\binj"),
    ("oral", r"\bpo\b|oral|\bng\b|\bgt\b|\bpeg\b|by mouth|\bnj\b|\bog\b|\bft\b|feeding|enteral|\bper ?os\b|\bj tube"),
)
_WORDS: tuple[tuple[str, str], ...] = (
    ("eye", r"ophth|\beye\b|\bopht\b"),
    ("ear", r"\botic\b"),
    ("nasal", r"\bnasal|\bna sp|nasl"),
    ("inhaled", r"inhal|\bneb|\bhfa\b|\bmdi\b|diskus|respul|inhl|\baepb\b|dry powder|handihaler|"
                r"\bih\b|for inh|ellipta|aers?\b|"
                r"metered dose|\b(?:in|inh) (?:soln|nebu|aers|aepb|susp)|\b(?:44|110|220) ?mcg\b"),
    ("vaginal", r"\bvag|vaginal|nuvaring|\bring\b"),
    ("device", r"drug implant|intrauterine|\biud\b|mirena|skyla|liletta|kyleena|nexplanon|implanon"),
    ("mouth", r"oral rinse|mouthwash|mouth/throat|\bmt soln|swish|viscous|sublingual|\bsl\b|lozenge|"
              r"troche|buccal|throat|\bmwsh\b|"
              r"oral care|mucosal spray|periogard|peridex"),
    ("rectal", r"\bsupp|enema|\brect|\bpr\b"),
    ("patch", r"patch|transderm|\bptch\b|\bptmd\b|\bpt24\b|\btd\b"),
    ("skin", r"\bcream|ointment|\boint\b|topical|\blotion|\btop\b|\bex \w+|powder 2%|\bshampoo|urojet|"
             r"jelly|glydo|\bsoap\b|gel 1%"),
    ("irrigation", r"irrig"),
    ("dialysis", r"dialys|prisma|crrt"),
    ("local", r"intrathecal|epidural|for picc|midline|infiltrat"),
    ("im", r"\bim\b|\bsc soln|subcut|\bsub-q|\bsc\b|pen injector|prefilled|auto-?injector|penfill|"
           r"flexpen|kwikpen|solostar"),
    ("iv", r"\biv\b|\binj|\bij\b|intraven|\bvial|syringe|\bsyr\b|\bpca\b|premix|piggy|ivpb|infusion|"
           r"drip|bolus|\bsdv\b|\bmdv\b|"
           r"\bsolr\b|\bamp\b|lvp|flex cont|\bbag\b"),
    ("oral", r"\bpo\b|\btabs?\b|tablet|\bcaps?\b|capsule|oral|\bchew|elixir|syrup|\bliq|\budc?\b|"
             r"\bodt\b|\bpack(?:et)?\b|"
             r"\b(?:tb|cp)(?:24|12|ec|cr|dp)\b|\btbec\b|\bpwd|\bec\b|\bxl\b|\bsr\b|"
             r"extended[ -]release|sustained release|immediate release"),
)
_BY_COLUMN = tuple((route, re.compile(pattern)) for route, pattern in _COLUMN)
_BY_WORDS = tuple((route, re.compile(pattern)) for route, pattern in _WORDS)

_VOLUME = re.compile(r"(?<![\d.])(\d[\d,]*(?:\.\d+)?)\s*(ml|l|liter|litre|cc)\b")


def route_of(route: str | None, form: str | None, texts: Iterable[str]) -> str:
    """The route of an order: of its own column, failing that of its form, failing that of its name; empty if unknown.

    A form or name narrows what the column says where both are of the mouth or the skin: a rinse with route PO stays in
    the mouth, a patch on the skin is transdermal.
    """
    named = next((found for text in (form or "", *texts) if (found := _first(_BY_WORDS, text.lower()))), "")
    given = _first(_BY_COLUMN, (route or "").lower())
    if given == "skin" and named == "patch":
        return "patch"
    if given == "oral" and named == "mouth" and "rinse" in " ".join(texts):
        return "mouth"
    return given or named


def _first(patterns: Iterable[tuple[str, re.Pattern[str]]], text: str) -> str:
    return next((route for route, pattern in patterns if pattern.search(text)), "") if text else ""


def millilitres(texts: Iterable[str]) -> float:
    """The largest volume that the texts name, in millilitres; 0 where they name none."""
    found = [float(number.replace(",", "")) * (1000 if unit.startswith("l") else 1)
             for text in texts for number, unit in _VOLUME.findall(text.lower())]
    return max(found, default=0.0)
