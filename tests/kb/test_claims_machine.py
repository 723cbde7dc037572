"""Claims in any order: 30 sequences of 25 steps here, 300 in the torture suite."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.kb.claims_machine import Claims

SETTINGS = settings(
    stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


def test_every_order_of_steps_leads_to_what_the_claims_say(fresh_database: Engine) -> None:
    Claims.engine = fresh_database
    run_state_machine_as_test(Claims, settings=settings(SETTINGS, max_examples=30))
