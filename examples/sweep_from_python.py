"""Measure a grid of knobs from Python, and see what each of them buys.

python examples/sweep_from_python.py
"""

import tempfile

import laptime

folder = tempfile.mkdtemp() + "/sweep"
config = {
    "model": "preset:tiny-vlm",
    "workload": {"samples": 2},
    "knobs": {"top_k": [1, 4], "new_tokens": 4, "prompt_tokens": 16, "image_size": "336x336"},
    "measure": {"repeats": 2, "rounds": 2},
}
print("planned calls:", laptime.sweep(config, out=folder, dry_run=True).calls)
sweep = laptime.sweep(config, out=folder)

laptime.show(sweep)  # what each knob buys, every configuration, what to distrust
print("findings:", [finding.code for finding in laptime.audit(folder).findings])
