"""A server of one file on the loopback, with the faults of a bad line: cut, dripping, without length or ranges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Faulty(BaseHTTPRequestHandler):
    """Serves ``server.body``; ``server.faults`` says for each request what goes wrong with it."""

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(dict(self.headers))
        fault = server.faults.pop(0) if server.faults else ""
        body, start = server.body, 0
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "html":
            page = b"<!DOCTYPE html><html>Sign in to the network</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        tag = '"v2"' if fault == "other version" else server.tag
        body = body[::-1] if fault == "other version" else body
        wanted = self.headers.get("Range", "")
        if wanted and fault != "no range" and (self.headers.get("If-Range") == tag or fault == "other version"):
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + (100 if fault == "wrong range" else 0)
            self.send_response(206)
            if fault != "nameless range":
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if fault != "no tag":
            self.send_header("ETag", tag)
        for name, value in server.headers.items():
            self.send_header(name, value)
        if fault not in ("no length", "cut without length"):
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        sent = body[start:]
        if fault == "drip":
            for byte in range(200):
                self.wfile.write(sent[byte : byte + 1])
                self.wfile.flush()
                if server.stopped.wait(0.05):
                    return
        self.wfile.write(sent[: len(sent) // 2] if fault.startswith("cut") else sent)


@contextmanager
def serving(body: bytes, *faults: str) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    server.body, server.faults, server.asked, server.tag, server.headers = body, list(faults), [], '"v1"', {}
    server.stopped, server.daemon_threads = threading.Event(), True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def address(server: Any, name: str = "drkg.tar.gz") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{name}"
