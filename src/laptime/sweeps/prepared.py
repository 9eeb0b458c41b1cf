"""What a campaign is once a model and a device have answered for it (laptime.sweeps.prepare asks them). No torch."""

from __future__ import annotations

import msgspec

from laptime.data.record import Environment
from laptime.sweeps.plan import SweepPlan


class ModelSize(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of weights, and the work a prompt is: what a first guess at a sweep's time is made from."""

    dense_weights: int
    expert_weights: int
    vision_weights: int
    experts: int
    blocks: int
    prompt_widths: dict[str, int]  # config_id -> tokens of its prompt, the image's included


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known before the first worker starts."""

    plan: SweepPlan
    device: str
    gpus: int
    environment: Environment
    size: ModelSize


def encode_prepared(prepared: Prepared) -> bytes:
    """As bytes, to come from another process."""
    return msgspec.msgpack.encode(prepared)


def decode_prepared(raw: bytes) -> Prepared:
    """From bytes."""
    return msgspec.msgpack.decode(raw, type=Prepared)
