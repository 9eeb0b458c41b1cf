"""Pages are short, open with what the reader can do after them, have no dead link, and their code is Python."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tools.docs.words import too_long

import laptime
from laptime.audits import RULES
from laptime.audits.served.rules import RULES as SERVED_RULES
from laptime.report.results import report

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "reference" not in path.parts]
READ = [path for path in PAGES if not {"appendix", "decisions"} & set(path.parts)]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", READ, ids=name)
def test_a_page_is_short_and_opens_with_what_the_reader_can_do_after_it(path):
    text = path.read_text(encoding="utf-8")
    assert name(path).removeprefix("docs/") not in too_long()
    assert re.search(r"(After|With) this page|after this page", text[:900])


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=name)
def test_links_lead_to_files_that_are_there(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve()
        assert place.exists(), target
        if anchor and place.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
            assert anchor in slugs, target


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=name)
def test_blocks_of_python_are_python(path):
    for code in re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        ast.parse(code)


def test_decisions_are_listed_in_the_order_of_their_numbers():
    listed = re.findall(r"^- \[\d+\]\(([^)]+)\)", (DOCS / "decisions" / "README.md").read_text(), re.MULTILINE)
    assert listed == sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))


@pytest.mark.parametrize(("page", "rules"), [("appendix/audit-rules.md", RULES), ("audit-served.md", SERVED_RULES)])
def test_every_rule_of_an_audit_has_its_row_and_no_row_is_of_another(page, rules):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = re.search(r"^\| rule \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    named = [code for line in table.splitlines() for code in line.split("|")[1].strip().split(", ")]
    second = {"eos-ignored-in-some"} if rules is SERVED_RULES else set()  # another finding of unequal-output-lengths
    assert sorted(named) == sorted({rule.code for rule in rules} | second)


def test_the_page_of_the_audit_names_every_rule_once():
    text = (DOCS / "audit.md").read_text(encoding="utf-8")
    table = re.search(r"^\| what is asked \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    named = [code for line in table.splitlines() for code in line.split("|")[2].strip().split(", ")]
    assert sorted(named) == sorted(rule.code for rule in RULES)


def test_the_readmes_trace_is_what_the_program_prints_of_it():
    block = re.search(
        r"\$ laptime trace trace\.json\.gz\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )[1]
    console = Console(file=io.StringIO(), width=80)
    console.print(report(laptime.read_trace(ROOT / "tests/trace/data/decode-eager.json.gz")))
    printed = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert [line for line in block.splitlines() if line not in printed] == []
