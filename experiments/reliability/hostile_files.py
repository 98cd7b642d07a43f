"""Images, names and files of weights made to do harm."""

from __future__ import annotations

import html
import io
import os
import pickle
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from experiments.common.tables import Line
from experiments.reliability.campaign import Campaign, Draw, verdict
from experiments.reliability.hostile_weights import HARMLESS, MARK, WEIGHTS
from experiments.reliability.processes import Ended, interpnet
from experiments.reliability.scene import Scene, make_scene, write_images


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _huge_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 999))
        + _chunk(b"IEND", b"")
    )


def _with_text(text: bytes) -> bytes:
    data = _encoded("PNG")
    return data[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(text)) + data[33:]


def _encoded(form: str, mode: str = "RGB", size: int = 12, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 4)).astype(np.uint8)
    image = Image.fromarray(pixels, "RGBA").convert(mode)
    text = io.BytesIO()
    image.save(text, form, **options)
    return text.getvalue()


#: Bytes of a training image by name; the run must refuse it by name, or read it.
IMAGES: dict[str, Callable[[Random], bytes]] = {
    "nothing": lambda _: b"",
    "noise": lambda r: r.randbytes(500),
    "text": lambda _: b"not an image",
    "a page": lambda _: b"<html><script>alert(1)</script></html>",
    "a picture of lines with a script": lambda _: (
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    ),
    "a bomb of 10^10 pixels": lambda _: _huge_png(100_000, 100_000),
    "2^31 pixels wide": lambda _: _huge_png(2**31 - 1, 1),
    "no pixels": lambda _: _huge_png(0, 0),
    "cut off": lambda r: _encoded("PNG")[: r.randrange(8, 300)],
    "a JPEG cut off": lambda r: _encoded("JPEG")[: r.randrange(8, 300)],
    "a flipped bit": lambda r: _flipped(_encoded("PNG"), r),
    "a JPEG with a flipped bit": lambda r: _flipped(_encoded("JPEG"), r),
    "a GIF named PNG": lambda _: _encoded("GIF"),
    "a TIFF named PNG": lambda _: _encoded("TIFF"),
    "PostScript": lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n",
    "PDF": lambda _: b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "a pickle": lambda _: pickle.dumps({"a": 1}),
    "grey with transparency": lambda _: _encoded("PNG", "LA"),
    "CMYK": lambda _: _encoded("JPEG", "CMYK"),
    "a palette": lambda _: _encoded("PNG", "P"),
    "one bit": lambda _: _encoded("PNG", "1"),
    "another size": lambda _: _encoded("PNG", size=31),
    "one pixel": lambda _: _encoded("PNG", size=1),
    "a text chunk of 50 MB": lambda _: _with_text(bytes(50_000_000)),
}


def _flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


#: Names of classes; ``/`` and NUL cannot be in a file name.
NAMES = [
    "<script>alert(1)<∕script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "'; alert(1); '",
    "</td></table>",
    "=1+1",
    "=cmd|' ∕C calc'!A0",
    "+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b31m",
    "a\nb",
    "a\rb",
    "\x07bell",
    "\x7f",
    "a\u202eb",
    "\u200b",
    "\u2028",
    "a" * 200,
    "🦆" * 40,
    "-",
    "--help",
    "~",
    " ",
    "  a  ",
    "a,b",
    'a"b',
    "a;b",
    "a|b",
    "$(touch ran.txt)",
    "`touch ran.txt`",
    "%s%n",
    "{a}",
    "{{a}}",
    "{% raw %}",
    "[red]x[/]",
    "[link=file:///]x[/link]",
    "a\\b",
    "con",
    "nul",
    ".hidden",
    "...",
    "*",
    "?",
    "[abc]",
    "é",
    "e\u0301",
    "İ",
    "ﬁ",
    "\ufeff",
    "\udcff\udcfe",
    "train",
    "test",
    "None",
    "nan",
    "0",
    "1e5",
    "true",
]


@dataclass
class Shared:
    """The scene."""

    scene: Scene


def prepare(where: Path) -> Shared:
    """Make the finished run."""
    scene = make_scene(where)
    return Shared(scene)


def attempt(shared: Shared, draw: Draw) -> Line:
    """Audit with one hostile file or name."""
    kinds: list[Callable[[Shared, Draw], Line]] = [image, image, name, name, weights, special]
    scene = shared.scene
    for old in ("run", "hostile"):
        shutil.rmtree(scene.where / old, ignore_errors=True)
    return kinds[draw.number % len(kinds)](shared, Draw(draw.campaign, draw.seed, draw.number // len(kinds)))


def _judge(what: str, scene: Scene, ended: Ended, names: tuple[str, ...] = ()) -> Line:
    if (scene.where / MARK).exists():
        (scene.where / MARK).unlink()
        return verdict(what, "code ran")
    if ended.fate not in {"done", "refused"}:
        return verdict(what, ended.fate, f"exit {ended.code}: {ended.err}")
    odd = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", ended.out + ended.err)
    if odd:
        return verdict(what, "not escaped", f"{odd[0]!r} on the terminal")
    run = scene.where / "run"
    for path in run.rglob("*.csv"):
        cells = re.findall(r'(?:^|,|\n)"?([^,"\n]*)', path.read_text(encoding="utf-8", errors="replace"))
        formula = next((cell for cell in cells if re.match(r"[=+@\t\r]|-(?![\d.]|$|inf)", cell)), None)
        if formula:
            return verdict(what, "not escaped", f"a cell {formula!r} in {path.relative_to(run)}")
    page = run / "report" / "index.html"
    if page.is_file():
        text = page.read_text(encoding="utf-8", errors="replace")
        for one in names:
            if any(letter in one for letter in "<>&\"'") and one in text and html.escape(one) != one:
                tags = re.findall(r"<(script|img src=x|/td></table)", one)
                if tags:
                    return verdict(what, "not escaped", f"{one!r} in the report")
    return verdict(what, ended.fate)


def image(shared: Shared, draw: Draw) -> Line:
    """Put a hostile image among the training images."""
    scene = shared.scene
    kind = draw.of(list(IMAGES))
    skip = draw.random.random() < 0.5
    shutil.copytree(scene.where / "data", scene.where / "hostile")
    (scene.where / "hostile" / "train" / "a" / "3.png").write_bytes(IMAGES[kind](draw.random))
    more = ["--on-bad-image", "skip"] if skip else []
    return _judge(f"an image: {kind} {' '.join(more)}", scene, interpnet(_audit(scene, *more), scene.where))


def _audit(scene: Scene, *more: str) -> list[str]:
    words = scene.audit("run", *more)
    words[2] = "imagefolder:hostile"
    return words


def name(shared: Shared, draw: Draw) -> Line:
    """Give a class, or an image, a hostile name."""
    scene = shared.scene
    hostile = draw.of(NAMES)
    what = draw.random.choice(["class", "image"])
    folder = scene.where / "hostile"
    names = ("a", "b", hostile)
    if what == "image":
        names = ("a", "b", "c")
    write_images(folder, names)
    if what == "image":
        for split in ("train", "test"):
            os.rename(folder / split / "a" / "0.png", folder / split / "a" / f"{hostile[:60]}.png")  # noqa: PTH104
    said = hostile.encode("unicode_escape", "surrogatepass").decode()[:60]
    return _judge(f"the name of a {what}: {said}", scene, interpnet(_audit(scene), scene.where), (hostile,))


def weights(shared: Shared, draw: Draw) -> Line:
    """Load a hostile file of weights."""
    scene = shared.scene
    kind = draw.of(list(WEIGHTS))
    path = WEIGHTS[kind](scene.where, draw.random)
    words = scene.audit("run", "--weights", path.name)
    ended = interpnet(words, scene.where)
    line = _judge(f"weights: {kind}", scene, ended)
    if line["verdict"] == "done" and kind not in HARMLESS:
        return verdict(f"weights: {kind}", "silent", "loaded")
    return line


def special(shared: Shared, draw: Draw) -> Line:
    """Put something that is no file, or a trap of links, among the images."""
    scene = shared.scene
    folder = scene.where / "hostile"
    shutil.copytree(scene.where / "data", folder)
    place = folder / "train" / "a" / "9.png"
    makers: dict[str, Callable[[], Any]] = {
        "a FIFO": lambda: os.mkfifo(place),
        "a folder named as an image": place.mkdir,
        "a link to itself": lambda: place.symlink_to(place.name),
        "a link to /dev/zero": lambda: place.symlink_to("/dev/zero"),
        "a link to /dev/stdin": lambda: place.symlink_to("/dev/stdin"),
        "a link to nowhere": lambda: place.symlink_to("nowhere"),
        "a link to the folder above": lambda: (folder / "train" / "a" / "up").symlink_to(".."),
        "a link to the root": lambda: (folder / "train" / "a" / "root").symlink_to("/proc/self"),
        "a link to another image": lambda: place.symlink_to("0.png"),
        "a file that may not be read": lambda: _sealed(place),
        "an empty class": (folder / "train" / "z").mkdir,
        "a hidden file": lambda: (folder / "train" / "a" / ".DS_Store").write_bytes(b"x"),
        "a deep folder": lambda: (folder / "train" / "a" / "/".join("abcdefgh" * 9)).mkdir(parents=True),
        "a socket": lambda: _socket(place),
    }
    kind = draw.of(list(makers))
    makers[kind]()
    more = ["--on-bad-image", "skip"] if draw.random.random() < 0.5 else []
    what = f"among the images: {kind} {' '.join(more)}"
    return _judge(what, scene, interpnet(_audit(scene, *more), scene.where, patience=60))


def _sealed(place: Path) -> None:
    place.write_bytes(b"x")
    place.chmod(0)


def _socket(place: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(place.parent)  # the path of a socket is short
        one.bind(place.name)
        os.chdir(here)


CAMPAIGN = Campaign("images, names and weights made to do harm", 300, prepare, attempt)
