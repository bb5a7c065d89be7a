"""ONNX Runtime, inputs and outputs bound to buffers of their own."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from harness.cases import Case, inputs
from harness.peers import STREAMED_STEPS
from harness.peers._onnx import build, output_names
from harness.runner import Runner


def prepare(case: Case) -> dict[str, Runner]:
    """Inference and streaming; it does not train."""
    if case.mode == "training":
        return {}
    session = _session(case)
    return {"ONNX Runtime": (_stream if case.mode == "stream" else _inference)(session, case)}


def version() -> str:
    """As the table names it."""
    return f"ONNX Runtime {ort.__version__}"


def _session(case: Case) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(
        build(case).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _bind(session: ort.InferenceSession, buffers: dict[str, ort.OrtValue]) -> ort.IOBinding:
    binding = session.io_binding()
    for node in session.get_inputs():
        binding.bind_ortvalue_input(node.name, buffers[node.name])
    for node in session.get_outputs():
        name = node.name if node.name in buffers else node.name.replace("h_n", "h_0")
        binding.bind_ortvalue_output(node.name, buffers[name])
    return binding


def _empty(shape: list[int]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cpu")


def _inference(session: ort.InferenceSession, case: Case) -> Runner:
    numbers = inputs(case)
    states = np.split(numbers.h_0, case.layers)
    arrays = {"x": numbers.x} | {f"h_0_{layer}": state for layer, state in enumerate(states)}
    buffers = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    buffers |= {node.name: _empty(node.shape) for node in session.get_outputs()}
    binding = _bind(session, buffers)

    def results() -> list[np.ndarray]:
        session.run_with_iobinding(binding)
        output, *h_n = (buffers[name].numpy() for name in output_names(case))
        return [output, np.concatenate(h_n)]

    return Runner(lambda: session.run_with_iobinding(binding), results)


def _stream(session: ort.InferenceSession, case: Case) -> Runner:
    """Two states, read and written by turns: no call copies anything."""
    numbers = inputs(case)
    x = ort.OrtValue.ortvalue_from_numpy(numbers.x)
    output, odd, even = (
        _empty([1, 1, case.hidden]),
        _empty([1, 1, case.hidden]),
        _empty([1, 1, case.hidden]),
    )
    turns = [
        _bind(session, {"x": x, "h_0_0": old, "h_n_0": new, "output": output})
        for old, new in ((even, odd), (odd, even))
    ]
    count = 0

    def call() -> None:
        nonlocal count
        session.run_with_iobinding(turns[count % 2])
        count += 1

    def results() -> list[np.ndarray]:
        nonlocal count
        count = 0
        even.update_inplace(numbers.h_0)
        for _ in range(STREAMED_STEPS):
            call()
        return [(odd if count % 2 else even).numpy()]

    return Runner(call, results)
