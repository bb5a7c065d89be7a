"""The ONNX project's own tests of the GRU node, through our importer and kernels.

They come with the package onnx, which makes them in memory; layout=1 is among them.
"""

import functools
import importlib
import warnings

import onnx
import pytest
from onnx import numpy_helper

from helpers import assert_matches
from tidegate.export import from_onnx_model

FIRST = "defaults", "with_initial_bias", "seq_length", "batchwise"
LATER = "reverse", "bidirectional"  # which onnx 1.17 does not have yet


@functools.cache
def cases():
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"{node.__name__}.gru")  # which makes them; all others take seconds
    return {
        case.name.removeprefix("test_gru_"): case
        for case in node._NodeTestCases
        if case.name.startswith("test_gru_")
    }


def test_none_is_left_out():
    assert {*FIRST} <= cases().keys() <= {*FIRST, *LATER}


@pytest.mark.parametrize("name", [*FIRST, *LATER])
def test_node(name):
    if name in LATER and name not in cases():
        pytest.skip("a later onnx has it")
    model = onnx.ModelProto()
    model.CopyFrom(cases()[name].model)
    ((inputs, outputs),) = cases()[name].data_sets
    feeds = dict(zip((given.name for given in model.graph.input), inputs, strict=True))
    for weight in filter(None, model.graph.node[0].input[1:4]):  # given, where a model holds them
        model.graph.initializer.append(numpy_helper.from_array(feeds[weight], weight))
    found = from_onnx_model(model).run(feeds)
    for ours, expected in zip(found, outputs, strict=True):
        assert_matches(ours, expected)
