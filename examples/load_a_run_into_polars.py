"""Measure a model, and look at its samples as a table.

python examples/load_a_run_into_polars.py [RUN_FOLDER]
"""

import sys
import tempfile

import polars

import laptime

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp() + "/run"
if len(sys.argv) < 2:
    laptime.profile("preset:tiny-llm", samples=8, new_tokens=16, repeats=2, out=folder)

samples = laptime.read_frame(folder)  # one row for each sample, knobs as columns; tables and older files work too
clean = samples.filter(polars.col("repeat") >= 0, polars.col("flags") == "")
print(clean.select("sample_id", "prefill_ms", "decode_ms", "total_ms", "output_tokens"))
print(f"{samples.height} samples, {clean.height} of them without a flag")
laptime.show(laptime.load_run(folder))  # the same run as one value
