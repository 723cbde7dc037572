"""PyHealth 2.1's own RETAIN and Transformer on the visits that bench_rivals.py dumps; in an environment of its own.

    python3.12 -m venv peer && peer/bin/pip install pyhealth==2.1.0
    peer/bin/python pyhealth_rivals.py dump.json MODEL out.npz

Dataset, processors, data loader, model and loss are the library's, with Adam as in its trainer; visits without a code
stay empty, which 2.1 takes. Of every setting the epoch with the best validation PRAUC is kept, and of all settings the
best, whose probabilities for validation and test visits go to ``out.npz`` with what was tried.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from pyhealth import models
from pyhealth.datasets import create_sample_dataset, get_dataloader
from sklearn.metrics import average_precision_score

torch.set_num_threads(1)
INPUTS = ("conditions", "procedures", "drugs_hist")


def scores(model, loader):
    """float[n, labels] of every visit, in order."""
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(**batch)["y_prob"].numpy() for batch in loader])


def quality(probability, truth):
    """The mean average precision of visits that were given anything."""
    rows = [row for row in range(len(truth)) if truth[row].any()]
    return float(np.mean([average_precision_score(truth[row], probability[row]) for row in rows]))


def main():
    """Train with every setting, and keep the best."""
    dump = json.loads(Path(sys.argv[1]).read_text())
    name, width = sys.argv[2], dump["medications"]
    data = create_sample_dataset(dump["samples"], dict.fromkeys(INPUTS, "nested_sequence"), {"drugs": "multilabel"},
                                 dataset_name="rivals", task_name="drugs")
    place = np.array([int(label[1:]) for label in data.output_processors["drugs"].label_vocab])

    def whole(found):
        out = np.zeros((len(found), width), np.float32)
        out[:, place] = found
        return out

    truth = np.zeros((len(dump["validation"]), width), bool)
    for row, number in enumerate(dump["validation"]):
        truth[row, [int(label[1:]) for label in dump["samples"][number]["drugs"]]] = True
    tried, best, begun = [], (-1.0, None, None), time.process_time()
    for setting in dump["settings"]:
        torch.manual_seed(dump["seed"])
        model = getattr(models, name)(data, embedding_dim=dump["dim"], dropout=setting["dropout"])
        optimizer = torch.optim.Adam(model.parameters(), lr=setting["learning_rate"])
        loader = get_dataloader(data.subset(dump["train"]), dump["batch"], shuffle=True)
        sides = [get_dataloader(data.subset(dump[side]), 256) for side in ("validation", "test")]
        reached = -1.0
        for _ in range(dump["epochs"]):
            model.train()
            for batch in loader:
                optimizer.zero_grad()
                model(**batch)["loss"].backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
            held = whole(scores(model, sides[0]))
            now = quality(held, truth)
            reached = max(reached, now)
            if now > best[0]:
                best = (now, held, whole(scores(model, sides[1])))
        tried.append({**setting, "prauc": reached})
    np.savez(sys.argv[3], validation=best[1], test=best[2], tried=json.dumps(tried),
             cpu_seconds=time.process_time() - begun)


if __name__ == "__main__":
    main()
