// `_kernels.Stream`: a whole model behind one call from Python. Included by bindings.cpp alone.
//
// An array is read through the buffer protocol, which costs a fifth of a microsecond less than any
// wrapper; the result is always the same array, written anew.
#pragma once

#include <atomic>
#include <cmath>

namespace tidegate {
namespace {

enum Missing : int { missing_refuse, missing_skip, missing_pass };

// One layer as Python describes it; addresses are of arrays that Python keeps alive.
struct LayerFacts {
  int kind, function;
  tidegate::index input, output;
  address weight, bias;
  double alpha;
  nb::object gru;
  address state;
  tidegate::index states;  // elements of the state
};

class StreamBinding {
 public:
  StreamBinding(std::vector<nb::tuple> layers, bool is_double, tidegate::index input,
                tidegate::index symbols, tidegate::index batch, int threads, int missing,
                nb::object y_rows, nb::object y_row, address y, nb::object convert)
      : input_(input),
        symbols_(symbols),
        batch_(batch),
        missing_(missing),
        y_rows_(y_rows),
        y_row_(y_row),
        convert_(convert),
        y_(y) {
    if (layers.empty() || batch < 1)
      throw std::invalid_argument("Stream: one layer or more and one row or more expected");
    double work = 0;
    for (const nb::tuple& t : layers) {
      LayerFacts f{nb::cast<int>(t[0]),
                   nb::cast<int>(t[1]),
                   nb::cast<tidegate::index>(t[2]),
                   nb::cast<tidegate::index>(t[3]),
                   nb::cast<address>(t[4]),
                   nb::cast<address>(t[5]),
                   nb::cast<double>(t[6]),
                   nb::borrow(t[7]),
                   nb::cast<address>(t[8]),
                   0};
      if (f.kind == stream_recurrent) {
        const auto& w = nb::cast<const Weights&>(f.gru);
        if (w.is_double() != is_double || w.shape().input != f.input ||
            w.shape().hidden != f.output)
          throw std::invalid_argument("Stream: weights of the layer's sizes and type expected");
        f.states = batch * f.output;
        work += 3.0 * double(f.output) * double(f.input + f.output);
      } else if (f.kind == stream_linear) {
        work += double(f.output) * double(f.input);
      }
      output_ = f.output;
      facts_.push_back(std::move(f));
    }
    heavy_ = work * double(batch) > 2e5;
    if (is_double)
      f64_ = make<double>(threads);
    else
      f32_ = make<float>(threads);
    x_.resize(std::size_t(batch * input) * (is_double ? sizeof(double) : sizeof(float)));
    ids_.resize(std::size_t(symbols ? batch : 0));
    ok_.resize(std::size_t(batch));
    std::size_t states = 0;
    for (const LayerFacts& f : facts_) states += std::size_t(f.states);
    before_.resize(states * (is_double ? sizeof(double) : sizeof(float)));
  }

  nb::object step(nb::handle x) {
    const Turn turn(busy_);
    const bool as_row = read(x);
    if (heavy_) {
      nb::gil_scoped_release release;
      run_one();
    } else {
      run_one();
    }
    return as_row ? y_row_ : y_rows_;
  }

  // Steps that the last call took before it ended or was refused.
  tidegate::index taken() const { return taken_; }

  // Many steps: x and y are contiguous, of the stream's type, (steps, batch, ...).
  void run(address x, tidegate::index steps, address y) {
    const Turn turn(busy_);
    nb::gil_scoped_release release;
    if (f32_)
      run_as<float>(*f32_, x, steps, y);
    else
      run_as<double>(*f64_, x, steps, y);
  }

 private:
  // A step in one thread while another is inside would mix up their states.
  struct Turn {
    std::atomic_flag& busy;
    explicit Turn(std::atomic_flag& b) : busy(b) {
      if (busy.test_and_set(std::memory_order_acquire))
        throw std::runtime_error(
            "another thread is inside this stream: give each thread a stream of its own");
    }
    ~Turn() { busy.clear(std::memory_order_release); }
  };

  template <class T>
  std::unique_ptr<Stream<T>> make(int threads) {
    std::vector<StreamOp<T>> ops;
    for (const LayerFacts& f : facts_) {
      const Packed<T>* gru =
          f.kind == stream_recurrent ? nb::cast<const Weights&>(f.gru).packed<T>() : nullptr;
      ops.push_back({f.kind, f.function, f.input, f.output, as<const T>(f.weight),
                     as<const T>(f.bias), T(f.alpha), gru, as<T>(f.state), nullptr});
    }
    return std::make_unique<Stream<T>>(std::move(ops), input_, batch_, threads);
  }

  // Copies x into the stream's own buffer; whether it was one row without the axis of rows.
  bool read(nb::handle x) {
    if (!symbols_ && batch_ * input_ == 1 && PyFloat_Check(x.ptr())) {
      const double value = PyFloat_AsDouble(x.ptr());
      put(0, value);
      return true;
    }
    Py_buffer view;
    nb::object converted;
    const int wanted = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS;
    if (PyObject_GetBuffer(x.ptr(), &view, wanted) != 0) {
      PyErr_Clear();
    } else {
      const int known = copy(view);
      PyBuffer_Release(&view);
      if (known >= 0) return known;
    }
    converted = convert_(x);
    if (PyObject_GetBuffer(converted.ptr(), &view, wanted) != 0) throw nb::python_error();
    const int known = copy(view);
    PyBuffer_Release(&view);
    if (known < 0) throw nb::type_error("x must be an array of numbers");
    return known;
  }

  // 1 if the buffer is one row, 0 if it is all rows, -1 if its numbers are of another type.
  int copy(const Py_buffer& view) {
    const char* format = view.format ? view.format : "B";
    if (*format == '=' || *format == '<' || *format == '@') ++format;
    if (format[0] == 0 || format[1] != 0) return -1;
    const bool is_float = *format == 'f', is_double = *format == 'd';
    const bool is_long = (*format == 'l' || *format == 'q') && view.itemsize == 8;
    if (symbols_ ? !is_long : !(is_float || is_double)) return -1;
    const int rank = symbols_ ? 1 : 2;
    const tidegate::index last = symbols_ ? batch_ : input_;
    bool all = view.ndim == rank && view.shape[0] == batch_ && view.shape[rank - 1] == last;
    const bool row =
        batch_ == 1 && ((view.ndim == rank - 1 && (rank == 1 || view.shape[0] == last)) ||
                        (view.ndim == 0 && last == 1));
    if (!all && !row) refuse(view);
    const tidegate::index count = batch_ * (symbols_ ? 1 : input_);
    if (symbols_) {
      const auto* from = static_cast<const std::int64_t*>(view.buf);
      for (tidegate::index i = 0; i < count; ++i) {
        if (from[i] < 0 || from[i] >= symbols_)
          throw nb::value_error(("x must be from 0 to " + std::to_string(symbols_ - 1) + ", not " +
                                 std::to_string(from[i]))
                                    .c_str());
        ids_[std::size_t(i)] = from[i];
      }
    } else if (f32_ ? is_float : is_double) {
      std::memcpy(x_.data(), view.buf, x_.size());
    } else {
      for (tidegate::index i = 0; i < count; ++i)
        put(i, is_float ? double(static_cast<const float*>(view.buf)[i])
                        : static_cast<const double*>(view.buf)[i]);
    }
    return row;
  }

  void put(tidegate::index i, double value) {
    if (f32_)
      reinterpret_cast<float*>(x_.data())[i] = float(value);
    else
      reinterpret_cast<double*>(x_.data())[i] = value;
  }

  [[noreturn]] void refuse(const Py_buffer& view) const {
    std::string found, row = symbols_ ? "()" : "(" + std::to_string(input_) + ",)";
    for (int i = 0; i < view.ndim; ++i) found += (i ? ", " : "") + std::to_string(view.shape[i]);
    if (view.ndim == 1) found += ",";
    std::string rows =
        "(" + std::to_string(batch_) + (symbols_ ? ",)" : ", " + std::to_string(input_) + ")");
    if (batch_ == 1) rows = row + " or " + rows;
    throw nb::value_error(("x must have shape " + rows + ", not (" + found + ")").c_str());
  }

  void run_one() {
    if (f32_)
      run_as<float>(*f32_, address(x_.data()), 1, y_);
    else
      run_as<double>(*f64_, address(x_.data()), 1, y_);
  }

  template <class T>
  void run_as(Stream<T>& stream, address x, tidegate::index steps, address y) {
    T* out = as<T>(y);
    taken_ = 0;
    if (symbols_) {
      const bool own = x == address(x_.data());
      stream.run(steps, nullptr, own ? ids_.data() : as<const std::int64_t>(x), out);
      taken_ = steps;
      return;
    }
    const auto* in = as<const T>(x);
    const tidegate::index count = batch_ * input_;
    if (missing_ == missing_pass || all_finite(in, steps * count)) {
      stream.run(steps, in, nullptr, out);
      taken_ = steps;
      return;
    }
    for (tidegate::index step = 0; step < steps; ++step, ++taken_)
      careful(stream, in + step * count, out + step * batch_ * output_, step);
  }

  template <class T>
  static bool all_finite(const T* x, tidegate::index count) {
    bool any = false;
    for (tidegate::index i = 0; i < count; ++i) any |= !std::isfinite(x[i]);
    return !any;
  }

  // One step, unless there is a number that would stay in the state for good.
  template <class T>
  void careful(Stream<T>& stream, const T* x, T* y, tidegate::index step) {
    if (all_finite(x, batch_ * input_)) return stream.run(1, x, nullptr, y);
    tidegate::index first = -1;
    for (tidegate::index row = 0; row < batch_; ++row) {
      bool fine = true;
      for (tidegate::index i = 0; i < input_; ++i) fine &= std::isfinite(x[row * input_ + i]);
      ok_[std::size_t(row)] = fine;
      if (!fine && first < 0) first = row;
    }
    if (missing_ == missing_refuse)
      throw std::domain_error("x has a number that is not finite in row " + std::to_string(first) +
                              ", which would stay in the state: nothing was done from step " +
                              std::to_string(step) + " on (missing=\"skip\" leaves such rows out)");
    T* kept = reinterpret_cast<T*>(before_.data());
    for (const LayerFacts& f : facts_) {
      std::memcpy(kept, as<const T>(f.state), std::size_t(f.states) * sizeof(T));
      kept += f.states;
    }
    stream.run(1, x, nullptr, y);
    kept = reinterpret_cast<T*>(before_.data());
    for (const LayerFacts& f : facts_) {
      if (!f.states) continue;
      for (tidegate::index row = 0; row < batch_; ++row)
        if (!ok_[std::size_t(row)])
          std::memcpy(as<T>(f.state) + row * f.output, kept + row * f.output,
                      std::size_t(f.output) * sizeof(T));
      kept += f.states;
    }
    for (tidegate::index row = 0; row < batch_; ++row)
      if (!ok_[std::size_t(row)]) std::fill(y + row * output_, y + (row + 1) * output_, T(NAN));
  }

  std::vector<LayerFacts> facts_;
  tidegate::index input_, output_ = 0, symbols_, batch_;
  int missing_;
  tidegate::index taken_ = 0;
  bool heavy_ = false;
  nb::object y_rows_, y_row_, convert_;
  address y_;
  std::vector<char> x_, before_, ok_;
  std::vector<std::int64_t> ids_;
  std::unique_ptr<Stream<float>> f32_;
  std::unique_ptr<Stream<double>> f64_;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

void bind_stream(nb::module_& m) {
  nb::class_<StreamBinding>(m, "Stream")
      .def(nb::init<std::vector<nb::tuple>, bool, tidegate::index, tidegate::index, tidegate::index,
                    int, int, nb::object, nb::object, address, nb::object>(),
           "layers"_a, "double"_a, "input"_a, "symbols"_a, "batch"_a, "threads"_a, "missing"_a,
           "y_rows"_a, "y_row"_a, "y"_a, "convert"_a)
      .def("step", &StreamBinding::step, "x"_a.none())
      .def_prop_ro("taken", &StreamBinding::taken)
      .def("run", &StreamBinding::run, "x"_a, "steps"_a, "y"_a);
}

}  // namespace
}  // namespace tidegate
