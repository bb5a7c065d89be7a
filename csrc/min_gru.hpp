// The recurrence of a minGRU (Feng et al. 2024, arXiv:2410.01201) over a sequence, forward and
// backward, for one thread's part of the rows and units.
//
//   z_t = sigmoid(x_z),  n_t = x_n, or g(x_n);  h_t = (1 - z_t) * keep_t * h_{t-1} + z_t * n_t
//
// Its gates do not see the state, so that x_z and x_n of all steps are one product, done before. What
// is left has no product and no dependence between units: a step reads two numbers and writes one for
// each unit, and is as fast as memory is. A scan in log(time) steps would do the same work several
// times over. Its z admits the new, the opposite of the GRU's.
#pragma once

#include "layer.hpp"
#include "vec.hpp"

namespace tidegate::TIDEGATE_ISA {

// g keeps the candidate positive: x + 1/2 above zero, sigmoid(x) below.
template <class T>
TIDEGATE_INLINE Vec<T> candidate(Vec<T> x, bool positive) {
  if (!positive) return x;
  return where_less(x, Vec<T>{}, sigmoid<T>(x), x + broadcast(T(0.5)));
}

template <class T>
TIDEGATE_INLINE Vec<T> candidate_slope(Vec<T> x, Vec<T> n, bool positive) {
  const Vec<T> one = broadcast(T(1));
  if (!positive) return one;
  return where_less(x, Vec<T>{}, n * (one - n), one);
}

template <class T>
TIDEGATE_INLINE index length_of(const MinGru<T>& c, index row) {
  return c.lengths ? index(c.lengths[row]) : c.time;
}

// The k-th step that a row takes, and the step before it, or -1.
template <class T>
TIDEGATE_INLINE index step_of(const MinGru<T>& c, index length, index k) {
  return c.reverse ? length - 1 - k : k;
}

// The state before the k-th step of a row, from the output or from where it began; null for zeros.
template <class T>
TIDEGATE_INLINE const T* state_before(const MinGru<T>& c, index row, index length, index k) {
  if (k == 0) return c.h_0 ? c.h_0 + row * c.hidden : nullptr;
  return c.output + step_of(c, length, k - 1) * c.output_time + row * c.output_batch;
}

template <class T>
TIDEGATE_INLINE Vec<T> load_or_zero(const T* p, index u, index n) {
  return p ? load_n(p + u, n) : Vec<T>{};
}

template <class T>
TIDEGATE_INLINE Vec<T> keep_of(const MinGru<T>& c, const T* keep, index u, index n) {
  if (!keep) return broadcast(T(1));
  return c.keep_unit ? load_n(keep + u, n) : broadcast(keep[0]);
}

template <class T>
TIDEGATE_INLINE const T* keep_at(const MinGru<T>& c, index t, index row) {
  return c.keep ? c.keep + t * c.keep_time + row * c.keep_batch : nullptr;
}

// body(row, k) for every row of the part and k = 0 .. time - 1, neighbours in memory one after another.
template <class T, class Body>
TIDEGATE_INLINE void in_order(const MinGru<T>& c, const Part& part, Body body) {
  if (c.output_batch > c.output_time) {
    for (index row = part.row_begin; row < part.row_end; ++row)
      for (index k = 0; k < c.time; ++k) body(row, k);
  } else {
    for (index k = 0; k < c.time; ++k)
      for (index row = part.row_begin; row < part.row_end; ++row) body(row, k);
  }
}

template <class T>
void fill_zero(T* p, index begin, index end) {
  for (index u = begin; u < end; ++u) p[u] = T(0);
}

template <class T>
void min_gru_forward(const MinGru<T>& c, const Part& part) {
  in_order(c, part, [&](index row, index k) {
    const index length = length_of(c, row);
    if (k >= length) {  // a step past the end, wherever the row begins
      fill_zero(c.output + k * c.output_time + row * c.output_batch, part.unit_begin,
                part.unit_end);
      return;
    }
    const index t = step_of(c, length, k);
    const T* x = c.x_gates + t * c.x_time + row * c.x_batch;
    const T* before = state_before(c, row, length, k);
    const T* keep = keep_at(c, t, row);
    T* h = c.output + t * c.output_time + row * c.output_batch;
    for (index u = part.unit_begin; u < part.unit_end; u += lanes<T>) {
      const index n = part.unit_end - u;
      const Vec<T> z = sigmoid<T>(load_n(x + u, n));
      const Vec<T> candidate_n = candidate<T>(load_n(x + c.hidden + u, n), c.positive);
      const Vec<T> kept = load_or_zero(before, u, n) * keep_of(c, keep, u, n);
      store_n(h + u, fma(z, candidate_n - kept, kept), n);
    }
  });
  for (index row = part.row_begin; row < part.row_end; ++row) {
    const index length = length_of(c, row);
    const T* last = state_before(c, row, length, length);
    T* h_n = c.h_n + row * c.hidden;
    for (index u = part.unit_begin; u < part.unit_end; ++u) h_n[u] = last ? last[u] : T(0);
  }
}

// d_h_0 carries the gradient of the state from step to step.
template <class T>
void min_gru_backward(const MinGru<T>& c, const Part& part) {
  for (index row = part.row_begin; row < part.row_end; ++row) {
    const T* from = c.d_h_n ? c.d_h_n + row * c.hidden : nullptr;
    T* carried = c.d_h_0 + row * c.hidden;
    for (index u = part.unit_begin; u < part.unit_end; ++u) carried[u] = from ? from[u] : T(0);
  }
  const Vec<T> one = broadcast(T(1));
  in_order(c, part, [&](index row, index k) {
    const index length = length_of(c, row);
    // The last step first; those past the end, which have no gradient, before it.
    const index place = c.time - 1 - k;
    T* d_keep = c.d_keep ? c.d_keep + row * c.hidden : nullptr;
    const index d_keep_time = c.batch * c.hidden;
    if (place >= length) {
      T* d_x = c.d_x_gates + place * c.d_x_time + row * c.d_x_batch;
      fill_zero(d_x, part.unit_begin, part.unit_end);
      fill_zero(d_x + c.hidden, part.unit_begin, part.unit_end);
      if (d_keep) fill_zero(d_keep + place * d_keep_time, part.unit_begin, part.unit_end);
      return;
    }
    const index t = step_of(c, length, place);
    const T* x = c.x_gates + t * c.x_time + row * c.x_batch;
    const T* before = state_before(c, row, length, place);
    const T* keep = keep_at(c, t, row);
    const T* d_output =
        c.d_output ? c.d_output + t * c.d_output_time + row * c.d_output_batch : nullptr;
    T* d_x = c.d_x_gates + t * c.d_x_time + row * c.d_x_batch;
    T* carried = c.d_h_0 + row * c.hidden;
    for (index u = part.unit_begin; u < part.unit_end; u += lanes<T>) {
      const index n = part.unit_end - u;
      const Vec<T> x_n = load_n(x + c.hidden + u, n);
      const Vec<T> z = sigmoid<T>(load_n(x + u, n));
      const Vec<T> new_n = candidate<T>(x_n, c.positive);
      const Vec<T> h = load_or_zero(before, u, n), factor = keep_of(c, keep, u, n);
      const Vec<T> d_h = load_n(carried + u, n) + load_or_zero(d_output, u, n);
      const Vec<T> d_kept = d_h * (one - z);
      store_n(d_x + u, d_h * (new_n - h * factor) * z * (one - z), n);
      store_n(d_x + c.hidden + u, d_h * z * candidate_slope<T>(x_n, new_n, c.positive), n);
      if (d_keep) store_n(d_keep + t * d_keep_time + u, d_kept * h, n);
      store_n(carried + u, d_kept * factor, n);
    }
  });
}

}  // namespace tidegate::TIDEGATE_ISA
