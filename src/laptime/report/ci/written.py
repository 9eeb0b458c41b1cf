"""Checks as a job's summary in Markdown, as JUnit XML, and as annotations of a GitHub job."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from laptime.report.ci.checks import Check, Checks, Outcome
from laptime.report.kit.text import counted, printable

MARKS: dict[Outcome, str] = {"failed": "❌", "warning": "⚠️", "not judged": "❔", "passed": "✅"}
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~!$])")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def markdown(checks: Checks) -> str:
    """A section for a job's summary or a pull request: the headline, the figures, what could not be judged."""
    mark = MARKS["failed"] if checks.failed else MARKS["warning"] if checks.count("warning") else ""
    mark = mark or (MARKS["passed"] if checks.count("passed") else MARKS["not judged"])
    lines = [f"### {mark} laptime {checks.verb}: {_plain(checks.headline)}", "", _plain(checks.facts), ""]
    if checks.rows:
        lines += [_row(checks.columns), _row(["---"] * len(checks.columns), plain=False)]
        lines += [*map(_row, checks.rows), ""]
    if unjudged := [check for check in checks.checks if check.outcome == "not judged"]:
        lines += [f"<details><summary>{counted(len(unjudged), 'check')} not judged</summary>", ""]
        lines += [f"- {_plain(check.name)}: {_plain(check.message)}" for check in unjudged]
        lines += ["", "</details>", ""]
    return "\n".join(lines) + "\n"


def junit(checks: Checks) -> bytes:
    """JUnit XML: a test case for each check. What could not be judged, and a warning, is a skipped case."""
    skipped = checks.count("not judged") + checks.count("warning")
    counts = {"tests": len(checks.checks), "failures": checks.count("failed"), "errors": 0, "skipped": skipped}
    numbers = {name: str(value) for name, value in counts.items()}
    suites = Element("testsuites", numbers)
    suite = SubElement(suites, "testsuite", {"name": f"laptime {checks.verb}", **numbers})
    for check in checks.checks:
        case = SubElement(suite, "testcase", {"classname": f"laptime.{checks.verb}", "name": _xml(check.name)})
        kind = {"failed": "failure", "warning": "skipped", "not judged": "skipped"}.get(check.outcome)
        if kind is not None:
            word = "warning: " if check.outcome == "warning" else ""
            SubElement(case, kind, {"message": _xml(word + check.message)}).text = _xml(check.more) or None
    SubElement(suite, "system-out").text = _xml(f"{checks.headline}\n{checks.facts}")
    indent(suites)
    written: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def annotation_lines(checks: Checks) -> Iterable[str]:
    """Lines that a GitHub job shows beside a change: an error for what failed, a warning, else a notice."""
    shown = [check for check in checks.checks if check.outcome in ("failed", "warning")]
    for check in shown:
        yield _annotation("error" if check.outcome == "failed" else "warning", checks.verb, check)
    if not shown:
        yield f"::notice title=laptime {checks.verb}::{_escaped(checks.headline)}"


def _annotation(level: str, verb: str, check: Check) -> str:
    title = _escaped(f"laptime {verb}, {check.name}").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escaped(check.message)}"


def _escaped(text: str) -> str:
    """Text in a workflow command: no line break in it can begin another command."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _row(cells: list[str], *, plain: bool = True) -> str:
    return f"| {' | '.join(_plain(cell) if plain else cell for cell in cells)} |"


def _plain(text: str) -> str:
    """Text without markup of its own, on one line."""
    marked = _MARKUP.sub(r"\\\1", " ".join(printable(text).split()))
    return html.escape(marked, quote=False).replace("@", "@\u200b")


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
