"""Claims in any order, at length: 300 sequences of 25 steps against a real database and a plain model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.kb.claims_machine import Claims
from tests.kb.test_claims_machine import SETTINGS

pytestmark = pytest.mark.torture


def test_every_order_of_steps_leads_to_what_the_claims_say(fresh_database: Engine) -> None:
    Claims.engine = fresh_database
    run_state_machine_as_test(Claims, settings=settings(SETTINGS, max_examples=300))
