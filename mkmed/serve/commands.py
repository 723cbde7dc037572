"""``mkmed serve``: answer over HTTP."""

from __future__ import annotations

import gc
import os
from typing import Annotated

import typer

from kb import log, output
from kb.errors import UsageError

app = typer.Typer(add_completion=False, help="Answer over HTTP: search, neighbours, recommendations.")
TOKEN = "MKMED_SERVE_TOKEN"  # noqa: S105 - the name of a variable
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@app.command(epilog="Example: mkmed serve   ·   mkmed serve --port 8100 --open-only")
def serve(
    host: Annotated[str, typer.Option(help=f"Another address than this machine's own needs ${TOKEN}.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8099,
    run: Annotated[str, typer.Option("--run", help="The recommender's run; the latest one by default.")] = "",
    open_only: Annotated[bool, typer.Option(help="Show only what is under an open licence.")] = False,
    research_only: Annotated[bool, typer.Option(
        "--research-only", help="Answer CDS Hooks too; every card is marked as research.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="The time that a request may take.")] = 10.0,
    megabytes: Annotated[float, typer.Option(min=0.01, max=1000, help="The size that a request may have.")] = 8.0,
) -> None:
    """Answer over HTTP, reading only: drugs, search, vectors, interactions, recommendations; Ctrl-C ends it.

    The page for people is at /, the description for programs at /openapi.json, figures for Prometheus at /metrics.
    """
    try:
        import uvicorn

        from mkmed.serve.app import create_app
    except ModuleNotFoundError as missing:
        raise UsageError(f"the service needs the package {missing.name}", hint="pip install 'mkmed[serve]'") from None
    from kb.db.engine import open_engine
    from kb.db.reading import open_reading
    from kb.query.find import bring_up_to_date
    from kb.settings import load_settings
    from mkmed.serve.answers import Answers
    from mkmed.serve.limits import RequestLimits

    token = os.environ.get(TOKEN) or None
    if host not in LOOPBACK and token is None:
        raise UsageError(f"{host} may be reached from elsewhere, and there is no token",
                         hint=f"set {TOKEN} to a long secret, or leave --host out")
    settings = load_settings()
    bring_up_to_date(open_engine(settings))  # what answers may not write
    answers = Answers(open_reading(settings, open_only=open_only, seconds=min(seconds, 60.0)), settings, run)
    log.in_run(answers.warm())
    gc.collect()
    gc.freeze()  # what is loaded stays: no request waits while the collector walks over it
    limits = RequestLimits(body=int(megabytes * 2**20), seconds=seconds, token=token,
                    hosts=() if token else ("localhost", "127.0.0.1", "[::1]"))
    application = create_app(answers, limits=limits, research_only=research_only)
    output.say(f"http://{host}:{port}/ (Ctrl-C ends it)")
    uvicorn.run(application, host=host, port=port, log_level="warning", access_log=False, server_header=False)
