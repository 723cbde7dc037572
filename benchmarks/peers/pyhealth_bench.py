"""PyHealth 1.1.6's own models on a cohort dumped by bench_recsys.py; runs in an environment of its own.

That environment (PyHealth 1.1.6 pins pandas < 2 and imports torchvision, mne and pandarallel whatever one uses):

    python3.11 -m venv peer && peer/bin/pip install "setuptools<81" "pandas<2" "numpy<2" scipy scikit-learn tqdm \
        networkx pandarallel mne rdkit six requests "torch>=2.6,<2.14" && \
    peer/bin/pip install --no-deps pyhealth==1.1.6 ogb outdated littleutils

torchvision is stubbed: no image is touched. PyHealth downloads its ATC table; here the cohort's own interactions and
one molecule a class stand in for it, so that every model sees the same knowledge. Times are process CPU seconds on one
thread of PyHealth's models, tokenizers and data loader; the loop around them is the plain one of its trainer. Building
the dataset and the model is not counted. One defect is mended: on a CPU MoleRec's loss rounds its own probabilities to
0 and 1 in place, through the memory that ``numpy()`` shares, which leaves no threshold to tune and no gradient to its
interactions; on a GPU, and here, it rounds a copy.

Every epoch is a whole one. A part of the first would mislead: SafeDrug and MoleRec count interactions in a Python loop
over all pairs of predicted drugs at every step, and MoleRec predicts all 131 drugs at first, which makes its first
steps about ten times as long as its later ones.

    python pyhealth_bench.py dump.json out_folder MODEL EPOCHS

Every line of standard output is JSON: the order of the drugs, then one line an epoch (its probabilities for the
validation visits lie in out_folder/MODEL-EPOCH.npy), then the peak memory. After an epoch's line one line is read from
standard input: ``stop`` ends training, anything else, its end included, goes on.
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


class Shielded(torch.Tensor):
    """Probabilities whose ``detach`` is a copy, so that writing to it leaves them as they are."""

    def detach(self):
        return super().detach().clone()


def shield(layer):
    """Make the loss of a MoleRecLayer round a copy of the probabilities."""
    loss = layer.calc_loss

    def calc_loss(logits, y_prob, *arguments):
        return loss(logits, y_prob.as_subclass(Shielded), *arguments).as_subclass(torch.Tensor)

    layer.calc_loss = calc_loss


def samples(dump, name):
    """PyHealth's dataset of the dumped visits."""
    from pyhealth.datasets import SampleEHRDataset

    if name in ("RETAIN", "Transformer"):  # they take no visit without a code
        for sample in dump["samples"]:
            sample["drugs_hist"] = [codes or ["none"] for codes in sample["drugs_hist"]]
    return SampleEHRDataset(dump["samples"], dataset_name="synthetic", task_name="drugs")


def build(name, dataset):
    """The model, with the stand-in for its ATC table."""
    from pyhealth import models

    for module in ("gamenet", "micron", "safedrug", "molerec"):
        __import__(f"pyhealth.models.{module}")
        sys.modules[f"pyhealth.models.{module}"].ATC = Atc
    if name in ("RETAIN", "Transformer"):
        return getattr(models, name)(dataset, feature_keys=["conditions", "procedures", "drugs_hist"],
                                     label_key="drugs", mode="multilabel", embedding_dim=64)
    model = getattr(models, name)(dataset, embedding_dim=64, hidden_dim=64)
    if name == "MoleRec":
        shield(model.layer)
    return model


def train(model, loader, optimizer):
    """CPU seconds of one epoch, as the library's trainer goes through it."""
    model.train()
    begun = time.process_time()
    for batch in loader:
        loss = model(**batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - begun


def scores(model, loader):
    """(the probabilities of every visit, CPU seconds)."""
    model.eval()
    begun = time.process_time()
    with torch.no_grad():
        out = np.concatenate([model(**batch)["y_prob"].numpy() for batch in loader])
    return out, time.process_time() - begun


def main():
    """Train, and tell after every epoch."""
    dump, folder, name = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
    out, sys.stdout = sys.stdout, sys.stderr  # some models print

    def tell(**fields):
        print(json.dumps(fields), file=out, flush=True)

    Atc.pairs, Atc.smiles = dump["pairs"], dump["smiles"]
    from pyhealth.datasets.utils import get_dataloader
    from torch.utils.data import Subset

    torch.manual_seed(0)
    dataset = samples(dump, name)
    loader = get_dataloader(Subset(dataset, dump["train"]), 64, shuffle=True)
    held = get_dataloader(Subset(dataset, dump["validation"]), 64)
    model = build(name, dataset)
    drugs = model.label_tokenizer
    tell(order=[drugs.convert_indices_to_tokens([i])[0] for i in range(drugs.get_vocabulary_size())])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, int(sys.argv[4]) + 1):
        trained = train(model, loader, optimizer)
        probability, evaluated = scores(model, held)
        np.save(folder / f"{name}-{epoch}.npy", probability)
        tell(epoch=epoch, train=trained, evaluate=evaluated)
        if sys.stdin.readline().strip() == "stop":
            break
    tell(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
