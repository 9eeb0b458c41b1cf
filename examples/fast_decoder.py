"""Decode with fused kernels and one CUDA graph (plain torch on a CPU), and see where the call's time went.

python examples/fast_decoder.py
"""

from laptime.decoder import FastDecoder, timed_generate
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs

loaded = load_model("preset:tiny-llm")  # yours: AutoModelForCausalLM.from_pretrained(...)
inputs = make_inputs(loaded, prompt_tokens=64).kwargs  # yours: tokenizer(..., return_tensors="pt")
own = loaded.model.generate(**inputs, max_new_tokens=32, do_sample=False)

with FastDecoder(loaded.model) as decoder:
    fast = decoder.generate(**inputs, max_new_tokens=32)  # the first call captures
    _, sample = timed_generate(decoder, **inputs, max_new_tokens=32)

print("same tokens as generate():", bool((fast == own).all()))
print(f"first token after {sample.ttft_ms:.1f} ms, then {sample.tpot_ms:.2f} ms a token")
print("closes to the nanosecond:", sample.stages.closes())
