"""From a sweep's configuration to its plan, before anything is measured.

A model without weights (device meta) says what `auto` and `null` mean and which knobs it has. That takes seconds and
no GPU.
"""

from __future__ import annotations

import gc

import msgspec
import torch

from laptime.data.record import TIERS
from laptime.errors import LaptimeError
from laptime.measure.environment import describe
from laptime.models.anatomy import find_anatomy
from laptime.models.block_experts import own_experts
from laptime.models.block_importance import read_experts_file
from laptime.models.block_list import read_blocks, read_experts, written_blocks, written_experts
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from laptime.models.loading import PRESET_PREFIX, Loaded, check_decoder_only, load_model, resolve_device
from laptime.sweeps.block_choice import (
    MEASURED,
    POSITION,
    BlockChoice,
    choice_by_file,
    fewer_blocks,
    importance_source,
    measured_choice,
)
from laptime.sweeps.config import IMPORTANCE_WORDS, SweepConfig
from laptime.sweeps.grid import PlannedModel, SweepSettings, combinations, configurations, settings_of
from laptime.sweeps.plan import ModelSize, PreparedSweep, SweepPlan
from laptime.sweeps.questions import SweepQuestions, questions_for
from laptime.workload.image_budget import with_image_tokens

DEFAULT_ROUNDS = 3
QUESTIONS_TRIED = 4


def prepare(sweep_config: SweepConfig, *, with_weights: bool = True) -> PreparedSweep:
    """Resolve and check a sweep's configuration. Raises LaptimeError for whatever can't be measured.

    with_weights: measure how much each block matters, where the sweep leaves blocks out and nothing says which. A dry
    run doesn't, and its plan then doesn't say which blocks run.
    """
    device = resolve_device(sweep_config.device)
    loaded = load_model(
        sweep_config.model,
        device="meta",
        trust_remote_code=sweep_config.trust_remote_code,
        seed=sweep_config.seed,
    )
    check_decoder_only(loaded, "sweep")
    questions = questions_for(sweep_config)
    facts = _facts(sweep_config, loaded, device)
    chosen = _block_choice(sweep_config, loaded, facts, questions, device if with_weights else None)
    if chosen is not None:
        written = {blocks: written_blocks(active) for blocks, active in chosen.active.items()}
        facts = msgspec.structs.replace(facts, importance=chosen.source, active=written)
    grid = configurations(sweep_config, facts, TIERS)
    widths: dict[tuple[object, ...], int] = {}
    prompt_widths: dict[str, int] = {}
    checked: set[ModelKnobs] = set()
    for configuration in grid:
        settings = settings_of(configuration.config)
        knobs = knobs_of(settings)
        if knobs not in checked:
            check_knobs(loaded.model, knobs)
            checked.add(knobs)
        prompt_widths[configuration.config_id] = _width(loaded, settings, questions, widths)
    repeats = sweep_config.measure.repeats
    plan = SweepPlan(
        configs=grid,
        samples=questions.ids,
        repeats=repeats,
        rounds=min(sweep_config.measure.rounds or DEFAULT_ROUNDS, repeats * len(questions.ids)),
        seed=sweep_config.seed,
        sweep_config=sweep_config,
        agreement={} if chosen is None else chosen.agreement,
    )
    return PreparedSweep(
        plan=plan,
        device=str(device),
        gpus=torch.cuda.device_count() if device.type == "cuda" else 0,
        environment=describe(device),
        size=_size(loaded, prompt_widths),
    )


def knobs_of(settings: SweepSettings) -> ModelKnobs:
    """What one configuration changes in the model. Which blocks run is what the configuration says."""
    by_block = settings.experts is not None
    return ModelKnobs(
        crops=settings.crops,
        top_k=None if by_block else settings.top_k,
        experts=read_experts(settings.experts) if settings.experts is not None else None,
        blocks=settings.blocks,
        active=None if settings.active_blocks is None else read_blocks(settings.active_blocks),
        attention=settings.attention,
    )


def _block_choice(
    sweep_config: SweepConfig,
    loaded: Loaded,
    facts: PlannedModel,
    questions: SweepQuestions,
    device: torch.device | None,
) -> BlockChoice | None:
    """Which blocks run where some are left out; None where their position decides, or nothing is left out.

    device: where importance may be measured; None: nowhere.
    """
    source, numbers = importance_source(sweep_config), fewer_blocks(sweep_config, facts.blocks)
    if source not in IMPORTANCE_WORDS:
        return choice_by_file(loaded.model, source, numbers)
    if source == POSITION or not numbers:
        return None
    if device is None:
        return BlockChoice(MEASURED, {}, {})
    for blocks in numbers:
        check_knobs(loaded.model, ModelKnobs(blocks=blocks))
    first = settings_of(configurations(sweep_config, facts, TIERS)[0].config)
    try:
        return measured_choice(sweep_config, msgspec.structs.replace(first, batch=1), questions, device, numbers)
    finally:
        free(device)


def free(device: torch.device) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _size(loaded: Loaded, prompt_widths: dict[str, int]) -> ModelSize:
    anatomy = find_anatomy(loaded.model)
    everything = sum(p.numel() for p in loaded.model.parameters())
    experts = sum(p.numel() for name, p in loaded.model.named_parameters() if ".experts." in name)
    vision = 0 if anatomy.vision is None else sum(p.numel() for p in anatomy.vision.parameters())
    return ModelSize(
        dense_weights=everything - experts - vision,
        expert_weights=experts,
        vision_weights=vision,
        experts=0 if anatomy.experts is None else anatomy.experts.count or 0,
        blocks=len(anatomy.layers),
        prompt_widths=prompt_widths,
    )


def _width(
    loaded: Loaded, settings: SweepSettings, questions: SweepQuestions, widths: dict[tuple[object, ...], int]
) -> int:
    """The tokens of a prompt. It is really made, so what the processor or the context refuses is refused here."""
    what = (
        settings.image_size,
        settings.crops,
        settings.image_tokens_limit,
        settings.prompt_tokens,
        settings.new_tokens,
    )
    if what not in widths:
        one_row = msgspec.structs.replace(settings, batch=1)
        with applied(loaded.model, ModelKnobs(crops=settings.crops)):
            widths[what] = _first_width(loaded, one_row, questions)
    return widths[what]


def _first_width(loaded: Loaded, settings: SweepSettings, questions: SweepQuestions) -> int:
    """The prompt's tokens of the first question that the model can take; a few questions may be too long."""
    refused: list[LaptimeError] = []
    for sample_id in questions.ids[:QUESTIONS_TRIED]:
        try:
            return questions.inputs(loaded, settings, sample_id).prompt_tokens
        except LaptimeError as error:  # noqa: PERF203 - a few questions
            refused.append(error)
    raise refused[0]


def _facts(sweep_config: SweepConfig, loaded: Loaded, device: torch.device) -> PlannedModel:
    dtype = loaded.dtype
    if sweep_config.model.startswith(PRESET_PREFIX) and device.type == "cpu":
        dtype = torch.float32
    config = loaded.model.config
    anatomy = find_anatomy(loaded.model)
    return PlannedModel(
        is_vlm=loaded.is_vlm,
        dtype=str(dtype).removeprefix("torch."),
        attention=getattr(config, "_attn_implementation", None),
        top_k=None if anatomy.experts is None else anatomy.experts.top_k,
        blocks=len(anatomy.layers),
        compiles=device.type != "cpu",
        image_tokens=_allowed_image_tokens(sweep_config, loaded),
        experts=_experts(sweep_config, loaded),
    )


def _experts(sweep_config: SweepConfig, loaded: Loaded) -> dict[int, str]:
    """How many experts each block has by the sweep's file, for each top-k whose total it names.

    Raises LaptimeError for a file that doesn't fit the model, or that names the total of no top-k of the sweep.
    """
    if sweep_config.experts is None:
        return {}
    routed = sum(number > 0 for number in own_experts(loaded.model))
    named = read_experts_file(sweep_config.experts)
    asked = sorted({point["top_k"] for point in combinations(sweep_config)} - {None})
    chosen = {top_k: named[top_k * routed] for top_k in asked if top_k * routed in named}
    if not chosen:
        raise LaptimeError(
            f"{sweep_config.experts}: names totals of {', '.join(map(str, sorted(named)))} experts; a top_k of the "
            f"sweep times the {routed} blocks with experts must be one of them"
        )
    try:
        for numbers in chosen.values():
            check_knobs(loaded.model, ModelKnobs(experts=numbers))
    except LaptimeError as error:
        raise LaptimeError(f"{sweep_config.experts}: {error}") from None
    return {top_k: written_experts(numbers) for top_k, numbers in chosen.items()}


def _allowed_image_tokens(sweep_config: SweepConfig, loaded: Loaded) -> dict[int, int]:
    """What the family allows of each number of image tokens in the grid."""
    asked = {point["image_tokens"] for point in combinations(sweep_config)} - {None}
    return {number: with_image_tokens(loaded, number).image_tokens or number for number in sorted(asked)}
