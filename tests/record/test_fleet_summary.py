"""Figures of a fleet from small runs, against those by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import Row, colocated, plan, workload

from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import Plan
from kvsim.record.fleet_figures import FleetFigures
from kvsim.record.fleet_summary import fleet_figures
from kvsim.record.result import SystemResult
from kvsim.sim.fleet.targets import Part, Targets
from kvsim.sim.run import Case, run


def two(*events: FleetEvent, **clients: float) -> Plan:
    """Two instances of one GPU whose steps take a second."""
    found = replace(colocated(plan(1, 1, sets=("routing.prefill=round_robin",))), num_instances=2)
    config = found.config
    changed = {
        "fleet": config.fleet.model_copy(update={"events": events}),
        "clients": config.clients.model_copy(update=clients),
    }
    return replace(found, config=config.model_copy(update=changed))


def ran(where: Plan, *rows: Row) -> tuple[SystemResult, FleetFigures]:
    result = run(Case("unified", "unified", where, workload(rows), 1)).system
    found = fleet_figures(result, 1.5, 0.9)
    assert found is not None
    return result, found


def test_nothing_is_said_where_nothing_can_happen() -> None:
    result = run(Case("unified", "unified", two(), workload([Row(0, 16)]), 1)).system
    assert result.fleet is None and fleet_figures(result, 1.0, 0.9) is None


def test_a_failed_instance_costs_attempts_and_is_paid() -> None:
    # 40 requests, each a second long, 2 s apart, by turns on the two; from 20.5 s on for 10 s there is one of them.
    rows = [Row(2.0 * i, 16, 1) for i in range(40)]
    rows[10] = Row(20.0, 16, 3)
    event = FleetEvent(kind="fail", at_s=20.5, role="colocated", instance=0, duration_s=10.0)
    result, found = ran(two(event), *rows)
    assert (found.requests_hit, found.resent, found.retried, found.gave_up, found.unserved) == (1, 1, 0, 0, 0)
    service = found.instances["colocated"]
    assert (service.instances, service.fewest_serving) == (2, 1)
    start_s, end_s = result.window_s
    assert service.mean_paid == 2 and service.gpu_hours == pytest.approx(2 * (end_s - start_s) / 3600)
    lost_s = max(0.0, min(30.5, end_s) - max(20.5, start_s))
    assert service.mean_serving == pytest.approx(2 - lost_s / (end_s - start_s))
    assert found.storm.amplification == pytest.approx(41 / 40)
    (incident,) = found.incidents
    assert (incident.begin_s, incident.end_s, incident.instances, incident.requests_hit) == (20.5, 30.5, 1, 1)
    assert incident.recovery == "never_outside", "those that came later found a free instance"
    assert incident.during.requests == 6, "at 22 to 30 s, and the one that was hit"
    # The one that was hit begins again at 20.5 s, beside nobody: its first token is out at 21.5 s.
    assert result.table["retry_s"].max() == pytest.approx(0.5)
    times = found.over_time
    assert times is not None and sum(times.requests) == 40 and sum(times.sent_again) == 1 and not sum(times.failed)


def test_requests_that_clients_give_up_are_outside_the_slo() -> None:
    # Both hang from 19.5 s to 49.5 s; clients give up after 4 s and try once more after 1 s.
    event = FleetEvent(kind="hang", at_s=19.5, role="colocated", duration_s=30.0)
    rows = [Row(1.0 * i, 16, 1) for i in range(100)]
    where = two(event, timeout_s=4.0, retries=1, backoff_s=1.0, backoff_jitter=0.0)
    result, found = ran(where, *rows)
    assert found.gave_up == result.failed == len(result.fleet.failed_s) > 10  # type: ignore[union-attr]
    assert found.timed_out == found.retried + found.gave_up
    assert result.misfits == 0
    (incident,) = found.incidents
    assert incident.recovery == "recovered"
    late = np.sort(result.table["arrival_s"][result.table["first_token_s"] - result.table["arrival_s"] > 1.5])
    bad_s = np.sort(np.append(late, result.fleet.failed_arrival_s))  # type: ignore[union-attr]
    # One of ten in a row may be late: it is back with the first of ten behind the second last that is not.
    assert incident.recovery_s == pytest.approx(bad_s[-2] + 1 - 19.5)
    assert incident.during.failed == found.gave_up
    arrived, again = 100, found.retried
    assert found.storm.amplification == pytest.approx((arrived + again) / arrived)
    worst = found.storm.worst
    assert worst is not None and worst.amplification > 1.5 and not math.isnan(worst.begin_s)


def test_a_rolling_restart_is_over_when_the_last_is_back() -> None:
    """Each drains for 1.5 s at the most and is away for 3 s; what it still has is lost then, and belongs to it."""
    event = FleetEvent(kind="rolling_restart", at_s=10.5, duration_s=3.0, grace_s=1.5)
    rows = [Row(0.5 * i, 16, 5) for i in range(60)]
    result, found = ran(two(event), *rows)
    (incident,) = found.incidents
    assert incident.instances == 2
    assert incident.end_s == pytest.approx(10.5 + 2 * (1.5 + 3.0))
    assert incident.requests_hit == found.requests_hit == found.resent > 4
    assert incident.lost_prefill_tokens == found.lost_prefill_tokens > 0
    assert result.completed == 60


def test_a_rolling_restart_that_goes_on_has_no_end() -> None:
    event = FleetEvent(kind="rolling_restart", at_s=4.5, duration_s=1000.0)
    result, found = ran(two(event), *[Row(1.0 * i, 16, 1) for i in range(20)])
    assert [incident.end_s for incident in found.incidents] == [None] and result.completed == 20


def test_a_restart_of_instances_that_are_not_there_is_none() -> None:
    gone = FleetEvent(kind="fail", at_s=1.0, role="colocated", instance=0)
    restart = FleetEvent(kind="rolling_restart", at_s=5.0, role="colocated", instance=0, duration_s=3.0)
    _, found = ran(two(gone, restart), *[Row(1.0 * i, 16, 1) for i in range(20)])
    assert [incident.kind for incident in found.incidents] == ["fail"]


def test_a_rack_fails_as_a_whole_and_once() -> None:
    """At random, twice a second on average, for good: both instances that stand there."""
    often = FleetEvent(kind="fail", rack=0, mtbf_h=0.5 / 3600)
    result, found = ran(two(often), *[Row(1.0 * i, 16, 1) for i in range(20)])
    (incident,) = found.incidents
    assert (incident.where, incident.instances, incident.end_s) == ("rack 0", 2, None)
    assert found.unserved == result.failed > 15


def test_no_time_is_worse_than_the_run_where_requests_are_sent_again_after_all_have_come() -> None:
    rows = [*[Row(1.0 * i, 16, 1) for i in range(20)], Row(20.0, 16, 50)]
    both = FleetEvent(kind="fail", at_s=40.0, role="colocated", duration_s=1.0)
    _, found = ran(two(both), *rows)
    assert found.resent == 1 and found.storm.worst is None
    assert found.storm.amplification == pytest.approx(22 / 21)


@pytest.mark.parametrize(
    ("event", "names", "said"),
    [
        ({"kind": "pool"}, ("rack 0", "rack 1"), "2 racks"),
        ({"kind": "uplink", "share": 0.5}, ("rack 3",), "rack 3"),
        ({"kind": "drive"}, ("drives of rack 0", "drives of rack 1"), "drives of 2 racks"),
        ({"kind": "fail", "role": "decode"}, ("decode 0", "decode 1"), "2 decode"),
        ({"kind": "rolling_restart", "duration_s": 1.0}, ("colocated 0", "colocated 1"), "2 instances"),
        ({"kind": "fail", "rack": 4}, ("prefill 0",), "rack 4"),
    ],
)
def test_incidents_are_named_after_what_they_hit(event: dict[str, object], names: tuple[str, ...], said: str) -> None:
    targets = Targets([], [], None, [], None, "host", "rack")
    parts = [Part(name, [], [], []) for name in names]
    assert targets.name(FleetEvent(at_s=1.0, **event), parts) == said  # type: ignore[arg-type]
