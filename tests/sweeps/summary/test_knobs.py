"""Which knobs vary, in what order, and which can't be separated."""

from __future__ import annotations

from laptime.sweeps.summary.knobs import ordered, varying


def test_values_in_order() -> None:
    assert ordered(["high", 4, None, "low", 2.5, "medium", True, 4, False]) == [
        None,
        False,
        True,
        2.5,
        4,
        "low",
        "medium",
        "high",
    ]
    assert ordered(["10-12", "4-8", "1-3"]) == ["1-3", "4-8", "10-12"]
    assert ordered(["1008x1008", "336x336"]) == ["336x336", "1008x1008"]


def test_only_what_varies_is_a_knob() -> None:
    knobs = varying([{"model": "m", "top_k": 2, "zeta": 1, "batch": 1}, {"model": "m", "top_k": 1, "zeta": 1}])
    assert knobs.levels == {"top_k": [1, 2]}  # batch says the same, and comes later
    assert knobs.tied == {"batch": "top_k"}
    assert varying([{"a": 1}]).levels == {}
    assert varying([]).levels == {}


def test_a_setting_that_another_one_determines_is_tied_to_it() -> None:
    configs = [
        {"tier": tier, "crops": crops, "image_size": size, "top_k": top_k}
        for tier, crops, size in (("low", "1-3", "a"), ("medium", "4-8", "b"), ("high", "9-15", "b"))
        for top_k in (None, 2)
    ]
    knobs = varying(configs)
    assert knobs.levels == {"tier": ["low", "medium", "high"], "top_k": [None, 2]}
    assert knobs.tied == {"crops": "tier", "image_size": "tier"}


def test_the_finer_knob_stays() -> None:
    configs = [{"tier": "low", "batch": 1}, {"tier": "low", "batch": 2}, {"tier": "high", "batch": 3}]
    knobs = varying(configs)
    assert knobs.levels == {"batch": [1, 2, 3]}
    assert knobs.tied == {"tier": "batch"}


def test_one_knob_at_a_time_ties_nothing() -> None:
    knobs = varying([{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}])
    assert knobs.levels == {"a": [1, 2], "b": [1, 2]}
    assert knobs.tied == {}


def test_true_is_not_one() -> None:
    knobs = varying([{"compile": True}, {"compile": 1}])
    assert len(knobs.levels["compile"]) == 2
    assert knobs.codes([{"compile": 1}])[0] != knobs.codes([{"compile": True}])[0]
