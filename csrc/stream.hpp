// One step of a whole model for some rows: GRU layers, their head, and what stands between.
//
// A row's numbers are added up in the same order whatever rows are beside it, and its states in that
// of forward(): a state has the bits that the same steps gave as a sequence.
#pragma once

#include "gru.hpp"

namespace tidegate::TIDEGATE_ISA {

// Sums a vector's lanes: the second half to the first, and so on.
template <class V, std::size_t... i>
TIDEGATE_INLINE auto sum_halves(V v, std::index_sequence<i...>) {
  constexpr std::size_t half = sizeof...(i);
  const auto sum =
      __builtin_shufflevector(v, v, i...) + __builtin_shufflevector(v, v, (half + i)...);
  if constexpr (half > 2)
    return sum_halves(sum, std::make_index_sequence<half / 2>());
  else
    return sum[0] + sum[1];
}

template <class T>
TIDEGATE_INLINE T sum_lanes(Vec<T> v) {
  if constexpr (lanes<T> == 2)
    return v[0] + v[1];
  else
    return sum_halves(v, std::make_index_sequence<lanes<T> / 2>());
}

template <class T>
TIDEGATE_INLINE Vec<T> exponential(Vec<T> x) {  // 0 below the smallest normal number
  const Vec<T> limit = broadcast(exp_limit<T>);
  Vec<T> y[] = {max(-limit, min(limit, x))}, scale[1], expm1[1];
  exp_parts<T>(y, scale, expm1);
  return where_less(x, -limit, Vec<T>{}, fma(*scale, *expm1, *scale));
}

// ---- heads ---------------------------------------------------------------------------------

// Few outputs are dot products along the input, many are panels over the outputs.
template <class T>
constexpr bool by_dots(index outputs) {
  return outputs < lanes<T>;
}

template <class T>
Panels<T> head_panels(const StreamOp<T>& op) {
  Panels<T> panels = plain_panels<T>(op.input, op.output);
  panels.data = op.packed;
  return panels;
}

template <class T>
std::size_t stream_bytes(const StreamOp<T>& op) {
  if (op.kind != stream_linear) return 0;
  const index bias = ceil_div(op.output, lanes<T>) * lanes<T>;
  const index matrix = by_dots<T>(op.output) ? op.output * op.input : head_panels(op).size();
  return std::size_t(matrix + bias) * sizeof(T);
}

// Packs a head; `op.packed` has stream_bytes(op).
template <class T>
void stream_pack(const StreamOp<T>& op) {
  const index k = op.input, n = op.output;
  T* bias = op.packed + n * k;
  if (by_dots<T>(n)) {
    __builtin_memcpy(op.packed, op.weight, n * k * sizeof(T));
  } else {
    const Panels<T> to = head_panels(op);
    bias = op.packed + to.size();
    clear(op.packed, to.size());
    for (index column = 0; column < n; ++column) {
      const index vector = column / lanes<T>, p = vector / to.width;
      const index stride = to.panel_width(p) * lanes<T>;
      T* at = to.panel(p) + vector % to.width * lanes<T> + column % lanes<T>;
      for (index i = 0; i < k; ++i) at[i * stride] = op.weight[column * k + i];
    }
  }
  clear(bias, ceil_div(n, lanes<T>) * lanes<T>);
  if (op.bias) __builtin_memcpy(bias, op.bias, n * sizeof(T));
}

template <class T>
void dots(const StreamOp<T>& op, const T* x, T* y) {
  const T *w = op.packed, *bias = op.packed + op.output * op.input;
  for (index o = 0; o < op.output; ++o, w += op.input) {
    Vec<T> sum{};
    for (index k = 0; k < op.input; k += lanes<T>)
      sum = fma(load_n(w + k, op.input - k), load_n(x + k, op.input - k), sum);
    y[o] = bias[o] + sum_lanes<T>(sum);
  }
}

template <class T>
void head(const StreamOp<T>& op, index rows, const T* const* in, T* out, index out_row) {
  if (by_dots<T>(op.output)) {
    for (index i = 0; i < rows; ++i) dots(op, in[i], out + i * out_row);
    return;
  }
  const Panels<T> panels = head_panels(op);
  product(panels, 0, panels.vectors, rows, in, out, out_row, op.packed + panels.size(), 0);
}

// ---- functions of one row ------------------------------------------------------------------

template <class T>
void normalise(const StreamOp<T>& op, const T* x, T* y) {
  const index n = op.input;
  const auto mean_of = [&](auto f) {
    Vec<T> sum{};
    for (index i = 0; i < n; i += lanes<T>) sum += f(i, n - i);
    return sum_lanes<T>(sum) / T(n);
  };
  const T mean = mean_of([&](index i, index left) { return load_n(x + i, left); });
  const T variance = mean_of([&](index i, index left) {
    const Vec<T> inside = load_n(x + i, left) - broadcast(mean);
    T square[lanes<T>];
    store(square, inside * inside);
    return load_n(square, left);  // nothing past the end
  });
  const T scale = T(1) / __builtin_sqrt(variance + op.alpha);
  for (index i = 0; i < n; ++i) {
    const T centred = (x[i] - mean) * scale;
    y[i] = (op.weight ? centred * op.weight[i] : centred) + (op.bias ? op.bias[i] : T(0));
  }
}

template <class T, class F>
TIDEGATE_INLINE void each(index n, const T* x, T* y, F f) {
  for (index i = 0; i < n; i += lanes<T>) store_n(y + i, f(load_n(x + i, n - i)), n - i);
}

template <class T>
void soft_max(index n, const T* x, T* y, bool logarithm) {
  T largest = x[0], sum = 0;
  for (index i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  each(n, x, y, [&](Vec<T> v) { return exponential<T>(v - broadcast(largest)); });
  for (index i = 0; i < n; ++i) sum += y[i];
  if (logarithm) {
    const T above = largest + T(__builtin_log(double(sum)));
    for (index i = 0; i < n; ++i) y[i] = x[i] - above;
  } else {
    for (index i = 0; i < n; ++i) y[i] /= sum;
  }
}

template <class T>
void activate(const StreamOp<T>& op, const T* x, T* y) {
  const index n = op.input;
  const Vec<T> zero{}, one = broadcast(T(1)), alpha = broadcast(op.alpha);
  switch (op.function) {
    case act_relu:
      return each(n, x, y, [&](Vec<T> v) { return max(zero, v); });
    case act_leaky_relu:
      return each(n, x, y, [&](Vec<T> v) { return where_less(v, zero, alpha * v, v); });
    case act_elu:
      return each(n, x, y, [&](Vec<T> v) {
        Vec<T> y[] = {max(broadcast(-exp_limit<T>), min(zero, v))}, scale[1], expm1[1];
        exp_parts<T>(y, scale, expm1);
        return where_less(v, zero, alpha * fma(*scale, *expm1, *scale - one), v);
      });
    case act_tanh:
      return each(n, x, y, [](Vec<T> v) { return tanh<T>(v); });
    case act_sigmoid:
      return each(n, x, y, [](Vec<T> v) { return sigmoid<T>(v); });
    case act_silu:
      return each(n, x, y, [](Vec<T> v) { return v * sigmoid<T>(v); });
    case act_softplus:
      for (index i = 0; i < n; ++i)
        y[i] = (x[i] > 0       ? x[i]
                : x[i] != x[i] ? x[i]
                               : T(0)) +
               T(__builtin_log1p(__builtin_exp(-__builtin_fabs(double(x[i])))));
      return;
    case act_softmax:
      return soft_max(n, x, y, false);
    case act_log_softmax:
      return soft_max(n, x, y, true);
  }
}

// ---- a GRU layer ---------------------------------------------------------------------------

template <class T>
struct StreamBuffers {
  T* rows[2];  // what layers give, in turns
  T *x_gates, *h_gates, *h_n, *gated;
  const T **in, **states, **gated_rows;
  GateRow<T>* gate_rows;

  StreamBuffers(const StreamPlan<T>& plan, Arena& arena) {
    const index n = stream_block;
    rows[0] = take<T>(arena, n * plan.widest);
    rows[1] = take<T>(arena, n * plan.widest);
    x_gates = take<T>(arena, n * plan.gates);
    h_gates = take<T>(arena, n * plan.gates);
    h_n = take<T>(arena, n * plan.gates);
    gated = take<T>(arena, n * plan.gates);
    in = take<const T*>(arena, n);
    states = take<const T*>(arena, n);
    gated_rows = take<const T*>(arena, n);
    gate_rows = take<GateRow<T>>(arena, n);
  }
};

// A step of rows that stand side by side: their states move on.
template <class T, class S>
void step_rows(const Layout<T, S>& l, index rows, T* state, const StreamBuffers<T>& b) {
  const index hidden = l.shape.hidden, groups = l.width / group<T>;
  const index x_row = l.gates * l.width, h_row = l.hh_gates * l.width;
  for (index i = 0; i < rows; ++i) {
    T *const next = state + i * hidden, *const gated = b.gated + i * l.width;
    b.states[i] = next;
    b.gated_rows[i] = gated;
    b.gate_rows[i] = {b.x_gates + i * x_row,
                      b.h_gates + i * h_row,
                      next,
                      next,
                      {nullptr, nullptr, 0},
                      next,
                      gated,
                      b.h_n + i * l.width};
  }
  recurrent_gates(l, 0, groups, rows, b.states, b.gate_rows);
  if (l.shape.reset == reset_before) candidate_gates(l, 0, groups, rows, b.gated_rows, b.gate_rows);
}

// Successive steps of one row; each step's state goes to a row of `out`, the last one to `state`.
template <class T, class S>
void steps_of_row(const Layout<T, S>& l, index steps, bool turned, T* state, T* out, index out_row,
                  const StreamBuffers<T>& b) {
  const index x_row = l.gates * l.width;
  const std::size_t bytes = std::size_t(l.shape.hidden) * sizeof(T);
  if (l.shape.reset != reset_after) {
    StreamBuffers<T> one = b;
    for (index i = 0; i < steps; ++i) {
      one.x_gates = b.x_gates + i * x_row;
      step_rows(l, 1, state, one);
      __builtin_memcpy(out + i * out_row, state, bytes);
    }
    return;
  }
  clear(b.gated, l.width);
  __builtin_memcpy(b.gated, state, bytes);
  one_row_steps(l, steps,
                {b.gated, b.x_gates, x_row, b.h_gates, out, out_row, {nullptr, nullptr, 0}, 0},
                turned);
  __builtin_memcpy(state, out + (steps - 1) * out_row, bytes);
}

template <class T, class S>
void stream_gru_stored(const StreamPlan<T>& plan, const StreamOp<T>& op, index row, index rows,
                       bool in_time, T* out, const StreamBuffers<T>& b) {
  const Layout<T, S> l(*op.gru);
  const index out_row = plan.widest;
  T* const state = op.state + row * op.output;
  product(l.ih, 0, l.ih.vectors, rows, b.in, b.x_gates, l.gates * l.width, l.bias_x, 0);
  if (in_time)
    steps_of_row(l, rows, plan.turned, state, out, out_row, b);
  else
    step_rows(l, rows, state, b);
  for (index i = 0; i < rows; ++i) b.in[i] = in_time ? out + i * out_row : state + i * op.output;
}

template <class T>
void stream_gru(const StreamPlan<T>& plan, const StreamOp<T>& op, index row, index rows,
                bool in_time, T* out, const StreamBuffers<T>& b) {
  if constexpr (sizeof(T) == 4) {
    if (op.gru->storage == stored_bfloat16)
      return stream_gru_stored<T, BFloat16Pair>(plan, op, row, rows, in_time, out, b);
    if (op.gru->storage == stored_int8)
      return stream_gru_stored<T, Int8>(plan, op, row, rows, in_time, out, b);
  }
  stream_gru_stored<T, T>(plan, op, row, rows, in_time, out, b);
}

// ---- all layers ----------------------------------------------------------------------------

// Fills in what the buffers must hold.
template <class T>
void stream_measure(StreamPlan<T>& plan) {
  const auto at_least = [](index& a, index b) { a = a < b ? b : a; };
  at_least(plan.widest, plan.input);
  for (index i = 0; i < plan.count; ++i) {
    const StreamOp<T>& op = plan.ops[i];
    at_least(plan.widest, ceil_div(op.output, lanes<T>) * lanes<T> + lanes<T>);
    if (op.kind == stream_recurrent)
      at_least(plan.gates, gates_of(op.gru->shape.reset) * padded<T>(op.gru->shape.hidden));
  }
}

template <class T>
std::size_t stream_scratch(const StreamPlan<T>& plan) {
  Arena arena{};
  StreamBuffers<T>(plan, arena);
  return arena.used;
}

// Takes `rows` rows, at most stream_block, through all layers: rows from `row` on of one step, or,
// `in_time`, successive steps of row `row`.
template <class T>
void stream_rows(const StreamPlan<T>& plan, const StreamBuffers<T>& b, index row, index rows,
                 bool in_time, const T* x, const std::int64_t* symbols, T* y) {
  const index wide = plan.widest;
  int turn = 0;
  if (x)
    for (index i = 0; i < rows; ++i) b.in[i] = x + i * plan.input;
  for (index k = 0; k < plan.count; ++k) {
    const StreamOp<T>& op = plan.ops[k];
    if (op.kind == stream_embedding) {
      for (index i = 0; i < rows; ++i) b.in[i] = op.weight + symbols[i] * op.output;
      continue;
    }
    T* const out = b.rows[turn];
    turn = 1 - turn;
    if (op.kind == stream_recurrent) {
      stream_gru(plan, op, row, rows, in_time, out, b);
      continue;
    }
    if (op.kind == stream_linear) {
      if (k + 1 == plan.count && by_dots<T>(op.output)) return head(op, rows, b.in, y, op.output);
      head(op, rows, b.in, out, wide);
    }
    for (index i = 0; i < rows; ++i) {
      T* to = out + i * wide;
      if (op.kind == stream_norm) normalise(op, b.in[i], to);
      if (op.kind == stream_activation) activate(op, b.in[i], to);
      if (op.kind == stream_add_input)
        for (index u = 0; u < op.input; ++u) to[u] = b.in[i][u] + x[i * plan.input + u];
      b.in[i] = to;
    }
  }
  for (index i = 0; i < rows; ++i)
    __builtin_memcpy(y + i * plan.output, b.in[i], plan.output * sizeof(T));
}

// Takes the rows [row, row + rows), at most stream_block, through all layers, `steps` times. One
// row that is alone in its stream goes through a layer for many steps before the next layer.
template <class T>
void stream_run(const StreamPlan<T>& plan, index row, index rows, index steps, const T* x,
                const std::int64_t* symbols, T* y, Arena arena) {
  const StreamBuffers<T> b(plan, arena);
  const bool alone = plan.batch == 1;
  const index at_once = alone ? stream_block : 1;
  for (index step = 0; step < steps; step += at_once) {
    const index n = steps - step < at_once ? steps - step : at_once;
    const index first = step * plan.batch + row;
    stream_rows(plan, b, row, alone ? n : rows, alone, x ? x + first * plan.input : x,
                symbols ? symbols + first : symbols, y + first * plan.output);
  }
}

}  // namespace tidegate::TIDEGATE_ISA
