"""One layer through the GPU kernels: no autograd; the gradients need the outputs alone.

The products of all steps at once are torch's; see `gru.cu` for the rest.
"""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.nn import _kernel
from tidegate.nn._layer import (
    GATES,
    Cotangents,
    Gradients,
    Layer,
    Outputs,
    Plan,
    Wanted,
    check_lengths,
    directions,
    hidden_size,
    valid_steps,
)
from tidegate.nn.gpu import _launch
from tidegate.nn.gpu._arguments import Backward, Coefficients, Forward, Previous
from tidegate.nn.gpu._choice import build_of


def forward(layer: Layer, plan: Plan) -> Outputs:
    """Run a layer.

    Raises:
        Unusable: the device does not run the kernel.
        ValueError: a length is out of range.
    """
    with torch.autocast(layer.x.device.type, enabled=False):
        return _Run(layer, plan).forward()


def backward(
    layer: Layer, plan: Plan, output: Tensor, d_outputs: Cotangents, wanted: Wanted
) -> Gradients:
    """Gradients of a layer whose `output` is known, from those of its results but the gates.

    Raises:
        Unusable: the device does not run the kernels.
    """
    with torch.autocast(layer.x.device.type, enabled=False):
        return _Backward(layer, plan, output, wanted).gradients(d_outputs)


class _Run:
    """A layer's inputs as the kernels read them; it holds what its addresses point to."""

    checks = True  # whether lengths may be out of range

    def __init__(self, layer: Layer, plan: Plan) -> None:
        self.layer, self.plan = layer, plan
        self.build = build_of(layer, plan)
        self.hidden = hidden_size(layer)
        self.weights = [
            w._replace(weight_hh=w.weight_hh.contiguous(), bias_hh=_contiguous(w.bias_hh))
            for w in directions(layer.weights, plan)
        ]
        self.lengths, self.offsets = _read_ends(layer, self.checks)
        sizes = layer.batch_sizes
        self.time = layer.x.size(0) if sizes is None else sizes.numel()
        self.batch = layer.x.size(1) if sizes is None else int(sizes[0])
        self.rows = layer.x.numel() // layer.x.size(-1)
        self.h_0 = _contiguous(layer.h_0)
        self.keep = _dense(layer.keep)
        self.x_gates = self._input_gates()

    def forward(self) -> Outputs:
        layer, plan, like = self.layer, self.plan, self.layer.x.new_empty
        units = plan.directions * self.hidden
        output = self._blank(_kernel.empty_results(layer, plan, (), units))
        h_n = like(plan.directions, self.batch, self.hidden)
        gates = None
        if plan.gates:
            lead = (len(GATES[plan.reset]),)
            gates = self._blank(_kernel.empty_results(layer, plan, lead, units))
        arguments = Forward(
            **self._inputs(),
            **self._state(),
            **self._ragged(),
            weight_hh=self._pointers("weight_hh"),
            **self._strided("output", output),
            h_n=h_n.data_ptr(),
            **self._strided("gates", gates),
            gates_gate=0 if gates is None else gates.stride(0),
        )
        self.launch("gru_forward", arguments)
        return Outputs(output, h_n, gates)

    def launch(self, kernel: str, arguments: ctypes.Structure) -> None:
        """Launch a kernel over the layer."""
        size = (self.time, self.batch, self.plan.directions)
        _launch.launch(kernel, self.layer.x.device, self.build, arguments, *size)

    def _input_gates(self) -> Tensor:
        """The inputs times their weights, (time, batch, directions * 3 * hidden), all at once."""
        weight = torch.cat([w.weight_ih for w in self.weights])
        biases = [w.bias_ih for w in self.weights if w.bias_ih is not None]
        bias = torch.cat(biases) if biases else None
        x = self.layer.x
        if x.dim() == 3 and x.stride(0) < x.stride(1):  # batch first: as it lies in memory
            return F.linear(x.transpose(0, 1), weight, bias).transpose(0, 1)
        return F.linear(x, weight, bias)

    def _blank(self, result: Tensor) -> Tensor:
        """The kernels write no cell past a row's end."""
        return result if self.layer.lengths is None else result.zero_()

    def _inputs(self) -> dict:
        return {**self._strided("x_gates", self.x_gates), "bias_hh": self._pointers("bias_hh")}

    def _state(self) -> dict:
        return {"h_0": _address(self.h_0), **self._keep()}

    def _keep(self) -> dict:
        keep = self.keep
        if keep is None:
            return {}
        time, batch, unit = keep.stride()
        return {
            "keep": keep.data_ptr(),
            "keep_time": time,
            "keep_batch": batch,
            "keep_unit": 0 if keep.size(-1) == 1 else unit,
        }

    def _ragged(self) -> dict:
        return {
            "lengths": _address(self.lengths),
            "offsets": _address(self.offsets),
            "time": self.time,
            "batch": self.batch,
        }

    def _strided(self, name: str, tensor: Tensor | None) -> dict:
        """An address, and the strides of a step and of a row.

        A step of packed rows begins as many rows later as there were before it.
        """
        if tensor is None:
            return {}
        axes = (-2, -2) if self.offsets is not None else (-3, -2)
        time, batch = (tensor.stride(axis) for axis in axes)
        return {name: tensor.data_ptr(), f"{name}_time": time, f"{name}_batch": batch}

    def _pointers(self, name: str):
        return (ctypes.c_void_p * 2)(*(_address(getattr(w, name)) for w in self.weights))


class _Backward(_Run):
    """The passes of the gradients; each of (direction, row, hidden), rows in time's order."""

    checks = False  # the forward pass has looked, and to look waits for the device

    def __init__(self, layer: Layer, plan: Plan, output: Tensor, wanted: Wanted) -> None:
        super().__init__(layer, plan)
        self.output, self.wanted = _dense(output), wanted
        self.before = plan.reset == "before"
        self.previous, self.kept = self._states_before()
        self.product: Tensor | None = None  # of the reset gate and the state before

    def gradients(self, d_outputs: Cotangents) -> Gradients:
        coefficients = self._coefficients()
        d_kept, d_h_0 = self._serial(coefficients, d_outputs)
        d_gates = coefficients[:, :, : 3 if self.before else 4]
        return Gradients(
            self._d_x(d_gates) if self.wanted.x else None,
            d_h_0,
            None if d_kept is None else self._d_keep(d_kept),
            self._d_weights(d_gates) if self.wanted.weights else [],
        )

    def _states_before(self) -> tuple[Tensor, Tensor]:
        """The state before each step, as it was returned, and as it was kept."""
        previous = self._empty()
        kept = previous if self.keep is None else self._empty()
        arguments = Previous(
            **self._strided("output", self.output),
            **self._state(),
            **self._ragged(),
            **self._row_numbers(),
            previous=previous.data_ptr(),
            kept=0 if self.keep is None else kept.data_ptr(),
        )
        self.launch("gru_previous", arguments)
        return previous, kept

    def _coefficients(self) -> Tensor:
        """What the serial kernel multiplies with, (direction, row, 5, hidden): n, r, z, h, old."""
        gates = 2 if self.before else 3
        weight_hh = torch.stack([w.weight_hh[: gates * self.hidden] for w in self.weights])
        h_gates = self.kept @ weight_hh.mT
        coefficients = self._empty(5)
        arguments = Coefficients(
            **self._inputs(),
            **self._ragged(),
            **self._row_numbers(),
            h_gates=h_gates.data_ptr(),
            previous=self.kept.data_ptr(),
            coefficients=coefficients.data_ptr(),
        )
        if self.before:
            self.product = self._empty()
            arguments.product = self.product.data_ptr()
            self.launch("gru_reset", arguments)
            candidate = torch.stack([w.weight_hh[gates * self.hidden :] for w in self.weights])
            h_candidate = self.product @ candidate.mT
            arguments.h_candidate = h_candidate.data_ptr()
        self.launch("gru_coefficients", arguments)
        return coefficients

    def _serial(
        self, coefficients: Tensor, d_outputs: Cotangents
    ) -> tuple[Tensor | None, Tensor | None]:
        """Go back through time, and turn the coefficients into the gradients of the gates."""
        d_output, d_h_n = _paired(d_outputs.output), _contiguous(d_outputs.h_n)
        d_state = self._blank(self._empty())
        d_reset = self._blank(self._empty()) if self.before else None
        d_kept = self._blank(self._empty()) if self.wanted.keep else None
        d_h_0 = torch.empty_like(self.h_0) if self.wanted.h_0 and self.h_0 is not None else None
        arguments = Backward(
            coefficients=coefficients.data_ptr(),
            weight_hh=self._pointers("weight_hh"),
            **self._strided("d_output", d_output),
            d_h_n=_address(d_h_n),
            **self._keep(),
            **self._ragged(),
            **self._row_numbers(),
            d_state=d_state.data_ptr(),
            d_reset=_address(d_reset),
            d_kept=_address(d_kept),
            d_h_0=_address(d_h_0),
        )
        self.launch("gru_backward", arguments)
        if d_reset is None:
            coefficients[:, :, :4].mul_(d_state.unsqueeze(2))
        else:
            coefficients[:, :, 0:3:2].mul_(d_state.unsqueeze(2))
            coefficients[:, :, 1].mul_(d_reset)
        return d_kept, d_h_0

    def _d_x(self, d_gates: Tensor) -> Tensor:
        hidden, total = self.hidden, None
        for d_sums, w in zip(d_gates[:, :, :3].flatten(2), self.weights, strict=True):
            weight = torch.cat((w.weight_ih[2 * hidden :], w.weight_ih[: 2 * hidden]))
            total = d_sums @ weight if total is None else torch.addmm(total, d_sums, weight)
        assert total is not None
        return total.view(self.layer.x.shape)

    def _d_keep(self, d_kept: Tensor) -> Tensor | None:
        by_row = d_kept * self.previous
        if self.layer.batch_sizes is None:
            by_cell = by_row.view(-1, self.time, self.batch, self.hidden)
        else:
            time = torch.arange(self.batch)[None] < self.layer.batch_sizes[:, None]
            by_cell = by_row.new_zeros(len(by_row), self.time, self.batch, self.hidden)
            by_cell[:, time.to(by_row.device)] = by_row
        return _kernel.sum_keep(by_cell, self.keep)

    def _d_weights(self, d_gates: Tensor) -> list[Tensor | None]:
        hidden, x = self.hidden, self.layer.x
        if self.layer.lengths is not None:  # what lies past a row's end may be anything
            x = torch.where(valid_steps(x, self.layer.lengths), x, 0)
        x = x.reshape(self.rows, -1)
        found: list[Tensor | None] = []
        for index, d_all in enumerate(d_gates.flatten(2)):
            kept = self.kept[index]
            found.append(_last_first(d_all[:, : 3 * hidden].mT @ x, hidden))
            if self.product is None:
                found.append(d_all[:, hidden:].mT @ kept)
            else:
                d_candidate = d_all[:, :hidden].mT @ self.product[index]
                found.append(torch.cat((d_all[:, hidden:].mT @ kept, d_candidate)))
            if self.plan.bias:
                sums = d_all.sum(0)
                d_bias_ih = _last_first(sums[: 3 * hidden], hidden)
                found += [d_bias_ih, d_bias_ih.clone() if self.before else sums[hidden:].clone()]
        return found

    def _empty(self, *lead: int) -> Tensor:
        shape = (self.plan.directions, self.rows, *lead, self.hidden)
        return self.layer.x.new_empty(shape)

    def _row_numbers(self) -> dict:
        return {"rows": self.rows, "row_step": self.batch if self.offsets is None else 1}


def _read_ends(layer: Layer, checks: bool) -> tuple[Tensor | None, Tensor | None]:
    """Each row's length, and of packed rows the first of each step; both on the device."""
    device, sizes = layer.x.device, layer.batch_sizes
    if sizes is None:
        if checks:
            check_lengths(layer)
        return _contiguous(layer.lengths), None
    lengths = (sizes[:, None] > torch.arange(int(sizes[0]))).sum(0)
    return _sent(lengths, device), _sent(sizes.cumsum(0) - sizes, device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for what the device is at."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _last_first(stacked: Tensor, hidden: int) -> Tensor:
    """From n, r, z, as the kernels stack gates, to r, z, n."""
    return torch.cat((stacked[hidden:], stacked[:hidden]))


def _dense(tensor: Tensor | None) -> Tensor | None:
    """With each row's numbers side by side, and not too far from the first to the last."""
    if tensor is None:
        return None
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    one_by_one = tensor.stride(-1) == 1 or tensor.size(-1) == 1
    return tensor if one_by_one and reach < 2**31 else tensor.contiguous()


def _paired(tensor: Tensor | None) -> Tensor | None:
    """As `_dense`, with the numbers of two units at a multiple of their length, if units are even.

    As results of torch lie anyway, but views of them may not.
    """
    tensor = _dense(tensor)
    if tensor is None or tensor.size(-1) % 2:
        return tensor
    begins = tensor.data_ptr() % (2 * tensor.itemsize) == 0
    aligned = begins and all(step % 2 == 0 for step in tensor.stride()[:-1])
    return tensor if aligned else tensor.clone(memory_format=torch.contiguous_format)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
