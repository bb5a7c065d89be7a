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

template <class T>
constexpr index group = group_vectors * lanes<T>;

constexpr index ceil_div(index a, index b) { return (a + b - 1) / b; }

template <class T>
constexpr index padded(index hidden) {
  return ceil_div(hidden, group<T>) * group<T>;
}

template <class T>
struct Panels {
  T* data;
  index k, vectors;
  index width;  // vectors in a panel; the last one may have fewer

  T* panel(index p) const { return data + p * width * k * lanes<T>; }
  index panel_width(index p) const {
    return vectors - p * width < width ? vectors - p * width : width;
  }
  index size() const { return k * vectors * lanes<T>; }
};

// The widest panels that waste no tile: 5 vectors are 3 + 2, not 4 + 1.
inline index balanced_width(index vectors) {
  return ceil_div(vectors, ceil_div(vectors, max_panel));
}

// Shape of a matrix of `gates` gates over `hidden` units, read by rows of length k.
template <class T>
Panels<T> gate_panels(index k, index hidden, index gates) {
  const index vectors = padded<T>(hidden) / lanes<T> * gates;
  return {nullptr, k, vectors, gates == 3 ? gate_panel : balanced_width(vectors)};
}

template <class T>
Panels<T> plain_panels(index k, index columns) {
  const index vectors = ceil_div(columns, lanes<T>);
  return {nullptr, k, vectors, balanced_width(vectors)};
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

// source (gates * hidden, k), gate by gate.
template <class T>
void pack_gates(const Panels<T>& to, const T* source, index hidden, index gates) {
  for_vectors(to, 0, padded<T>(hidden), hidden, gates, [&](T* at, index stride, index row, index rows) {
    for (index k = 0; k < to.k; k += lanes<T>) {
      Vec<T> square[lanes<T>];
      for (index i = 0; i < lanes<T>; ++i)
        square[i] = i < rows ? load_n(source + (row + i) * to.k + k, to.k - k) : Vec<T>{};
      transpose<T>(square);
      for (index i = 0; i < lanes<T> && k + i < to.k; ++i) store(at + (k + i) * stride, square[i]);
    }
  });
}

// The inverse of pack_gates for some units, summed over `parts` packed matrices `part_stride` apart.
template <class T>
void unpack_gates(const Panels<T>& from, index parts, index part_stride, T* result,
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

// The transpose: rows k run over the gate columns of `source` (gates * hidden, columns).
template <class T>
void pack_transposed(const Panels<T>& to, const T* source, index hidden, index gates,
                     index columns) {
  if (hidden % group<T> || columns % lanes<T>) __builtin_memset(to.data, 0, to.size() * sizeof(T));
  for (index p = 0; p * to.width < to.vectors; ++p) {
    const index first = p * to.width * lanes<T>, size = to.panel_width(p) * lanes<T>;
    const index n = columns - first < size ? columns - first : size;
    for (index gate = 0; gate < gates; ++gate)
      for (index unit = 0; unit < hidden; ++unit)
        __builtin_memcpy(to.panel(p) + column<T>(unit, gate, gates) * size,
                         source + (gate * hidden + unit) * columns + first, n * sizeof(T));
  }
}

// `rows` x `panels` panels of `vectors` vectors: c = base + a * w over k in [k0, k0 + count).
template <class T, int rows, int vectors, int panels>
TIDEGATE_INLINE void tile(const T* const* a, index k0, index count, const T* w, index w_row,
                          index w_panel, T* c, index c_row, const T* base, index base_row) {
  constexpr index size = lanes<T>;
  Vec<T> sum[rows][panels][vectors];
  TIDEGATE_UNROLL for (int i = 0; i < rows; ++i)
    TIDEGATE_UNROLL for (int p = 0; p < panels; ++p)
      TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v) sum[i][p][v] = Vec<T>{};
  const T* in[rows];
  TIDEGATE_UNROLL for (int i = 0; i < rows; ++i) in[i] = a[i] + k0;
  w += k0 * w_row;
  for (index k = 0; k < count; ++k, w += w_row) {
    Vec<T> column[panels][vectors];
    TIDEGATE_UNROLL for (int p = 0; p < panels; ++p)
      TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v)
        column[p][v] = load(w + p * w_panel + v * size);
    TIDEGATE_UNROLL for (int i = 0; i < rows; ++i) {
      const Vec<T> x = broadcast(in[i][k]);
      TIDEGATE_UNROLL for (int p = 0; p < panels; ++p)
        TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v)
          sum[i][p][v] = fma(x, column[p][v], sum[i][p][v]);
    }
  }
  TIDEGATE_UNROLL for (int i = 0; i < rows; ++i)
    TIDEGATE_UNROLL for (int p = 0; p < panels; ++p)
      TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v) {
        const index at = (p * vectors + v) * size;
        Vec<T> total = sum[i][p][v];
        if (base) total = load(base + i * base_row + at) + total;
        store(c + i * c_row + at, total);
      }
}

// Panels taken together by a tile of few rows, which alone would wait for each multiply-add.
constexpr int panels_at_once(int rows, int vectors) {
  const int most = rows >= 4 ? 1 : rows == 3 ? 2 : rows == 2 ? 2 : 4;
  const int fits = tile_rows(vectors) * vectors / (rows * vectors);
  return most < fits ? most : fits < 1 ? 1 : fits;
}

template <class T, int rows, int vectors>
void tile_panels(const T* const* a, index k0, index count, const T* w, index w_row, index w_panel,
                 index panels, T* c, index c_row, const T* base, index base_row) {
  constexpr int most = panels_at_once(rows, vectors);
  index p = 0;
  for (; p + most <= panels; p += most) {
    const index at = p * vectors * lanes<T>;
    tile<T, rows, vectors, most>(a, k0, count, w + p * w_panel, w_row, w_panel, c + at, c_row,
                                 base ? base + at : nullptr, base_row);
  }
  if constexpr (most > 1)
    for (; p < panels; ++p) {
      const index at = p * vectors * lanes<T>;
      tile<T, rows, vectors, 1>(a, k0, count, w + p * w_panel, w_row, w_panel, c + at, c_row,
                                base ? base + at : nullptr, base_row);
    }
}

template <class T, int vectors, int rows>
void tile_rows_of(index n, const T* const* a, index k0, index count, const T* w, index w_row,
                  index w_panel, index panels, T* c, index c_row, const T* base, index base_row) {
  if (n == rows)
    return tile_panels<T, rows, vectors>(a, k0, count, w, w_row, w_panel, panels, c, c_row, base,
                                         base_row);
  if constexpr (rows > 1)
    tile_rows_of<T, vectors, rows - 1>(n, a, k0, count, w, w_row, w_panel, panels, c, c_row, base,
                                       base_row);
}

// The rows of one block times `panels` panels of the same width.
template <class T, int vectors>
void block(index rows, const T* const* a, index k0, index count, const T* w, index w_row,
           index w_panel, index panels, T* c, index c_row, const T* base, index base_row) {
  constexpr int most = tile_rows(vectors);
  const index blocks = ceil_div(rows, most);
  // Few rows: all panels in one call, several at a time. Many: a panel stays in the cache.
  const index step = blocks == 1 ? panels : 1;
  for (index p = 0; p < panels; p += step)
    for (index b = 0, row = 0; b < blocks; ++b) {
      const index n = rows / blocks + (b < rows % blocks);
      const index at = p * vectors * lanes<T>;
      tile_rows_of<T, vectors, most>(n, a + row, k0, count, w + p * w_panel, w_row, w_panel, step,
                                     c + row * c_row + at, c_row,
                                     base ? base + row * base_row + at : nullptr, base_row);
      row += n;
    }
}

template <class T>
void block_of_width(index width, index rows, const T* const* a, index k0, index count, const T* w,
                    index w_row, index w_panel, index panels, T* c, index c_row, const T* base,
                    index base_row) {
  if (width == 1)
    block<T, 1>(rows, a, k0, count, w, w_row, w_panel, panels, c, c_row, base, base_row);
  else if (width == 2)
    block<T, 2>(rows, a, k0, count, w, w_row, w_panel, panels, c, c_row, base, base_row);
  if constexpr (max_panel > 2) {
    if (width == 3)
      block<T, 3>(rows, a, k0, count, w, w_row, w_panel, panels, c, c_row, base, base_row);
    else if (width == 4)
      block<T, 4>(rows, a, k0, count, w, w_row, w_panel, panels, c, c_row, base, base_row);
  }
}

// c = base + a * w for the vectors [v0, v1) of w. Row i of `a` begins at a[i]; c and base point at
// vector 0 of the first row; base may be c itself, or have row stride 0, or be absent.
template <class T>
void product(const Panels<T>& w, index v0, index v1, index rows, const T* const* a, T* c,
             index c_row, const T* base, index base_row) {
  if (rows <= 0 || v1 <= v0) return;
  for (index k0 = 0; k0 < w.k; k0 += k_block) {
    const index count = w.k - k0 < k_block ? w.k - k0 : k_block;
    for (index v = v0; v < v1;) {
      const index p = v / w.width, width = w.panel_width(p), from = v - p * w.width;
      const index n = (v1 - v < width - from) ? v1 - v : width - from;
      const index whole = (n == w.width && from == 0) ? (v1 - v) / w.width : 1;
      const index at = v * lanes<T>;
      block_of_width<T>(n, rows, a, k0, count, w.panel(p) + from * lanes<T>, width * lanes<T>,
                        w.width * w.k * lanes<T>, whole, c + at, c_row, base ? base + at : nullptr,
                        base_row);
      v += n * whole;
    }
    base = c;
    base_row = c_row;
  }
}

// sum += x' d over cells: `rows` neighbouring inputs x[cell][m] by `vectors` vectors of d.
template <class T, int rows, int vectors>
TIDEGATE_INLINE void outer_tile(index cells, const T* const* x, index m, const T* d, index d_row,
                                T* sum, index sum_row) {
  Vec<T> acc[rows][vectors];
  TIDEGATE_UNROLL for (int i = 0; i < rows; ++i)
    TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v) acc[i][v] = Vec<T>{};
  for (index cell = 0; cell < cells; ++cell, d += d_row) {
    const T* in = x[cell] + m;
    Vec<T> column[vectors];
    TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v) column[v] = load(d + v * lanes<T>);
    TIDEGATE_UNROLL for (int i = 0; i < rows; ++i) {
      const Vec<T> value = broadcast(in[i]);
      TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v)
        acc[i][v] = fma(value, column[v], acc[i][v]);
    }
  }
  TIDEGATE_UNROLL for (int i = 0; i < rows; ++i)
    TIDEGATE_UNROLL for (int v = 0; v < vectors; ++v) {
      T* out = sum + i * sum_row + v * lanes<T>;
      store(out, load(out) + acc[i][v]);
    }
}

template <class T, int vectors, int rows>
void outer_rows(index n, index cells, const T* const* x, index m, const T* d, index d_row, T* sum,
                index sum_row) {
  if (n == rows) return outer_tile<T, rows, vectors>(cells, x, m, d, d_row, sum, sum_row);
  if constexpr (rows > 1)
    outer_rows<T, vectors, rows - 1>(n, cells, x, m, d, d_row, sum, sum_row);
}

template <class T, int vectors>
void outer_panel(index cells, const T* const* x, index inputs, const T* d, index d_row, T* sum,
                 index sum_row) {
  constexpr int most = tile_rows(vectors);
  const index blocks = ceil_div(inputs, most);
  for (index b = 0, m = 0; b < blocks; ++b) {
    const index n = inputs / blocks + (b < inputs % blocks);
    outer_rows<T, vectors, most>(n, cells, x, m, d, d_row, sum + m * sum_row, sum_row);
    m += n;
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

}  // namespace tidegate::TIDEGATE_ISA
