"""One image file to a uint8 array, and many of them quickly.

What is done to unusual files, so that two runs on two machines agree:
EXIF rotation is applied; transparency is laid on white; CMYK, palette, LAB … become RGB; 16-bit grey is divided by 257
(65535 → 255), never clipped; a float image must lie in 0..1; a file with several frames or pages is refused, since no
rule says which one is meant (a phone's MPO, a JPEG with a preview, is its first picture).
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from study.errors import EnvironmentProblem

MAX_PIXELS = 89_478_485  # Pillow's own limit for one image (a quarter of a GiB of RGB)
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
#: Read by Pillow's own code or by a codec. A file is opened by what it holds, not by its name, and of the formats that are
#: left out one starts a program (Ghostscript, for PostScript).
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "GIF")
ORIENTATION_TAG = 0x0112
CHUNK = 256
POOL_FROM = 1024  # files; below that starting workers costs more than it saves


@dataclass(frozen=True)
class BadImage:
    """Why a file cannot be used, in a few words."""

    reason: str


def decode_file(path: str, image_size: int = 0) -> np.ndarray | BadImage:
    """The image at ``path`` as uint8 (H, W, 1 or 3), or the reason why it cannot be had.

    ``image_size`` > 0: the shorter side is scaled to it and the centre cropped to image_size x image_size.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return BadImage("not a regular file")  # a named pipe would block for ever
        if status.st_size == 0:
            return BadImage("empty file")
        with Image.open(path, formats=FORMATS) as image:
            return _to_array(image, image_size)
    except UnidentifiedImageError:
        return BadImage("not an image, or damaged")
    except Image.DecompressionBombError:
        return BadImage("decompression bomb")
    except MemoryError:
        return BadImage("does not fit in memory")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return BadImage("dangling or looping link")
        return BadImage(_one_line(error.strerror or str(error)))
    except Exception as error:
        return BadImage(f"damaged: {_one_line(str(error)) or type(error).__name__}")


def _to_array(image, image_size: int) -> np.ndarray | BadImage:
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        return BadImage(f"decompression bomb: {image.width}x{image.height} pixels")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        return BadImage(f"animated or multi-page: {frames} frames")
    if image_size and image.format == "JPEG":
        image.draft(None, (2 * image_size, 2 * image_size))  # decode no more than twice of what is kept
    image.load()
    image = _upright(image)
    if image.mode in GREY_MODES and image.mode not in ("1", "L", "LA", "La"):
        grey = _deep_grey(np.asarray(image))
        if isinstance(grey, BadImage):
            return grey
        image = Image.fromarray(grey)
    colour = "L" if image.mode in GREY_MODES else "RGB"
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    if image.mode != colour:
        image = image.convert("RGB").convert(colour) if image.mode in ("LAB", "HSV") else image.convert(colour)
    if image_size and image.size != (image_size, image_size):
        image = _cover(image, image_size, image_size)
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def _upright(image):
    from PIL import ImageOps

    try:
        turned = image.getexif().get(ORIENTATION_TAG, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:
        return image


def _deep_grey(values: np.ndarray) -> np.ndarray | BadImage:
    """Grey of 16 bits (or of 32 bits or floats that hold no more) to 8 bits by one fixed scale for all images."""
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            return BadImage("float image outside 0..1")
        return np.rint(values * 255.0).astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        return BadImage("more than 16 bits per pixel")
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)


def _cover(image, height: int, width: int):
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)


def conform(array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """``array`` (h, w, 1 or 3) as ``shape`` (H, W, C): scaled to cover it, centre cropped, channels converted."""
    if array.shape == shape:
        return array
    from PIL import Image

    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if array.shape[:2] != shape[:2]:
        image = _cover(image, shape[0], shape[1])
    image = image.convert("L" if shape[2] == 1 else "RGB")
    result = np.asarray(image)
    return result[:, :, None] if result.ndim == 2 else result


def _decode_chunk(paths: Sequence[str], image_size: int) -> list[np.ndarray | BadImage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bombs are found by their size; damaged metadata is of no interest
        return _decode_plain(paths, image_size)


def decode_files(paths: Sequence[str], *, image_size: int = 0, processes: bool = False) -> list[np.ndarray | BadImage]:
    """``decode_file`` of every path, in order, on all cores.

    ``processes``: worker processes (for small files, where Python's own work counts); only where the main module can
    be imported again, as under ``python -m study.prepare``. Threads otherwise: Pillow decodes outside the GIL.
    """
    workers = os.cpu_count() or 1
    if workers == 1 or len(paths) < POOL_FROM:
        return _decode_chunk(paths, image_size)
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if processes:
        parts = _in_processes(workers, chunks, image_size)
    else:
        with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
            warnings.simplefilter("ignore")
            parts = list(pool.map(_decode_plain, chunks, [image_size] * len(chunks)))
    return [item for part in parts for item in part]


def _in_processes(workers: int, chunks: list[Sequence[str]], image_size: int) -> list[list[np.ndarray | BadImage]]:
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    try:
        # spawn, not fork: the same on every platform, and safe whatever threads libraries have started
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
            return list(pool.map(_decode_chunk, chunks, [image_size] * len(chunks)))
    except BrokenProcessPool:
        raise EnvironmentProblem("a process that decodes images was killed, as happens when memory runs out") from None


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end, at once and silently, when the one that started it has died (SIGKILL included)."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(130)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _decode_plain(paths: Sequence[str], image_size: int) -> list[np.ndarray | BadImage]:
    return [decode_file(path, image_size) for path in paths]  # warning filters belong to the process, not to a thread


def _one_line(text: str) -> str:
    return " ".join(text.split())[:120]
