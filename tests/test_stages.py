"""What names every stage by hand (styles, titles, colours, choices, the glossary) names those of data/record.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from laptime.cli.options import Stage
from laptime.comparisons.comparison import CHOICES
from laptime.data.record import STAGES, StageTimes
from laptime.engines import life
from laptime.report.profile import perfetto
from laptime.report.profile.terminal import STAGE_STYLES
from laptime.report.sweep.words import STAGE_TITLES

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "src/laptime/report"


def test_a_samples_times_are_its_stages_and_their_total():
    assert {field.removesuffix("_ms") for field in StageTimes.__struct_fields__} == {*STAGES, "total"}


def test_a_verdict_can_be_asked_about_every_stage():
    assert tuple(stage.value for stage in Stage) == CHOICES
    assert all(stage.name == stage.value for stage in Stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_style_title_colour_and_meaning(stage):
    assert stage in STAGE_STYLES
    assert stage in STAGE_TITLES
    assert stage in perfetto._COLOURS
    frame = (PAGES / "kit/page.css").read_text()
    assert len(re.findall(rf"--{stage}: #", frame)) == 2  # light and dark
    assert re.search(rf"^\.{stage} \{{", frame, re.MULTILINE)
    assert f".in-{stage} " in (PAGES / "profile/page.css").read_text()
    assert re.search(rf"^\| {stage} \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)


def test_no_stage_of_a_face_is_one_that_there_is_not():
    figures = {"total", "ttft", "tpot", "decode_per_token"}
    assert set(STAGE_STYLES) - {*STAGES, *figures} == set()
    assert set(STAGE_TITLES) - {*STAGES, *figures} == set()
    assert set(perfetto._COLOURS) == set(STAGES)
    assert set(life.STAGE_OF.values()) <= {*STAGES, None}
