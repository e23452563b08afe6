"""Whatever people hold as an image, in memory or as a name -> upright uint8 RGB pixels, in one way for every caller.

Pillow and torch are recognised without being imported: who holds one of their objects has imported them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detection.errors import BadImageError, MobileSSDError, quoted
from detection.images.decode import decode_image, on_white, read_image, upright

WAYS = "an image is a path, an address, bytes, a Pillow image, a numpy array or a torch tensor"
CHANNELS = (1, 2, 3, 4)  # grey, grey and alpha, RGB, RGBA


@dataclass(frozen=True)
class ImageInput:
    """An image as it was given, and how it is called.

    value: see `pixels_of`. color: the order of an array's channels. name: of its file or address, "" where it has none.
    frame, time: of a video's frame, its number and the seconds since the video began. named: whether somebody asked for
    this very image, and wants to hear of it where it cannot be read. kept: whether the value is still here.
    """

    value: Any
    color: str = "rgb"
    name: str = ""
    frame: int | None = None
    time: float | None = None
    named: bool = True
    kept: bool = True

    def pixels(self) -> np.ndarray:
        """uint8 RGB [H, W, 3], upright. Raises as `pixels_of`, and where the image was not kept."""
        if not self.kept:
            raise BadImageError("this image was not kept: give it, as in found.plot(image)")
        return pixels_of(self.value, self.color)

    def forgotten(self) -> ImageInput:
        """The same without the image that is held in memory."""
        return replace(self, value=None, kept=False)

    @property
    def in_memory(self) -> bool:
        """Whether the image itself is held here, and not only its name."""
        return not isinstance(self.value, (str, os.PathLike))


def pixels_of(value: Any, color: str = "rgb") -> np.ndarray:
    """One image of any kind -> uint8 RGB [H, W, 3].

    A path or an address is read (`read_image`). Bytes are the content of an image file. A Pillow image may have any mode;
    it is turned as its Exif says, as a file is. An array is [H, W] or [H, W, C]: grey, grey and alpha, RGB or RGBA
    (`color="bgr"`: BGR or BGRA, as OpenCV has them); a torch tensor [C, H, W], or [H, W, C] where only that makes sense.
    Numbers: uint8; uint16, all 16 bits used; other whole numbers from 0 to 255; floating-point from 0 to 1; bool.
    Transparent parts show white. An array of uint8 RGB comes back as it is, not copied.

    Raises BadImageError, one line, for what is no image: None, nothing (0 pixels), numbers out of range, other shapes.
    """
    if color not in ("rgb", "bgr"):
        raise MobileSSDError(f"color is rgb or bgr, not {quoted(color)}")
    if isinstance(value, (str, os.PathLike)):
        return read_image(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return decode_image(bytes(value))
    if value is None:
        raise BadImageError(
            "the image is None: cv2.imread and VideoCapture.read give that where they could not read; check the file "
            "or the camera"
        )
    if is_pillow(value):
        return _of_pillow(value)
    if is_tensor(value):
        array, channels_first = _numpy(value), True
    elif isinstance(value, np.ndarray):
        array, channels_first = value, False
    elif hasattr(value, "__array__"):
        array, channels_first = np.asarray(value), False
    else:
        raise BadImageError(f"{WAYS}, not {type(value).__name__}")
    return _rgb(_as_bytes(_channels_last(array, channels_first)), color)


def is_pillow(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_image(value: Any) -> bool:
    """Whether a value stands for one image, by its kind alone: no name, no list, no batch of images."""
    if isinstance(value, np.ndarray) or is_tensor(value):
        return value.ndim != 4 and str(value.dtype) != "object"
    if value is None or isinstance(value, (bytes, bytearray, memoryview)) or is_pillow(value):
        return True
    return hasattr(value, "read") or (hasattr(value, "__array__") and not isinstance(value, Sequence))


def address_or_pixels(one: ImageInput) -> Any:
    """What `detection.stream` takes: an address, which it fetches with many others at once; a path or the bytes of a file,
    which it decodes when there is memory for it; or the pixels."""
    if isinstance(one.value, (str, os.PathLike)):
        return os.fspath(one.value)
    return one.value if isinstance(one.value, bytes) and one.kept else one.pixels()


def _of_pillow(image: Any) -> np.ndarray:
    width, height = image.size
    if not width or not height:
        raise BadImageError(f"the image is empty ({height} x {width} pixels): check how it was cut out")
    orientation = image.getexif().get(274, 1)  # before anything is converted, which forgets it
    if image.mode.startswith("I;16"):
        pixels = _rgb(_as_bytes(np.asarray(image)[..., None]), "rgb")
    elif image.mode in ("I", "F"):
        raise BadImageError(f"a Pillow image of mode {image.mode} has no fixed range: convert it to L, I;16 or RGB")
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        pixels = on_white(np.asarray(image.convert("RGBA")))
    else:
        pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(upright(pixels, orientation))


def _numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return tensor.numpy()


def _channels_last(array: np.ndarray, channels_first: bool) -> np.ndarray:
    """[H, W, C] out of what came; BadImageError where it is no image."""
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if 0 in array.shape:
        raise BadImageError(f"the image is empty ({shape}): check the corners of the crop, and what the camera gave")
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and channels_first and array.shape[0] in CHANNELS:
        return array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] in CHANNELS:
        return array
    hint = ""
    if array.ndim == 3 and array.shape[0] in CHANNELS:
        hint = ": give [channels, height, width] as image.transpose(1, 2, 0)"
    elif array.ndim == 4:
        hint = ": a batch is given by itself, not in a list"
    raise BadImageError(
        f"an array [height, width, 1 to 4 channels] is an image, not one of {array.dtype} {shape}{hint}"
    )


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """The same as uint8. BadImageError for numbers out of range, and for what are no numbers."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)  # as a 16-bit file is read
    whole = array.dtype.kind in "iu"
    if not whole and array.dtype.kind != "f":
        raise BadImageError(f"an array of {array.dtype} is no image: it takes uint8, uint16, or float from 0 to 1")
    low, high = array.min(), array.max()
    most = 255 if whole else 1
    if not (low >= 0 and high <= most):  # also where there is a NaN
        kind = "whole numbers from 0 to 255" if whole else "floating-point numbers from 0 to 1"
        hint = "" if whole or not (low >= 0 and high <= 255) else ": divide by 255, or give uint8"
        raise BadImageError(f"an image of {array.dtype} has {kind}, not {low:g} to {high:g}{hint}")
    return array.astype(np.uint8) if whole else (array * 255).round().astype(np.uint8)


def _rgb(array: np.ndarray, color: str) -> np.ndarray:
    """RGB [H, W, 3] of uint8 [H, W, 1 to 4]."""
    channels = array.shape[2]
    if channels == 3:
        return array[..., ::-1] if color == "bgr" else array
    if channels == 1:
        return np.repeat(array, 3, axis=2)
    if channels == 2:
        return on_white(np.concatenate([np.repeat(array[..., :1], 3, axis=2), array[..., 1:]], axis=2))
    return on_white(array[..., [2, 1, 0, 3]] if color == "bgr" else array)
