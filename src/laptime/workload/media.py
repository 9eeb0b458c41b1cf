"""Images, videos and sounds from files, as a model's processor takes them. Local files only."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, ImageSequence
from scipy.signal import resample_poly

from laptime.errors import LaptimeError

MAX_FRAMES = 32
"""Of a longer video, so many frames are taken, evenly spaced."""

_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_PCM = {1: (np.uint8, 128.0, 128.0), 2: (np.int16, 0.0, 32768.0), 4: (np.int32, 0.0, 2147483648.0)}
"""Bytes of a sample -> its type, its zero, its range."""


def open_image(path: Path, place: str) -> Image.Image:
    """The image in RGB, upright as its camera says. Raises LaptimeError when the file is none."""
    try:
        with Image.open(path) as image:
            return _rgb(image)
    except _BROKEN as error:
        raise LaptimeError(f"{place}: {path} is no readable image: {_first(error)}") from None


def _rgb(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says, in 8-bit RGB. Pillow alone makes all of a 16-bit grey white."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or (upright.mode == "I" and image.format == "PNG"):
        values = np.asarray(upright).astype(np.int64) >> 8
        upright = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return upright.convert("RGB")


def open_video(path: Path, place: str) -> list[Image.Image]:
    """At most MAX_FRAMES frames in RGB: of a folder of images, an animated image, or a video file (by PyAV).

    Raises LaptimeError when it holds no frame, can't be read, or needs PyAV and there is none.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        if not files:
            raise LaptimeError(f"{place}: the folder {path} holds no frame; put the video's images into it")
        return [open_image(file, place) for file in _spread(files)]
    if path.suffix.lower() in (".gif", ".webp", ".png", ".apng"):
        try:
            with Image.open(path) as image:
                count = getattr(image, "n_frames", 1)
                wanted = set(_spread(list(range(count))))
                frames = enumerate(ImageSequence.Iterator(image))
                return [_rgb(frame) for number, frame in frames if number in wanted]
        except _BROKEN as error:
            raise LaptimeError(f"{place}: {path} is no readable animation: {_first(error)}") from None
    return _decoded(path, place)


def _decoded(path: Path, place: str) -> list[Image.Image]:
    try:
        import av
    except ImportError:
        raise LaptimeError(
            f"{place}: a video file needs PyAV (pip install av); or give a folder of frames, or a GIF"
        ) from None
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise LaptimeError(f"{place}: {path} is no readable video: {_first(error)}") from None
    if not frames:
        raise LaptimeError(f"{place}: {path} holds no video frame")
    return [frame.convert("RGB") for frame in _spread(frames)]


def open_sound(path: Path, rate: int, place: str) -> np.ndarray[Any, Any]:
    """The sound as one channel of float32 from -1 to 1, `rate` values a second.

    A WAV file of whole numbers is read as it is; others by soundfile where it is installed. Raises LaptimeError.
    """
    try:
        values, own_rate = _wav(path)
    except (wave.Error, EOFError, OSError, KeyError):
        values, own_rate = _by_soundfile(path, place)
    if not len(values):
        raise LaptimeError(f"{place}: {path} holds no sound")
    if own_rate != rate:
        common = np.gcd(own_rate, rate)
        values = resample_poly(values, rate // common, own_rate // common)
    return values.astype(np.float32)


def _wav(path: Path) -> tuple[np.ndarray[Any, Any], int]:
    with wave.open(str(path), "rb") as file:
        kind, zero, scale = _PCM[file.getsampwidth()]
        values = (np.frombuffer(file.readframes(file.getnframes()), dtype=kind).astype(np.float64) - zero) / scale
        return values.reshape(-1, file.getnchannels()).mean(axis=1), file.getframerate()


def _by_soundfile(path: Path, place: str) -> tuple[np.ndarray[Any, Any], int]:
    try:
        import soundfile
    except ImportError:
        raise LaptimeError(
            f"{place}: {path} is no WAV file of whole numbers; save it as one, or pip install soundfile"
        ) from None
    try:
        values, rate = soundfile.read(str(path), always_2d=True)
    except (RuntimeError, OSError) as error:
        raise LaptimeError(f"{place}: {path} is no readable sound: {_first(error)}") from None
    return values.mean(axis=1), int(rate)


def synthetic_sound(seconds: float, rate: int, seed: int) -> np.ndarray[Any, Any]:
    """A few gliding tones in noise, float32; equal seeds give equal sounds."""
    random = np.random.default_rng([seed, rate])
    at = np.arange(max(1, round(seconds * rate))) / rate
    tones = sum(np.sin(2 * np.pi * (f + 40 * at) * at) for f in random.uniform(100, 3000, 4))
    return (0.1 * tones + 0.05 * random.standard_normal(len(at))).astype(np.float32)


def _spread(items: list[Any]) -> list[Any]:
    """At most MAX_FRAMES of the items, evenly spaced, the first and the last among them."""
    if len(items) <= MAX_FRAMES:
        return items
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, MAX_FRAMES)]


def _first(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
