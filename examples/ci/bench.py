"""What a gate measures: one process of your program, a run folder at its end.

    python examples/ci/bench.py runs/one

Put your own model and inputs here. The gate starts this file several times for main and for the branch, in turns.
"""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import laptime

model = LlamaForCausalLM(LlamaConfig(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
)).eval()  # fmt: skip
inputs = {"input_ids": torch.arange(3, 67)[None], "max_new_tokens": 16, "do_sample": False}

with laptime.StageTimer(model) as timer:
    for number in range(-3, 10):
        timer.label("call", repeat=number)  # a negative repeat is a warm-up
        model.generate(**inputs)
timer.save(sys.argv[1])
