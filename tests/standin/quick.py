"""Limits and policies at a tenth, or less, of their real time, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kb.http.client import Transport
from kb.http.pace import Policy
from kb.settings import Settings, load_settings
from tests.standin.limits import Limits

FAST = Policy(per_second=400, per_minute=100_000, red_per_second=100, server_seconds=1e6, first_pause=0.05,
              longest_pause=0.4, attempts=3, first_wait=0.01, give_up_after=20, deadline=2.0, connect=1.0)
NO_LIMITS = Limits(per_second=10**6, per_minute=10**7, running=1e9, block=0.05)


def settings_in(home: Path, **overrides: Any) -> Settings:
    return load_settings(home=home, **overrides)


def transport_to(url: str, home: Path, policy: Policy = FAST) -> Transport:
    return Transport(url, settings_in(home), policy=policy)
