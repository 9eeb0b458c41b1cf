"""torchvision as names only: its builds don't match the CPU build of torch, and Pillow makes the pixels here.

`give` puts it where `import torchvision` finds it. It has the operators that an image of the right size needs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from enum import Enum


def give() -> None:
    """Make `import torchvision` find the names."""
    sys.meta_path.insert(0, _Finder())


class _Modes(Enum):
    """Interpolation modes by their public names."""

    NEAREST, NEAREST_EXACT, BILINEAR = "nearest", "nearest-exact", "bilinear"
    BICUBIC, BOX, HAMMING, LANCZOS = "bicubic", "box", "hamming", "lanczos"


class _Absent(types.ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "functional":
            return importlib.import_module(f"{self.__name__}.{name}")
        return _Modes if name == "InterpolationMode" else type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" or name.startswith("torchvision."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = _Absent(spec.name)
        module.__path__ = []
        if spec.name == "torchvision":
            module.__version__ = "0.28.0"
        return module

    def exec_module(self, module):
        if module.__name__ == "torchvision.transforms.v2.functional":
            _give_operators(module)


def _give_operators(module: types.ModuleType) -> None:
    """The operators that an image of the right size needs."""
    import numpy
    import torch

    def normalize(pixels, mean, std, inplace=False):
        return (pixels.float() - torch.as_tensor(mean).view(-1, 1, 1)) / torch.as_tensor(std).view(-1, 1, 1)

    def crop(pixels, top, left, height, width):
        return pixels[..., top : top + height, left : left + width]

    module.pil_to_tensor = lambda image: torch.from_numpy(numpy.array(image)).permute(2, 0, 1).contiguous()
    module.resize = lambda pixels, size, **_: pixels
    module.center_crop = lambda pixels, size, **_: pixels
    module.normalize, module.crop = normalize, crop
