"""Database URLs: what people write, mapped to what SQLAlchemy and psycopg2 need, without letting a password leak."""

from __future__ import annotations

from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from kb.errors import ConfigError
from kb.normalise import remember

DRIVER = "postgresql+psycopg2"
ACCEPTED = ("postgres", "postgresql", DRIVER)
SECRET_PARAMETERS = ("password", "sslpassword")


def parse_url(text: str) -> URL:
    """The URL with mkmed's driver; raises ConfigError, never repeating the URL, when it cannot be used."""
    text = text.strip()
    secret, _, _ = text.partition("://")[2].rpartition("@")
    if "@" in secret:  # whoever reads it next would take the end of the password for the host's name
        remember(secret.partition(":")[2])
        raise ConfigError("MKMED_DATABASE_URL holds more than one @", hint="write an @ in a user or password as %40")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "MKMED_DATABASE_URL is not a URL", hint="write postgresql://user@host:5432/database"
        ) from None
    if url.drivername not in ACCEPTED:
        raise ConfigError(
            f"MKMED_DATABASE_URL names {url.drivername!r}, not PostgreSQL",
            hint="write postgresql://user@host:5432/database",
        )
    remember(str(url.password) if url.password is not None else None)
    for name in SECRET_PARAMETERS:
        if name in url.query:
            value = url.query[name]
            remember(value if isinstance(value, str) else None)
            raise ConfigError(
                f"MKMED_DATABASE_URL carries ?{name}=, which servers and proxies log",
                hint="use postgresql://user:password@host/database, PGPASSWORD or ~/.pgpass",
            )
    if not url.database:
        raise ConfigError("MKMED_DATABASE_URL names no database", hint="add /mkmed at its end")
    return url.set(drivername=DRIVER)


def bare(url: URL, *, hide_password: bool = True) -> str:
    """The URL as psql and other tools take it: ``postgresql://…``, a blank written as ``%20``, which libpq reads."""
    account = quote(url.username, safe="") if url.username else ""
    if url.password is not None:
        account += ":***" if hide_password else f":{quote(str(url.password), safe='')}"
    host = f"[{url.host}]" if url.host and ":" in url.host else quote(url.host or "", safe=".-_,")
    place = (f"{account}@" if account else "") + host + (f":{url.port}" if url.port else "")
    options = {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='/,')}" for name, value in options.items())
    return f"postgresql://{place}/{quote(url.database or '', safe='')}" + (f"?{query}" if query else "")
