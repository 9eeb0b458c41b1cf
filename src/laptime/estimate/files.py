"""An estimator as a folder: JSON, Parquet and LightGBM text. Nothing is unpickled, nothing in it is trusted.

    estimator.json     schema laptime.estimator/1: card, domain, roofline terms, processes; a hash of each other file
    residuals.parquet  question, residual: the scaled log ratios of held-out rows
    trees-*.txt        one LightGBM text for each regressor that has trees

The same estimator always gives the same bytes, and a folder is replaced whole or not at all. A damaged, foreign or
hostile folder is a LaptimeError that names the file: hashes are compared first, then every number, length and index is
checked before it is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from laptime.data.file_kinds import what_it_is
from laptime.data.files import check_new_folder, whole_folder
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.learn.conformal import CalibratedRegressor
from laptime.estimate.learn.domain import Domain
from laptime.estimate.learn.fitting import FitSettings, Fitted
from laptime.estimate.learn.folds import QUESTIONS, Question
from laptime.estimate.learn.growth import Growth
from laptime.estimate.learn.known_groups import Known
from laptime.estimate.learn.named_numbers import NamedNumbers
from laptime.estimate.learn.process import Process
from laptime.estimate.learn.regressors import Candidate, Clamp, Regressor
from laptime.estimate.learn.surroundings import Places, Surroundings
from laptime.estimate.learn.terms import Terms
from laptime.estimate.learn.trees import Trees, parse, write
from laptime.estimate.saved_checks import (
    check_clamps,
    check_domain,
    check_growth,
    check_known,
    check_marks,
    check_named,
    check_places,
    check_process,
    check_terms,
    check_work,
)
from laptime.estimate.table.table import Schema

FORMAT = "laptime.estimator/1"
MANIFEST = "estimator.json"
RESIDUALS = "residuals.parquet"
MOST_BYTES = 256 * 1024 * 1024


class _Settings(msgspec.Struct, frozen=True):
    """The arguments of `Estimator`."""

    target: str
    features: list[str]
    categorical: list[str]
    group: list[str]
    seed: int


class _SavedRegressor(msgspec.Struct, frozen=True):
    question: Question
    candidate: Candidate
    middle: float
    terms: Terms | None
    process: Process | None
    trees: str | None
    clamps: list[Clamp]
    spread: float
    residuals: int
    most: float | None = None
    growth: Growth | None = None
    around: Places | None = None
    checked: float | None = None
    checked_of: dict[str, float] = {}


class _Manifest(msgspec.Struct, frozen=True):
    schema: str
    settings: _Settings
    columns: Schema
    domain: Domain
    group_names: list[str]
    known: Known
    answers: list[_SavedRegressor]
    card: ModelCard
    files: dict[str, str]
    """sha256 of each other file."""
    marks: list[int] = []
    """Of some of the rows it was fitted on: hashes (laptime.estimate.table.row_marks)."""
    named: list[NamedNumbers] = []


class _SchemaOnly(msgspec.Struct):
    schema: str = ""


def save_estimator(fitted: Fitted, settings: FitSettings, folder: Path) -> None:
    """Write an estimator's files into an empty folder. Raises OSError."""
    contents: dict[str, bytes] = {RESIDUALS: _residual_bytes(fitted)}
    answers = []
    for question, calibrated in fitted.by_question.items():
        regressor, name = calibrated.regressor, None
        if regressor.trees is not None:
            content = regressor.trees.text.encode()
            name = f"trees-{hashlib.sha256(content).hexdigest()[:16]}.txt"
            contents[name] = content
        answers.append(
            _SavedRegressor(
                question,
                regressor.candidate,
                regressor.middle,
                regressor.terms,
                regressor.process,
                name,
                regressor.clamps,
                calibrated.spread,
                len(calibrated.residuals),
                calibrated.most,
                calibrated.growth,
                None if calibrated.around is None else calibrated.around.places,
                calibrated.checked,
                calibrated.checked_of,
            )
        )
    manifest = _Manifest(
        FORMAT,
        _Settings(settings.target, settings.features, settings.categorical, settings.group, settings.seed),
        fitted.schema,
        fitted.domain,
        fitted.group_names,
        fitted.known,
        answers,
        fitted.card,
        {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        fitted.marks,
        fitted.named,
    )
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def check_estimator_folder(folder: Path, *, force: bool) -> None:
    """Raise LaptimeError if this folder may not be written: it is there without `force`, or holds something else.

    Even with `force` only what `fit` writes is replaced: an estimator, or a folder of estimators and nothing else.
    """
    check_new_folder(folder, (MANIFEST,), force=force)


@contextmanager
def estimator_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """A new folder to save into; it takes the place of `folder` when the block ends without an error."""
    check_estimator_folder(folder, force=force)
    with whole_folder(folder, (MANIFEST,), force=force) as new:
        yield new


def load_estimator(folder: Path) -> tuple[FitSettings, Fitted]:
    """Read an estimator's folder. Raises LaptimeError as this file's docstring says."""
    file = folder / MANIFEST
    raw = _read(folder, MANIFEST)
    try:
        schema = msgspec.json.decode(raw, type=_SchemaOnly).schema
        if schema != FORMAT:
            raise LaptimeError(f"{file}: schema {schema[:60]!r}, this laptime reads {FORMAT}; fit the estimator again")
        manifest = msgspec.json.decode(raw, type=_Manifest)
    except DAMAGE as error:
        raise LaptimeError(f"{file}: not an estimator's description ({error}); fit it again") from error
    contents = {name: _checked_content(folder, name, digest) for name, digest in manifest.files.items()}
    if RESIDUALS not in contents:
        raise LaptimeError(f"{file}: names no {RESIDUALS}; fit the estimator again")
    residuals = _read_residuals(contents[RESIDUALS], folder / RESIDUALS)
    check_domain(manifest.domain, manifest.columns, str(file))
    check_known(manifest.known, manifest.columns, str(file))
    if manifest.columns.work is not None:
        check_work(manifest.columns.work, manifest.columns, str(file))
    by_question: dict[Question, CalibratedRegressor] = {}
    for saved in manifest.answers:
        by_question[saved.question] = _calibrated(saved, manifest, contents, residuals, folder)
    check_marks(manifest.marks, str(file))
    check_named(manifest.named, len(manifest.columns.numeric), str(file))
    if missing := sorted(set(QUESTIONS) - set(by_question)):
        raise LaptimeError(f"{file}: has no answer for {', '.join(missing)}; fit it again")
    saved_settings = manifest.settings
    settings = FitSettings(
        target=saved_settings.target,
        features=saved_settings.features,
        categorical=saved_settings.categorical,
        group=saved_settings.group,
        work=manifest.columns.work,
        seed=saved_settings.seed,
    )
    fitted = Fitted(
        schema=manifest.columns,
        domain=manifest.domain,
        group_names=manifest.group_names,
        known=manifest.known,
        by_question=by_question,
        card=manifest.card,
        marks=manifest.marks,
        named=manifest.named,
    )
    return settings, fitted


def _calibrated(
    saved: _SavedRegressor, manifest: _Manifest, contents: dict[str, bytes], residuals: Residuals, folder: Path
) -> CalibratedRegressor:
    file = str(folder / MANIFEST)
    numeric = len(manifest.columns.numeric)
    categories = len(manifest.columns.categorical) if saved.candidate.categories else 0
    if saved.terms is not None:
        check_terms(saved.terms, len(manifest.columns.sizes), categories, file)
    if saved.process is not None:
        check_process(saved.process, numeric, categories, file)
    trees = None
    if saved.trees is not None:
        if saved.trees not in contents:
            raise LaptimeError(f"{file}: names {saved.trees[:60]!r}, but no such file; fit the estimator again")
        where = str(folder / saved.trees)
        try:
            text = contents[saved.trees].decode("ascii")
        except UnicodeDecodeError:
            raise LaptimeError(f"{where}: not a LightGBM text; fit the estimator again") from None
        forest = parse(text, where)
        wanted = numeric + categories + (saved.candidate.residual == "guided")
        if forest.features != wanted:
            raise LaptimeError(f"{where}: has {forest.features} features, not {wanted}; fit the estimator again")
        trees = Trees.from_text(write(forest))
    check_clamps(saved.clamps, numeric, file)
    own = residuals.get((saved.question, None), np.empty(0))
    if len(own) != saved.residuals:
        raise LaptimeError(f"{folder / RESIDUALS}: {len(own)} residuals of {saved.question}, not {saved.residuals}")
    if not (math.isfinite(saved.spread) and saved.spread > 0 and math.isfinite(saved.middle)):
        raise LaptimeError(f"{file}: {saved.question} has a spread or a middle out of range; fit the estimator again")
    regressor = Regressor(
        candidate=saved.candidate,
        terms=saved.terms,
        process=saved.process,
        trees=trees,
        middle=saved.middle,
        clamps=saved.clamps,
    )
    inside = residuals.get((USUAL, None), residuals.get(("inside", None), np.empty(0)))
    floor = np.empty(0) if saved.question == "inside" else inside
    groups = {
        name: values for (asked, name), values in residuals.items() if asked == saved.question and name is not None
    }
    if saved.most is not None and not (math.isfinite(saved.most) and saved.most > 0):
        raise LaptimeError(f"{file}: {saved.question} has a widest bound out of range; fit the estimator again")
    if saved.growth is not None:
        check_growth(saved.growth, numeric, file)
    around = None
    if saved.around is not None:
        check_places(saved.around, numeric, len(manifest.columns.categorical), file)
        around = Surroundings(saved.around)
    known = [*([] if saved.checked is None else [saved.checked]), *saved.checked_of.values()]
    if not all(math.isfinite(one) and one >= 0 for one in known):
        raise LaptimeError(f"{file}: {saved.question} has a distance out of range; fit the estimator again")
    return CalibratedRegressor(
        regressor, own, saved.spread, floor, groups, saved.most, around, saved.growth, saved.checked, saved.checked_of
    )


Residuals = dict[tuple[str, str | None], Floats]
"""By question and group; None: of all groups."""
USUAL = "usual"
"""In the place of a question: residuals inside of one scale, where those of "inside" have scales of their own."""
_COLUMNS = {"question": pl.String, "group": pl.String, "residual": pl.Float64}


def _residual_bytes(fitted: Fitted) -> bytes:
    inside = fitted.by_question["inside"]
    usual = [] if inside.around is None else [(USUAL, fitted.by_question["level"].floor)]
    parts = [
        pl.DataFrame(
            {"question": [question] * len(values), "group": [group] * len(values), "residual": values}, _COLUMNS
        )
        for question, calibrated in fitted.by_question.items()
        for group, values in [(None, calibrated.residuals), *calibrated.groups.items()]
    ]
    parts += [
        pl.DataFrame({"question": [name] * len(values), "group": [None] * len(values), "residual": values}, _COLUMNS)
        for name, values in usual
    ]
    out = BytesIO()
    pl.concat(parts).write_parquet(out, compression="zstd")
    return out.getvalue()


def _read_residuals(content: bytes, file: Path) -> Residuals:
    try:
        frame = pl.read_parquet(BytesIO(content))
    except Exception as error:
        raise LaptimeError(f"{file}: not a Parquet file ({type(error).__name__}); fit the estimator again") from error
    if dict(frame.schema) != _COLUMNS:
        raise LaptimeError(f"{file}: its columns are not {', '.join(_COLUMNS)}; fit the estimator again")
    by_group: Residuals = {}
    for key, part in frame.partition_by("question", "group", as_dict=True, maintain_order=True).items():
        values: Floats = part["residual"].to_numpy()
        if not np.isfinite(values).all() or (np.diff(values) < 0).any():
            raise LaptimeError(f"{file}: residuals of {key[0]} are not finite and ascending; fit the estimator again")
        by_group[str(key[0]), None if key[1] is None else str(key[1])] = values
    return by_group


def _checked_content(folder: Path, name: str, digest: str) -> bytes:
    if name != RESIDUALS and not (name.startswith("trees-") and name.endswith(".txt") and name == Path(name).name):
        raise LaptimeError(f"{folder / MANIFEST}: names a file {name[:60]!r} that no estimator has; fit it again")
    content = _read(folder, name)
    if hashlib.sha256(content).hexdigest() != digest:
        raise LaptimeError(f"{folder / name}: was changed after it was saved; fit the estimator again")
    return content


def _read(folder: Path, name: str) -> bytes:
    file = folder / name
    try:
        if file.stat().st_size > MOST_BYTES:
            raise LaptimeError(f"{file}: larger than any estimator's file; fit the estimator again")
        return read_regular(file)
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise LaptimeError(f"{folder}: no such folder; name one that laptime fit wrote") from None
        mend = what_it_is(folder) or "name a folder that laptime fit wrote"
        raise LaptimeError(f"{folder} holds no estimator (no {name} there); {mend}") from None
    except (OSError, ValueError) as error:
        raise LaptimeError(f"{file}: can't be read ({error})") from error
