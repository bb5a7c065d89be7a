// What crosses from dispatch.cpp to the kernels of each instruction set: plain structures and
// pointers to functions, no inline code. Strides count elements; the last axis is contiguous.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidegate {

using index = std::ptrdiff_t;

enum Reset : int { reset_after, reset_before, reset_none };

// How forward weights are stored; float alone has the narrow ones.
enum Storage : int { stored_native, stored_bfloat16, stored_int8 };

constexpr index gates_of(int reset) { return reset == reset_none ? 2 : 3; }

// Sizes of one direction of one layer.
struct Shape {
  index input, hidden;
  int reset;
  bool norm = false;  // the products are normalised (layer_norm.hpp)
};

// The parameters of a direction as they are given; biases may be null, and gains are so without a
// normalisation.
template <class T>
struct Given {
  const T *weight_ih, *weight_hh, *bias_ih, *bias_hh, *norm_ih, *norm_hh;
};

// Weights as the kernels read them; each instruction set has its own layout (panels.hpp).
template <class T>
struct Packed {
  Shape shape;
  T* memory;
  bool backward;  // the transposes are there too
  int storage;
};

// One direction of one layer over a sequence. Absent arrays are null.
template <class T>
struct Call {
  const Packed<T>* weights;
  index time, batch;
  bool reverse;  // each row from its own end to its beginning
  const T* x;    // IN   (time, batch, input)
  index x_time, x_batch;
  const std::int64_t*
      tokens;  // IN  (time, batch), in place of x: x is one at this input, else zero
  const std::int64_t* offsets;  // IN  (time,): step t begins at row offsets[t] of x and output
  const std::int64_t* lengths;  // IN  (batch,)
  const T* keep;  // IN   (time, batch, hidden or 1): h <- keep * h before each step
  index keep_time, keep_batch, keep_unit;
  const T* mask;  // IN   (batch, hidden): multiplies h where it meets the weights
  const T* zone;  // IN   (time, batch, hidden or 1): share of the old state that stays
  index zone_time, zone_batch, zone_unit;
  const T* h_0;  // IN   (batch, hidden)
  T* output;  // OUT  (time, batch, hidden); IN for backward
  index output_time, output_batch;
  T* h_n;  // OUT  (batch, hidden)
  T* saved;  // OUT  gates, for backward: cell (row_cell[b] + step)
  const index* row_cell;  // IN   (batch,)
  T* gates;  // OUT  (gate, time, batch, hidden), strides as output
  index gates_gate;

  // backward alone
  const T* d_output;  // IN
  index d_output_time, d_output_batch;
  const T* d_h_n;  // IN   (batch, hidden)
  const T* d_gates;  // IN
  index d_gates_gate, d_gates_time, d_gates_batch;
  T* d_x;  // OUT  (time, batch, input)
  index d_x_time, d_x_batch;
  T* d_h_0;  // OUT  (batch, hidden)
  T* d_keep;  // OUT  (time, batch, hidden)
  T* d_weight_ih;  // OUT  (gates * hidden, input)
  T* d_weight_hh;  // OUT  (gates * hidden, hidden)
  T* d_bias_ih;  // OUT  (gates * hidden,)
  T* d_bias_hh;  // OUT  (gates * hidden,)
  T* d_norm_ih;  // OUT  (gates * hidden,)
  T* d_norm_hh;  // OUT  (gates * hidden,)
};

// Where threads meet. Each has a cache line of its own.
struct Barrier {
  struct alignas(64) Flag {
    int epoch;  // of the barrier
    int reached;  // chunks that this thread is done with, where it goes ahead of others
  } flags[64];
  alignas(64) int claimed;  // chunks that somebody has taken
};

// How threads share a call. Those that split the rows meet once, to add up their weight gradients;
// those that split the units meet at each step. Of two that share the products, the first goes
// through the steps, and the second does what no step waits for: the products of inputs ahead of
// it, and behind it those of gradients.
enum Sharing : int { share_rows, share_units, share_products };

// What one thread does: its rows (longest first), its groups of units, and who shares them.
struct Slice {
  const index* rows;  // batch indices
  const index* lengths;  // their lengths
  index count;
  index group_begin, group_end;
  int rank, ranks;
  int sharing;
  Barrier* barrier;
  int epoch;
  double waited;  // OUT seconds for others, beyond what spinning covers
  double worked;  // OUT seconds of the processor, of threads that share the products
};

// What a stream does at each step: one layer after the other (stream.hpp).
enum StreamKind : int {
  stream_recurrent,
  stream_linear,
  stream_embedding,
  stream_norm,
  stream_activation,
  stream_add_input
};
enum StreamFunction : int {
  act_relu,
  act_leaky_relu,
  act_elu,
  act_tanh,
  act_sigmoid,
  act_silu,
  act_softplus,
  act_softmax,
  act_log_softmax
};
constexpr index stream_block = 32;  // rows that go through all layers together

template <class T>
struct StreamOp {
  int kind, function;
  index input, output;
  const T *weight, *bias;  // IN   linear (output, input), embedding (symbols, output), norm
  T alpha;  // slope, or the norm's epsilon
  const Packed<T>* gru;
  T* state;  // IN, OUT   (batch, hidden)
  T* packed;  // a linear layer as its kernel reads it
};

template <class T>
struct StreamPlan {
  const StreamOp<T>* ops;
  index count, input, output, batch;
  index widest, gates;  // of the buffers, from stream_measure
  bool turned;  // the step before read its weights from the first to the last
};

// Takes pieces off a block of memory; with a null base it only counts.
struct Arena {
  char* base;
  std::size_t used;
};

// One direction of a minGRU over a sequence, whose input products are done (min_gru.hpp).
template <class T>
struct MinGru {
  index time, batch, hidden;
  bool reverse;  // each row from its own end to its beginning
  bool positive;  // the candidate is g(x_n), not x_n
  const T* x_gates;  // IN   (time, batch, 2 * hidden): x_z, then x_n
  index x_time, x_batch;
  const std::int64_t* lengths;  // IN  (batch,)
  const T* keep;  // IN   (time, batch, hidden or 1)
  index keep_time, keep_batch, keep_unit;
  const T* h_0;  // IN   (batch, hidden)
  T* output;  // OUT  (time, batch, hidden); IN for backward
  index output_time, output_batch;
  T* h_n;  // OUT  (batch, hidden)

  // backward alone
  const T* d_output;  // IN
  index d_output_time, d_output_batch;
  const T* d_h_n;  // IN   (batch, hidden)
  T* d_x_gates;  // OUT  (time, batch, 2 * hidden)
  index d_x_time, d_x_batch;
  T* d_h_0;  // OUT  (batch, hidden)
  T* d_keep;  // OUT  (time, batch, hidden)
};

// Cross-entropy of a softmax over a vocabulary, and its gradients (cross_entropy.hpp).
template <class T>
struct CrossEntropy {
  index rows, features, vocabulary;
  const T* output;  // IN   (rows, features)
  const T* weight;  // IN   (vocabulary, features)
  const T* bias;  // IN   (vocabulary,)
  const std::int64_t* targets;  // IN  (rows,), each in the vocabulary
  T* losses;  // OUT  (rows,)
  // Gradients of the mean loss, all or none.
  T* d_output;  // OUT  (rows, features)
  T* d_weight;  // OUT  (vocabulary, features)
  T* d_bias;  // OUT  (vocabulary,)
};

// What one thread does of a minGRU.
struct Part {
  index row_begin, row_end, unit_begin, unit_end;
};

template <class T>
struct Kernels {
  index group;  // units in a group
  std::size_t (*packed_bytes)(Shape, int storage, bool backward);
  void (*measure)(const Packed<T>&, const Given<T>&, int part, int parts);
  void (*pack)(const Packed<T>&, const Given<T>&, int part, int parts);
  void (*narrow)(const Packed<T>& to, const Packed<T>& from);  // of float alone
  index (*saved_size)(Shape, index cells);
  std::size_t (*forward_scratch)(const Call<T>&, const Slice&);
  std::size_t (*forward_shared)(const Call<T>&, const Slice&);
  void (*forward)(const Call<T>&, Slice&, Arena own, Arena shared);
  std::size_t (*backward_scratch)(const Call<T>&, const Slice&);
  std::size_t (*backward_shared)(const Call<T>&, const Slice&);
  void (*backward)(const Call<T>&, Slice&, Arena own, Arena shared);
  void (*sigmoid)(index, const T*, T*);
  void (*tanh)(index, const T*, T*);
  void (*draw)(std::uint64_t seed, index size, int parts, T* numbers);
  std::size_t (*stream_bytes)(const StreamOp<T>&);
  void (*stream_pack)(const StreamOp<T>&);
  void (*stream_measure)(StreamPlan<T>&);
  std::size_t (*stream_scratch)(const StreamPlan<T>&);
  void (*stream_run)(const StreamPlan<T>&, index row, index rows, index steps, const T* x,
                     const std::int64_t* symbols, T* y, Arena own);
  void (*min_gru_forward)(const MinGru<T>&, const Part&);
  void (*min_gru_backward)(const MinGru<T>&, const Part&);
  std::size_t (*cross_entropy_bytes)(const CrossEntropy<T>&);
  index (*cross_entropy_chunk)(const CrossEntropy<T>&);
  void (*cross_entropy_pack)(const CrossEntropy<T>&, char* memory, int rank, int ranks);
  void (*cross_entropy_rows)(const CrossEntropy<T>&, char* memory, index first, index begin,
                             index end);
  void (*cross_entropy_columns)(const CrossEntropy<T>&, char* memory, index first, index rows,
                                int rank, int ranks);
};

struct KernelSet {
  const char* name;
  const Kernels<float>& f32;
  const Kernels<double>& f64;
};

}  // namespace tidegate
