"""Pictures of FunnyBirds' scenes, taken from the page of the authors' own repository in a headless browser.

The page is served from the user's copy as it is, with a few lines before its script that keep hold of what it loads.
So one visit gives the picture of a scene and those without single parts or things, as soon as all is loaded.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import threading
import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from experiments.funnybirds.scenes import Scene
from interpnet.errors import DataError
from interpnet.support.io import read_object

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Of the page, how a scene is drawn: as a picture, or every part in a colour of its own.
PICTURE, PART_MAP = "default", "part_map"
_PATIENCE = 120_000  # milliseconds that a scene may take
_PAGE, _PARTS = Path("render/page.html"), Path("render/parts.json")
_SCRIPTS = Path("render/js/three.js-master/examples")
_NEEDED = (_PAGE, _PARTS, _SCRIPTS / "three.module.js", _SCRIPTS / "data/XAI/bird01.glb")
_FLAGS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
_FIELD = re.compile(r"<%- JSON\.stringify\((\w+)\) %>")
_SCRIPT = '<script type="module">'

# Runs before the page's script: meshes remember their files, the scene is kept, and loading has an end.
_KEEP = """<script type="module">
import * as THREE from "./three.module.js";
import { GLTFLoader } from "./jsm/loaders/GLTFLoader.js";
const load = GLTFLoader.prototype.load;
GLTFLoader.prototype.load = function (url, done, ...rest) {
  return load.call(this, url, (mesh) => { mesh.scene.userData.url = url; done(mesh); }, ...rest);
};
const add = THREE.Object3D.prototype.add;
THREE.Object3D.prototype.add = function (...things) {
  if (this.isScene) window.birdScene = this;
  return add.apply(this, things);
};
window.birdLoaded = new Promise((done) => { THREE.DefaultLoadingManager.onLoad = done; });
</script>
"""
# Frames are drawn when they are asked for; part maps have no mixed colours at their edges.
_ON_DEMAND = """
window.requestAnimationFrame = (frame) => { window.birdFrame = frame; return 1; };
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  window.birdCanvas = this;
  return context.call(this, kind, { ...options, antialias: !location.search.includes("part_map") });
};
"""
# The order in which meshes were loaded is chance: where two lie at one depth, their names decide.
_TAKE = """async ([hidden, patience]) => {
  const late = new Promise((_, no) => setTimeout(() => no(new Error("nothing loaded in time")), patience));
  await Promise.race([window.birdLoaded, late]);
  if (!window.birdFrame) throw new Error("the page drew nothing");
  const things = window.birdScene.children;
  let n = 0;
  const names = things.map((thing) => {
    if (thing.userData.url) return thing.userData.url.split("/").slice(-2)[0];
    return thing.isMesh && thing.geometry.parameters ? `object ${n++}` : "light";
  });
  const order = things.map((thing, i) => [`${names[i]} ${thing.position.x}`, thing]);
  order.sort((a, b) => (a[0] < b[0] ? -1 : 1));
  order.forEach(([, thing], rank) => thing.traverse((inner) => { inner.renderOrder = rank; }));
  return hidden.map((away) => {
    things.forEach((thing, i) => { thing.visible = !away.includes(names[i]); });
    window.birdFrame();
    return window.birdCanvas.toDataURL("image/png");
  });
}"""


def thing(k: int) -> str:
    """Return what the ``k``-th thing of the background is called where things are hidden."""
    return f"object {k}"


def read_parts(clone: Path) -> dict[str, list[dict[str, str]]]:
    """Return the forms of each part; a folder that is no copy of the authors' repository is a DataError."""
    missing = [str(name) for name in _NEEDED if not (clone / name).is_file()]
    if missing:
        raise DataError(
            f"clone is {str(clone)!r}, which has no {missing[0]}; expected a copy of FunnyBirds' repository: "
            "git clone https://github.com/visinf/funnybirds"
        )
    return read_object(clone / _PARTS)


@dataclass(frozen=True)
class Camera:
    """An open browser that takes pictures of scenes, ``drawn`` pixels high and wide, handed on with ``size``."""

    page: Any
    address: str
    size: int

    def take(self, scene: Scene, mode: str, hidden: Sequence[Collection[str]] = ((),)) -> list[Image.Image]:
        """Return the scene's picture for each collection of hidden things: ``()``, ``("beak",)``, ``(thing(0),)``."""
        from playwright.sync_api import Error

        fields = {name: value for name, value in scene.items() if name != "class_idx"}
        query = urllib.parse.urlencode({"render_mode": mode, **fields})
        try:
            self.page.goto(f"{self.address}/page?{query}", timeout=_PATIENCE)
            shots = self.page.evaluate(_TAKE, [[list(names) for names in hidden], _PATIENCE])
        except Error as error:
            raise DataError(
                f"the browser could not draw a scene: {str(error).splitlines()[0]}; it needs WebGL, in software "
                f"(flags {' '.join(_FLAGS)}): try another --browser"
            ) from error
        # Colours of a part map are names of parts, which have no mean.
        how = Image.Resampling.NEAREST if mode == PART_MAP else Image.Resampling.BICUBIC
        files = [io.BytesIO(base64.b64decode(shot.partition(",")[2])) for shot in shots]
        return [Image.open(file).convert("RGBA").resize((self.size, self.size), how) for file in files]


@contextmanager
def camera(clone: Path, *, drawn: int, size: int, browser: str | None) -> Iterator[Camera]:
    """Serve the page of a copy of the repository, and open a browser on it; both are closed afterwards."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise DataError(
            "the package playwright drives the browser and is not installed; pip install playwright"
        ) from error
    program = browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None or shutil.which(program) is None:
        raise DataError(
            f"browser is {browser!r}, and no such program was found; expected Chromium or Chrome, found by itself as "
            f"{', '.join(BROWSERS)}: install one, or give its path with --browser"
        )
    read_parts(clone)
    with _served(clone) as address, sync_playwright() as player:
        try:
            opened = player.chromium.launch(executable_path=shutil.which(program), args=list(_FLAGS))
        except Error as error:
            raise DataError(f"browser {program!r} did not start: {str(error).splitlines()[0]}") from error
        try:
            page = opened.new_page(viewport={"width": drawn, "height": drawn})
            # The page asks a server for what every browser of today has.
            page.route(lambda url: not url.startswith(address), lambda route: route.abort())
            page.add_init_script(_ON_DEMAND)
            yield Camera(page, address, size)
        finally:
            opened.close()


@contextmanager
def _served(clone: Path) -> Iterator[str]:
    handler = partial(_Handler, page=(clone / _PAGE).read_text(encoding="utf-8"), directory=str(clone / _SCRIPTS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(SimpleHTTPRequestHandler):
    """The repository's page with its fields filled in, as its own server does, and its scripts and meshes."""

    def __init__(self, *arguments: Any, page: str, **options: Any) -> None:
        self._text = page
        super().__init__(*arguments, **options)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def list_directory(self, path: Any) -> None:
        """Refuse folders: a part without a file is absent."""
        del path
        self.send_error(404)

    def do_GET(self) -> None:
        """Send the page or a file."""
        url = urllib.parse.urlsplit(self.path)
        if url.path != "/page":
            super().do_GET()
            return
        fields = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        text = _FIELD.sub(lambda match: json.dumps(fields.get(match[1], "")), self._text)
        body = text.replace(_SCRIPT, _KEEP + _SCRIPT, 1).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
