"""Large inputs of other kinds than many samples: shards, configurations, events of a trace, calls of a profile.

    python benchmarks/large_inputs.py [--folder /tmp/large] [--task NAME] [--again]

Each task is what a user starts, in a process of its own: processor time, wall time, peak memory. The page of
10,000 configurations is opened in Chromium: from the start of loading until the page is drawn, three times, median.
What profile itself takes is what its measuring takes less the same model's bare generate(), which runs after each call
in the same process: a busy machine makes both longer. On the wall this has the waiting for the disk in it.
With --folder the inputs stay there, and the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import shutil
import statistics
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from million_samples import VERB, configurations, timed, write_run

from laptime.data.record import Scalar

ROOT = Path(__file__).parents[1]
TRACE = ROOT / "tests" / "trace" / "data" / "decode-eager.json.gz"
SHARDS, SAMPLES_IN_SHARDS = 200, 200_000
EVENTS = 10_000_000
CONFIGURATIONS, SAMPLES_OF_EACH = 10_000, 6
CALLS = 600
Row = dict[str, Any]

PROFILED = """
import json, sys, time
from pathlib import Path
import numpy as np
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.measure.profile import ProfileRequest, prepare
from laptime.measure.session import MeasuringPlan, measure
from laptime.measure.stage_timer import StageTimer

calls, folder = int(sys.argv[1]), sys.argv[2]
plan = MeasuringPlan(max_warmups=0, max_repeats=1, time_limit_s=1e6)
prepared = prepare(ProfileRequest(model="preset:tiny-llm", samples=calls, prompt_tokens=8, new_tokens=2, device="cpu",
                                  dtype="float32"))
model = prepared.loaded.model
timer = StageTimer(model, energy=True, memory=True, config=prepared.config)
bare, aside = np.zeros(2), np.zeros(2)

def now():
    return np.array([time.process_time(), time.perf_counter()])

def beside(item, sample):
    began = now()
    timer.__exit__(None, None, None)
    before = now()
    model.generate(**item.kwargs)
    bare[:] += now() - before
    timer.__enter__()
    aside[:] += now() - began

for _ in range(5):
    model.generate(**prepared.inputs[0].kwargs)
with RunFolder(folder, new_info([], prepared.config, prepared.environment, {})) as run_folder:
    with timer:
        began = now()
        end = measure(timer, prepared.inputs, plan, run_folder.append, beside=beside)
        measuring = now() - began - aside
    began = now()
    run_folder.append(end)
    run_folder.write_summary()
load_run(folder)
ending = now() - began
figures = {"call": measuring, "bare_call": bare, "own": measuring - bare, "end": ending}
Path(f"{folder}.json").write_text(json.dumps({
    f"{name}_{kind}": 1e3 * value / calls
    for name, pair in figures.items() for kind, value in zip(("ms", "wall_ms"), pair)
}))
"""
"""What `laptime.profile` does after its model is loaded, with a bare generate() of the same input after each call."""


def many_configurations() -> list[dict[str, Scalar]]:
    """10 values each of top-k, blocks, crops and prompt length."""
    same = configurations()[0]
    knobs = product(range(1, 11), range(7, 17), range(1, 11), range(64, 704, 64))
    return [{**same, "top_k": k, "blocks": b, "crops": c, "prompt_tokens": p} for k, b, c, p in knobs]


def make_shards(folder: Path) -> None:
    """200 run folders that several machines could have written of one sweep: no key is in two of them."""
    if (folder / "shards").exists():
        return
    shutil.rmtree(whole := folder / "shards.whole", ignore_errors=True)
    shutil.rmtree(part := folder / "shards.part", ignore_errors=True)
    write_run(whole, SAMPLES_IN_SHARDS, workers=1, inputs=1000)
    lines = (whole / "samples-0.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(SHARDS):
        (shard := part / f"shard-{number:03d}").mkdir(parents=True)
        shutil.copyfile(whole / "run.json", shard / "run.json")
        (shard / "samples-0.jsonl").write_bytes(b"".join(lines[number::SHARDS]))
    shutil.rmtree(whole)
    part.rename(folder / "shards")


def make_trace(folder: Path) -> None:
    """A Kineto file of ten million events: a real trace again and again, later each time, with ids of its own."""
    if (folder / "events.json").exists():
        return
    text = gzip.decompress(TRACE.read_bytes())
    start, end = text.index(b'"traceEvents": [') + len(b'"traceEvents": ['), text.rindex(b"]")
    events = text[start:end]
    times = [int(one) for one in re.findall(rb'"ts": (\d+)', events)]
    length, count = max(times) - min(times) + 1_000_000, events.count(b'"ph"')
    numbers = re.compile(rb'"(ts|correlation|External id|id)": (\d+)')
    with (part := folder / "events.part").open("wb") as file:
        file.write(text[:start])
        for copy in range(-(-EVENTS // count)):

            def moved(match: re.Match[bytes], copy: int = copy) -> bytes:
                return b'"%s": %d' % (match[1], int(match[2]) + copy * (length if match[1] == b"ts" else 10_000_000))

            file.write((b", " if copy else b"") + numbers.sub(moved, events))
        file.write(text[end:])
    part.rename(folder / "events.json")


def make_configurations(folder: Path) -> None:
    """Two runs of 10,000 configurations."""
    for name, seed in (("many", 0), ("many again", 1)):
        if not (folder / name).exists():
            shutil.rmtree(part := folder / f"{name}.part", ignore_errors=True)
            samples = CONFIGURATIONS * SAMPLES_OF_EACH
            write_run(part, samples, workers=1, seed=seed, kinds=many_configurations())
            part.rename(folder / name)


def merged(folder: Path) -> Row:
    """Merge all shards into a new run."""
    shutil.rmtree(folder / "all", ignore_errors=True)
    shards = sorted(str(shard.relative_to(folder)) for shard in (folder / "shards").iterdir())
    return timed([*VERB, "merge", *shards, "--out", "all"], folder)


def command(*words: str) -> Callable[[Path], Row]:
    """A verb of laptime, timed."""
    return lambda folder: timed([*VERB, *words], folder)


def opened(folder: Path) -> Row:
    """How long Chromium takes for the page, in ms: until it is loaded, and until it was drawn afterwards."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    drawn = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(() => done(performance.now())))"
    times = []
    try:
        driver.get("about:blank")
        for _ in range(3):
            driver.get((folder / "many.html").as_uri())
            loaded = driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
            times.append((loaded, driver.execute_async_script(drawn)))
    finally:
        driver.quit()
    loaded_ms, drawn_ms = (statistics.median(column) for column in zip(*times, strict=True))
    size = (folder / "many.html").stat().st_size
    return {"loaded_ms": loaded_ms, "drawn_ms": drawn_ms, "page_bytes": size, "load": os.getloadavg()[0]}


def profiled(folder: Path) -> Row:
    """What a call takes in profile and bare, and the end of the run for each call, in ms: processor time and wall."""
    shutil.rmtree(folder / "profile", ignore_errors=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other count as processor time
    row = timed(["-c", PROFILED, str(CALLS), "profile"], folder)
    known = json.loads((folder / "profile.json").read_bytes())
    return {**known, "calls": CALLS, "peak_mib": row["peak_mib"], "load": row["load"], "commit": row["commit"]}


TASKS: dict[str, tuple[Callable[[Path], None] | None, Callable[[Path], Row]]] = {
    "merge of 200 shards, 200,000 samples": (make_shards, merged),
    "report of what was merged": (None, command("report", "all", "--html", "all.html", "--force")),
    "trace of 10,000,000 events": (make_trace, command("trace", "events.json", "--json")),
    "report of 10,000 configurations": (
        make_configurations,
        command("report", "many", "--html", "many.html", "--force"),
    ),
    "its page in Chromium": (None, opened),
    "audit of 10,000 configurations": (make_configurations, command("audit", "many")),
    "compare of 10,000 configurations": (make_configurations, command("compare", "many", "many again")),
    "fit of 10,000 configurations": (make_configurations, command("fit", "many", "--out", "estimator", "--force")),
    "profile, a call": (None, profiled),
}


def main() -> None:
    """Make what the tasks need, measure them, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to make (or find) the inputs; default: a temporary one")
    parser.add_argument("--task", action="append", choices=TASKS, help="measure only this; once for each")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "measured.json"
        known: dict[str, Row] = json.loads(kept.read_bytes()) if kept.exists() else {}
        for name in asked.task or TASKS:
            if name in known and not asked.again:
                continue
            make, task = TASKS[name]
            if make is not None:
                make(folder)
            known[name] = task(folder)
            kept.write_text(json.dumps(known, indent=1))
            print(name, {key: value for key, value in known[name].items() if key != "first_line"}, flush=True)
    from recorded import record

    environment = {"python": platform.python_version(), "platform": platform.platform(), "processors": os.cpu_count()}
    print(record("large_inputs", {name: known[name] for name in TASKS if name in known}, environment).name)


if __name__ == "__main__":
    main()
