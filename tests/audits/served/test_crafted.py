"""Faults that were put into results of other programs are named, and sound results of each format have no finding."""

from __future__ import annotations

import random

import pytest
from benchmarks.crafted_served import SERVED, SOUND, ServedFault, llmperf, rows_of, vllm, write_result

from laptime.audits import audit

UNSEEN = {"vLLM: fewer connections than asked"}
"""Requests that wait inside the client, where TTFT counts from before: a slow server looks the same."""


def warned(folder, named) -> set[str]:
    return {f.code for f in audit(write_result(folder, named)).findings if f.severity != "info"}


@pytest.mark.parametrize("fault", [fault for fault in SERVED if fault.name not in UNSEEN], ids=lambda fault: fault.name)
def test_a_crafted_fault_is_named(tmp_path, fault: ServedFault):
    assert warned(tmp_path, fault.write(random.Random(2))) & set(fault.codes)


@pytest.mark.parametrize("make", SOUND)
def test_a_sound_result_has_no_warning(tmp_path, make):
    assert warned(tmp_path, make(random.Random(7))) == set()


def test_a_few_answers_in_one_chunk_are_a_stream(tmp_path):
    """A third of the answers fit one chunk: that says nothing of the others."""

    def short(place, row):
        if place % 3 == 0:
            row |= {"number_output_tokens": 3, "end_to_end_latency_s": row["ttft_s"] + 0.0002}

    assert "not-streamed" not in warned(tmp_path, llmperf(random.Random(1), short))


def test_one_empty_answer_of_many_is_a_warning_at_most(tmp_path):
    rows = rows_of(random.Random(3))
    rows["output_lens"][5], rows["itls"][5] = 0, []
    findings = {f.code: f.severity for f in audit(write_result(tmp_path, vllm(rows))).findings}
    assert findings.get("empty-answers") == "warning"


def test_as_many_at_once_as_asked_are_not_more(tmp_path):
    """Four workers, each of which sends its next request when its last one has ended."""
    rows = rows_of(random.Random(4))
    free = [0.0] * 4
    for n, (first, gaps) in enumerate(zip(rows["ttfts"], rows["itls"], strict=True)):
        worker = min(range(4), key=free.__getitem__)
        rows["start_times"][n] = free[worker]
        free[worker] += first + sum(gaps)
    assert "more-at-once" not in warned(tmp_path, vllm(rows, max_concurrency=4, request_rate="inf"))
    assert "more-at-once" in warned(tmp_path, vllm(rows, max_concurrency=3, request_rate="inf"))
