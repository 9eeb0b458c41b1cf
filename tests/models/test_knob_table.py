"""The table family x knob of docs/knobs.md says what check_knobs and with_image_tokens say. WRITE_DOCS=1 writes it."""

import os
from pathlib import Path
from types import SimpleNamespace

import torch

from laptime.errors import LaptimeError
from laptime.models.knobs import ModelKnobs, check_knobs
from laptime.models.loading import Loaded
from laptime.workload.image_budget import with_image_tokens
from tests.models import more_vlms, tiny
from tests.models.many_families import build_text

PAGE = Path(__file__).parents[2] / "docs" / "knobs.md"
BEGIN, END = "<!-- families:begin -->\n", "<!-- families:end -->"
TEXT = ("llama", "qwen3_moe", "qwen3_next", "gpt_oss", "phimoe")
KNOBS = {
    "crops": ModelKnobs(crops=(1, 2)),
    "top-k": ModelKnobs(top_k=1),
    "blocks": ModelKnobs(blocks=4),
}


def table():
    """A row for each family, yes or no for each knob, by asking."""
    lines = ["| family | crops | image tokens | top-k | blocks |", "|---|---|---|---|---|"]
    for family in (*tiny.VLM_FAMILIES, *more_vlms.FAMILIES, *TEXT):
        model = built(family)
        cells = {
            name: said(lambda knobs=knobs, model=model: check_knobs(model, knobs)) for name, knobs in KNOBS.items()
        }
        budget = said(lambda family=family: with_image_tokens(loaded(family), 4096))
        lines.append(f"| {family} | {cells['crops']} | {budget} | {cells['top-k']} | {cells['blocks']} |")
    return "\n".join(lines) + "\n"


def built(family):
    torch.manual_seed(0)
    if family in more_vlms.FAMILIES:
        return more_vlms.FAMILIES[family]()
    if family in TEXT:
        return build_text(family)
    config = tiny.VLM_CONFIGS[family]()
    text = config.get_text_config()
    text.num_hidden_layers = 5
    if getattr(text, "layer_types", None):
        text.layer_types = [*text.layer_types, *text.layer_types][:5]
    return tiny.build(family, config=config)


class Processor:
    """The settings that families of image budgets have, for asking whether there is one."""

    class image_processor:
        patch_size, merge_size, temporal_patch_size, max_patches, max_soft_tokens = 14, 2, 2, 12, 280
        size, max_image_size, do_image_splitting = (
            {"shortest_edge": 784, "longest_edge": 10**6}, {"longest_edge": 364}, True
        )  # fmt: skip

    image_seq_length = image_seq_len = 64


def loaded(family):
    vision = SimpleNamespace(image_size=336, patch_size=14, pixel_shuffle_ratio=0.5)
    processor = Processor()
    processor.image_processor = Processor.image_processor()
    model = SimpleNamespace(config=SimpleNamespace(model_type=family, vision_config=vision))
    return Loaded(family, model, processor, None, "local", True)


def said(ask):
    try:
        ask()
    except LaptimeError as error:
        return "no" if "can't be chosen" in str(error) or "leave" in str(error) or "vary" in str(error) else str(error)
    return "yes"


def test_the_page_says_what_each_family_takes():
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    written, _, after = rest.partition(END)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}")
    else:
        assert written == table()
