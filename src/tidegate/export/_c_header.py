"""A model as one C99 header: its weights, and a function that takes a step.

The header includes nothing but <stdint.h>, calls no function but its own, and takes no memory but
the state that its user gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .. import __version__
from .._files import replacing
from ..errors import InputError
from ..runtime import (
    GRU,
    Activation,
    AddInput,
    Embedding,
    Last,
    Layer,
    LayerNorm,
    Linear,
    Model,
    Stack,
)
from ..runtime._stream import check_stack

Array = np.ndarray


def write_header(model: Model, path: Path) -> None:
    """Write the model as a C header; its names begin with that of the file.

    Raises:
        InputError: the model cannot be run step by step, is not float32, or has weights that are
            not finite; or the file cannot be written.
    """
    text = header(model.stack, path.stem)
    with replacing(path) as part:
        part.write_text(text, encoding="ascii")


def header(stack: Stack, name: str) -> str:
    """The text of the header.

    Raises:
        InputError: the model cannot be run step by step, is not float32, or has weights that are
            not finite.
    """
    check_stack(stack)
    if stack.dtype != np.float32:
        raise InputError(f"a C header holds float32 weights, and the model's are {stack.dtype}")
    for array_name, array in stack.arrays():
        if not np.isfinite(array).all():
            raise InputError(f"{array_name} has numbers that are not finite")
    return _Writer(stack, _identifier(name)).text()


def _identifier(name: str) -> str:
    name = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return f"model_{name}" if not name or name[0].isdigit() else name


class _Writer:
    """Collects what a stack needs: weights, helpers, calls, and the largest buffer."""

    def __init__(self, stack: Stack, name: str):
        self.stack, self.name = stack, name
        self.weights: list[str] = []
        self.calls: list[str] = []
        self.helpers: set[str] = set()
        self.states: list[int] = []
        self.widest = self.gates = 1

    def text(self) -> str:
        """The header."""
        self._walk()
        n, upper = self.name, self.name.upper()
        symbols = isinstance(self.stack.layers[0], Embedding)
        if not symbols:
            self.helpers.add("finite")
        argument = "int32_t x" if symbols else "const float *x"
        states = "".join(f"  float h{i}[{size}];\n" for i, size in enumerate(self.states))
        zeros = "".join(
            f"  for (i = 0; i < {size}; ++i) state->h{i}[i] = 0.0f;\n"
            for i, size in enumerate(self.states)
        )
        refused = "is no symbol" if symbols else "is not finite"
        begin = f"  int32_t i;\n{zeros}" if zeros else "  (void)state;\n"
        helpers = "\n".join(_HELPERS[h].replace("@", n) for h in _HELPERS if h in self._needed())
        inputs = "" if symbols else f"#define {upper}_INPUTS {self.stack.input_size}\n"
        check = (
            f"  if (x < 0 || x >= {len(self.stack.layers[0].weight)}) return 1;\n"
            if isinstance(self.stack.layers[0], Embedding)
            else f"  if (!{n}_finite(x, {self.stack.input_size})) return 1;\n"
        )
        return f"""\
/* A model of gated recurrent units, written by tidegate {__version__}: C99, no library needed.

     {n}_state state;
     float y[{upper}_OUTPUTS];
     {n}_begin(&state);
     {n}_step(&state, x, y);   for each x: y is what the model gives, the state goes on

   A step returns 0; or 1, and changes nothing, if x {refused}. */
#ifndef TIDEGATE_{upper}_H
#define TIDEGATE_{upper}_H

#include <stdint.h>

{inputs}#define {upper}_OUTPUTS {self.stack.output_size}

typedef struct {{
{states}  float gates[{self.gates}], rows[2][{self.widest}]; /* between layers */
}} {n}_state;

{"".join(self.weights)}
{helpers}
static inline void {n}_begin({n}_state *state) {{
{begin}}}

static inline int {n}_step({n}_state *state, {argument}, float *y) {{
  int32_t k;
  const float *in = {"0" if symbols else "x"};
{check}{"".join(self.calls)}  for (k = 0; k < {self.stack.output_size}; ++k) y[k] = in[k];
  return 0;
}}

#endif
"""

    def _walk(self) -> None:
        size, turn = self.stack.input_size, 0
        for number, layer in enumerate(self.stack.layers):
            output = layer.output_size(size)
            self.widest = max(self.widest, output)
            if isinstance(layer, GRU):
                self._gru(number, layer)
            elif isinstance(layer, Embedding):
                weight = self._array(number, "weight", layer.weight)
                self.calls.append(f"  in = {weight} + x * {output};\n")
            elif not isinstance(layer, Last):
                self._between(number, layer, size, output, turn)
                turn = 1 - turn
            size = output

    def _gru(self, number: int, layer: GRU) -> None:
        (w,) = layer.directions
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        arrays = [self._array(number, name, getattr(w, name)) for name in names]
        state = f"state->h{len(self.states)}"
        self.states.append(layer.hidden_size)
        self.gates = max(self.gates, 6 * layer.hidden_size)
        self.helpers.add(f"gru_{w.reset}")
        sizes = f"{layer.input_size}, {layer.hidden_size}"
        arguments = f"{', '.join(arrays)}, {sizes}, in, {state}, state->gates"
        self.calls.append(f"  {self.name}_gru_{w.reset}({arguments});\n  in = {state};\n")

    def _between(self, number: int, layer: Layer, size: int, output: int, turn: int) -> None:
        out, n = f"state->rows[{turn}]", self.name
        match layer:
            case Linear():
                weight = self._array(number, "weight", layer.weight)
                bias = layer.bias if layer.bias is not None else np.zeros(output, np.float32)
                self.helpers.add("affine")
                arguments = f"{weight}, {self._array(number, 'bias', bias)}, in, {output}, {size}"
                call = f"{n}_affine({arguments}, {out})"
            case LayerNorm():
                ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
                weight = self._array(
                    number, "weight", ones if layer.weight is None else layer.weight
                )
                bias = self._array(number, "bias", zeros if layer.bias is None else layer.bias)
                self.helpers.add("normalise")
                call = f"{n}_normalise({weight}, {bias}, {_literal(layer.eps)}, in, {size}, {out})"
            case Activation():
                self.helpers.add(layer.name)
                alpha = f", {_literal(layer.alpha)}" if layer.name in ("elu", "leaky_relu") else ""
                call = f"{n}_{layer.name}(in, {size}{alpha}, {out})"
            case AddInput():
                self.helpers.add("add")
                call = f"{n}_add(in, x, {size}, {out})"
            case _:
                raise InputError(f"a {type(layer).__name__} layer cannot be said in C")
        self.calls.append(f"  {call};\n  in = {out};\n")

    def _array(self, number: int, name: str, array: Array) -> str:
        full = f"{self.name}_{number}_{name}"
        numbers = [_literal(value) for value in array.ravel()]
        rows = [", ".join(numbers[i : i + 8]) for i in range(0, len(numbers), 8)]
        body = ",\n  ".join(rows)
        self.weights.append(f"static const float {full}[{len(numbers)}] = {{\n  {body}}};\n")
        return full

    def _needed(self) -> set[str]:
        needed, fresh = set(), set(self.helpers)
        while fresh:
            needed |= fresh
            texts = [_HELPERS[name] for name in fresh]
            fresh = {h for h in _HELPERS for t in texts if f"@_{h}(" in t} - needed
        return needed


def _literal(value: float) -> str:
    text = f"{float(np.float32(value)):.9g}"
    return text + ("f" if any(c in text for c in ".e") else ".0f")


def _elementwise(name: str, value: str, more: str = "") -> str:
    return f"""\
static inline void @_{name}(const float *x, int32_t n{more}, float *y) {{
  int32_t i;
  for (i = 0; i < n; ++i) y[i] = {value};
}}
"""


def _gru(reset: str, gates: int, body: Iterable[str]) -> str:
    lines = "".join(f"    {line}\n" for line in body)
    return f"""\
static inline void @_gru_{reset}(const float *w_ih, const float *w_hh, const float *b_ih,
                         const float *b_hh, int32_t inputs, int32_t hidden, const float *in,
                         float *h, float *gates) {{
  int32_t i;
  float *a = gates, *b = gates + {gates} * hidden;
  @_affine(w_ih, b_ih, in, {gates} * hidden, inputs, a);
{lines}}}
"""


# In the order in which they are written: each calls only those above.
_HELPERS = {
    "exp": """\
/* 2^n * 2^f with |f| <= 1/2; below the smallest normal number, 0. */
static inline float @_exp(float x) {
  union { float value; uint32_t bits; } scale;
  float n, r, p;
  if (x != x) return x;
  if (x < -87.3f) return 0.0f;
  if (x > 88.0f) x = 88.0f;
  n = (float)(int32_t)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
  r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666672f + r * (0.0416666679f +
      r * (0.00833333377f + r * (0.00138888892f + r * 0.000198412701f))))));
  scale.bits = (uint32_t)((int32_t)n + 127) << 23;
  return p * scale.value;
}
""",
    "log": """\
/* Of a positive normal number: its exponent, and a series in (m - 1) / (m + 1). */
static inline float @_log(float x) {
  union { float value; uint32_t bits; } part;
  float e, s, q;
  part.value = x;
  e = (float)((int32_t)(part.bits >> 23) - 127);
  part.bits = (part.bits & 0x7fffffu) | 0x3f800000u;
  if (part.value > 1.41421354f) {
    part.value *= 0.5f;
    e += 1.0f;
  }
  s = (part.value - 1.0f) / (part.value + 1.0f);
  q = s * s;
  return e * 0.693147182f + 2.0f * s * (1.0f + q * (0.333333343f + q * (0.2f + q * (0.142857149f +
      q * 0.111111112f))));
}
""",
    "sqrt": """\
static inline float @_sqrt(float x) {
  union { float value; uint32_t bits; } guess;
  int32_t i;
  if (!(x > 0.0f)) return 0.0f;
  guess.value = x;
  guess.bits = (guess.bits >> 1) + 0x1fbd1df5u;
  for (i = 0; i < 4; ++i) guess.value = 0.5f * (guess.value + x / guess.value);
  return guess.value;
}
""",
    "sigmoid_of": """\
static inline float @_sigmoid_of(float x) {
  const float e = @_exp(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
""",
    "tanh_of": """\
/* Near zero a series, so that nothing is lost in 1 - 1. */
static inline float @_tanh_of(float x) {
  const float a = x < 0.0f ? -x : x, q = x * x;
  float t;
  if (a < 0.25f)
    return x * (1.0f + q * (-0.333333343f + q * (0.133333340f + q * (-0.0539682545f +
           q * (0.0218694881f - q * 0.00886323582f)))));
  t = a > 9.5f ? 1.0f : 1.0f - 2.0f / (@_exp(2.0f * a) + 1.0f);
  return x < 0.0f ? -t : x != x ? x : t;
}
""",
    "finite": """\
static inline int @_finite(const float *x, int32_t n) {
  int32_t i;
  for (i = 0; i < n; ++i)
    if (!(x[i] - x[i] == 0.0f)) return 0;
  return 1;
}
""",
    "affine": """\
/* y = w x + b, with w (rows, columns). */
static inline void @_affine(const float *w, const float *b, const float *x, int32_t rows,
                            int32_t columns, float *y) {
  int32_t i, k;
  for (i = 0; i < rows; ++i) {
    float sum = b[i];
    for (k = 0; k < columns; ++k) sum += w[(int32_t)(i * columns + k)] * x[k];
    y[i] = sum;
  }
}
""",
    "gru_after": _gru(
        "after",
        3,
        [
            "@_affine(w_hh, b_hh, h, 3 * hidden, hidden, b);",
            "for (i = 0; i < hidden; ++i) {",
            "  const float r = @_sigmoid_of(a[i] + b[i]);",
            "  const float z = @_sigmoid_of(a[hidden + i] + b[hidden + i]);",
            "  const float n = @_tanh_of(a[2 * hidden + i] + r * b[2 * hidden + i]);",
            "  h[i] = n + z * (h[i] - n);",
            "}",
        ],
    ),
    "gru_before": _gru(
        "before",
        3,
        [
            "@_affine(w_hh, b_hh, h, 2 * hidden, hidden, b);",
            "for (i = 0; i < hidden; ++i) a[i] = h[i] * @_sigmoid_of(a[i] + b[i]);",
            "@_affine(w_hh + 2 * hidden * hidden, b_hh + 2 * hidden, a, hidden, hidden, "
            "b + 2 * hidden);",
            "for (i = 0; i < hidden; ++i) {",
            "  const float z = @_sigmoid_of(a[hidden + i] + b[hidden + i]);",
            "  const float n = @_tanh_of(a[2 * hidden + i] + b[2 * hidden + i]);",
            "  h[i] = n + z * (h[i] - n);",
            "}",
        ],
    ),
    "gru_none": _gru(
        "none",
        2,
        [
            "@_affine(w_hh, b_hh, h, 2 * hidden, hidden, b);",
            "for (i = 0; i < hidden; ++i) {",
            "  const float z = @_sigmoid_of(a[i] + b[i]);",
            "  const float n = @_tanh_of(a[hidden + i] + b[hidden + i]);",
            "  h[i] = n + z * (h[i] - n);",
            "}",
        ],
    ),
    "normalise": """\
static inline void @_normalise(const float *weight, const float *bias, float eps, const float *x,
                               int32_t n, float *y) {
  float mean = 0.0f, variance = 0.0f, scale;
  int32_t i;
  for (i = 0; i < n; ++i) mean += x[i];
  mean /= (float)n;
  for (i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean);
  scale = 1.0f / @_sqrt(variance / (float)n + eps);
  for (i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}
""",
    "relu": _elementwise("relu", "x[i] > 0.0f ? x[i] : 0.0f"),
    "leaky_relu": _elementwise("leaky_relu", "x[i] < 0.0f ? alpha * x[i] : x[i]", ", float alpha"),
    "elu": _elementwise(
        "elu", "x[i] < 0.0f ? alpha * (@_exp(x[i]) - 1.0f) : x[i]", ", float alpha"
    ),
    "tanh": _elementwise("tanh", "@_tanh_of(x[i])"),
    "sigmoid": _elementwise("sigmoid", "@_sigmoid_of(x[i])"),
    "silu": _elementwise("silu", "x[i] * @_sigmoid_of(x[i])"),
    "softplus": _elementwise(
        "softplus",
        "(x[i] > 0.0f ? x[i] : 0.0f) + @_log(1.0f + @_exp(x[i] < 0.0f ? x[i] : -x[i]))",
    ),
    "exponentials": """\
/* y = exp(x - its largest); returns their sum. */
static inline float @_exponentials(const float *x, int32_t n, float *y) {
  float largest = x[0], sum = 0.0f;
  int32_t i;
  for (i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (i = 0; i < n; ++i) {
    y[i] = @_exp(x[i] - largest);
    sum += y[i];
  }
  return sum;
}
""",
    "softmax": """\
static inline void @_softmax(const float *x, int32_t n, float *y) {
  const float sum = @_exponentials(x, n, y);
  int32_t i;
  for (i = 0; i < n; ++i) y[i] /= sum;
}
""",
    "log_softmax": """\
static inline void @_log_softmax(const float *x, int32_t n, float *y) {
  float largest = x[0], above;
  int32_t i;
  for (i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  above = largest + @_log(@_exponentials(x, n, y));
  for (i = 0; i < n; ++i) y[i] = x[i] - above;
}
""",
    "add": """\
static inline void @_add(const float *a, const float *b, int32_t n, float *y) {
  int32_t i;
  for (i = 0; i < n; ++i) y[i] = a[i] + b[i];
}
""",
}
