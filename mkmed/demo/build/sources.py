"""The files that the bundled corpus is built from, each by its checksum."""

from __future__ import annotations

from pathlib import Path

from kb.errors import ContractViolation, NotFound
from mkmed.demo.build.tables import sha256_hex

SOURCES: dict[str, str] = {
    "demo_corpus/drugs.tsv":
        "abefe2bbb84e1eaf90c02f6df839b39da1a64c2bfc2db3c979d611eed582cdba",
    "demo_corpus/drug_texts.tsv":
        "f93d68be4dec4c85eff5fefce7d378d93d83a3d1c4142d12e7893c809e804039",
    "demo_corpus/conformers_rdkit.sdf.gz":
        "7e67ed35649baafd097f8783cdf3a3c6d33d95ec3086940d7c8e192a8d0dfce3",
    "demo_corpus/drkg_subset_no_nc.tsv":
        "4a130339ba9def21ca76f732ebf2f7e5897aaea486f792035bfd664eabcd6f76",
    "demo_corpus/kg_entity_names.tsv":
        "5b04cc95fa9cbc9a36f0d99ff5022e9e5b7c74a3131961eb7f3e608f18f67477",
    "drugcentral_pharmgkb/drugbank_vocabulary.csv":
        "c7d57b82e246629670b9037eee13b1fb350e1c2ccc3e7e6a6f137726177da185",
    "drugcentral_pharmgkb/drugcentral_2021_09_01_drugcentral.obo":
        "f9d12c6a4cdf743ce76660280f4ae29604ea43d65c7172cec187401b1ef96037",
    "drugcentral_pharmgkb/drugcentral_54_drugcentral.tsv":
        "dc08b913c8763de8b3c8c1ed837ba2739008b0cb23fa484116916bebca172f4c",
    "drugcentral_pharmgkb/pharmgkb.drug_pharmgkb.drug.obo":
        "3d223bcd7d231fe434064aaf3cd6a4cc72fabf977cdf25e9d7ac28bbc7042b97",
    "drugcentral_pharmgkb/rephetio_targets.tsv":
        "e431b9a57648b7f5cca0b03d1f4867dd6e9c5dcda48638dec8096debac919eb0",
    "drugmechdb/drugmechdb_edges.tsv.gz":
        "f4b049bea09c8857221983897eb1032a276a0563175ecceb772c7ea8fe875ae6",
    "drugmechdb/drugmechdb_nodes.tsv.gz":
        "b5584a95130a8c97f5ae01ee7731a39214ef1dbaca5c5863d76c1a5bfb5da1c5",
    "drugmechdb/drugmechdb_paths.tsv.gz":
        "0266a22aa27e71698bd060dcdf50635a3fb67b7bb531c4b271c9c0437a4ffe61",
    "ddi/interactions_ndfrt_onc.tsv.gz":
        "4c06b6f0e53d385295cf6ff7a869bbcc801829a7136c4d1578ee17a3ee9b5ef0",
    "mappings/ndc2rxnorm_mapping.txt":
        "31b78823f61d23e8f563eeff353fc2d589cfff6808a831178a3736bbac225278",
    "mappings/rxcui_unii.tsv":
        "ba95df20b9cc8bd583fcfe5dacfe5cba67ce46d1a93deb51df1df8151f71a275",
    "labeledin/LabeledIn_Structured_Results.txt":
        "f3c2852d30f7d0b8200cfc71544b94b8812f2dfd2e72da47e9088118979b9f45",
    "ccd3d/ccd_ideal_all.sdf.gz":
        "c718fa60b94f371772af1304d2d316d27ac86b3007aaeff8d8132d900dfd491c",
    "ccd3d/ccd_index.tsv.gz":
        "5fb2efbec95fb954f1985b1112b4f500a5a51b1c05e50818517cb760b5f44e64",
    "chebi20_pubchem/pubchem_properties.tsv.gz":
        "5369ad38bfadd51c65058b71751392b3bcd88c16b47367b095b9feeffafe66c9",
    "chemicals_pubchem/chemicals_pubchem_ids.tsv.gz":
        "805a835482199aacf94bb492b5eea5a6b8d409f4246949fb59b99db7e0aacc66",
    "drugcentral_pharmgkb/rephetio_indications.tsv":
        "dc33620bc460b1bc26c905d2eb4acb44075d962db626973e251f69d551a66a4d",
    "hetionet/CbG-binding.tsv":
        "6918200b27b90f312c6e6bc636079eb6f72f006aeda308144c1f1fc5cae6fced",
    "hetionet/DaG-association.tsv":
        "571b45f4007045d904d926d8a01840f359345d37bc9d1db15d4dab1d38691e84",
    "hetionet/edges-5k.sif.gz":
        "c6bc934a764fd4c5b6f57cfcdfd4102bf306fbddc7a534fc85de6844ac102fdd",
    "hetionet/nodes.tsv":
        "3ad9eb86c031df8bc7d5efefa6edc93562182eb9a6a71e5129d3f18b9d42c50e",
    "labeledin/indications.tsv":
        "a5bf11a738b6cdb37ff58598058aff85746a44bedcf6ab010eef4d96ec7a4495",
    "chebi20_pubchem/ChEBI-20_test.txt":
        "91776254b54ef13ad701ede0ecdbd7bcd30c19a66e52aa34a6dac8d0e7306d72",
    "chebi20_pubchem/ChEBI-20_validation.txt":
        "f410b58e6825986577d01b4f0c14b59ed61c1343a15118ba584de4bbcea1508c",
    "brand_names/variants.tsv.gz":
        "da843510183caddf7c93f9c4a5ef1f7e85d4dd620275b325f420ac5e11a7bf12",
}
"""Path below the folder of sources → sha256."""


def check_sources(folder: Path) -> None:
    """Raise NotFound for a source that is not there, and ContractViolation for one that is another version."""
    for name, expected in SOURCES.items():
        path = folder / name
        if not path.is_file():
            raise NotFound(f"{name} is not in {folder}", hint="mkmed/demo/data/README.md tells where it was published")
        if sha256_hex(path) != expected:
            raise ContractViolation(f"{name} is not the file that the corpus was built from", hint=f"sha256 {expected}")
