"""What lies beside images, and must not be opened, believed or waited for."""

import gzip
import io
import os
import random
import socket
import struct
import zlib

from PIL import Image

from tests.data.pictures import picture

MANY = 2**30  # bytes that a bomb holds
LARGEST = 2**31 - 1


def encoded(kind, image=None, **arguments):
    content = io.BytesIO()
    (image or picture()).save(content, kind, **arguments)
    return content.getvalue()


def png_of(*chunks):
    """A PNG of chunks: pairs of a name, and its contents or a false length."""
    found = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        if isinstance(content, int):
            found.append(struct.pack(">I", content) + kind)
            continue
        check = struct.pack(">I", zlib.crc32(kind + content))
        found.append(struct.pack(">I", len(content)) + kind + content + check)
    return b"".join(found)


def png_header(width=32, height=24):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


PNG_PIXELS = b"IDAT", zlib.compress((b"\0" + bytes(32 * 3)) * 24)
PNG_END = b"IEND", b""


def jpeg_with_scans(number, image=None):
    """A progressive JPEG, to which its last scan is added again and again."""
    content = encoded("JPEG", image, progressive=True)
    start, end = content.rindex(b"\xff\xda"), len(content) - 2
    added = number - content.count(b"\xff\xda")
    return content[:end] + content[start:end] * added + content[end:]


def patched(content, place, values):
    return content[:place] + values + content[place + len(values) :]


def tiff_of(entries, next_page=0):
    return (
        struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        + struct.pack("<I", next_page)
    )


def run_length_bmp(width, height):
    return (
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 1078)
        + struct.pack("<IiiHHIIii", 40, width, height, 1, 8, 1, 10, 0, 0)
        + struct.pack("<II", 256, 0)
        + bytes(1024)
        + b"\1\1\0\0"
    )


def contents():
    """Name of a file -> what is in it; none of them is to be read."""
    jpeg, gif, bmp = encoded("JPEG"), encoded("GIF"), encoded("BMP")
    size_of_jpeg = jpeg.index(b"\xff\xc0") + 5
    of_tiff = {256: 32, 257: 24, 258: 8, 259: 1, 262: 1, 273: 8, 278: 24}

    def tiff(others=None, next_page=0):
        values = {**of_tiff, 279: 768, **(others or {})}
        entries = [(tag, 4, 1, values[tag]) for tag in sorted(values)]
        return tiff_of(entries, next_page)

    tile = zlib.compress(bytes(12_000**2))
    bomb = encoded("PNG", Image.new("1", (15_000, 15_000)))
    return {
        "empty.jpg": b"",
        "page.jpg": b"<html><body>404</body></html>",
        "program.png": b"#!/bin/sh\nexit 1\n",
        "drawing.png": b'<?xml version="1.0"?><svg></svg>',
        "packed.png": gzip.compress(bytes(2**24)),
        "line\nbreak.png": b"no image",
        "n" * 240 + ".png": b"no image",
        "bomb.png": bomb,
        "header.png": bomb[:40],
        "larger.png": encoded("PNG", Image.new("1", (40_000, 40_000))),
        "bomb.gif": encoded("GIF", Image.new("P", (15_000, 15_000))),
        "bomb.tif": encoded(
            "TIFF", Image.new("1", (15_000, 15_000)), compression="group4"
        ),
        "run.bmp": run_length_bmp(30_000, 30_000),
        # Pillow fills its only row byte by byte.
        "row.bmp": run_length_bmp(2**27, 1),
        "largest.png": png_of(png_header(LARGEST, LARGEST), PNG_PIXELS),
        "nothing.png": png_of(png_header(0, 0), PNG_PIXELS, PNG_END),
        "text.png": png_of(png_header(), (b"tEXt", LARGEST)),
        "packed text.png": png_of(png_header(), (b"zTXt", LARGEST)),
        "any text.png": png_of(png_header(), PNG_PIXELS, (b"iTXt", LARGEST)),
        "palette.png": png_of(png_header(), (b"sPLT", LARGEST)),
        "measures.png": png_of(png_header(), (b"pCAL", LARGEST)),
        "largest.jpg": patched(jpeg, size_of_jpeg, b"\xff" * 4),
        "nothing.jpg": patched(jpeg, size_of_jpeg, bytes(4)),
        "scans.jpg": jpeg_with_scans(20_000, Image.new("RGB", (2_000, 2_000))),
        "largest.gif": patched(gif, 6, b"\xff" * 4),
        "largest.bmp": patched(bmp, 18, struct.pack("<ii", LARGEST, LARGEST)),
        "from below.bmp": patched(bmp, 18, struct.pack("<ii", 30_000, -30_000)),
        "circle.tif": tiff(next_page=8),
        "largest.tif": tiff({256: 2**32 - 1, 257: 2**32 - 1}),
        "longest.tif": tiff_of(
            [
                (tag, 4, 2**32 - 1 if tag in (258, 273) else 1, value)
                for tag, value in of_tiff.items()
            ]
        ),
        "channels.tif": tiff(
            {256: 4_000, 257: 4_000, 259: 8, 277: 200, 278: 4_000, 279: 0}
        ),
        "strips.tif": tiff_of(
            [
                (tag, 4, 10**6 if tag in (273, 279) else 1, value)
                for tag, value in {**of_tiff, 257: 10**6, 279: 110}.items()
            ]
        )
        + bytes(4 * 10**6),
        # A tile that is larger than the image.
        "tile.tif": tiff_of(
            [
                (tag, 4, 1, value)
                for tag, value in {
                    **{256: 32, 257: 24, 258: 8, 259: 8, 262: 1},
                    **{322: 12_000, 323: 12_000, 324: 150, 325: len(tile)},
                }.items()
            ]
        ).ljust(150, b"\0")
        + tile,
        "scans of large.jpg": jpeg_with_scans(
            100, Image.new("RGB", (11_585, 11_585))
        ),
        "largest.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0"
        + bytes(4)
        + b"\xff" * 6
        + bytes(8),
    }


def odd_images():
    """Name of a file -> what is in it: images, with much beside them."""
    exif = Image.Exif()
    exif[0x0112] = 77
    jpeg = encoded("JPEG")
    zeros = zlib.compress(bytes(MANY))
    marker = b"\xff\xe1\xff\xffExif\0\0MM\0*\xff\xff\xff\xff"
    return {
        "unknown way up.jpg": encoded("JPEG", exif=exif),
        "damaged way up.jpg": jpeg[:2]
        + marker.ljust(2**16 + 1, b"\0")
        + jpeg[2:],
        "unpacks.png": png_of(
            png_header(), (b"zTXt", b"a\0\0" + zeros), PNG_PIXELS, PNG_END
        ),
        "unpacks too.png": png_of(
            png_header(), (b"iCCP", b"a\0\0" + zeros), PNG_PIXELS, PNG_END
        ),
        "more.png": png_of(png_header(), (b"IDAT", zeros), PNG_END),
        "many scans.jpg": jpeg_with_scans(100),
        # A video behind a photo, and photos behind each other.
        "motion.jpg": jpeg + random.Random(0).randbytes(9_000_000),
        "burst.jpg": encoded("JPEG", progressive=True) * 20,
        "thumbnail.jpg": jpeg[:2]
        + b"\xff\xe1\x80\x00Exif\0\0"
        + (b"\xff\xda" * 500).ljust(2**15 - 8, b"\0")
        + jpeg[2:],
    }


def make(folder):
    """Writes all of them.

    Returns:
        (read, left_out): the names of those that are images, and of those that
        promise to be and are none.
    """
    links = {
        "device.jpg": "/dev/zero",
        "no device.jpg": "/dev/null",
        "chance.jpg": "/dev/random",
        "input.png": "/dev/stdin",
        "memory.png": "/proc/self/mem",
        "state.png": "/proc/self/status",
        # A regular file, it is said, in which to read waits for messages.
        "messages.png": "/proc/kmsg",
        "messages": "/proc/kmsg",
        "itself.png": folder / "itself.png",
        "nowhere.png": folder / "none.png",
    }
    for name, place in links.items():
        (folder / name).symlink_to(place)
    os.mkfifo(folder / "pipe.png")
    with open(folder / "sparse.jpg", "wb") as file:
        file.truncate(2**32)
    with socket.socket(socket.AF_UNIX) as listening:
        # The address of a socket is short.
        here = os.open(folder, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket.png")
        os.close(here)
    (folder / "folder.png").mkdir()
    (folder / "round").symlink_to(folder)
    none, images = contents(), odd_images()
    for name, content in {**none, **images}.items():
        (folder / name).write_bytes(content)
    others = {"pipe.png", "sparse.jpg", "socket.png"}
    return set(images), {*none, *links, *others} - {"messages"}
