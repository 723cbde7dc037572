"""Which home and which database are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from kb.errors import UsageError
from kb.settings import Settings, load_settings


def settings_of(url: str | None, home: str | Path | None) -> Settings:
    """The settings of this process, with another database or another home; raises UsageError where both are given.

    A home has an embedded server of its own, so that naming one leaves a database of the environment aside.
    """
    if url is not None and home is not None:
        raise UsageError("both a database's URL and a home were given", hint="a home has its own embedded database")
    given: dict[str, Any] = {}
    if url is not None:
        given["database_url"] = SecretStr(url)
    if home is not None:
        given |= {"home": Path(home).expanduser().absolute(), "database_url": None}
    return load_settings(**given)
