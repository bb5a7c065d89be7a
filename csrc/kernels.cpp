// Compiled once for each instruction set, with TIDEGATE_ISA set to its name.
#include "cross_entropy.hpp"
#include "draw.hpp"
#include "min_gru.hpp"
#include "stream.hpp"

namespace tidegate::TIDEGATE_ISA {

template <class T, Vec<T> (*f)(Vec<T>)>
void elementwise(index size, const T* x, T* y) {
  for (index i = 0; i < size; i += lanes<T>) store_n(y + i, f(load_n(x + i, size - i)), size - i);
}

template <class T>
constexpr Kernels<T> table() {
  return {group<T>,
          packed_bytes<T>,
          measure<T>,
          pack<T>,
          saved_size<T>,
          forward_scratch<T>,
          forward_shared<T>,
          forward<T>,
          backward_scratch<T>,
          backward_shared<T>,
          backward<T>,
          elementwise<T, sigmoid<T>>,
          elementwise<T, tanh<T>>,
          draw<T>,
          stream_bytes<T>,
          stream_pack<T>,
          stream_measure<T>,
          stream_scratch<T>,
          stream_run<T>,
          min_gru_forward<T>,
          min_gru_backward<T>,
          cross_entropy_bytes<T>,
          cross_entropy_chunk<T>,
          cross_entropy_pack<T>,
          cross_entropy_rows<T>,
          cross_entropy_columns<T>};
}

#define TIDEGATE_TEXT(x) #x
#define TIDEGATE_NAME(x) TIDEGATE_TEXT(x)

extern const KernelSet kernels;
const KernelSet kernels{TIDEGATE_NAME(TIDEGATE_ISA), narrow_weights, table<float>(),
                        table<double>()};

}  // namespace tidegate::TIDEGATE_ISA
