"""Everything about a pretraining run that can be set, with its default and what it means.

Read from TOML (``--config FILE``), changed by ``--set section.key=value``, written back by ``--print-config`` and, as
JSON, beside the weights. The defaults are the recipe that did best on the demo corpus's validation drugs;
``paper()`` is the published variant.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from kb.errors import ConfigError
from kb.inputs import read_toml
from kb.modalities import MODALITIES

ALL = tuple(str(m) for m in MODALITIES)


def doc(default: Any, text: str) -> Any:
    """A dataclass field with its default and its one-line description."""
    return field(default=default, metadata={"doc": text})


@dataclass(frozen=True)
class MoleculeConfig:
    """The anchor."""

    hidden: int = doc(32, "width of the atoms' states (paper: 64)")
    depth: int = doc(2, "GIN layers over the whole molecule (paper: 2, its code: 3)")
    fragments: bool = doc(True, "BRICS fragments with their own GIN and attention")
    fragment_depth: int = doc(2, "GIN layers over the fragments")
    heads: int = doc(2, "attention heads over the fragments")
    fingerprint_bits: int = doc(2048, "length of the Morgan (radius 2) count vector beside the GIN; 0: GIN only")
    fingerprint_components: int = doc(256, "its singular vectors kept, fitted on the training drugs")


@dataclass(frozen=True)
class TextConfig:
    """The text tower."""

    model: str = doc("all-minilm-l6-v2", "a text model of the registry; transformers: any model hub name")
    name: str = doc("", "for transformers: the model's name or folder, e.g. openai/clip-vit-base-patch32")
    revision: str = doc("main", "for transformers: the commit or tag; what was loaded is recorded with its sha256")
    window: int = doc(128, "tokens per window; a long text is the mean over its windows, never cut")
    notes: bool = doc(True, "use texts that are marked as indexing notes")
    mask: bool = doc(False, "leave out words that name a therapeutic class, to see what a run owes to them")


@dataclass(frozen=True)
class ImageConfig:
    """The image tower."""

    model: str = doc("efficientnet-lite0", "an image model of the registry; transformers: any ViT or CLIP hub name")
    name: str = doc("", "for transformers: the model's name or folder, e.g. google/vit-base-patch16-224")
    revision: str = doc("main", "for transformers: the commit or tag")
    size: int = doc(224, "pixels along each side")
    components: int = doc(128, "principal components kept, fitted on the training drugs; 0: all")
    limit: int = doc(0, "encode only this many drugs' pictures (a quick look); 0: all")


@dataclass(frozen=True)
class StructureConfig:
    """The 3D tower."""

    scalars: int = doc(32, "scalar channels")
    vectors: int = doc(4, "vector channels")
    depth: int = doc(2, "GVP layers (paper: 3)")
    cutoff: float = doc(4.5, "Angstrom: atoms closer than this are joined")
    neighbours: int = doc(8, "and only to this many nearest ones")
    hydrogens: bool = doc(False, "keep hydrogens as atoms")


@dataclass(frozen=True)
class PropertyConfig:
    """The property tower."""

    descriptors: bool = doc(True, "add RDKit's functional group counts and surface bins to the stored properties")
    log: bool = doc(True, "sign(x) log(1 + |x|) before standardising")
    clip: float = doc(3.0, "standard deviations at which values are clipped; 0: never")


@dataclass(frozen=True)
class GraphConfig:
    """The graph tower."""

    features: tuple[str, ...] = doc(("neighbourhood", "transe"), "what places a drug: one of these, or both")
    components: int = doc(256, "singular vectors of the IDF-weighted neighbourhoods, fitted on the training drugs")
    second_step: tuple[str, ...] = doc(("DrugMechDB",), "relations (parts of names) that neighbourhoods follow twice")
    second_weight: float = doc(1.0, "weight of what lies two steps away")
    exclude_types: tuple[str, ...] = doc(
        ("Atc", "Pharmacologic Class", "Chemical Substance"),
        "entity types left out: they are labels (DrugMechDB's chemical substances are mostly drug classes)")
    exclude: tuple[str, ...] = doc(("PCiC", "CrC"), "relations whose name holds one of these are left out")
    vectors: str = doc("", "a .npy of published entity vectors, with <name>.tsv naming them, in place of training")
    model: str = doc("TransE", "a PyKEEN model")
    dimension: int = doc(64, "width of the knowledge graph embedding")
    epochs: int = doc(40, "passes over the triples")
    batch_size: int = doc(4096, "triples a step; 65536 for a graph of millions")
    learning_rate: float = doc(0.01, "Adam")
    loss: str = doc("marginranking", "a PyKEEN loss: marginranking, nssa, softplus, ...")
    negatives: int = doc(1, "corrupted triples per triple")
    held_out: float = doc(0.05, "share of triples kept for filtered MRR and hits@k")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised."""

    temperature: float = doc(0.07, "starting tau of every InfoNCE (learned; 1/tau at most 100)")
    align: float = doc(1.0, "weight of InfoNCE between the anchor and each modality")
    between: float = doc(0.5, "weight of InfoNCE between every two modalities, the anchor left out")
    consistency: float = doc(0.5, "weight of InfoNCE between fused vectors of two subsets of a drug's modalities")
    relation: float = doc(3.0, "weight of matching the late fusion's neighbours with the fused vector")
    relation_towers: float = doc(0.5, "weight of the same for each tower")
    relation_temperature: float = doc(0.25, "softness of the late fusion's neighbours")
    relation_of: tuple[str, ...] = doc(("molecule", "text", "graph"), "the modalities in the late fusion")
    relation_weights: tuple[float, ...] = doc((0.5, 1.0, 1.0), "their weights, in the same order")
    relation_targets: str = doc("batch", "whom the fused vector is compared with: the batch; or neighbours, also each"
                                         " drug's own among all that train, as they were last seen")
    relation_neighbours: int = doc(20, "for neighbours: how many")
    relation_shrink: float = doc(1.0, "added to the sum of weights, so that a pair known by little counts less")


@dataclass(frozen=True)
class TrainConfig:
    """How it is minimised."""

    epochs: int = doc(30, "at most")
    patience: int = doc(10, "epochs without a better validation retrieval before stopping")
    epoch_steps: int = doc(0, "optimiser steps an epoch; 0: as many as go once over the training drugs")
    complete: int = doc(1, "times that a drug with every modality is drawn for once of one that lacks any")
    start: str = doc("components", "components: linear paths begin as regressions onto principal components; random")
    batch_size: int = doc(256, "drugs a step, over all processes")
    learning_rate: float = doc(1e-3, "peak, after warm-up, before cosine decay")
    warmup: int = doc(50, "steps")
    weight_decay: float = doc(0.01, "AdamW")
    clip: float = doc(5.0, "norm to which gradients are clipped")
    average: float = doc(0.98, "decay a step of the moving average of the weights, which is what is kept")
    hidden: int = doc(256, "hidden width of the vector towers")
    dropout: float = doc(0.2, "in the vector towers")
    modality_dropout: float = doc(0.15, "chance that a modality is hidden from the fusion")
    fusion: str = doc("gated", "weighted, gated or mixed")
    split: int = doc(0, "which scaffolds are held out: another number, another split")
    validation: float = doc(0.1, "share of drugs for early stopping, by scaffold")
    test: float = doc(0.2, "share of drugs never seen, by scaffold")
    bad_steps: int = doc(3, "consecutive steps with NaN or infinity before the run is given up")


@dataclass(frozen=True)
class TransferConfig:
    """What the run learns to foretell of a drug of which only the structure is known."""

    width: int = doc(256, "width of the predicted vector; 0: no transfer head")
    encoder: str = doc("auto", "auto: MiniMol's fingerprint where it is installed; minimol; none")
    landmarks: int = doc(4000, "training drugs that a molecule is compared with at most; 1000 is faster for millions")
    pairs: tuple[str, ...] = doc((), "files of SMILES and texts of other molecules, to learn from, e.g. ChEBI-20's")
    penalty: float = doc(0.0, "of the kernel ridge regression; 0: the best on validation drugs of .1, .3 and 1")


@dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run."""

    width: int = doc(64, "D, the width of every vector")
    seed: int = doc(0, "of the drugs' order and of what is dropped; features and first weights do not hang on it")
    arm: str = doc("all", "all: every drug with what it has; intersection: train only on drugs that have everything")
    modalities: tuple[str, ...] = doc(ALL, "the modalities aligned to the molecule")
    device: str = doc("auto", "auto, cpu or cuda")
    precision: str = doc("auto", "fp32, which auto is too; bf16, for the towers of vectors on a card")
    index: str = doc("vector", "in an index above 50,000 vectors: vector; halfvec, half of the size; bit, signs alone,"
                            " a thirty-second, whose answers are ranked anew by the vectors")
    deterministic: bool = doc(False, "the same bits from the same seed on a card too, at some cost; a CPU gives them")
    threads: int = doc(1, "CPU threads of a step: more gain little and lose much on a busy machine; 0: all")
    molecule: MoleculeConfig = field(default_factory=MoleculeConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    property: PropertyConfig = field(default_factory=PropertyConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)

    def __post_init__(self) -> None:
        _choice("arm", self.arm, ("all", "intersection"))
        _choice("device", self.device, ("auto", "cpu", "cuda"))
        _choice("precision", self.precision, ("auto", "fp32", "bf16"))
        _choice("index", self.index, ("vector", "halfvec", "bit"))
        if not self.modalities:
            raise ConfigError("modalities is empty", hint=f"choose from {', '.join(ALL)}")
        for name in self.modalities:
            _choice("modalities", name, ALL)
        _choice("loss.relation_targets", self.loss.relation_targets, ("batch", "neighbours"))
        if self.loss.relation_neighbours < 1:
            raise ConfigError(f"loss.relation_neighbours is {self.loss.relation_neighbours}", hint="at least 1")
        if self.train.complete < 1:
            raise ConfigError(f"train.complete is {self.train.complete}", hint="at least 1")
        _choice("train.start", self.train.start, ("components", "random"))
        for name in self.graph.features:
            _choice("graph.features", name, ("neighbourhood", "transe"))
        if not 1 <= self.width <= 2000:
            raise ConfigError(f"width is {self.width}", hint="pgvector indexes vectors of at most 2,000 dimensions")


def _choice(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise ConfigError(f"{key} is {value!r}", hint=f"choose from {', '.join(allowed)}")


def paper(**changes: Any) -> PretrainConfig:
    """The published variant: GIN + BRICS only, towers by modality, symmetric InfoNCE to the anchor and nothing else."""
    base = PretrainConfig(
        molecule=MoleculeConfig(hidden=64, depth=2, fingerprint_bits=0),
        structure=StructureConfig(scalars=64, vectors=8, depth=3, neighbours=32),
        graph=GraphConfig(features=("transe",)),
        loss=LossConfig(between=0.0, consistency=0.0, relation=0.0, relation_towers=0.0),
        train=TrainConfig(learning_rate=1e-3, start="random"),
    )
    return dataclasses.replace(base, **changes)


def _coerce(value: Any, kind: Any, key: str) -> Any:
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_coerce(p.strip() if isinstance(p, str) else p, get_args(kind)[0], key) for p in parts if p != "")
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"{key} must be true or false, not {value!r}")
        return value.lower() == "true"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise ConfigError(f"{key} must be {kind.__name__}, not {value!r}") from None
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{key} must be {kind.__name__}, not {value!r}")
    return value


def _apply(config: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    hints = get_type_hints(type(config))
    changes = {}
    for name, value in values.items():
        key = prefix + name
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=1)
            raise ConfigError(f"there is no setting {key!r}", hint=f"did you mean {prefix + close[0]!r}?" if close
                              else f"known: {', '.join(prefix + known for known in hints)}")
        current = getattr(config, name)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                first = fields(current)[0].name
                raise ConfigError(f"{key} is a section", hint=f"set one of its keys, e.g. {key}.{first}")
            changes[name] = _apply(current, value, key + ".")
        else:
            changes[name] = _coerce(value, hints[name], key)
    return dataclasses.replace(config, **changes)


def load_config(path: Path | None = None, sets: Iterable[str] = (),
                base: PretrainConfig | None = None) -> PretrainConfig:
    """The configuration: defaults (or ``base``), then the TOML file, then every ``key=value`` of ``sets``."""
    config = base or PretrainConfig()
    if path is not None:
        config = _apply(config, read_toml(path, "--config"))
    for item in sets:
        key, sign, value = item.partition("=")
        if not sign:
            raise ConfigError(f"--set {item!r} is not key=value", hint="for example --set train.epochs=20")
        nested: Any = value
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        config = _apply(config, nested)
    return config


def from_json(values: Mapping[str, Any]) -> PretrainConfig:
    """The configuration that ``to_json`` wrote."""
    return _apply(PretrainConfig(), values)  # type: ignore[no-any-return]


def to_json(config: PretrainConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def to_toml(config: Any, section: str = "") -> str:
    """The configuration as TOML, each key under its description."""
    lines = [f"[{section}]"] if section else []
    later = []
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            later.append(to_toml(value, f"{section}.{item.name}" if section else item.name))
        else:
            lines += [f"# {item.metadata['doc']}", f"{item.name} = {json.dumps(value)}"]
    return "\n".join([*lines, *(f"\n{text}" for text in later)])
