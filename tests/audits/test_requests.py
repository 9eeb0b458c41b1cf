"""What an audit of a serve-bench run folder says of failed requests and of the client's own lag."""

from __future__ import annotations

import msgspec
import pytest

from laptime import audit
from laptime.data.run_folder import RunFolder, new_info
from laptime.engines.client import LoadRun
from laptime.engines.figures import level_of
from laptime.engines.findings import findings_of
from laptime.engines.loads import concurrency
from laptime.engines.request import ClientWakes, Instant, RequestSample, record_of
from tests.samples import environment

CONFIG = {"load": "4 at once"}


def request(place: int, *, load: str = "4 at once", late_ms: float = 0.02, outcome: str = "finished", repeat: int = 0):
    due = 1_000_000_000 + place * 50_000_000
    sent = due + int(late_ms * 1e6)
    first = Instant(sent + 30_000_000) if outcome == "finished" else None
    return RequestSample(
        load=load, request_id=f"q-{place}", repeat=repeat, outcome=outcome, due=Instant(due), sent=Instant(sent),
        first_content=first, last_content=first, done=Instant(sent + 80_000_000), started_unix_ms=1e12 + place * 50,
    )  # fmt: skip


@pytest.fixture
def audited(tmp_path):
    def of(requests, wakes=()):
        folder = RunFolder(tmp_path / "run", new_info(["serve-bench"], CONFIG, environment(), {}), "client")
        folder.begin()
        folder.append_all([record_of(one, CONFIG | {"load": one.load}, "client") for one in requests])
        folder.close()
        for name, rows in (("requests", requests), ("wakes", wakes)):
            (tmp_path / "run" / f"{name}-client.jsonl").write_bytes(
                b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
            )
        report = audit(tmp_path / "run")
        return report, {f.code: f for f in report.findings if f.code in ("failed-requests", "client-lag")}

    return of


def failing(count: int, of: int):
    return [request(place, outcome="time-out" if place < count else "finished") for place in range(of)]


def test_a_run_without_failures_and_on_time_raises_neither(audited):
    report, found = audited([request(-1, repeat=-1, outcome="time-out"), *failing(0, 100)])
    runs = {rule.code: rule for rule in report.rules}
    assert not found
    assert runs["failed-requests"].of == runs["client-lag"].of == 100  # the warm-up is none of them


@pytest.mark.parametrize(
    ("failed", "of", "severity"), [(1, 10, "warning"), (4, 100, "warning"), (6, 100, "severe"), (2, 10, "severe")]
)
def test_failed_requests_are_severe_where_they_move_a_loads_figures(audited, failed, of, severity):
    _, found = audited(failing(failed, of))
    finding = found["failed-requests"]
    assert (finding.severity, finding.count, finding.of, finding.unit) == (severity, failed, of, "request")
    assert finding.examples == [f"4 at once: {failed} of {of} failed ({failed} time-out)"]


def test_one_bad_load_among_good_ones_is_severe(audited):
    good = [request(place, load="1 at once") for place in range(200)]
    _, found = audited([*good, *failing(5, 20)])
    assert found["failed-requests"].severity == "severe" and found["failed-requests"].of == 220


def test_a_run_of_which_nothing_finished_is_not_clean(audited):
    report, found = audited(failing(20, 20))
    assert found["failed-requests"].count == 20 and not report.clean


@pytest.mark.parametrize(
    ("late", "late_ms", "severity"),
    [(2, 50.0, None), (20, 1.9, None), (3, 9.0, "warning"), (20, 9.0, "severe")],  # two late ones are a hiccup
)
def test_a_client_that_sends_late(audited, late, late_ms, severity):
    requests = [request(place, late_ms=late_ms if place < late else 0.02) for place in range(100)]
    _, found = audited(requests)
    assert (found["client-lag"].severity if found else None) == severity


def test_late_sending_is_measured_by_the_time_to_the_first_token(audited):
    late = (request(place, late_ms=9.0) for place in range(100))
    slow = [msgspec.structs.replace(one, first_content=Instant(one.due.ns + 2_000_000_000)) for one in late]
    assert not audited(slow)[1]


@pytest.mark.parametrize(
    ("p95_ms", "p99_ms", "wakes", "severity"),
    [(0.1, 1.9, 900, None), (0.1, 12.0, 900, "warning"), (8.0, 12.0, 900, "severe"), (8.0, 12.0, 60, None)],
)
def test_a_client_whose_own_task_wakes_late(audited, p95_ms, p99_ms, wakes, severity):
    woken = ClientWakes(load="4 at once", wakes=wakes, p95_ms=p95_ms, p99_ms=p99_ms)
    _, found = audited(failing(0, 100), [woken])
    assert (found["client-lag"].severity if found else None) == severity


def test_a_folder_of_other_measurements_has_no_requests_to_judge(audited):
    report, _ = audited([])
    runs = {rule.code: rule.could_not_judge for rule in report.rules}
    assert runs["failed-requests"] == runs["client-lag"] == "no requests of laptime serve-bench"


@pytest.mark.parametrize(
    ("late", "late_ms", "wakes", "woken_ms", "said"),
    [
        (2, 50.0, 900, 0.1, False),
        (3, 9.0, 900, 0.1, True),
        (0, 9.0, 900, 9.0, True),
        (0, 9.0, 60, 9.0, False),
        (100, 1.9, 900, 1.9, False),
    ],
)
def test_serve_bench_and_the_audit_call_the_same_client_late(audited, late, late_ms, wakes, woken_ms, said):
    requests = [request(place, late_ms=late_ms if place < late else 0.02) for place in range(100)]
    level = level_of(concurrency(4, 100), LoadRun(requests, [woken_ms] * wakes, 5.0), None)
    assert ("client-lag" in {one.code for one in findings_of([level], fixed_prompts=False)}) == said
    _, found = audited(requests, [ClientWakes(load="4 at once", wakes=wakes, p95_ms=woken_ms, p99_ms=woken_ms)])
    assert ("client-lag" in found) == said


@pytest.mark.parametrize(("at_once", "advice"), [(1, "there is no lower load"), (4, "use a lower load")])
def test_a_late_client_is_advised_a_lower_load_only_where_there_is_one(at_once, advice):
    requests = [request(place, late_ms=50.0) for place in range(100)]
    level = level_of(concurrency(at_once, 100), LoadRun(requests, [0.1] * 900, 5.0), None)
    (found,) = [one for one in findings_of([level], fixed_prompts=False) if one.code == "client-lag"]
    assert advice in found.message
