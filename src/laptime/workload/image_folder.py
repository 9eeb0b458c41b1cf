"""Where a data set's images lie: a folder, and how their files are named after the image ids. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from laptime.data.outside import is_there
from laptime.errors import LaptimeError


class ImageFolder:
    """One folder's file names, read once: asking the file system for each of 40,000 images would take seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with os.scandir(folder) as entries:
                self._names = {entry.name for entry in entries}
        except OSError as error:
            raise LaptimeError(f"{folder}: can't be read as a folder of images: {error.strerror}") from None

    def find(self, names: Iterable[str]) -> Path | None:
        """The first of these files that is there."""
        for name in names:
            if "/" in name:
                if is_there(self.folder / name) and (self.folder / name).is_file():
                    return self.folder / name
            elif name in self._names:
                return self.folder / name
        return None


def image_folder(file: Path, given: Path | None, candidates: Sequence[str], any_names: Sequence[str]) -> ImageFolder:
    """The folder that was given; else the first beside `file` that holds one of `any_names`.

    Raises LaptimeError that names the places tried.
    """
    if given is not None:
        return ImageFolder(given)
    tried = list(dict.fromkeys(file.parent / name for name in candidates))
    for folder in tried:
        if is_there(folder) and folder.is_dir() and (holder := ImageFolder(folder)).find(any_names) is not None:
            return holder
    places = ", ".join(str(folder) for folder in tried)
    raise LaptimeError(f"{file}: none of its images is in {places}; name the folder that holds {any_names[0]!r}")


def coco_names(image_id: int, subset: str | None) -> list[str]:
    """What COCO and VQA name an image's file: with its subset (2014, VQA), or by its number alone (2017)."""
    number = f"{image_id:012d}"
    named = [] if not subset else [f"COCO_{subset}_{number}.jpg", f"{subset}_{number}.png"]
    return [*named, f"{number}.jpg", f"{number}.png"]
