"""COCO's captions and image lists: every image is asked to be described, its captions are the answers. No torch.

The files of cocodataset.org as they are: captions_val2017.json, val2017/000000000139.jpg. Lin et al., ECCV 2014; Chen
et al., arXiv 1504.00325.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import Example, decode, pick, read_bytes
from laptime.workload.image_folder import coco_names, image_folder

QUESTION = "Describe this image in one sentence."


class _ImageEntry(msgspec.Struct, frozen=True, gc=False):
    """One image of the list."""

    id: int
    file_name: str | None = None


class _CaptionEntry(msgspec.Struct, frozen=True, gc=False):
    """One annotation; those of other files than captions (boxes, key points) have none."""

    image_id: int
    caption: str | None = None


class _CaptionFile(msgspec.Struct, frozen=True):
    """A file of cocodataset.org."""

    images: list[_ImageEntry]
    annotations: list[_CaptionEntry] = []


def read_coco(
    file: Path, *, images: Path | None = None, samples: int | None = None, seed: int = 0, question: str = QUESTION
) -> list[Example]:
    """One example an image, in the file's order, `samples` of them (laptime.workload.example); its id is the image's.

    images: the folder; unless given, the file's name from its last underscore on (val2017), `images` or the file's own
    folder, there or one above.

    Raises LaptimeError that names file and image: not this format, an id used twice, a caption of an unknown image, an
    image that isn't there.
    """
    listed = decode(read_bytes(file), _CaptionFile, str(file), "a COCO file of images and captions")
    if not listed.images:
        raise LaptimeError(f"{file}: lists no image; name a file with an entry in 'images'")
    captions: dict[int, list[str]] = {}
    for image in listed.images:
        if image.id in captions:
            raise LaptimeError(f"{file}: image id {image.id}: used twice; remove one")
        captions[image.id] = []
    for annotation in listed.annotations:
        if annotation.image_id not in captions:
            raise LaptimeError(f"{file}: an annotation of image id {annotation.image_id}, which 'images' doesn't list")
        if annotation.caption is not None:
            captions[annotation.image_id].append(annotation.caption)
    subset = file.stem.rpartition("_")[2]
    named = [subset, f"images/{subset}", "images", "."]
    first = [name for image in listed.images[: 1 if images else 100] for name in _names(image, subset)]
    folder = image_folder(file, images, [*named, *(f"../{name}" for name in named)], first)
    examples = []
    for image in pick(listed.images, [str(image.id) for image in listed.images], samples, seed):
        place, names = f"{file}: image id {image.id}", _names(image, subset)
        path = folder.find(names)
        if path is None:
            raise LaptimeError(
                f"{place}: no image {names[0]!r} in {folder.folder}; add it, or name the folder that holds it"
            )
        examples.append(Example(str(image.id), question, path, tuple(captions[image.id]), place))
    return examples


def _names(image: _ImageEntry, subset: str) -> list[str]:
    return [image.file_name] if image.file_name else coco_names(image.id, subset)
