"""Which run is published; apart from the store, whose imports a question to SQL need not wait for."""

from __future__ import annotations

import uuid

from sqlalchemy import Engine, text

from kb.errors import NotFound


def published_run(engine: Engine) -> uuid.UUID:
    """The id of the published run; raises NotFound before the first publication."""
    with engine.connect() as connection:
        run_id: uuid.UUID | None = connection.scalar(text("SELECT run_id FROM mkmed.published_run"))  # readers may, too
    if run_id is None:
        raise NotFound("no embedding run is published", hint="mkmed embed pretrain, or mkmed embed publish RUN")
    return run_id
