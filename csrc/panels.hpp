// Matrices packed once into panels, and the three products over them.
//
// Units are taken in groups of `group` = group_vectors * lanes. A matrix with `gates` gates of
// `hidden` columns has the columns [group][gate][unit in the group], zero past the last unit, so
// that a thread owns whole groups and finds all gates of a unit side by side. Columns are counted
// in vectors; a panel is up to `width` neighbouring vectors: [panel][k][vector in panel][lane].
//
// Every element of a product is summed in the same order, whatever tile it falls in: k rises in
// blocks of `k_block`, one fused multiply-add at a time, and the blocks are added in turn. So a
// row's bits do not depend on its neighbours, and the rounding error does not grow with k.
#pragma once

#include "vec.hpp"

namespace tidegate::TIDEGATE_ISA {

constexpr index k_block = 256;
constexpr index cell_block = 128;  // of a sum over cells

template <class T>
constexpr index group = group_vectors * lanes<T>;

constexpr index ceil_div(index a, index b) { return (a + b - 1) / b; }

template <class T>
constexpr index padded(index hidden) {
  return ceil_div(hidden, group<T>) * group<T>;
}

template <class S>
constexpr index k_of_row = std::is_same_v<S, Int8Pair> || std::is_same_v<S, BFloat16Pair> ? 2 : 1;

// A matrix of T, stored as S; as Int8 or Int8Pair each column has a scale.
template <class T, class S = T>
struct Panels {
  S* data;
  index k, vectors;
  index width;  // vectors in a panel; the last one may have fewer
  T* scale;     // [column]

  index rows() const { return ceil_div(k, k_of_row<S>); }
  S* panel(index p) const { return data + p * width * rows() * lanes<T>; }
  index panel_width(index p) const {
    return vectors - p * width < width ? vectors - p * width : width;
  }
  index size() const { return rows() * vectors * lanes<T>; }
};

// The widest panels that waste no tile: 5 vectors are 3 + 2, not 4 + 1.
inline index balanced_width(index vectors) {
  return ceil_div(vectors, ceil_div(vectors, max_panel));
}

// Shape of a matrix of `gates` gates over `hidden` units, read by rows of length k.
template <class T, class S = T>
Panels<T, S> gate_panels(index k, index hidden, index gates) {
  const index vectors = padded<T>(hidden) / lanes<T> * gates;
  return {nullptr, k, vectors, gates == 3 ? gate_panel : balanced_width(vectors), nullptr};
}

template <class T>
Panels<T> plain_panels(index k, index columns) {
  const index vectors = ceil_div(columns, lanes<T>);
  return {nullptr, k, vectors, balanced_width(vectors), nullptr};
}

// Where vector v of row k begins.
template <class T>
TIDEGATE_INLINE T* at(const Panels<T>& w, index k, index v) {
  const index p = v / w.width;
  return w.panel(p) + (k * w.panel_width(p) + v % w.width) * lanes<T>;
}

// Where unit `unit` of gate `gate` stands among the columns.
template <class T>
TIDEGATE_INLINE index column(index unit, index gate, index gates) {
  return (unit / group<T> * gates + gate) * group<T> + unit % group<T>;
}

// Calls f(element of the panels, stride from k to k, first row of the matrix, rows) for each vector
// of columns whose units are in [unit_begin, unit_end); the matrix is (gates * hidden, k). Rows
// may be none, where there are no such units.
template <class T, class F>
void for_vectors(const Panels<T>& panels, index unit_begin, index unit_end, index hidden,
                 index gates, F f) {
  for (index vector = 0; vector < panels.vectors; ++vector) {
    const index gate = vector / group_vectors % gates;
    const index unit =
        vector / (group_vectors * gates) * group<T> + vector % group_vectors * lanes<T>;
    if (unit < unit_begin || unit >= unit_end) continue;
    const index p = vector / panels.width, stride = panels.panel_width(p) * lanes<T>;
    T* at = panels.panel(p) + vector % panels.width * lanes<T>;
    const index rows = hidden - unit < lanes<T> ? hidden - unit : lanes<T>;
    f(at, stride, gate * hidden + unit, rows > 0 ? rows : 0);
  }
}

// source (gates * hidden, k), gate by gate, for some units; the padding belongs to the last. Where
// `together` is not zero, the first `means` are taken out of as many rows, the second of the others.
template <class T>
TIDEGATE_APART void pack_gates(const Panels<T>& to, const T* source, index unit_begin,
                               index unit_end, index hidden, index gates, const T* means = nullptr,
                               index together = 0) {
  for_vectors(
      to, unit_begin, unit_end, hidden, gates, [&](T* at, index stride, index row, index rows) {
        for (index k = 0; k < to.k; k += lanes<T>) {
          const index mean = row < together ? k : to.k + k;
          const Vec<T> centre = together ? load_n(means + mean, to.k - k) : Vec<T>{};
          Vec<T> square[lanes<T>];
          for (index i = 0; i < lanes<T>; ++i)
            square[i] =
                i < rows ? load_n(source + (row + i) * to.k + k, to.k - k) - centre : Vec<T>{};
          transpose<T>(square);
          for (index i = 0; i < lanes<T> && k + i < to.k; ++i)
            store(at + (k + i) * stride, square[i]);
        }
      });
}

// The inverse of pack_gates for some units, summed over `parts` packed matrices `part_stride`
// apart.
template <class T>
TIDEGATE_APART void unpack_gates(const Panels<T>& from, index parts, index part_stride, T* result,
                                 index unit_begin, index unit_end, index hidden, index gates) {
  for_vectors(from, unit_begin, unit_end, hidden, gates,
              [&](const T* at, index stride, index row, index rows) {
                for (index k = 0; k < from.k; k += lanes<T>) {
                  Vec<T> square[lanes<T>];
                  for (index i = 0; i < lanes<T>; ++i) {
                    square[i] = Vec<T>{};
                    if (k + i >= from.k) continue;
                    const T* in = at + (k + i) * stride;
                    for (index part = 0; part < parts; ++part)
                      square[i] += load(in + part * part_stride);
                  }
                  transpose<T>(square);
                  for (index i = 0; i < rows; ++i)
                    store_n(result + (row + i) * from.k + k, square[i], from.k - k);
                }
              });
}

// The transpose: rows k run over the gate columns of `source` (gates * hidden, columns); one part of
// its panels.
template <class T>
TIDEGATE_APART void pack_transposed(const Panels<T>& to, const T* source, index hidden, index gates,
                                    index columns, int part, int parts) {
  const index panels = ceil_div(to.vectors, to.width);
  const bool padded = hidden % group<T> || columns % lanes<T>;
  for (index p = panels * part / parts; p < panels * (part + 1) / parts; ++p) {
    const index first = p * to.width * lanes<T>, size = to.panel_width(p) * lanes<T>;
    if (padded) __builtin_memset(to.panel(p), 0, size * to.k * sizeof(T));
    const index n = columns - first < size ? columns - first : size;
    for (index gate = 0; gate < gates; ++gate)
      for (index unit = 0; unit < hidden; ++unit)
        __builtin_memcpy(to.panel(p) + column<T>(unit, gate, gates) * size,
                         source + (gate * hidden + unit) * columns + first, n * sizeof(T));
  }
}

// The nearest bfloat16, ties to even; NaN stays NaN.
inline std::uint16_t to_bfloat16(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  if (x != x) return std::uint16_t(bits >> 16 | 0x40);
  return std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline void narrow(const Panels<float, BFloat16Pair>& to, const Panels<float>& from) {
  for (index p = 0; p * from.width < from.vectors; ++p) {
    const index row = from.panel_width(p) * lanes<float>;
    for (index k = 0; k < from.k; ++k)
      for (index i = 0; i < row; ++i) {
        BFloat16Pair* pair = to.panel(p) + k / 2 * row + i;
        const std::uint16_t value = to_bfloat16(from.panel(p)[k * row + i]);
        if (k % 2)
          pair->second = value;
        else
          *pair = {value, 0};
      }
  }
}

// Each column in 255 steps of its own largest weight; NaN where one weight is NaN or infinite.
// put(row k, element of the row, whole number of steps) stores one.
template <class S, class F>
void narrow_columns(const Panels<float, S>& to, const Panels<float>& from, F put) {
  for (index vector = 0; vector < from.vectors; ++vector)
    for (index lane = 0; lane < lanes<float>; ++lane) {
      const index p = vector / from.width, stride = from.panel_width(p) * lanes<float>;
      const index at = vector % from.width * lanes<float> + lane;
      const float* column = from.panel(p) + at;
      float largest = 0;
      for (index k = 0; k < from.k; ++k) {
        const float size = __builtin_fabsf(column[k * stride]);
        largest = size <= largest ? largest : size;  // a NaN stays, and makes the column NaN
        if (largest != largest) break;
      }
      const bool finite = largest <= 3.4028234e38f;
      to.scale[vector * lanes<float> + lane] = finite ? largest / 127 : __builtin_nanf("");
      const float steps = finite && largest > 0 ? 127 / largest : 0;
      for (index k = 0; k < from.k; ++k)
        put(to.panel(p) + k / k_of_row<S> * stride + at, k,
            finite ? Int8(__builtin_rintf(column[k * stride] * steps)) : Int8(0));
    }
}

inline void narrow(const Panels<float, Int8>& to, const Panels<float>& from) {
  narrow_columns(to, from, [](Int8* element, index, Int8 steps) { *element = steps; });
}

inline void narrow(const Panels<float, Int8Pair>& to, const Panels<float>& from) {
  narrow_columns(to, from, [](Int8Pair* pair, index k, Int8 steps) {
    if (k % 2)
      pair->second = steps;
    else
      *pair = {steps, 0};
  });
}

// A part of a product: rows a[i] over k in [k0, k0 + count), panels `w_panel` apart.
template <class T, class S>
struct Block {
  const T* const* a;
  index k0, count;
  const S* w;
  index w_row, w_panel;
  const T* scale;
  T* c;
  index c_row;
  const T* base;  // c = base + a * w
  index base_row;

  Block at(index row, index panel, index width) const {
    Block b = *this;
    const index column = panel * width * lanes<T>;
    b.a += row;
    b.w += panel * w_panel;
    b.c += row * c_row + column;
    if (b.base) b.base += row * base_row + column;
    if (b.scale) b.scale += column;
    return b;
  }
};

// ---- bfloat16 ------------------------------------------------------------------------------

// What meets weights of bfloat16: a block of a row. Where the processor multiplies bfloat16 by itself, a
// number is the sum of two, of 16 bits together, and word 2 j has the larger halves of the numbers 2 j and
// 2 j + 1, word 2 j + 1 the smaller ones; elsewhere the numbers are taken as they are.
struct SplitRow {
  const float* numbers;
  alignas(64) float words[k_block];
};

inline void split(const float* x, index count, SplitRow& to) {
  to.numbers = x;
  if (!multiplies_bfloat16()) return;
  to.numbers = to.words;
  const U32 upper = U32{} + 0xffff0000u;
  const auto nearest = [&](F32 v) {
    return (F32)(((U32)v + 0x7fffu + ((U32)v >> 16 & 1u)) & upper);
  };
  U32 even{};
  TIDEGATE_UNROLLED(i, 0, lanes<float>) even[i] = i % 2 ? 0 : ~0u;
  for (index k = 0; k < count; k += lanes<float>) {
    const F32 v = load_n(x + k, count - k), size = absolute<float>(v);
    // What might round up to infinity is cut off; nothing is left of a number that is not finite.
    const F32 cut = (F32)((U32)v & upper);
    const F32 large = where_less(size, broadcast(1e38f), nearest(v), cut);
    const F32 small = nearest(where_less(size, broadcast(__builtin_inff()), v - large, F32{}));
    const U32 first = ((U32)large >> 16) | (U32)swap_neighbours(large);
    const U32 second = ((U32)swap_neighbours(small) >> 16) | (U32)small;
    store(to.words + k, (F32)((first & even) | (second & ~even)));
  }
}

TIDEGATE_INLINE std::uint32_t word(const float* words, index i) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, words + i, sizeof bits);
  return bits;
}

// The two weights of each lane.
TIDEGATE_INLINE void widen(const BFloat16Pair* w, F32& first, F32& second) {
  U32 both;
  __builtin_memcpy(&both, w, sizeof both);
  first = (F32)(both << 16);
  second = (F32)(both & 0xffff0000u);
}

// sums[i][v] += in[i] * the vector at offset(v), over `count` numbers, which split() has left.
template <int rows, int vectors, class Offset>
TIDEGATE_INLINE void add_pairs(const BFloat16Pair* w, index w_row, index count,
                               const float* const (&in)[rows], Offset offset,
                               F32 (&sums)[rows][vectors]) {
#if defined(TIDEGATE_ISA_avx512)
  if (multiplies_bfloat16()) {
    for (index k = 0; k < count; k += 2, w += w_row) TIDEGATE_UNROLLED(i, 0, rows) {
        const std::uint32_t large = word(in[i], k), small = word(in[i], k + 1);
        TIDEGATE_UNROLLED(v, 0, vectors)
        sums[i][v] = add_products(sums[i][v], w + offset(v), large);
        TIDEGATE_UNROLLED(v, 0, vectors)
        sums[i][v] = add_products(sums[i][v], w + offset(v), small);
      }
    return;
  }
#endif
  F32 first[vectors], second[vectors];
  index k = 0;
  for (; k + 1 < count; k += 2, w += w_row) {
    TIDEGATE_UNROLLED(v, 0, vectors) widen(w + offset(v), first[v], second[v]);
    TIDEGATE_UNROLLED(i, 0, rows) {
      const F32 x = broadcast(in[i][k]), next = broadcast(in[i][k + 1]);
      TIDEGATE_UNROLLED(v, 0, vectors) sums[i][v] = fma(next, second[v], sums[i][v]);
      TIDEGATE_UNROLLED(v, 0, vectors) sums[i][v] = fma(x, first[v], sums[i][v]);
    }
  }
  if (k == count) return;
  TIDEGATE_UNROLLED(v, 0, vectors) widen(w + offset(v), first[v], second[v]);
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, vectors) sums[i][v] = fma(broadcast(in[i][k]), first[v], sums[i][v]);
}

// ---- tiles ---------------------------------------------------------------------------------

// `rows` rows by `panels` panels of `vectors` vectors, in registers.
template <int rows, int vectors, int panels, class T, class S>
TIDEGATE_INLINE void tile(const Block<T, S>& b) {
  constexpr index size = lanes<T>;
  constexpr int all = panels * vectors;
  Vec<T> sum[rows][all];
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, all) sum[i][v] = Vec<T>{};
  const T* in[rows];
  TIDEGATE_UNROLLED(i, 0, rows) in[i] = b.a[i] + b.k0;
  const index count = b.count, w_row = b.w_row, w_panel = b.w_panel;
  const auto offset = [&](index v) { return v / vectors * w_panel + v % vectors * size; };
  if constexpr (std::is_same_v<S, BFloat16Pair>) {
    add_pairs(b.w, w_row, count, in, offset, sum);
  } else {
    const S* w = b.w + b.k0 * w_row;
    for (index k = 0; k < count; ++k, w += w_row) {
      Vec<T> column[all];
      TIDEGATE_UNROLLED(v, 0, all) column[v] = load_weight(w + offset(v));
      TIDEGATE_UNROLLED(i, 0, rows) {
        const Vec<T> x = broadcast(in[i][k]);
        TIDEGATE_UNROLLED(v, 0, all) sum[i][v] = fma(x, column[v], sum[i][v]);
      }
    }
  }
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, all) {
    const index at = v * size;
    Vec<T> total = sum[i][v];
    if constexpr (std::is_same_v<S, Int8>) total = total * load(b.scale + at);
    if (b.base) total = load(b.base + i * b.base_row + at) + total;
    store(b.c + i * b.c_row + at, total);
  }
}

// Panels taken together by a tile of few rows, which alone would wait for each multiply-add.
constexpr int panels_at_once(int rows, int vectors) {
  const int most = rows >= 4 ? 1 : rows >= 2 ? 2 : 4;
  const int fits = tile_rows(vectors) / rows;
  return most < fits ? most : fits < 1 ? 1 : fits;
}

template <int rows, int vectors, int at_once, class T, class S>
void tile_panels(const Block<T, S>& b, index panels, index p = 0) {
  for (; p + at_once <= panels; p += at_once) tile<rows, vectors, at_once>(b.at(0, p, vectors));
  if constexpr (at_once > 1) tile_panels<rows, vectors, at_once / 2>(b, panels, p);
}

template <int vectors, int rows, class T, class S>
void tile_rows_of(index n, const Block<T, S>& b, index panels) {
  if (n == rows) return tile_panels<rows, vectors, panels_at_once(rows, vectors)>(b, panels);
  if constexpr (rows > 1) tile_rows_of<vectors, rows - 1>(n, b, panels);
}

// All rows times `panels` panels of the same width.
template <int vectors, class T, class S>
void all_rows(index rows, const Block<T, S>& b, index panels) {
  constexpr int most = tile_rows(vectors);
  const index blocks = ceil_div(rows, most);
  // Few rows: all panels in one call, several at a time. Many: a panel stays in the cache.
  const index step = blocks == 1 ? panels : 1;
  for (index p = 0; p < panels; p += step)
    for (index i = 0, row = 0; i < blocks; ++i) {
      const index n = rows / blocks + (i < rows % blocks);
      tile_rows_of<vectors, most>(n, b.at(row, p, vectors), step);
      row += n;
    }
}

template <class T, class S>
void any_width(index width, index rows, const Block<T, S>& b, index panels) {
  if (width == 1) all_rows<1>(rows, b, panels);
  if (width == 2) all_rows<2>(rows, b, panels);
  if constexpr (max_panel > 2) {
    if (width == 3) all_rows<3>(rows, b, panels);
    if (width == 4) all_rows<4>(rows, b, panels);
  }
}

// Rows that meet a panel before the next one does: what they read stays in the second cache from panel
// to panel, and their sums from one block of k to the next.
template <class T>
index rows_at_once(index rows, index k) {
  constexpr index bytes = 512 * 1024, tile = tile_rows(gate_panel);
  index fit = bytes / (k * index(sizeof(T)));
  if (fit < 4 * tile) fit = 4 * tile;
  const index blocks = (rows + fit / 2) / fit;
  return blocks < 2 ? rows : ceil_div(ceil_div(rows, blocks), tile) * tile;
}

// c = base + a * w for the vectors [v0, v1) of w. Row i of `a` begins at a[i]; c and base point at
// vector 0 of the first row; base may be c itself, or have row stride 0, or be absent.
template <class T, class S>
void product(const Panels<T, S>& w, index v0, index v1, index rows, const T* const* a, T* c,
             index c_row, const T* base, index base_row) {
  if (rows <= 0 || v1 <= v0) return;
  const index at_once = rows_at_once<T>(rows, w.k);
  for (index row = 0; row < rows; row += at_once) {
    const index n_rows = rows - row < at_once ? rows - row : at_once;
    for (index v = v0; v < v1;) {
      const index p = v / w.width, width = w.panel_width(p), from = v - p * w.width;
      const index n = (v1 - v < width - from) ? v1 - v : width - from;
      const bool whole = n == w.width && from == 0;
      const bool together = w.k <= k_block || n_rows <= tile_rows(int(n));
      const index panels = whole && together ? (v1 - v) / w.width : 1;
      const index at = v * lanes<T>;
      Block<T, S> b{a + row,
                    0,
                    0,
                    w.panel(p) + from * lanes<T>,
                    width * lanes<T>,
                    w.width * w.k * lanes<T>,
                    w.scale ? w.scale + at : nullptr,
                    c + row * c_row + at,
                    c_row,
                    base ? base + row * base_row + at : nullptr,
                    base_row};
      for (; b.k0 < w.k; b.k0 += k_block) {
        b.count = w.k - b.k0 < k_block ? w.k - b.k0 : k_block;
        any_width(n, n_rows, b, panels);
        b.base = b.c;
        b.base_row = c_row;
      }
      v += n * panels;
    }
  }
}

// As above, of weights of bfloat16.
inline void product(const Panels<float, BFloat16Pair>& w, index v0, index v1, index rows,
                    const float* const* a, float* c, index c_row, const float* base,
                    index base_row) {
  constexpr index at_once = 2 * tile_rows(gate_panel);
  SplitRow rows_in[at_once];
  const float* in[at_once];
  for (index row = 0; row < rows; row += at_once) {
    const index n_rows = rows - row < at_once ? rows - row : at_once;
    const float* sum = base ? base + row * base_row : nullptr;
    index sum_row = base_row;
    for (index k0 = 0; k0 < w.k; k0 += k_block) {
      const index count = w.k - k0 < k_block ? w.k - k0 : k_block;
      for (index i = 0; i < n_rows; ++i) {
        split(a[row + i] + k0, count, rows_in[i]);
        in[i] = rows_in[i].numbers;
      }
      for (index v = v0; v < v1;) {
        const index p = v / w.width, width = w.panel_width(p), from = v - p * w.width;
        const index n = (v1 - v < width - from) ? v1 - v : width - from;
        const index panels = n == w.width && from == 0 ? (v1 - v) / w.width : 1;
        const index at = v * lanes<float>, w_row = width * lanes<float>;
        const BFloat16Pair* begin = w.panel(p) + k0 / 2 * w_row + from * lanes<float>;
        const Block<float, BFloat16Pair> b{in,      0,
                                           count,   begin,
                                           w_row,   w.width * w.rows() * lanes<float>,
                                           nullptr, c + row * c_row + at,
                                           c_row,   sum ? sum + at : nullptr,
                                           sum_row};
        any_width(n, n_rows, b, panels);
        v += n * panels;
      }
      sum = c + row * c_row;
      sum_row = c_row;
    }
  }
}

// ---- whole numbers ---------------------------------------------------------------------------

// What meets weights of 8 bits: a block of a row in 65535 steps of its own largest number, in pairs.
struct WholeRow {
  alignas(64) std::int16_t steps[k_block];
  float scale;  // of one step; NaN if a number is not finite

  std::int32_t pair(index i) const {
    std::int32_t both;
    __builtin_memcpy(&both, steps + 2 * i, sizeof both);
    return both;
  }
};

inline void to_whole(const float* x, index count, WholeRow& to) {
  constexpr float big = 12582912.0f;  // beside it there is room for whole numbers only
  Vec<float> largest_of{}, finite_of{};
  for (index k = 0; k < count; k += lanes<float>) {
    const Vec<float> v = load_n(x + k, count - k);
    largest_of = max(largest_of, absolute<float>(v));
    finite_of = fma(v, Vec<float>{}, finite_of);
  }
  float largest = 0, finite = 0, of[lanes<float>], sums[lanes<float>];
  store(of, largest_of);
  store(sums, finite_of);
  for (int i = 0; i < lanes<float>; ++i) {
    largest = of[i] > largest ? of[i] : largest;
    finite += sums[i];
  }
  const bool some = finite == 0 && largest > 1e-30f;
  to.scale = finite == 0 ? largest / 32767 : __builtin_nanf("");
  const Vec<float> steps = broadcast(some ? 32767 / largest : 0.0f);
  for (index k = 0; k < k_block && k < count + lanes<float>; k += lanes<float>) {
    const Vec<float> v = some && k < count ? load_n(x + k, count - k) : Vec<float>{};
    const I32 whole =
        (I32)((Bits<float>)fma(v, steps, broadcast(big)) - (Bits<float>)broadcast(big));
    const auto half = __builtin_convertvector(whole, Half);
    __builtin_memcpy(to.steps + k, &half, sizeof half);
  }
}

// Few rows by `vectors` vectors of one panel, a block of k: c = base + a * w.
template <int rows, int vectors>
void whole_tile(const Block<float, Int8Pair>& b, const WholeRow* in) {
  constexpr index size = lanes<float>;
  I32 sum[rows][vectors];
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, vectors) sum[i][v] = I32{};
  const Int8Pair* w = b.w;
  for (index k = 0; k < b.count; ++k, w += b.w_row) TIDEGATE_UNROLLED(i, 0, rows) {
      const std::int32_t pair = in[i].pair(k);
      TIDEGATE_UNROLLED(v, 0, vectors) sum[i][v] = add_products(sum[i][v], w + v * size, pair);
    }
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, vectors) {
    const index at = v * size;
    Vec<float> total = __builtin_convertvector(sum[i][v], F32) * load(b.scale + at);
    total = total * broadcast(in[i].scale);
    if (b.base) total = load(b.base + i * b.base_row + at) + total;
    store(b.c + i * b.c_row + at, total);
  }
}

template <int rows, int vectors = max_panel>
void whole_panel(index width, const Block<float, Int8Pair>& b, const WholeRow* in) {
  if (width == vectors) return whole_tile<rows, vectors>(b, in);
  if constexpr (vectors > 1) whole_panel<rows, vectors - 1>(width, b, in);
}

constexpr index whole_rows = 4;

// As above, of weights of 8 bits.
inline void product(const Panels<float, Int8Pair>& w, index v0, index v1, index rows,
                    const float* const* a, float* c, index c_row, const float* base,
                    index base_row) {
  WholeRow in[whole_rows];
  for (index row = 0; row < rows; row += whole_rows) {
    const index n = rows - row < whole_rows ? rows - row : whole_rows;
    const float* sum = base ? base + row * base_row : nullptr;
    index sum_row = base_row;
    for (index k0 = 0; k0 < w.k; k0 += k_block) {
      const index count = w.k - k0 < k_block ? w.k - k0 : k_block;
      for (index i = 0; i < n; ++i) to_whole(a[row + i] + k0, count, in[i]);
      for (index v = v0; v < v1;) {
        const index p = v / w.width, width = w.panel_width(p), from = v - p * w.width;
        const index vectors = (v1 - v < width - from) ? v1 - v : width - from;
        const index at = v * lanes<float>, w_row = width * lanes<float>;
        const Int8Pair* begin = w.panel(p) + k0 / 2 * w_row + from * lanes<float>;
        Block<float, Int8Pair> b{nullptr,
                                 0,
                                 ceil_div(count, 2),
                                 begin,
                                 w_row,
                                 0,
                                 w.scale + at,
                                 c + row * c_row + at,
                                 c_row,
                                 sum ? sum + at : nullptr,
                                 sum_row};
        if (n == whole_rows)
          whole_panel<whole_rows>(vectors, b, in);
        else
          for (index i = 0; i < n; ++i, b.c += c_row, b.base += b.base ? sum_row : 0)
            whole_panel<1>(vectors, b, in + i);
        v += vectors;
      }
      sum = c + row * c_row;
      sum_row = c_row;
    }
  }
}

// sum += x' d over a block of cells: `rows` neighbouring inputs x[cell][m] by `vectors` vectors of d.
template <class T, int rows, int vectors>
TIDEGATE_INLINE void outer_tile(index cells, const T* const* x, index m, const T* d, index d_row,
                                T* sum, index sum_row) {
  Vec<T> acc[rows][vectors];
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, vectors) acc[i][v] = Vec<T>{};
  for (index cell = 0; cell < cells; ++cell, d += d_row) {
    const T* in = x[cell] + m;
    Vec<T> column[vectors];
    TIDEGATE_UNROLLED(v, 0, vectors) column[v] = load(d + v * lanes<T>);
    TIDEGATE_UNROLLED(i, 0, rows) {
      const Vec<T> value = broadcast(in[i]);
      TIDEGATE_UNROLLED(v, 0, vectors)
      acc[i][v] = fma(value, column[v], acc[i][v]);
    }
  }
  TIDEGATE_UNROLLED(i, 0, rows)
  TIDEGATE_UNROLLED(v, 0, vectors) {
    T* out = sum + i * sum_row + v * lanes<T>;
    store(out, load(out) + acc[i][v]);
  }
}

template <class T, int vectors, int rows>
void outer_rows(index n, index cells, const T* const* x, index m, const T* d, index d_row, T* sum,
                index sum_row) {
  if (n == rows) return outer_tile<T, rows, vectors>(cells, x, m, d, d_row, sum, sum_row);
  if constexpr (rows > 1) outer_rows<T, vectors, rows - 1>(n, cells, x, m, d, d_row, sum, sum_row);
}

// Blocks of cells are summed apart, so that the rounding error does not grow with their number. Where
// rows of d lie far apart, and so meet in a few cache sets, those of a block are first put side by side.
template <class T, int vectors>
void outer_panel(index cells, const T* const* x, index inputs, const T* d, index d_row, T* sum,
                 index sum_row) {
  constexpr int most = tile_rows(vectors);
  constexpr index far = 2048 / sizeof(T), near_row = vectors * lanes<T>;
  const index blocks = ceil_div(inputs, most);
  alignas(64) T near[cell_block * near_row];
  for (index cell = 0; cell < cells; cell += cell_block, d += cell_block * d_row) {
    const index count = cells - cell < cell_block ? cells - cell : cell_block;
    if (d_row > far)
      for (index i = 0; i < count; ++i)
        for (index v = 0; v < near_row; v += lanes<T>)
          store(near + i * near_row + v, load(d + i * d_row + v));
    for (index b = 0, m = 0; b < blocks; ++b) {
      const index n = inputs / blocks + (b < inputs % blocks);
      outer_rows<T, vectors, most>(n, count, x + cell, m, d_row > far ? near : d,
                                   d_row > far ? near_row : d_row, sum + m * sum_row, sum_row);
      m += n;
    }
  }
}

// sum += x' d for the vectors [v0, v1) of d, in panels laid out as the weights that they update:
// row `cell` of x begins at x[cell], row `cell` of d at d + cell * d_row.
template <class T>
void outer(const Panels<T>& sum, index v0, index v1, index cells, const T* const* x, const T* d,
           index d_row) {
  for (index v = v0; v < v1;) {
    const index p = v / sum.width, width = sum.panel_width(p), from = v - p * sum.width;
    const index n = (v1 - v < width - from) ? v1 - v : width - from;
    T* out = sum.panel(p) + from * lanes<T>;
    const T* in = d + v * lanes<T>;
    const index row = width * lanes<T>;
    if (n == 1) outer_panel<T, 1>(cells, x, sum.k, in, d_row, out, row);
    if (n == 2) outer_panel<T, 2>(cells, x, sum.k, in, d_row, out, row);
    if constexpr (max_panel > 2) {
      if (n == 3) outer_panel<T, 3>(cells, x, sum.k, in, d_row, out, row);
      if (n == 4) outer_panel<T, 4>(cells, x, sum.k, in, d_row, out, row);
    }
    v += n;
  }
}

// ---- one-hot rows, each by the place of its one ----------------------------------------------

// c[i] = w[tokens[i]] + bias, for vectors [v0, v1): the product of one-hot rows.
template <class T>
void gather(const Panels<T>& w, index v0, index v1, index rows, const T* const* tokens,
            const T* bias, T* c, index c_row) {
  for (index i = 0; i < rows; ++i) {
    const index k = *reinterpret_cast<const std::int64_t*>(tokens[i]);
    for (index v = v0; v < v1; ++v)
      store(c + i * c_row + v * lanes<T>, load(at(w, k, v)) + load(bias + v * lanes<T>));
  }
}

// sum[tokens[i]] += d[i], for vectors [v0, v1): the outer product with one-hot rows.
template <class T>
void scatter(const Panels<T>& sum, index v0, index v1, index rows, const T* const* tokens,
             const T* d, index d_row) {
  for (index i = 0; i < rows; ++i) {
    const index k = *reinterpret_cast<const std::int64_t*>(tokens[i]);
    for (index v = v0; v < v1; ++v) {
      T* here = at(sum, k, v);
      store(here, load(here) + load(d + i * d_row + v * lanes<T>));
    }
  }
}

}  // namespace tidegate::TIDEGATE_ISA
