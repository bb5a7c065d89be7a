// Where the arrays of a call are, for one thread's slice of it: rows, steps, chunks of steps.
#pragma once

#include "gates.hpp"
#include "packed.hpp"

namespace tidegate::TIDEGATE_ISA {

constexpr index chunk_bytes = 256 * 1024;  // of the largest buffer, a part of the second cache
constexpr index product_rows = 48;  // cells of a product whose result is used at once

// Cells that a chunk has at least, if there are so many. A chunk reads all input weights once, and
// backward reads and writes all weight gradients: the larger they are, the more cells must share.
constexpr index chunk_rows(index hidden) {
  return hidden < 96 ? 48 : hidden > 1024 ? 512 : hidden / 2;
}

template <class T>
struct Places {
  const Call<T>& c;
  const Slice& s;

  index row(index i) const { return s.rows[i]; }
  index time(index step, index i) const { return c.reverse ? s.lengths[i] - 1 - step : step; }
  index at(index step, index i, index time_stride, index row_stride) const {
    const index t = time(step, i);
    return c.offsets ? (c.offsets[t] + row(i)) * row_stride : t * time_stride + row(i) * row_stride;
  }
  // The row of x; or where its token is, which only `gather` and `scatter` read.
  const T* x(index step, index i) const {
    const index place = at(step, i, c.x_time, c.x_batch);
    return c.tokens ? reinterpret_cast<const T*>(c.tokens + place) : c.x + place;
  }
  T* output(index step, index i) const {
    return c.output + at(step, i, c.output_time, c.output_batch);
  }
  const T* initial(index i, const T* zeros) const {
    return c.h_0 ? c.h_0 + row(i) * c.weights->shape.hidden : zeros;
  }
  const T* state(index step, index i, const T* zeros) const {
    return step ? output(step - 1, i) : initial(i, zeros);
  }
  index keep(index step, index i) const {
    return time(step, i) * c.keep_time + row(i) * c.keep_batch;
  }
  const T* zone(index step, index i) const {
    return c.zone + time(step, i) * c.zone_time + row(i) * c.zone_batch;
  }
  T* saved(index step, index i) const {
    return c.saved ? c.saved + saved_size<T>(c.weights->shape, c.row_cell[row(i)] + step) : nullptr;
  }
  Hats<T> hats(index step, index i) const {
    const Shape& shape = c.weights->shape;
    return hats_of(saved(step, i), shape.reset, padded<T>(shape.hidden));
  }
  GateSinks<T> sinks(index step, index i, T* saved) const {
    T* shown = c.gates ? c.gates + at(step, i, c.output_time, c.output_batch) : nullptr;
    return {saved, shown, c.gates_gate};
  }
  CellGradients<T> gradients(index step, index i) const {
    return {c.d_output ? c.d_output + at(step, i, c.d_output_time, c.d_output_batch) : nullptr,
            c.d_gates ? c.d_gates + at(step, i, c.d_gates_time, c.d_gates_batch) : nullptr,
            c.d_gates_gate};
  }
  index steps() const { return s.count ? s.lengths[0] : 0; }
  // Rows alive at a step, counted down or up from the last answer.
  index alive(index step, index guess) const {
    while (guess > 0 && s.lengths[guess - 1] <= step) --guess;
    while (guess < s.count && s.lengths[guess] > step) ++guess;
    return guess;
  }
  index unit_begin() const { return s.group_begin * group<T>; }
  index unit_end() const {
    const index end = s.group_end * group<T>, hidden = c.weights->shape.hidden;
    return end < hidden ? end : hidden;
  }
};

// Steps in a chunk, whose largest buffer has every gate of every unit.
template <class T>
index chunk_steps(const Layout<T>& l, const Slice& s, index steps) {
  if (s.count == 0 || steps == 0) return 1;
  const index by_bytes = chunk_bytes / (l.gates * l.width * index(sizeof(T)) * s.count);
  // A chunk of one row is a block of its sums, whether one thread makes it or two.
  const index by_cache = s.count > 1 || by_bytes < cell_block ? by_bytes : cell_block;
  const index by_rows = ceil_div(chunk_rows(l.shape.hidden), s.count);
  const index chunk = by_cache > by_rows ? by_cache : by_rows;
  return chunk < 1 ? 1 : chunk < steps ? chunk : steps;
}

// keep and mask applied to one row's state: `carried` goes along the carry, `operand` meets the
// weights. Without either, both are the state itself.
template <class T>
struct Operand {
  const T* carried;
  const T* operand;
};

template <class T>
Operand<T> apply_keep_and_mask(const Places<T>& at, index step, index i, const T* state, T* kept,
                               T* masked) {
  const Call<T>& c = at.c;
  const index hidden = c.weights->shape.hidden;
  Operand<T> result{state, state};
  if (c.keep) {
    const T* keep = c.keep + at.keep(step, i);
    for (index u = 0; u < hidden; ++u) kept[u] = keep[u * c.keep_unit] * state[u];
    result = {kept, kept};
  }
  if (c.mask) {
    const T* mask = c.mask + at.row(i) * hidden;
    for (index u = 0; u < hidden; ++u) masked[u] = mask[u] * result.carried[u];
    result.operand = masked;
  }
  return result;
}

// Zoneout: of each unit of a new state, the share `zone` is the old one instead.
template <class T>
TIDEGATE_INLINE Vec<T> share_of(const Call<T>& c, const T* zone, const Units& u) {
  return c.zone_unit ? load_n(zone + u.first, u.left) : broadcast(zone[0]);
}

template <class T>
void stay(const Places<T>& at, index step, index i, const T* carried, T* next) {
  const T* zone = at.zone(step, i);
  const index hidden = at.c.weights->shape.hidden;
  const Vec<T> one = broadcast(T(1));
  for_units<T>(hidden, at.s.group_begin, at.s.group_end, [&](const Units& u) TIDEGATE_INLINED {
    const auto share = share_of(at.c, zone, u), old = load_n(carried + u.first, u.left);
    const auto made = (one - share) * load_n(next + u.first, u.left);
    store_n(next + u.first, fma(share, old, made), u.left);
  });
}

}  // namespace tidegate::TIDEGATE_ISA
