"""Time the stages of your own generate() calls.

python examples/time_my_model.py
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import laptime

# Yours: AutoModelForCausalLM.from_pretrained(...), and what its tokenizer gives.
model = LlamaForCausalLM(LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=4, vocab_size=1024))
prompt = torch.randint(1000, (1, 64))

with laptime.StageTimer(model, per_token=True) as timer:
    for _ in range(6):  # the first calls are slower than the rest
        model.generate(prompt, max_new_tokens=16, do_sample=False)

laptime.show(timer.summary())
last = timer.last
print(f"the last call: first token after {last.ttft_ms:.2f} ms, then {last.tpot_ms:.2f} ms per token")
print("its stages sum to its total, to the nanosecond:", last.stages.closes())
