"""Claims in any order: 8 sequences of 25 steps here, 30 among the slow tests, 300 in the torture suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.kb.claims_machine import Claims

SETTINGS = settings(
    stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


@pytest.mark.parametrize("sequences", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_every_order_of_steps_leads_to_what_the_claims_say(fresh_database: Engine, sequences: int) -> None:
    Claims.engine = fresh_database
    run_state_machine_as_test(Claims, settings=settings(SETTINGS, max_examples=sequences))
