"""The service under load: 20,000 requests of eight kinds by 50 clients, and CDS Hooks with a bundle of Synthea's.

Needs a filled home (MKMED_HOME) with a published embedding run and a trained recommender: ``mkmed demo`` makes one.
Says requests a second, p50, p95 and p99 in milliseconds, how many were lost, and the server's memory early and late.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from record import report

sys.path.insert(0, str(Path(__file__).parents[1]))
from mkmed.demo.paths import patient_path
from mkmed.serve.cds import NAME

REQUESTS, CLIENTS, HOOKS = 20_000, 50, 300
SYNTHEA = Path(__file__).parents[1] / "tests" / "data" / "ehr_fhir_synthea"
KINDS = {"encounters": "Encounter", "conditions": "Condition", "procedures": "Procedure",
         "medications": "MedicationRequest"}
PATHS = ("/api/resolve?name=metformin", "/api/search?q=lowers+blood+glucose&k=10", "/api/similar?smiles=CCO&k=5",
         "/api/neighbours?drug=metformin&k=5", "/api/interactions?drug=warfarin&drug=aspirin", "/healthz",
         "/api/drug?name=aspirin")


def hook() -> dict[str, Any]:
    """A call of order-select for a bundle's patient, with warfarin selected."""
    bundle = json.loads(gzip.decompress(sorted(SYNTHEA.rglob("*.json.gz"))[0].read_bytes()))
    every = [entry["resource"] for entry in bundle["entry"]]
    prefetch = {key: {"resourceType": "Bundle", "type": "searchset", "entry": [
        {"resource": r} for r in every if r["resourceType"] == kind]} for key, kind in KINDS.items()}
    draft = {"resourceType": "MedicationRequest", "id": "d", "status": "draft", "intent": "order",
             "subject": {"reference": "Patient/1"}, "medicationCodeableConcept": {"text": "warfarin"}}
    return {"hook": "order-select", "hookInstance": "1", "prefetch": prefetch, "context": {
        "patientId": "1", "selections": ["MedicationRequest/d"],
        "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": draft}]}}}


async def load(url: str, server: psutil.Process) -> dict[str, Any]:
    """Ask, and say what came."""
    patient = {"patients": [json.loads(patient_path().read_text())]}
    times: list[float] = []
    answers: Counter[int] = Counter()
    memory: list[float] = []
    left = iter(range(REQUESTS))
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=CLIENTS)) as session:

        async def ask(method: str, path: str, **body: Any) -> float:
            begun = time.perf_counter()
            async with session.request(method, path, **body) as answer:
                await answer.read()
                answers[answer.status] += 1
            return 1000 * (time.perf_counter() - begun)

        async def client() -> None:
            for number in left:
                if number % 8 == 7:
                    times.append(await ask("POST", "/api/recommend", json=patient))
                else:
                    times.append(await ask("GET", PATHS[number % 8]))
                if number % 1000 == 999:
                    memory.append(server.memory_info().rss / 2**20)

        await ask("POST", "/api/recommend", json=patient)
        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        seconds = time.perf_counter() - begun
        call = hook()
        for _ in range(20):
            await ask("POST", f"/cds-services/{NAME}", json=call)
        worked = sum(server.cpu_times()[:2])
        hooks = [await ask("POST", f"/cds-services/{NAME}", json=call) for _ in range(HOOKS)]
        worked = sum(server.cpu_times()[:2]) - worked
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return {"requests": len(times), "clients": CLIENTS, "per second": round(len(times) / seconds, 1),
            "p50 ms": round(p50, 1), "p95 ms": round(p95, 1), "p99 ms": round(p99, 1),
            "lost": sum(count for status, count in answers.items() if status != 200),
            "memory MiB after 2,000": round(memory[1]), "memory MiB at the end": round(memory[-1]),
            "CDS Hooks p50 ms": round(float(np.percentile(hooks, 50)), 1),
            "CDS Hooks p95 ms": round(float(np.percentile(hooks, 95)), 1),
            "CDS Hooks CPU ms": round(1000 * worked / len(hooks), 1)}


def main() -> None:
    """Start a server, load it, and record."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "cli", "serve", "--port", str(port), "--research-only"],
                              env={**os.environ}, cwd=Path(__file__).parents[1])
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        report("serve", [asyncio.run(load(f"http://127.0.0.1:{port}", psutil.Process(server.pid)))])
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
