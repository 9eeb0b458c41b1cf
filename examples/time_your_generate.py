"""Time the stages of your own generate() calls. Runs anywhere in seconds: a small model with random weights.

python examples/time_your_generate.py
"""

import laptime
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs

loaded = load_model("preset:tiny-vlm")  # yours: AutoModelForImageTextToText.from_pretrained(...)
inputs = make_inputs(loaded, prompt_tokens=64, image_size=(672, 672))  # yours: processor(images=..., text=...)

with laptime.StageTimer(loaded.model, per_token=True) as timer:
    for _ in range(4):  # the first calls are slower than the rest
        loaded.model.generate(**inputs.kwargs, max_new_tokens=16, do_sample=False)

stages = timer.last.stages
for name in ("vision", "prefill", "decode", "other", "total"):
    print(f"{name:8} {stages.stage(name):8.2f} ms")
print(f"first token after {timer.last.ttft_ms:.1f} ms, then {timer.last.tpot_ms:.2f} ms a token")
print("closes to the nanosecond:", stages.closes())
