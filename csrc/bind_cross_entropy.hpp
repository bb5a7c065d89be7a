// The cross-entropy's part of the module, included by bindings.cpp.
#pragma once

namespace tidegate {
namespace {

template <class T>
void run_cross_entropy_as(int threads, index rows, index features, index vocabulary, address output,
                          address weight, address bias, address targets, address losses,
                          address d_output, address d_weight, address d_bias) {
  const nb::gil_scoped_release release;
  run_cross_entropy(
      CrossEntropy<T>{rows, features, vocabulary, as<const T>(output), as<const T>(weight),
                      as<const T>(bias), as<const std::int64_t>(targets), as<T>(losses),
                      as<T>(d_output), as<T>(d_weight), as<T>(d_bias)},
      threads);
}

void cross_entropy(bool is_double, int threads, index rows, index features, index vocabulary,
                   address output, address weight, address bias, address targets, address losses,
                   address d_output, address d_weight, address d_bias) {
  if (rows < 1 || features < 1 || vocabulary < 1)
    throw std::invalid_argument("cross_entropy: rows, features and vocabulary must be positive");
  const auto* chosen = as<const std::int64_t>(targets);
  for (index row = 0; row < rows; ++row)
    if (chosen[row] < 0 || chosen[row] >= vocabulary)
      throw std::out_of_range("cross_entropy: target " + std::to_string(chosen[row]) + " of row " +
                              std::to_string(row) + " is not in a vocabulary of " +
                              std::to_string(vocabulary));
  const auto run = is_double ? run_cross_entropy_as<double> : run_cross_entropy_as<float>;
  run(threads, rows, features, vocabulary, output, weight, bias, targets, losses, d_output,
      d_weight, d_bias);
}

void bind_cross_entropy(nb::module_& m) {
  m.def("cross_entropy", &cross_entropy, "double"_a, "threads"_a, "rows"_a, "features"_a,
        "vocabulary"_a, "output"_a, "weight"_a, "bias"_a, "targets"_a, "losses"_a, "d_output"_a = 0,
        "d_weight"_a = 0, "d_bias"_a = 0);
}

}  // namespace
}  // namespace tidegate
