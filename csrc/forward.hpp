// The recurrence forward over a sequence, for one thread's slice of the work: see gru.hpp.
#pragma once

#include "one_row.hpp"
#include "places.hpp"
#include "step.hpp"
#include "threads.hpp"

namespace tidegate::TIDEGATE_ISA {

// Whether the slice is one row that goes through its steps with nothing between them.
template <class T>
bool goes_alone(const Call<T>& c, const Slice& s) {
  const Shape& shape = c.weights->shape;
  return s.count == 1 && s.sharing != share_units && shape.reset == reset_after && !shape.norm &&
         !c.offsets && !(c.keep || c.mask || c.zone) &&
         (!c.gates || shape.hidden == padded<T>(shape.hidden));
}

template <class T>
struct ForwardBuffers {
  index chunk, slots, slot;  // steps; chunks whose inputs' products are kept, and the size of one
  T *x_gates, *h_gates, *h_n, *kept, *masked, *gated, *zeros;
  T* states;  // of one row, whole vectors: before the chunk, and after each step of it
  const T **inputs, **operands, **gated_rows;
  GateRow<T>* gate_rows;

  // Shared are `gated` of threads that split the units, where each writes its part of r * h, and the
  // inputs' products where they are another's work.
  TIDEGATE_APART ForwardBuffers(const Call<T>& c, const Slice& s, Arena& arena, Arena& shared) {
    const Layout<T> l(c.weights->shape, nullptr, false);  // sizes alone
    const index n = s.count, hidden = l.shape.hidden, steps = Places<T>{c, s}.steps();
    const bool before = l.shape.reset == reset_before;
    const bool ahead = s.sharing == share_products;
    chunk = ahead ? ceil_div(chunk_rows(hidden), n) : chunk_steps(l, s, steps);
    slots = ahead ? 4 : 1;
    slot = chunk * n * l.gates * l.width;
    x_gates = take<T>(ahead ? shared : arena, slots * slot);
    h_gates = take<T>(arena, n * l.gates * l.width);
    h_n = take<T>(arena, before ? n * l.width : 0);
    kept = take<T>(arena, c.keep ? n * hidden : 0);
    masked = take<T>(arena, c.mask ? n * hidden : 0);
    zeros = take<T>(arena, c.h_0 ? 0 : hidden);
    gated = take<T>(s.sharing == share_units ? shared : arena, before ? n * hidden : 0);
    states = take<T>(arena, goes_alone(c, s) && hidden < l.width ? (chunk + 1) * l.width : 0);
    inputs = take<const T*>(arena, chunk * n);
    operands = take<const T*>(arena, n);
    gated_rows = take<const T*>(arena, before ? n : 0);
    gate_rows = take<GateRow<T>>(arena, n);
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
  const T* bias = l.shape.norm ? nullptr : l.bias_x;  // else it is added once that is done
  if constexpr (std::is_same_v<T, S>)
    if (c.tokens) return gather(l.ih, v0, v1, cells, inputs, bias, x_gates, x_row);
  product(l.ih, v0, v1, cells, inputs, x_gates, x_row, bias, 0);
}

// What the rows read and write at a step.
template <class T, class S>
void list_rows(const Places<T>& at, const Layout<T, S>& l, const ForwardBuffers<T>& b, index step,
               index rows, const T* x_gates) {
  const index hidden = l.shape.hidden, x_row = l.gates * l.width, h_row = l.hh_gates * l.width;
  for (index i = 0; i < rows; ++i) {
    const auto o = apply_keep_and_mask(at, step, i, at.state(step, i, b.zeros), b.kept + i * hidden,
                                       b.masked + i * hidden);
    T *gated = b.gated + i * hidden, *saved = at.saved(step, i);
    b.operands[i] = o.operand;
    b.gate_rows[i] = {x_gates + i * x_row,
                      b.h_gates + i * h_row,
                      o.carried,
                      at.output(step, i),
                      at.sinks(step, i, l.shape.norm ? nullptr : saved),
                      o.operand,
                      gated,
                      b.h_n + i * l.width,
                      l.shape.norm ? saved : nullptr};
    if (l.shape.reset == reset_before) b.gated_rows[i] = gated;
    // Other threads' units are in their caches: ask for all lines at once.
    if (at.s.sharing == share_units)
      for (index u = 0; u < hidden; u += 64 / index(sizeof(T))) __builtin_prefetch(o.operand + u);
  }
}

template <class T, class S>
void forward_step(const Places<T>& at, const Layout<T, S>& l, const ForwardBuffers<T>& b,
                  index step, index rows, const T* x_gates, Slice& s) {
  const index hidden = l.shape.hidden, g0 = s.group_begin, g1 = s.group_end;
  const int reset = l.shape.reset;
  list_rows(at, l, b, step, rows, x_gates);
  if (rows == 1 && reset == reset_after && !l.shape.norm) {
    one_row_after(OneRow<T, S>{l.hh, hidden, l.bias_hn, b.gate_rows[0]}, g0, g1, step % 2 == 1);
  } else {
    recurrent_gates(l, g0, g1, rows, b.operands, b.gate_rows);
    if (reset == reset_before) {
      if (s.sharing == share_units) wait(s);
      candidate_gates(l, g0, g1, rows, b.gated_rows, b.gate_rows);
    }
  }
  if (at.c.zone)
    for (index i = 0; i < rows; ++i) stay(at, step, i, b.gate_rows[i].state, b.gate_rows[i].next);
}

// Steps of a row that is alone; its states in memory that others read are not always whole vectors.
template <class T, class S>
TIDEGATE_APART void forward_row(const Places<T>& at, const Layout<T, S>& l,
                                const ForwardBuffers<T>& b, index begin, index end,
                                const T* x_gates) {
  const index hidden = l.shape.hidden, steps = end - begin;
  const std::size_t bytes = std::size_t(hidden) * sizeof(T);
  const index output_time = at.c.reverse ? -at.c.output_time : at.c.output_time;
  RowSteps<T> r{at.state(begin, 0, b.zeros),
                x_gates,
                l.gates * l.width,
                b.h_gates,
                at.output(begin, 0),
                output_time,
                at.sinks(begin, 0, at.saved(begin, 0)),
                saved_size<T>(l.shape, 1)};
  const bool apart = hidden < l.width;
  if (apart) {
    clear(b.states, l.width);
    __builtin_memcpy(b.states, r.state, bytes);
    r.state = b.states;
    r.next = b.states + l.width;
    r.next_row = l.width;
  }
  one_row_steps(l, steps, r, begin % 2 == 1);
  if (apart)
    for (index i = 0; i < steps; ++i)
      __builtin_memcpy(at.output(begin + i, 0), b.states + (i + 1) * l.width, bytes);
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

// The inputs' products of the chunks that nobody has claimed, `slots` ahead of the steps at most.
template <class F>
void multiply_ahead(Slice& s, index chunks, index slots, F multiply) {
  Barrier& b = *s.barrier;
  for (int chunk; (chunk = read(b.claimed)) < chunks;) {
    wait_for(s, b.flags[0].reached, chunk + 1 - int(slots));
    if (!claim(s, chunk)) continue;
    multiply(chunk);
    raise(b.flags[s.rank].reached, chunk + 1);
  }
}

template <class T, class S>
void forward_stored(const Call<T>& c, Slice& s, Arena arena, Arena shared) {
  const Layout<T, S> l(*c.weights);
  const ForwardBuffers<T> b(c, s, arena, shared);
  const Places<T> at{c, s};
  const index per_group = l.gates * group_vectors, x_row = l.gates * l.width;
  const index steps = at.steps(), chunks = ceil_div(steps, b.chunk);
  const auto end_of = [&](index chunk) {
    return (chunk + 1) * b.chunk < steps ? (chunk + 1) * b.chunk : steps;
  };
  const auto x_gates_of = [&](index chunk) { return b.x_gates + chunk % b.slots * b.slot; };
  const auto multiply = [&](index chunk) TIDEGATE_APART {
    index cells = 0, rows = s.count;
    for (index step = chunk * b.chunk; step < end_of(chunk); ++step) {
      rows = at.alive(step, rows);
      for (index i = 0; i < rows; ++i) b.inputs[cells++] = at.x(step, i);
    }
    input_product(c, l, s.group_begin * per_group, s.group_end * per_group, cells, b.inputs,
                  x_gates_of(chunk), x_row);
  };
  const bool ahead = s.sharing == share_products, alone = goes_alone(c, s);
  if (ahead && s.rank) return multiply_ahead(s, chunks, b.slots, multiply);
  if (!c.h_0) clear(b.zeros, l.shape.hidden);
  index rows = s.count;
  for (index chunk = 0; chunk < chunks; ++chunk) {
    const index begin = chunk * b.chunk, end = end_of(chunk);
    if (!ahead || claim(s, int(chunk)))
      multiply(chunk);
    else
      wait_for(s, s.barrier->flags[1].reached, int(chunk) + 1);
    T* x_gates = x_gates_of(chunk);
    if (alone) forward_row(at, l, b, begin, end, x_gates);
    for (index step = begin; step < end && !alone; ++step) {
      rows = at.alive(step, rows);
      if constexpr (normalises<T, S>)
        if (l.shape.norm)
          for (index i = 0; i < rows; ++i)
            normalise_input(l, x_gates + i * x_row, at.hats(step, i));
      forward_step(at, l, b, step, rows, x_gates, s);
      x_gates += rows * x_row;
      if (s.sharing == share_units && step + 1 < steps) wait(s);
    }
    if (ahead) raise(s.barrier->flags[0].reached, int(chunk) + 1);
  }
  finish_rows(at, b.zeros);
}

template <class T>
void forward(const Call<T>& c, Slice& s, Arena arena, Arena shared) {
  if constexpr (sizeof(T) == 4) {
    const int storage = c.weights->storage;
    if (storage == stored_bfloat16) return forward_stored<T, BFloat16Pair>(c, s, arena, shared);
    if (storage == stored_int8) return forward_stored<T, Int8>(c, s, arena, shared);
  }
  forward_stored<T, T>(c, s, arena, shared);
}

}  // namespace tidegate::TIDEGATE_ISA
