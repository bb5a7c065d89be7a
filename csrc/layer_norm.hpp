// Layer normalisation of the products of one cell (Ba, Kiros & Hinton 2016, equations 22 to 25).
//
//   y = gain * hat,  hat = (u - mean(u)) * scale,  scale = 1 / sqrt(variance(u) + epsilon)
//
// over the gates r and z together and over the candidate alone, of the product of the input and of
// that of the state; biases are added afterwards. The mean of W x is that of W's rows times x: it is
// taken out of the rows once, as they are packed, and is zero from then on. Backward, from dy:
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

// What backward needs of a cell, and makes its gates of: both products normalised, and the four scales.
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
  T* h = cell + gates_of(reset) * width;
  return {cell, h, h + gates_of(reset) * width};
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

// The means of some columns of rows, to be taken out of them.
template <class T>
void column_means(const T* source, index rows, index columns, index begin, index end, T* means) {
  for (index k = begin; k < end; k += lanes<T>) {
    Vec<T> sums[4]{};
    for (index row = 0; row < rows; ++row)
      sums[row % 4] += load_n(source + row * columns + k, end - k);
    store_n(means + k, (sums[0] + sums[1] + sums[2] + sums[3]) * broadcast(T(1) / T(rows)),
            end - k);
  }
}

template <class T>
T square_root(T x) {
  if constexpr (sizeof(T) == 4)
    return __builtin_sqrtf(x);
  else
    return __builtin_sqrt(x);
}

// row, whose means are zero, <- gain * hat + bias, in place; `bias` may be null, and where there is no
// `hat`, neither it nor the scales are kept.
template <int gates, int together, class T>
void normalise(index hidden, T* row, const T* gain, const T* bias, T* hat, T* scales) {
  const index end = ceil_div(hidden, group<T>);
  Vec<T> variance[gates]{}, scale[gates];
  for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) {
      const Vec<T> far = load(gate_at(row, u, gate, gates));
      variance[gate] = fma(far, far, variance[gate]);
    }
  });
  add_units<gates, together, T>(hidden, variance);
  TIDEGATE_UNROLLED(gate, 0, gates)
  scale[gate] = broadcast(T(1) / square_root(variance[gate][0] + T(norm_epsilon)));
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

// What `normalise` leaves in row, from what it keeps.
template <int gates, class T>
void scale_again(index hidden, T* row, const T* gain, const T* bias, const T* hat) {
  for_units<T>(hidden, 0, ceil_div(hidden, group<T>), [&](const Units& u) TIDEGATE_INLINED {
    TIDEGATE_UNROLLED(gate, 0, gates) {
      const index k = gate_at(row, u, gate, gates) - row;
      store(row + k, fma(load(gain + k), load(hat + k), bias ? load(bias + k) : Vec<T>{}));
    }
  });
}

// One row on the way back: the gradient of what was normalised, which becomes that of the product.
template <class T>
struct NormRow {
  T* d;
  const T *hat, *scales;
};

// Two rows at a time, which halves the traffic of the sums; adds to the gradients of gain and bias.
template <int gates, int together, class T>
void normalise_back(index hidden, const NormRow<T>* rows, index count, const T* gain, T* d_gain,
                    T* d_bias) {
  const index end = ceil_div(hidden, group<T>);
  for_rows<2>(count, [&]<int n>(index first) {
    const NormRow<T>* const row = rows + first;
    Vec<T> mean[n][gates]{}, along[n][gates]{}, scale[n][gates];
    for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
      TIDEGATE_UNROLLED(gate, 0, gates) {
        const index k = gate_at(row[0].d, u, gate, gates) - row[0].d;
        Vec<T> gains = load(d_gain + k), biases = load(d_bias + k);
        TIDEGATE_UNROLLED(i, 0, n) {
          const Vec<T> dy = first_lanes<T>(load(row[i].d + k), u.left), hat = load(row[i].hat + k);
          gains = fma(dy, hat, gains);
          biases += dy;
          const Vec<T> slope = load(gain + k) * dy;
          mean[i][gate] += slope;
          along[i][gate] = fma(slope, hat, along[i][gate]);
          store(row[i].d + k, slope);
        }
        store(d_gain + k, gains);
        store(d_bias + k, biases);
      }
    });
    TIDEGATE_UNROLLED(i, 0, n) {
      add_units<gates, together, T>(hidden, mean[i]);
      add_units<gates, together, T>(hidden, along[i]);
      TIDEGATE_UNROLLED(gate, 0, gates)
      scale[i][gate] = broadcast(row[i].scales[gate < together ? 0 : 1]);
    }
    for_units<T>(hidden, 0, end, [&](const Units& u) TIDEGATE_INLINED {
      TIDEGATE_UNROLLED(gate, 0, gates) {
        const index k = gate_at(row[0].d, u, gate, gates) - row[0].d;
        TIDEGATE_UNROLLED(i, 0, n) {
          const Vec<T> far = load(row[i].d + k) - mean[i][gate];
          const Vec<T> du = fnma(load(row[i].hat + k), along[i][gate], far) * scale[i][gate];
          store(row[i].d + k, first_lanes<T>(du, u.left));
        }
      }
    });
  });
}

}  // namespace tidegate::TIDEGATE_ISA
