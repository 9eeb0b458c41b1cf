"""Packed questions are seen exactly as the processor and generate() see them one by one, under every knob."""

import numpy as np
import pytest
import torch
from examples.glyphs.batches import ASKED, Knobs, make_batch
from examples.glyphs.images import pixel_values
from examples.glyphs.losses import forward, right_by_type
from examples.glyphs.model import CROPS, TILINGS, make_model, make_processor
from examples.glyphs.packing import NO_LABEL, prompt, token_ids
from examples.glyphs.pages import draw_page
from examples.glyphs.questions import TYPES, ask
from examples.glyphs.train import knobs_set
from PIL import Image

from laptime.models.anatomy import find_anatomy
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import Loaded
from laptime.workload.crops import processor_cutting


@pytest.fixture(scope="module")
def loaded():
    model = make_model("tiny", seed=3).eval()
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "norm" not in name:
            weight.data.mul_(3)  # far from uniform answers, so that a wrong mask shows
    processor = make_processor()
    return Loaded("glyphs", model, processor, processor.tokenizer, "local", True)


@pytest.mark.parametrize("tier", TILINGS)
def test_the_images_are_the_processors(loaded, tier):
    page = draw_page("test", 5)
    image = Image.fromarray(page.image)
    with applied(loaded.model, ModelKnobs(crops=CROPS[tier])):
        processor, images = processor_cutting(loaded, [image], CROPS[tier])
        theirs = processor(images=[images], text=["<image>"], return_tensors="pt")["pixel_values"]
    ours = pixel_values(torch.from_numpy(page.image[None]), TILINGS[tier])
    assert ours.shape == theirs.shape
    off = (ours - theirs).abs() * 0.27 * 255  # in grey levels
    assert off.max() < 1.1 and (off > 0.5).float().mean() < 0.002  # Pillow's weights are whole numbers


@pytest.mark.parametrize(
    "knobs", [Knobs("low", 1, 2), Knobs("medium", 2, 4), Knobs("high", 4, 8)], ids=lambda k: f"{k.tier}-{k.blocks}"
)
def test_packed_logits_are_those_of_single_questions(loaded, knobs):
    model = loaded.model
    batch = make_batch("test", 40, 2)
    with torch.no_grad(), knobs_set(model, find_anatomy(model), knobs):
        packed = forward(model, batch, TILINGS[knobs.tier])
    rows, positions = packed.where
    changed = ModelKnobs(crops=CROPS[knobs.tier], top_k=knobs.top_k, blocks=knobs.blocks)
    seen = 0
    for row in range(2):
        page = draw_page("test", 40 + row)
        for owner, kind in enumerate(ASKED, 1):
            asked = ask(kind, page.truth, "test", 40 + row, owner - 1)
            with applied(model, changed), torch.no_grad():
                processor, images = processor_cutting(loaded, [Image.fromarray(page.image)], CROPS[knobs.tier])
                text = f"<image>{prompt(asked.text)}{asked.answer}"
                inputs = processor(images=[images], text=[text], return_tensors="pt")
                inputs["pixel_values"] = pixel_values(torch.from_numpy(page.image[None]), TILINGS[knobs.tier])
                single = model(**inputs).logits[0, -len(token_ids(asked.answer)) - 1 :]
            own = packed.logits[(rows == row) & (batch["owners"][rows, positions] == owner)]
            torch.testing.assert_close(own, single, rtol=1e-4, atol=2e-4)
            assert single.std(-1).min() > 0.05
            seen += len(own)
    assert seen == len(packed.logits)


def test_labels_are_the_answer_and_the_end():
    batch = make_batch("test", 0, 1)
    tokenizer = make_processor().tokenizer
    for owner, kind in enumerate(ASKED, 1):
        own = (batch["owners"][0] == owner) & (batch["labels"][0] != NO_LABEL)
        said = batch["labels"][0][own].tolist()
        asked = ask(kind, draw_page("test", 0).truth, "test", 0, owner - 1)
        assert tokenizer.decode(said[:-1]) == asked.answer
        assert said[-1] == 0
        assert token_ids(prompt(asked.text)).tolist() == tokenizer(prompt(asked.text))["input_ids"]


def test_a_question_counts_as_right_only_if_every_token_is(loaded):
    batch = make_batch("test", 0, 2)
    output = forward(loaded.model, batch, 1)
    output.logits.data.zero_()
    labels = batch["labels"][output.where]
    output.logits.data[torch.arange(len(labels)), labels] = 1.0
    assert right_by_type(output, batch)[:, 0].equal(right_by_type(output, batch)[:, 1])
    output.logits.data[0, labels[0]] = -1.0  # the first row's first question: a colour
    right, asked = right_by_type(output, batch).T.tolist()
    assert np.subtract(asked, right).tolist() == [1, *[0] * (len(TYPES) - 1)]
