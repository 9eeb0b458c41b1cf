"""The audit's page: findings worst first with their pictures, what couldn't be judged, and no string that acts."""

from __future__ import annotations

import json
import re

import msgspec
import polars
import pytest
from benchmarks.audit_false_alarms import WRONG, Shape, lognormal, sound
from rich.console import Console

from laptime.audits import AuditFinding, AuditReport, RuleRun, audit_measurements, measurements_of
from laptime.audits.result import AuditPicture, AuditPoint
from laptime.report.audit.page import audit_page
from laptime.report.audit.terminal import audit_report
from tests.report.hostile import HOSTILE


def report(*, wrong: bool = True) -> AuditReport:
    frame = sound(1, Shape(3, 20, repeats=3, workers=2, tokens=(2, 40)), lognormal(0.01))
    if wrong:
        for name in (*["a drift of 5 %"] * 4, "one worker 5 % slower"):
            frame = WRONG[name][1](frame)
        frame = polars.concat([frame, frame[-3:]])
        frame = frame.with_columns(decode_per_token_ms=polars.col("decode_ms") / polars.col("output_tokens"))
    return audit_measurements(measurements_of(frame, "runs/demo"))


def hostile(text: str) -> AuditReport:
    picture = AuditPicture(kind="bars", title=text, x=text, y=text, points=[AuditPoint(text, 1.0)])
    finding = AuditFinding(code=text, severity="severe", count=1, of=1, share=1.0, examples=[text], reason=text,
                           mend=text, unit=text, picture=picture)  # fmt: skip
    rules = [RuleRun(code=text, checks=text, could_not_judge=text), RuleRun(code=text, checks=text, fired=True)]
    return AuditReport(source=text, samples=1, configs=1, findings=[finding], rules=rules, clean=False)


def test_findings_stand_worst_first_with_reason_mend_and_examples():
    audited = report()
    page = audit_page(audited)
    titles = re.findall(r"<h2>([^<]+)</h2>", page)
    assert titles[: len(audited.findings)] == [finding.code for finding in audited.findings]
    assert titles[-2:] == ["Could not judge", "Every rule"]
    for finding in audited.findings:
        assert finding.examples[0].split(":")[0] in page
        assert finding.mend.split("(")[0].strip() in page.replace("&#39;", "'")


def test_a_page_carries_nothing_from_elsewhere():
    page = audit_page(report())
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert len(page) < 60_000


def test_a_clean_audit_says_so():
    page = audit_page(report(wrong=False))
    assert "found anything wrong" in page
    assert "finding-0" not in page


@pytest.mark.parametrize("text", HOSTILE)
def test_no_string_is_markup(text):
    page = audit_page(hostile(text))
    body, _, data = page.partition('<script type="application/json" id="page-data">')
    assert "<script>window.pwned" not in body
    assert "<img src=x" not in page
    json.loads(data.partition("</script>")[0])
    Console(record=True, file=open("/dev/null", "w")).print(audit_report(hostile(text)))  # noqa: SIM115, PTH123


def test_the_json_is_the_whole_report():
    audited = report()
    assert msgspec.json.decode(msgspec.json.encode(audited), type=AuditReport) == audited


@pytest.mark.chromium
@pytest.mark.parametrize("text", [None, HOSTILE[0]])
def test_pictures_are_drawn_and_the_console_is_quiet(open_page, console_lines, text):
    audited = report() if text is None else hostile(text)
    browser = open_page(audit_page(audited))
    assert console_lines() == []
    pictures = [finding for finding in audited.findings if finding.picture is not None]
    assert len(pictures) >= (3 if text is None else 1)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.chart svg')].map(s => s.querySelectorAll('rect.bar, circle').length)"
    )
    assert len(drawn) == len(pictures)
    assert all(count > 0 for count in drawn)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return window.pwned === undefined")
