// The two products of a step for some rows, and their gates.
#pragma once

#include "gates.hpp"
#include "packed.hpp"

namespace tidegate::TIDEGATE_ISA {

// Weights that are stored narrower have no gains.
template <class T, class S>
constexpr bool normalises = std::is_same_v<T, S>;

template <class T, class S>
Hats<T> hats_of_row(const Layout<T, S>& l, const GateRow<T>& row) {
  return hats_of(row.normal, l.shape.reset, l.width);
}

// The input's product of a cell, normalised, with its biases.
template <class T, class S>
void normalise_input(const Layout<T, S>& l, T* x, const Hats<T>& hats) {
  const index hidden = l.shape.hidden;
  if (l.gates == 3)
    normalise<3, 2>(hidden, x, l.gains.x, l.bias_x, hats.x, hats.scales);
  else
    normalise<2, 1>(hidden, x, l.gains.x, l.bias_x, hats.x, hats.scales);
}

// The state's product of a cell; its biases are added with the gates. "Before" has W_hn apart.
template <class T, class S>
void normalise_state(const Layout<T, S>& l, T* h, const Hats<T>& hats) {
  const index hidden = l.shape.hidden;
  const T* bias = nullptr;
  T* scales = hats.scales ? hats.scales + 2 : nullptr;
  if (l.shape.reset == reset_after)
    normalise<3, 2>(hidden, h, l.gains.h, bias, hats.h, scales);
  else if (l.shape.reset == reset_before)
    normalise<2, 2>(hidden, h, l.gains.h, bias, hats.h, scales);
  else
    normalise<2, 1>(hidden, h, l.gains.h, bias, hats.h, scales);
}

// W_hn (r * h) of "before".
template <class T, class S>
void normalise_candidate(const Layout<T, S>& l, T* h_n, const Hats<T>& hats) {
  const index apart = 2 * l.width;
  const T* bias = nullptr;
  T* hat = hats.h ? hats.h + apart : nullptr;
  T* scales = hats.scales ? hats.scales + 3 : nullptr;
  normalise<1, 1>(l.shape.hidden, h_n, l.gains.h + apart, bias, hat, scales);
}

// The products of some cells again, from what was kept of them.
template <class T, class S>
void products_again(const Layout<T, S>& l, index count, const GateRow<T>* rows, T* x, index x_row) {
  const index hidden = l.shape.hidden, apart = 2 * l.width;
  const T* none = nullptr;
  for (index i = 0; i < count; ++i, x += x_row) {
    const Hats<T> hats = hats_of_row(l, rows[i]);
    if (l.gates == 3)
      scale_again<3>(hidden, x, l.gains.x, l.bias_x, hats.x);
    else
      scale_again<2>(hidden, x, l.gains.x, l.bias_x, hats.x);
    if (l.hh_gates == 3)
      scale_again<3>(hidden, rows[i].h, l.gains.h, none, hats.h);
    else
      scale_again<2>(hidden, rows[i].h, l.gains.h, none, hats.h);
    if (l.shape.reset == reset_before)
      scale_again<1>(hidden, rows[i].h_n, l.gains.h + apart, none, hats.h + apart);
  }
}

// The gates of the groups [g0, g1) from their products; of "before" r and z, and the gated operands.
template <class T, class S>
void open_gates(const Layout<T, S>& l, index g0, index g1, index count, const GateRow<T>* rows) {
  const index hidden = l.shape.hidden;
  if (l.shape.reset == reset_after)
    gates_after(hidden, g0, g1, rows, count, l.bias_hn);
  else if (l.shape.reset == reset_before)
    gates_before_reset(hidden, g0, g1, rows, count);
  else
    gates_none(hidden, g0, g1, rows, count);
}

// The same from the product of the operands, which `rows->h` receives.
template <class T, class S>
void recurrent_gates(const Layout<T, S>& l, index g0, index g1, index count,
                     const T* const* operands, const GateRow<T>* rows) {
  const index per_group = l.hh_gates * group_vectors;
  const T* none = nullptr;
  product(l.hh, g0 * per_group, g1 * per_group, count, operands, rows->h, l.hh_gates * l.width,
          none, 0);
  if constexpr (normalises<T, S>)
    if (l.shape.norm)
      for (index i = 0; i < count; ++i) normalise_state(l, rows[i].h, hats_of_row(l, rows[i]));
  open_gates(l, g0, g1, count, rows);
}

// The second half of "before": from the gated operands the candidates, and the next states.
template <class T, class S>
void candidate_gates(const Layout<T, S>& l, index g0, index g1, index count, const T* const* gated,
                     const GateRow<T>* rows) {
  const T* none = nullptr;
  product(l.hh_n, g0 * group_vectors, g1 * group_vectors, count, gated, rows->h_n, l.width, none,
          0);
  if constexpr (normalises<T, S>)
    if (l.shape.norm)
      for (index i = 0; i < count; ++i)
        normalise_candidate(l, rows[i].h_n, hats_of_row(l, rows[i]));
  gates_before(l.shape.hidden, g0, g1, rows, count);
}

}  // namespace tidegate::TIDEGATE_ISA
