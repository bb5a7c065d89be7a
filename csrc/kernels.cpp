// Compiled once for each instruction set and type of number: TIDEGATE_ISA names both, TIDEGATE_NUMBER
// is the type.
#include "cross_entropy.hpp"
#include "draw.hpp"
#include "min_gru.hpp"
#include "stream.hpp"

namespace tidegate::TIDEGATE_ISA {

template <class T, Vec<T> (*f)(Vec<T>)>
void elementwise(index size, const T* x, T* y) {
  for (index i = 0; i < size; i += lanes<T>) store_n(y + i, f(load_n(x + i, size - i)), size - i);
}

using Number = TIDEGATE_NUMBER;
extern const Kernels<Number> kernels;
const Kernels<Number> kernels{group<Number>,
                              packed_bytes<Number>,
                              measure<Number>,
                              pack<Number>,
                              narrow_weights<Number>,
                              saved_size<Number>,
                              forward_scratch<Number>,
                              forward_shared<Number>,
                              forward<Number>,
                              backward_scratch<Number>,
                              backward_shared<Number>,
                              backward<Number>,
                              elementwise<Number, sigmoid<Number>>,
                              elementwise<Number, tanh<Number>>,
                              draw<Number>,
                              stream_bytes<Number>,
                              stream_pack<Number>,
                              stream_measure<Number>,
                              stream_scratch<Number>,
                              stream_run<Number>,
                              min_gru_forward<Number>,
                              min_gru_backward<Number>,
                              cross_entropy_bytes<Number>,
                              cross_entropy_chunk<Number>,
                              cross_entropy_pack<Number>,
                              cross_entropy_rows<Number>,
                              cross_entropy_columns<Number>};

}  // namespace tidegate::TIDEGATE_ISA
