"""From a word on the command line to a network in evaluation mode, and what the manifest says about it."""

from __future__ import annotations

import http.client
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from interpnet.engine import check_runnable
from interpnet.errors import ModelError, did_you_mean
from interpnet.models._factory import code_digest, run_factory, split_factory_spec
from interpnet.models._fingerprint import fingerprint_model
from interpnet.models._fit import fit_weights
from interpnet.models._packaged import EFFICIENTNET_LITE0, IN_TIMM, PREPARED, efficientnet_weights
from interpnet.models._smallcnn import SmallCNN, load_smallcnn, smallcnn_extra
from interpnet.models._state_dicts import Weights
from interpnet.models._weights import WEIGHT_SUFFIXES, read_weights
from interpnet.support.checks import is_whole, whole_number
from interpnet.support.seed import seeded

_SPECS = f"'torchvision:NAME', 'timm:NAME', 'path/to/file.py:factory', '{EFFICIENTNET_LITE0}' or 'smallcnn'"
_PACKAGED = (None, "pretrained")  # the words for weights that lie in a package
_PACKAGED_OUTPUTS = 1000
_DOWNLOAD_ERRORS = (OSError, RuntimeError, http.client.HTTPException)

# torchvision's two families with auxiliary heads: they initialise slowly by default, and
# whether a file of weights holds the heads differs from file to file.
_AUXILIARY_HEADS = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


@dataclass(frozen=True)
class ModelInfo:
    """What a manifest records about a model; made by :func:`describe_model`."""

    spec: str
    weights: str | None  # None for the specification's default
    n_parameters: int
    fingerprint: str  # SHA-256 over the state dict: names, dtypes, shapes and bytes, in the names' order
    # For "file.py:factory", of its code: an edited network is another network even with the same weights.
    code: str | None
    output: str | None  # which entry of a tuple or dict that the model returns is the logits
    # How the weights' publisher prepares images, as load_dataset takes it (image_size, crop, mean, std, channels).
    preprocessing: Mapping[str, Any] | None


def load_model(
    spec: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """Load a network onto the CPU and put it, with all its submodules, in evaluation mode.

    A scripted model comes back as the factory made it. Unknown names, unreadable or unfitting weights, failed
    downloads, missing packages and failing factories are ModelErrors. ``googlenet`` and ``inception_v3`` re-scale
    their input (``transform_input``) only with weights that torchvision downloads itself; with a file they expect
    images normalised as the file's author did.

    Parameters
    ----------
    spec : str
        ``"torchvision:NAME"``, ``"timm:NAME"`` (extra ``interpnet[timm]``), ``"path/to/file.py:factory"``
        (the function is called without arguments, or with ``num_classes`` where its signature takes it),
        ``"smallcnn"`` with a file that ``interpnet train`` wrote, or ``"efficientnet-lite0"``, trained on ImageNet,
        which needs no download (extra ``interpnet[photos]``).
    weights : str or path, optional
        A file (``.safetensors``; ``.pt``/``.pth`` holding a state dict, read without running code);
        ``"random"``; for torchvision and timm also ``"pretrained"``, the default, or the name of published
        weights such as ``"IMAGENET1K_V1"``. A factory's model stays as made for ``None`` and ``"random"``. Of a
        checkpoint the state dict that fits is taken, wherever in the file it is; see docs/data.md.
    weights_key : str, optional
        Which state dict of a checkpoint that holds several: ``"model_ema"``, ``"callbacks.ema.weights"``, or a prefix
        of names such as ``"teacher"``. By default averaged weights go before others, with a warning.
    num_classes : int, optional
        Size of the classifier; by default the architecture's own. A factory that does not take it is an error.
    seed : int
        Fixes random weights, so that the same words give the same network. Torch's global random state is untouched.

    Examples
    --------
    >>> model = load_model("torchvision:squeezenet1_1", weights="random", num_classes=7)
    >>> model.training
    False
    """
    if num_classes is not None and (not is_whole(num_classes) or num_classes < 1):
        raise ModelError(f"num_classes is {num_classes!r}, expected at least 1 (a whole number)")
    whole_number(seed, "seed", least=-(2**63), most=2**63 - 1, error=ModelError)
    spec = _text(spec, "spec", _SPECS)
    word = None
    if weights is not None:
        word = _text(weights, "weights", "a file, or a word such as 'random'")
    options: dict[str, Any] = {}
    if num_classes is not None:
        num_classes = int(num_classes)
        options["num_classes"] = num_classes
    kind, _, name = spec.partition(":")
    if weights_key is not None and (word in {None, "random", "pretrained"} or spec == "smallcnn"):
        raise ModelError(
            f"weights_key is {weights_key!r} with weights={word!r}; it names a part of a checkpoint: give its file "
            "(--weights FILE), or leave weights_key out"
        )
    if spec == "smallcnn":
        if word is None or word in {"random", "pretrained"}:
            raise ModelError(
                f"model 'smallcnn' came with weights={word!r}; it takes its architecture from its file: "
                "give the .safetensors file that `interpnet train` wrote (--weights FILE)"
            )
        small = load_smallcnn(word)
        _require_outputs(small, num_classes, word)
        model: nn.Module = small
    elif kind == "torchvision" and name:
        model = _load_torchvision(name, word, weights_key, options, seed)
    elif kind == "timm" and name:
        model = _load_timm(name, word, weights_key, options, seed)
    elif spec == EFFICIENTNET_LITE0:
        model = _load_efficientnet(word, weights_key, options, seed)
    elif ".py" in spec:
        path, factory = split_factory_spec(spec)
        state = None
        if word is not None and word != "random":
            state = read_weights(word)
        model = _filled(lambda: run_factory(path, factory, num_classes), state, weights_key, seed)
    else:
        raise ModelError(f"unknown model {spec!r}, expected {_SPECS}{_prefixed_match(spec)}")
    _set_to_evaluation(model, spec)
    return model


def _set_to_evaluation(model: nn.Module, spec: str) -> None:
    """Put a network in evaluation mode; a ModelError where its own code fails at that, or it holds no values yet."""
    try:
        model.eval()
        state = [*model.parameters(), *model.buffers()]
    except Exception as error:
        raise ModelError(f"model {spec!r} fails in eval() or parameters(): {type(error).__name__}: {error}") from error
    if any(is_lazy(value) for value in state):
        raise ModelError(
            f"model {spec!r} has lazy layers, whose sizes are not known yet; let the factory run it once: "
            "model(torch.zeros(1, channels, height, width))"
        )
    if any(value.is_meta for value in state):
        raise ModelError(f"model {spec!r} lies on the device meta and has no values; make it on the CPU")


def _text(value: object, name: str, expected: str) -> str:
    """Return a text or path as text, or raise ModelError."""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str):
            return text
    raise ModelError(f"{name} is {value!r}, expected {expected}")


def _require_outputs(model: SmallCNN, num_classes: int | None, word: str) -> None:
    """Raise a ModelError where a SmallCNN's file has another number of classes than was asked for."""
    outputs = model.architecture["n_classes"]
    if num_classes not in {None, outputs}:
        raise ModelError(
            f"num_classes is {num_classes}, but the SmallCNN in {word!r} has {outputs} outputs; leave num_classes out"
        )


def describe_model(
    spec: str, weights: str | os.PathLike[str] | None, model: nn.Module, *, output: str | None = None
) -> ModelInfo:
    """Describe for a manifest what :func:`load_model` made of ``spec`` and ``weights``.

    ``output`` says which entry of the model's result is the logits, where it returns a tuple or dict.

    Examples
    --------
    >>> model = load_model("torchvision:squeezenet1_1", weights="random", num_classes=7)
    >>> info = describe_model("torchvision:squeezenet1_1", "random", model)
    >>> info.n_parameters, len(info.fingerprint)
    (726087, 64)
    """
    check_runnable(model)
    word = None if weights is None else os.fspath(weights)
    is_file = ".py" in spec and not spec.startswith(("torchvision:", "timm:"))
    return ModelInfo(
        spec=spec,
        weights=word,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        fingerprint=fingerprint_model(model),
        code=code_digest(split_factory_spec(spec)[0], model) if is_file else None,
        output=output,
        preprocessing=_published_preprocessing(spec, word, model),
    )


def _load_torchvision(name: str, word: str | None, key: str | None, options: dict[str, Any], seed: int) -> nn.Module:
    from torchvision.models import get_model

    names = _classifiers()
    if name not in names:
        raise ModelError(
            f"torchvision has no image classifier {name!r}{did_you_mean(name, names) or '.'} "
            "A network of your own comes as 'path/to/file.py:factory'."
        )
    published = _published(name)
    if word in published:
        _refuse_key(key, word)
        options["weights"] = published[word]
        return _downloaded(lambda: get_model(name, **options), f"torchvision:{name}", word)
    state = _state(word, published)
    if name in _AUXILIARY_HEADS:
        heads = _AUXILIARY_HEADS[name]
        names = []
        if state is not None:
            names = [f".{name}" for name in state.names]
        options["aux_logits"] = any(f".{head}" in name for head in heads for name in names)
        # With weights to come, torchvision's slow truncated-normal initialisation would be thrown away.
        options["init_weights"] = False
    return _filled(lambda: get_model(name, weights=None, **options), state, key, seed)


def _published(name: str) -> dict[str | None, Any]:
    """Return torchvision's published weights of a network, by the words that ask for them."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(name)
    return {None: weights.DEFAULT, "pretrained": weights.DEFAULT, **weights.__members__}


def _load_timm(name: str, word: str | None, key: str | None, options: dict[str, Any], seed: int) -> nn.Module:
    timm = _timm("models named 'timm:NAME'", "timm")
    architecture = name.partition(".")[0]
    if not timm.is_model(name):
        close = did_you_mean(architecture, timm.list_models())
        raise ModelError(f"timm has no model {name!r}{close or '.'} timm.list_models() names all.")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    # "pretrained" leaves the choice to the tag in the name, or to timm.
    published: dict[str | None, str] = {None: name, "pretrained": name, **{t: f"{architecture}.{t}" for t in tags}}
    if word not in published:
        state = _state(word, published)
        return _filled(lambda: timm.create_model(name, pretrained=False, **options), state, key, seed)
    if not tags:
        raise ModelError(f"timm publishes no weights for {name!r}: give --weights FILE or --weights random")
    _refuse_key(key, word)
    # timm would give these a classifier of random weights.
    theirs = timm.models.get_pretrained_cfg_value(published[word], "num_classes")
    if options.get("num_classes", theirs) != theirs:
        raise ModelError(
            f"timm:{name}: the published weights are for {theirs} classes, but num_classes is "
            f"{options['num_classes']}; leave num_classes out, or give --weights FILE or --weights random"
        )
    return _downloaded(lambda: timm.create_model(published[word], pretrained=True, **options), f"timm:{name}", word)


def _timm(needed_by: str, extra: str) -> Any:
    """Return the package timm, or say what needs it."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ModelError(f"{needed_by} need the package timm ({error}): pip install interpnet[{extra}]") from error


def _load_efficientnet(word: str | None, key: str | None, options: dict[str, Any], seed: int) -> nn.Module:
    if word not in _PACKAGED:
        return _load_timm(IN_TIMM, word, key, options, seed)
    _refuse_key(key, str(word))
    wanted = options.get("num_classes", _PACKAGED_OUTPUTS)
    if wanted != _PACKAGED_OUTPUTS:
        raise ModelError(
            f"{EFFICIENTNET_LITE0}: its weights are for {_PACKAGED_OUTPUTS} classes, but num_classes is {wanted}; "
            "leave num_classes out, or give --weights FILE or --weights random"
        )
    timm = _timm(f"the weights of {EFFICIENTNET_LITE0!r}", "photos")
    model: nn.Module = timm.create_model(IN_TIMM, pretrained=False)
    model.load_state_dict(efficientnet_weights(list(model.state_dict())))
    return model


def _refuse_key(key: str | None, word: str | None) -> None:
    if key is not None:
        raise ModelError(
            f"weights_key is {key!r} with the published weights {word!r}; it is for files (--weights FILE)"
        )


def _filled(build: Callable[[], nn.Module], state: Weights | None, key: str | None, seed: int) -> nn.Module:
    """Build a network of seeded random weights, and put in those of a file where there are any."""
    with seeded(seed):
        model = build()
    if state is not None and not any(is_lazy(parameter) for parameter in model.parameters()):
        fit_weights(model, state, key=key)
    return model


def _classifiers() -> list[str]:
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _state(word: str | None, published: Mapping[str | None, object]) -> Weights | None:
    """Return the weights of the file that ``word`` names, None for random ones; else list the words known."""
    if word == "random":
        return None
    word = str(word)
    path = Path(word)
    # A bare word without a known ending is rather a mistyped name of published weights than a missing file.
    if path.exists() or path.suffix.lower() in WEIGHT_SUFFIXES or len(path.parts) > 1:
        return read_weights(path)
    words = list(dict.fromkeys(["pretrained", "random", *filter(None, published)]))
    raise ModelError(f"weights {word!r} are neither a file nor one of {', '.join(words)}{did_you_mean(word, words)}")


def _downloaded(build: Callable[[], nn.Module], spec: str, word: str | None) -> nn.Module:
    try:
        return build()
    except ValueError as error:  # torchvision's word for a num_classes that the weights do not have
        raise ModelError(
            f"{spec}: {error} Leave num_classes out, or give --weights FILE or --weights random"
        ) from error
    except _DOWNLOAD_ERRORS as error:
        raise ModelError(
            f"{spec}: the {word or 'pretrained'} weights could not be downloaded ({error}). "
            "Give --weights FILE (a file of weights), or --weights random if you mean an untrained network"
        ) from error


def _prefixed_match(spec: str) -> str:
    """Return what an unknown specification may have meant, for the end of a message."""
    from torchvision.models import list_models

    classifiers = _classifiers()
    if spec in classifiers:
        return f"; did you mean 'torchvision:{spec}'?"
    name = spec.partition(":")[2] or spec
    if name in list_models():
        return f"; torchvision's {name!r} is no image classifier"
    return did_you_mean(name, [*classifiers, "smallcnn", EFFICIENTNET_LITE0])


def _published_preprocessing(spec: str, word: str | None, model: nn.Module) -> dict[str, Any] | None:
    kind, _, name = spec.partition(":")
    if spec == "smallcnn" and word is not None:
        hint = smallcnn_extra(word).get("preprocessing")
        if isinstance(hint, dict):
            return hint
    if spec == EFFICIENTNET_LITE0 and word in _PACKAGED:
        return PREPARED
    if kind == "torchvision":
        published = _published(name)
        if word in published:
            preset = published[word].transforms()
            return _hint(preset.resize_size[0], preset.crop_size[0], preset.mean, preset.std)
    if kind == "timm" and word != "random":
        config = getattr(model, "pretrained_cfg", None) or {}
        if {"input_size", "mean", "std"} <= set(config) and not Path(word or "").suffix:
            side = int(config["input_size"][-1])
            # Timm's crop is this share of the resized shorter side.
            return _hint(round(side / float(config.get("crop_pct") or 1)), side, config["mean"], config["std"])
    return None


def _hint(image_size: int, crop: int, mean: Any, std: Any) -> dict[str, Any]:
    return {
        "image_size": image_size,
        "crop": crop,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "channels": len(mean),
    }
