// Cross-entropy of a large softmax, -log softmax(W x + b)[target] of each row, and its gradients.
//
// The scores of all rows never exist at once. Rows are taken in chunks of a size that depends on the
// vocabulary alone; threads share a chunk's rows for the scores, the softmax and the gradient of x,
// and then the columns for those of W and b. So no sum is shared, and bits do not depend on threads.
#pragma once

#include "packed.hpp"

namespace tidegate::TIDEGATE_ISA {

constexpr index scores_at_once = index(1)
                                 << 20;  // fewer read the weights too often, more leave the cache

// What a call needs beside its arrays.
template <class T>
struct Scores {
  index chunk, width;  // rows; columns of a row of scores
  Panels<T> weight, weight_t, d_weight;
  T *scores, *bias, *d_bias, *d_output;
  const T **x_rows, **score_rows;
  index d_width;
  std::size_t bytes;

  Scores(const CrossEntropy<T>& c, char* memory) {
    Arena arena{memory, 0};
    const auto place = [&](Panels<T> p) {
      p.data = take<T>(arena, p.size());
      return p;
    };
    const index whole = ceil_div(scores_at_once / c.vocabulary + 1, cell_block) * cell_block;
    chunk = whole < c.rows ? whole : c.rows;
    weight = place(gate_panels<T>(c.features, c.vocabulary, 1));
    // One vector more than whole panels, so that rows of 2^n columns do not meet in one cache set.
    width = (weight.vectors + 1) * lanes<T>;
    d_width = ceil_div(c.features, lanes<T>) * lanes<T>;
    scores = take<T>(arena, chunk * width);
    bias = take<T>(arena, width);
    x_rows = reinterpret_cast<const T**>(take<std::uintptr_t>(arena, chunk));
    score_rows = reinterpret_cast<const T**>(take<std::uintptr_t>(arena, chunk));
    if (c.d_output) {
      weight_t = place(plain_panels<T>(c.vocabulary, c.features));
      d_weight = place(weight);
      d_bias = take<T>(arena, width);
      d_output = take<T>(arena, chunk * d_width);
    }
    bytes = arena.used;
  }
};

template <class T>
std::size_t cross_entropy_bytes(const CrossEntropy<T>& c) {
  return Scores<T>(c, nullptr).bytes;
}

template <class T>
index cross_entropy_chunk(const CrossEntropy<T>& c) {
  return Scores<T>(c, nullptr).chunk;
}

// Thread `rank` of `ranks` packs what is its own to pack.
template <class T>
void cross_entropy_pack(const CrossEntropy<T>& c, char* memory, int rank, int ranks) {
  const Scores<T> s(c, memory);
  if (rank == 0) {
    pack_gates(s.weight, c.weight, index(0), padded<T>(c.vocabulary), c.vocabulary, index(1));
    clear(s.bias, s.width);
    __builtin_memcpy(s.bias, c.bias, c.vocabulary * sizeof(T));
  }
  if (rank == ranks - 1 && c.d_output) {
    pack_transposed(s.weight_t, c.weight, c.vocabulary, index(1), c.features, 0, 1);
    clear(s.d_weight.data, s.d_weight.size());
    clear(s.d_bias, s.width);
  }
}

// Of those that are numbers.
template <class T>
T largest_of(const T* x, index n) {
  T largest = x[0], of[lanes<T>];
  index i = 0;
  if (n >= lanes<T>) {
    Vec<T> most = load(x);
    for (; i + lanes<T> <= n; i += lanes<T>) most = max(load(x + i), most);
    store(of, most);
    for (index lane = 0; lane < lanes<T>; ++lane) largest = of[lane] > largest ? of[lane] : largest;
  }
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// x <- exp(x - largest), and their sum; blocks are summed apart.
template <class T>
double exp_sum(T* x, index n, T largest) {
  constexpr index block = 64 * lanes<T>;
  const Vec<T> limit = broadcast(-exp_limit<T>), top = broadcast(largest);
  double total = 0;
  for (index begin = 0; begin < n; begin += block) {
    const index end = n - begin < block ? n : begin + block;
    Vec<T> sum{};
    for (index i = begin; i < end; i += 2 * lanes<T>) {
      Vec<T> y[2], scale[2], expm1[2], from[2];
      TIDEGATE_UNROLLED(v, 0, 2) {
        const index at = i + v * lanes<T>, left = end > at ? end - at : 0;
        from[v] = load_n(x + at, left) - top;
        if (left < lanes<T>)  // past the end
          for (index lane = left; lane < lanes<T>; ++lane) from[v][lane] = 2 * -exp_limit<T>;
        y[v] = max(limit, from[v]);
      }
      exp_parts<T>(y, scale, expm1);
      TIDEGATE_UNROLLED(v, 0, 2) {
        const index at = i + v * lanes<T>, left = end > at ? end - at : 0;
        const Vec<T> e = where_less(from[v], limit, Vec<T>{}, fma(scale[v], expm1[v], scale[v]));
        store_n(x + at, e, left);
        sum += e;
      }
    }
    T of[lanes<T>];
    store(of, sum);
    for (index lane = 0; lane < lanes<T>; ++lane) total += of[lane];
  }
  return total;
}

// Losses of the rows [begin, end) of the chunk at `first`, and their gradients of x; what is left of
// their scores is the gradient of them.
template <class T>
void cross_entropy_rows(const CrossEntropy<T>& c, char* memory, index first, index begin,
                        index end) {
  const Scores<T> s(c, memory);
  for (index row = begin; row < end; ++row) {
    s.x_rows[row] = c.output + (first + row) * c.features;
    s.score_rows[row] = s.scores + row * s.width;
  }
  const index rows = end - begin;
  T* scores = s.scores + begin * s.width;
  product(s.weight, 0, s.weight.vectors, rows, s.x_rows + begin, scores, s.width, s.bias, index(0));
  for (index row = 0; row < rows; ++row) {
    T* of = scores + row * s.width;
    const index at = first + begin + row, target = c.targets[at];
    const T largest = largest_of(of, c.vocabulary), picked = of[target];
    const double sum = exp_sum(of, c.vocabulary, largest);
    c.losses[at] = T(__builtin_log(sum) + double(largest - picked));
    if (!c.d_output) continue;
    const T share = T(1 / (sum * double(c.rows)));
    for (index i = 0; i < c.vocabulary; i += lanes<T>)
      store_n(of + i, load_n(of + i, c.vocabulary - i) * broadcast(share), c.vocabulary - i);
    of[target] -= T(1) / T(c.rows);
  }
  if (!c.d_output) return;
  T* d_output = s.d_output + begin * s.d_width;
  product(s.weight_t, 0, s.weight_t.vectors, rows, s.score_rows + begin, d_output, s.d_width,
          static_cast<const T*>(nullptr), index(0));
  for (index row = 0; row < rows; ++row)
    __builtin_memcpy(c.d_output + (first + begin + row) * c.features, d_output + row * s.d_width,
                     c.features * sizeof(T));
}

// What the chunk's `rows` rows add to the gradients of W and b; the columns of thread `rank`. After
// the last chunk they go where they belong.
template <class T>
void cross_entropy_columns(const CrossEntropy<T>& c, char* memory, index first, index rows,
                           int rank, int ranks) {
  const Scores<T> s(c, memory);
  const index panels = ceil_div(s.d_weight.vectors, s.d_weight.width);
  const auto share = [&](int of) {
    const index vector = panels * of / ranks * s.d_weight.width;
    return vector < s.d_weight.vectors ? vector : s.d_weight.vectors;
  };
  const index begin = share(rank), end = share(rank + 1);
  outer(s.d_weight, begin, end, rows, s.x_rows, s.scores, s.width);
  for (index v = begin; v < end; ++v) {
    Vec<T> sum{};
    for (index row = 0; row < rows; ++row) sum += load(s.scores + row * s.width + v * lanes<T>);
    store(s.d_bias + v * lanes<T>, load(s.d_bias + v * lanes<T>) + sum);
  }
  if (first + rows < c.rows) return;
  unpack_gates(s.d_weight, 1, index(0), c.d_weight, begin * lanes<T>, end * lanes<T>, c.vocabulary,
               1);
  for (index i = begin * lanes<T>; i < end * lanes<T> && i < c.vocabulary; ++i)
    c.d_bias[i] = s.d_bias[i];
}

}  // namespace tidegate::TIDEGATE_ISA
