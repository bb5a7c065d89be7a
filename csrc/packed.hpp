// The weights of one direction of one layer, packed into panels once for many calls.
#pragma once

#include "layer.hpp"
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
  std::size_t bytes;

  Layout(Shape s, T* memory, bool backward) : shape(s), gates(gates_of(s.reset)) {
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
    if (storage == stored_bfloat16) return Layout<T, BFloat16>(shape, nullptr, false).bytes;
    if (storage == stored_int8) return Layout<T, Int8>(shape, nullptr, false).bytes;
  }
  return Layout<T>(shape, nullptr, backward).bytes;
}

template <class T>
void pack(const Packed<T>& to, const T* weight_ih, const T* weight_hh, const T* bias_ih,
          const T* bias_hh) {
  const Layout<T> l(to);
  const index hidden = l.shape.hidden, input = l.shape.input, gates = l.gates;
  const bool after = l.shape.reset == reset_after, before = l.shape.reset == reset_before;
  const index hh_gates = l.hh_gates;
  const T* weight_hn = weight_hh + 2 * hidden * hidden;
  pack_gates(l.ih, weight_ih, hidden, gates);
  pack_gates(l.hh, weight_hh, hidden, hh_gates);
  if (before) pack_gates(l.hh_n, weight_hn, hidden, 1);
  __builtin_memset(l.bias_x, 0, gates * l.width * sizeof(T));
  __builtin_memset(l.bias_hn, 0, l.width * sizeof(T));
  for (index gate = 0; gate < gates; ++gate)
    for (index unit = 0; unit < hidden; ++unit) {
      const T b_i = bias_ih ? bias_ih[gate * hidden + unit] : T(0);
      const T b_h = bias_hh ? bias_hh[gate * hidden + unit] : T(0);
      const bool inside = after && gate == 2;  // multiplied by r: may not be added to b_i
      l.bias_x[column<T>(unit, gate, gates)] = inside ? b_i : b_i + b_h;
      if (inside) l.bias_hn[unit] = b_h;
    }
  if (!to.backward) return;
  pack_transposed(l.ih_t, weight_ih, hidden, gates, input);
  pack_transposed(l.hh_t, weight_hh, hidden, hh_gates, hidden);
  if (before) pack_transposed(l.hh_n_t, weight_hn, hidden, 1, hidden);
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
inline void narrow_weights(const Packed<float>& to, const Packed<float>& from) {
  const Layout<float> l(from);
  if (to.storage == stored_bfloat16) narrow_to<BFloat16>(to, l);
  if (to.storage == stored_int8) narrow_to<Int8>(to, l);
}

template <class T>
index saved_size(Shape shape, index cells) {
  return cells * saved_gates(shape.reset) * padded<T>(shape.hidden);
}

}  // namespace tidegate::TIDEGATE_ISA
