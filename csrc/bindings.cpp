// The only file that knows Python: addresses come in as integers, the GIL is released, the kernel
// is called. tidegate.ops and tidegate.nn check shapes and types before they call.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "blocks.hpp"
#include "dispatch.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace tidegate {
namespace {

using address = std::uintptr_t;

template <class T>
T* as(address a) {
  return reinterpret_cast<T*>(a);
}

// Packed weights of one direction of one layer, of either type.
class Weights {
 public:
  // With `keep_source` they are copied first and packed from the copy, which `is_of` compares with:
  // what another thread writes meanwhile is then in neither.
  Weights(bool is_double, int reset, index input, index hidden, address weight_ih,
          address weight_hh, address bias_ih, address bias_hh, bool backward, bool keep_source,
          address norm_ih, address norm_hh, int threads)
      : is_double_(is_double) {
    if (input < 1 || hidden < 1 || reset < reset_after || reset > reset_none)
      throw std::invalid_argument("Weights: input and hidden must be positive, reset 0, 1 or 2");
    if (!norm_ih != !norm_hh)
      throw std::invalid_argument("Weights: norm_ih and norm_hh must be given together");
    const Shape shape{input, hidden, reset, norm_ih != 0};
    Source from{weight_ih, weight_hh, bias_ih, bias_hh, norm_ih, norm_hh};
    nb::gil_scoped_release release;
    if (keep_source) from = copy(from, shape);
    if (is_double_)
      pack(f64_, shape, from, backward, threads);
    else
      pack(f32_, shape, from, backward, threads);
  }
  // The same weights stored narrower, for forward alone.
  Weights(const Weights& from, int storage) : is_double_(false) {
    if (from.is_double_ || from.storage() != stored_native)
      throw std::invalid_argument("narrow: float32 weights, not yet narrowed, expected");
    if (storage != stored_bfloat16 && storage != stored_int8)
      throw std::invalid_argument("narrow: storage must be STORED_BFLOAT16 or STORED_INT8");
    if (from.shape().norm) throw std::invalid_argument("narrow: weights without gains expected");
    nb::gil_scoped_release release;
    allocate(f32_, from.shape(), storage, false);
    kernels().f32.narrow(f32_, from.f32_);
  }
  ~Weights() {
    if (memory_) give_block(memory_, bytes_);
  }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  // Whether these arrays, of the same sizes, hold the bytes that were packed.
  bool is_of(address weight_ih, address weight_hh, address bias_ih, address bias_hh,
             address norm_ih, address norm_hh) const {
    const Source now{weight_ih, weight_hh, bias_ih, bias_hh, norm_ih, norm_hh};
    if (source_.empty()) return false;
    const auto sizes = sizes_of(shape());
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (!now[i] != !copied_[i]) return false;
      if (now[i] && std::memcmp(as<const char>(now[i]), as<const char>(copied_[i]), sizes[i]))
        return false;
    }
    return true;
  }
  bool is_double() const { return is_double_; }
  std::size_t nbytes() const { return bytes_; }
  const Shape& shape() const { return is_double_ ? f64_.shape : f32_.shape; }
  int storage() const { return is_double_ ? f64_.storage : f32_.storage; }
  bool backward() const { return is_double_ ? f64_.backward : f32_.backward; }
  template <class T>
  const Packed<T>* packed() const {
    if constexpr (sizeof(T) == 4)
      return &f32_;
    else
      return &f64_;
  }

 private:
  // weight_ih, weight_hh, bias_ih, bias_hh, norm_ih, norm_hh; 0: absent
  using Source = std::array<address, 6>;

  std::array<std::size_t, 6> sizes_of(const Shape& shape) const {
    const std::size_t rows = gates_of(shape.reset) * shape.hidden * (is_double_ ? 8 : 4);
    return {rows * shape.input, rows * shape.hidden, rows, rows, rows, rows};
  }
  Source copy(const Source& from, const Shape& shape) {
    const auto sizes = sizes_of(shape);
    std::size_t total = 0;
    for (std::size_t i = 0; i < from.size(); ++i) total += from[i] ? sizes[i] : 0;
    source_.resize(total);
    char* to = source_.data();
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (!from[i]) continue;
      std::memcpy(to, as<const char>(from[i]), sizes[i]);
      copied_[i] = reinterpret_cast<address>(to);
      to += sizes[i];
    }
    return copied_;
  }
  template <class T>
  void pack(Packed<T>& to, Shape shape, const Source& from, bool backward, int threads) {
    allocate(to, shape, stored_native, backward);
    run_pack(to,
             Given<T>{as<const T>(from[0]), as<const T>(from[1]), as<const T>(from[2]),
                      as<const T>(from[3]), as<const T>(from[4]), as<const T>(from[5])},
             threads);
  }
  template <class T>
  void allocate(Packed<T>& to, Shape shape, int storage, bool backward) {
    bytes_ = kernels_of<T>().packed_bytes(shape, storage, backward);
    memory_ = take_block(bytes_);
    to = {shape, static_cast<T*>(memory_), backward, storage};
  }

  bool is_double_;
  std::size_t bytes_ = 0;
  void* memory_ = nullptr;
  Packed<float> f32_{};
  Packed<double> f64_{};
  std::vector<char> source_;
  Source copied_{};
};

void require_native(const Weights& w, address tokens) {
  if (tokens && w.storage() != stored_native)
    throw std::invalid_argument("tokens: weights stored natively expected");
  if (tokens && w.shape().norm)
    throw std::invalid_argument("tokens: weights without gains expected");
}

void require_lengths(address offsets, address lengths) {
  if (offsets && !lengths)
    throw std::invalid_argument("lengths: expected beside offsets, but they are absent");
}

void require_pair(const Weights& forward, const Weights* reverse) {
  if (!reverse) return;
  const Shape &a = forward.shape(), &b = reverse->shape();
  if (a.input != b.input || a.hidden != b.hidden || a.reset != b.reset || a.norm != b.norm ||
      forward.is_double() != reverse->is_double())
    throw std::invalid_argument("forward and reverse: weights of equal sizes and type expected");
}

index saved_size(const Weights& w, index rows) {
  return w.is_double() ? kernels().f64.saved_size(w.shape(), rows)
                       : kernels().f32.saved_size(w.shape(), rows);
}

// A tensor of torch in a block of memory, to which that goes back.
template <class T>
nb::object tensor_of(index rows, index columns) {
  struct Owned {
    void* memory;
    std::size_t bytes;
    explicit Owned(std::size_t size) : memory(take_block(size)), bytes(size) {}
    ~Owned() { give_block(memory, bytes); }
  };
  auto owned = std::make_unique<Owned>(std::size_t(rows * columns) * sizeof(T));
  void* const memory = owned->memory;
  const nb::capsule owner(owned.get(), [](void* p) noexcept { delete static_cast<Owned*>(p); });
  owned.release();
  const std::size_t shape[] = {std::size_t(rows), std::size_t(columns)};
  return nb::cast(nb::ndarray<nb::pytorch, T>(memory, 2, shape, owner));
}

nb::object block_tensor(bool is_double, index rows, index columns) {
  return is_double ? tensor_of<double>(rows, columns) : tensor_of<float>(rows, columns);
}

// Elements of the saved buffer of one direction: a row's length each, time without lengths.
index saved_of(const Weights& w, index time, index batch, address lengths) {
  index rows = time * batch;
  if (lengths) {
    rows = 0;
    for (index b = 0; b < batch; ++b) rows += as<const std::int64_t>(lengths)[b];
  }
  return saved_size(w, rows);
}

template <class T>
T* shifted(address a, index offset) {
  return a ? as<T>(a) + offset : nullptr;
}

struct Input {
  index time, batch;
  address x;
  index x_time, x_batch;
  address offsets, lengths, keep;
  index keep_time, keep_batch, keep_unit;
  address mask, h_0, output;
  index output_time, output_batch;
  address saved;
  address zone;
  index zone_time, zone_batch, zone_unit;
  address tokens;
};

template <class T>
Call<T> call_of(const Weights& w, int direction, const Input& in) {
  const index hidden = w.shape().hidden, state = direction * in.batch * hidden;
  Call<T> c{};
  c.weights = w.packed<T>();
  c.time = in.time;
  c.batch = in.batch;
  c.reverse = direction == 1;
  c.x = as<const T>(in.x);
  c.x_time = in.x_time;
  c.x_batch = in.x_batch;
  c.tokens = as<const std::int64_t>(in.tokens);
  c.offsets = as<const std::int64_t>(in.offsets);
  c.lengths = as<const std::int64_t>(in.lengths);
  c.keep = as<const T>(in.keep);
  c.keep_time = in.keep_time;
  c.keep_batch = in.keep_batch;
  c.keep_unit = in.keep_unit;
  c.mask = shifted<const T>(in.mask, state);
  c.zone = shifted<const T>(in.zone, direction * hidden * in.zone_unit);
  c.zone_time = in.zone_time;
  c.zone_batch = in.zone_batch;
  c.zone_unit = in.zone_unit;
  c.h_0 = shifted<const T>(in.h_0, state);
  c.output = as<T>(in.output) + direction * hidden;
  c.output_time = in.output_time;
  c.output_batch = in.output_batch;
  c.saved = shifted<T>(in.saved, direction * saved_of(w, in.time, in.batch, in.lengths));
  return c;
}

template <class T>
void forward_as(const Weights& forward, const Weights* reverse, int threads, const Input& in,
                address h_n, address gates, index gates_gate) {
  Call<T> calls[2];
  for (int d = 0; d < (reverse ? 2 : 1); ++d) {
    const Weights& w = d ? *reverse : forward;
    const index hidden = w.shape().hidden;
    Call<T>& c = calls[d] = call_of<T>(w, d, in);
    c.h_n = as<T>(h_n) + d * in.batch * hidden;
    c.gates = shifted<T>(gates, d * hidden);
    c.gates_gate = gates_gate;
  }
  run_forward(calls, reverse ? 2 : 1, threads);
}

void gru_forward(const Weights& forward, const Weights* reverse, int threads, index time,
                 index batch, address x, index x_time, index x_batch, address offsets,
                 address lengths, address keep, index keep_time, index keep_batch, index keep_unit,
                 address mask, address h_0, address output, index output_time, index output_batch,
                 address h_n, address saved, address gates, index gates_gate, address zone,
                 index zone_time, index zone_batch, index zone_unit, address tokens) {
  require_pair(forward, reverse);
  require_lengths(offsets, lengths);
  require_native(forward, tokens);
  const Input in{time,      batch,      x,           x_time,       x_batch,   offsets,
                 lengths,   keep,       keep_time,   keep_batch,   keep_unit, mask,
                 h_0,       output,     output_time, output_batch, saved,     zone,
                 zone_time, zone_batch, zone_unit,   tokens};
  nb::gil_scoped_release release;
  if (forward.is_double())
    forward_as<double>(forward, reverse, threads, in, h_n, gates, gates_gate);
  else
    forward_as<float>(forward, reverse, threads, in, h_n, gates, gates_gate);
}

struct Gradients {
  address d_output;
  index d_output_time, d_output_batch;
  address d_h_n, d_gates;
  index d_gates_gate, d_gates_time, d_gates_batch;
  address d_x;
  index d_x_time, d_x_batch;
  address d_h_0, d_keep, d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh, d_norm_ih, d_norm_hh;
};

template <class T>
void backward_as(const Weights& forward, const Weights* reverse, int threads, const Input& in,
                 const Gradients& g) {
  Call<T> calls[2];
  for (int d = 0; d < (reverse ? 2 : 1); ++d) {
    const Weights& w = d ? *reverse : forward;
    const index hidden = w.shape().hidden, input = w.shape().input;
    const index rows = gates_of(w.shape().reset) * hidden, state = in.batch * hidden;
    Call<T>& c = calls[d] = call_of<T>(w, d, in);
    c.d_output = shifted<const T>(g.d_output, d * hidden);
    c.d_output_time = g.d_output_time;
    c.d_output_batch = g.d_output_batch;
    c.d_h_n = shifted<const T>(g.d_h_n, d * state);
    c.d_gates = shifted<const T>(g.d_gates, d * hidden);
    c.d_gates_gate = g.d_gates_gate;
    c.d_gates_time = g.d_gates_time;
    c.d_gates_batch = g.d_gates_batch;
    c.d_x = as<T>(g.d_x);
    c.d_x_time = g.d_x_time;
    c.d_x_batch = g.d_x_batch;
    c.d_h_0 = shifted<T>(g.d_h_0, d * state);
    c.d_keep = shifted<T>(g.d_keep, d * in.time * state);
    c.d_weight_ih = shifted<T>(g.d_weight_ih, d * rows * input);
    c.d_weight_hh = shifted<T>(g.d_weight_hh, d * rows * hidden);
    c.d_bias_ih = shifted<T>(g.d_bias_ih, d * rows);
    c.d_bias_hh = shifted<T>(g.d_bias_hh, d * rows);
    c.d_norm_ih = shifted<T>(g.d_norm_ih, d * rows);
    c.d_norm_hh = shifted<T>(g.d_norm_hh, d * rows);
  }
  run_backward(calls, reverse ? 2 : 1, threads);
}

void gru_backward(const Weights& forward, const Weights* reverse, int threads, index time,
                  index batch, address x, index x_time, index x_batch, address offsets,
                  address lengths, address keep, index keep_time, index keep_batch, index keep_unit,
                  address mask, address h_0, address output, index output_time, index output_batch,
                  address saved, address d_output, index d_output_time, index d_output_batch,
                  address d_h_n, address d_gates, index d_gates_gate, index d_gates_time,
                  index d_gates_batch, address d_x, index d_x_time, index d_x_batch, address d_h_0,
                  address d_keep, address d_weight_ih, address d_weight_hh, address d_bias_ih,
                  address d_bias_hh, address zone, index zone_time, index zone_batch,
                  index zone_unit, address tokens, address d_norm_ih, address d_norm_hh) {
  require_pair(forward, reverse);
  require_lengths(offsets, lengths);
  require_native(forward, tokens);
  if (!forward.backward() || (reverse && !reverse->backward()))
    throw std::invalid_argument("gru_backward: Weights packed with backward=True expected");
  const Input in{time,      batch,      x,           x_time,       x_batch,   offsets,
                 lengths,   keep,       keep_time,   keep_batch,   keep_unit, mask,
                 h_0,       output,     output_time, output_batch, saved,     zone,
                 zone_time, zone_batch, zone_unit,   tokens};
  const Gradients g{d_output,     d_output_time, d_output_batch, d_h_n,       d_gates,
                    d_gates_gate, d_gates_time,  d_gates_batch,  d_x,         d_x_time,
                    d_x_batch,    d_h_0,         d_keep,         d_weight_ih, d_weight_hh,
                    d_bias_ih,    d_bias_hh,     d_norm_ih,      d_norm_hh};
  nb::gil_scoped_release release;
  if (forward.is_double())
    backward_as<double>(forward, reverse, threads, in, g);
  else
    backward_as<float>(forward, reverse, threads, in, g);
}

// One step at a time through a stack of layers; keeps its Weights alive.
class Cell {
 public:
  Cell(std::vector<nb::object> layers, index batch, int threads) : layers_(std::move(layers)) {
    if (layers_.empty() || batch < 1)
      throw std::invalid_argument("Cell: one layer or more and one row or more expected");
    std::vector<const Packed<float>*> f32;
    std::vector<const Packed<double>*> f64;
    const bool is_double = nb::cast<const Weights&>(layers_[0]).is_double();
    index input = nb::cast<const Weights&>(layers_[0]).shape().input;
    for (nb::handle layer : layers_) {
      const auto& w = nb::cast<const Weights&>(layer);
      if (w.is_double() != is_double || w.shape().input != input)
        throw std::invalid_argument("Cell: each layer must take what the one before gives");
      input = w.shape().hidden;
      f32.push_back(w.packed<float>());
      f64.push_back(w.packed<double>());
    }
    if (is_double)
      f64_ = std::make_unique<Stepper<double>>(f64, batch, threads);
    else
      f32_ = std::make_unique<Stepper<float>>(f32, batch, threads);
  }
  void step(address x, address h) {
    if (f32_)
      f32_->step(as<const float>(x), as<float>(h));
    else
      f64_->step(as<const double>(x), as<double>(h));
  }

 private:
  std::vector<nb::object> layers_;
  std::unique_ptr<Stepper<float>> f32_;
  std::unique_ptr<Stepper<double>> f64_;
};

}  // namespace
}  // namespace tidegate

#include "bind_cross_entropy.hpp"
#include "bind_min_gru.hpp"
#include "bind_stream.hpp"

namespace tidegate {
namespace {

template <bool is_sigmoid>
void elementwise(bool is_double, index size, address x, address y) {
  const FlushDenormals flush;
  const auto& k = kernels();
  if (is_double)
    (is_sigmoid ? k.f64.sigmoid : k.f64.tanh)(size, as<const double>(x), as<double>(y));
  else
    (is_sigmoid ? k.f32.sigmoid : k.f32.tanh)(size, as<const float>(x), as<float>(y));
}

void draw(bool is_double, std::uint64_t seed, index size, int parts, address numbers) {
  const nb::gil_scoped_release release;
  if (is_double)
    kernels().f64.draw(seed, size, parts, as<double>(numbers));
  else
    kernels().f32.draw(seed, size, parts, as<float>(numbers));
}

}  // namespace
}  // namespace tidegate

NB_MODULE(_kernels, m) {
  using namespace tidegate;
  // Weights that a graph or a module still holds when the interpreter ends are no leak.
  nb::set_leak_warnings(false);
  m.attr("ISA") = kernels().name;
  m.attr("RESET_AFTER") = int(reset_after);
  m.attr("RESET_BEFORE") = int(reset_before);
  m.attr("RESET_NONE") = int(reset_none);
  m.attr("STORED_BFLOAT16") = int(stored_bfloat16);
  m.attr("STORED_INT8") = int(stored_int8);
  m.def("isas", &available_isas);
  m.def("default_threads", &default_threads);

  nb::class_<Weights>(m, "Weights")
      .def(nb::init<bool, int, tidegate::index, tidegate::index, address, address, address, address,
                    bool, bool, address, address, int>(),
           "double"_a, "reset"_a, "input"_a, "hidden"_a, "weight_ih"_a, "weight_hh"_a, "bias_ih"_a,
           "bias_hh"_a, "backward"_a, "keep_source"_a = false, "norm_ih"_a = 0, "norm_hh"_a = 0,
           "threads"_a = 1)
      .def("is_of", &Weights::is_of, "weight_ih"_a, "weight_hh"_a, "bias_ih"_a, "bias_hh"_a,
           "norm_ih"_a = 0, "norm_hh"_a = 0)
      .def(
          "narrow",
          [](const Weights& from, int storage) { return std::make_unique<Weights>(from, storage); },
          "storage"_a)
      .def_prop_ro("nbytes", &Weights::nbytes);
  m.def("saved_size", &saved_size, "weights"_a, "rows"_a);
  m.def("block_tensor", &block_tensor, "is_double"_a, "rows"_a, "columns"_a);
  m.def("gru_forward", &gru_forward, "forward"_a, "reverse"_a.none(), "threads"_a, "time"_a,
        "batch"_a, "x"_a, "x_time"_a, "x_batch"_a, "offsets"_a, "lengths"_a, "keep"_a,
        "keep_time"_a, "keep_batch"_a, "keep_unit"_a, "mask"_a, "h_0"_a, "output"_a,
        "output_time"_a, "output_batch"_a, "h_n"_a, "saved"_a, "gates"_a, "gates_gate"_a,
        "zone"_a = 0, "zone_time"_a = 0, "zone_batch"_a = 0, "zone_unit"_a = 0, "tokens"_a = 0);
  m.def("gru_backward", &gru_backward, "forward"_a, "reverse"_a.none(), "threads"_a, "time"_a,
        "batch"_a, "x"_a, "x_time"_a, "x_batch"_a, "offsets"_a, "lengths"_a, "keep"_a,
        "keep_time"_a, "keep_batch"_a, "keep_unit"_a, "mask"_a, "h_0"_a, "output"_a,
        "output_time"_a, "output_batch"_a, "saved"_a, "d_output"_a, "d_output_time"_a,
        "d_output_batch"_a, "d_h_n"_a, "d_gates"_a, "d_gates_gate"_a, "d_gates_time"_a,
        "d_gates_batch"_a, "d_x"_a, "d_x_time"_a, "d_x_batch"_a, "d_h_0"_a, "d_keep"_a,
        "d_weight_ih"_a, "d_weight_hh"_a, "d_bias_ih"_a, "d_bias_hh"_a, "zone"_a = 0,
        "zone_time"_a = 0, "zone_batch"_a = 0, "zone_unit"_a = 0, "tokens"_a = 0, "d_norm_ih"_a = 0,
        "d_norm_hh"_a = 0);

  bind_min_gru(m);
  bind_cross_entropy(m);
  nb::class_<Cell>(m, "Cell")
      .def(nb::init<std::vector<nb::object>, tidegate::index, int>(), "layers"_a, "batch"_a,
           "threads"_a = 1)
      .def("step", &Cell::step, "x"_a, "h"_a);
  bind_stream(m);
  m.def("sigmoid", &elementwise<true>, "double"_a, "size"_a, "x"_a, "y"_a);
  m.def("draw", &draw, "double"_a, "seed"_a, "size"_a, "parts"_a, "numbers"_a);
  m.def("tanh", &elementwise<false>, "double"_a, "size"_a, "x"_a, "y"_a);
}
