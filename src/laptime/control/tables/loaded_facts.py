"""What a loaded model is, as policies and bounds remember it."""

from __future__ import annotations

from laptime.control.tables.decision_table import ModelFacts
from laptime.models.anatomy import find_anatomy
from laptime.models.loading import Loaded


def facts_of(loaded: Loaded) -> ModelFacts:
    """Its kind, its blocks, its experts and its own top-k."""
    anatomy = find_anatomy(loaded.model)
    experts = anatomy.experts
    return ModelFacts(
        name=loaded.name,
        kind=loaded.model.config.model_type,
        blocks=len(anatomy.layers),
        experts=experts.count if experts is not None else None,
        top_k=experts.top_k if experts is not None else None,
    )
