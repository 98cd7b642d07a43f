"""What keeps a network from being run or read, found on its parts before it runs."""

from __future__ import annotations

from torch import fx, nn
from torch._ops import OpOverload
from torch.nn.parameter import is_lazy

from interpnet.errors import ModelError

# Modules whose numbers are packed integers; observers and fake quantisation work on floats and are none.
_QUANTISED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_FLOAT = frozenset({"FloatFunctional", "FXFloatFunctional", "DeQuantize"})


def check_runnable(model: nn.Module) -> None:
    """Raise :class:`ModelError` where a parameter has no value yet: of a lazy module, or on the device ``meta``."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(value):
            raise ModelError(
                f"the model's {name!r} has no shape yet, for its module is lazy; run the model once on a batch, "
                "model(images), and load its weights after that"
            )
        if value.is_meta:
            raise ModelError(
                f"the model's {name!r} is on the device 'meta' and holds no values; give it weights: "
                "model.to_empty(device='cpu') and model.load_state_dict(...), or load_state_dict(..., assign=True)"
            )


def check_readable(model: nn.Module) -> None:
    """Raise :class:`ModelError` where a network's operators or numbers are not those of floating-point torch."""
    for name, module in model.named_modules():
        kind = type(module)
        part = f"its part {name!r}" if name else "it"
        if kind.__module__.startswith(_QUANTISED) and kind.__name__ not in _FLOAT:
            raise ModelError(
                f"the model is quantised: {part} is a {kind.__module__}.{kind.__name__}, whose numbers are packed "
                "integers. Pass the floating-point model that it was converted from"
            )
        if isinstance(module, fx.GraphModule):
            low = [node for node in module.graph.nodes if isinstance(node.target, OpOverload)]
            if low:
                raise ModelError(
                    f"the model was exported: {part} calls {low[0].target}, below torch's own functions. Pass the "
                    "original Python module with the same weights"
                )
            if any("quantize" in str(node.target) for node in module.graph.nodes if node.op == "call_function"):
                raise ModelError(
                    f"the model is quantised: {part} calls quantised operators. Pass the floating-point model that it "
                    "was converted from"
                )


def check_gradients_can_be_switched(model: nn.Module) -> None:
    """Raise :class:`ModelError` where a parameter was made under inference mode: no gradient passes it."""
    for name, parameter in model.named_parameters():
        if parameter.is_inference():
            raise ModelError(
                f"the model's {name!r} was made under torch.inference_mode(), so no gradient passes it; pass "
                "copy.deepcopy(model), made outside of that mode"
            )
