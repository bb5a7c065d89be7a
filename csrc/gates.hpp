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

// One vector of units: its first unit, the units from there on, where it stands in a gate of its group,
// and the group.
struct Units {
  index first, left, vector, group;
};

// Calls f for each vector of units of the groups [g0, g1).
template <class T, class F>
TIDEGATE_INLINE void for_units(index hidden, index g0, index g1, F f) {
  for (index g = g0; g < g1; ++g)
    for (index u = 0; u < group_vectors; ++u) {
      const index unit = g * group<T> + u * lanes<T>;
      if (unit >= hidden) return;
      f(Units{unit, hidden - unit, u * lanes<T>, g});
    }
}

template <class T>
TIDEGATE_INLINE T* gate_at(T* row, const Units& u, index gate, index gates) {
  return row + (u.group * gates + gate) * group<T> + u.vector;
}

// Where the gates of one cell are kept (buffer layout) and shown (r, z, n by rows); null: nowhere.
template <class T>
struct GateSinks {
  T* saved;
  T* shown;
  index shown_gate;

  TIDEGATE_INLINE void save(const Units& u, index gate, index gates, Vec<T> v) const {
    if (saved) store(gate_at(saved, u, gate, gates), v);
  }
  TIDEGATE_INLINE void show(const Units& u, index gate, Vec<T> v) const {
    if (shown) store_n(shown + gate * shown_gate + u.first, v, u.left);
  }
};

// One row at one step: what its gates read and write. `next` may be `state`, and is null where only
// the gates are wanted.
template <class T>
struct GateRow {
  const T* x;
  T* h;
  const T* state;
  T* next;
  GateSinks<T> sinks;
  const T* operand;  // before: what r multiplies, and the product of that
  T* gated;
  T* h_n;
  T* normal = nullptr;  // layer_norm.hpp: where the normalised products are kept

  TIDEGATE_INLINE void step(const Units& u, Vec<T> z, Vec<T> c) const {
    if (next) store_n(next + u.first, fma(z, load_n(state + u.first, u.left) - c, c), u.left);
  }
};

// Calls f.operator()<n>(i) for the rows [i, i + n), up to gate_rows of them at a time, whose gates are
// computed side by side.
template <int n = gate_rows, class F>
TIDEGATE_INLINE void for_rows(index count, F f, index i = 0) {
  for (; i + n <= count; i += n) f.template operator()<n>(i);
  if constexpr (n > 1) for_rows<n / 2>(count, f, i);
}

// "after", from r and z before their sigmoid and the state's product in h_n.
template <class T, int n>
struct AfterGates {
  Vec<T> r[n], z[n], c[n], h_n[n];

  // c holds x_n.
  TIDEGATE_INLINE void activate(const Vec<T> (&bias_hn)[n]) {
    sigmoid_each<T>(r);
    sigmoid_each<T>(z);
    TIDEGATE_UNROLLED(i, 0, n) h_n[i] += bias_hn[i];
    TIDEGATE_UNROLLED(i, 0, n) c[i] = fma(r[i], h_n[i], c[i]);
    tanh_each<T>(c);
  }
  TIDEGATE_INLINE void write(int i, const GateRow<T>& row, const Units& u) const {
    row.sinks.save(u, 0, 4, r[i]);
    row.sinks.save(u, 1, 4, z[i]);
    row.sinks.save(u, 2, 4, c[i]);
    row.sinks.save(u, 3, 4, h_n[i]);
    row.sinks.show(u, 0, r[i]);
    row.sinks.show(u, 1, z[i]);
    row.sinks.show(u, 2, c[i]);
    row.step(u, z[i], c[i]);
  }
};

template <class T>
void gates_after(index hidden, index g0, index g1, const GateRow<T>* rows, index count,
                 const T* bias_hn) {
  for_rows(count, [&]<int n>(index first) {
    const GateRow<T>* const row = rows + first;
    for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
      AfterGates<T, n> gates;
      Vec<T> bias[n];
      TIDEGATE_UNROLLED(i, 0, n) {
        const T *x = row[i].x, *h = row[i].h;
        gates.r[i] = load(gate_at(x, u, 0, 3)) + load(gate_at(h, u, 0, 3));
        gates.z[i] = load(gate_at(x, u, 1, 3)) + load(gate_at(h, u, 1, 3));
        gates.c[i] = load(gate_at(x, u, 2, 3));
        gates.h_n[i] = load(gate_at(h, u, 2, 3));
        bias[i] = load(bias_hn + u.first);
      }
      gates.activate(bias);
      TIDEGATE_UNROLLED(i, 0, n) gates.write(i, row[i], u);
    });
  });
}

// First half of "before": r and z, left in h, and the gated operand.
template <class T>
void gates_before_reset(index hidden, index g0, index g1, const GateRow<T>* rows, index count) {
  for_rows(count, [&]<int n>(index first) {
    const GateRow<T>* const row = rows + first;
    for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
      Vec<T> r[n], z[n];
      TIDEGATE_UNROLLED(i, 0, n) {
        const T *x = row[i].x, *h = row[i].h;
        r[i] = load(gate_at(x, u, 0, 3)) + load(gate_at(h, u, 0, 2));
        z[i] = load(gate_at(x, u, 1, 3)) + load(gate_at(h, u, 1, 2));
      }
      sigmoid_each<T>(r);
      sigmoid_each<T>(z);
      TIDEGATE_UNROLLED(i, 0, n) {
        store(gate_at(row[i].h, u, 1, 2), z[i]);
        row[i].sinks.save(u, 0, 3, r[i]);
        row[i].sinks.save(u, 1, 3, z[i]);
        row[i].sinks.show(u, 0, r[i]);
        row[i].sinks.show(u, 1, z[i]);
        store_n(row[i].gated + u.first, r[i] * load_n(row[i].operand + u.first, u.left), u.left);
      }
    });
  });
}

// Second half: the candidate from the gated operand's product h_n, and the next state.
template <class T>
void gates_before(index hidden, index g0, index g1, const GateRow<T>* rows, index count) {
  for_rows(count, [&]<int n>(index first) {
    const GateRow<T>* const row = rows + first;
    for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
      Vec<T> c[n];
      TIDEGATE_UNROLLED(i, 0, n)
      c[i] = load(gate_at(row[i].x, u, 2, 3)) + load(row[i].h_n + u.first);
      tanh_each<T>(c);
      TIDEGATE_UNROLLED(i, 0, n) {
        row[i].sinks.save(u, 2, 3, c[i]);
        row[i].sinks.show(u, 2, c[i]);
        row[i].step(u, load(gate_at(row[i].h, u, 1, 2)), c[i]);
      }
    });
  });
}

template <class T>
void gates_none(index hidden, index g0, index g1, const GateRow<T>* rows, index count) {
  for_rows(count, [&]<int n>(index first) {
    const GateRow<T>* const row = rows + first;
    for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
      Vec<T> z[n], c[n];
      TIDEGATE_UNROLLED(i, 0, n) {
        const T *x = row[i].x, *h = row[i].h;
        z[i] = load(gate_at(x, u, 0, 2)) + load(gate_at(h, u, 0, 2));
        c[i] = load(gate_at(x, u, 1, 2)) + load(gate_at(h, u, 1, 2));
      }
      sigmoid_each<T>(z);
      tanh_each<T>(c);
      TIDEGATE_UNROLLED(i, 0, n) {
        row[i].sinks.save(u, 0, 2, z[i]);
        row[i].sinks.save(u, 1, 2, c[i]);
        row[i].sinks.show(u, 0, z[i]);
        row[i].sinks.show(u, 1, c[i]);
        row[i].step(u, z[i], c[i]);
      }
    });
  });
}

// Gradient arriving at one cell from outside the recurrence; null: none.
template <class T>
struct CellGradients {
  const T* d_output;
  const T* d_gates;  // of r, z, n as values
  index d_gates_gate;

  TIDEGATE_INLINE Vec<T> output(const Units& u) const {
    return d_output ? load_n(d_output + u.first, u.left) : Vec<T>{};
  }
  TIDEGATE_INLINE Vec<T> gate(index gate, const Units& u) const {
    return d_gates ? load_n(d_gates + gate * d_gates_gate + u.first, u.left) : Vec<T>{};
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
  for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
    const auto r = load_n(gate_at(saved, u, 0, 4), u.left),
               z = load_n(gate_at(saved, u, 1, 4), u.left);
    const auto c = load_n(gate_at(saved, u, 2, 4), u.left),
               h_n = load_n(gate_at(saved, u, 3, 4), u.left);
    const auto d = load(d_state + u.first) + from.output(u);
    const auto carried = z * d;
    const auto d_c = (d - carried + from.gate(2, u)) * fnma(c, c, one);
    const auto d_z = fma(d, load_n(state + u.first, u.left) - c, from.gate(1, u)) * (z * (one - z));
    const auto d_r = fma(d_c, h_n, from.gate(0, u)) * (r * (one - r));
    store(gate_at(d_x, u, 0, 3), d_r);
    store(gate_at(d_x, u, 1, 3), d_z);
    store(gate_at(d_x, u, 2, 3), d_c);
    store(gate_at(d_h, u, 0, 3), d_r);
    store(gate_at(d_h, u, 1, 3), d_z);
    store(gate_at(d_h, u, 2, 3), d_c * r);
    store(d_state + u.first, carried);
  });
}

// First half of "before": candidate and update gate.
template <class T>
void backward_before(index hidden, index g0, index g1, const T* saved, const T* state,
                     const CellGradients<T>& from, T* d_state, T* d_x, T* d_rz, T* d_n) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
    const auto z = load_n(gate_at(saved, u, 1, 3), u.left),
               c = load_n(gate_at(saved, u, 2, 3), u.left);
    const auto d = load(d_state + u.first) + from.output(u);
    const auto carried = z * d;
    const auto d_c = (d - carried + from.gate(2, u)) * fnma(c, c, one);
    const auto d_z = fma(d, load_n(state + u.first, u.left) - c, from.gate(1, u)) * (z * (one - z));
    store(gate_at(d_x, u, 1, 3), d_z);
    store(gate_at(d_x, u, 2, 3), d_c);
    store(gate_at(d_rz, u, 1, 2), d_z);
    store(d_n + u.first, d_c);
    store(d_state + u.first, carried);
  });
}

// Second half: from d_gated, the gradient of r * state, to the reset gate, and to the state: the
// operand's gradient r * d_gated replaces d_gated.
template <class T>
void backward_before_reset(index hidden, index g0, index g1, const T* saved, const T* state,
                           const CellGradients<T>& from, T* d_gated, T* d_x, T* d_rz) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
    const auto r = load_n(gate_at(saved, u, 0, 3), u.left), d = load(d_gated + u.first);
    const auto d_r = fma(d, load_n(state + u.first, u.left), from.gate(0, u)) * (r * (one - r));
    store(gate_at(d_x, u, 0, 3), d_r);
    store(gate_at(d_rz, u, 0, 2), d_r);
    store(d_gated + u.first, r * d);
  });
}

template <class T>
void backward_none(index hidden, index g0, index g1, const T* saved, const T* state,
                   const CellGradients<T>& from, T* d_state, T* d_x) {
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
    const auto z = load_n(gate_at(saved, u, 0, 2), u.left),
               c = load_n(gate_at(saved, u, 1, 2), u.left);
    const auto d = load(d_state + u.first) + from.output(u);
    const auto carried = z * d;
    const auto d_c = (d - carried + from.gate(1, u)) * fnma(c, c, one);
    const auto d_z = fma(d, load_n(state + u.first, u.left) - c, from.gate(0, u)) * (z * (one - z));
    store(gate_at(d_x, u, 0, 2), d_z);
    store(gate_at(d_x, u, 1, 2), d_c);
    store(d_state + u.first, carried);
  });
}

}  // namespace tidegate::TIDEGATE_ISA
