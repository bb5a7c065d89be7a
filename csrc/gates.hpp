// The gate arithmetic of one row at one step, forward and backward.
//
// Buffers hold columns [group][gate][unit], see panels.hpp; `x` and `h` are the pre-activations
// from the input (with every bias that simply adds) and from the state.
//   after:  r, z = sigmoid(x + h)   n = tanh(x_n + r * (h_n + b_hn))   saved: r z n, h_n + b_hn
//   before: r, z = sigmoid(x + h)   n = tanh(x_n + h_n), h_n from r * state        saved: r z n
//   none:      z = sigmoid(x + h)   n = tanh(x_n + h_n)                              saved: z n
// and then, always, state <- (1 - z) * n + z * state.
#pragma once

#include "layer.hpp"
#include "panels.hpp"

namespace tidegate::TIDEGATE_ISA {

constexpr index saved_gates(int reset) {
  return reset == reset_after ? 4 : reset == reset_before ? 3 : 2;
}

// Calls f(unit, valid lanes, vector in the group's gate, group) for each vector of units.
template <class T, class F>
TIDEGATE_INLINE void for_units(index hidden, index group_begin, index group_end, F f) {
  for (index g = group_begin; g < group_end; ++g)
    for (index u = 0; u < group_vectors; ++u) {
      const index unit = g * group<T> + u * lanes<T>;
      if (unit >= hidden) return;
      f(unit, hidden - unit, u * lanes<T>, g);
    }
}

template <class T>
TIDEGATE_INLINE T* gate_at(T* row, index g, index gate, index gates, index vector) {
  return row + (g * gates + gate) * group<T> + vector;
}

// Where the gates of one cell are kept (buffer layout) and shown (r, z, n by rows); null: nowhere.
template <class T>
struct GateSinks {
  T* saved;
  T* shown;
  index shown_gate;
};

template <class T>
TIDEGATE_INLINE void show(const GateSinks<T>& sinks, index gate, index unit, index n, Vec<T> v) {
  if (sinks.shown) store_n(sinks.shown + gate * sinks.shown_gate + unit, v, n);
}

template <class T>
TIDEGATE_INLINE void keep_gate(const GateSinks<T>& sinks, index g, index gate, index gates,
                               index vector, Vec<T> v) {
  if (sinks.saved) store(gate_at(sinks.saved, g, gate, gates, vector), v);
}

// One vector of units of "after": `h_*` are the products of the state, `next` may be null when only
// the gates are wanted; `state` and `next` may be the same row.
template <class T>
TIDEGATE_INLINE void gate_after(index unit, index n, index v, index g, Vec<T> h_r, Vec<T> h_z,
                                Vec<T> h_c, const T* x, const T* bias_hn, const T* state, T* next,
                                const GateSinks<T>& sinks) {
  const auto r = sigmoid<T>(load(gate_at(x, g, 0, 3, v)) + h_r);
  const auto z = sigmoid<T>(load(gate_at(x, g, 1, 3, v)) + h_z);
  const auto h_n = h_c + load(bias_hn + unit);
  const auto c = tanh<T>(fma(r, h_n, load(gate_at(x, g, 2, 3, v))));
  keep_gate(sinks, g, 0, 4, v, r);
  keep_gate(sinks, g, 1, 4, v, z);
  keep_gate(sinks, g, 2, 4, v, c);
  keep_gate(sinks, g, 3, 4, v, h_n);
  show(sinks, 0, unit, n, r);
  show(sinks, 1, unit, n, z);
  show(sinks, 2, unit, n, c);
  if (next) store_n(next + unit, fma(z, load_n(state + unit, n) - c, c), n);
}

template <class T>
void gates_after(index hidden, index g0, index g1, const T* x, const T* h, const T* bias_hn,
                 const T* state, T* next, const GateSinks<T>& sinks) {
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    gate_after(unit, n, v, g, load(gate_at(h, g, 0, 3, v)), load(gate_at(h, g, 1, 3, v)),
               load(gate_at(h, g, 2, 3, v)), x, bias_hn, state, next, sinks);
  });
}

// First half of "before": r and z, left in h, and the gated state r * state.
template <class T>
void gates_before_reset(index hidden, index g0, index g1, const T* x, T* h, const T* state,
                        T* gated, const GateSinks<T>& sinks) {
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto r = sigmoid<T>(load(gate_at(x, g, 0, 3, v)) + load(gate_at(h, g, 0, 2, v)));
    const auto z = sigmoid<T>(load(gate_at(x, g, 1, 3, v)) + load(gate_at(h, g, 1, 2, v)));
    store(gate_at(h, g, 1, 2, v), z);
    keep_gate(sinks, g, 0, 3, v, r);
    keep_gate(sinks, g, 1, 3, v, z);
    show(sinks, 0, unit, n, r);
    show(sinks, 1, unit, n, z);
    store_n(gated + unit, r * load_n(state + unit, n), n);
  });
}

// Second half: the candidate from the gated state's product h_n, and the next state.
template <class T>
void gates_before(index hidden, index g0, index g1, const T* x, const T* h, const T* h_n,
                  const T* state, T* next, const GateSinks<T>& sinks) {
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto c = tanh<T>(load(gate_at(x, g, 2, 3, v)) + load(h_n + unit));
    keep_gate(sinks, g, 2, 3, v, c);
    show(sinks, 2, unit, n, c);
    const auto z = load(gate_at(h, g, 1, 2, v));
    if (next) store_n(next + unit, fma(z, load_n(state + unit, n) - c, c), n);
  });
}

template <class T>
void gates_none(index hidden, index g0, index g1, const T* x, const T* h, const T* state, T* next,
                const GateSinks<T>& sinks) {
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto z = sigmoid<T>(load(gate_at(x, g, 0, 2, v)) + load(gate_at(h, g, 0, 2, v)));
    const auto c = tanh<T>(load(gate_at(x, g, 1, 2, v)) + load(gate_at(h, g, 1, 2, v)));
    keep_gate(sinks, g, 0, 2, v, z);
    keep_gate(sinks, g, 1, 2, v, c);
    show(sinks, 0, unit, n, z);
    show(sinks, 1, unit, n, c);
    if (next) store_n(next + unit, fma(z, load_n(state + unit, n) - c, c), n);
  });
}

// Gradient arriving at one cell from outside the recurrence; null: none.
template <class T>
struct CellGradients {
  const T* d_output;
  const T* d_gates;  // of r, z, n as values
  index d_gates_gate;

  TIDEGATE_INLINE Vec<T> output(index unit, index n) const {
    return d_output ? load_n(d_output + unit, n) : Vec<T>{};
  }
  TIDEGATE_INLINE Vec<T> gate(index gate, index unit, index n) const {
    return d_gates ? load_n(d_gates + gate * d_gates_gate + unit, n) : Vec<T>{};
  }
};

// Gates are read up to the last unit only: past it an infinite input leaves NaN, which the zero
// weights of the padding would not stop.
//
// In: d_state, the gradient of the new state. Out: d_x, d_h, the gradients of the pre-activations,
// and in d_state what reaches the old state along the carry, z * d_state.
template <class T>
void backward_after(index hidden, index g0, index g1, const T* saved, const T* state,
                    const CellGradients<T>& from, T* d_state, T* d_x, T* d_h) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto r = load_n(gate_at(saved, g, 0, 4, v), n), z = load_n(gate_at(saved, g, 1, 4, v), n);
    const auto c = load_n(gate_at(saved, g, 2, 4, v), n),
               h_n = load_n(gate_at(saved, g, 3, 4, v), n);
    const auto d = load(d_state + unit) + from.output(unit, n);
    const auto carried = z * d;
    const auto d_c = (d - carried + from.gate(2, unit, n)) * fnma(c, c, one);
    const auto d_z = fma(d, load_n(state + unit, n) - c, from.gate(1, unit, n)) * (z * (one - z));
    const auto d_r = fma(d_c, h_n, from.gate(0, unit, n)) * (r * (one - r));
    store(gate_at(d_x, g, 0, 3, v), d_r);
    store(gate_at(d_x, g, 1, 3, v), d_z);
    store(gate_at(d_x, g, 2, 3, v), d_c);
    store(gate_at(d_h, g, 0, 3, v), d_r);
    store(gate_at(d_h, g, 1, 3, v), d_z);
    store(gate_at(d_h, g, 2, 3, v), d_c * r);
    store(d_state + unit, carried);
  });
}

// First half of "before": candidate and update gate.
template <class T>
void backward_before(index hidden, index g0, index g1, const T* saved, const T* state,
                     const CellGradients<T>& from, T* d_state, T* d_x, T* d_rz, T* d_n) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto z = load_n(gate_at(saved, g, 1, 3, v), n), c = load_n(gate_at(saved, g, 2, 3, v), n);
    const auto d = load(d_state + unit) + from.output(unit, n);
    const auto carried = z * d;
    const auto d_c = (d - carried + from.gate(2, unit, n)) * fnma(c, c, one);
    const auto d_z = fma(d, load_n(state + unit, n) - c, from.gate(1, unit, n)) * (z * (one - z));
    store(gate_at(d_x, g, 1, 3, v), d_z);
    store(gate_at(d_x, g, 2, 3, v), d_c);
    store(gate_at(d_rz, g, 1, 2, v), d_z);
    store(d_n + unit, d_c);
    store(d_state + unit, carried);
  });
}

// Second half: from d_gated, the gradient of r * state, to the reset gate, and to the state: the
// operand's gradient r * d_gated replaces d_gated.
template <class T>
void backward_before_reset(index hidden, index g0, index g1, const T* saved, const T* state,
                           const CellGradients<T>& from, T* d_gated, T* d_x, T* d_rz) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto r = load_n(gate_at(saved, g, 0, 3, v), n), d = load(d_gated + unit);
    const auto d_r = fma(d, load_n(state + unit, n), from.gate(0, unit, n)) * (r * (one - r));
    store(gate_at(d_x, g, 0, 3, v), d_r);
    store(gate_at(d_rz, g, 0, 2, v), d_r);
    store(d_gated + unit, r * d);
  });
}

template <class T>
void backward_none(index hidden, index g0, index g1, const T* saved, const T* state,
                   const CellGradients<T>& from, T* d_state, T* d_x) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
    const auto z = load_n(gate_at(saved, g, 0, 2, v), n), c = load_n(gate_at(saved, g, 1, 2, v), n);
    const auto d = load(d_state + unit) + from.output(unit, n);
    const auto carried = z * d;
    const auto d_c = (d - carried + from.gate(1, unit, n)) * fnma(c, c, one);
    const auto d_z = fma(d, load_n(state + unit, n) - c, from.gate(0, unit, n)) * (z * (one - z));
    store(gate_at(d_x, g, 0, 2, v), d_z);
    store(gate_at(d_x, g, 1, 2, v), d_c);
    store(d_state + unit, carried);
  });
}

}  // namespace tidegate::TIDEGATE_ISA
