"""Where mkmed keeps things and how it reaches the world: environment first, then ``config.toml``, then defaults.

Every field is read from ``MKMED_<FIELD>``, or from ``<home>/config.toml``, where ``<home>`` is ``MKMED_HOME`` or the
platform's data directory.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from kb.errors import ConfigError
from kb.files import refuse_planted
from kb.inputs import require_regular

LONGEST_HOME = 800
"""Bytes of a home's path: PostgreSQL's own programs cut longer ones off at 1,024."""
HOME_HINT = "set MKMED_HOME to a folder of yours"


def default_home() -> Path:
    """The data directory: ``MKMED_HOME`` unless it is empty, else ``/var/lib/mkmed`` for root, else the user's.

    Root's own home is not used: the embedded server runs as an unprivileged user, who could only reach it if every
    directory on the way were opened to everybody. Raises ConfigError for a path that cannot be a home.
    """
    given = os.environ.get("MKMED_HOME", "")
    if given.strip():
        try:
            return absolute_home(given)
        except ValueError as error:
            raise ConfigError(f"setting 'home' is wrong: {error}", hint=HOME_HINT) from None
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/mkmed")
    import platformdirs

    users = Path(platformdirs.user_data_dir("mkmed"))
    if not users.is_absolute():  # neither HOME nor an account says where
        raise ConfigError(f"user {os.geteuid()} has no home folder", hint=HOME_HINT)
    return users


def absolute_home(given: str | Path) -> Path:
    """The absolute path of a home, ``~`` and links resolved; raises ValueError for what no home may be called."""
    text = str(given)
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if odd is not None:
        raise ValueError(f"{text!r} holds the character {odd!r}")
    try:
        home = Path(text).expanduser().resolve()
        home.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a loop of links, ~nobody-of-that-name
        raise ValueError(f"{text[:100]!r}: {getattr(error, 'strerror', None) or error}") from None
    if len(os.fsencode(home)) > LONGEST_HOME:
        raise ValueError(f"{text[:60]!r}… has {len(os.fsencode(home))} bytes, and {LONGEST_HOME} is the most")
    return home


class Settings(BaseModel):
    """All settings of a process, validated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path = Field(default_factory=default_home, description="everything that mkmed writes lies below this folder")
    database_url: SecretStr | None = Field(None, description="an external PostgreSQL; unset means the embedded server")
    pubchem_url: str = Field("https://pubchem.ncbi.nlm.nih.gov/rest", description="base URL of PUG REST and PUG View")
    contact: str = Field("", description="an e-mail or URL sent in the User-Agent, as PubChem asks")
    requests_per_second: float = Field(
        4.0, gt=0, le=5, allow_inf_nan=False, description="politeness limit; PubChem permits 5"
    )
    request_deadline: float = Field(
        45.0, gt=0, le=3600, allow_inf_nan=False, description="seconds until a request is given up, whatever it does"
    )
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="processes for computed data")

    def __init__(self, **given: Any) -> None:
        """What is given wins over the environment, and that over ``config.toml``."""
        super().__init__(**_stored() | _environment(type(self).model_fields) | given)

    @field_validator("home", mode="before")
    @classmethod
    def _home_is_absolute(cls, given: str | Path) -> Path:
        return absolute_home(given) if str(given).strip() else default_home()

    @field_validator("home")
    @classmethod
    def _home_is_a_folder(cls, home: Path) -> Path:
        try:
            if home.exists() and not home.is_dir():
                raise ValueError(f"{home} is a file, not a folder")
        except OSError as error:
            raise ValueError(f"{str(home)[:100]!r}: {error.strerror}") from None
        return home

    @property
    def runs(self) -> Path:
        """The folder of run folders, ``<home>/runs/<stage>/<run-id>``."""
        return self.home / "runs"

    @property
    def cache(self) -> Path:
        """The folder of everything that can be computed again."""
        return self.home / "cache"


def _stored() -> dict[str, Any]:
    """What ``config.toml`` says; raises ValueError where it is not TOML."""
    file = default_home() / "config.toml"
    if not file.is_file():
        return {}
    import tomllib

    with file.open("rb") as stream:
        return tomllib.load(stream)


def _environment(fields: Iterable[str]) -> dict[str, str]:
    """The variables ``MKMED_<FIELD>`` that are set, in capitals or not, by field."""
    found = {name.lower(): value for name, value in os.environ.items()}
    return {field: found[f"mkmed_{field}"] for field in fields if f"mkmed_{field}" in found}


@lru_cache(maxsize=1)
def _load(_environment: tuple[tuple[str, str], ...]) -> Settings:
    refuse_planted(default_home())
    file = default_home() / "config.toml"
    if file.exists():
        require_regular(file, "config.toml")
    try:
        return Settings()  # type: ignore[call-arg]
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="check its permissions") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = list(Settings.model_fields)
            near = get_close_matches(field, known, n=1) or [f"one of: {', '.join(known)}"]
            raise ConfigError(f"{file} has {field!r}, which is no setting", hint=f"did you mean {near[0]}?") from None
        place = f" or {field} in {file}" if field != "home" else " to a folder of yours"
        raise ConfigError(
            f"setting {field!r} is wrong: {first['msg'].removeprefix('Value error, ')}",
            hint=f"set MKMED_{field.upper()}{place}",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not TOML: {error}", hint="a line reads name = value, text in quotes") from None


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; ``overrides`` win over environment and file."""
    current = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("MKMED_")))
    settings = _load(current)
    return settings.model_copy(update=overrides) if overrides else settings
