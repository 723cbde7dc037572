"""EHR formats: one file each behind the contract of ``recsys.formats.contract``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb.registry import Registry

if TYPE_CHECKING:
    from recsys.formats.contract import EhrFormat

FORMATS: Registry[EhrFormat] = Registry(
    "EHR format",
    {
        "mimic3": "recsys.formats.mimic3:FORMAT",
        "mimic4": "recsys.formats.mimic4:FORMAT",
        "eicu": "recsys.formats.eicu:FORMAT",
        "omop": "recsys.formats.omop:FORMAT",
        "meds": "recsys.formats.meds:FORMAT",
        "fhir": "recsys.formats.fhir:FORMAT",
        "synthea": "recsys.formats.synthea:FORMAT",
        "diabetes130": "recsys.formats.diabetes130:FORMAT",
        "nhanes": "recsys.formats.nhanes:FORMAT",
        "synthetic": "recsys.formats.synthetic:FORMAT",
    },
    group="mkmed.formats",
)
