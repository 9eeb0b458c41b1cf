"""What `laptime audit` says about measurements with one thing wrong: found, misnamed or missed.

    python benchmarks/audit_faults.py [--runs 10] [--new]

The faults are those of crafted_faults.py, crafted_records.py, crafted_field.py and crafted_stored.py, in runs of 6
configurations with 20 inputs, 3 repeats, 3 workers, 2 % noise and 2 to 40 output tokens; and those of
crafted_served.py, in results of eight programs. A fault is found when the rule that it belongs to
has a finding; misnamed when only other rules have one, of warning or severe; missed when none has. What harms no figure
has no rule: then nothing may warn. Writes its table into docs/appendix/audit-chance.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from crafted_faults import FAULTS, Fault, run_of
from crafted_field import FIELD
from crafted_records import RECORDS
from crafted_served import SERVED, SOUND, ServedFault, write_result
from crafted_stored import STORED

from laptime.audits import audit, audit_measurements, measurements_of

RECORD = Path(__file__).parent / "results" / "audit_faults.json"
PAGE = Path(__file__).parents[1] / "docs" / "appendix" / "audit-chance.md"


def judged(fault: Fault, seed: int) -> tuple[str, set[str]]:
    """found, misnamed or missed, and the codes of all other findings that warn."""
    report = audit_measurements(measurements_of(fault.change(run_of(seed))))
    named = {f.code for f in report.findings}
    warned = {f.code for f in report.findings if f.severity != "info"} - set(fault.codes)
    right = named & set(fault.codes) if fault.codes else not warned
    word = "found" if right else "misnamed" if warned else "missed"
    return word, warned


def judged_served(fault: ServedFault, seed: int) -> tuple[str, set[str]]:
    """The same of a result of another program."""
    with tempfile.TemporaryDirectory() as folder:
        report = audit(write_result(Path(folder), fault.write(random.Random(seed))))
    named = {f.code for f in report.findings}
    warned = {f.code for f in report.findings if f.severity != "info"} - set(fault.codes)
    return "found" if named & set(fault.codes) else "misnamed" if warned else "missed", warned


def _sound_served(seed: int) -> bool:
    """Whether any sound result of another program gets a warning."""
    with tempfile.TemporaryDirectory() as folder:
        reports = [audit(write_result(Path(folder), make(random.Random(seed)))) for make in SOUND]
    return any(f.severity != "info" for report in reports for f in report.findings)


def into_docs(rows: list[dict[str, Any]], runs: int, alarms: int) -> None:
    """Put the table between the markers of the page."""
    lines = [f"| one thing wrong, {runs} runs | rule | found | misnamed | missed | said beside it |", "|---" * 6 + "|"]
    for row in rows:
        counts = [str(row.get(word, 0)) for word in ("found", "misnamed", "missed")]
        cells = [row["fault"], " or ".join(row["rules"]) or "none", *counts, ", ".join(row["beside"])]
        lines.append("| " + " | ".join(cells) + " |")
    usually = sum(row.get("found", 0) > runs / 2 for row in rows)
    lines += [
        "",
        "The last 27 are in simulated results of other programs.",
        "",
        f"{usually} of {len(rows)} faults are found in most runs; {alarms} of {runs} sound runs got a warning.",
    ]
    text = PAGE.read_text(encoding="utf-8")
    block = "\n".join(lines) + "\n"
    marked = re.compile(r"(<!-- faults:begin -->\n).*?(<!-- faults:end -->)", re.DOTALL)
    PAGE.write_text(marked.sub(lambda found: found[1] + block + found[2], text), encoding="utf-8")


def main() -> None:
    """Judge every fault in several runs, print a table, record it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="simulated runs of each fault")
    parser.add_argument("--new", action="store_true", help="judge the faults that the record lacks, keep its others")
    parser.add_argument("--only", default="", help="part of a fault's name")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RECORD.read_text())["figures"]["faults"] if asked.new else []
    kept = {row["fault"] for row in rows}
    sums = Counter[str]({word: sum(row.get(word, 0) for row in rows) for word in ("found", "misnamed", "missed")})
    for fault in (*FAULTS, *RECORDS, *FIELD, *STORED, *SERVED):
        if asked.only not in fault.name or fault.name in kept:
            continue
        ask = judged_served if isinstance(fault, ServedFault) else judged
        answers = [ask(fault, seed) for seed in range(asked.runs)]  # type: ignore[arg-type]
        words = Counter(word for word, _ in answers)
        beside = Counter(code for _, codes in answers for code in codes)
        often = [code for code, n in beside.most_common() if n >= asked.runs / 2]
        sums.update(words)
        rows.append({"fault": fault.name, "rules": list(fault.codes), **dict(words), "beside": often})
        shown = ", ".join(f"{word} {n}" for word, n in words.most_common())
        print(f"{fault.name} | {' or '.join(fault.codes)} | {shown} | {', '.join(often)}", flush=True)
    sound = [audit_measurements(measurements_of(run_of(100 + i))).findings for i in range(asked.runs)]
    alarms = sum(any(f.severity != "info" for f in findings) for findings in sound)
    alarms_served = sum(_sound_served(100 + i) for i in range(asked.runs))
    print(f"sound runs with a warning: {alarms} of {asked.runs}; sound results with one: {alarms_served}")
    from recorded import record

    usually = Counter(max(("found", "misnamed", "missed"), key=lambda word, row=row: row.get(word, 0)) for row in rows)
    print(dict(usually), dict(sums))
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    if not asked.only:
        figures = {
            "runs": asked.runs,
            "sound_with_warning": alarms,
            "sound_results_with_warning": alarms_served,
            "faults": rows,
            "usually": dict(usually),
            "runs_by_word": dict(sums),
        }
        print(record("audit_faults", figures, environment).name)
        into_docs(rows, asked.runs, alarms)


if __name__ == "__main__":
    main()
