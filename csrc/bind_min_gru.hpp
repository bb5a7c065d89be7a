// The minGRU's part of the module, included by bindings.cpp.
#pragma once

namespace tidegate {
namespace {

template <class T>
MinGru<T> min_gru_of(const MinGru<char>& a) {
  const auto in = [](const char* p) { return reinterpret_cast<const T*>(p); };
  const auto out = [](char* p) { return reinterpret_cast<T*>(p); };
  return {a.time,           a.batch,        a.hidden,         a.reverse,      a.positive,
          in(a.x_gates),    a.x_time,       a.x_batch,        a.lengths,      in(a.keep),
          a.keep_time,      a.keep_batch,   a.keep_unit,      in(a.h_0),      out(a.output),
          a.output_time,    a.output_batch, out(a.h_n),       in(a.d_output), a.d_output_time,
          a.d_output_batch, in(a.d_h_n),    out(a.d_x_gates), a.d_x_time,     a.d_x_batch,
          out(a.d_h_0),     out(a.d_keep)};
}

void run_min_gru_as(bool is_double, const MinGru<char>& call, int threads, bool backward) {
  if (call.hidden < 1) throw std::invalid_argument("min_gru: hidden must be positive");
  nb::gil_scoped_release release;
  if (is_double)
    run_min_gru(min_gru_of<double>(call), threads, backward);
  else
    run_min_gru(min_gru_of<float>(call), threads, backward);
}

void min_gru_forward(bool is_double, int threads, index time, index batch, index hidden,
                     bool reverse, bool positive, address x_gates, index x_time, index x_batch,
                     address lengths, address keep, index keep_time, index keep_batch,
                     index keep_unit, address h_0, address output, index output_time,
                     index output_batch, address h_n) {
  MinGru<char> c{};
  c.time = time, c.batch = batch, c.hidden = hidden;
  c.reverse = reverse, c.positive = positive;
  c.x_gates = as<const char>(x_gates), c.x_time = x_time, c.x_batch = x_batch;
  c.lengths = as<const std::int64_t>(lengths);
  c.keep = as<const char>(keep), c.keep_time = keep_time, c.keep_batch = keep_batch;
  c.keep_unit = keep_unit;
  c.h_0 = as<const char>(h_0), c.h_n = as<char>(h_n);
  c.output = as<char>(output), c.output_time = output_time, c.output_batch = output_batch;
  run_min_gru_as(is_double, c, threads, false);
}

void min_gru_backward(bool is_double, int threads, index time, index batch, index hidden,
                      bool reverse, bool positive, address x_gates, index x_time, index x_batch,
                      address lengths, address keep, index keep_time, index keep_batch,
                      index keep_unit, address h_0, address output, index output_time,
                      index output_batch, address d_output, index d_output_time,
                      index d_output_batch, address d_h_n, address d_x_gates, index d_x_time,
                      index d_x_batch, address d_h_0, address d_keep) {
  MinGru<char> c{};
  c.time = time, c.batch = batch, c.hidden = hidden;
  c.reverse = reverse, c.positive = positive;
  c.x_gates = as<const char>(x_gates), c.x_time = x_time, c.x_batch = x_batch;
  c.lengths = as<const std::int64_t>(lengths);
  c.keep = as<const char>(keep), c.keep_time = keep_time, c.keep_batch = keep_batch;
  c.keep_unit = keep_unit;
  c.h_0 = as<const char>(h_0);
  c.output = as<char>(output), c.output_time = output_time, c.output_batch = output_batch;
  c.d_output = as<const char>(d_output), c.d_output_time = d_output_time;
  c.d_output_batch = d_output_batch, c.d_h_n = as<const char>(d_h_n);
  c.d_x_gates = as<char>(d_x_gates), c.d_x_time = d_x_time, c.d_x_batch = d_x_batch;
  c.d_h_0 = as<char>(d_h_0), c.d_keep = as<char>(d_keep);
  run_min_gru_as(is_double, c, threads, true);
}

void bind_min_gru(nb::module_& m) {
  m.def("min_gru_forward", &min_gru_forward, "double"_a, "threads"_a, "time"_a, "batch"_a,
        "hidden"_a, "reverse"_a, "positive"_a, "x_gates"_a, "x_time"_a, "x_batch"_a, "lengths"_a,
        "keep"_a, "keep_time"_a, "keep_batch"_a, "keep_unit"_a, "h_0"_a, "output"_a,
        "output_time"_a, "output_batch"_a, "h_n"_a);
  m.def("min_gru_backward", &min_gru_backward, "double"_a, "threads"_a, "time"_a, "batch"_a,
        "hidden"_a, "reverse"_a, "positive"_a, "x_gates"_a, "x_time"_a, "x_batch"_a, "lengths"_a,
        "keep"_a, "keep_time"_a, "keep_batch"_a, "keep_unit"_a, "h_0"_a, "output"_a,
        "output_time"_a, "output_batch"_a, "d_output"_a, "d_output_time"_a, "d_output_batch"_a,
        "d_h_n"_a, "d_x_gates"_a, "d_x_time"_a, "d_x_batch"_a, "d_h_0"_a, "d_keep"_a);
}

}  // namespace
}  // namespace tidegate
