"""The recurrence of a minGRU as an operator of torch, by kernels or in torch operations.

    z = sigmoid(x_z);  n = x_n, or g(x_n);  h_t = (1 - z) * keep_t * h_{t-1} + z * n

`x_gates` is (time, batch, 2 * hidden): x_z, then x_n. First derivatives run the kernels, mapped
ones too; what is differentiated further, forward mode and other devices take torch operations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops import scan as onnx_scan
from torch.autograd import Function, forward_ad
from torch.library import Library

from tidegate import _kernels
from tidegate.nn import _vmap
from tidegate.nn._autograd import saved_tensors
from tidegate.nn._kernel import address, dense, steps
from tidegate.nn._layer import check_length_values, valid_steps


class Scan(NamedTuple):
    """The tensors of a scan, and its two choices."""

    x_gates: Tensor  # (time, batch, 2 * hidden), any strides
    h_0: Tensor | None  # (batch, hidden)
    keep: Tensor | None  # (time, batch, 1 or hidden)
    lengths: Tensor | None  # int64 (batch,)
    reverse: bool
    positive: bool


library = Library("tidegate", "FRAGMENT")
_SCAN = "Tensor x_gates, Tensor? h_0, Tensor? keep, Tensor? lengths, bool reverse, bool positive"
library.define(f"min_gru({_SCAN}) -> (Tensor output, Tensor h_n)", tags=torch.Tag.pt2_compliant_tag)
library.define(
    f"min_gru_backward(Tensor output, Tensor? d_output, Tensor? d_h_n, {_SCAN}) "
    "-> (Tensor d_x_gates, Tensor d_h_0, Tensor d_keep)",
    tags=torch.Tag.pt2_compliant_tag,
)


def min_gru(scan: Scan) -> tuple[Tensor, Tensor]:
    """Every state, and each row's last."""
    if torch.compiler.is_compiling():
        if torch.onnx.is_in_onnx_export():
            return _in_onnx(scan)
    elif forward_ad._current_level >= 0:
        return in_torch(scan)
    elif torch._C._are_functorch_transforms_active():
        return _MappedScan.apply(*scan)
    return torch.ops.tidegate.min_gru.default(*scan)


def in_torch(scan: Scan) -> tuple[Tensor, Tensor]:
    """The same in torch operations, a few a step: differentiable to any order, on any device."""
    z, n = gates(scan.x_gates, scan.positive)
    time, batch, hidden = z.shape
    h = z.new_zeros(batch, hidden) if scan.h_0 is None else scan.h_0
    states = [h] * time
    for t in reversed(range(time)) if scan.reverse else range(time):
        kept = h if scan.keep is None else scan.keep[t] * h
        inside = None if scan.lengths is None else (t < scan.lengths)[:, None]
        if inside is not None:  # what lies past the end may be anything
            kept = torch.where(inside, kept, h)
        after = torch.lerp(kept, n[t], z[t])
        h = after if inside is None else torch.where(inside, after, h)
        states[t] = h if inside is None else torch.where(inside, h, 0.0)
    return torch.stack(states) if states else z, h


def gates(x_gates: Tensor, positive: bool) -> tuple[Tensor, Tensor]:
    """z, which admits the new, and the candidate."""
    x_z, x_n = x_gates.chunk(2, -1)
    if positive:
        x_n = torch.where(x_n >= 0, x_n + 0.5, x_n.sigmoid())
    return x_z.sigmoid(), x_n


def _hidden(scan: Scan) -> int:
    return scan.x_gates.size(2) // 2


def _empty(scan: Scan, width: int) -> Tensor:
    """An empty (time, batch, width), rows before steps in memory where x_gates has them so."""
    time, batch, _ = scan.x_gates.shape
    if scan.x_gates.stride(1) > scan.x_gates.stride(0):
        return scan.x_gates.new_empty(batch, time, width).transpose(0, 1)
    return scan.x_gates.new_empty(time, batch, width)


def _read(scan: Scan) -> tuple[Scan, tuple[Any, ...]]:
    """The scan with each row's numbers side by side, and how the kernels are told of it."""
    scan = scan._replace(
        x_gates=dense(scan.x_gates),
        h_0=None if scan.h_0 is None else scan.h_0.contiguous(),
        keep=dense(scan.keep),
        lengths=None if scan.lengths is None else scan.lengths.contiguous(),
    )
    time, batch, _ = scan.x_gates.shape
    arguments = (
        scan.x_gates.dtype == torch.float64,
        torch.get_num_threads(),
        time,
        batch,
        _hidden(scan),
        scan.reverse,
        scan.positive,
        scan.x_gates.data_ptr(),
        *steps(scan.x_gates),
        address(scan.lengths),
        address(scan.keep),
        *steps(scan.keep),
        int(scan.keep is not None and scan.keep.size(2) > 1),
        address(scan.h_0),
    )
    return scan, arguments


def _runs(scan: Scan) -> bool:
    """Whether the kernels compute it."""
    x = scan.x_gates
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def _check_sizes(scan: Scan) -> None:
    """Raise unless the kernels would find every number that they read.

    Raises:
        RuntimeError: a tensor is not of the sizes of `x_gates`.
    """
    time, batch, _ = scan.x_gates.shape
    hidden = _hidden(scan)
    wanted = {
        "hx": (scan.h_0, ((batch, hidden),)),
        "keep": (scan.keep, ((time, batch, 1), (time, batch, hidden))),
        "lengths": (scan.lengths, ((batch,),)),
    }
    for name, (tensor, shapes) in wanted.items():
        if tensor is not None and tuple(tensor.shape) not in shapes:
            raise RuntimeError(
                f"{name} must be {' or '.join(map(str, shapes))}, as the parameters' {hidden} "
                f"units ask, but it is {tuple(tensor.shape)}"
            )


def _forward(*args) -> tuple[Tensor, Tensor]:
    scan = Scan(*args)
    _check_sizes(scan)
    if scan.lengths is not None:
        check_length_values(scan.lengths, scan.x_gates.size(0))
    if not _runs(scan):
        output, h_n = in_torch(scan)
        return _empty(scan, _hidden(scan)).copy_(output), h_n.clone()
    scan, arguments = _read(scan)
    output = _empty(scan, _hidden(scan))
    h_n = scan.x_gates.new_empty(scan.x_gates.size(1), _hidden(scan))
    results: tuple[Any, ...] = (output.data_ptr(), *steps(output), h_n.data_ptr())
    _kernels.min_gru_forward(*(*arguments, *results))
    return output, h_n


def _forward_fake(*args) -> tuple[Tensor, Tensor]:
    scan = Scan(*args)
    hidden = _hidden(scan)
    return _empty(scan, hidden), scan.x_gates.new_empty(scan.x_gates.size(1), hidden)


def _backward(output, d_output, d_h_n, *args):
    scan = Scan(*args)
    if not _runs(scan):
        return _backward_in_torch(d_output, d_h_n, scan)
    scan, arguments = _read(scan)
    output, d_output = dense(output), dense(d_output)
    d_h_n = None if d_h_n is None else d_h_n.contiguous()
    time, batch, _ = scan.x_gates.shape
    like, hidden = scan.x_gates.new_empty, _hidden(scan)
    d_x, d_h_0 = _empty(scan, 2 * hidden), like(batch, hidden)
    d_keep = None if scan.keep is None else like(time, batch, hidden)
    results: tuple[Any, ...] = (
        output.data_ptr(),
        *steps(output),
        address(d_output),
        *steps(d_output),
        address(d_h_n),
        d_x.data_ptr(),
        *steps(d_x),
        d_h_0.data_ptr(),
        address(d_keep),
    )
    _kernels.min_gru_backward(*(*arguments, *results))
    if d_keep is None or scan.keep is None:
        return d_x, d_h_0, like(0)
    return d_x, d_h_0, d_keep.sum(2, keepdim=True) if scan.keep.size(2) == 1 else d_keep


def _backward_fake(output, d_output, d_h_n, *args):
    scan = Scan(*args)
    hidden = _hidden(scan)
    like = scan.x_gates.new_empty
    d_keep = like(0) if scan.keep is None else like(scan.keep.shape)
    return _empty(scan, 2 * hidden), like(scan.x_gates.size(1), hidden), d_keep


def _backward_in_torch(d_output, d_h_n, scan: Scan):
    given = [t for t in scan[:3] if t is not None]

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        left = iter(tensors)
        x_gates = next(left)
        h_0 = None if scan.h_0 is None else next(left)
        return in_torch(
            scan._replace(x_gates=x_gates, h_0=h_0, keep=None if scan.keep is None else next(left))
        )

    results, pull = torch.func.vjp(run, *given)[:2]
    cotangents = (d_output, d_h_n)
    cotangents = [
        torch.zeros_like(result) if d is None else d
        for result, d in zip(results, cotangents, strict=True)
    ]
    found = iter(pull(tuple(cotangents)))
    d_x = next(found)
    d_h_0, d_keep = (None if t is None else next(found) for t in (scan.h_0, scan.keep))
    d_x = _empty(scan, d_x.size(2)).copy_(d_x)
    batch = scan.x_gates.size(1)
    d_h_0 = scan.x_gates.new_zeros(batch, _hidden(scan)) if d_h_0 is None else d_h_0.contiguous()
    return d_x, d_h_0, scan.x_gates.new_empty(0) if d_keep is None else d_keep.contiguous()


def _in_onnx(scan: Scan) -> tuple[Tensor, Tensor]:
    """The same as ONNX's `Scan`: batch and time stay free."""
    z, n = (gate.detach() for gate in gates(scan.x_gates, scan.positive))
    h_0 = torch.zeros_like(z[0]) if scan.h_0 is None else scan.h_0.detach().clone()
    every = {"z": z, "n": n}
    if scan.keep is not None:
        every["keep"] = scan.keep.detach()
    if scan.lengths is not None:
        every["inside"] = valid_steps(z, scan.lengths)

    def advance(h: Tensor, each: list[Tensor]) -> tuple[Tensor, Tensor]:
        step = dict(zip(every, each, strict=True))
        kept = h * step["keep"] if "keep" in step else h
        after = kept + step["z"] * (step["n"] - kept)
        if "inside" not in step:
            return after, after.clone()
        return torch.where(step["inside"], after, h), torch.where(step["inside"], after, 0.0)

    h_n, output = onnx_scan(advance, h_0, list(every.values()), reverse=scan.reverse)
    return output, h_n


# Axis of the batch in x_gates, h_0, keep, lengths; in the outputs; in the gradients.
_BATCH_AXES, _OUTPUT_AXES, _GRADIENT_AXES = (1, 0, 1, 0), (1, 0), (1, 0, 1)


class _MappedScan(Function):
    """The scan under `torch.func`'s transforms: mapped rows lie beside the others."""

    @staticmethod
    def forward(*args):
        return _forward(*args)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _setup_context(ctx, inputs, output)

    @staticmethod
    def backward(ctx, *d_outputs):
        d_output, d_h_n = d_outputs
        output, *tensors = saved_tensors(ctx)
        if d_output is None and d_h_n is None:
            return (None,) * 6
        found = _MappedBackward.apply(output, d_output, d_h_n, *tensors, *ctx.choices)
        d_x, d_h_0, d_keep = found
        return d_x, None if tensors[1] is None else d_h_0, d_keep, None, None, None

    @staticmethod
    def vmap(info, in_dims, *args):
        folded = _vmap.fold(info.batch_size, in_dims[:4], args[:4], _BATCH_AXES)
        results = _MappedScan.apply(*folded, *args[4:])
        return _vmap.unfold(info.batch_size, results, _OUTPUT_AXES)


class _MappedBackward(Function):
    """The gradients of a scan, as a function that can be mapped, and differentiated again."""

    @staticmethod
    def forward(output, d_output, d_h_n, *args):
        d_x, d_h_0, d_keep = _backward(output, d_output, d_h_n, *args)
        return d_x, d_h_0, None if args[2] is None else d_keep

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.choices = inputs[7:]
        ctx.save_for_backward(*inputs[1:7])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *cotangents):
        tensors = ctx.saved_tensors
        given = [i for i, t in enumerate(tensors) if t is not None and t.is_floating_point()]

        def gradients(*values: Tensor) -> list[Tensor]:
            all_tensors = list(tensors)
            for place, value in zip(given, values, strict=True):
                all_tensors[place] = value
            d_output, d_h_n, *scan = all_tensors
            found = _backward_in_torch(d_output, d_h_n, Scan(*scan, *ctx.choices))
            return [d for d, c in zip(found, cotangents, strict=True) if c is not None]

        pull = torch.func.vjp(gradients, *(tensors[place] for place in given))[1]
        found = dict(zip(given, pull([c for c in cotangents if c is not None]), strict=True))
        return None, *(found.get(place) for place in range(6)), None, None

    @staticmethod
    def vmap(info, in_dims, *args):
        axes = (1, *_OUTPUT_AXES, *_BATCH_AXES)
        folded = _vmap.fold(info.batch_size, in_dims[:7], args[:7], axes)
        results = _MappedBackward.apply(*folded, *args[7:])
        return _vmap.unfold(info.batch_size, results, _GRADIENT_AXES)


def _setup_context(ctx, inputs, output) -> None:
    ctx.choices = inputs[4:]
    ctx.save_for_backward(output[0], *inputs[:4])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, d_output, d_h_n):
    output, *tensors = saved_tensors(ctx)
    none = (None,) * 3
    if d_output is None and d_h_n is None:
        return *none, *none
    scan = Scan(*tensors, *ctx.choices)
    if torch.is_grad_enabled():  # a graph of the gradients is wanted
        d_x, d_h_0, d_keep = _backward_in_torch(d_output, d_h_n, scan)
    else:
        d_x, d_h_0, d_keep = torch.ops.tidegate.min_gru_backward.default(
            output, d_output, d_h_n, *scan
        )
    d_h_0 = None if scan.h_0 is None else d_h_0
    return d_x, d_h_0, None if scan.keep is None else d_keep, *none


library.impl("min_gru", _forward, "CompositeExplicitAutograd")
library.impl("min_gru_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("tidegate::min_gru", _forward_fake, lib=library)
torch.library.register_fake("tidegate::min_gru_backward", _backward_fake, lib=library)
torch.library.register_autograd(
    "tidegate::min_gru", _differentiate, setup_context=_setup_context, lib=library
)
