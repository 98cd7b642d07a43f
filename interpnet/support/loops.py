"""A loader, data set or batch given for images: refused with the loop, or the part of it, to write."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from interpnet.errors import DataError


def refuse_batches(owner: Any, images: Any) -> None:
    """Raise :class:`DataError` where ``images``, which ``owner`` takes as a tensor, is what yields or holds them.

    Examples
    --------
    >>> def explain(model, images, interpretation): ...
    >>> refuse_batches(explain, [("images", "labels")])
    Traceback (most recent call last):
    ...
    interpnet.errors.DataError: images: a list came; explain() takes a Tensor (B, C, H, W), normalised as the
    model wants it. Of a loader: for images, labels in loader: explain(model, images, interpretation)
    """
    # Arrays and tensors, right or wrong, are looked at by checks that know more of them.
    if images is None or hasattr(images, "shape") or isinstance(images, str | bytes | type):
        return
    arguments = _call_of(owner)
    what = ""
    if isinstance(images, Mapping):
        key = next((name for name, value in images.items() if hasattr(value, "shape")), "image")
        what = f"Of a batch that is a dictionary: {arguments.replace('images', f'batch[{key!r}]', 1)}"
    elif isinstance(images, list | tuple) and images and all(len(getattr(x, "shape", ())) == 3 for x in images):
        what = f"Of single images: {arguments.replace('images', 'torch.stack(images)', 1)}"
    elif isinstance(images, list) and images and _is_item(images[0]):
        what = f"Of a data set: for image, label in data: {arguments.replace('images', 'image[None]', 1)}"
    elif isinstance(images, tuple):
        what = f"Of a batch: images, labels = batch; {arguments}"
    elif hasattr(images, "__getitem__") and not hasattr(images, "__iter__"):
        what = f"Of a data set: for image, label in data: {arguments.replace('images', 'image[None]', 1)}"
    elif hasattr(images, "__iter__"):
        what = f"Of a loader: for images, labels in loader: {arguments}"
    if what:
        raise DataError(
            f"images: a {type(images).__name__} came; {owner.__name__}() takes a Tensor (B, C, H, W), normalised as "
            f"the model wants it. {what}"
        )


def _is_item(value: Any) -> bool:
    """Whether it is one image with its label."""
    return isinstance(value, tuple) and bool(value) and len(getattr(value[0], "shape", ())) == 3


def _call_of(owner: Any) -> str:
    """Return a call of a function with the arguments that it needs."""
    parameters = inspect.signature(owner).parameters.values()
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if "images" not in needed:
        needed.append("images")
    return f"{owner.__name__}({', '.join(needed)})"
