// The two products of a step for some rows, and their gates.
#pragma once

#include "gates.hpp"
#include "packed.hpp"

namespace tidegate::TIDEGATE_ISA {

// The gates of the groups [g0, g1), from the product of the operands, which `rows->h` receives. Of
// "before" they are r and z, and the gated operands.
template <class T, class S>
void recurrent_gates(const Layout<T, S>& l, index g0, index g1, index count,
                     const T* const* operands, const GateRow<T>* rows) {
  const index hidden = l.shape.hidden, per_group = l.hh_gates * group_vectors;
  const T* none = nullptr;
  product(l.hh, g0 * per_group, g1 * per_group, count, operands, rows->h, l.hh_gates * l.width,
          none, 0);
  if (l.shape.reset == reset_after)
    gates_after(hidden, g0, g1, rows, count, l.bias_hn);
  else if (l.shape.reset == reset_before)
    gates_before_reset(hidden, g0, g1, rows, count);
  else
    gates_none(hidden, g0, g1, rows, count);
}

// The second half of "before": from the gated operands the candidates, and the next states.
template <class T, class S>
void candidate_gates(const Layout<T, S>& l, index g0, index g1, index count, const T* const* gated,
                     const GateRow<T>* rows) {
  const T* none = nullptr;
  product(l.hh_n, g0 * group_vectors, g1 * group_vectors, count, gated, rows->h_n, l.width, none,
          0);
  gates_before(l.shape.hidden, g0, g1, rows, count);
}

}  // namespace tidegate::TIDEGATE_ISA
