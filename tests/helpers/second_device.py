"""A simulated device: the code runs on fake tensors, which have a device, shapes and types but no values.

Errors that otherwise only a GPU shows are found: tensors of two devices in one operator and shapes that depend on values
(fake tensors refuse both), waiting for the device, float64 (which MPS lacks), wrong types under CUDA's autocast, operators
that have no kernel for CUDA or MPS. No kernels run, so wrong results are not found. As on CUDA, autocast casts a weight once
in a forward pass, and convolutions keep channels-last.
"""

import os
import re
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from unetrpp.networks.layout import CHANNELS_LAST

NAME = "fakegpu"
ROOT = Path(__file__).parents[2]
OURS = tuple(f"{ROOT / folder}{os.sep}" for folder in ("unetrpp", "trainers"))
COPIES = ("aten._to_copy.default", "aten.copy_.default")
# Operators whose results cuDNN lays out channels-last if an input or the weight is, and the position of their weight.
CONVOLUTIONS = {"aten.convolution.default": 1, "aten.convolution_backward.default": 2}
# Lists in torch's header: operators that autocast runs in its lower precision (None) or in float32.
AUTOCAST_LISTS = {"LOWER_PRECISION_FP": None, "FP32": torch.float32, "FP32_SET_OPT_DTYPE": torch.float32}
KEPT: list[torch.library.Library] = []  # registrations last as long as their library object
CASTS: dict[int, tuple[Tensor, Tensor]] = {}  # by id: a weight, which keeps its id in use, and its cast


def is_possible() -> bool:
    """Whether this version of torch supports a device implemented in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def register() -> torch.device:
    """Register the device, once per process and before its first backward pass, when autograd counts the devices."""

    class Backend(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    KEPT.append(torch.library.Library("_", "IMPL"))
    KEPT[-1].fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    KEPT.append(torch.library.Library("aten", "IMPL"))
    for name, dtype in autocast_rules().items():
        KEPT[-1].impl(name, autocasting(name, dtype), "AutocastPrivateUse1")
    KEPT[-1].impl("scaled_dot_product_attention", fused_attention, "AutogradPrivateUse1")
    torch.clear_autocast_cache = CASTS.clear  # called at the end of the outermost autocast
    return torch.device(NAME, 0)


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: None = None, dropout: float = 0.0, causal: bool = False, *, scale: float
) -> Tensor:
    """The attention of CUDA, which stores no attention map. (MPS has another.)"""
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, mask, True, dropout, causal, scale=scale)[0]


def autocast_rules() -> dict[str, torch.dtype | None]:
    """Operator -> the type that CUDA's autocast runs it in."""
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text()
    rules: dict[str, torch.dtype | None] = {}
    for name, dtype in AUTOCAST_LISTS.items():
        (body,) = re.findall(rf"#define AT_FORALL_{name}\(_\)((?:.*\\\n)*.*)", header)
        listed = [re.sub(r",\s*", ".", item) for item in re.findall(r"_\((\w+(?:,\s*\w+)?)\)", body)]
        rules |= {item: dtype for item in listed if "_cell" not in item}  # of recurrent networks: not all exist
    return rules


def autocasting(name: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    """The operator with its floating-point arguments cast first."""
    base, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, base), overload or "default")
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]

    def run(*args: Any, **kwargs: Any) -> Any:
        wanted = dtype or torch.get_autocast_dtype(NAME)

        def cast(leaf: Any) -> Any:
            if not (isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dtype != wanted):
                return leaf
            return cached_cast(leaf, wanted) if dtype is None else leaf.to(wanted)

        with torch._C._ExcludeDispatchKeyGuard(key):
            args, kwargs = tree_map(cast, (args, kwargs))
            return operator(*args, **kwargs)

    return run


def cached_cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in autocast's lower precision. Casts of weights are kept, by the rule in ATen/autocast_mode.cpp: leaves
    that require a gradient and are no views.
    """
    if not (tensor.dtype == torch.float32 and tensor.is_leaf and tensor.requires_grad and not tensor._is_view()):
        return tensor.to(dtype)
    if id(tensor) not in CASTS:
        CASTS[id(tensor)] = tensor, tensor.to(dtype)
    return CASTS[id(tensor)][1]


def keep_layout(x: Tensor, weight: Tensor, result: Tensor | None) -> Tensor | None:
    """The result of a convolution, channels-last where cuDNN makes it so (fake kernels do it for CUDA alone)."""
    layout = CHANNELS_LAST.get(x.ndim)
    if result is None or result.ndim != x.ndim or layout is None:
        return result
    last = any(t.is_contiguous(memory_format=layout) for t in (x, weight))
    return result.contiguous(memory_format=layout) if last else result


def is_fake(leaf: Any) -> bool:
    """A tensor on the second device, or that device itself as an argument."""
    return isinstance(leaf, FakeTensor) or (isinstance(leaf, torch.device) and leaf.type == NAME)


def kernels() -> dict[str, set[str]]:
    """Operator -> the devices that have a kernel for it, by the table that torch is built from."""
    table = (Path(torch.__file__).parent.parent / "torchgen/packaged/ATen/native/native_functions.yaml").read_text()
    entries = {entry[: entry.index("(")]: entry for entry in table.split("\n- func: ")[1:]}
    return {name: _devices(name, entries) for name in entries}


def _devices(name: str, entries: dict[str, str]) -> set[str]:
    entry = entries[name]
    found = {"CPU", "CUDA"} if "ufunc_inner_loop:" in entry else set()
    for delegate in re.findall(r"\n  structured_delegate: (\S+)", entry):
        found |= _devices(delegate, entries)
    for keys in re.findall(r"\n    (\w[\w, ]*):", entry):
        found |= set(keys.split(", "))
    if name.startswith("_scaled_dot_product_efficient_attention"):
        found.add("MPS")
    composite = "dispatch:" not in entry and "structured_delegate:" not in entry
    return {"CUDA", "MPS"} if composite or any(key.startswith("Composite") for key in found) else found


class Watch(TorchDispatchMode):
    """Within ``mode``, collects in ``faults`` the operations unsuited to a GPU, with our line that called them, in
    ``operators`` how often each operator was used, and in ``sent`` the shapes of what was copied to the device.

    Copies from the device always wait for it, copies to it unless they are ``non_blocking``. Operations that need a value
    (``item``, ``nonzero``, a tensor as a condition) raise an exception with fake tensors.
    """

    def __init__(self, mode: FakeTensorMode):
        super().__init__()
        self.mode = mode
        self.faults: list[str] = []
        self.operators: Counter[str] = Counter()
        self.sent: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(is_fake(leaf) for leaf in tree_leaves((args, kwargs))):
            with _disable_current_modes():  # operations on the host run as usual
                return func(*args, **kwargs)
        if func.namespace == "aten":
            self.operators[str(func).removeprefix("aten.").removesuffix(".default")] += 1
        args, kwargs = tree_map(self._as_fake, (args, kwargs))
        result = func(*args, **kwargs)
        if str(func) in CONVOLUTIONS:
            result = tree_map(partial(keep_layout, args[0], args[CONVOLUTIONS[str(func)]]), result)
        there = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        if any(t.dtype == torch.float64 and t.device.type == NAME for t in there):
            self._note(f"{func} has float64 on the device")
        copies = str(func) in COPIES
        mixed = {t.device.type for t in there if t.ndim or copies}  # a number is passed to the kernel without a copy
        if len(mixed) > 1 and copies and result.device.type == NAME:
            self.sent.append(tuple(result.shape))
        if len(mixed) > 1 and not (copies and result.device.type == NAME and kwargs.get("non_blocking")):
            self._note(f"{func} waits for the device")
        return result

    def _as_fake(self, leaf: Any) -> Any:
        return self.mode.from_tensor(leaf) if isinstance(leaf, Tensor) and not is_fake(leaf) else leaf

    def _note(self, fault: str) -> None:
        places = [
            f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack() if frame.filename.startswith(OURS)
        ]
        self.faults.append(f"{fault}: {places[-1] if places else 'not in our code'}")
