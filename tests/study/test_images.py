"""Unusual and damaged image files: each is read by its rule or refused with its reason."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from study.images import BadImage, conform, decode_file, decode_files


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


def pixel(path) -> list[int]:
    array = decode_file(path)
    assert isinstance(array, np.ndarray), array
    assert array.dtype == np.uint8 and array.ndim == 3
    return array[0, 0].tolist()


def reason(path) -> str:
    result = decode_file(str(path))
    assert isinstance(result, BadImage), result.shape
    assert "\n" not in result.reason
    return result.reason


def test_modes_become_grey_or_rgb(tmp_path):
    size = (4, 3)
    assert pixel(save(tmp_path / "l.png", Image.new("L", size, 77))) == [77]
    assert pixel(save(tmp_path / "1.png", Image.new("1", size, 1))) == [255]
    assert pixel(save(tmp_path / "rgb.png", Image.new("RGB", size, (1, 2, 3)))) == [1, 2, 3]
    palette = Image.new("RGB", size, (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert pixel(save(tmp_path / "p.png", palette)) == [10, 200, 30]
    cmyk = pixel(save(tmp_path / "cmyk.tif", Image.new("CMYK", size, (255, 0, 0, 0))))
    assert cmyk == [0, 255, 255]
    assert decode_file(str(tmp_path / "l.png")).shape == (3, 4, 1)


def test_transparency_is_laid_on_white(tmp_path):
    assert pixel(save(tmp_path / "a.png", Image.new("RGBA", (2, 2), (200, 0, 0, 0)))) == [255, 255, 255]
    assert pixel(save(tmp_path / "b.png", Image.new("RGBA", (2, 2), (200, 0, 0, 255)))) == [200, 0, 0]
    assert pixel(save(tmp_path / "c.png", Image.new("LA", (2, 2), (0, 0)))) == [255]
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9])
    assert pixel(save(tmp_path / "d.png", palette, transparency=0)) == [255, 255, 255]


@pytest.mark.parametrize("value", [0, 257, 4096, 32768, 65535])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_rescaled(tmp_path, value, suffix):
    path = save(tmp_path / f"deep.{suffix}", Image.fromarray(np.full((2, 2), value, dtype=np.uint16)))
    assert pixel(path) == [round(value / 257)]


def test_floats_and_wide_integers(tmp_path):
    assert pixel(save(tmp_path / "f.tif", Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)))) == [128]
    assert "outside 0..1" in reason(save(tmp_path / "g.tif", Image.fromarray(np.full((2, 2), 2, dtype=np.float32))))
    wide = Image.fromarray(np.full((2, 2), 70000, dtype=np.int32))
    assert "more than 16 bits" in reason(save(tmp_path / "w.tif", wide))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_rotation_is_applied(tmp_path, suffix):
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise: white on top
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).convert("RGB").save(path, exif=exif)
    array = decode_file(str(path))
    assert array.shape == (16, 8, 3) and array[2, 4, 0] > 200 and array[13, 4, 0] < 50


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("webp", {"lossless": True}), ("tif", {})])
def test_several_frames_are_refused(tmp_path, suffix, options):
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (0, 100, 200)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert reason(path) == "animated or multi-page: 3 frames"


def test_a_phones_mpo_is_its_first_picture(tmp_path):
    path = tmp_path / "phone.jpg"
    Image.new("RGB", (8, 8), (255, 255, 255)).save(
        path, format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), (0, 0, 0))]
    )
    assert Image.open(path).format == "MPO"
    assert min(pixel(str(path))) > 250


def test_damaged_files_are_named(tmp_path):
    whole = tmp_path / "whole.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, quality=95)
    content = whole.read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(noise).save(tmp_path / "flip.png")
    png = bytearray((tmp_path / "flip.png").read_bytes())
    png[len(png) // 2] ^= 0xFF
    (tmp_path / "flip.png").write_bytes(png)
    assert "truncated" in reason(tmp_path / "cut.jpg")
    assert reason(tmp_path / "zero.png") == "empty file"
    assert "not an image" in reason(tmp_path / "text.png")
    assert reason(tmp_path / "flip.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    assert "link" in reason(tmp_path / "link.png") and "link" in reason(tmp_path / "self.png")


def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert reason(tmp_path / "pipe.png") == "not a regular file"


@pytest.mark.parametrize("side", [10_000, 40_000])
def test_decompression_bombs_are_not_decoded(tmp_path, side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    assert "decompression bomb" in decode_files([str(path)])[0].reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path):
    path = save(tmp_path / "a.png", Image.new("L", (2, 2)))
    os.chmod(path, 0)
    assert reason(path) == "Permission denied"


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (300, 100)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_image_size_keeps_the_centre(tmp_path, size, suffix):
    image = Image.new("L", size, 0)
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste(255, (left, top, left + side, top + side))
    array = decode_file(save(tmp_path / f"wide.{suffix}", image), 10)
    assert array.shape == (10, 10, 1) and array.min() > 220


def test_conform_converts_channels_and_size():
    grey = np.full((4, 8, 1), 90, dtype=np.uint8)
    assert conform(grey, (4, 8, 1)) is grey
    assert conform(grey, (4, 8, 3))[0, 0].tolist() == [90, 90, 90]
    colour = np.zeros((6, 6, 3), dtype=np.uint8)
    colour[..., 1] = 255
    assert conform(colour, (4, 8, 1)).shape == (4, 8, 1) and conform(colour, (4, 8, 1))[0, 0, 0] == 150


def test_threads_keep_the_order(tmp_path):
    paths = [save(tmp_path / f"{value}.png", Image.new("L", (2, 2), value)) for value in range(200)]
    many = paths * 6  # more than POOL_FROM
    assert [int(array[0, 0, 0]) for array in decode_files(many)] == [*range(200)] * 6


def test_postscript_is_refused_whatever_its_name(tmp_path):
    """Pillow would start Ghostscript to draw it."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    assert decode_file(str(tmp_path / "a.png")) == BadImage("not an image, or damaged")
