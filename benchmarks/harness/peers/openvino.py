"""OpenVINO in float32, its own buffers filled once and reused."""

from __future__ import annotations

import numpy as np
import openvino as ov

from harness.cases import Case, inputs
from harness.peers._onnx import build, output_names
from harness.runner import Runner


def prepare(case: Case) -> dict[str, Runner]:
    """Inference alone."""
    if case.mode != "inference":
        return {}
    numbers = inputs(case)
    request = _compile(case).create_infer_request()
    arrays = {"x": numbers.x}
    arrays |= {f"h_0_{i}": state for i, state in enumerate(np.split(numbers.h_0, case.layers))}
    for name, array in arrays.items():
        request.get_tensor(name).data[:] = array

    def call() -> object:
        return request.infer(share_outputs=True)

    def results() -> list[np.ndarray]:
        call()
        output, *h_n = (request.get_tensor(name).data.copy() for name in output_names(case))
        return [output, np.concatenate(h_n)]

    return {"OpenVINO": Runner(call, results)}


def version() -> str:
    """As the table names it."""
    return f"OpenVINO {ov.__version__.split('-')[0]}"


def _compile(case: Case) -> ov.CompiledModel:
    core = ov.Core()
    model = core.read_model(build(case).SerializeToString(), b"")
    settings = {
        "INFERENCE_NUM_THREADS": case.threads,
        "INFERENCE_PRECISION_HINT": "f32",  # it takes bfloat16 by itself where it finds it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # pinned, it would lose to any neighbour on its core
    }
    return core.compile_model(model, "CPU", settings)
