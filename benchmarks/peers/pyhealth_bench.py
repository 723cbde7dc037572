"""PyHealth 1.1.6's own models on a cohort dumped by bench_recsys.py; runs in an environment of its own.

That environment (PyHealth 1.1.6 pins pandas < 2 and imports torchvision, mne and pandarallel whatever one uses):

    python3.11 -m venv peer && peer/bin/pip install "setuptools<81" "pandas<2" "numpy<2" scipy scikit-learn tqdm \
        networkx pandarallel mne rdkit six requests "torch>=2.6,<2.14" && \
    peer/bin/pip install --no-deps pyhealth==1.1.6 ogb outdated littleutils

torchvision is stubbed: no image is touched. PyHealth downloads its ATC table; here the cohort's own interactions and
one molecule a class stand in for it, so that every model sees the same knowledge. Times are process CPU seconds on one
thread of PyHealth's models, tokenizers and data loader; the loop around them is the plain one of its trainer.

    python pyhealth_bench.py dump.json out_folder MODEL EPOCHS [LIMIT]
"""

from __future__ import annotations

import json
import resource
import sys
import time
import types
from pathlib import Path


class Stub(types.ModuleType):
    """A module in which any name but Python's own is an empty class."""

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return type(attribute, (), {})


for _name in ("torchvision", "torchvision.transforms", "torchvision.models"):
    sys.modules[_name] = Stub(_name)

import numpy as np
import torch

torch.set_num_threads(1)


class Atc:
    """A stand-in for pyhealth.medcode.ATC, which downloads its table."""

    pairs: list = []
    smiles: dict = {}

    def __init__(self, *args, **kwargs):
        nodes = {code + "A01": {"smiles": text} for code, text in self.smiles.items()}
        self.graph = types.SimpleNamespace(nodes=nodes)

    def get_ddi(self, **kwargs):
        return [[a + "A01", b + "A01"] for a, b in self.pairs]

    @staticmethod
    def convert(code, level=3):
        return code[:4]


def build(name, dataset):
    from pyhealth import models

    for module in ("gamenet", "micron", "safedrug", "molerec"):
        __import__(f"pyhealth.models.{module}")
        sys.modules[f"pyhealth.models.{module}"].ATC = Atc
    if name in ("RETAIN", "Transformer"):
        return getattr(models, name)(dataset, feature_keys=["conditions", "procedures", "drugs_hist"],
                                     label_key="drugs", mode="multilabel", embedding_dim=64)
    return getattr(models, name)(dataset, embedding_dim=64, hidden_dim=64)


def scores(model, loader):
    model.eval()
    out = []
    with torch.no_grad():
        for batch in loader:
            out.append(model(**batch)["y_prob"].numpy())
    model.train()
    return np.concatenate(out)


def main():
    dump, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    name, epochs = sys.argv[3], int(sys.argv[4])
    limit = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    Atc.pairs, Atc.smiles = dump["pairs"], dump["smiles"]
    from pyhealth.datasets import SampleEHRDataset
    from pyhealth.datasets.utils import get_dataloader
    from torch.utils.data import Subset

    if name in ("RETAIN", "Transformer"):  # they take no visit without a code
        for sample in dump["samples"]:
            sample["drugs_hist"] = [codes or ["none"] for codes in sample["drugs_hist"]]
    torch.manual_seed(0)
    dataset = SampleEHRDataset(dump["samples"], dataset_name="synthetic", task_name="drugs")
    train, held = (dump[side][:limit] if limit else dump[side] for side in ("train", "validation"))
    loaders = {"train": get_dataloader(Subset(dataset, train), 64, shuffle=True),
               "validation": get_dataloader(Subset(dataset, held), 64),
               "test": get_dataloader(Subset(dataset, dump["test"]), 64)}
    model = build(name, dataset)
    order = [model.label_tokenizer.convert_indices_to_tokens([i])[0]
             for i in range(model.label_tokenizer.get_vocabulary_size())]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rows = []
    for epoch in range(epochs):
        model.train()
        begun = time.process_time()
        for batch in loaders["train"]:
            loss = model(**batch)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
        trained = time.process_time() - begun
        begun = time.process_time()
        probability = scores(model, loaders["validation"])
        rows.append({"epoch": epoch + 1, "train": trained, "evaluate": time.process_time() - begun,
                     "share": len(train) / len(dump["train"]), "held_share": len(held) / len(dump["validation"])})
        np.save(folder / f"{name}-{epoch + 1}.npy", probability)
        print(name, rows[-1], flush=True)
    if not limit:
        np.save(folder / f"{name}-test.npy", scores(model, loaders["test"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (folder / f"{name}.json").write_text(json.dumps({"rows": rows, "order": order, "peak_mb": peak}))


if __name__ == "__main__":
    main()
