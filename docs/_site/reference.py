"""The pages of the reference: one for each room, with every name that its face hands on."""

from __future__ import annotations

import ast
import zlib
from pathlib import Path


def lay_out(root: Path, place: Path) -> None:
    """Make a folder whose ``interpnet`` is the package as it is installed: ``pipelines`` is inside."""
    package = place / "interpnet"
    package.mkdir(parents=True, exist_ok=True)
    for link in package.iterdir():
        link.unlink()
    for path in (*(root / "interpnet").iterdir(), root / "pipelines"):
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)


def rooms(root: Path) -> dict[str, list[str]]:
    """Return the public names of every room, by its name: ``"interpnet.concepts": ["dissect", ...]``."""
    faces = {"interpnet": root / "interpnet"}
    for face in sorted((root / "interpnet").glob("*/__init__.pyi")):
        faces[f"interpnet.{face.parent.name}"] = face.parent
    faces["interpnet.errors"] = root / "interpnet" / "errors.py"
    faces["interpnet.pipelines"] = root / "pipelines"
    return {room: names_of(path) for room, path in faces.items()}


def names_of(path: Path) -> list[str]:
    """Return the names that a room's face, or a single file, makes public, in their order."""
    face = path if path.is_file() else path / "__init__.pyi"
    names = []
    for line in ast.parse(face.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.ImportFrom) and path.is_dir():
            names += [name.asname or name.name for name in line.names]
        elif isinstance(line, ast.ClassDef | ast.FunctionDef):
            names.append(line.name)
    return names


def origins(root: Path) -> dict[str, str]:
    """Return where each name of ``import interpnet as ip`` is documented: ``"audit": "interpnet.pipelines.audit"``."""
    found = {}
    for line in ast.parse((root / "interpnet" / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(line, ast.ImportFrom):
            room = f"interpnet.{line.module}" if line.module else "interpnet"
            found |= {name.asname or name.name: f"{room}.{name.name}" for name in line.names}
    return found


def pages(root: Path) -> dict[str, str]:
    """Return the text of every page of the reference, by its file's name."""
    listed = rooms(root)
    top = origins(root)
    made = {"index.md": _index(root, listed, top)}
    for room, names in listed.items():
        if room == "interpnet":
            continue
        parts = [f"# {room}\n", f"{_summary(root, room)}\n"]
        parts += [f"::: {room}.{name}\n" for name in names]
        made[f"{room.rpartition('.')[2]}.md"] = "\n".join(parts)
    return made


def _index(root: Path, listed: dict[str, list[str]], top: dict[str, str]) -> str:
    lines = ["# Reference", "", "Names of `import interpnet as ip`:", "", "| name | room |", "|---|---|"]
    for name, origin in top.items():
        room = origin.split(".")[1]
        if origin.count(".") == 1:
            lines.append(f"| [`ip.{name}`]({room}.md) | a room |")
        else:
            lines.append(f"| [`ip.{name}`][{origin}] | [{room}]({room}.md) |")
    lines += ["", "Rooms, each `interpnet.NAME`:", "", "| room | |", "|---|---|"]
    for room in list(listed)[1:]:
        short = room.rpartition(".")[2]
        lines.append(f"| [{short}]({short}.md) | {_summary(root, room)} |")
    return "\n".join(lines)


def _summary(root: Path, room: str) -> str:
    short = room.rpartition(".")[2]
    choices = (
        root / "interpnet" / short / "__init__.py",
        root / "interpnet" / f"{short}.py",
        root / short / "__init__.py",
    )
    path = next(path for path in choices if path.is_file())
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def missing(root: Path, inventory: Path) -> list[str]:
    """Return the public names without a place in the built site's list of objects."""
    raw = inventory.read_bytes()
    lines = zlib.decompress(raw.split(b"\n", 4)[4]).decode().splitlines()
    there = {line.split(" ", 1)[0] for line in lines}
    wanted = [f"{room}.{name}" for room, names in rooms(root).items() if room != "interpnet" for name in names]
    wanted += [origin for origin in origins(root).values() if origin.count(".") > 1]
    return sorted(set(wanted) - there)
