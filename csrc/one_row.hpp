// A step of "after" for one row: the sums of a few groups of units stay in registers from the product
// until their gates are computed, while the processor already multiplies for the next groups.
//
// The arithmetic, and so every bit, is that of `product` and `gates_after`.
#pragma once

#include "gates.hpp"
#include "packed.hpp"

namespace tidegate::TIDEGATE_ISA {

// Groups whose products run side by side: sums enough to hide most of a multiply-add's latency.
constexpr int groups_at_once = 2;

template <class T, class S>
struct OneRow {
  const Panels<T, Recurrent<S>>& w;  // columns [group][gate][unit]
  index hidden;
  const T* bias_hn;
  const GateRow<T>& row;  // its h: products of the blocks of k so far
};

// A block of the row as the weights meet it.
template <class T>
struct PlainRow {
  const T* numbers;
};

template <class T, class S>
using RowFor =
    std::conditional_t<std::is_same_v<S, Int8>, WholeRow,
                       std::conditional_t<std::is_same_v<S, BFloat16Pair>, SplitRow, PlainRow<T>>>;

inline void prepare(const float* x, index count, WholeRow& to) { to_whole(x, count, to); }
inline void prepare(const float* x, index count, SplitRow& to) { split(x, count, to); }
template <class T>
void prepare(const T* x, index, PlainRow<T>& to) {
  to.numbers = x;
}

// The i-th vector of units from group g on.
template <class T, class S>
TIDEGATE_INLINE Units units(const OneRow<T, S>& a, index g, index i) {
  const index at = g + i / group_vectors, vector = i % group_vectors * lanes<T>;
  const index first = at * group<T> + vector;
  return {first, a.hidden - first, vector, at};
}

// The groups [g, g + groups) over k in [k0, k0 + count).
template <int groups, class T, class S>
TIDEGATE_INLINE void one_row_groups(const OneRow<T, S>& a, const RowFor<T, S>& in, index g,
                                    index k0, index count) {
  constexpr index size = lanes<T>, width = gate_panel;
  constexpr int vectors = groups * 3 * group_vectors;
  const index first = g * 3 * group_vectors, w_row = width * size, w_panel = w_row * a.w.rows();
  const auto* w = a.w.panel(first / width) + k0 / k_of_row<Recurrent<S>> * w_row;
  const auto offset = [&](index v) { return v / width * w_panel + v % width * size; };
  Vec<T> sum[vectors];
  if constexpr (std::is_same_v<S, Int8>) {
    I32 whole[vectors];
    TIDEGATE_UNROLLED(v, 0, vectors) whole[v] = I32{};
    for (index k = 0; 2 * k < count; ++k, w += w_row) {
      const std::int32_t pair = in.pair(k);
      TIDEGATE_UNROLLED(v, 0, vectors)
      whole[v] = add_products(whole[v], w + offset(v), pair);
    }
    TIDEGATE_UNROLLED(v, 0, vectors) {
      sum[v] = __builtin_convertvector(whole[v], F32) * load(a.w.scale + (first + v) * size);
      sum[v] = sum[v] * broadcast(in.scale);
    }
  } else if constexpr (std::is_same_v<S, BFloat16Pair>) {
    const T* numbers[] = {in.numbers};
    Vec<T> sums[1][vectors];
    TIDEGATE_UNROLLED(v, 0, vectors) sums[0][v] = Vec<T>{};
    add_pairs(w, w_row, count, numbers, offset, sums);
    TIDEGATE_UNROLLED(v, 0, vectors) sum[v] = sums[0][v];
  } else {
    TIDEGATE_UNROLLED(v, 0, vectors) sum[v] = Vec<T>{};
    for (index k = 0; k < count; ++k, w += w_row) {
      const Vec<T> value = broadcast(in.numbers[k]);
      TIDEGATE_UNROLLED(v, 0, vectors)
      sum[v] = fma(value, load_weight(w + offset(v)), sum[v]);
    }
  }
  T* h = a.row.h + g * 3 * group<T>;
  TIDEGATE_UNROLLED(v, 0, vectors) {
    if (k0) sum[v] = load(h + v * size) + sum[v];
  }
  if (k0 + count < a.w.k) {
    TIDEGATE_UNROLLED(v, 0, vectors) store(h + v * size, sum[v]);
    return;
  }
  constexpr int cells = groups * group_vectors;
  AfterGates<T, cells> gates;
  Vec<T> bias[cells];
  TIDEGATE_UNROLLED(i, 0, cells) {
    const Units u = units<T>(a, g, i);
    const Vec<T>* of_gate = sum + i / group_vectors * 3 * group_vectors + i % group_vectors;
    gates.r[i] = load(gate_at(a.row.x, u, 0, 3)) + of_gate[0];
    gates.z[i] = load(gate_at(a.row.x, u, 1, 3)) + of_gate[group_vectors];
    gates.c[i] = load(gate_at(a.row.x, u, 2, 3));
    gates.h_n[i] = of_gate[2 * group_vectors];
    bias[i] = load(a.bias_hn + u.first);
  }
  gates.activate(bias);
  TIDEGATE_UNROLLED(i, 0, cells) {
    const Units u = units<T>(a, g, i);
    if (u.left > 0) gates.write(i, a.row, u);
  }
}

template <class T, class S, int groups = groups_at_once>
void one_row_few(const OneRow<T, S>& a, const RowFor<T, S>& in, index g, index n, index k0,
                 index count) {
  if (n == groups) return one_row_groups<groups>(a, in, g, k0, count);
  if constexpr (groups > 1) one_row_few<T, S, groups - 1>(a, in, g, n, k0, count);
}

// The groups [g0, g1), from the last to the first if `turned`: what a step read last is what the
// next one still finds in the first cache.
template <class T, class S>
void one_row_after(const OneRow<T, S>& a, index g0, index g1, bool turned) {
  const index parts = ceil_div(g1 - g0, index(groups_at_once));
  RowFor<T, S> in;
  for (index k0 = 0; k0 < a.w.k; k0 += k_block) {
    const index count = a.w.k - k0 < k_block ? a.w.k - k0 : k_block;
    prepare(a.row.operand + k0, count, in);
    for (index part = 0; part < parts; ++part) {
      const index p = turned ? parts - 1 - part : part;
      const index g = g0 + (g1 - g0) * p / parts, end = g0 + (g1 - g0) * (p + 1) / parts;
      one_row_few(a, in, g, end - g, k0, count);
    }
  }
}

// Successive steps of one row. States are whole vectors, their lanes past the last unit zero: what was
// stored by a mask cannot be read on at once.
template <class T>
struct RowSteps {
  const T* state;  // before the first step
  const T* x_gates;
  index x_row;
  T* h_gates;
  T* next;
  index next_row;
  GateSinks<T> sinks;  // of the first step
  index saved_row;

  // Step i, and on to the next one.
  TIDEGATE_INLINE GateRow<T> take() {
    const GateRow<T> row{x_gates, h_gates, state, next, sinks, state, nullptr, nullptr};
    x_gates += x_row;
    state = next;
    next += next_row;
    if (sinks.saved) sinks.saved += saved_row;
    if (sinks.shown) sinks.shown += next_row;
    return row;
  }
};

// So many groups of one row stay in registers for a whole step: their weights stay in the first cache.
constexpr int groups_in_registers = group_vectors == 1 ? 3 : 2;

template <int groups = groups_in_registers, class T, class S>
bool steps_in_registers(const Layout<T, S>& l, index steps, RowSteps<T> r) {
  if (l.width == groups * group<T>) {
    RowFor<T, S> in;
    for (index i = 0; i < steps; ++i) {
      const GateRow<T> row = r.take();
      prepare(row.operand, l.hh.k, in);
      one_row_groups<groups>(OneRow<T, S>{l.hh, l.width, l.bias_hn, row}, in, 0, 0, l.hh.k);
    }
    return true;
  }
  if constexpr (groups > 1) return steps_in_registers<groups - 1>(l, steps, r);
  return false;
}

// "after" alone; `turned` if the first step reads its weights from the last to the first.
template <class T, class S>
void one_row_steps(const Layout<T, S>& l, index steps, RowSteps<T> r, bool turned) {
  if (steps_in_registers(l, steps, r)) return;
  for (index i = 0; i < steps; ++i, turned = !turned) {
    const GateRow<T> row = r.take();
    one_row_after(OneRow<T, S>{l.hh, l.width, l.bias_hn, row}, 0, l.width / group<T>, turned);
  }
}

}  // namespace tidegate::TIDEGATE_ISA
