"""An Engine that can only read: for a service that answers others.

On the embedded server every session takes a role that may select and nothing else; on an external one the login's own
rights count. Either way transactions are read-only and statements are bounded in time.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event, text

from kb.db import server as embedded_server
from kb.db.engine import engine_for, open_engine
from kb.settings import Settings

ROLE = "mkmed_service"
_MAKE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mkmed_service') THEN CREATE ROLE mkmed_service NOLOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mkmed_nc') THEN CREATE ROLE mkmed_nc NOLOGIN; END IF;
END $$;
GRANT mkmed_nc TO mkmed_service;
GRANT USAGE ON SCHEMA mkmed, ext TO mkmed_service;
GRANT SELECT ON ALL TABLES IN SCHEMA mkmed TO mkmed_service;
ALTER DEFAULT PRIVILEGES IN SCHEMA mkmed GRANT SELECT ON TABLES TO mkmed_service;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mkmed TO mkmed_service;
"""


def open_reading(settings: Settings, *, open_only: bool = False, seconds: float = 5.0, connections: int = 8) -> Engine:
    """An Engine whose sessions read, for ``seconds`` a statement; with ``open_only`` only what is openly licensed.

    At most ``connections`` are open at once; who finds none free waits for ``seconds`` and gets DatabaseUnavailable.
    """
    first = open_engine(settings)
    own = settings.database_url is None
    if own:
        with first.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('mkmed service role'))"))
            connection.exec_driver_sql(_MAKE, execution_options={"no_parameters": True})
    server = embedded_server.embedded(settings.home) if own else None
    engine = engine_for(first.url, server, pool_size=connections, max_overflow=0, pool_timeout=seconds)
    first.dispose()

    def prepare(session: Any, _: object) -> None:
        session.autocommit = True
        with session.cursor() as cursor:
            if own:
                cursor.execute(f"SET ROLE {ROLE}")
            cursor.execute("SET default_transaction_read_only = on")
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", (str(int(1000 * seconds)),))
            cursor.execute("SELECT set_config('mkmed.open_only', %s, false)", ("on" if open_only else "",))
        session.autocommit = False

    event.listen(engine, "connect", prepare)
    return engine
