"""Writes tables of figures into README and docs from benchmarks/results: ``python docs/generate_figures.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def result(name: str) -> dict[str, Any]:
    """One benchmark's results."""
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return found


def row(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The row with these values."""
    return next(r for r in rows if all(r.get(key) == value for key, value in wanted.items()))


OURS = "mkmed, fused"
HELD = "held-out core drugs"
COLUMNS = ("plain", "class words masked", "without treatment edges")


def signed(value: float) -> str:
    """A difference with its sign, as the pages write it."""
    return f"{value:+.3f}".replace("-", "−").replace("0.", ".")


def lead(one: dict[str, Any]) -> str:
    """mkmed's lead over a rival, with its interval over splits."""
    return f"{signed(one['mkmed minus this'])} ({signed(one['low'])} to {signed(one['high'])})"


def share(value: float) -> str:
    """A share with three digits."""
    return f"{value:.3f}".removeprefix("0")


def strongest(rows: list[dict[str, Any]], column: str, drugs: str) -> dict[str, Any]:
    """The rival with the highest share in a column."""
    return max((r for r in rows if r.get("column") == column and r.get("drugs") == drugs and r["vectors"] != OURS),
               key=lambda r: r["level_3"])


def classes(drugs: str) -> str:
    """1-NN at ATC level 3 of mkmed and its rivals in every column that was measured, and mkmed's lead."""
    rows = [r for r in result("embedding")["rows"] if r["part"] == "classes" and r["drugs"] == drugs]
    columns = [c for c in COLUMNS if any(r["column"] == c for r in rows)]
    names = [r["vectors"] for r in rows if r["column"] == columns[0]]
    lines = []
    for name in names:
        cells = []
        for column in columns:
            one = next((r for r in rows if r["column"] == column and r["vectors"] == name), None)
            cells += ["", ""] if one is None else [share(one["level_3"]), lead(one) if "low" in one else ""]
        lines.append([f"**{name}**" if name == OURS else name, *cells])
    return markdown(["", *(head for c in columns for head in (c, "mkmed − it"))], lines)


def figures() -> list[tuple[str, str, str]]:
    """(what, figure, command) of everything that is quoted."""
    embedding = result("embedding")["rows"]
    held = row(embedding, part="classes", column="plain", drugs=HELD, vectors=OURS)
    rival = strongest(embedding, "plain", HELD)
    store, latency, drkg = result("store")["rows"], result("latency")["rows"], result("drkg")
    exact = row(store, vectors=10000, way="mkmed exact SQL")
    flat = row(store, vectors=10000, way="faiss flat")
    ann = row(result("scale")["rows"], what="write_run, HNSW")
    quality, ours = result("quality")["A"]["rows"], row(latency, recommender="mkmed")
    best, logistic = (row(quality, recommender=name, rule="safe") for name in ("mkmed", "logistic_history"))
    sooner = result("recsys")["plateau"][0]
    peer = sooner["goal"].partition(":")[0].removeprefix("PyHealth ")
    fetch = row(result("pubchem")["rows"], client="mkmed", processes=1)
    first = row(drkg["rows"], what="first ingest")
    return [
        ("neighbours in SQL, 10,000 drugs, exact",
         f"{exact['p50_ms']} ms (median); faiss in memory {flat['p50_ms']} ms", "bench_store.py"),
        (f"neighbours in SQL, {ann['n']:,} drugs, HNSW",
         f"{ann['p50_ms']} ms (median), recall@10 {ann['recall_at_10']}", "bench_scale.py"),
        (f"{drkg['triples']:,} graph triples of DRKG's shape into PostgreSQL",
         f"{first['seconds']:.0f} s, {first['ratio']:.1f} × a bare COPY with the same indexes", "bench_drkg.py"),
        ("nearest neighbour of a held-out drug shares its ATC level-3 class (mean of five splits)",
         f"{share(held['level_3'])} with 64 numbers; the strongest untrained rival ({rival['vectors']}) "
         f"{share(rival['level_3'])}, mkmed − it {lead(rival)}",
         "bench_embedding.py"),
        ("requests to a stand-in for PubChem",
         f"{fetch['of permitted']:.0%} of the permitted rate", "bench_pubchem.py"),
        ("a recommendation, one patient", f"{ours['p50 ms']:.1f} ms (median)", "bench_latency.py"),
        (f"CPU time until {peer}, PyHealth's best model, is matched on 6,350 synthetic patients",
         f"{sooner['mkmed CPU s']:.1f} s; {peer} itself {sooner['its CPU s']:.0f} s", "bench_recsys.py"),
        ("Jaccard on synthetic patients at a DDI rate of 0.06",
         f"{best['jaccard']:.3f} mkmed, {logistic['jaccard']:.3f} logistic regression with history",
         "bench_quality.py"),
    ]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table() -> str:
    """The README's table."""
    return markdown(["what", "figure", "command"],
                    [[what, figure, f"`python benchmarks/{command}`"] for what, figure, command in figures()])


NAMES = {"mkmed": "**mkmed**", "mkmed, no vectors": "mkmed without vectors",
         "mkmed reference": "mkmed, `mode=reference`", "logistic": "logistic regression",
         "logistic_history": "logistic regression with history", "repeat_last": "repeat last", "retain": "RETAIN",
         "gamenet": "GAMENet", "safedrug": "SafeDrug", "molerec": "MoleRec", "micron": "MICRON",
         "transformer": "Transformer", "armr": "ARMR"}


def quality(design: str) -> str:
    """Every recommender on one synthetic cohort, best first."""
    rows = result("quality")[design]["rows"]
    free = {r["recommender"]: r for r in rows if r["rule"] == "free"}
    safe = sorted((r for r in rows if r["rule"] == "safe"), key=lambda r: -r["jaccard"])
    return markdown(
        ["", "Jaccard, free", "Jaccard, safe", "DDI rate", "PRAUC", "F1", "medications", "first visit", "rare",
         "mkmed − it"],
        [[NAMES.get(r["recommender"], r["recommender"]), f"{free[r['recommender']]['jaccard']:.3f}",
          f"{r['jaccard']:.3f} ± {r['± seeds']:.3f}", f"{r['ddi_rate']:.3f}", f"{r['prauc']:.3f}", f"{r['f1']:.3f}",
          f"{r['medications']:.1f}", f"{r['first visit']:.3f}", f"{r['rare AP']:.3f}", r.get("ours − it") or ""]
         for r in safe])


def vectors() -> str:
    """What the recommender has of the medications' vectors, on both synthetic cohorts."""
    found = {design: [r for r in result("quality_ablation")[design]["rows"] if r["rule"] == "free"] for design in "AB"}
    return markdown(
        ["vectors of the medications", "A", "published − it", "B", "published − it"],
        [[a["recommender"], f"{a['jaccard']:.4f}", a.get("ours − it") or "", f"{b['jaccard']:.4f}",
          b.get("ours − it") or ""] for a, b in zip(found["A"], found["B"], strict=True)])


FACETS = ("fused", "mechanism", "use")


def neighbours() -> str:
    """The four nearest of well-known drugs by each facet; italics: of no common ATC class at level 3."""
    lines = []
    for one in result("facets")["neighbours"]:
        cells = [told if isinstance(told := one[name], str) else ", ".join(
            f"*{each['name']}*" if each["same class"] is False else each["name"] for each in told) for name in FACETS]
        wrong = [f"{each['facet']}: {each['neighbour']}, {each['what']}" for each in one["wrong"]]
        lines.append([one["drug"], *cells, "; ".join(wrong)])
    return markdown(["drug", "fused", "by mechanism", "by use", "what is wrong"], lines)


def facets() -> str:
    """How often opposed drugs are apart, and the nearest drug shares a label, by a facet and by the fused vectors."""
    rows = result("facets")["rows"]
    lines = [[f"{one['facet']} (from {one['vectors']})", one["label"], f"{one['asked']:,}", share(one["share"]),
              share(one["fused vectors"])] for one in rows if "fused vectors" in one]
    apart = {one["facet"]: one for one in rows if "fused vectors" not in one}
    first, fused = apart["mechanism"], apart["fused"]
    pairs = f"{first['asked']} ({fused['asked']} by the fused vectors)"
    return markdown(["facet", "measured", "drugs or pairs", "facet", "fused vectors"],
                    [["mechanism", first["label"], pairs, share(first["share"]), share(fused["share"])], *lines])


def device() -> str:
    """What a card does beside two CPU threads."""
    found, lines = [one for one in result("device")["rows"] if "device" in one], []

    def add(what: str, one: dict[str, Any], unit: str, slow: dict[str, Any] | None) -> None:
        rates = [f"{r[unit]:,}" if r else "" for r in (slow, one)]
        lines.append([what, unit, *rates, f"{one[unit] / slow[unit]:.1f}" if slow else "",
                      f"{one['card MiB'] / 1024:.1f}" if one.get("card MiB") else "",
                      f"{one['utilisation %']:.0f} %" if one.get("utilisation %") else ""])

    for one in found:
        if one["device"] == "cuda" and one["what"] == "step" and one["precision"] == "fp32":
            slow = next(r for r in found if r["device"] == "cpu" and r["what"] == "step" and r["batch"] == one["batch"])
            add(f"training of {one['drugs']:,} drugs, {one['batch']:,} a step", one, "pairs/s", slow)
        elif one["device"] == "cuda" and one["what"] in ("texts", "pictures", "TransE"):
            add("TransE" if one["what"] == "TransE" else f"frozen encoder, {one['what']}", one,
                "triples/s" if one["what"] == "TransE" else "items/s", row(found, what=one["what"], device="cpu"))
        elif one["device"] == "cuda" and one["what"] == "recommender":
            slow = row(found, what="recommender", device="cpu", batch=one["batch"])
            visits = f"recommender, {one['visits']:,} visits, {one['batch']:,} patients a step"
            lines.append([visits, "s an epoch", str(slow["s an epoch"]), str(one["s an epoch"]),
                          f"{slow['s an epoch'] / one['s an epoch']:.1f}", "", ""])
        elif one["device"] == "cuda" and one["what"] == "pretrain":
            whole = f"`embed pretrain` of the bundled corpus, {one['epochs']} epochs, 256 a step"
            lines.append([whole, "s an epoch", "", str(one["s an epoch"]), "", "", ""])
    return markdown(["what", "", "two threads", "card", "×", "card GiB", "utilisation"], lines)


def scale() -> str:
    """A made library through encoding, screening and the store, each beside its floor or a peer."""
    lines = []
    for one in result("scale")["rows"]:
        more = [f"{one[key]:,} {unit}" for key, unit in (
            ("peak_process_mib", "MiB the largest process"), ("peak_driver_mib", "MiB the driver"),
            ("bytes_a_compound", "bytes a compound"), ("p50_ms", "ms p50"), ("p95_ms", "ms p95")) if one.get(key)]
        more += [f"recall@10 {share(one['recall_at_10'])}"] if "recall_at_10" in one else []
        lines.append([one["stage"], one["what"], f"{one['n']:,}", f"{one['per_s']:,}", ", ".join(more)])
    return markdown(["stage", "what", "compounds", "a second", ""], lines)


def scale_ray() -> str:
    """The same encoding by one and two processes of this machine and of a Ray cluster."""
    lines = [[one["what"], f"{one['n']:,}", f"{one['per_s']:,}", f"{one['efficiency']:.2f}",
              f"{one['driver_mib_first_half']:,}, {one['driver_mib_second_half']:,}"]
             for one in result("scale_ray")["rows"]]
    return markdown(["what", "compounds", "a second", "a worker, of one's rate", "driver MiB, first and second half"],
                    lines)


def diabetes(what: str, columns: dict[str, str]) -> str:
    """One table of Diabetes-130: ``columns`` maps a heading to the column that is read."""
    found = [one for one in result("outcomes")["rows"] if one["table"] == what]
    return markdown(list(columns), [[_number(one.get(key)) for key in columns.values()] for one in found])


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def plan() -> str:
    """``mkmed plan`` for 10⁸ compounds and 10⁷ patients on 64 cores."""
    from mkmed.plan.estimate import load_rates, planned_steps

    rates, cores = load_rates(), 64
    lines = [[one.step, one.where, f"{one.n:,}", f"{one.hours:g}", f"{one.memory_gib:g} GiB", f"{one.disk_gib:g} GiB",
              one.basis, one.driver, f"`{one.source}`"] for one in planned_steps(1e8, 1e7, cores, rates)]
    head = f"10⁸ compounds and 10⁷ patients on {cores} cores like those of a {rates['machine']}:\n\n"
    return head + markdown(["step", "where", "for", "hours", "memory", "disk", "how known", "what drives the cost",
                            "rate from"], lines)


SETS = {"eicu": "eICU", "eicu_ingredient": "eICU, ingredients", "mimic4": "MIMIC-IV",
        "mimic4_ingredient": "MIMIC-IV, ingredients", "eicu_hospitals": "eICU, other hospitals",
        "eicu_mimic4": "eICU to MIMIC-IV"}
SPAN = re.compile(r"([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)")


def spans(kind: str) -> list[dict[str, Any]]:
    """The verdicts of every study of a kind, with the gains over no knowledge and over shuffled as three numbers."""
    found = []
    for path in sorted((ROOT / "benchmarks" / "results").glob(f"study_{kind}_*.json")):
        name = path.stem.removeprefix(f"study_{kind}_")
        for one in json.loads(path.read_text())["verdicts"]:
            numbers = {key: tuple(map(float, match.groups())) if (match := SPAN.match(one[f"all − {key}"])) else None
                       for key in ("null", "shuffled")}
            found.append({"data": SETS.get(name, name), "point": one["point"], "verdict": one["verdict"], **numbers})
    return found


def span(numbers: tuple[float, float, float]) -> str:
    """A difference with its interval."""
    return f"{signed(numbers[0])} ({signed(numbers[1])} to {signed(numbers[2])})"


def knowledge() -> str:
    """Where knowledge helps the recommender, by how much and where not: two sentences from the studies' files."""
    curves, cold = spans("curve"), [one for one in spans("coldstart") if one["point"] == "0"]
    gains = [one["null"] for one in curves]
    sure = sum(gain[1] > 0 for gain in gains)
    beyond = sum(one["shuffled"] is not None and one["shuffled"][1] > 0 for one in curves)
    names = list(dict.fromkeys(one["data"] for one in curves))
    least, most = (signed(end(g[0] for g in gains)) for end in (min, max))
    first = (f"Everything that is known of drugs and codes changes PRAUC by {least} to {most} against the same model "
             f"without it on the open demos ({'; '.join(names)}); {sure} of {len(gains)} intervals lie above zero, and "
             f"{beyond} against a model in which each drug has another's knowledge.")
    parts = [f"{span(one['null'])} on {one['data']}, an interval that "
             + ("lies above zero" if one["null"][1] > 0 else "lies below zero" if one["null"][2] < 0 else "holds zero")
             for one in cold]
    second = ("How well a medication is ranked that nobody could be given yet changes by "
              f"{'; '.join(parts)} (macro AUROC, against a model that only counts codes).")
    return f"{first} {second}"


METRICS = {"prauc": "PRAUC", "jaccard": "Jaccard", "auroc": "AUROC", "ap_over_chance": "AP over chance",
           "recall@20": "recall@20", "of the oracle's gain": "of the oracle's gain"}


def study(*names: str) -> str:
    """Every arm of one study, or of one a λ, with what everything known has over it; the best first."""
    tables = [result(f"study_{name}")["rows"] for name in names]
    lead = next(key for key in tables[0][0] if key.startswith("all − it"))
    decides = lead.partition(", ")[2]
    told = [key for key in METRICS if key in tables[0][0]]
    dialled = ["λ"] if "λ" in tables[0][0] else []
    head = [*dialled, "arm", *(METRICS[key] for key in told), lead.replace("all", "everything")]
    lines = []
    for rows in tables:
        for one in sorted(rows, key=lambda r: -r[decides]):
            cells = [share(one[key]) if isinstance(one[key], float) and one[key] < 1 else
                     f"{one[key]:.2f}" if isinstance(one[key], float) else one[key] or "" for key in told]
            dial = [f"{one[key]:g}" for key in dialled]
            lines.append([*dial, one["arm"], *cells, (one[lead] or "").replace("-", "−")])
    return markdown(head, lines)


ARM_NAMES = {"logistic_history": "logistic regression with history", "null": "null: the same model without knowledge",
             "titles only": "titles of codes only", "shuffled": "everything, drugs shuffled",
             "titles shuffled": "everything, titles shuffled", "all": "**everything**",
             "oracle": "oracle (has seen the test patients)"}
COLD_NAMES = {"null": "null (numbers of codes, and how much else is given)", "random": "random vectors",
              "ecfp4": "ECFP4", "fused": "fused vectors, no evidence",
              "neighbours": "average over the ten nearest drugs",
              "shuffled": "everything, drugs shuffled", "evidence": "evidence, no vectors",
              "without indications": "without what the graph says the drug treats", "all": "**everything**",
              "not hidden": "not hidden: the drugs were given in training",
              "oracle": "oracle (has seen the test patients)"}


def both(one: dict[str, Any] | None) -> str:
    """PRAUC, and the Jaccard of the free rule."""
    return f"{share(one['prauc'])} ({share(one['jaccard'])})" if one else ""


def shown_span(text: str | None) -> str:
    """A difference of a study's file with its interval, in the pages' signs; bold where it leaves out 0."""
    if not text:
        return ""
    numbers = tuple(map(float, SPAN.match(text).groups()))  # type: ignore[union-attr]
    return f"**{span(numbers)}**" if numbers[1] * numbers[2] > 0 else span(numbers)


def curve(*names: str) -> str:
    """Learning curves of one or more cohorts: every arm at every number of training patients, and what leads what."""
    columns = [(SETS[name], found["rows"], point) for name in names for found in (result(f"study_curve_{name}"),)
               for point in found["points"]]

    def cells(arm: str, key: str = "") -> list[str]:
        ones = [row(rows, arm=arm, point=point) for _, rows, point in columns]
        return [shown_span(one[key]) if key else both(one) for one in ones]

    head = ["PRAUC (Jaccard of the free rule)", *(f"{name}, {point} patients" for name, _, point in columns)]
    lines = [[shown, *cells(arm)] for arm, shown in ARM_NAMES.items()]
    lines += [["PRAUC, everything − null", *cells("all", "prauc − null")],
              ["PRAUC, everything − shuffled", *cells("shuffled", "all − it, prauc")],
              ["Jaccard, everything − null", *cells("all", "jaccard − null")],
              ["Jaccard, everything − logistic with history", *cells("logistic_history", "all − it, jaccard")]]
    return markdown(head, lines)


def elsewhere() -> str:
    """Hospitals that training never saw, and one export to the other."""
    tables = [{r["arm"]: r for r in result(f"study_transfer_{name}")["rows"]}
              for name in ("eicu_hospitals", "eicu_mimic4")]
    lead, key = "everything − it, PRAUC", "all − it, prauc"
    return markdown(["PRAUC (Jaccard)", "hospitals left out", lead, "eICU → MIMIC-IV", lead], [
        [shown, *(cell for rows in tables for cell in (both(rows.get(arm)), shown_span(rows.get(arm, {}).get(key))))]
        for arm, shown in ARM_NAMES.items()])


def coldstart() -> str:
    """Classes that nobody could be given, on both exports."""
    tables = [{r["arm"]: r for r in result(f"study_coldstart_{name}")["rows"]} for name in ("mimic4", "eicu")]
    return markdown(["macro AUROC over hidden classes", "MIMIC-IV", "everything − it", "eICU", "everything − it"], [
        [shown, *(cell for rows in tables
                  for cell in (share(rows[arm]["auroc"]), shown_span(rows[arm]["all − it, auroc"])))]
        for arm, shown in COLD_NAMES.items()])


def rivals(cohort: str) -> str:
    """Rivals of other kinds, each with as many settings tried on validation patients, best PRAUC first."""
    found, leads = result(f"rivals_{cohort}"), ("pairs − it, jaccard", "pairs − it, prauc")
    return markdown(["rival", "Jaccard", "PRAUC", *leads, "CPU s a split, all settings"], [
        [r["rival"], share(r["jaccard"]), share(r["prauc"]), *(r.get(key, "").replace("-", "−") for key in leads),
         f"{r['cpu_seconds']:.2f}"] for r in found["rows"]])


ARM_FIGURES = ("fused level 3", "untrained level 3", "molecule level 3", "predicted level 3")


def spread(one: dict[str, Any], key: str) -> str:
    """A mean with its interval over splits."""
    return f"{share(one[key])} ({share(one[f'{key}_low'])}–{share(one[f'{key}_high'])})"


def arms() -> str:
    """Figure 4: quality over the number of modalities, as it is and with class words masked."""
    rows = result("ablation")["rows"]
    lines = []
    for one in rows:
        if one["column"] != "plain":
            continue
        masked = row(rows, column="class words masked", arm=one["arm"], modalities=one["modalities"])
        last = one["modalities"][-1]
        named = "all five" if one["arm"] != "all" else last if one["size"] == 1 else f"+ {last}"
        lines.append([one["arm"], named, f"{one['train']:,}", *(spread(one, key) for key in ARM_FIGURES),
                      *(spread(masked, key) for key in ARM_FIGURES if key != "predicted level 3")])
    head = ["fused", "its untrained inputs", "molecule's", "predicted"]
    return markdown(["trained on", "modalities", "training drugs", *head, *(f"{name}, masked" for name in head[:3])],
                    lines)


BOTH_WAYS = ("molecule → text", "molecule → graph")
HEADS = {"nearest drugs' mean (kNN regression)": "mean of the nearest drugs (kNN regression, Tanimoto of counts)",
         "transfer head, 1,000 landmarks": "transfer head, 1,000 landmarks", "transfer head": "**transfer head**",
         "transfer head, with texts of molecules that are no drugs":
             "transfer head that read texts of 6,600 other molecules, too"}
TOLD = {"ECFP4": "ECFP4", "minimol": "MiniMol", "ECFP4 and minimol": "ECFP4 and MiniMol",
        "foretold text and graph": "foretold text and graph",
        "ECFP4, minimol, foretold text and graph": "ECFP4, MiniMol, foretold text and graph",
        "predicted vector": "**the stored `predicted` vector, 256 numbers**",
        "as search compares": "**as search compares: these four over training drugs' deviations**"}
LABELS = ("targets, linear probe, AUROC", "interactions, degree-matched, AUROC")


def gain(one: dict[str, Any], key: str) -> str:
    """A paired difference with its interval, or nothing."""
    return span((one[key], one[f"{key} low"], one[f"{key} high"])) if key in one else ""


def transfer_retrieval() -> str:
    """Between molecule and text, and molecule and graph, for drugs of which only the structure is given."""
    rows, lines = result("transfer")["rows"], []
    for hubs in ("", ", hubs corrected"):
        for name, shown in HEADS.items():
            found = [row(rows, part=part, what=name + hubs) for part in BOTH_WAYS]
            lines.append([shown + hubs, *(cell for one in found for cell in (share(one["mean"]), gain(one, "gain")))])
    return markdown(["recall@10 on held-out drugs, mean of both directions",
                     *(cell for name in BOTH_WAYS for cell in (name, "it − kNN"))], lines)


def transfer_classes() -> str:
    """Whether the nearest drug by what a structure says shares a class."""
    rows = result("transfer")["rows"]
    found = [row(rows, part="1-NN, ATC level 3", what=name) for name in TOLD]
    return markdown(["1-NN, ATC level 3, held-out core drugs", "accuracy", "it − ECFP4", "it − MiniMol"],
                    [[TOLD[one["what"]], share(one["mean"]), gain(one, "gain"), gain(one, "over minimol")]
                     for one in found])


def transfer_probes() -> str:
    """Probes of held-out drugs from their structure."""
    rows, lines = result("transfer")["rows"], []
    for name in ("ECFP4", "minimol", "ECFP4 and minimol", "predicted vector"):
        found = [row(rows, part=part, what=name) for part in LABELS]
        shown = TOLD[name] if name == "predicted vector" else f"{TOLD[name]}, 256 components"
        lines.append([shown, *(cell for one in found for cell in (
            share(one["mean"]), gain(one, "gain"), gain(one, "over minimol")))])
    beside = ["it − ECFP4", "it − MiniMol"]
    return markdown(["probes of held-out drugs, AUROC",
                     f"targets ({result('transfer')['targets']}, DrugCentral), linear", *beside,
                     "interactions, negatives of the same partners", *beside], lines)


def draw_knowledge(path: Path) -> None:
    """One line a study and point: the gain over no knowledge, and over shuffled knowledge, with their intervals."""
    from matplotlib.figure import Figure

    from kb.pictures import save_figure

    rows = spans("curve")
    figure = Figure(figsize=(7, 0.35 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for offset, key, colour in ((0.12, "null", "C0"), (-0.12, "shuffled", "C1")):
        told = [(place, one[key]) for place, one in enumerate(reversed(rows)) if one[key] is not None]
        mean = [numbers[0] for _, numbers in told]
        axes.errorbar(mean, [place + offset for place, _ in told], fmt="o", color=colour, label=f"everything − {key}",
                      xerr=[[m - n[1] for m, (_, n) in zip(mean, told, strict=True)],
                            [n[2] - m for m, (_, n) in zip(mean, told, strict=True)]])
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{one['data']}, {one['point']}" for one in reversed(rows)])
    axes.set_xlabel("PRAUC gained by knowledge; y: data and training patients")
    axes.legend(fontsize=8)
    save_figure(figure, path)


EXTRACTS = {"mimic3": "MIMIC-III demo", "mimic4": "MIMIC-IV demo", "meds": "the same as MEDS", "eicu": "eICU demo",
            "omop": "OMOP, Eunomia GiBleed", "synthea": "Synthea"}
DEMO_RECOMMENDERS = ("mkmed", "logistic_history", "repeat_last", "popularity")


def open_demos() -> str:
    """The recommenders on the open extracts."""
    lines = []
    rows, labels = result("open_demos")["rows"], result("open_demos").get("labels")
    for form, name in EXTRACTS.items():
        held = {r["recommender"]: r for r in rows if r["data"] == form}
        if held:
            one = held["mkmed"]
            lines.append([name, f"{one['patients']:,}, {one['visits']:,}",
                          f"{one['diagnosis']:,}, {one['procedure']:,}, {one['medication']:,}",
                          f"{one['rows']:,} = {one['kept']:,} + {one['lost']:,}", f"{one['tested']}",
                          *(f"{held[r]['jaccard']:.3f} ({held[r]['95 %']})" for r in DEMO_RECOMMENDERS),
                          held["logistic_history"].get("ours − it", "")])
    said = f"Labels: {labels}." if labels else "**Labels of release 0.1.0** (several classes an order), not today's."
    head = ["data", "patients, visits", "codes: diagnoses, procedures, medications", "rows read = kept + left out",
            "tested", *(NAMES.get(r, r).strip("*") for r in DEMO_RECOMMENDERS), "mkmed − logistic"]
    return f"{said}\n\n{markdown(head, lines)}"


def open_demo_pairs() -> str:
    """The pairs of drugs that were ordered together in the open extracts, listed and flagged."""
    rows = result("open_demos").get("interactions", [])
    if not rows:
        return "Not measured with today's labels yet."
    names = list(dict.fromkeys(r["what"] for r in rows))
    held = {(r["data"], r["what"]): f"{r['pairs']:,}" + (f" ({r['share']})" if r["share"] else "") for r in rows}
    there = [form for form in EXTRACTS if any(r["data"] == form for r in rows)]
    return markdown(["", *(EXTRACTS[form] for form in there)],
                    [[name, *(held.get((form, name), "") for form in there)] for name in names])


def install() -> str:
    """What an installation takes: the core and everything whole, an extra by what it adds."""
    rows = result("install")["rows"]
    names = {"core": "core (`requirements-core.txt`)", "all": "everything but the extras"}
    return markdown(["installed", "MiB"], [[names.get(r["installed"], f"extra `{r['installed']}`"),
                                            f"{r['MiB']:,}" if r["installed"] in names else f"+{r['more than all']}"]
                                           for r in rows])


def prompt() -> str:
    """CPU seconds of commands at the prompt."""
    rows = result("prompt")["rows"]
    return markdown(["process", "CPU s"], [[f"`mkmed {r['process']}`" if r["mark"] else r["process"],
                                            f"{r['CPU s']:.2f}"] for r in rows])


def serve() -> str:
    """The service under load, and CDS Hooks one call after the other."""
    one = result("serve")["rows"][0]
    return markdown(["", ""], [
        ["requests, clients, lost", f"{one['requests']:,}, {one['clients']}, {one['lost']}"],
        ["requests a second", f"{one['per second']:.0f}"],
        ["p50, p95 with all clients, ms", f"{one['p50 ms']:,.0f}, {one['p95 ms']:,.0f}"],
        ["memory after 2,000 requests and at the end, MiB",
         f"{one['memory MiB after 2,000']}, {one['memory MiB at the end']}"],
        ["CDS Hooks p50, p95, and the service's CPU, ms",
         f"{one['CDS Hooks p50 ms']:.0f}, {one['CDS Hooks p95 ms']:.0f}, {one['CDS Hooks CPU ms']:.0f}"]])


def explorer() -> str:
    """The explorer on many drugs, in Chromium."""
    names = ("usable s", "names offered s", "card s", "map drawn s")
    return markdown(["pixels", "drugs", *names], [
        [f"{r['pixels']}", f"{r['drugs']:,}", *(f"{r[n]:.2f}" for n in names)] for r in result("explorer")["rows"]])


BLOCKS = {
    "install": install,
    "prompt": prompt,
    "serve": serve,
    "explorer": explorer,
    "knowledge": knowledge,
    "rivals": lambda: rivals("mimic4"),
    "rivals eicu": lambda: rivals("eicu"),
    "ablate": lambda: study("ablate_mimic4"),
    "coldstart ingredients": lambda: study("coldstart_eicu_ingredient"),
    "curve": lambda: curve("eicu", "mimic4"),
    "curve ingredients": lambda: curve("eicu_ingredient", "mimic4_ingredient"),
    "elsewhere": elsewhere,
    "coldstart": coldstart,
    "dial": lambda: study("dial_0", "dial_half", "dial_1"),
    "open demos": open_demos,
    "open demo pairs": open_demo_pairs,
    "figures": table,
    "arms": arms,
    "transfer retrieval": transfer_retrieval,
    "transfer classes": transfer_classes,
    "transfer probes": transfer_probes,
    "embedding": lambda: classes(HELD),
    "embedding without SMILES": lambda: classes("drugs without SMILES, among all"),
    "quality A": lambda: quality("A"),
    "quality B": lambda: quality("B"),
    "vectors": vectors,
    "facets": facets,
    "device": device,
    "diabetes recommenders": lambda: diabetes("recommenders", {
        "": "recommender", "visits": "visits", "patients": "patients", "Jaccard": "jaccard", "95 %": "95 %",
        "PRAUC": "prauc"}),
    "diabetes subgroups": lambda: diabetes("subgroups", {
        "of whom": "subgroup", "visits": "visits", "patients": "patients", "Jaccard": "jaccard", "95 %": "95 %"}),
    "diabetes outcomes": lambda: diabetes("outcomes", {
        "outcome": "outcome", "visits": "visits", "agree more": "crude: more", "less": "less",
        "weighted: more": "weighted: more", "less, weighted": "less, weighted", "difference (95 %)": "95 %",
        "E-value": "E-value", "of the limit": "E-value of the limit", "overlap": "overlap",
        "imbalance after": "imbalance after"}),
    "scale": scale,
    "scale ray": scale_ray,
    "plan": plan,
    "neighbours": neighbours,
}
PAGES = ("README.md", "docs/results.md", "docs/operations.md", "docs/install.md", "docs/serve.md", "docs/outcomes.md",
         "docs/orders.md")


def filled(text: str) -> str:
    """The page with its tables as they would be now."""
    return re.sub("<!-- ([a-zA-Z ]+) -->\n.*?<!-- end of \\1 -->",
                  lambda found: f"<!-- {found[1]} -->\n{BLOCKS[found[1]]()}\n<!-- end of {found[1]} -->", text,
                  flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    draw_knowledge(ROOT / "docs" / "pictures" / "knowledge.svg")
