"""Where tries happen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """world: artefacts of every kind, undamaged. folder: for the tries, in memory. keep: for what broke."""

    world: Path
    folder: Path
    keep: Path

    def empty(self, name: str) -> Path:
        """A new folder for one try."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place


def keep_copy(folder: Path, target: Path) -> None:
    """Copy a folder that broke something, but for what can't be copied."""

    def pipes(inside: str, names: list[str]) -> list[str]:
        return [name for name in names if not (Path(inside, name).is_file() or Path(inside, name).is_dir())]

    shutil.copytree(folder, target, symlinks=True, dirs_exist_ok=True, ignore=pipes)
