// The recurrence over a sequence, forward and backward, for one thread's slice of the work.
//
// Time is taken in chunks of steps whose buffers stay in the cache. Forward: the input product of a
// whole chunk, then step by step the recurrent product and the gates. Backward, from the last chunk
// to the first: all gates of the chunk again by two products (or as forward saved them), then step
// by step only what is serial, d_state <- z * d_state + d_gates W_hh, then the gradients of input
// and weights as products over the chunk.
//
// A cell is one row at one step of a chunk. Rows are sorted longest first, so the rows alive at a
// step are the first few, and the cost is the sum of the lengths.
#pragma once

#include "gates.hpp"
#include "one_row.hpp"
#include "threads.hpp"

namespace tidegate::TIDEGATE_ISA {

constexpr index chunk_bytes = 256 * 1024;  // of the largest buffer, a part of the second cache
constexpr index product_rows = 48;  // cells of a product whose result is used at once

// Cells that a chunk has at least, if there are so many. A chunk reads all input weights once, and
// backward reads and writes all weight gradients: the larger they are, the more cells must share.
constexpr index chunk_rows(index hidden) {
  return hidden < 96 ? 48 : hidden > 1024 ? 512 : hidden / 2;
}

template <class T>
T* take(Arena& arena, index count) {
  const std::size_t bytes = (std::size_t(count) * sizeof(T) + 63) / 64 * 64;
  T* p = arena.base ? reinterpret_cast<T*>(arena.base + arena.used) : nullptr;
  arena.used += bytes;
  return p;
}

// ---- packed weights ------------------------------------------------------------------------

// `before` keeps W_hn apart, since it meets r * h; the other cells have all gates in `hh`.
// S is how the forward weights are stored; only weights stored as T have transposes.
template <class T, class S = T>
struct Layout {
  Shape shape;
  index gates, width;  // width: units, padded to whole groups
  Panels<T, S> ih, hh, hh_n;  // forward
  Panels<T> ih_t, hh_t, hh_n_t;  // backward
  T *bias_x, *bias_hn;  // [group][gate][unit]; [unit], after alone
  std::size_t bytes;

  Layout(Shape s, T* memory, bool backward) : shape(s), gates(gates_of(s.reset)) {
    const bool apart = s.reset == reset_before;
    const index hh_gates = apart ? 2 : gates;
    width = padded<T>(s.hidden);
    Arena arena{reinterpret_cast<char*>(memory), 0};
    const auto place = [&]<class Stored>(Panels<T, Stored> p) {
      p.data = take<Stored>(arena, p.size());
      if (std::is_same_v<Stored, Int8>) p.scale = take<T>(arena, p.vectors * lanes<T>);
      return p;
    };
    ih = place(gate_panels<T, S>(s.input, s.hidden, gates));
    hh = place(gate_panels<T, S>(s.hidden, s.hidden, hh_gates));
    hh_n = apart ? place(gate_panels<T, S>(s.hidden, s.hidden, 1)) : Panels<T, S>{};
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
  const index hh_gates = before ? 2 : gates;
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

// ---- where things are ----------------------------------------------------------------------

template <class T>
struct Places {
  const Call<T>& c;
  const Slice& s;

  index row(index i) const { return s.rows[i]; }
  index time(index step, index i) const { return c.reverse ? s.lengths[i] - 1 - step : step; }
  index at(index step, index i, index time_stride, index row_stride) const {
    const index t = time(step, i);
    return c.offsets ? (c.offsets[t] + row(i)) * row_stride : t * time_stride + row(i) * row_stride;
  }
  // The row of x; or where its token is, which only `gather` and `scatter` read.
  const T* x(index step, index i) const {
    const index place = at(step, i, c.x_time, c.x_batch);
    return c.tokens ? reinterpret_cast<const T*>(c.tokens + place) : c.x + place;
  }
  T* output(index step, index i) const {
    return c.output + at(step, i, c.output_time, c.output_batch);
  }
  const T* initial(index i, const T* zeros) const {
    return c.h_0 ? c.h_0 + row(i) * c.weights->shape.hidden : zeros;
  }
  const T* state(index step, index i, const T* zeros) const {
    return step ? output(step - 1, i) : initial(i, zeros);
  }
  index keep(index step, index i) const {
    return time(step, i) * c.keep_time + row(i) * c.keep_batch;
  }
  const T* zone(index step, index i) const {
    return c.zone + time(step, i) * c.zone_time + row(i) * c.zone_batch;
  }
  T* saved(index step, index i) const {
    return c.saved ? c.saved + saved_size<T>(c.weights->shape, c.row_cell[row(i)] + step) : nullptr;
  }
  GateSinks<T> sinks(index step, index i, T* saved) const {
    T* shown = c.gates ? c.gates + at(step, i, c.output_time, c.output_batch) : nullptr;
    return {saved, shown, c.gates_gate};
  }
  CellGradients<T> gradients(index step, index i) const {
    return {c.d_output ? c.d_output + at(step, i, c.d_output_time, c.d_output_batch) : nullptr,
            c.d_gates ? c.d_gates + at(step, i, c.d_gates_time, c.d_gates_batch) : nullptr,
            c.d_gates_gate};
  }
  index steps() const { return s.count ? s.lengths[0] : 0; }
  // Rows alive at a step, counted down or up from the last answer.
  index alive(index step, index guess) const {
    while (guess > 0 && s.lengths[guess - 1] <= step) --guess;
    while (guess < s.count && s.lengths[guess] > step) ++guess;
    return guess;
  }
  index unit_begin() const { return s.group_begin * group<T>; }
  index unit_end() const {
    const index end = s.group_end * group<T>, hidden = c.weights->shape.hidden;
    return end < hidden ? end : hidden;
  }
};

// Steps in a chunk, whose largest buffer has every gate of every unit.
template <class T>
index chunk_steps(const Layout<T>& l, const Slice& s, index steps) {
  if (s.count == 0 || steps == 0) return 1;
  const index by_cache = chunk_bytes / (l.gates * l.width * index(sizeof(T)) * s.count);
  const index by_rows = ceil_div(chunk_rows(l.shape.hidden), s.count);
  const index chunk = by_cache > by_rows ? by_cache : by_rows;
  return chunk < 1 ? 1 : chunk < steps ? chunk : steps;
}

template <class T>
void clear(T* p, index count) {
  __builtin_memset(p, 0, count * sizeof(T));
}

// keep and mask applied to one row's state: `carried` goes along the carry, `operand` meets the
// weights. Without either, both are the state itself.
template <class T>
struct Operand {
  const T* carried;
  const T* operand;
};

template <class T>
Operand<T> apply_keep_and_mask(const Places<T>& at, index step, index i, const T* state, T* kept,
                               T* masked) {
  const Call<T>& c = at.c;
  const index hidden = c.weights->shape.hidden;
  Operand<T> result{state, state};
  if (c.keep) {
    const T* keep = c.keep + at.keep(step, i);
    for (index u = 0; u < hidden; ++u) kept[u] = keep[u * c.keep_unit] * state[u];
    result = {kept, kept};
  }
  if (c.mask) {
    const T* mask = c.mask + at.row(i) * hidden;
    for (index u = 0; u < hidden; ++u) masked[u] = mask[u] * result.carried[u];
    result.operand = masked;
  }
  return result;
}

// Zoneout: of each unit of a new state, the share `zone` is the old one instead.
template <class T>
void stay(const Places<T>& at, index step, index i, const T* carried, T* next) {
  const T* zone = at.zone(step, i);
  for (index u = at.unit_begin(); u < at.unit_end(); ++u) {
    const T share = zone[u * at.c.zone_unit];
    next[u] = share * carried[u] + (T(1) - share) * next[u];
  }
}

// ---- forward -------------------------------------------------------------------------------

template <class T>
struct ForwardBuffers {
  index chunk;
  T *x_gates, *h_gates, *h_n, *kept, *masked, *gated, *zeros;
  const T **inputs, **carried, **operands, **gated_rows;

  // `gated` is shared between threads that split the units: each writes its part of r * h.
  ForwardBuffers(const Call<T>& c, const Slice& s, Arena& arena, Arena& shared) {
    const Layout<T> l(c.weights->shape, nullptr, false);  // sizes alone
    const index n = s.count, hidden = l.shape.hidden, steps = Places<T>{c, s}.steps();
    const bool before = l.shape.reset == reset_before;
    chunk = chunk_steps(l, s, steps);
    x_gates = take<T>(arena, chunk * n * l.gates * l.width);
    h_gates = take<T>(arena, n * l.gates * l.width);
    h_n = take<T>(arena, before ? n * l.width : 0);
    kept = take<T>(arena, c.keep ? n * hidden : 0);
    masked = take<T>(arena, c.mask ? n * hidden : 0);
    zeros = take<T>(arena, c.h_0 ? 0 : hidden);
    gated = take<T>(s.by_units ? shared : arena, before ? n * hidden : 0);
    inputs = take<const T*>(arena, chunk * n);
    carried = take<const T*>(arena, n);
    operands = take<const T*>(arena, n);
    gated_rows = take<const T*>(arena, before ? n : 0);
  }
};

template <class T>
std::size_t forward_scratch(const Call<T>& c, const Slice& s) {
  Arena arena{}, shared{};
  ForwardBuffers<T>(c, s, arena, shared);
  return arena.used;
}

template <class T>
std::size_t forward_shared(const Call<T>& c, const Slice& s) {
  Arena arena{}, shared{};
  ForwardBuffers<T>(c, s, arena, shared);
  return shared.used;
}

// W_i x + b_i of some cells, for some vectors of gates; of tokens, columns of W_i.
template <class T, class S>
void input_product(const Call<T>& c, const Layout<T, S>& l, index v0, index v1, index cells,
                   const T* const* inputs, T* x_gates, index x_row) {
  const T* bias = l.bias_x;
  if constexpr (std::is_same_v<T, S>)
    if (c.tokens) return gather(l.ih, v0, v1, cells, inputs, bias, x_gates, x_row);
  product(l.ih, v0, v1, cells, inputs, x_gates, x_row, bias, 0);
}

template <class T, class S>
void forward_step(const Places<T>& at, const Layout<T, S>& l, const ForwardBuffers<T>& b,
                  index step, index rows, const T* x_gates, Slice& s) {
  const index hidden = l.shape.hidden, g0 = s.group_begin, g1 = s.group_end;
  for (index i = 0; i < rows; ++i) {
    const auto o = apply_keep_and_mask(at, step, i, at.state(step, i, b.zeros), b.kept + i * hidden,
                                       b.masked + i * hidden);
    b.carried[i] = o.carried;
    b.operands[i] = o.operand;
    if (s.by_units)  // the others' units are in their caches: ask for all lines at once
      for (index u = 0; u < hidden; u += 64 / index(sizeof(T))) __builtin_prefetch(o.operand + u);
  }
  const bool before = l.shape.reset == reset_before;
  const index hh_gates = before ? 2 : l.gates, per_group = hh_gates * group_vectors;
  const index x_row = l.gates * l.width, h_row = hh_gates * l.width;
  if (rows == 1 && l.shape.reset == reset_after) {
    T* next = at.output(step, 0);
    const auto sinks = at.sinks(step, 0, at.saved(step, 0));
    const OneRow<T, S> row{l.hh,      hidden,       b.operands[0], b.h_gates, x_gates,
                           l.bias_hn, b.carried[0], next,          sinks};
    one_row_after(row, g0, g1, step % 2 == 1);
    if (at.c.zone) stay(at, step, 0, b.carried[0], next);
    return;
  }
  const T* none = nullptr;
  product(l.hh, g0 * per_group, g1 * per_group, rows, b.operands, b.h_gates, h_row, none, 0);
  if (before) {
    for (index i = 0; i < rows; ++i) {
      gates_before_reset(hidden, g0, g1, x_gates + i * x_row, b.h_gates + i * h_row, b.operands[i],
                         b.gated + i * hidden, at.sinks(step, i, at.saved(step, i)));
      b.gated_rows[i] = b.gated + i * hidden;
    }
    if (s.by_units) wait(s);
    product(l.hh_n, g0 * group_vectors, g1 * group_vectors, rows, b.gated_rows, b.h_n, l.width,
            none, 0);
  }
  for (index i = 0; i < rows; ++i) {
    const T *x = x_gates + i * x_row, *h = b.h_gates + i * h_row;
    const auto sinks = at.sinks(step, i, at.saved(step, i));
    T* next = at.output(step, i);
    if (before)
      gates_before(hidden, g0, g1, x, h, b.h_n + i * l.width, b.carried[i], next, sinks);
    else if (l.shape.reset == reset_after)
      gates_after(hidden, g0, g1, x, h, l.bias_hn, b.carried[i], next, sinks);
    else
      gates_none(hidden, g0, g1, x, h, b.carried[i], next, sinks);
    if (at.c.zone) stay(at, step, i, b.carried[i], next);
  }
}

// The state at each row's own end, and zeros past it.
template <class T>
void finish_rows(const Places<T>& at, const T* zeros) {
  const Call<T>& c = at.c;
  const index begin = at.unit_begin(), count = at.unit_end() - begin;
  const index gates = c.gates ? gates_of(c.weights->shape.reset) : 0;
  for (index i = 0; i < at.s.count; ++i) {
    const index length = at.s.lengths[i];
    const T* last = at.state(length, i, zeros);
    T* h_n = c.h_n + at.row(i) * c.weights->shape.hidden;
    if (h_n != last) __builtin_memmove(h_n + begin, last + begin, count * sizeof(T));
    if (c.offsets) continue;
    for (index t = length; t < c.time; ++t) {
      const index cell = t * c.output_time + at.row(i) * c.output_batch + begin;
      clear(c.output + cell, count);
      for (index gate = 0; gate < gates; ++gate) clear(c.gates + gate * c.gates_gate + cell, count);
    }
  }
}

template <class T, class S>
void forward_stored(const Call<T>& c, Slice& s, Arena arena, Arena shared) {
  const Layout<T, S> l(*c.weights);
  const ForwardBuffers<T> b(c, s, arena, shared);
  const Places<T> at{c, s};
  if (!c.h_0) clear(b.zeros, l.shape.hidden);
  const index per_group = l.gates * group_vectors, x_row = l.gates * l.width;
  const index steps = at.steps();
  index rows = s.count;
  for (index begin = 0; begin < steps; begin += b.chunk) {
    const index end = begin + b.chunk < steps ? begin + b.chunk : steps;
    index cells = 0;
    for (index step = begin; step < end; ++step) {
      rows = at.alive(step, rows);
      for (index i = 0; i < rows; ++i) b.inputs[cells++] = at.x(step, i);
    }
    input_product(c, l, s.group_begin * per_group, s.group_end * per_group, cells, b.inputs,
                  b.x_gates, x_row);
    const T* x_gates = b.x_gates;
    rows = at.alive(begin, s.count);
    for (index step = begin; step < end; ++step) {
      rows = at.alive(step, rows);
      forward_step(at, l, b, step, rows, x_gates, s);
      x_gates += rows * x_row;
      if (s.by_units && step + 1 < steps) wait(s);
    }
  }
  finish_rows(at, b.zeros);
}

template <class T>
void forward(const Call<T>& c, Slice& s, Arena arena, Arena shared) {
  if constexpr (sizeof(T) == 4) {
    const int storage = c.weights->storage;
    if (storage == stored_bfloat16) return forward_stored<T, BFloat16>(c, s, arena, shared);
    if (storage == stored_int8) return forward_stored<T, Int8>(c, s, arena, shared);
  }
  forward_stored<T, T>(c, s, arena, shared);
}

// ---- backward ------------------------------------------------------------------------------

// Weight gradients of one part (a thread that splits the rows, or all that split the units).
template <class T>
struct WeightGradients {
  Panels<T> ih, hh, hh_n;
  T *bias_x, *bias_h;
  index size;

  WeightGradients(const Layout<T>& l, T* memory) : ih(l.ih), hh(l.hh), hh_n(l.hh_n) {
    Arena arena{reinterpret_cast<char*>(memory), 0};
    ih.data = take<T>(arena, ih.size());
    hh.data = take<T>(arena, hh.size());
    hh_n.data = take<T>(arena, hh_n.size());
    bias_x = take<T>(arena, l.gates * l.width);
    bias_h = take<T>(arena, l.gates * l.width);
    size = index(arena.used / sizeof(T));
  }
};

template <class T>
struct BackwardBuffers {
  index chunk;  // steps
  index parts, part;  // weight gradients: how many, and which is this thread's
  index part_size;
  T* weights;  // shared, [part]
  T *d_x, *d_h, *d_n, *gated;  // by cell; shared between threads by units
  T *gates, *x_gates, *h_gates, *h_n;  // recomputed
  T *d_state, *d_operand, *d_stayed, *d_input;  // by row, by row, by cell of a product
  T *kept, *masked, *zeros;
  const T **inputs, **states, **carried, **operands, **rows, **gated_rows;
  T** cell_gates;
  index *first, *cell_step, *cell_row;  // of the chunk: cell of each step's first row

  BackwardBuffers(const Call<T>& c, const Slice& s, Arena& own, Arena& common) {
    const Layout<T> l(*c.weights);
    const index n = s.count, hidden = l.shape.hidden, steps = Places<T>{c, s}.steps();
    const index gates_row = l.gates * l.width;
    const bool before = l.shape.reset == reset_before, after = l.shape.reset == reset_after;
    chunk = chunk_steps(l, s, steps);
    const index cells = chunk * n;
    parts = s.by_units ? 1 : s.ranks;
    part = s.by_units ? 0 : s.rank;
    part_size = WeightGradients<T>(l, nullptr).size;
    weights = take<T>(common, parts * part_size);
    Arena& split = s.by_units ? common : own;
    d_x = take<T>(split, cells * gates_row);
    d_h = after    ? take<T>(split, cells * gates_row)
          : before ? take<T>(split, cells * 2 * l.width)
                   : d_x;
    d_n = take<T>(split, before ? cells * l.width : 0);
    gated = take<T>(split, before ? cells * hidden : 0);
    gates = take<T>(own, c.saved ? 0 : saved_size<T>(l.shape, cells));
    x_gates = take<T>(own, c.saved ? 0 : product_rows * gates_row);
    h_gates = take<T>(own, c.saved ? 0 : product_rows * gates_row);
    h_n = take<T>(own, before && !c.saved ? product_rows * l.width : 0);
    d_state = take<T>(own, n * l.width);
    d_operand = take<T>(own, c.mask || before ? n * l.width : 0);
    d_stayed = take<T>(own, c.zone ? n * l.width : 0);
    d_input = take<T>(own, c.d_x ? product_rows * l.ih_t.vectors * lanes<T> : 0);
    kept = take<T>(own, c.keep ? cells * hidden : 0);
    masked = take<T>(own, c.mask ? cells * hidden : 0);
    zeros = take<T>(own, c.h_0 ? 0 : hidden);
    inputs = take<const T*>(own, cells);
    states = take<const T*>(own, cells);
    carried = take<const T*>(own, cells);
    operands = take<const T*>(own, cells);
    rows = take<const T*>(own, n > product_rows ? n : product_rows);
    gated_rows = take<const T*>(own, before ? cells : 0);
    cell_gates = take<T*>(own, cells);
    first = take<index>(own, chunk + 1);
    cell_step = take<index>(own, cells);
    cell_row = take<index>(own, cells);
  }
};

template <class T>
std::size_t backward_scratch(const Call<T>& c, const Slice& s) {
  Arena own{}, common{};
  BackwardBuffers<T>(c, s, own, common);
  return own.used;
}

template <class T>
std::size_t backward_shared(const Call<T>& c, const Slice& s) {
  Arena own{}, common{};
  BackwardBuffers<T>(c, s, own, common);
  return common.used;
}

template <class T>
struct Backward {
  const Call<T>& c;
  Slice& s;
  const Layout<T> l;
  const BackwardBuffers<T> b;
  const Places<T> at;
  const bool before, after;
  const index hidden, g0, g1, gates_row, hh_gates, cell_saved;

  Backward(const Call<T>& call, Slice& slice, Arena& own, Arena& common)
      : c(call),
        s(slice),
        l(*call.weights),
        b(call, slice, own, common),
        at{call, slice},
        before(l.shape.reset == reset_before),
        after(l.shape.reset == reset_after),
        hidden(l.shape.hidden),
        g0(slice.group_begin),
        g1(slice.group_end),
        gates_row(l.gates * l.width),
        hh_gates(before ? 2 : l.gates),
        cell_saved(saved_gates(l.shape.reset) * l.width) {}

  void meet() {
    if (s.by_units) wait(s);
  }

  // Lists the cells of steps [begin, end) and returns their number.
  index list_cells(index begin, index end) {
    index cells = 0, rows = s.count;
    for (index step = begin; step < end; ++step) {
      b.first[step - begin] = cells;
      rows = at.alive(step, rows);
      for (index i = 0; i < rows; ++i, ++cells) {
        b.cell_step[cells] = step;
        b.cell_row[cells] = i;
        b.inputs[cells] = at.x(step, i);
        b.states[cells] = at.state(step, i, b.zeros);
        const auto o = apply_keep_and_mask(at, step, i, b.states[cells], b.kept + cells * hidden,
                                           b.masked + cells * hidden);
        b.carried[cells] = o.carried;
        b.operands[cells] = o.operand;
        b.cell_gates[cells] = c.saved ? at.saved(step, i) : b.gates + cells * cell_saved;
        if (before) b.gated_rows[cells] = b.gated + cells * hidden;
      }
    }
    b.first[end - begin] = cells;
    return cells;
  }

  // r * operand of saved gates, which "before" needs for the gradient of W_hn.
  void gate_operands(index cells) {
    for (index cell = 0; cell < cells; ++cell)
      for_units<T>(hidden, g0, g1, [&](index unit, index n, index v, index g) {
        const auto r = load(gate_at(b.cell_gates[cell], g, 0, 3, v));
        store_n(b.gated + cell * hidden + unit, r * load_n(b.operands[cell] + unit, n), n);
      });
    meet();
  }

  void recompute_gates(index cells) {
    const index x_group = l.gates * group_vectors, h_group = hh_gates * group_vectors;
    const T* none = nullptr;
    for (index from = 0; from < cells; from += product_rows) {
      const index n = cells - from < product_rows ? cells - from : product_rows;
      const index h_row = hh_gates * l.width;
      input_product(c, l, g0 * x_group, g1 * x_group, n, b.inputs + from, b.x_gates, gates_row);
      product(l.hh, g0 * h_group, g1 * h_group, n, b.operands + from, b.h_gates, h_row, none, 0);
      const auto each = [&](auto f) {
        for (index i = 0; i < n; ++i)
          f(from + i, b.x_gates + i * gates_row, b.h_gates + i * h_row,
            GateSinks<T>{b.cell_gates[from + i], nullptr, 0}, i);
      };
      if (before) {
        each([&](index cell, const T* x, T* h, const GateSinks<T>& sinks, index) {
          gates_before_reset(hidden, g0, g1, x, h, b.operands[cell], b.gated + cell * hidden,
                             sinks);
        });
        meet();
        product(l.hh_n, g0 * group_vectors, g1 * group_vectors, n, b.gated_rows + from, b.h_n,
                l.width, none, 0);
      }
      each([&](index cell, const T* x, const T* h, const GateSinks<T>& sinks, index i) {
        T* nowhere = nullptr;
        const T* state = b.carried[cell];
        if (before)
          gates_before(hidden, g0, g1, x, h, b.h_n + i * l.width, state, nowhere, sinks);
        else if (after)
          gates_after(hidden, g0, g1, x, h, l.bias_hn, state, nowhere, sinks);
        else
          gates_none(hidden, g0, g1, x, h, state, nowhere, sinks);
      });
    }
  }

  // d_state += (gates' gradient) * W, or through the mask.
  void recurrent_product(const Panels<T>& w, index rows, const T* d, index d_row) {
    for (index i = 0; i < rows; ++i) b.rows[i] = d + i * d_row;
    const index v0 = g0 * group_vectors;
    const index v1 = g1 * group_vectors < w.vectors ? g1 * group_vectors : w.vectors;
    if (!c.mask) {
      product(w, v0, v1, rows, b.rows, b.d_state, l.width, static_cast<const T*>(b.d_state),
              l.width);
      return;
    }
    product(w, v0, v1, rows, b.rows, b.d_operand, l.width, static_cast<const T*>(nullptr), 0);
    add_masked(rows);
  }

  // d_state += mask * d_operand.
  void add_masked(index rows) {
    for (index i = 0; i < rows; ++i)
      for (index u = at.unit_begin(); u < at.unit_end(); ++u) {
        const T d = b.d_operand[i * l.width + u];
        b.d_state[i * l.width + u] += c.mask ? c.mask[at.row(i) * hidden + u] * d : d;
      }
  }

  // What arrives at a state that partly stayed: that share goes to the old state, around the gates.
  void around_gates(index step, index i, const T* d_output) {
    T *d = b.d_state + i * l.width, *stayed = b.d_stayed + i * l.width;
    const T* zone = at.zone(step, i);
    for (index u = at.unit_begin(); u < at.unit_end(); ++u) {
      const T all = d_output ? d[u] + d_output[u] : d[u];
      stayed[u] = zone[u * c.zone_unit] * all;
      d[u] = all - stayed[u];
    }
  }

  void add_stayed(index rows) {
    for (index i = 0; i < rows; ++i)
      for (index u = at.unit_begin(); u < at.unit_end(); ++u)
        b.d_state[i * l.width + u] += b.d_stayed[i * l.width + u];
  }

  // What reached h after keep, back to h before it; and the gradient of keep.
  void through_keep(index step, index rows, index cell) {
    for (index i = 0; i < rows; ++i) {
      T* d = b.d_state + i * l.width;
      const index place = at.keep(step, i);
      T* d_keep = c.d_keep ? c.d_keep + (at.time(step, i) * c.batch + at.row(i)) * hidden : nullptr;
      for (index u = at.unit_begin(); u < at.unit_end(); ++u) {
        if (d_keep) d_keep[u] = d[u] * b.states[cell + i][u];
        d[u] *= c.keep[place + u * c.keep_unit];
      }
    }
  }

  void step_back(index step, index cell, index rows) {
    T* d_x = b.d_x + cell * gates_row;
    T* d_h = b.d_h + cell * hh_gates * l.width;
    for (index i = 0; i < rows; ++i) {
      const T *saved = b.cell_gates[cell + i], *state = b.carried[cell + i];
      auto from = at.gradients(step, i);
      if (c.zone) {
        around_gates(step, i, from.d_output);
        from.d_output = nullptr;
      }
      T *d = b.d_state + i * l.width, *x = d_x + i * gates_row, *h = d_h + i * hh_gates * l.width;
      if (after)
        backward_after(hidden, g0, g1, saved, state, from, d, x, h);
      else if (before)
        backward_before(hidden, g0, g1, saved, state, from, d, x, h, b.d_n + (cell + i) * l.width);
      else
        backward_none(hidden, g0, g1, saved, state, from, d, x);
    }
    meet();
    if (before) {
      for (index i = 0; i < rows; ++i) b.rows[i] = b.d_n + (cell + i) * l.width;
      const index v1 = g1 * group_vectors;
      product(l.hh_n_t, g0 * group_vectors, v1 < l.hh_n_t.vectors ? v1 : l.hh_n_t.vectors, rows,
              b.rows, b.d_operand, l.width, static_cast<const T*>(nullptr), 0);
      for (index i = 0; i < rows; ++i)
        backward_before_reset(hidden, g0, g1, b.cell_gates[cell + i], b.operands[cell + i],
                              at.gradients(step, i), b.d_operand + i * l.width, d_x + i * gates_row,
                              d_h + i * hh_gates * l.width);
      add_masked(rows);
      meet();
    }
    recurrent_product(l.hh_t, rows, d_h, hh_gates * l.width);
    if (c.zone) add_stayed(rows);
    if (c.keep) through_keep(step, rows, cell);
  }

  // Gradient of the input; threads by units share the cells.
  void input_gradients(index cells) {
    const index begin = s.by_units ? cells * s.rank / s.ranks : 0;
    const index end = s.by_units ? cells * (s.rank + 1) / s.ranks : cells;
    const index row = l.ih_t.vectors * lanes<T>, input = l.shape.input;
    for (index from = begin; from < end; from += product_rows) {
      const index n = end - from < product_rows ? end - from : product_rows;
      for (index i = 0; i < n; ++i) b.rows[i] = b.d_x + (from + i) * gates_row;
      product(l.ih_t, 0, l.ih_t.vectors, n, b.rows, b.d_input, row, static_cast<const T*>(nullptr),
              0);
      for (index i = 0; i < n; ++i) {
        const index place =
            at.at(b.cell_step[from + i], b.cell_row[from + i], c.d_x_time, c.d_x_batch);
        __builtin_memcpy(c.d_x + place, b.d_input + i * row, input * sizeof(T));
      }
    }
  }

  void weight_gradients(index cells) {
    const WeightGradients<T> sum(l, b.weights + b.part * b.part_size);
    const index x_group = l.gates * group_vectors, h_group = hh_gates * group_vectors;
    if (c.tokens)
      scatter(sum.ih, g0 * x_group, g1 * x_group, cells, b.inputs, b.d_x, gates_row);
    else
      outer(sum.ih, g0 * x_group, g1 * x_group, cells, b.inputs, b.d_x, gates_row);
    outer(sum.hh, g0 * h_group, g1 * h_group, cells, b.operands, b.d_h, hh_gates * l.width);
    if (before)
      outer(sum.hh_n, g0 * group_vectors, g1 * group_vectors, cells, b.gated_rows, b.d_n, l.width);
    add_rows(sum.bias_x, b.d_x, cells);
    if (after) add_rows(sum.bias_h, b.d_h, cells);
  }

  void add_rows(T* sum, const T* d, index cells) {
    const index begin = g0 * l.gates * group<T>, end = g1 * l.gates * group<T>;
    for (index from = 0; from < cells; from += cell_block) {
      const index to = cells - from < cell_block ? cells : from + cell_block;
      for (index k = begin; k < end; k += lanes<T>) {
        Vec<T> total{};
        for (index cell = from; cell < to; ++cell) total += load(d + cell * gates_row + k);
        store(sum + k, load(sum + k) + total);
      }
    }
  }

  // Adds up the parts, each thread its share of the units.
  void write_weights() {
    if (s.ranks > 1) wait(s);
    const WeightGradients<T> sum(l, b.weights);
    const index all = ceil_div(l.width, group<T>);
    const index begin = at_most(s.by_units ? g0 : all * s.rank / s.ranks);
    const index end = at_most(s.by_units ? g1 : all * (s.rank + 1) / s.ranks);
    if (c.d_weight_ih)
      unpack_gates(sum.ih, b.parts, b.part_size, c.d_weight_ih, begin, end, hidden, l.gates);
    if (c.d_weight_hh) {
      unpack_gates(sum.hh, b.parts, b.part_size, c.d_weight_hh, begin, end, hidden, hh_gates);
      if (before)
        unpack_gates(sum.hh_n, b.parts, b.part_size, c.d_weight_hh + 2 * hidden * hidden, begin,
                     end, hidden, 1);
    }
    const T* bias_h = after ? sum.bias_h : sum.bias_x;
    for (index gate = 0; gate < l.gates; ++gate)
      for (index unit = begin; unit < end; ++unit) {
        T x = 0, h = 0;
        for (index part = 0; part < b.parts; ++part) {
          const index k = part * b.part_size + column<T>(unit, gate, l.gates);
          x += sum.bias_x[k];
          h += bias_h[k];
        }
        if (c.d_bias_ih) c.d_bias_ih[gate * hidden + unit] = x;
        if (c.d_bias_hh) c.d_bias_hh[gate * hidden + unit] = h;
      }
  }

  index at_most(index group_index) const {
    const index unit = group_index * group<T>;
    return unit < hidden ? unit : hidden;
  }

  void clear_weights() {
    const WeightGradients<T> sum(l, b.weights + b.part * b.part_size);
    if (!s.by_units) return clear(b.weights + b.part * b.part_size, b.part_size);
    if (s.rank == 0) clear(b.weights, b.part_size);
    wait(s);
  }

  // A vector of a group past the last unit is written by no gate, and meets weights of zero in the
  // products below: it may not hold the NaN of an earlier call.
  void clear_padding() {
    if (l.width - hidden < lanes<T>) return;
    if (!s.by_units || s.rank == 0) {
      const index cells = b.chunk * s.count;
      clear(b.d_x, cells * gates_row);
      if (b.d_h != b.d_x) clear(b.d_h, cells * hh_gates * l.width);
      if (before) clear(b.d_n, cells * l.width);
    }
    meet();
  }

  void start_rows() {
    if (!c.h_0) clear(b.zeros, hidden);
    clear(b.d_state, s.count * l.width);
    if (!c.d_h_n) return;
    for (index i = 0; i < s.count; ++i)
      __builtin_memcpy(b.d_state + i * l.width, c.d_h_n + at.row(i) * hidden, hidden * sizeof(T));
  }

  void finish() {
    const index begin = at.unit_begin(), count = at.unit_end() - begin;
    for (index i = 0; i < s.count; ++i) {
      if (c.d_h_0)
        __builtin_memcpy(c.d_h_0 + at.row(i) * hidden + begin, b.d_state + i * l.width + begin,
                         count * sizeof(T));
      for (index t = s.lengths[i]; t < c.time; ++t) {
        if (c.d_keep) clear(c.d_keep + (t * c.batch + at.row(i)) * hidden + begin, count);
        if (c.d_x && !c.offsets && !(s.by_units && s.rank))
          clear(c.d_x + t * c.d_x_time + at.row(i) * c.d_x_batch, l.shape.input);
      }
    }
  }

  void run() {
    const bool weights = c.d_weight_ih || c.d_weight_hh || c.d_bias_ih || c.d_bias_hh;
    const index steps = at.steps();
    if (weights) clear_weights();
    clear_padding();
    start_rows();
    const index chunks = ceil_div(steps, b.chunk);
    for (index k = chunks - 1; k >= 0; --k) {
      const index begin = k * b.chunk;
      const index end = begin + b.chunk < steps ? begin + b.chunk : steps;
      const index cells = list_cells(begin, end);
      if (!c.saved)
        recompute_gates(cells);
      else if (before)
        gate_operands(cells);
      for (index step = end - 1; step >= begin; --step) {
        const index cell = b.first[step - begin];
        step_back(step, cell, b.first[step - begin + 1] - cell);
      }
      meet();
      if (c.d_x) input_gradients(cells);
      if (weights) weight_gradients(cells);
      meet();
    }
    finish();
    if (weights) write_weights();
  }
};

template <class T>
void backward(const Call<T>& c, Slice& s, Arena own, Arena common) {
  Backward<T>(c, s, own, common).run();
}

}  // namespace tidegate::TIDEGATE_ISA
