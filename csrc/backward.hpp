// The gradients of a sequence, for one thread's slice of the work: see gru.hpp.
#pragma once

#include "forward.hpp"

namespace tidegate::TIDEGATE_ISA {

// Weight gradients of one part (a thread that splits the rows, or all that split the units).
template <class T>
struct WeightGradients {
  Panels<T> ih, hh, hh_n;
  T *bias_x, *bias_h;
  Gains<T> gains;
  index size;

  TIDEGATE_APART WeightGradients(const Layout<T>& l, T* memory) : ih(l.ih), hh(l.hh), hh_n(l.hh_n) {
    Arena arena{reinterpret_cast<char*>(memory), 0};
    ih.data = take<T>(arena, ih.size());
    hh.data = take<T>(arena, hh.size());
    hh_n.data = take<T>(arena, hh_n.size());
    bias_x = take<T>(arena, l.gates * l.width);
    bias_h = take<T>(arena, l.gates * l.width);
    gains.x = take<T>(arena, l.shape.norm ? l.gates * l.width : 0);
    gains.h = take<T>(arena, l.shape.norm ? l.gates * l.width : 0);
    size = index(arena.used / sizeof(T));
  }
};

template <class T>
struct BackwardBuffers {
  index chunk;  // steps
  index slots, cells;  // chunks whose gradients are kept for another thread, and cells of one
  index parts, part;  // weight gradients: how many, and which is this thread's
  index part_size;
  T* weights;  // shared, [part]
  T *d_x, *d_h, *d_n, *gated;  // by cell, [slot]; of threads by rows each has its own
  bool* multiplied;  // [slot]: the first thread makes the gradients of these inputs
  T *gates, *normal, *x_gates, *h_gates, *h_n;  // recomputed
  T *d_state, *d_operand, *d_stayed, *d_input;  // by row, by row, by cell of a product
  T *kept, *masked, *zeros;
  T* norm_sums;  // of a chunk: gains and biases of x, gains and biases of h
  const T **inputs, **states, **carried, **operands, **rows, **gated_rows;
  T** cell_gates;
  GateRow<T>* gate_rows;  // of a product
  NormRow<T>* norm_rows;
  index *first, *cell_step, *cell_row;  // of the chunk: cell of each step's first row

  TIDEGATE_APART BackwardBuffers(const Call<T>& c, const Slice& s, Arena& own, Arena& common) {
    const Layout<T> l(*c.weights);
    const index n = s.count, hidden = l.shape.hidden, steps = Places<T>{c, s}.steps();
    const index gates_row = l.gates * l.width;
    const bool before = l.shape.reset == reset_before, after = l.shape.reset == reset_after;
    const bool by_rows = s.sharing == share_rows;
    chunk = chunk_steps(l, s, steps);
    slots = s.sharing == share_products ? 2 : 1;
    cells = chunk * n;
    parts = by_rows ? s.ranks : 1;
    part = by_rows ? s.rank : 0;
    part_size = WeightGradients<T>(l, nullptr).size;
    weights = take<T>(common, parts * part_size);
    Arena& split = by_rows ? own : common;
    d_x = take<T>(split, slots * cells * gates_row);
    d_h = before                  ? take<T>(split, slots * cells * 2 * l.width)
          : after || l.shape.norm ? take<T>(split, slots * cells * gates_row)
                                  : d_x;
    d_n = take<T>(split, before ? slots * cells * l.width : 0);
    gated = take<T>(split, before ? slots * cells * hidden : 0);
    multiplied = take<bool>(split, slots);
    const bool again = !c.saved || l.shape.norm;
    gates = take<T>(own, again ? cells * saved_gates(l.shape.reset) * l.width : 0);
    normal = take<T>(own, l.shape.norm && !c.saved ? saved_size<T>(l.shape, cells) : 0);
    x_gates = take<T>(own, again ? product_rows * gates_row : 0);
    h_gates = take<T>(own, again ? product_rows * gates_row : 0);
    h_n = take<T>(own, again && before ? product_rows * l.width : 0);
    d_state = take<T>(own, n * l.width);
    d_operand = take<T>(own, c.mask || before ? n * l.width : 0);
    d_stayed = take<T>(own, c.zone ? n * l.width : 0);
    d_input = take<T>(own, c.d_x ? product_rows * l.ih_t.vectors * lanes<T> : 0);
    kept = take<T>(own, c.keep ? cells * hidden : 0);
    masked = take<T>(own, c.mask ? cells * hidden : 0);
    zeros = take<T>(own, c.h_0 ? 0 : hidden);
    norm_sums = take<T>(own, l.shape.norm ? 4 * gates_row : 0);
    inputs = take<const T*>(own, cells);
    states = take<const T*>(own, cells);
    carried = take<const T*>(own, cells);
    operands = take<const T*>(own, cells);
    rows = take<const T*>(own, n > product_rows ? n : product_rows);
    gated_rows = take<const T*>(own, before ? cells : 0);
    cell_gates = take<T*>(own, cells);
    gate_rows = take<GateRow<T>>(own, again ? product_rows : 0);
    norm_rows = take<NormRow<T>>(own, l.shape.norm ? n : 0);
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
  BackwardBuffers<T> b;
  const Places<T> at;
  const bool before, after, saved;  // whether the gates are, not what they are made of
  const index hidden, g0, g1, gates_row;

  Backward(const Call<T>& call, Slice& slice, Arena& own, Arena& common)
      : c(call),
        s(slice),
        l(*call.weights),
        b(call, slice, own, common),
        at{call, slice},
        before(l.shape.reset == reset_before),
        after(l.shape.reset == reset_after),
        saved(c.saved && !l.shape.norm),
        hidden(l.shape.hidden),
        g0(slice.group_begin),
        g1(slice.group_end),
        gates_row(l.gates * l.width) {}

  void meet() {
    if (s.sharing == share_units) wait(s);
  }

  // Lists the cells of steps [begin, end) and returns their number.
  TIDEGATE_APART index list_cells(index begin, index end) {
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
        b.cell_gates[cells] =
            saved ? at.saved(step, i) : b.gates + cells * saved_gates(l.shape.reset) * l.width;
        if (before) b.gated_rows[cells] = b.gated + cells * hidden;
      }
    }
    b.first[end - begin] = cells;
    return cells;
  }

  // r * operand of saved gates, which "before" needs for the gradient of W_hn.
  void gate_operands(index cells) {
    for (index cell = 0; cell < cells; ++cell)
      for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
        const auto r = load(gate_at(b.cell_gates[cell], u, 0, 3));
        const auto operand = load_n(b.operands[cell] + u.first, u.left);
        store_n(b.gated + cell * hidden + u.first, r * operand, u.left);
      });
    meet();
  }

  TIDEGATE_APART void recompute_gates(index cells) {
    const index x_group = l.gates * group_vectors, h_row = l.hh_gates * l.width;
    for (index from = 0; from < cells; from += product_rows) {
      const index n = cells - from < product_rows ? cells - from : product_rows;
      for (index i = 0; i < n; ++i)
        b.gate_rows[i] = {b.x_gates + i * gates_row,
                          b.h_gates + i * h_row,
                          nullptr,
                          nullptr,
                          {b.cell_gates[from + i], nullptr, 0},
                          b.operands[from + i],
                          b.gated + (from + i) * hidden,
                          b.h_n + i * l.width,
                          l.shape.norm ? kept(from + i) : nullptr};
      if (c.saved) {
        products_again(l, n, b.gate_rows, b.x_gates, gates_row);
        open_gates(l, g0, g1, n, b.gate_rows);
        if (before) gates_before(hidden, g0, g1, b.gate_rows, n);
        continue;
      }
      input_product(c, l, g0 * x_group, g1 * x_group, n, b.inputs + from, b.x_gates, gates_row);
      if (l.shape.norm)
        for (index i = 0; i < n; ++i)
          normalise_input(l, b.x_gates + i * gates_row, hats_of_row(l, b.gate_rows[i]));
      recurrent_gates(l, g0, g1, n, b.operands + from, b.gate_rows);
      if (!before) continue;
      meet();
      candidate_gates(l, g0, g1, n, b.gated_rows + from, b.gate_rows);
    }
  }

  // The normalised products of a cell, and where they are.
  T* kept(index cell) const {
    return c.saved ? at.saved(b.cell_step[cell], b.cell_row[cell])
                   : b.normal + saved_size<T>(l.shape, cell);
  }
  Hats<T> hats(index cell) const { return hats_of(kept(cell), l.shape.reset, l.width); }

  // Gradients of what was normalised become those of the products; the candidate of "before" first.
  void through_candidate_norm(index cell, index rows) {
    const index apart = 2 * l.width;
    T* d_gain = b.norm_sums + 2 * gates_row + apart;
    for (index i = 0; i < rows; ++i) {
      const Hats<T> hat = hats(cell + i);
      b.norm_rows[i] = {b.d_n + (cell + i) * l.width, hat.h + apart, hat.scales + 3};
    }
    normalise_back<1, 1>(hidden, b.norm_rows, rows, l.gains.h + apart, d_gain, d_gain + gates_row);
  }

  void through_norm(index cell, index rows) {
    T *x_gain = b.norm_sums, *x_bias = x_gain + gates_row;
    T *h_gain = x_bias + gates_row, *h_bias = h_gain + gates_row;
    NormRow<T>* const x = b.norm_rows;
    for (index i = 0; i < rows; ++i) {
      const Hats<T> hat = hats(cell + i);
      x[i] = {b.d_x + (cell + i) * gates_row, hat.x, hat.scales};
    }
    if (l.gates == 3)
      normalise_back<3, 2>(hidden, x, rows, l.gains.x, x_gain, x_bias);
    else
      normalise_back<2, 1>(hidden, x, rows, l.gains.x, x_gain, x_bias);
    NormRow<T>* const h = b.norm_rows;
    for (index i = 0; i < rows; ++i) {
      const Hats<T> hat = hats(cell + i);
      h[i] = {b.d_h + (cell + i) * l.hh_gates * l.width, hat.h, hat.scales + 2};
    }
    if (after)
      normalise_back<3, 2>(hidden, h, rows, l.gains.h, h_gain, h_bias);
    else if (before)
      normalise_back<2, 2>(hidden, h, rows, l.gains.h, h_gain, h_bias);
    else
      normalise_back<2, 1>(hidden, h, rows, l.gains.h, h_gain, h_bias);
  }

  void add_norm_sums(const WeightGradients<T>& sum) {
    const auto add = [&](T* to, const T* from) {
      for (index k = 0; k < gates_row; ++k) to[k] += from[k];
    };
    add(sum.gains.x, b.norm_sums);
    add(sum.bias_x, b.norm_sums + gates_row);
    add(sum.gains.h, b.norm_sums + 2 * gates_row);
    if (after) add(sum.bias_h, b.norm_sums + 3 * gates_row);
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
    for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
      const auto given = d_output ? load_n(d_output + u.first, u.left) : Vec<T>{};
      const auto all = load(d + u.first) + given, part = share_of(c, zone, u) * all;
      store(stayed + u.first, part);
      store(d + u.first, all - part);
    });
  }

  void add_stayed(index rows) {
    for (index i = 0; i < rows; ++i) {
      T *d = b.d_state + i * l.width, *stayed = b.d_stayed + i * l.width;
      for_units<T>(hidden, g0, g1, [&](const Units& u) TIDEGATE_INLINED {
        store(d + u.first, load(d + u.first) + load(stayed + u.first));
      });
    }
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
    T* d_h = b.d_h + cell * l.hh_gates * l.width;
    for (index i = 0; i < rows; ++i) {
      const T *saved = b.cell_gates[cell + i], *state = b.carried[cell + i];
      auto from = at.gradients(step, i);
      if (c.zone) {
        around_gates(step, i, from.d_output);
        from.d_output = nullptr;
      }
      T *d = b.d_state + i * l.width, *x = d_x + i * gates_row, *h = d_h + i * l.hh_gates * l.width;
      if (after)
        backward_after(hidden, g0, g1, saved, state, from, d, x, h);
      else if (before)
        backward_before(hidden, g0, g1, saved, state, from, d, x, h, b.d_n + (cell + i) * l.width);
      else
        backward_none(hidden, g0, g1, saved, state, from, d, x);
    }
    meet();
    if (before) {
      if (l.shape.norm) through_candidate_norm(cell, rows);
      for (index i = 0; i < rows; ++i) b.rows[i] = b.d_n + (cell + i) * l.width;
      const index v1 = g1 * group_vectors;
      product(l.hh_n_t, g0 * group_vectors, v1 < l.hh_n_t.vectors ? v1 : l.hh_n_t.vectors, rows,
              b.rows, b.d_operand, l.width, static_cast<const T*>(nullptr), 0);
      for (index i = 0; i < rows; ++i)
        backward_before_reset(hidden, g0, g1, b.cell_gates[cell + i], b.operands[cell + i],
                              at.gradients(step, i), b.d_operand + i * l.width, d_x + i * gates_row,
                              d_h + i * l.hh_gates * l.width);
      add_masked(rows);
      meet();
    }
    if (l.shape.norm && !after && !before)  // both products have the same gradient so far
      __builtin_memcpy(d_h, d_x, rows * gates_row * sizeof(T));
    if (l.shape.norm) through_norm(cell, rows);
    recurrent_product(l.hh_t, rows, d_h, l.hh_gates * l.width);
    if (c.zone) add_stayed(rows);
    if (c.keep) through_keep(step, rows, cell);
  }

  // Gradient of the input; threads by units share the cells.
  TIDEGATE_APART void input_gradients(index cells) {
    const bool by_units = s.sharing == share_units;
    const index begin = by_units ? cells * s.rank / s.ranks : 0;
    const index end = by_units ? cells * (s.rank + 1) / s.ranks : cells;
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

  TIDEGATE_APART void weight_gradients(index cells) {
    const WeightGradients<T> sum(l, b.weights + b.part * b.part_size);
    const index x_group = l.gates * group_vectors, h_group = l.hh_gates * group_vectors;
    if (c.tokens)
      scatter(sum.ih, g0 * x_group, g1 * x_group, cells, b.inputs, b.d_x, gates_row);
    else
      outer(sum.ih, g0 * x_group, g1 * x_group, cells, b.inputs, b.d_x, gates_row);
    outer(sum.hh, g0 * h_group, g1 * h_group, cells, b.operands, b.d_h, l.hh_gates * l.width);
    if (before)
      outer(sum.hh_n, g0 * group_vectors, g1 * group_vectors, cells, b.gated_rows, b.d_n, l.width);
    if (l.shape.norm) return add_norm_sums(sum);
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
    const bool by_units = s.sharing == share_units;
    const index begin = at_most(by_units ? g0 : all * s.rank / s.ranks);
    const index end = at_most(by_units ? g1 : all * (s.rank + 1) / s.ranks);
    if (c.d_weight_ih)
      unpack_gates(sum.ih, b.parts, b.part_size, c.d_weight_ih, begin, end, hidden, l.gates);
    if (c.d_weight_hh) {
      unpack_gates(sum.hh, b.parts, b.part_size, c.d_weight_hh, begin, end, hidden, l.hh_gates);
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
    if (l.shape.norm) write_gains(sum.gains, begin, end);
  }

  void write_gains(const Gains<T>& gains, index begin, index end) {
    for (index gate = 0; gate < l.gates; ++gate)
      for (index unit = begin; unit < end; ++unit) {
        T x = 0, h = 0;
        for (index part = 0; part < b.parts; ++part) {
          x += gains.x[part * b.part_size + column<T>(unit, gate, l.gates)];
          h += gains.h[part * b.part_size + recurrent_column(l, unit, gate)];
        }
        if (c.d_norm_ih) c.d_norm_ih[gate * hidden + unit] = x;
        if (c.d_norm_hh) c.d_norm_hh[gate * hidden + unit] = h;
      }
  }

  index at_most(index group_index) const {
    const index unit = group_index * group<T>;
    return unit < hidden ? unit : hidden;
  }

  void clear_weights() {
    const WeightGradients<T> sum(l, b.weights + b.part * b.part_size);
    if (s.sharing != share_units) return clear(b.weights + b.part * b.part_size, b.part_size);
    if (s.rank == 0) clear(b.weights, b.part_size);
    wait(s);
  }

  // A vector of a group past the last unit is written by no gate, and meets weights of zero in the
  // products below: it may not hold the NaN of an earlier call.
  void clear_padding() {
    if (l.width - hidden < lanes<T>) return;
    if (s.sharing == share_rows || s.rank == 0) {
      const index cells = b.slots * b.cells;
      clear(b.d_x, cells * gates_row);
      if (b.d_h != b.d_x) clear(b.d_h, cells * l.hh_gates * l.width);
      if (before) clear(b.d_n, cells * l.width);
    }
    meet();
  }

  void start_rows() {
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
        if (c.d_x && !c.offsets && !(s.sharing == share_units && s.rank))
          clear(c.d_x + t * c.d_x_time + at.row(i) * c.d_x_batch, l.shape.input);
      }
    }
  }

  // Steps [begin, end), and the number of their cells.
  struct Chunk {
    index begin, end, cells;
  };

  Chunk list_chunk(index k) {
    const index begin = k * b.chunk, steps = at.steps();
    const index end = begin + b.chunk < steps ? begin + b.chunk : steps;
    return {begin, end, list_cells(begin, end)};
  }

  TIDEGATE_APART void steps_back(const Chunk& chunk) {
    if (l.shape.norm) clear(b.norm_sums, 4 * gates_row);
    if (!saved)
      recompute_gates(chunk.cells);
    else if (before)
      gate_operands(chunk.cells);
    for (index step = chunk.end - 1; step >= chunk.begin; --step) {
      const index cell = b.first[step - chunk.begin];
      step_back(step, cell, b.first[step - chunk.begin + 1] - cell);
    }
    meet();
  }

  // The gradients of chunk k go to a slot of their own.
  void choose_slot(index k, const BackwardBuffers<T>& all) {
    const index cell = k % b.slots * b.cells;
    b.d_x = all.d_x + cell * gates_row;
    b.d_h = all.d_h + cell * l.hh_gates * l.width;
    b.d_n = all.d_n + cell * l.width;
    b.gated = all.gated + cell * hidden;
  }

  // Of two threads that share the products: the first goes back through the steps, and the second
  // follows with the products. What that has no time for, of the inputs' gradients, the first makes.
  void lead(index chunks) {
    const BackwardBuffers<T> all = b;
    Barrier::Flag* const flags = s.barrier->flags;
    for (index k = chunks - 1; k >= 0; --k) {
      const int done = int(chunks - k);
      wait_for(s, flags[1].reached, done - int(b.slots));
      choose_slot(k, all);
      const Chunk chunk = list_chunk(k);
      steps_back(chunk);
      const bool mine = k == 0 || read(flags[1].reached) < done - 1;
      b.multiplied[k % b.slots] = mine;
      raise(flags[0].reached, done);
      if (c.d_x && mine) input_gradients(chunk.cells);
    }
  }

  void follow(index chunks, bool weights) {
    const BackwardBuffers<T> all = b;
    Barrier::Flag* const flags = s.barrier->flags;
    for (index k = chunks - 1; k >= 0; --k) {
      const int done = int(chunks - k);
      choose_slot(k, all);
      const Chunk chunk = list_chunk(k);
      wait_for(s, flags[0].reached, done);
      if (c.d_x && !b.multiplied[k % b.slots]) input_gradients(chunk.cells);
      if (weights) weight_gradients(chunk.cells);
      raise(flags[1].reached, done);
    }
  }

  void run() {
    const bool weights = c.d_weight_ih || c.d_weight_hh || c.d_bias_ih || c.d_bias_hh;
    const bool leads = s.sharing == share_products, follows = leads && s.rank;
    const index chunks = ceil_div(at.steps(), b.chunk);
    if (weights && (!leads || follows)) clear_weights();
    if (!c.h_0) clear(b.zeros, hidden);
    clear_padding();
    start_rows();
    if (follows)
      follow(chunks, weights);
    else if (leads)
      lead(chunks);
    else
      for (index k = chunks - 1; k >= 0; --k) {
        const Chunk chunk = list_chunk(k);
        steps_back(chunk);
        if (c.d_x) input_gradients(chunk.cells);
        if (weights) weight_gradients(chunk.cells);
        meet();
      }
    if (!follows) finish();
    if (weights) write_weights();
  }
};

template <class T>
void backward(const Call<T>& c, Slice& s, Arena own, Arena common) {
  Backward<T>(c, s, own, common).run();
}

}  // namespace tidegate::TIDEGATE_ISA
