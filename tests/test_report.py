"""The page: complete on a knowledge base of its own, self-contained, and in a browser at two widths."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from kb.coverage import Bucket
from kb.settings import load_settings
from report import page
from report.collect import Findings, collect, versions

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
                None)
PLOT = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="900pt" height="300pt"><g id="a"/></svg>'


def means(value):
    return {"jaccard": value, "f1": value, "prauc": value, "ddi_rate": 0.05, "medications": 10.0}


def recommender(name, value):
    return {"recommender": name, "run": "r" * 36, "seed": 0, "patients": 156, "visits": 180, "per_visit": means(value),
            "intervals": {"jaccard": [value - 0.02, value + 0.02]}, "truth": {"ddi_rate": 0.06, "medications": 11.0},
            "ddi": {"target": 0.06}, "by_visits": {"first": {"visits": 156, "jaccard": value}},
            "by_rarity": {"common": {"medications": 9, "recall": 0.5, "average_precision": 0.6}},
            "by_bucket": {"5 modalities": {"medications": 9, "recall": 0.5, "average_precision": 0.6}}}


def everything():
    """Findings with every part of the page, names and long words as they occur."""
    pair = {"from": "molecule", "to": "text", "drugs": 298, "recall@10": 0.2, "lift@10": 6.0}
    row = {"name": "Hydroxyethylpromethazine-with-a-very-long-name", "similarity": 0.81, "atc_codes": ["A10AE04"]}
    classes = [{"vectors": v, "drugs": "core drugs", "queries": 1260, "ours": v.startswith("mkmed"), "level_1": 0.8,
                "level_2": 0.7, "level_3": x} for v, x in (("late fusion: ECFP4 + text + graph", 0.71), ("mkmed", 0.72))]
    return Findings(
        datetime(2026, 1, 2, tzinfo=UTC), versions(), found=[Bucket((True,) * 5, 3), Bucket((False,) * 5, 9)],
        buckets=[{"modalities": 5, "drugs": 3}, {"modalities": 0, "drugs": 9}], counts={"drugs": 12},
        sources=[{"name": "corpus", "title": "t", "origin": "bundled", "licence": "CC0-1.0", "drugs": 12, "present": 9,
                  "absent": 3}],
        licences=[{"id": "CC0-1.0", "title": "CC0", "share": "open", "url": "https://example.org", "artifacts": 5}],
        neighbours={"metformin": [row]}, evaluation={"retrieval": [pair], "classes": classes},
        embedding={"run_id": "x" * 36, "drugs": 12, "width": 64, "modalities": ["fused", "text"], "config": {"seed": 7}},
        ablation={"metrics": ["score"], "rows": [{"arm": "all", "modalities": ["text"], "score": 0.5, "score_low": 0.4,
                                                  "score_high": 0.6, "seeds": 3}]},
        pictures=dict.fromkeys(("curves", "map", "ablation", "recommender curves"), PLOT),
        recommenders=[recommender("mkmed (corrected)", 0.35), recommender("logistic", 0.36)],
        cohort={"cohort": "eicu", "task": "stay", "split": "patients", "seed": 0, "format": "eicu"},
        recommendation={"warning": "Research software.", "patient": "An invented <b>patient</b>.", "avoided": [],
                        "recommended": [{"code": "ATC:N02B", "name": "Paracetamol", "probability": 0.9,
                                         "rests_on": ["text"], "reasons": [["EICU:a|b|c", 1.2]], "accepted": []}],
                        "molecule": PLOT, "molecule_caption": "A molecule."})


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return page.write(everything(), tmp_path_factory.mktemp("page") / "report.html")


def test_an_empty_knowledge_base_gives_a_page_that_names_the_commands(database, tmp_path):
    html = page.render(collect(database, load_settings(home=tmp_path)))
    for command in ("mkmed embed pretrain", "mkmed embed ablate", "mkmed recsys train", "mkmed report --visit"):
        assert command in html


def test_everything_found_is_on_the_page(full):
    html = full.read_text()
    for part in ("A10AE04", "6.0×", "late fusion", "0.500", "mkmed (corrected)", "0.330–0.370", "ATC:N02B", "+1.20",
                 "A molecule.", "CC0", "seed 7", "rdkit", "3 of 12", "name many medications"):
        assert part in html, part
    assert "not made yet" not in html


def test_nothing_is_fetched_and_nothing_is_run(full):
    html = full.read_text()
    assert not re.search(r"<(script|link|iframe|img|object)\b|@import|url\(\s*['\"]?http", html, re.IGNORECASE)
    assert "&lt;b&gt;patient&lt;/b&gt;" in html, "text from a file must not become markup"


def test_ids_of_pictures_do_not_collide(full):
    ids = re.findall(r'\bid="([^"]+)"', full.read_text())
    assert len(ids) == len(set(ids))


def test_a_killed_write_leaves_the_old_page(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr(page, "render", lambda findings: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        page.write(everything(), target)
    assert target.read_text() == "old"


def test_retrieval_is_a_square_with_an_empty_diagonal():
    matrix = page.retrieval_matrix(everything().evaluation)
    assert matrix["names"] == ["molecule", "text"]
    assert matrix["cells"][0][0] is None and matrix["cells"][0][1] is matrix["cells"][1][0] is not None


PROBE = """<script>addEventListener('load', () => {
 const wide = [...document.querySelectorAll('body *')].filter(e => !e.closest('.wide, .columns > div, figure > div, svg')
   && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className);
 document.title = JSON.stringify({page: document.documentElement.scrollWidth, window: innerWidth, wide,
   headings: [...document.querySelectorAll('h2')].map(e => e.textContent),
   tall: [...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect().height)});
});</script></head>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser_nothing_sticks_out(full, tmp_path, width):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    probed = tmp_path / "probed.html"
    # A frame gives the page the width of a phone; a window of headless Chromium is never narrower than 500.
    wanted = 390 if width == 500 else width
    inner = full.read_text().replace("</head>", PROBE.replace("document.title =", "parent.document.title ="))
    (tmp_path / "inner.html").write_text(inner)
    probed.write_text(f'<body style="margin:0"><iframe src="inner.html" style="border:0;width:{wanted}px;height:900px">'
                      "</iframe>")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--virtual-time-budget=5000"]
    done = subprocess.run([CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
                           "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120)
    found = json.loads(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL).group(1).replace("&amp;", "&"))
    assert found["window"] == wanted
    assert (found["page"] <= wanted, found["wide"]) == (True, [])
    assert len(found["headings"]) == 6 and len(found["tall"]) == 6 and min(found["tall"]) > 40
