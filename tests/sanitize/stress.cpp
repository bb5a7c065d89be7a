// Random layers through the kernels of every instruction set, the slices of a call on std::threads.
//
// Built by `make sanitize` with AddressSanitizer and UndefinedBehaviorSanitizer, and again with
// ThreadSanitizer, which sees every happens-before here because no OpenMP is involved: libgomp is
// not instrumented, so under OpenMP it would report races that are none. What it then proves of the
// barrier holds under OpenMP too, since a slice knows its rank and nothing of who runs it.
//
// Every array and every arena is a block of its own of exactly the size asked for, and whatever the
// kernels may not read is NaN. Every split has to give the bits of one thread, except the weight
// gradients of threads that split the rows: there each thread's sum is added to the others'.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dispatch.hpp"

namespace {

using tidegate::Arena, tidegate::Barrier, tidegate::Call, tidegate::index, tidegate::Packed,
    tidegate::Shape, tidegate::Slice;

using Random = std::mt19937;

index between(Random& random, index low, index high) {
  return std::uniform_int_distribution<index>(low, high)(random);
}

bool coin(Random& random) { return between(random, 0, 1) == 1; }

struct Sizes {
  Shape shape;
  index time, batch;
};

Sizes small_sizes(Random& random) {
  const Shape shape{between(random, 1, 19), between(random, 1, 37), int(between(random, 0, 2)),
                    coin(random)};
  return {shape, between(random, 0, 9), between(random, 1, 9)};
}

// More steps than a chunk holds, so that buffers are used again, and a barrier at each step.
Sizes long_sizes(Random& random) {
  const Shape shape{between(random, 1, 9), between(random, 33, 70), int(between(random, 0, 2)),
                    coin(random)};
  return {shape, between(random, 150, 300), between(random, 2, 4)};
}

// An array of exactly its size; absent ones have none.
template <class T>
struct Array {
  std::unique_ptr<T[]> memory;
  index size = 0;

  T* get() const { return memory.get(); }
  static Array nan(index size) {
    Array array{std::make_unique<T[]>(size), size};
    std::fill_n(array.get(), size, std::numeric_limits<T>::quiet_NaN());
    return array;
  }
  static Array random(Random& random, index size, T low = -1, T high = 1) {
    Array array{std::make_unique<T[]>(size), size};
    std::uniform_real_distribution<T> number(low, high);
    std::generate_n(array.get(), size, [&] { return number(random); });
    return array;
  }
};

// Scratch of exactly the size that the kernel asked for, full of NaN.
struct Scratch {
  explicit Scratch(std::size_t bytes)
      : memory(bytes ? static_cast<char*>(std::aligned_alloc(64, bytes)) : nullptr, &std::free) {
    if (bytes) std::memset(memory.get(), 0xff, bytes);
  }
  Arena arena() const { return {memory.get(), 0}; }

  std::unique_ptr<char, decltype(&std::free)> memory;
};

// What one call reads.
template <class T>
struct Inputs {
  Array<T> weight_ih, weight_hh, bias_ih, bias_hh, norm_ih, norm_hh;
  Array<T> x, h_0, keep, mask, zone, d_output, d_h_n, d_gates;
  std::unique_ptr<std::int64_t[]> lengths;
  Packed<T> weights, narrow;  // `narrow`: what forward reads, as wide as `weights` or not
  Scratch packed, packed_narrow;
  Call<T> call{};  // sizes and inputs; the outputs are filled in by `Outputs`
  bool saved;

  Inputs(Random& random, Sizes sizes)
      : weights{sizes.shape, nullptr, true, tidegate::stored_native},
        narrow{sizes.shape, nullptr, false, may_be_narrow(sizes) ? int(between(random, 0, 2)) : 0},
        packed(memory_of(weights)),
        packed_narrow(memory_of(narrow)) {
    const auto [shape, time, batch] = sizes;
    const index gates = tidegate::gates_of(shape.reset), hidden = shape.hidden;
    const index states = batch * hidden, cells = time * batch;
    const T scale = 1 / std::sqrt(T(hidden));
    weight_ih = Array<T>::random(random, gates * hidden * shape.input, -scale, scale);
    weight_hh = Array<T>::random(random, gates * hidden * hidden, -scale, scale);
    if (coin(random)) bias_ih = Array<T>::random(random, gates * hidden, -scale, scale);
    if (coin(random)) bias_hh = Array<T>::random(random, gates * hidden, -scale, scale);
    if (shape.norm) {
      norm_ih = Array<T>::random(random, gates * hidden, 0, 2);
      norm_hh = Array<T>::random(random, gates * hidden, 0, 2);
    }
    x = Array<T>::random(random, cells * shape.input);
    if (coin(random)) h_0 = Array<T>::random(random, states);
    const index keep_unit = between(random, 0, 1), keep_row = keep_unit ? hidden : 1;
    if (coin(random)) keep = Array<T>::random(random, cells * keep_row, 0, 1);
    if (coin(random)) mask = Array<T>::random(random, states, 0, 1);
    const index zone_unit = between(random, 0, 1), zone_row = zone_unit ? hidden : 1;
    if (coin(random)) zone = Array<T>::random(random, cells * zone_row, 0, 1);
    if (coin(random)) d_output = Array<T>::random(random, cells * hidden);
    if (coin(random)) d_h_n = Array<T>::random(random, states);
    if (coin(random)) d_gates = Array<T>::random(random, gates * cells * hidden);
    if (coin(random)) {
      lengths = std::make_unique<std::int64_t[]>(batch);
      std::generate_n(lengths.get(), batch, [&] { return between(random, 0, time); });
    }
    saved = coin(random);

    call.time = time;
    call.batch = batch;
    call.reverse = coin(random);
    call.x = x.get();
    call.x_batch = shape.input;
    call.x_time = batch * shape.input;
    call.lengths = lengths.get();
    call.keep = keep.get();
    call.keep_unit = keep_unit;
    call.keep_batch = keep_row;
    call.keep_time = batch * keep_row;
    call.mask = mask.get();
    call.zone = zone.get();
    call.zone_unit = zone_unit;
    call.zone_batch = zone_row;
    call.zone_time = batch * zone_row;
    call.h_0 = h_0.get();
    call.output_batch = call.d_output_batch = call.d_gates_batch = hidden;
    call.output_time = call.d_output_time = call.d_gates_time = states;
    call.gates_gate = call.d_gates_gate = cells * hidden;
    call.d_output = d_output.get();
    call.d_h_n = d_h_n.get();
    call.d_gates = d_gates.get();
    call.d_x_batch = shape.input;
    call.d_x_time = batch * shape.input;
    poison_past_lengths();
    weights.memory = reinterpret_cast<T*>(packed.memory.get());
    pack();
    narrow_weights();
  }
  Inputs(const Inputs&) = delete;

  index length(index row) const { return lengths ? lengths[row] : call.time; }

 private:
  static bool may_be_narrow(Sizes sizes) { return sizeof(T) == 4 && !sizes.shape.norm; }

  static std::size_t memory_of(const Packed<T>& p) {
    return tidegate::kernels_of<T>().packed_bytes(p.shape, p.storage, p.backward);
  }

  // In three parts side by side, of which some may be empty.
  void pack() {
    const tidegate::Given<T> given{weight_ih.get(), weight_hh.get(), bias_ih.get(),
                                   bias_hh.get(),   norm_ih.get(),   norm_hh.get()};
    const auto in_parts = [&](const auto& work) {
      std::vector<std::thread> threads;
      for (int part = 0; part < 3; ++part)
        threads.emplace_back([&, part] { work(weights, given, part, 3); });
      for (std::thread& thread : threads) thread.join();
    };
    if (weights.shape.norm) in_parts(tidegate::kernels_of<T>().measure);
    in_parts(tidegate::kernels_of<T>().pack);
  }

  void narrow_weights() {
    if (narrow.storage == tidegate::stored_native) {
      narrow = weights;
    } else if constexpr (sizeof(T) == 4) {
      narrow.memory = reinterpret_cast<T*>(packed_narrow.memory.get());
      tidegate::kernels_of<float>().narrow(narrow, weights);
    }
  }

  void poison_past_lengths() {
    const auto poison = [&](const Array<T>& array, index width) {
      if (!array.get()) return;
      for (index row = 0; row < call.batch; ++row)
        for (index t = length(row); t < call.time; ++t)
          std::fill_n(array.get() + (t * call.batch + row) * width, width,
                      std::numeric_limits<T>::quiet_NaN());
    };
    poison(x, call.x_batch);
    poison(keep, call.keep_batch);
    poison(zone, call.zone_batch);
    poison(d_output, call.output_batch);
  }
};

// What one call writes, NaN at first.
template <class T>
struct Outputs {
  Array<T> output, h_n, gates, saved;
  Array<T> d_x, d_h_0, d_keep, d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh;
  Array<T> d_norm_ih, d_norm_hh;
  std::vector<index> row_cell;
  Call<T> call;

  explicit Outputs(const Inputs<T>& in) : call(in.call) {
    const Shape& shape = in.weights.shape;
    const index gates_count = tidegate::gates_of(shape.reset), rows = gates_count * shape.hidden;
    const index states = call.batch * shape.hidden, cells = call.time * states;
    call.output = take(output, cells);
    call.h_n = take(h_n, states);
    call.gates = take(gates, gates_count * cells);
    if (in.saved) {
      index total = 0;
      for (index row = 0; row < call.batch; ++row) {
        row_cell.push_back(total);
        total += in.length(row);
      }
      call.row_cell = row_cell.data();
      call.saved = take(saved, tidegate::kernels_of<T>().saved_size(shape, total));
    }
    call.d_x = take(d_x, call.time * call.batch * shape.input);
    call.d_h_0 = take(d_h_0, states);
    if (call.keep) call.d_keep = take(d_keep, cells);
    call.d_weight_ih = take(d_weight_ih, rows * shape.input);
    call.d_weight_hh = take(d_weight_hh, rows * shape.hidden);
    call.d_bias_ih = take(d_bias_ih, rows);
    call.d_bias_hh = take(d_bias_hh, rows);
    if (!shape.norm) return;
    call.d_norm_ih = take(d_norm_ih, rows);
    call.d_norm_hh = take(d_norm_hh, rows);
  }
  Outputs(const Outputs&) = delete;

 private:
  static T* take(Array<T>& array, index size) {
    array = Array<T>::nan(size);
    return array.get();
  }
};

// The slices of a call for `ranks` threads: by rows, each thread's longest first, by units, or, of two
// threads, by products.
struct Shares {
  std::vector<index> rows, lengths;
  std::vector<Slice> slices;
  Barrier barrier{};

  template <class T>
  Shares(const Inputs<T>& in, int ranks, int sharing) : rows(in.call.batch) {
    const index batch = in.call.batch, unit_group = tidegate::kernels_of<T>().group;
    const index groups = (in.weights.shape.hidden + unit_group - 1) / unit_group;
    std::iota(rows.begin(), rows.end(), index(0));
    const auto part = [&](index whole, int rank) { return whole * rank / ranks; };
    const bool by_rows = sharing == tidegate::share_rows;
    const bool by_units = sharing == tidegate::share_units;
    for (int rank = 0; rank < ranks; ++rank) {
      const index begin = by_rows ? part(batch, rank) : 0;
      const index end = by_rows ? part(batch, rank + 1) : batch;
      const index group_begin = by_units ? part(groups, rank) : 0;
      const index group_end = by_units ? part(groups, rank + 1) : groups;
      std::stable_sort(rows.begin() + begin, rows.begin() + end,
                       [&](index a, index b) { return in.length(a) > in.length(b); });
      slices.push_back({rows.data() + begin, nullptr, end - begin, group_begin, group_end, rank,
                        ranks, sharing, &barrier, 0, 0, 0});
    }
    for (index row : rows) lengths.push_back(in.length(row));
    for (Slice& slice : slices) slice.lengths = lengths.data() + (slice.rows - rows.data());
  }
  Shares(const Shares&) = delete;
};

template <class T, class Size, class Kernel>
void run(const Inputs<T>& in, const Call<T>& call, int ranks, int sharing, Size own_size,
         Size shared_size, Kernel kernel) {
  Shares shares(in, ranks, sharing);
  const Scratch common(shared_size(call, shares.slices[0]));
  const auto work = [&](Slice& slice) {
    const Scratch own(own_size(call, slice));
    kernel(call, slice, own.arena(), common.arena());
  };
  std::vector<std::thread> threads;
  for (int rank = 1; rank < ranks; ++rank)
    threads.emplace_back([&, rank] { work(shares.slices[rank]); });
  work(shares.slices[0]);
  for (std::thread& thread : threads) thread.join();
}

template <class T>
std::unique_ptr<Outputs<T>> run(const Inputs<T>& in, int ranks, int sharing) {
  auto out = std::make_unique<Outputs<T>>(in);
  const auto& k = tidegate::kernels_of<T>();
  out->call.weights = &in.narrow;
  run(in, out->call, ranks, sharing, k.forward_scratch, k.forward_shared, k.forward);
  out->call.weights = &in.weights;
  run(in, out->call, ranks, sharing, k.backward_scratch, k.backward_shared, k.backward);
  return out;
}

template <class T>
void require_equal(const char* name, const Array<T>& a, const Array<T>& b, T tolerance,
                   const char* what) {
  for (index i = 0; i < a.size; ++i)
    if (!(std::abs(a.get()[i] - b.get()[i]) <= tolerance * std::max(T(1), std::abs(a.get()[i])))) {
      std::fprintf(stderr, "%s: %s[%td] is %g on one thread, %g on many\n", what, name, i,
                   double(a.get()[i]), double(b.get()[i]));
      std::exit(1);
    }
}

template <class T>
void check(Random& random, Sizes sizes, const std::string& seed) {
  const Inputs<T> in(random, sizes);
  const auto one = run(in, 1, tidegate::share_rows);
  const index unit_group = tidegate::kernels_of<T>().group;
  const int groups = int((sizes.shape.hidden + unit_group - 1) / unit_group);
  const struct {
    int sharing, least, most;
    const char* name;
  } ways[] = {{tidegate::share_rows, 1, 4, " by rows, "},
              {tidegate::share_units, 1, std::min(4, groups), " by units, "},
              {tidegate::share_products, 2, 2, " by products, "}};
  for (const auto& way : ways)
    for (int ranks = way.least; ranks <= way.most; ++ranks) {
      const bool by_rows = way.sharing == tidegate::share_rows;
      if (!by_rows && sizes.shape.norm) continue;
      const auto many = run(in, ranks, way.sharing);
      const std::string what = seed + way.name + std::to_string(ranks) + " threads, reset " +
                               std::to_string(sizes.shape.reset);
      const auto same = [&](const char* name, const Array<T>& a, const Array<T>& b, T slack = 0) {
        require_equal(name, a, b, slack, what.c_str());
      };
      const T cells = T(sizes.time * sizes.batch);
      const T sum = !by_rows ? 0 : 8 * cells * std::numeric_limits<T>::epsilon();
      same("output", one->output, many->output);
      same("h_n", one->h_n, many->h_n);
      same("gates", one->gates, many->gates);
      same("d_x", one->d_x, many->d_x);
      same("d_h_0", one->d_h_0, many->d_h_0);
      same("d_keep", one->d_keep, many->d_keep);
      same("d_weight_ih", one->d_weight_ih, many->d_weight_ih, sum);
      same("d_weight_hh", one->d_weight_hh, many->d_weight_hh, sum);
      same("d_bias_ih", one->d_bias_ih, many->d_bias_ih, sum);
      same("d_bias_hh", one->d_bias_hh, many->d_bias_hh, sum);
      same("d_norm_ih", one->d_norm_ih, many->d_norm_ih, sum);
      same("d_norm_hh", one->d_norm_hh, many->d_norm_hh, sum);
    }
}

// A minGRU, whose threads never meet: every split has the bits of one.
template <class T>
struct MinGruCase {
  Array<T> x, h_0, keep, d_output, d_h_n;
  std::unique_ptr<std::int64_t[]> lengths;
  tidegate::MinGru<T> call{};

  MinGruCase(Random& random, Sizes sizes) {
    const index time = sizes.time, batch = sizes.batch, hidden = sizes.shape.hidden;
    const index cells = time * batch, unit = between(random, 0, 1), row = unit ? hidden : 1;
    x = Array<T>::random(random, cells * 2 * hidden, -3, 3);
    if (coin(random)) h_0 = Array<T>::random(random, batch * hidden);
    if (coin(random)) keep = Array<T>::random(random, cells * row, 0, 1);
    if (coin(random)) d_output = Array<T>::random(random, cells * hidden);
    if (coin(random)) d_h_n = Array<T>::random(random, batch * hidden);
    if (coin(random)) lengths = std::make_unique<std::int64_t[]>(batch);
    const bool rows_first = coin(random);
    const index step = rows_first ? 1 : batch, next = rows_first ? time : 1;
    for (index b = 0; lengths && b < batch; ++b) {
      lengths[b] = between(random, 0, time);
      for (index t = lengths[b]; t < time; ++t)
        std::fill_n(x.get() + (t * step + b * next) * 2 * hidden, 2 * hidden,
                    std::numeric_limits<T>::quiet_NaN());
    }
    call.time = time, call.batch = batch, call.hidden = hidden;
    call.reverse = coin(random), call.positive = coin(random);
    call.x_gates = x.get(), call.lengths = lengths.get();
    call.x_time = call.d_x_time = step * 2 * hidden;
    call.x_batch = call.d_x_batch = next * 2 * hidden;
    call.keep = keep.get(), call.keep_unit = unit;
    call.keep_time = batch * row, call.keep_batch = row;
    call.h_0 = h_0.get(), call.d_output = d_output.get(), call.d_h_n = d_h_n.get();
    call.output_time = call.d_output_time = step * hidden;
    call.output_batch = call.d_output_batch = next * hidden;
  }
};

// Output, h_n, d_x_gates, d_h_0 and d_keep, of `ranks` threads.
template <class T>
std::vector<Array<T>> run_min_gru(const MinGruCase<T>& in, int ranks, bool by_units) {
  constexpr index units = 16;
  const index cells = in.call.time * in.call.batch, hidden = in.call.hidden;
  const index states = in.call.batch * hidden, groups = (hidden + units - 1) / units;
  std::vector<Array<T>> found;
  for (const index size : {cells * hidden, states, cells * 2 * hidden, states, cells * hidden})
    found.push_back(Array<T>::nan(size));
  tidegate::MinGru<T> call = in.call;
  call.output = found[0].get(), call.h_n = found[1].get(), call.d_x_gates = found[2].get();
  call.d_h_0 = found[3].get(), call.d_keep = call.keep ? found[4].get() : nullptr;
  const auto part = [&](index rank) -> tidegate::Part {
    const auto from = [&](index n, index r) { return n * r / ranks; };
    if (!by_units) return {from(call.batch, rank), from(call.batch, rank + 1), 0, hidden};
    return {0, call.batch, from(groups, rank) * units,
            std::min(from(groups, rank + 1) * units, hidden)};
  };
  const tidegate::Kernels<T>& k = tidegate::kernels_of<T>();
  for (const auto kernel : {k.min_gru_forward, k.min_gru_backward}) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank)
      threads.emplace_back([&, rank] { kernel(call, part(rank)); });
    for (std::thread& thread : threads) thread.join();
  }
  if (!call.keep) found.pop_back();
  return found;
}

template <class T>
void check_min_gru(Random& random, Sizes sizes, const std::string& seed) {
  const MinGruCase<T> in(random, sizes);
  const auto one = run_min_gru(in, 1, false);
  for (const bool by_units : {false, true})
    for (int ranks = 1; ranks <= 4; ++ranks) {
      const auto many = run_min_gru(in, ranks, by_units);
      const std::string what = seed + " minGRU, " + std::to_string(ranks) + " threads";
      for (std::size_t i = 0; i < one.size(); ++i)
        require_equal("result", one[i], many[i], T(0), what.c_str());
    }
}

// A model of layers of every kind, in whose stream a row has the bits that it has alone.
template <class T>
struct Model {
  index input, output;
  bool reads_symbols;
  std::vector<tidegate::StreamOp<T>> ops;
  std::vector<std::unique_ptr<Inputs<T>>> layers;
  std::vector<Array<T>> arrays;
  std::vector<std::unique_ptr<Scratch>> packed;

  explicit Model(Random& random) : input(between(random, 1, 20)), reads_symbols(coin(random)) {
    output = input;
    if (reads_symbols) {
      input = 1;
      tidegate::StreamOp<T>& op = add(tidegate::stream_embedding, symbols, between(random, 1, 20));
      op.weight = numbers(random, symbols * output);
    }
    for (index stage = between(random, 1, 3); stage > 0; --stage) {
      add_recurrent(random);
      if (coin(random)) add_norm(random);
      if (coin(random)) add_activation(random);
      if (coin(random)) add_linear(random, between(random, 1, 40));
    }
    if (reads_symbols || coin(random)) return;
    add_linear(random, input);
    add(tidegate::stream_add_input, input, input);
  }

  static constexpr index symbols = 7;

 private:
  tidegate::StreamOp<T>& add(int kind, index from, index to) {
    tidegate::StreamOp<T> op{};
    op.kind = kind, op.input = from, op.output = to, op.alpha = T(0.1);
    ops.push_back(op);
    output = to;
    return ops.back();
  }

  const T* numbers(Random& random, index size) {
    arrays.push_back(Array<T>::random(random, size));
    return arrays.back().get();
  }

  void add_recurrent(Random& random) {
    const Shape shape{output, between(random, 1, 80), int(between(random, 0, 2))};
    layers.push_back(std::make_unique<Inputs<T>>(random, Sizes{shape, 0, 1}));
    add(tidegate::stream_recurrent, output, shape.hidden).gru = &layers.back()->narrow;
  }

  void add_norm(Random& random) {
    tidegate::StreamOp<T>& op = add(tidegate::stream_norm, output, output);
    if (coin(random)) op.weight = numbers(random, output);
    if (coin(random)) op.bias = numbers(random, output);
  }

  void add_activation(Random& random) {
    add(tidegate::stream_activation, output, output).function =
        int(between(random, tidegate::act_relu, tidegate::act_log_softmax));
  }

  void add_linear(Random& random, index to) {
    tidegate::StreamOp<T>& op = add(tidegate::stream_linear, output, to);
    op.weight = numbers(random, op.input * to);
    if (coin(random)) op.bias = numbers(random, to);
    const auto& k = tidegate::kernels_of<T>();
    packed.push_back(std::make_unique<Scratch>((k.stream_bytes(op) + 63) / 64 * 64));
    op.packed = reinterpret_cast<T*>(packed.back()->memory.get());
    k.stream_pack(op);
  }
};

// What a stream of `batch` rows answers, and its states at the end; blocks of rows side by side.
template <class T>
std::vector<Array<T>> run_stream(const Model<T>& model, index batch, index steps, const T* x,
                                 const std::int64_t* symbols) {
  const auto& k = tidegate::kernels_of<T>();
  std::vector<tidegate::StreamOp<T>> ops = model.ops;
  std::vector<Array<T>> found;
  found.push_back(Array<T>::nan(steps * batch * model.output));
  for (tidegate::StreamOp<T>& op : ops) {
    if (op.kind != tidegate::stream_recurrent) continue;
    found.push_back(Array<T>{std::make_unique<T[]>(batch * op.output), batch * op.output});
    op.state = found.back().get();
  }
  tidegate::StreamPlan<T> plan{};
  plan.ops = ops.data(), plan.count = index(ops.size());
  plan.input = model.input, plan.output = model.output, plan.batch = batch;
  k.stream_measure(plan);
  std::vector<std::thread> threads;
  for (index row = 0; row < batch; row += tidegate::stream_block)
    threads.emplace_back([&, row] {
      const Scratch own(k.stream_scratch(plan));
      const index rows = std::min(tidegate::stream_block, batch - row);
      k.stream_run(plan, row, rows, steps, model.reads_symbols ? nullptr : x,
                   model.reads_symbols ? symbols : nullptr, found[0].get(), own.arena());
    });
  for (std::thread& thread : threads) thread.join();
  return found;
}

template <class T>
void check_stream(Random& random, const std::string& seed) {
  const Model<T> model(random);
  const index batch = between(random, 1, 70), steps = between(random, 1, 40);
  const Array<T> x = Array<T>::random(random, steps * batch * model.input);
  std::vector<std::int64_t> symbols(steps * batch);
  std::generate(symbols.begin(), symbols.end(),
                [&] { return between(random, 0, Model<T>::symbols - 1); });
  const auto all = run_stream(model, batch, steps, x.get(), symbols.data());
  const index row = between(random, 0, batch - 1);
  const auto of_row = [&](const auto* from, auto* to, index width) {
    for (index step = 0; step < steps; ++step)
      std::copy_n(from + (step * batch + row) * width, width, to + step * width);
  };
  const auto x_row = Array<T>::nan(steps * model.input);
  std::vector<std::int64_t> symbols_row(steps);
  of_row(x.get(), x_row.get(), model.input);
  of_row(symbols.data(), symbols_row.data(), 1);
  const auto alone = run_stream(model, 1, steps, x_row.get(), symbols_row.data());
  const auto y_row = Array<T>::nan(steps * model.output);
  of_row(all[0].get(), y_row.get(), model.output);
  const std::string what = seed + " stream";
  require_equal("y", alone[0], y_row, T(0), what.c_str());
  for (std::size_t i = 1; i < all.size(); ++i) {
    const auto state = Array<T>::nan(alone[i].size);
    std::copy_n(all[i].get() + row * state.size, state.size, state.get());
    require_equal("state", alone[i], state, T(0), what.c_str());
  }
}

// The losses of a large softmax and its gradients, of `ranks` threads.
template <class T>
std::vector<Array<T>> run_softmax(tidegate::CrossEntropy<T> call, int ranks) {
  const auto& k = tidegate::kernels_of<T>();
  std::vector<Array<T>> found;
  for (const index size :
       {call.rows, call.rows * call.features, call.vocabulary * call.features, call.vocabulary})
    found.push_back(Array<T>::nan(size));
  call.losses = found[0].get(), call.d_output = found[1].get();
  call.d_weight = found[2].get(), call.d_bias = found[3].get();
  const Scratch memory((k.cross_entropy_bytes(call) + 63) / 64 * 64);
  const auto on_each = [&](auto work) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) threads.emplace_back([&, rank] { work(rank); });
    for (std::thread& thread : threads) thread.join();
  };
  char* const at = memory.memory.get();
  const index chunk = k.cross_entropy_chunk(call);
  on_each([&](int rank) { k.cross_entropy_pack(call, at, rank, ranks); });
  for (index first = 0; first < call.rows; first += chunk) {
    const index rows = std::min(chunk, call.rows - first);
    on_each([&](int rank) {
      k.cross_entropy_rows(call, at, first, rows * rank / ranks, rows * (rank + 1) / ranks);
    });
    on_each([&](int rank) { k.cross_entropy_columns(call, at, first, rows, rank, ranks); });
  }
  return found;
}

template <class T>
void check_cross_entropy(Random& random, bool many_words, const std::string& seed) {
  tidegate::CrossEntropy<T> call{};
  call.rows = many_words ? 130 : between(random, 1, 40);  // more than a chunk has
  call.features = between(random, 1, 20);
  call.vocabulary = many_words ? 9000 : between(random, 1, 70);
  const auto output = Array<T>::random(random, call.rows * call.features, -3, 3);
  const auto weight = Array<T>::random(random, call.vocabulary * call.features);
  const auto bias = Array<T>::random(random, call.vocabulary);
  std::vector<std::int64_t> targets(call.rows);
  std::generate(targets.begin(), targets.end(),
                [&] { return between(random, 0, call.vocabulary - 1); });
  call.output = output.get(), call.weight = weight.get(), call.bias = bias.get();
  call.targets = targets.data();
  const auto one = run_softmax(call, 1);
  for (int ranks = 2; ranks <= 4; ++ranks) {
    const auto many = run_softmax(call, ranks);
    const std::string what = seed + " softmax, " + std::to_string(ranks) + " threads";
    for (std::size_t i = 0; i < one.size(); ++i)
      require_equal("result", one[i], many[i], T(0), what.c_str());
  }
}

template <class T>
void check_many(const char* isa, int small, int large) {
  for (int i = 0; i < small + large; ++i) {
    Random random(i);
    const Sizes sizes = i < small ? small_sizes(random) : long_sizes(random);
    const std::string seed =
        std::string(isa) + (sizeof(T) == 4 ? " float " : " double ") + std::to_string(i);
    check<T>(random, sizes, seed);
    check_min_gru<T>(random, sizes, seed);
    check_stream<T>(random, seed);
    check_cross_entropy<T>(random, i == small, seed);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int small = argc > 1 ? std::atoi(argv[1]) : 200, large = argc > 2 ? std::atoi(argv[2]) : 5;
  for (const std::string& isa : tidegate::available_isas()) {
    const pid_t child = fork();  // the instruction set is chosen once in a process
    if (child == 0) {
      setenv("TIDEGATE_ISA", isa.c_str(), 1);
      check_many<float>(isa.c_str(), small, large);
      check_many<double>(isa.c_str(), small, large);
      std::exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) return 1;
    std::printf("%s: %d cases, each on 1 to 4 threads\n", isa.c_str(), 2 * (small + large));
    std::fflush(stdout);
  }
}
