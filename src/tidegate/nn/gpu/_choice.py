"""Whether a layer on a GPU is for our kernels or for torch's own.

TIDEGATE_GPU says: `auto`, the table of what was measured; `always`, ours wherever they can;
`never`. A device that cannot run them is said once, in a warning, and is torch's from then on.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from tidegate.nn._layer import Layer, Plan, hidden_size
from tidegate.nn.gpu import _launch, _table
from tidegate.nn.gpu._build import KINDS, LARGEST_HIDDEN, Build, build_for
from tidegate.nn.gpu._nvrtc import Unusable

if TYPE_CHECKING:
    from tidegate.nn._gru import GRU

MODES = ("auto", "always", "never")
_unusable: set[tuple[torch.device, Build]] = set()


def runs(layer: Layer, plan: Plan, training: bool) -> bool:
    """Whether our GPU kernels compute this layer."""
    if not layer.x.is_cuda:
        return False
    hidden, packed = hidden_size(layer), layer.batch_sizes is not None
    batch = int(layer.batch_sizes[0]) if layer.batch_sizes is not None else layer.x.size(1)
    return (
        fits(layer, plan)
        and not (packed and torch.cuda.is_current_stream_capturing())
        and is_preferred(layer.x.device, layer.x.dtype, hidden, batch, training, packed)
        and is_usable(layer.x.device, build_of(layer, plan))
    )


def fits(layer: Layer, plan: Plan) -> bool:
    """Whether the kernels have what the layer asks for, wherever it lies."""
    given = [t for t in (*layer[:3], *layer.weights) if t is not None]
    return (
        plan.reset in ("after", "before")
        and not plan.norm
        and layer.mask is None
        and layer.zone is None
        and layer.x.numel() > 0
        and layer.x.dtype in KINDS
        and all(t.dtype == layer.x.dtype and t.device == layer.x.device for t in given)
        and hidden_size(layer) <= LARGEST_HIDDEN
        and _longest_array(layer, plan) < 2**31
    )


def _longest_array(layer: Layer, plan: Plan) -> int:
    """Numbers in the longest array of either pass; the serial kernels count with 32 bits."""
    rows = layer.x.numel() // layer.x.size(-1)
    return 5 * plan.directions * rows * hidden_size(layer)


def build_of(layer: Layer, plan: Plan) -> Build:
    """The compilation that a layer needs."""
    return build_for(kind_of(layer.x.dtype), hidden_size(layer), plan.reset == "before")


def kind_of(dtype: torch.dtype) -> str:
    """A kind of number: float32 is multiplied as torch's flag for recurrent networks says."""
    return "tf32" if dtype == torch.float32 and _allows_tf32() else KINDS[dtype]


def mode() -> str:
    """What TIDEGATE_GPU says.

    Raises:
        ValueError: it says none of `MODES`.
    """
    said = os.environ.get("TIDEGATE_GPU", "auto")
    if said not in MODES:
        raise ValueError(f"TIDEGATE_GPU must be one of {', '.join(MODES)}, but it is {said!r}")
    return said


def is_preferred(
    device: torch.device, dtype: torch.dtype, hidden: int, batch: int, training: bool, packed: bool
) -> bool:
    """Whether ours is to be used, were it possible."""
    said = mode()
    if said != "auto":
        return said == "always"
    table = _table.shipped()
    if not table:
        return False
    call = _table.call_kind(kind_of(dtype), training, packed)
    return _table.is_faster(table, torch.cuda.get_device_name(device), call, hidden, batch)


def is_usable(device: torch.device, build: Build) -> bool:
    """Whether the kernels of a build are ready on a device; they are compiled if need be.

    While a graph is captured nothing may be loaded, so what is not ready then is torch's.
    """
    if torch.version.hip or (device, build) in _unusable:
        return False
    if torch.cuda.is_current_stream_capturing() and not _launch.is_ready(device, build):
        return False
    try:
        _launch.prepare(device, build)
    except Unusable as reason:
        give_up(device, build, reason)
        return False
    return True


def give_up(device: torch.device, build: Build, reason: Unusable) -> None:
    """Leave this build to torch on this device from now on, and say so."""
    if (device, build) in _unusable:
        return
    _unusable.add((device, build))
    warnings.warn(
        f"Tidegate's GPU kernels for {build.hidden} units of {build.kind} cannot run on {device}: "
        f"{reason}. torch's own run in their place.",
        RuntimeWarning,
        stacklevel=2,
    )


def takes(gru: GRU, input: Tensor | PackedSequence) -> bool:
    """Whether a call that torch's own GRU could answer is for our kernels."""
    packed = isinstance(input, PackedSequence)
    data = input.data if packed else input
    if not data.is_cuda or data.numel() == 0 or torch.jit.is_tracing():
        return False
    if torch._C._len_torch_dispatch_stack():  # fake tensors, say: they are on no device
        return False
    if packed:
        if torch.cuda.is_current_stream_capturing():  # its sizes are copied from the host
            return False
        batch = int(input.batch_sizes[0])
    else:
        batch = data.size(1 - gru.batch_first) if data.dim() == 3 else 1
    dtype = call_dtype(gru, data, batch, packed)
    if dtype is None:
        return False
    kind, before = kind_of(dtype), gru.reset == "before"
    sizes = set(gru.hidden_sizes)
    return all(is_usable(data.device, build_for(kind, hidden, before)) for hidden in sizes)


def call_dtype(gru: GRU, data: Tensor, batch: int, packed: bool) -> torch.dtype | None:
    """What our kernels compute a call in; None where it is not for them.

    Under autocast a recurrent network is computed in half precision, as torch's is. While a graph
    is traced nothing outside it may be asked: the operator asks when it runs, and in float32.
    """
    if not data.is_cuda or torch.compiler.is_compiling():
        return None
    if mode() == "auto" and not _table.shipped():
        return None
    autocast = torch.is_autocast_enabled("cuda")
    dtype = torch.get_autocast_dtype("cuda") if autocast else data.dtype
    if dtype not in KINDS or not _may_run(gru):
        return None
    training = torch.is_grad_enabled() and (
        data.requires_grad or any(p.requires_grad for p in gru.parameters())
    )
    return (
        dtype
        if all(
            is_preferred(data.device, dtype, hidden, batch, training, packed)
            for hidden in set(gru.hidden_sizes)
        )
        else None
    )


def _may_run(gru: GRU) -> bool:
    """Whether the kernels have what a module's own options ask for."""
    noise = gru.recurrent_dropout and gru.training
    return not (
        gru.reset == "none"
        or gru.layer_norm
        or gru.zoneout
        or noise
        or max(gru.hidden_sizes) > LARGEST_HIDDEN
    )


def _allows_tf32() -> bool:
    recurrent = getattr(torch.backends.cudnn, "rnn", None)
    if recurrent is not None and hasattr(recurrent, "fp32_precision"):
        said = recurrent.fp32_precision
        if said != "none":
            return said == "tf32"
        for above in (torch.backends.cudnn, torch.backends):
            if (said := getattr(above, "fp32_precision", "none")) != "none":
                return said == "tf32"
        return False
    return bool(torch.backends.cudnn.allow_tf32)
