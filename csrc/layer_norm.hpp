// Layer normalisation of the products of one cell (Ba, Kiros & Hinton 2016, equations 22 to 25).
//
//   y = gain * hat,  hat = (u - mean(u)) * scale,  scale = 1 / sqrt(variance(u) + epsilon)
//
// over the gates r and z together and over the candidate alone, of the product of the input and of
// that of the state; biases are added afterwards. Backward, from dy:
//
//   d_gain += dy * hat,  d_bias += dy,  g = gain * dy,  du = scale * (g - mean(g) - hat * mean(g hat))
//
// The sums over a row are always taken in the same order, so a row's bits do not depend on its
// neighbours. Buffers are as in gates.hpp; what lies past the last unit counts for nothing.
#pragma once

#include "gates.hpp"

namespace tidegate::TIDEGATE_ISA {

constexpr double norm_epsilon = 1e-5;  // torch's
constexpr index norm_scales = 16;  // a whole line; four are used

// Gains, laid out as the products that they multiply.
template <class T>
struct Gains {
  T *x, *h;
};

// What backward needs of a cell, after its gates: both products normalised, and the four scales.
template <class T>
struct Hats {
  T *x, *h, *scales;
};

constexpr index hats_size(int reset, index width) {
  return 2 * gates_of(reset) * width + norm_scales;
}

template <class T>
Hats<T> hats_of(T* cell, int reset, index width) {
  if (!cell) return {};
  T* x = cell + saved_gates(reset) * width;
  T* h = x + gates_of(reset) * width;
  return {x, h, h + gates_of(reset) * width};
}

template <class T, int size, std::size_t... j>
TIDEGATE_INLINE Vec<T> add_across(Vec<T> v, std::index_sequence<j...>) {
  return v + __builtin_shufflevector(v, v, (j ^ size)...);
}

// The sum of all lanes, in each of them.
template <class T, int size = lanes<T> / 2>
TIDEGATE_INLINE Vec<T> add_lanes(Vec<T> v) {
  v = add_across<T, size>(v, std::make_index_sequence<lanes<T>>());
  if constexpr (size > 1) v = add_lanes<T, size / 2>(v);
  return v;
}

// The first n lanes, and zeros.
template <class T>
TIDEGATE_INLINE Vec<T> first_lanes(Vec<T> v, index n) {
  if (n >= lanes<T>) return v;
  Vec<T> place{};
  TIDEGATE_UNROLLED(i, 0, lanes<T>) place[i] = T(i);
  return where_less(place, broadcast(T(n)), v, Vec<T>{});
}

// Sums over the units, one vector a gate, as sums over what is normalised together: the first
// `together` gates of `gates`, and the candidate, if it is there, alone.
template <int gates, int together, class T>
TIDEGATE_INLINE void add_units(index hidden, Vec<T> (&sums)[gates]) {
  Vec<T> first = sums[0];
  TIDEGATE_UNROLLED(gate, 1, together) first += sums[gate];
  first = add_lanes<T>(first) * broadcast(T(1) / T(together * hidden));
  TIDEGATE_UNROLLED(gate, 0, together) sums[gate] = first;
  if constexpr (gates > together)
    sums[together] = add_lanes<T>(sums[together]) * broadcast(T(1) / T(hidden));
}

// row <- gain * hat + bias, in place; `bias` may be null, and where there is no `hat`, neither it nor
// the scales are kept.
template <int gates, int together, class T>
void normalise(index hidden, T* row, const T* gain, const T* bias, T* hat, T* scales) {
  const index end = ceil_div(hidden, group<T>);
  Vec<T> mean[gates]{}, variance[gates]{}, scale[gates];
  for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) mean[gate] += load(gate_at(row, u, gate, gates));
  });
  add_units<gates, together, T>(hidden, mean);
  for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) {
      T* at = gate_at(row, u, gate, gates);
      const Vec<T> far = first_lanes<T>(load(at) - mean[gate], u.left);
      variance[gate] = fma(far, far, variance[gate]);
      store(at, far);
    }
  });
  add_units<gates, together, T>(hidden, variance);
  TIDEGATE_UNROLLED(gate, 0, gates)
  scale[gate] = broadcast(T(1) / T(__builtin_sqrt(variance[gate][0] + T(norm_epsilon))));
  for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) {
      const index k = gate_at(row, u, gate, gates) - row;
      const Vec<T> normal = load(row + k) * scale[gate];
      if (hat) store(hat + k, normal);
      store(row + k, fma(load(gain + k), normal, bias ? load(bias + k) : Vec<T>{}));
    }
  });
  if (!hat) return;
  scales[0] = scale[0][0];
  if constexpr (gates > together) scales[1] = scale[together][0];
}

// d, the gradient of the row above, becomes that of the product; adds to those of gain and bias.
template <int gates, int together, class T>
void normalise_back(index hidden, T* d, const T* gain, const T* hat, const T* scales, T* d_gain,
                    T* d_bias) {
  const index end = ceil_div(hidden, group<T>);
  Vec<T> mean[gates]{}, along[gates]{}, scale[gates];
  for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) {
      const index k = gate_at(d, u, gate, gates) - d;
      const Vec<T> dy = first_lanes<T>(load(d + k), u.left), normal = load(hat + k);
      store(d_gain + k, fma(dy, normal, load(d_gain + k)));
      store(d_bias + k, load(d_bias + k) + dy);
      const Vec<T> slope = load(gain + k) * dy;
      mean[gate] += slope;
      along[gate] = fma(slope, normal, along[gate]);
      store(d + k, slope);
    }
  });
  add_units<gates, together, T>(hidden, mean);
  add_units<gates, together, T>(hidden, along);
  TIDEGATE_UNROLLED(gate, 0, gates) scale[gate] = broadcast(scales[gate < together ? 0 : 1]);
  for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) {
      const index k = gate_at(d, u, gate, gates) - d;
      const Vec<T> du = fnma(load(hat + k), along[gate], load(d + k) - mean[gate]) * scale[gate];
      store(d + k, first_lanes<T>(du, u.left));
    }
  });
}

}  // namespace tidegate::TIDEGATE_ISA
