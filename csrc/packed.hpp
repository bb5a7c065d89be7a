// The weights of one direction of one layer, packed into panels once for many calls.
#pragma once

#include "layer.hpp"
#include "layer_norm.hpp"
#include "panels.hpp"

namespace tidegate::TIDEGATE_ISA {

template <class T>
T* take(Arena& arena, index count) {
  const std::size_t bytes = (std::size_t(count) * sizeof(T) + 63) / 64 * 64;
  T* p = arena.base ? reinterpret_cast<T*>(arena.base + arena.used) : nullptr;
  arena.used += bytes;
  return p;
}

// What meets the state is multiplied in whole numbers; inputs may be of any scale, side by side.
template <class S>
using Recurrent = std::conditional_t<std::is_same_v<S, Int8>, Int8Pair, S>;

template <class T>
void clear(T* p, index count) {
  __builtin_memset(p, 0, count * sizeof(T));
}

// `before` keeps W_hn apart, since it meets r * h; the other cells have all gates in `hh`.
// S is how the forward weights are stored; only weights stored as T have transposes.
template <class T, class S = T>
struct Layout {
  Shape shape;
  index gates, hh_gates, width;  // hh_gates: of `hh`; width: units, padded to whole groups
  Panels<T, S> ih;  // forward
  Panels<T, Recurrent<S>> hh, hh_n;
  Panels<T> ih_t, hh_t, hh_n_t;  // backward
  T *bias_x, *bias_hn;  // [group][gate][unit]; [unit], after alone
  Gains<T> gains;  // where products are normalised: as the gates; "before" has W_hn's last
  Gains<T> means;  // there, of the columns of the weights: of the gates, then of the candidate
  std::size_t bytes;

  TIDEGATE_APART Layout(Shape s, T* memory, bool backward) : shape(s), gates(gates_of(s.reset)) {
    const bool apart = s.reset == reset_before;
    hh_gates = apart ? 2 : gates;
    width = padded<T>(s.hidden);
    Arena arena{reinterpret_cast<char*>(memory), 0};
    const auto place = [&]<class Stored>(Panels<T, Stored> p) {
      p.data = take<Stored>(arena, p.size());
      if (std::is_same_v<Stored, Int8> || std::is_same_v<Stored, Int8Pair>)
        p.scale = take<T>(arena, p.vectors * lanes<T>);
      return p;
    };
    ih = place(gate_panels<T, S>(s.input, s.hidden, gates));
    hh = place(gate_panels<T, Recurrent<S>>(s.hidden, s.hidden, hh_gates));
    hh_n = apart ? place(gate_panels<T, Recurrent<S>>(s.hidden, s.hidden, 1))
                 : Panels<T, Recurrent<S>>{};
    bias_x = take<T>(arena, gates * width);
    bias_hn = take<T>(arena, width);
    gains.x = take<T>(arena, s.norm ? gates * width : 0);
    gains.h = take<T>(arena, s.norm ? gates * width : 0);
    means.x = take<T>(arena, s.norm ? 2 * s.input : 0);
    means.h = take<T>(arena, s.norm ? 2 * s.hidden : 0);
    if (backward) {
      ih_t = place(plain_panels<T>(gates * width, s.input));
      hh_t = place(plain_panels<T>(hh_gates * width, s.hidden));
      hh_n_t = apart ? place(plain_panels<T>(width, s.hidden)) : Panels<T>{};
    }
    bytes = arena.used;
  }
  explicit Layout(const Packed<T>& p) : Layout(p.shape, p.memory, p.backward) {}
};

template <class T>
std::size_t packed_bytes(Shape shape, int storage, bool backward) {
  if constexpr (sizeof(T) == 4) {
    if (storage == stored_bfloat16) return Layout<T, BFloat16Pair>(shape, nullptr, false).bytes;
    if (storage == stored_int8) return Layout<T, Int8>(shape, nullptr, false).bytes;
  }
  return Layout<T>(shape, nullptr, backward).bytes;
}

// Where a gate of the state's products stands among them.
template <class T, class S>
index recurrent_column(const Layout<T, S>& l, index unit, index gate) {
  if (l.shape.reset != reset_before) return column<T>(unit, gate, l.gates);
  return gate < 2 ? column<T>(unit, gate, 2) : 2 * l.width + unit;
}

template <class T>
void pack_gains(const Layout<T>& l, const Given<T>& from) {
  clear(l.gains.x, l.gates * l.width);
  clear(l.gains.h, l.gates * l.width);
  const index hidden = l.shape.hidden;
  for (index gate = 0; gate < l.gates; ++gate)
    for (index unit = 0; unit < hidden; ++unit) {
      l.gains.x[column<T>(unit, gate, l.gates)] = from.norm_ih[gate * hidden + unit];
      l.gains.h[recurrent_column(l, unit, gate)] = from.norm_hh[gate * hidden + unit];
    }
}

template <class T>
void pack_biases(const Layout<T>& l, const Given<T>& from) {
  const index hidden = l.shape.hidden, gates = l.gates;
  clear(l.bias_x, gates * l.width);
  clear(l.bias_hn, l.width);
  for (index gate = 0; gate < gates; ++gate)
    for (index unit = 0; unit < hidden; ++unit) {
      const T b_i = from.bias_ih ? from.bias_ih[gate * hidden + unit] : T(0);
      const T b_h = from.bias_hh ? from.bias_hh[gate * hidden + unit] : T(0);
      const bool inside =
          l.shape.reset == reset_after && gate == 2;  // multiplied by r: stays apart
      l.bias_x[column<T>(unit, gate, gates)] = inside ? b_i : b_i + b_h;
      if (inside) l.bias_hn[unit] = b_h;
    }
}

// Where products are normalised: the means that `pack` takes out of the weights, for a part of the
// columns.
template <class T>
void measure(const Packed<T>& to, const Given<T>& from, int part, int parts) {
  const Layout<T> l(to);
  const index hidden = l.shape.hidden, together = (l.gates - 1) * hidden;
  const auto both = [&](const T* weight, index columns, T* means) {
    const index vectors = ceil_div(columns, lanes<T>);
    const index begin = vectors * part / parts * lanes<T>;
    const index all = vectors * (part + 1) / parts * lanes<T>, end = all < columns ? all : columns;
    column_means(weight, together, columns, begin, end, means);
    column_means(weight + together * columns, hidden, columns, begin, end, means + columns);
  };
  both(from.weight_ih, l.shape.input, l.means.x);
  both(from.weight_hh, hidden, l.means.h);
}

// One of `parts` parts, which several threads may pack side by side.
template <class T>
void pack(const Packed<T>& to, const Given<T>& from, int part, int parts) {
  const Layout<T> l(to);
  const index hidden = l.shape.hidden, input = l.shape.input, gates = l.gates;
  const index hh_gates = l.hh_gates, groups = l.width / group<T>;
  const index begin = groups * part / parts * group<T>;
  const index end = groups * (part + 1) / parts * group<T>;
  const bool before = l.shape.reset == reset_before;
  const T* weight_hn = from.weight_hh + 2 * hidden * hidden;
  const index together = l.shape.norm ? (gates - 1) * hidden : 0;
  pack_gates(l.ih, from.weight_ih, begin, end, hidden, gates, l.means.x, together);
  pack_gates(l.hh, from.weight_hh, begin, end, hidden, hh_gates, l.means.h, together);
  if (before) pack_gates(l.hh_n, weight_hn, begin, end, hidden, 1, l.means.h + hidden, together);
  if (part == 0) pack_biases(l, from);
  if (part == 0 && l.shape.norm) pack_gains(l, from);
  if (!to.backward) return;
  pack_transposed(l.ih_t, from.weight_ih, hidden, gates, input, part, parts);
  pack_transposed(l.hh_t, from.weight_hh, hidden, hh_gates, hidden, part, parts);
  if (before) pack_transposed(l.hh_n_t, weight_hn, hidden, 1, hidden, part, parts);
}

template <class S>
void narrow_to(const Packed<float>& to, const Layout<float>& from) {
  const Layout<float, S> l(to);
  narrow(l.ih, from.ih);
  narrow(l.hh, from.hh);
  if (from.hh_n.data) narrow(l.hh_n, from.hh_n);
  __builtin_memcpy(l.bias_x, from.bias_x, l.gates * l.width * sizeof(float));
  __builtin_memcpy(l.bias_hn, from.bias_hn, l.width * sizeof(float));
}

// The same weights, stored as `to` says.
template <class T>
void narrow_weights(const Packed<T>& to, const Packed<T>& from) {
  if constexpr (sizeof(T) == 4) {
    const Layout<T> l(from);
    if (to.storage == stored_bfloat16) narrow_to<BFloat16Pair>(to, l);
    if (to.storage == stored_int8) narrow_to<Int8>(to, l);
  }
}

// What forward keeps for backward: the gates, or what they are made of where products are normalised.
template <class T>
index saved_size(Shape shape, index cells) {
  const index width = padded<T>(shape.hidden);
  return cells * (shape.norm ? hats_size(shape.reset, width) : saved_gates(shape.reset) * width);
}

}  // namespace tidegate::TIDEGATE_ISA
