"""The page: complete on a knowledge base of its own, self-contained, and in a browser at two widths."""

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest

from kb.ledger.coverage import Bucket
from kb.settings import load_settings
from mkmed.report import page
from mkmed.report.charts import FOLDER, LIBRARIES, POLICY, charts, epochs_chart
from mkmed.report.collect import Findings, collect, mean_seeds, versions
from mkmed.report.findings import three
from tests.browser import Visit, chromium

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
                None)
PLOT = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="900pt" height="300pt"><g id="a"/></svg>'


METRICS = ["molecule level 3", "fused level 3", "fused level 1", "score"]
MODALITIES = ["image", "text", "structure", "property", "graph"]


def means(value):
    return {"jaccard": value, "f1": value, "prauc": value, "ddi_rate": 0.05, "medications": 10.0}


def recommender(name, value):
    return {"recommender": name, "run": "r" * 36, "seed": 0, "seeds": [0], "patients": 156, "visits": 180, "per_visit": means(value),
            "intervals": {"jaccard": [value - 0.02, value + 0.02]}, "truth": {"ddi_rate": 0.06, "medications": 11.0},
            "ddi": {"target": 0.06}, "by_visits": {"first": {"visits": 156, "jaccard": value}},
            "by_rarity": {"common": {"medications": 9, "recall": 0.5, "average_precision": 0.6}},
            "by_bucket": {"5 modalities": {"medications": 9, "recall": 0.5, "average_precision": 0.6}}}


def everything():
    """Findings with every part of the page, names and long words as they occur."""
    pair = {"from": "molecule", "to": "text", "drugs": 298, "recall@10": 0.99, "lift@10": 6.0}
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
        ablation={"metrics": METRICS, "rows": [{"arm": "intersection", "modalities": MODALITIES, "seeds": 5,
                                                **{name + end: 0.5 for name in METRICS for end in ("", "_low", "_high")}}]},
        pictures=dict.fromkeys(("curves", "map", "ablation", "recommender curves"), PLOT),
        recommenders=[recommender("mkmed (pairs)", 0.35), recommender("logistic", 0.36)],
        others=[{"cohort": "mimic4", "task": "admission", "split": "temporal", "rows": [recommender("logistic", 0.3)]}],
        cohort={"cohort": "eicu", "task": "stay", "split": "patients", "seed": 0, "format": "eicu"},
        recommendation={"warning": "Research software.", "patient": "An invented <b>patient</b>.", "avoided": [],
                        "recommended": [{"code": "ATC:N02B", "name": "Paracetamol", "probability": 0.9,
                                         "rests_on": ["text"], "reasons": [["EICU:a|b|c", 1.2]], "accepted": []}],
                        "molecule": PLOT, "molecule_caption": "A molecule."})


def test_runs_that_cannot_be_compared_stand_apart(tmp_path):
    """By cohort, task and split; of each recommender and seed the newest; seeds as a mean with its interval."""
    from kb.settings import load_settings
    from mkmed.report.collect import _recommenders

    made = [("logistic", "stay", 0, 0.30), ("logistic", "stay", 1, 0.40), ("logistic", "stay", 0, 0.32),
            ("retain", "admission", 0, 0.9), ("retain", "stay", 0, 0.2)]
    for number, (name, task, seed, value) in enumerate(made):
        folder = tmp_path / "runs" / "recsys" / f"run-{number}"
        folder.mkdir(parents=True)
        config = {"recommender": name, "cohort": "c", "task": task, "split": "patients", "seed": seed, "mode": "auto"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "report.json").write_text(json.dumps({**recommender(name, value), "cohort": "12 patients, abc"}))
        os.utime(folder / "report.json", (number + 1, number + 1))
    findings = Findings(datetime(2026, 1, 2, tzinfo=UTC), versions())
    _recommenders(load_settings(home=tmp_path), findings)
    assert [(row["recommender"], row["seeds"]) for row in findings.recommenders] == [("logistic", [0, 1]), ("retain", [0])]
    assert findings.recommenders[0]["per_visit"]["jaccard"] == pytest.approx(0.36)
    half = 12.7062 * np.std([0.32, 0.40], ddof=1) / np.sqrt(2)  # Student's t of one degree of freedom
    assert findings.recommenders[0]["intervals"]["jaccard"] == pytest.approx([0.36 - half, 0.36 + half], rel=1e-4)
    (other,) = findings.others
    assert (other["task"], other["rows"][0]["per_visit"]["jaccard"]) == ("admission", 0.9)
    assert mean_seeds([]) == []


def charted():
    """Everything, with what charts are drawn of."""
    found = everything()
    found.places = [{"name": "<b>Metformin", "group": "blood", "x": 0.0, "y": 0.0},
                    *({"name": f"Drug {i}", "group": f"group {i % 14}", "x": i % 60 - 30.0, "y": i // 60 - 30.0}
                      for i in range(3600))]
    found.epochs = {name: [{"epoch": e, "loss": 1 / e, "recall@1": e / 9} for e in range(1, 6)] for name in ("embedding", "recommender")}
    found.recommenders.append(recommender("popularity", 0.2))
    return found


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    return page.write(charted(), tmp_path_factory.mktemp("live") / "report.html")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return page.write(everything(), tmp_path_factory.mktemp("page") / "report.html")


def test_an_empty_knowledge_base_gives_a_page_that_names_the_commands(database, tmp_path):
    shown = page.render(collect(database, load_settings(home=tmp_path)))
    for command in ("mkmed embed pretrain", "mkmed embed ablate", "mkmed recsys train", "mkmed report --visit"):
        assert command in shown


def test_everything_found_is_on_the_page(full):
    shown = full.read_text()
    for part in ("A10AE04", "6.0×", "late fusion", "0.500", "mkmed (pairs)", "0.330–0.370", "ATC:N02B", "+1.20",
                 "A molecule.", "CC0", "seed 7", "rdkit", "3 of 3 drugs", "9 more have a name",
                 "name many medications", "Three findings", "counted apart", "72.0% of 1,260", "the intervals overlap"):
        assert part in shown, part
    assert "not made yet" not in shown


def test_nothing_is_fetched_and_nothing_from_a_file_is_run(full, live):
    text = full.read_text()
    assert not re.search(r"<(script|link|iframe|img|object)\b|@import|url\(\s*['\"]?http", text, re.IGNORECASE)
    assert "&lt;b&gt;patient&lt;/b&gt;" in text, "text from a file must not become markup"
    charted = live.read_text()
    body, *scripts = re.split(r"<script\b", charted)
    assert [script.partition(">")[0] for script in scripts] == [' type="application/json" id="charts"', "", "", "", ""]
    assert not re.search(r"<(link|iframe|img|object)\b|@import|url\(\s*['\"]?http", body, re.IGNORECASE)
    assert "connect-src" not in POLICY and "unsafe-eval" not in POLICY and POLICY in html.unescape(body)
    assert "</b>" not in scripts[0] and "\\u003cb>Metformin" in scripts[0]
    assert len(charted) - len(text) < 1.0 * 2**20, "what the charts cost"


def test_the_libraries_are_those_that_were_published():
    for name, sha256 in LIBRARIES.items():
        assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == sha256
        assert "BSD" in (FOLDER / "vendor" / f"{name.removesuffix('.min.js')}-LICENSE.txt").read_text() or "Redistribution" in (
            FOLDER / "vendor" / f"{name.removesuffix('.min.js')}-LICENSE.txt").read_text()


def test_a_chart_needs_something_to_show():
    nothing = Findings(datetime(2026, 1, 2, tzinfo=UTC), versions())
    assert charts(nothing) == {} and charts(everything()) == {}
    assert set(charts(charted())) == {"map", "curves", "recommenders", "recommender curves"}
    assert epochs_chart([{"epoch": 1, "loss": 1.0}]) is None
    values = epochs_chart([{"epoch": 1, "loss": 1.0, "how": "fast"}, {"epoch": 2, "loss": 0.5, "temperature.text": 0.1}])["data"]["values"]
    assert {(v["epoch"], v["metric"], v["value"]) for v in values} == {(1, "loss", 1.0), (2, "loss", 0.5), (2, "temperature.text", 0.1)}


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
 const shown = e => e.getClientRects().length > 0, scrollers = '.wide, .columns > div, figure > div';
 const colour = text => { const m = text.match(/[\\d.]+/g).map(Number); return [m[0], m[1], m[2], m[3] ?? 1]; };
 const over = (top, low) => [0, 1, 2].map(i => top[i] * top[3] + low[i] * (1 - top[3])).concat(1);
 const ground = e => { const chain = []; for (; e; e = e.parentElement) chain.push(colour(getComputedStyle(e).backgroundColor));
   return chain.reduceRight((low, top) => over(top, low), [255, 255, 255, 1]); };
 const light = c => { const [r, g, b] = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
   return .2126 * r + .7152 * g + .0722 * b; };
 const contrast = e => { const low = ground(e), pair = [light(over(colour(getComputedStyle(e).color), low)), light(low)];
   return (Math.max(...pair) + .05) / (Math.min(...pair) + .05); };
 const texts = [...document.querySelectorAll('body *:not(svg *):not(script)')].filter(e => shown(e)
   && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
 const named = e => e.tagName + '.' + e.className + ': ' + e.textContent.trim().slice(0, 30);
 parent.document.title = JSON.stringify({page: document.documentElement.scrollWidth, window: innerWidth,
   wide: [...document.querySelectorAll('body *')].filter(e => !e.closest(scrollers + ', svg')
     && e.getBoundingClientRect().right > innerWidth + 1).map(named),
   cut: [...document.querySelectorAll(scrollers)].filter(e => e.scrollWidth > e.clientWidth + 1).map(named),
   faint: texts.map(e => [named(e), contrast(e)]).filter(pair => pair[1] < 4.5), texts: texts.length,
   ground: light(ground(document.body)),
   headings: [...document.querySelectorAll('h2')].map(e => e.textContent),
   tall: [...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect().height)});
});</script></head>"""
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--virtual-time-budget=5000")


@pytest.fixture
def looked_at(full, tmp_path):
    """A function that opens the page in a browser, in a frame of a width, and gives what the probe found there."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")

    def look(width, *more, change=lambda html: html):
        (tmp_path / "inner.html").write_text(change(full.read_text()).replace("</head>", PROBE))
        outer = tmp_path / "outer.html"
        # A frame gives the page the width of a phone; a window of headless Chromium is never narrower than 500.
        outer.write_text(f'<body style="margin:0"><iframe src="inner.html" style="border:0;width:{width}px;height:900px">'
                         "</iframe>")
        done = subprocess.run([CHROMIUM, *FLAGS, *more, f"--user-data-dir={tmp_path / 'profile'}",
                               f"--window-size={max(width, 500)},900", "--dump-dom", outer.as_uri()],
                              capture_output=True, text=True, timeout=120)
        found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL).group(1)))
        assert found["window"] == width and found["texts"] > 40
        assert len(found["headings"]) == 6 and len(found["tall"]) == 6 and min(found["tall"]) > 40
        return found

    return look


DARK = "--blink-settings=preferredColorScheme=0"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_nothing_sticks_out_and_everything_can_be_read(looked_at, width, scheme):
    found = looked_at(width, *[DARK] * (scheme == "dark"))
    assert (found["page"] <= width, found["wide"], found["faint"]) == (True, [], [])
    assert (found["ground"] < 0.05) == (scheme == "dark")
    assert width < 1280 or found["cut"] == [], "on a desk nothing has to be pushed sideways"


@pytest.mark.browser
def test_on_paper_nothing_is_cut_off(looked_at):
    """The print rules, taken for the screen, on the width of an A4 page within its margins."""
    found = looked_at(688, DARK, change=lambda text: text.replace("@media print {", "@media all {"))
    assert (found["page"] <= 688, found["wide"], found["cut"]) == (True, [], [])


@pytest.mark.browser
def test_the_probe_notices(looked_at):
    """A page with a wide line, grey on grey, is found at fault."""
    found = looked_at(390, change=lambda text: text.replace(
        "<h1>", '<p style="width: 900px; color: #888; background: #999">faint</p><h1>'))
    assert found["page"] > 390 and found["wide"] and [name for name, _ in found["faint"]] == ["P.: faint"]


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_and_nothing_is_asked_for(full, width, scheme):
    with chromium() as browser:
        visit = Visit(browser, width, scheme)
        visit.page.goto(full.as_uri())
        visit.page.click("nav a[href='#recommender']")
        assert visit.page.evaluate("document.querySelector('#recommender').getBoundingClientRect().top < innerHeight")
        visit.require_sound(full.as_uri())


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_charts_are_drawn_and_answer_to_the_pointer(live, width, scheme):
    with chromium() as browser:
        visit = Visit(browser, width, scheme)
        page_ = visit.page
        page_.goto(live.as_uri())
        visit.until("document.querySelectorAll('figure.live').length === 4")
        assert page_.evaluate("[...document.querySelectorAll('.live .still')].every(e => e.getClientRects().length === 0)")
        boxes = page_.evaluate("[...document.querySelectorAll('.chart canvas, .chart svg.marks')].map(e => e.getBoundingClientRect().height)")
        assert len(boxes) == 4 and min(boxes) > 60
        figure = page_.locator("figure[data-chart='map']")
        figure.scroll_into_view_if_needed()
        canvas = figure.locator("canvas").bounding_box()
        for step in range(400):
            page_.mouse.move(canvas["x"] + canvas["width"] / 2 + step % 25, canvas["y"] + 150 + step // 25)
            if page_.evaluate("document.querySelector('#vg-tooltip-element.visible')?.textContent.includes('group')"):
                break
        told = page_.inner_text("#vg-tooltip-element")
        assert "name" in told and "group" in told
        page_.mouse.move(0, 0)
        choice = page_.locator("figure[data-chart='curves'] select")
        before = page_.inner_html("figure[data-chart='curves'] svg.marks")
        choice.select_option("recall@1")
        visit.until("before => document.querySelector(\"figure[data-chart='curves'] svg.marks\").innerHTML !== before", before)
        visit.require_sound(live.as_uri())


@pytest.mark.browser
def test_without_a_script_the_still_pictures_and_all_tables_are_there(live):
    with chromium() as browser:
        visited = browser.new_context(java_script_enabled=False).new_page()
        visited.goto(live.as_uri())
        assert visited.locator(".still svg").count() == 5 and visited.locator(".still svg").first.is_visible()
        assert visited.locator(".chart").count() == 0 and visited.locator("table").count() >= 8
        assert not visited.locator("figure[data-chart='recommenders']").is_visible()


@pytest.mark.browser
def test_on_paper_the_still_pictures_are_printed(live):
    with chromium() as browser:
        visit = Visit(browser, 800)
        visit.page.goto(live.as_uri())
        visit.until("document.querySelectorAll('figure.live').length === 4")
        visit.page.emulate_media(media="print")
        assert visit.page.locator(".still svg").first.is_visible() and not visit.page.locator(".chart").first.is_visible()


def test_the_three_findings_say_no_more_than_the_intervals():
    found = everything()
    knowledge, vectors, recommenders = (one["text"] for one in three(found))
    assert knowledge.startswith("3 drugs have at least one modality; 3 of them (100.0%)") and "9 more are names" in knowledge
    assert "72.0%" in vectors and "71.0%" in vectors and "difference" not in vectors
    found.evaluation["classes"][0] |= {"low": -0.01, "high": 0.03}
    assert "no difference is shown" in three(found)[1]["text"]
    found.evaluation["classes"][0] |= {"low": 0.01}
    assert "ours is better" in three(found)[1]["text"]
    found.evaluation["classes"][0] |= {"low": -0.05, "high": -0.01}
    assert "ours is worse" in three(found)[1]["text"]
    assert "the intervals overlap" in recommenders
    found.recommenders[1]["intervals"]["jaccard"] = [0.4, 0.5]
    assert "the intervals lie apart" in three(found)[2]["text"]
    nothing = Findings(datetime(2026, 1, 2, tzinfo=UTC), versions())
    assert all("mkmed " in one["text"] for one in three(nothing))
