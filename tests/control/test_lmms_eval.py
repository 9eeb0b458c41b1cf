"""lmms-eval's model interface, by lmms-eval's own classes: a fixed configuration, and a policy within a budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples.glyphs.model import make_model, save

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed (pip install lmms-eval)")

from lmms_eval.api.instance import Instance
from lmms_eval.models.registry_v2 import ModelRegistryV2
from PIL import Image

from laptime.control.choices import ModelFacts
from laptime.control.lmms_eval import LaptimeModel, cut, manifest
from laptime.control.policies.saved_policy import SavedPolicy, write_policy
from laptime.control.policies.static import StaticPolicy
from laptime.errors import LaptimeError
from laptime.workload.images import synthetic_image
from tests.control.adaptive import SPACE, bounds_of
from tests.workload.families import loaded


def requests(count: int, **generation: Any) -> list[Instance]:
    def visual(doc: dict[str, Any]) -> list[Image.Image]:
        return [doc["image"]]

    return [
        Instance(
            request_type="generate_until",
            arguments=("what colour is it", {"max_new_tokens": 3, **generation}, visual, number, "glyphs", "test"),
            idx=number,
            metadata={"task": "glyphs", "doc_id": number, "repeats": 1},
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lmms") / "model"
    save(make_model("tiny"), folder)
    return str(folder)


def asked(model: LaptimeModel) -> LaptimeModel:
    model.task_dict = {"glyphs": {"test": [{"image": synthetic_image(64, 64, seed)} for seed in range(2)]}}
    return model


def test_it_is_found_by_its_name() -> None:
    registry = ModelRegistryV2()
    registry.register_manifest(manifest)
    assert registry.get_manifest("laptime").simple_class_path == "laptime.control.lmms_eval.LaptimeModel"


def test_a_fixed_configuration_answers_and_leaves_the_model_as_it_was(model_folder: str, tmp_path: Path) -> None:
    importance, times = tmp_path / "importance.json", tmp_path / "times.jsonl"
    importance.write_text("[0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.1, 0.9]")
    knobs = {"crops": "1-3", "top_k": "2", "blocks": "4", "importance": str(importance)}
    model = asked(LaptimeModel(pretrained=model_folder, device="cpu", times=str(times), **knobs))
    assert model.knobs.active == (0, 2, 4, 7)
    before = len(model.loaded.model.model.language_model.layers)
    answers = model.generate_until(requests(2))
    assert len(answers) == 2
    assert all(isinstance(one, str) for one in answers)
    assert [one.in_time for one in model.answers] == [None, None]
    assert all(one.total_ms > 0 for one in model.answers)
    lines = [json.loads(line) for line in times.read_text().splitlines()]
    assert [(line["task"], line["doc"], line["text"]) for line in lines] == [
        ("glyphs", number, one.text) for number, one in enumerate(model.answers)
    ]
    assert [line["total_ms"] for line in lines] == [one.total_ms for one in model.answers]
    with pytest.raises(LaptimeError, match="there already"):
        LaptimeModel(pretrained=model_folder, times=str(times))
    assert len(model.loaded.model.model.language_model.layers) == before


def test_what_it_can_not_do_is_one_line(model_folder: str) -> None:
    model = asked(LaptimeModel(pretrained=model_folder, device="cpu"))
    for ask in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(LaptimeError, match="generate_until"):
            ask(requests(1))
    with pytest.raises(LaptimeError, match="budget_ms"):
        LaptimeModel(policy="policy")
    with pytest.raises(LaptimeError, match="name a model"):
        LaptimeModel()
    for given, says in (
        ({"blocks": 4}, "which of the 8.*importance=FILE"),
        ({"blocks": 99}, "the model has 8"),
        ({"top_k": 99}, "top_k"),
        ({"buget_ms": 3}, "buget_ms: laptime knows no such argument"),
        ({"fast": True}, "fast: is for a policy"),
        ({"crops": "many"}, "crops=many"),
        ({"online": "maybe"}, "online=maybe: write true or false"),
    ):
        with pytest.raises(LaptimeError, match=says):
            LaptimeModel(pretrained=model_folder, device="cpu", batch_size=1, max_batch_size=None, **given)


def test_answers_end_where_the_task_says() -> None:
    assert cut("yes. no", ["."]) == "yes"
    assert cut("yes", None) == "yes"
    assert cut("a\n\nb", "\n\n") == "a"


def test_a_policy_answers_within_its_budget(tmp_path: Path) -> None:
    policy = StaticPolicy(space=SPACE, accuracy=np.linspace(0.1, 0.9, len(SPACE)), bound_ms=np.full(len(SPACE), 60e3))
    saved = SavedPolicy(policy=policy, model=ModelFacts())
    write_policy(saved, bounds_of([60e3] * len(SPACE)), tmp_path)
    model = asked(LaptimeModel(pretrained=loaded("llava_next"), policy=str(tmp_path), budget_ms="70000"))
    assert len(model.generate_until(requests(2))) == 2
    assert [one.in_time for one in model.answers] == [True, True]
    assert [(one.fits, one.factor) for one in model.answers] == [(True, 1.0)] * 2
    assert model.adaptive is not None
    assert model.adaptive.online is not None
    assert model.adaptive.online.issued == 2, "answers correct the bounds of later ones, unasked"
    as_calibrated = LaptimeModel(
        pretrained=loaded("llava_next"), policy=str(tmp_path), budget_ms="70000", online="false"
    )
    assert as_calibrated.adaptive is not None
    assert as_calibrated.adaptive.online is None
