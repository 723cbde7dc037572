"""The classifier is total, and nothing but a parsed NotFound is absence."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kb.errors import SourceError, Transient, TransportError, Unusable
from kb.http.client import HttpAnswer
from kb.sources.pubchem.ask import Expected, Kind, Verdict, classify, judge_answer, parse_fault
from kb.sources.pubchem.parse import TAGS
from tests.standin.faults import LIES, Reply, fault_body
from tests.standin.server import route

CIDS = "2244,4091"
BOTH, ONE = frozenset({2244, 4091}), frozenset({2244})
ENDPOINTS: dict[str, tuple[str, dict[str, str], Expected]] = {
    "properties": (f"/rest/pug/compound/cid/property/{','.join(TAGS)}/JSON", {"cid": CIDS},
                   Expected(Kind.properties, BOTH)),
    "synonyms": ("/rest/pug/compound/cid/synonyms/JSON", {"cid": CIDS}, Expected(Kind.information, BOTH, ("Synonym",))),
    "xrefs": ("/rest/pug/compound/cid/xrefs/RN/JSON", {"cid": CIDS}, Expected(Kind.information, BOTH, ("RN",))),
    "conformers": ("/rest/pug/compound/cid/2244/conformers/JSON", {},
                   Expected(Kind.information, ONE, ("ConformerID",))),
    "3d": ("/rest/pug/compound/cid/SDF?record_type=3d", {"cid": CIDS}, Expected(Kind.sdf, BOTH)),
    "png": ("/rest/pug/compound/cid/2244/PNG?image_size=large", {}, Expected(Kind.png)),
    "view": ("/rest/pug_view/data/compound/2244/JSON?heading=Record+Description", {}, Expected(Kind.view, ONE)),
    "record": ("/rest/pug/compound/cid/2244/JSON", {}, Expected(Kind.records, ONE)),
    "name": ("/rest/pug/compound/name/cids/JSON", {"name": "aspirin"}, Expected(Kind.identifiers)),
    "drugbank": ("/rest/pug/substance/sourceid/DrugBank/DB00945/cids/JSON", {}, Expected(Kind.identifiers)),
    "parent": ("/rest/pug/compound/cid/cids/JSON?cids_type=parent", {"cid": "14219"}, Expected(Kind.identifiers)),
}
UNNOTICED = {
    ("another compound", "name"), ("another compound", "drugbank"),
    ("another compound", "parent"),  # these answers do not say which compound they are about
    ("twice", "name"), ("twice", "parent"), ("twice", "view"), ("twice", "record"),  # unchanged
    ("twice", "synonyms"), ("twice", "xrefs"), ("twice", "conformers"),  # the same facts
    ("twice", "drugbank"),
}


def verdict(reply: Reply, expected: Expected) -> Verdict:
    return classify(reply.status, {"content-type": reply.type + "; charset=utf-8"}, reply.body, expected).verdict


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_true_answer_is_present(name: str) -> None:
    path, form, expected = ENDPOINTS[name]
    assert verdict(route(path, form)[2], expected) is Verdict.present


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", ENDPOINTS)
def test_no_lie_is_believed(name: str, lie: str) -> None:
    path, form, expected = ENDPOINTS[name]
    _, cids, truth = route(path, form)
    told = LIES[lie](truth, cids)
    if (lie, name) in UNNOTICED:
        assert verdict(told, expected) is Verdict.present
    else:
        assert verdict(told, expected) is Verdict.retry


@pytest.mark.parametrize(("code", "expected"), [
    ("NotFound", Verdict.absent), ("BadRequest", Verdict.rejected), ("NotAllowed", Verdict.rejected),
    ("Unimplemented", Verdict.rejected), ("ServerBusy", Verdict.retry), ("Timeout", Verdict.retry),
    ("ServerError", Verdict.retry), ("Unknown", Verdict.retry), ("Surprise", Verdict.retry),
])
@pytest.mark.parametrize("kind", Kind)
def test_the_fault_decides_not_the_status(code: str, expected: Verdict, kind: Kind) -> None:
    asked, other = ("PUGVIEW", "PUGREST") if kind in (Kind.view, Kind.quoted) else ("PUGREST", "PUGVIEW")
    assert verdict(fault_body(f"{asked}.{code}", "m", 404), Expected(kind)) is expected
    for family in (other, "OTHER", ""):
        assert verdict(fault_body(f"{family}.{code}", "m", 404), Expected(kind)) is Verdict.retry


def test_faults_are_also_written_as_text() -> None:
    fault = parse_fault(b"Status: 400\nCode: PUGREST.BadRequest\nMessage: Invalid output format\nDetail: x")
    assert fault is not None and (fault.family, fault.code) == ("PUGREST", "BadRequest")


def test_a_missing_property_is_noticed() -> None:
    path, form, expected = ENDPOINTS["properties"]
    document = json.loads(route(path, form)[2].body)
    del document["PropertyTable"]["Properties"][1]["MolecularFormula"]
    assert verdict(Reply(200, "application/json", json.dumps(document).encode()), expected) is Verdict.retry


def test_what_a_list_may_leave_out() -> None:
    path, _, _ = ENDPOINTS["3d"]
    _, _, reply = route(path, {"cid": "2244,14219"})
    asked = frozenset({2244, 14219})
    assert verdict(reply, Expected(Kind.sdf, asked)) is Verdict.retry
    assert verdict(reply, Expected(Kind.sdf, asked, partial=True)) is Verdict.present


def test_a_picture_of_impossible_size_is_refused() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (1025, 10)).save(buffer, "PNG")
    assert verdict(Reply(200, "image/png", buffer.getvalue()), Expected(Kind.png)) is Verdict.retry


statuses = st.one_of(st.sampled_from([200, 202, 204, 302, 400, 404, 405, 429, 500, 501, 503, 504]), st.integers())
types = st.sampled_from(["application/json", "image/png", "chemical/x-mdl-sdfile", "text/html", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["PUGREST.NotFound", "PUGREST.ServerBusy"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Fault", "Code", "Message", "PropertyTable", "Properties", "CID", "InformationList", "RN",
                         "Information", "IdentifierList", "Record", "RecordType", "Section", "PC_Compounds", "id"]),
        inner, max_size=3),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=300), json_values.map(lambda v: json.dumps(v).encode()),
    st.sampled_from([route(p, f)[2].body for p, f, _ in ENDPOINTS.values()]).flatmap(
        lambda body: st.tuples(st.integers(0, len(body)), st.binary(max_size=4)).map(
            lambda cut: body[:cut[0]] + cut[1] + body[cut[0] + len(cut[1]):])),
)


@settings(max_examples=400, deadline=None)
@given(statuses, types, bodies, st.sampled_from([e for _, _, e in ENDPOINTS.values()]))
@example(404, "text/html", b"", Expected(Kind.png))
@example(200, "application/json", b"[" * 100_000, Expected(Kind.properties))
@example(200, "application/json", b'{"PropertyTable": {"Properties": [{"CID": true}]}}', Expected(Kind.properties))
@example(200, "application/json", b'{"a": ' + b"9" * 5000 + b"}", Expected(Kind.properties))
def test_any_bytes_any_status(status: int, kind: str, body: bytes, expected: Expected) -> None:
    judgement = classify(status, {"Content-Type": kind}, body, expected)
    assert judgement.verdict in Verdict
    if judgement.verdict is Verdict.absent:
        assert judgement.fault is not None and judgement.fault.code == "NotFound"
        assert b"NotFound" in body and status in (200, 404)
    if judgement.verdict is Verdict.present:
        assert status == 200 and judgement.fault is None


def test_verdicts_become_what_the_transport_understands() -> None:
    from datetime import UTC, datetime

    def answer(reply: Reply) -> HttpAnswer:
        return HttpAnswer("http://x", reply.status, {"Content-Type": reply.type}, reply.body, datetime.now(UTC), 0.1, 0.0)

    expected = Expected(Kind.png)
    with pytest.raises(Unusable):
        judge_answer(answer(Reply(200, "application/json", b'{"IdentifierList": {"CID": [false]}}')), Expected(Kind.identifiers))
    assert judge_answer(answer(fault_body("PUGREST.NotFound", "m", 404)), expected).verdict is Verdict.absent
    with pytest.raises(Transient) as busy:
        judge_answer(answer(fault_body("PUGREST.ServerBusy", "m", 404)), expected)
    assert busy.value.retry_after is not None, "a busy service makes everybody wait, whatever the status"
    with pytest.raises(SourceError) as refused:
        judge_answer(answer(fault_body("PUGREST.BadRequest", "m", 400)), expected)
    assert not isinstance(refused.value, TransportError)
