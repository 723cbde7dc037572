"""The server: routes, headers, limits and faults. ``with StandIn() as pubchem: pubchem.url`` is the base URL."""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.standin import catalogue
from tests.standin.faults import BUSY, LIES, ODD, SELF, WIRE, Reply, fault_body
from tests.standin.limits import Guard, Limits

Chooser = Callable[[str, str, list[int]], str | None]
"""Given method, path and CIDs, the name of a fault or None."""
Changer = Callable[[str, list[int], Reply], Reply]
"""Given the endpoint, the CIDs and the true answer, what is said instead."""
SIZES = {"large": 300, "small": 100}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    standin: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the plan; anything else is a mistake here."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class StandIn:
    """A running stand-in. ``latency`` is how long it works on a request; ``fault`` chooses what goes wrong."""

    def __init__(self, limits: Limits | None = None, latency: float = 0.0, fault: Chooser | None = None) -> None:
        self.guard = Guard(limits or Limits())
        self.latency = latency
        self.fault = fault
        self.change: Changer | None = None
        self.asked: Counter[tuple[str, int]] = Counter()
        """How often each (endpoint, CID) was answered with data or a proof of absence."""
        self.requests = 0
        self.agents: set[str] = set()
        self.connections = 0
        self.lock = threading.Lock()
        self._ending = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.standin = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/rest"

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def nap(self, seconds: float) -> None:
        self._ending.wait(seconds)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def setup(self) -> None:
        super().setup()
        with self.server.standin.lock:
            self.server.standin.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length).decode("utf-8", "replace")
        if len(body) < length:  # the client was killed in the middle of it; a form is ASCII
            self.close_connection = True
        elif not self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            self._send(fault_body("PUGREST.BadRequest", "POST needs a form", 400))
        else:
            self._answer(dict(parse_qsl(body)))

    def _answer(self, form: dict[str, str]) -> None:
        standin: StandIn = self.server.standin
        with standin.lock:
            standin.requests += 1
            standin.agents.add(self.headers.get("User-Agent", ""))
        if not standin.guard.admit():
            self._send(replace(BUSY, retry_after=f"{standin.guard.limits.block:g}", refused=True))
            return
        started = time.monotonic()
        standin.nap(standin.latency)
        endpoint, cids, reply = route(self.path, form)
        if standin.change is not None:
            reply = standin.change(endpoint, cids, reply)
        name = standin.fault(self.command, self.path, cids) if standin.fault else None
        if name in WIRE:
            self.close_connection = True
            try:
                WIRE[name](self, reply)
                self.wfile.flush()
            except OSError:
                return  # the client had enough, as it should
        elif name in LIES:
            self._send(LIES[name](reply, cids))
        else:
            with standin.lock:
                if reply.status in (200, 404):
                    standin.asked.update((endpoint, cid) for cid in cids)
            if name in ODD:
                reply = ODD[name](reply, cids)
            self._send(replace(reply, colour=name) if name in ("Yellow", "Red") else reply)
        standin.guard.spent(time.monotonic() - started)

    def _send(self, reply: Reply) -> None:
        packed = "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(reply.body, 1) if packed else reply.body
        self.send_response_only(reply.status)
        self.send_header("Server", "Apache")
        self.send_header("Content-Type", reply.type)
        if reply.colour:
            self.send_header("X-Throttling-Control", self.server.standin.guard.header(reply.refused, reply.colour))
        if packed and reply.status != 204:
            self.send_header("Content-Encoding", "gzip")
        if reply.retry_after:
            self.send_header("Retry-After", reply.retry_after)
        if reply.location:
            self.send_header("Location", self.path if reply.location == SELF else reply.location)
        self.send_header("Set-Cookie", "ncbi_sid=90C6; domain=.nih.gov; path=/")
        self.send_header("Access-Control-Allow-Origin", "*")
        if reply.status == 204:
            self.end_headers()
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        half = len(body) // 2 or 1
        for piece in (body[:half], body[half:]):
            if piece:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def _json(document: dict[str, Any] | None, message: str = "No CID found") -> Reply:
    if document is None:
        return fault_body("PUGREST.NotFound", message, 404)
    return Reply(200, "application/json", json.dumps(document, indent=2).encode())


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part.strip().isdigit()]


def route(target: str, form: dict[str, str]) -> tuple[str, list[int], Reply]:
    """The endpoint's name, the CIDs asked for, and the true answer."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query))
    path = [unquote(p) for p in parts.path.removeprefix("/rest/").split("/")]
    if parts.path == "/sdq/sdqagent.cgi":
        asked = json.loads(query["query"])
        cids = _numbers(asked["where"]["ands"][0]["cid"])
        listed = [{name: row[name] for name in asked["download"]} for row in catalogue.TARGETS.get(cids[0], [])]
        return "targets", cids, Reply(200, "application/json", json.dumps(listed, indent=1).encode())
    if path[:3] == ["pug_view", "data", "compound"] and len(path) == 5:
        cids = _numbers(path[3])
        document = catalogue.view(cids[0], query.get("heading", "")) if cids else None
        if document is None:
            return "view", cids, fault_body("PUGVIEW.NotFound", "No data found", 404)
        return "view", cids, _json(document)
    if path[:3] == ["pug", "substance", "sourceid"] and len(path) == 7:
        cids = catalogue.find("drugbank", path[4])
        rows = [{"SID": 10**8 + cid, "CID": [cid]} for cid in cids]
        return "drugbank", cids, _json({"InformationList": {"Information": rows}} if rows else None, "No SID found")
    if path[:2] == ["pug", "compound"] and len(path) >= 4:
        return _compound(path[2].lower(), path[3:], query, form)
    return "unknown", [], fault_body("PUGREST.BadRequest", "Invalid request", 400)


def _compound(
    namespace: str, rest: list[str], query: dict[str, str], form: dict[str, str]
) -> tuple[str, list[int], Reply]:
    if namespace in ("name", "smiles", "inchikey"):
        value = form.get(namespace) or query.get(namespace) or rest[0]
        if "not-a-structure" in value:
            return namespace, [], fault_body("PUGREST.BadRequest", "Unable to standardize the given structure", 400)
        cids = catalogue.find(namespace, value)
        if not cids and namespace == "smiles":
            return namespace, [], _json({"IdentifierList": {"CID": [0]}})
        return namespace, cids, _json({"IdentifierList": {"CID": cids}} if cids else None)
    if namespace != "cid":
        return "unknown", [], fault_body("PUGREST.BadRequest", "Invalid namespace", 400)
    if "cid" in form:
        cids, operation = _numbers(form["cid"]), rest
    else:
        cids, operation = _numbers(rest[0]), rest[1:]
    return _operate(cids, operation, query)


def _operate(cids: list[int], operation: list[str], query: dict[str, str]) -> tuple[str, list[int], Reply]:
    name = operation[0].lower()
    if name == "property":
        return "property", cids, _json(catalogue.properties(cids, operation[1].split(",")))
    if name in ("synonyms", "xrefs", "conformers"):
        tag = {"synonyms": "Synonym", "conformers": "ConformerID"}.get(name) or operation[1]
        return name, cids, _json(catalogue.information(cids, tag))
    if name == "description":
        return name, cids[:1], _json(catalogue.description(cids[0]))
    if name == "cids" and query.get("cids_type") == "parent":
        parents = [p for p in map(catalogue.parent, cids) if p]
        return "parent", cids, _json({"IdentifierList": {"CID": parents}} if parents else None)
    if name == "json":
        return "record", cids[:1], _json(catalogue.record(cids[0]) if cids else None)
    if name == "sdf" and query.get("record_type") == "3d":
        text = catalogue.sdf(cids)
        if text is None:
            return "3d", cids, fault_body("PUGREST.NotFound", "No records found for the given CID(s)", 404)
        return "3d", cids, Reply(200, "chemical/x-mdl-sdfile", text.encode())
    if name == "png":
        size = SIZES.get(query.get("image_size", "large"), 300)
        known = bool(cids) and cids[0] in catalogue.compounds()
        return "png", cids[:1], Reply(200, "image/png", catalogue.png(cids[0], size)) if known else _json(None)
    return "unknown", cids, fault_body("PUGREST.BadRequest", f"Invalid operation {re.sub(r'[^a-z]', '', name)}", 400)
