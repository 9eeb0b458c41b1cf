import msgspec
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.record import Sample, StageTimes, config_id
from tests.samples import environment, sample

NS = st.integers(min_value=0, max_value=10**12)


@given(NS, NS, NS | st.none(), NS)
def test_stages_close_to_the_nanosecond_whatever_their_size(vision, prefill, decode, other):
    total = vision + prefill + (decode or 0) + other
    stages = StageTimes.from_ns(vision=vision, prefill=prefill, decode=decode, total=total)
    assert stages.closes()
    assert round(stages.other_ms * 1e6) == other
    assert (stages.decode_ms is None) == (decode is None)
    assert msgspec.json.decode(msgspec.json.encode(stages), type=StageTimes).closes()


def test_closes_sees_a_nanosecond_too_many_and_a_negative_stage():
    assert not StageTimes(1.0, 2.0, 3.0, 4.000001, 10.0).closes()
    assert not StageTimes(1.0, 2.0, 8.0, -1.0, 10.0).closes()


def test_decode_per_token_divides_by_the_forwards_that_ran():
    assert sample(output_tokens=4, decode_forwards=3).decode_per_token_ms == 20.0
    assert sample(output_tokens=1, decode_forwards=0).decode_per_token_ms is None
    assert sample(output_tokens=4, decode_forwards=5, flags=["forwards-mismatch"]).decode_per_token_ms is None


def test_config_id_reads_meaning_not_order():
    assert config_id({"a": 1, "b": None, "c": "x"}) == config_id({"c": "x", "a": 1})
    assert config_id({"a": 1}) != config_id({"a": 2})


def test_a_sample_survives_json():
    before = sample(flags=["cold"], itl_ms=[1.5, 2.5])
    assert msgspec.json.decode(msgspec.json.encode(before), type=Sample) == before


def test_fingerprint_ignores_the_commit_but_not_the_machine():
    here = environment()
    assert here.fingerprint() == msgspec.structs.replace(here, git_commit="abc").fingerprint()
    assert here.fingerprint() != msgspec.structs.replace(here, cpu="other").fingerprint()
