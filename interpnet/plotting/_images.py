"""Pictures: heatmaps over images, enlarged images, and grids of pictures.

Images are float arrays ``(C, H, W)`` in [0, 1], as in torch; pictures are ``uint8 (h, w, 3)``, as
files want them. Torch tensors on the CPU are taken too, but torch itself is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from interpnet.errors import DataError
from interpnet.plotting.style import VERMILLION
from interpnet.support.checks import check_kinds, listed, real_array, shown, whole_number
from interpnet.support.io import atomic_path
from interpnet.support.types import Float32, Float64

Picture = npt.NDArray[np.uint8]

_DIM = 0.62  # how bright the picture stays under a map
_OPACITY = 0.88  # of the strongest value: the picture's edges remain visible through it
_LUMA = (0.299, 0.587, 0.114)
_OUTSIDE = 0.4  # how bright the picture stays outside of a region
_RIM = 96  # the part of a picture's side that a region's rim is wide
_HALF = 0.5


def _heatmap(heatmap: Any) -> Float64:
    array = real_array(heatmap, "heatmap", error=DataError).astype(np.float64)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"heatmap has shape {array.shape}; expected (H, W), one map at a time")
    if not np.isfinite(array).all():
        raise DataError("heatmap holds NaN or infinite values; expected finite ones. Check the model's activations")
    return array


def _image(image: Any) -> Float32:
    array = real_array(image, "image", error=DataError).astype(np.float32)
    if array.ndim != 3 or array.size == 0:
        raise DataError(f"image has shape {array.shape}; expected (C, H, W). Add an axis to a grey (H, W) image")
    # Read as (C, H, W), it would be shown as a strip of three pixels' width.
    if array.shape[-1] in {1, 3} and array.shape[0] not in {1, 3} and array.shape[0] > 4:
        raise DataError(f"image has shape {array.shape}, which looks like (H, W, C); expected (C, H, W): transpose it")
    if not np.isfinite(array).all():
        raise DataError("image holds NaN or infinite values; expected values in [0, 1]")
    low = float(array.min())
    high = float(array.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise DataError(
            f"image has values from {low:.3g} to {high:.3g}; expected [0, 1]. Undo the network's normalisation first"
        )
    return np.clip(array, 0, 1)


def _rgb(image: Float32) -> Float32:
    """Return (H, W, 3): grey repeated, RGB as it is, two channels as their mean, more as their first three."""
    if image.shape[0] == 2:
        image = image.mean(0, keepdims=True)
    if image.shape[0] == 1:
        image = np.repeat(image, 3, 0)
    return np.ascontiguousarray(np.moveaxis(image[:3], 0, -1))


def _target(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return the height and width of which the longer is ``size``, in the relation of ``shape``."""
    if size < 1:
        raise DataError(f"size={size}; expected at least 1 pixel")
    height, width = shape
    scale = size / max(shape)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize(array: Float32, height: int, width: int, *, smooth: bool = False) -> Float32:
    """Resize (H, W): pixels stay squares when enlarged (unless ``smooth``), and are averaged when shrunk."""
    from PIL import Image

    if array.shape == (height, width):
        return array
    how = Image.Resampling.NEAREST
    if smooth:
        how = Image.Resampling.BILINEAR
    elif height < array.shape[0] or width < array.shape[1]:
        how = Image.Resampling.BOX
    return np.asarray(Image.fromarray(array).resize((width, height), how), np.float32)


def enlarge(image: Any, size: int = 192) -> Picture:
    """Return an image as a picture whose longer side is ``size`` pixels, aspect kept.

    Small images are enlarged by nearest neighbour, so that a reader sees the pixels the network
    saw; large ones are shrunk by averaging. Of an image (C, H, W) in [0, 1] one channel is shown as grey, three as
    RGB, two as their mean, more by their first three. Other shapes and values are DataErrors.

    Examples
    --------
    >>> enlarge([[[0.0, 1.0]]], size=4)[..., 0].tolist()
    [[0, 0, 255, 255], [0, 0, 255, 255]]
    """
    check_kinds(enlarge, locals())
    rgb = _rgb(_image(image))
    height, width = _target(rgb.shape[:2], size)
    planes = [_resize(np.ascontiguousarray(rgb[..., c]), height, width) for c in range(3)]
    return _as_bytes(np.stack(planes, -1))


def outline(image: Any, inside: Any, size: int = 192) -> Picture:
    """Return an image as :func:`enlarge` does, dark outside of a region (H, W) of bools, whose rim is drawn.

    Examples
    --------
    >>> outline([[[1.0, 1.0, 1.0, 1.0]]], [[False, False, True, True]], size=4)[0, :, 2].tolist()
    [102, 102, 0, 255]
    """
    check_kinds(outline, locals())
    array = _image(image)
    region = real_array(inside, "inside", error=DataError)
    if region.shape != array.shape[1:] or region.dtype != np.bool_:
        raise DataError(f"inside is {region.dtype} of shape {region.shape}; expected bools of shape {array.shape[1:]}")
    picture = enlarge(array, size)
    within = _resize(region.astype(np.float32), *picture.shape[:2]) > _HALF
    inner = within
    for _ in range(max(1, size // _RIM)):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    picture[~within] = (picture[~within] * _OUTSIDE).astype(np.uint8)
    picture[within & ~inner] = [int(VERMILLION[i : i + 2], 16) for i in (1, 3, 5)]
    return picture


def is_blank(heatmap: Any) -> bool:
    """Return whether a map has nothing to show: all its values are zero.

    Examples
    --------
    >>> is_blank([[0.0, 0.0]]), is_blank([[0.0, 0.1]])
    (True, False)
    """
    return not bool(np.any(_heatmap(heatmap)))


def shared_scale(heatmaps: Iterable[Any]) -> tuple[float, float]:
    """Return ``(vmin, vmax)`` over several raw maps, to render them so that they can be compared.

    Examples
    --------
    >>> shared_scale([[[0.0, 2.0]], [[1.0, 5.0]]])
    (0.0, 5.0)
    """
    arrays = [_heatmap(h) for h in listed(heatmaps, "heatmaps", error=DataError)]
    if not arrays:
        raise DataError("no heatmap; expected at least one to take a scale from")
    # From zero at least, so that no signal is drawn as nothing.
    return min(0.0, *(float(a.min()) for a in arrays)), max(float(a.max()) for a in arrays)


def render(
    heatmap: Any,
    image: Any = None,
    *,
    size: int = 192,
    cmap: str = "inferno",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Picture:
    """Draw a heatmap (H, W) over a dimmed grey picture, the more opaque the stronger it is.

    A map without any signal gives just the dimmed picture: it is blank, not a flat colour that
    could be read as a result. Ask :func:`is_blank` to say so beside it. A shape that is no single map or image,
    non-finite values, ``vmax`` not above ``vmin``, and an unknown colour map are DataErrors.

    Parameters
    ----------
    image : (C, H, W) array, float in [0, 1], optional
        The picture below, whose size the map is resampled to; without it the map is drawn alone.
    size : int
        Longer side of the result (h, w, 3), in pixels.
    cmap : str
        A matplotlib colour map; the default is perceptually uniform and safe for the colour-blind.
    vmin, vmax : float, optional
        Values drawn as nothing and as the strongest colour. By default the smaller of 0 and the
        map's minimum, and its maximum; for comparable maps give those of :func:`shared_scale`.

    Examples
    --------
    >>> render([[0.0, 1.0]], size=2).tolist()
    [[[0, 0, 4], [252, 255, 164]]]
    """
    check_kinds(render, locals())
    import matplotlib as mpl

    if cmap not in mpl.colormaps:
        raise DataError(f"unknown colour map {cmap!r}; expected one of matplotlib's, such as 'inferno' or 'cividis'")
    values = _heatmap(heatmap)
    low = min(0.0, float(values.min())) if vmin is None else float(vmin)
    high = float(values.max()) if vmax is None else float(vmax)
    if vmin is not None and vmax is not None and not high > low:
        raise DataError(f"vmin={vmin} and vmax={vmax}; expected vmin below vmax")
    level = np.zeros_like(values)
    if np.any(values) and high > low:
        level = np.clip((values - low) / (high - low), 0, 1)
    shape: tuple[int, ...] = values.shape
    if image is not None:
        picture = _rgb(_image(image))
        shape = picture.shape[:2]
    height, width = _target(shape, size)
    # Same size as the image: same squares. A coarser map (Grad-CAM's) has none worth showing.
    scaled = _resize(level.astype(np.float32), height, width, smooth=values.shape != shape)
    colours = np.asarray(mpl.colormaps[cmap](scaled)[..., :3], np.float64)
    if image is None:
        return _as_bytes(colours)
    grey = _resize((picture @ np.asarray(_LUMA, np.float32)).astype(np.float32), height, width)
    # The square root lifts weak values: a map's middle would hardly show.
    alpha = (_OPACITY * np.sqrt(scaled))[..., None]
    return _as_bytes((1 - alpha) * (_DIM * grey[..., None]) + alpha * colours)


def _as_bytes(values: np.ndarray) -> Picture:
    """Return values in [0, 1], or beyond by rounding, as uint8."""
    picture: Picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return picture


def tile(pictures: Sequence[Picture], columns: int, pad: int = 4, background: int = 255) -> Picture:
    """Put pictures (h, w, 3) into a grid, row by row, each in the middle of a cell as large as the largest.

    Between the cells are ``pad`` pixels; ``background`` is the grey value there and around smaller pictures.

    Examples
    --------
    >>> tile([np.zeros((2, 2, 3), np.uint8)] * 3, columns=2, pad=1).shape
    (5, 5, 3)
    """
    check_kinds(tile, locals())
    whole_number(background, "background", least=0, most=255)
    if not pictures or columns < 1 or pad < 0:
        raise DataError(f"{len(pictures)} pictures in {columns} columns, pad {pad}; expected at least 1, 1 and 0")
    for number, picture in enumerate(pictures):
        _require_picture(picture, f"picture {number}")
    height, width, _ = np.max([p.shape for p in pictures], axis=0)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + pad) - pad, columns * (width + pad) - pad, 3)
    grid = np.full(shape, background, np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top = row * (height + pad) + (height - picture.shape[0]) // 2
        left = column * (width + pad) + (width - picture.shape[1]) // 2
        grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def save_png(path: str | os.PathLike[str], picture: Picture, *, durable: bool = True) -> None:
    """Write a picture ``uint8 (h, w, 3)`` as a PNG file, whole or not at all; no place for it is a RunFolderError.

    ``durable=False`` is quicker, and may leave an empty file after a crash of the machine.
    """
    check_kinds(save_png, locals())
    from PIL import Image

    _require_picture(picture, "picture")
    with atomic_path(path, durable=durable) as tmp:
        Image.fromarray(picture).save(tmp, format="PNG")


def _require_picture(picture: Picture, name: str) -> None:
    if not isinstance(picture, np.ndarray):
        raise DataError(f"{name} is {shown(picture)}; expected uint8 (h, w, 3)")
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise DataError(f"{name} is {picture.dtype} {picture.shape}; expected uint8 (h, w, 3)")
