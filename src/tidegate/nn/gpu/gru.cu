// A GRU over a whole sequence in one launch, its weights on the chip from first step to last.
//
//   r = sigmoid(x_r + W_hr h + b_hr)      x_r, x_z, x_n: the product of all inputs with their
//   z = sigmoid(x_z + W_hz h + b_hz)      weights, made before by one library product
//   n = tanh(x_n + r * (W_hn h + b_hn))   with RESET_BEFORE: n = tanh(x_n + W_hn (r * h) + b_hn)
//   h_t = (1 - z) * n + z * h             h is keep_t * h_{t-1}
//
// A block, or a cluster of blocks, owns 8 rows of the batch and one direction. A warp owns 16
// units, the same of every gate, so that the gates of a cell meet in one thread; a thread owns 2
// units side by side of 2 rows. The weights are the left factor of tensor-core products, held as
// fragments: the first HELD tiles in registers, the rest in shared memory. The state is the right
// factor: 8 rows in shared memory, twice, so that one is read while the other is written: one
// barrier a step. What a step wants of global memory is asked for at the end of the step before,
// when the registers that it comes into are free, and is on its way while the products are made.
//
// Compiled with TYPE, HIDDEN, PADDED, CLUSTER, HELD and RESET_BEFORE defined; see _build.py.

#define FLOAT32 0  // three TF32 products for one of float32
#define TF32 1  // float32 in memory, TF32 products
#define FLOAT16 2
#define BFLOAT16 3

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

#define ROWS 8  // of the batch, for a block
#define UNITS (PADDED / CLUSTER)  // of the state, for a block
#define WARPS (UNITS / 16)
#define THREADS (WARPS * 32)

#ifdef TIDEGATE_EMULATION
#include "emulation.hpp"
#else
#include "device.cuh"
#endif

#if TYPE == FLOAT16 || TYPE == BFLOAT16
typedef u16 Number;
#else
typedef float Number;
#endif

constexpr int SIZE = sizeof(Number);
constexpr int TILE = 32 / SIZE;  // numbers along the inner axis of a fragment
constexpr int TILES = PADDED / TILE;
constexpr int PARTS = TYPE == FLOAT32 ? 3 : 1;  // accumulators of a product

// Shared memory: fragments that the registers do not hold, then rows of the right factors.
constexpr u32 FRAGMENT = 16 * 32;  // bytes: 16 of each thread of a warp
constexpr u32 FACTORS = WARPS * 3 * (TILES > HELD ? TILES - HELD : 0) * FRAGMENT;
constexpr u32 ROW = PADDED * SIZE + 16;  // 16 more, so that 8 rows lie in different banks
constexpr u32 FACTOR = ROWS * ROW;

DEVICE float read(Number number) {
#if TYPE == FLOAT16
  return from_half(number);
#elif TYPE == BFLOAT16
  return as_float(static_cast<u32>(number) << 16);
#else
  return number;
#endif
}

DEVICE Number written(float value) {
#if TYPE == FLOAT16 || TYPE == BFLOAT16
  return static_cast<u16>(to_pair(value, 0.0f));
#else
  return value;
#endif
}

// The bits of a number; of what is not one, those that rounding leaves so. A GPU's own NaN has all
// bits set, and would be rounded up to zero.
DEVICE u32 plain_bits(float value) { return value == value ? as_bits(value) : 0x7fc00000u; }

// The nearest number of 11 significant bits; of plain bits.
DEVICE u32 to_tf32(u32 bits) { return (bits + 0x1000u) & 0xffffe000u; }

// A number of 32 bits as the tensor cores read it.
DEVICE u32 as_factor(float value) {
  return TYPE == TF32 ? to_tf32(plain_bits(value)) : plain_bits(value);
}

DEVICE float sigmoid(float x) {
#if TYPE == BFLOAT16
  return 0.5f * rough_tanh(0.5f * x) + 0.5f;
#else
  return reciprocal_of_one_plus(exponential(-x));
#endif
}

DEVICE float hyperbolic_tangent(float x) {
#if TYPE == BFLOAT16
  return rough_tanh(x);
#else
  return 1.0f - 2.0f * reciprocal_of_one_plus(exponential(2.0f * x));
#endif
}

// ---- Where a thread stands ---------------------------------------------------------------------

// Of the four cells of a thread, cell e is row `row + e % 2` and unit `unit + e / 2`. (To the
// tensor cores these are rows lane / 4 and lane / 4 + 8 of a fragment: where a unit is, we say.)
struct Place {
  int warp, lane;
  int direction, rank;  // rank: of the block in its cluster
  int row, unit;
  int steps;  // of the longest of the block's rows
  int length[2];  // of the thread's rows; 0 past the end of the batch
};

DEVICE int length_of(const i64* lengths, i64 row, i64 batch, i64 time) {
  if (row >= batch) return 0;
  if (lengths == nullptr) return static_cast<int>(time);
  const i64 length = lengths[row];
  return static_cast<int>(length < 0 ? 0 : length > time ? time : length);
}

DEVICE Place find_place(const i64* lengths, i64 batch, i64 time) {
  Place me;
  me.warp = thread() / 32;
  me.lane = thread() % 32;
  me.direction = block_y();
  me.rank = block_x() % CLUSTER;
  const int first = block_x() / CLUSTER * ROWS;
  me.row = first + me.lane % 4 * 2;
  me.unit = me.rank * UNITS + me.warp * 16 + me.lane / 4 * 2;
  me.steps = 0;
  for (int row = first; row < first + ROWS; ++row) {
    const int length = length_of(lengths, row, batch, time);
    if (length > me.steps) me.steps = length;
  }
  for (int j = 0; j < 2; ++j) me.length[j] = length_of(lengths, me.row + j, batch, time);
  return me;
}

DEVICE bool has_unit(const Place& me, int k) { return PADDED == HIDDEN || me.unit + k < HIDDEN; }

// Whether the thread's row j takes part in step t, with one unit at least.
DEVICE bool is_alive(const Place& me, int j, int t) {
  return t >= 0 && t < me.length[j] && has_unit(me, 0);
}

// Step number i in the order of the direction, which in reverse begins at the longest row's end.
DEVICE int step_at(const Place& me, int i, bool backwards) {
  return backwards ? me.steps - 1 - i : i;
}

// Offsets in the serial kernels are 32 bits wide: half the registers. The caller sees to it that no
// array is longer.
DEVICE int narrow(i64 number) { return static_cast<int>(number); }

// The number by which step t goes in memory: packed rows are counted from the sequence's beginning.
DEVICE int row_of(const i64* offsets, int t, i64 time) {
  const bool known = offsets != nullptr && static_cast<u32>(t) < static_cast<u32>(narrow(time));
  return known ? narrow(offsets[t]) : t;
}

// A thread's two rows of an array: [step, row of the batch, ...] by strides.
template <class T>
struct Rows {
  T* first[2];
  int step;
};

template <class T>
DEVICE Rows<T> rows_of(T* array, const Place& me, i64 step, i64 batch, i64 offset) {
  T* first = array + me.row * batch + offset + me.unit;
  return {{kept_address(first), kept_address(first + batch)}, narrow(step)};
}

template <class T>
DEVICE T* at(const Rows<T>& rows, int j, int row) {
  return rows.first[j] + row * rows.step;
}

// ---- Two units side by side --------------------------------------------------------------------

constexpr bool PAIRED = HIDDEN % 2 == 0;  // their numbers begin at a multiple of two
constexpr int WORDS = PAIRED && SIZE == 2 ? 1 : 2;
constexpr u32 ONE = TYPE == FLOAT16 ? 0x3c00 : TYPE == BFLOAT16 ? 0x3f80 : 0x3f800000;

// A row's numbers of the thread's two units, as they lie in memory.
struct Two {
  u32 words[WORDS];
};

// The number in a word's beginning.
DEVICE float number_in(u32 word) {
#if TYPE == FLOAT16 || TYPE == BFLOAT16
  return read(static_cast<u16>(word));
#else
  return as_float(word);
#endif
}

DEVICE float read(const Two& two, int k) {
  return number_in(WORDS == 1 ? two.words[0] >> 16 * k : two.words[k * (WORDS - 1)]);
}

// What lies at `from`; a unit that there is not keeps what it was.
DEVICE void load(Two& two, const Place& me, const Number* from) {
  if (PAIRED) return get_aligned(two.words, from);
  get_one(two.words[0], from);
  if (has_unit(me, 1)) get_one(two.words[WORDS - 1], from + 1);
}

DEVICE void store(Number* to, const Place& me, float first, float second) {
#if TYPE == FLOAT16 || TYPE == BFLOAT16
  const u32 words[1] = {to_pair(first, second)};
#else
  const u32 words[2] = {as_bits(first), as_bits(second)};
#endif
  if (PAIRED) return put_aligned(to, words);
  put_one(to, written(first));
  if (has_unit(me, 1)) put_one(to + 1, written(second));
}

// ---- The product -------------------------------------------------------------------------------

struct Weights {
  u32 held[3][HELD][4];
};

// Element (unit, k) of a gate's matrix, or of its transpose; zero beyond.
template <bool TRANSPOSED>
DEVICE Number element(const Number* weight, int gate, int unit, int k) {
  if (unit >= HIDDEN || k >= HIDDEN) return 0;
  const int row = gate * HIDDEN + (TRANSPOSED ? k : unit);
  return weight[static_cast<i64>(row) * HIDDEN + (TRANSPOSED ? unit : k)];
}

// The four bytes of a fragment that hold (unit, k) and, if there is room, (unit, k + 1).
template <bool TRANSPOSED>
DEVICE u32 word(const Number* weight, int gate, int unit, int k) {
#if TYPE == FLOAT16 || TYPE == BFLOAT16
  return element<TRANSPOSED>(weight, gate, unit, k) |
         static_cast<u32>(element<TRANSPOSED>(weight, gate, unit, k + 1)) << 16;
#elif TYPE == TF32
  return to_tf32(plain_bits(element<TRANSPOSED>(weight, gate, unit, k)));
#else
  return plain_bits(element<TRANSPOSED>(weight, gate, unit, k));
#endif
}

DEVICE u32 fragment_at(const Place& me, int gate, int tile) {
  return ((me.warp * 3 + gate) * (TILES - HELD) + tile - HELD) * FRAGMENT + me.lane * 16;
}

template <bool TRANSPOSED>
DEVICE void load_fragment(u32 (&words)[4], const Place& me, const Number* weight, int gate,
                          int tile) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int k = tile * TILE + me.lane % 4 * (4 / SIZE) + j / 2 * (TILE / 2);
    words[j] = word<TRANSPOSED>(weight, gate, me.unit + j % 2, k);
  }
}

template <bool TRANSPOSED>
DEVICE void load_weights(Weights& weights, const Place& me, const Number* weight) {
#pragma unroll
  for (int gate = 0; gate < 3; ++gate) {
#pragma unroll 1
    for (int tile = HELD; tile < TILES; ++tile) {
      u32 words[4];
      load_fragment<TRANSPOSED>(words, me, weight, gate, tile);
      put_words(fragment_at(me, gate, tile), words);
    }
  }
#pragma unroll
  for (int gate = 0; gate < 3; ++gate)
#pragma unroll
    for (int tile = 0; tile < HELD; ++tile)
      load_fragment<TRANSPOSED>(weights.held[gate][tile], me, weight, gate, tile);
}

struct Sum {
  float parts[PARTS][4];
};

DEVICE void begin(Sum& sum, const float (&with)[4]) {
#pragma unroll
  for (int part = 0; part < PARTS; ++part)
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.parts[part][e] = part ? 0.0f : with[e];
}

DEVICE float total(const Sum& sum, int e) {
  float all = sum.parts[PARTS - 1][e];
#pragma unroll
  for (int part = PARTS - 2; part >= 0; --part) all += sum.parts[part][e];
  return all;
}

DEVICE void add_product(Sum& sum, const u32 (&a)[4], u32 b0, u32 b1) {
#if TYPE == FLOAT32
  // Each number is a TF32 number and what is left, of 12 bits, of which the tensor cores see 11.
  // The product of what is left of both is below float32's rounding.
  u32 high[4], low[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    high[j] = to_tf32(a[j]);
    low[j] = as_bits(as_float(a[j]) - as_float(high[j]));
  }
  const u32 high0 = to_tf32(b0), high1 = to_tf32(b1);
  const u32 low0 = as_bits(as_float(b0) - as_float(high0));
  const u32 low1 = as_bits(as_float(b1) - as_float(high1));
  tensor_product(sum.parts[0], high, high0, high1);
  tensor_product(sum.parts[1], high, low0, low1);
  tensor_product(sum.parts[2], low, high0, high1);
#else
  tensor_product(sum.parts[0], a, b0, b1);
#endif
}

// sums[gate] += W_gate times the rows at `factor + gate * apart`, for FIRST <= gate < LAST.
template <int FIRST, int LAST>
DEVICE void multiply(Sum (&sums)[3], const Weights& weights, const Place& me, u32 factor,
                     u32 apart) {
  const u32 mine = factor + me.lane % 8 * ROW + me.lane / 8 * 16;
#pragma unroll
  for (int tile = 0; tile < TILES; tile += 2) {
    u32 b[4];
#pragma unroll
    for (int gate = FIRST; gate < LAST; ++gate) {
      if (gate == FIRST || apart) load_matrices(b, mine + gate * apart + tile * 32);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        u32 a[4];
        if (tile + j < HELD) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            a[i] = unforeseen(weights.held[gate][tile + j < HELD ? tile + j : 0][i]);
        } else {
          get_words(a, fragment_at(me, gate, tile + j));
        }
        add_product(sums[gate], a, b[2 * j], b[2 * j + 1]);
      }
    }
  }
}

// Put the thread's cells of row j into the rows at `factor`, in every block of the cluster.
DEVICE void put_factor(const Place& me, u32 factor, int j, float first, float second) {
  const u32 place = factor + (me.lane % 4 * 2 + j) * ROW + me.unit * SIZE;
#if TYPE == FLOAT16 || TYPE == BFLOAT16
  const u32 words[1] = {to_pair(first, second)};
#else
  const u32 words[2] = {as_factor(first), as_factor(second)};
#endif
  put_everywhere(place, words);
}

DEVICE void barrier() {
  arrive();
  wait();
}

// ---- Forward -----------------------------------------------------------------------------------

struct Forward {
  const Number* x_gates;  // IN  [time, batch, direction, 3, hidden] by strides
  i64 x_gates_time, x_gates_batch;  // strides in numbers; packed rows have the same for both
  const Number* weight_hh[2];  // IN  [3 * hidden, hidden] of each direction
  const Number* bias_hh[2];  // IN  [3 * hidden] or null
  const Number* h_0;  // IN  [direction, batch, hidden] or null
  const Number* keep;  // IN  [time, batch, 1 or hidden] by strides, or null
  i64 keep_time, keep_batch, keep_unit;
  const i64* lengths;  // IN  [batch] or null
  const i64* offsets;  // IN  [time]: first row of each step of packed rows, or null
  Number* output;  // OUT [time, batch, direction, hidden] by strides
  i64 output_time, output_batch;
  Number* h_n;  // OUT [direction, batch, hidden]
  Number* gates;  // OUT [gate, time, batch, direction, hidden] by strides, or null
  i64 gates_gate, gates_time, gates_batch;
  i64 time, batch;
};

// What the inputs give to the gates of the thread's rows at a step, if they take part in it.
DEVICE void load_inputs(Two (&x)[3][2], const Rows<const Number>& from, const Place& me, int t,
                        int row) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    if (!is_alive(me, j, t)) continue;
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) load(x[gate][j], me, at(from, j, row) + gate * HIDDEN);
  }
}

// What the state of the thread's cells is multiplied with before a step, if they take part in it.
template <class Arguments>
DEVICE void load_keep(u32 (&keep)[4], const Arguments& p, const Place& me, int t) {
  if (p.keep == nullptr) return;
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (is_alive(me, e % 2, t) && has_unit(me, e / 2))
      get_one(keep[e], p.keep + t * narrow(p.keep_time) + (me.row + e % 2) * narrow(p.keep_batch) +
                           (me.unit + e / 2) * narrow(p.keep_unit));
}

// The states that a call begins with, or the gradients of those that it ends with.
DEVICE void load_states(float (&h)[4], const Number* states, const Place& me, i64 batch) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const i64 row = me.row + e % 2, unit = me.unit + e / 2;
    const bool there = states != nullptr && row < batch && has_unit(me, e / 2);
    h[e] = there ? read(states[(me.direction * batch + row) * HIDDEN + unit]) : 0.0f;
  }
}

DEVICE void store_states(Number* states, const float (&h)[4], const Place& me, i64 batch) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const i64 row = me.row + e % 2, unit = me.unit + e / 2;
    if (states != nullptr && row < batch && has_unit(me, e / 2))
      states[(me.direction * batch + row) * HIDDEN + unit] = written(h[e]);
  }
}

// A gate of the thread's cells, from its input and its sum.
DEVICE void open(float (&gate)[4], const Two (&x)[2], const Sum& sum) {
#pragma unroll
  for (int e = 0; e < 4; ++e) gate[e] = sigmoid(read(x[e % 2], e / 2) + total(sum, e));
}

DEVICE void store_gates(const Forward& p, const Place& me, int t, int row, const float (&r)[4],
                        const float (&z)[4], const float (&n)[4]) {
  const Rows<Number> to = rows_of(p.gates, me, p.gates_time, p.gates_batch, me.direction * HIDDEN);
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    if (!is_alive(me, j, t)) continue;
    store(at(to, j, row), me, r[j], r[j + 2]);
    store(at(to, j, row) + p.gates_gate, me, z[j], z[j + 2]);
    store(at(to, j, row) + 2 * p.gates_gate, me, n[j], n[j + 2]);
  }
}

KERNEL(gru_forward, Forward) {
  const Place me = find_place(p.lengths, p.batch, p.time);
  const bool reverse = me.direction == 1;
  Weights weights;
  load_weights<false>(weights, me, p.weight_hh[me.direction]);
  const Number* bias_hh = p.bias_hh[me.direction];
  float bias[3][4];
#pragma unroll
  for (int gate = 0; gate < 3; ++gate)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      bias[gate][e] = bias_hh != nullptr && has_unit(me, e / 2)
                          ? read(bias_hh[gate * HIDDEN + me.unit + e / 2])
                          : 0.0f;

#if CLUSTER > 1
  barrier();  // every block of the cluster has begun, and can be written to
#endif
  float h[4], kept[4];
  u32 keep[4] = {ONE, ONE, ONE, ONE};
  load_states(h, p.h_0, me, p.batch);
  load_keep(keep, p, me, step_at(me, 0, reverse));
#pragma unroll
  for (int e = 0; e < 4; ++e) kept[e] = h[e] * number_in(keep[e]);
  load_keep(keep, p, me, step_at(me, 1, reverse));
#pragma unroll
  for (int j = 0; j < 2; ++j) put_factor(me, FACTORS, j, kept[j], kept[j + 2]);
  const Rows<const Number> inputs =
      rows_of(p.x_gates, me, p.x_gates_time, p.x_gates_batch, me.direction * 3 * HIDDEN);
  const Rows<Number> output =
      rows_of(p.output, me, p.output_time, p.output_batch, me.direction * HIDDEN);
  // The row of a step is known a step before its numbers are asked for.
  int this_row = row_of(p.offsets, step_at(me, 0, reverse), p.time);
  int next_row = row_of(p.offsets, step_at(me, 1, reverse), p.time);
  Two x[3][2] = {};
  load_inputs(x, inputs, me, step_at(me, 0, reverse), this_row);
  barrier();

#pragma unroll 1
  for (int i = 0; i < me.steps; ++i) {
    const int t = step_at(me, i, reverse), next = step_at(me, i + 1, reverse);
    const u32 now = FACTORS + (i & 1) * FACTOR, then = FACTORS + ((i + 1) & 1) * FACTOR;
    Sum sums[3];
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) begin(sums[gate], bias[gate]);
    float r[4], z[4], n[4];
#if RESET_BEFORE
    multiply<0, 2>(sums, weights, me, now, 0);
    const u32 reset = FACTORS + 2 * FACTOR;
    open(r, x[0], sums[0]);
#pragma unroll
    for (int j = 0; j < 2; ++j) put_factor(me, reset, j, r[j] * kept[j], r[j + 2] * kept[j + 2]);
    barrier();
    multiply<2, 3>(sums, weights, me, reset, 0);
#else
    multiply<0, 3>(sums, weights, me, now, 0);
    open(r, x[0], sums[0]);
#endif
    open(z, x[1], sums[1]);

#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float h_n = total(sums[2], e);
      n[e] = hyperbolic_tangent(read(x[2][e % 2], e / 2) + (RESET_BEFORE ? h_n : r[e] * h_n));
      if (is_alive(me, e % 2, t)) h[e] = n[e] + z[e] * (kept[e] - n[e]);
      kept[e] = h[e] * number_in(keep[e]);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) put_factor(me, then, j, kept[j], kept[j + 2]);
    arrive();
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if (is_alive(me, j, t)) store(at(output, j, this_row), me, h[j], h[j + 2]);
    if (p.gates != nullptr) store_gates(p, me, t, this_row, r, z, n);
    load_inputs(x, inputs, me, next, next_row);
    load_keep(keep, p, me, step_at(me, i + 2, reverse));
    this_row = next_row;
    next_row = row_of(p.offsets, step_at(me, i + 2, reverse), p.time);
    wait();
  }
  store_states(p.h_n, h, me, p.batch);
}

// ---- Backward ----------------------------------------------------------------------------------
//
// Of the forward pass only the outputs are kept. Three passes over all steps at once make from them
// what the serial pass multiplies with, five numbers a cell:
//
//   c_n = (1 - z) (1 - n^2)          d_n = c_n d_h      d_h: of the state that the step returned
//   c_r = c_n (W_hn h + b_hn) r (1 - r)    d_r = c_r d_h    (of the gates: before their functions)
//   c_z = (h - n) z (1 - z)          d_z = c_z d_h
//   c_h = c_n r                      of W_hn h + b_hn
//   z                                d_h passes to the state before
//
// and with RESET_BEFORE, where d_m = W_hn^T d_n is the gradient of r * h,
//
//   c_r = h r (1 - r)                d_r = c_r d_m
//   r, in place of c_h               d_m passes to the state before

constexpr int COEFFICIENTS = 5;  // n, r, z, h, and the share of the old state
constexpr int C_N = 0, C_R = 1, C_Z = 2, C_H = 3, C_OLD = 4;

struct Backward {
  const Number* coefficients;  // IN  [direction, row, 5, hidden]
  const Number* weight_hh[2];  // IN  [3 * hidden, hidden] of each direction
  const Number* d_output;  // IN  [time, batch, direction, hidden] by strides, or null
  i64 d_output_time, d_output_batch;
  const Number* d_h_n;  // IN  [direction, batch, hidden] or null
  const Number* keep;  // IN  as in Forward
  i64 keep_time, keep_batch, keep_unit;
  const i64* lengths;  // IN  [batch] or null
  const i64* offsets;  // IN  [time] or null
  Number* d_state;  // OUT [direction, row, hidden]: d_h of each step
  Number* d_reset;  // OUT [direction, row, hidden]: d_m, with RESET_BEFORE
  Number* d_kept;  // OUT [direction, row, hidden]: of keep_t * h_{t-1}; or null
  Number* d_h_0;  // OUT [direction, batch, hidden] or null
  i64 time, batch;
  i64 rows, row_step;  // rows in all, and of a step: batch, or 1 where rows are packed
};

// What a step wants of global memory: its coefficients, and the gradient of its output.
struct Inflow {
  Two c[COEFFICIENTS][2];
  Two d_output[2];
};

// The coefficients FIRST and further, before LAST, of the thread's rows that take part in a step.
template <int FIRST, int LAST>
DEVICE void load_coefficients(Inflow& in, const Rows<const Number>& from, const Place& me, int t,
                              int row) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    if (!is_alive(me, j, t)) continue;
#pragma unroll
    for (int c = FIRST; c < LAST; ++c) load(in.c[c][j], me, at(from, j, row) + c * HIDDEN);
  }
}

DEVICE void load_gradients(Inflow& in, const Backward& p, const Rows<const Number>& from,
                           const Place& me, int t, int row) {
  if (p.d_output == nullptr) return;
#pragma unroll
  for (int j = 0; j < 2; ++j)
    if (is_alive(me, j, t)) load(in.d_output[j], me, at(from, j, row));
}

// Into an array [direction, row, hidden].
DEVICE void store_rows(Number* array, const Backward& p, const Place& me, int t, int row,
                       const float (&values)[4]) {
  const Rows<Number> to =
      rows_of(array, me, p.row_step * HIDDEN, HIDDEN, me.direction * p.rows * HIDDEN);
#pragma unroll
  for (int j = 0; j < 2; ++j)
    if (is_alive(me, j, t)) store(at(to, j, row), me, values[j], values[j + 2]);
}

KERNEL(gru_backward, Backward) {
  constexpr int FIRST = RESET_BEFORE ? C_N : C_R;
  const Place me = find_place(p.lengths, p.batch, p.time);
  const bool forth = me.direction == 1;  // against the order of the forward pass
  Weights weights;
  load_weights<true>(weights, me, p.weight_hh[me.direction]);
  float d_h[4];
  load_states(d_h, p.d_h_n, me, p.batch);
  const i64 first = me.direction * p.rows * HIDDEN;
  const Rows<const Number> coefficients =
      rows_of(p.coefficients, me, p.row_step * COEFFICIENTS * HIDDEN, COEFFICIENTS * HIDDEN,
              first * COEFFICIENTS);
  const Rows<const Number> d_outputs =
      rows_of(p.d_output, me, p.d_output_time, p.d_output_batch, me.direction * HIDDEN);
  int this_row = row_of(p.offsets, step_at(me, 0, !forth), p.time);
  int next_row = row_of(p.offsets, step_at(me, 1, !forth), p.time);
  u32 keep[4] = {ONE, ONE, ONE, ONE};
  load_keep(keep, p, me, step_at(me, 0, !forth));
  Inflow in = {};
  load_coefficients<FIRST, COEFFICIENTS>(in, coefficients, me, step_at(me, 0, !forth), this_row);
  load_gradients(in, p, d_outputs, me, step_at(me, 0, !forth), this_row);
  if (CLUSTER > 1 || TILES > HELD) barrier();  // the fragments in shared memory are there

#pragma unroll 1
  for (int i = 0; i < me.steps; ++i) {
    const int t = step_at(me, i, !forth), next = step_at(me, i + 1, !forth);
    const u32 now = FACTORS + (i & 1) * 3 * FACTOR;
    float d_state[4];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      // Of a row that takes no part these are any numbers: a product's rows know nothing of each
      // other, and of such a row nothing is kept.
      float c[COEFFICIENTS][2];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        d_state[j + 2 * k] = d_h[j + 2 * k] + read(in.d_output[j], k);
#pragma unroll
        for (int g = FIRST; g < C_OLD; ++g) c[g][k] = read(in.c[g][j], k) * d_state[j + 2 * k];
      }
#if RESET_BEFORE
      put_factor(me, now + 2 * FACTOR, j, c[C_N][0], c[C_N][1]);
      put_factor(me, now + FACTOR, j, c[C_Z][0], c[C_Z][1]);
#else
#pragma unroll
      for (int gate = 0; gate < 3; ++gate)
        put_factor(me, now + gate * FACTOR, j, c[C_R + gate][0], c[C_R + gate][1]);
#endif
    }
    arrive();
    store_rows(p.d_state, p, me, t, this_row, d_state);
#if RESET_BEFORE
    load_coefficients<C_N, C_R>(in, coefficients, me, next, next_row);
    load_coefficients<C_Z, C_H>(in, coefficients, me, next, next_row);
#else
    load_coefficients<C_R, C_OLD>(in, coefficients, me, next, next_row);
#endif
    load_gradients(in, p, d_outputs, me, next, next_row);
    wait();

    const float nothing[4] = {};
    Sum sums[3];
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) begin(sums[gate], nothing);
    float d_kept[4];
#if RESET_BEFORE
    multiply<1, 3>(sums, weights, me, now, FACTOR);
    float d_reset[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) d_reset[e] = total(sums[2], e);
#pragma unroll
    for (int j = 0; j < 2; ++j)
      put_factor(me, now, j, read(in.c[C_R][j], 0) * d_reset[j],
                 read(in.c[C_R][j], 1) * d_reset[j + 2]);
    arrive();
    store_rows(p.d_reset, p, me, t, this_row, d_reset);
    wait();
    multiply<0, 1>(sums, weights, me, now, FACTOR);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      d_kept[e] = read(in.c[C_OLD][e % 2], e / 2) * d_state[e] +
                  read(in.c[C_H][e % 2], e / 2) * d_reset[e] +
                  (total(sums[0], e) + total(sums[1], e));
#else
    multiply<0, 3>(sums, weights, me, now, FACTOR);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      d_kept[e] = read(in.c[C_OLD][e % 2], e / 2) * d_state[e] +
                  (total(sums[0], e) + total(sums[1], e) + total(sums[2], e));
#endif
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      if (!is_alive(me, j, t)) continue;
      d_h[j] = number_in(keep[j]) * d_kept[j];
      d_h[j + 2] = number_in(keep[j + 2]) * d_kept[j + 2];
    }
    load_keep(keep, p, me, next);
#if RESET_BEFORE
    load_coefficients<C_R, C_Z>(in, coefficients, me, next, next_row);
    load_coefficients<C_H, COEFFICIENTS>(in, coefficients, me, next, next_row);
#else
    load_coefficients<C_OLD, COEFFICIENTS>(in, coefficients, me, next, next_row);
#endif
    if (p.d_kept != nullptr) store_rows(p.d_kept, p, me, t, this_row, d_kept);
    this_row = next_row;
    next_row = row_of(p.offsets, step_at(me, i + 2, !forth), p.time);
  }
#if CLUSTER > 1
  barrier();  // no block leaves while another may still write to it
#endif
  store_states(p.d_h_0, d_h, me, p.batch);
}

// ---- Passes over all steps at once -------------------------------------------------------------
//
// A block has one step of one direction, and a share of its cells.

struct Cell {
  i64 batch_row, row;  // row: of [direction, row, ...]
  int t, direction, unit;
  bool alive;
};

template <class Arguments>
DEVICE Cell cell_at(const Arguments& p, i64 index) {
  Cell cell;
  cell.t = block_x();
  cell.direction = block_y();
  cell.batch_row = index / HIDDEN;
  cell.unit = static_cast<int>(index % HIDDEN);
  cell.alive = cell.t < length_of(p.lengths, cell.batch_row, p.batch, p.time);
  cell.row = cell.direction * p.rows +
             static_cast<i64>(row_of(p.offsets, cell.t, p.time)) * p.row_step + cell.batch_row;
  return cell;
}

#define FOR_EACH_CELL(p)                                                                         \
  for (i64 index = thread() + static_cast<i64>(block_z()) * threads(); index < p.batch * HIDDEN; \
       index += static_cast<i64>(threads()) * blocks_z())

struct Previous {
  const Number* output;  // IN  [time, batch, direction, hidden] by strides
  i64 output_time, output_batch;
  const Number* h_0;  // IN  [direction, batch, hidden] or null
  const Number* keep;  // IN  as in Forward
  i64 keep_time, keep_batch, keep_unit;
  const i64* lengths;  // IN  [batch] or null
  const i64* offsets;  // IN  [time] or null
  Number* previous;  // OUT [direction, row, hidden]: h_{t-1}; zero past a row's end
  Number* kept;  // OUT [direction, row, hidden]: keep_t * h_{t-1}; or null
  i64 time, batch;
  i64 rows, row_step;
};

// The state before each step.
ELEMENTWISE(gru_previous, Previous) {
  FOR_EACH_CELL(p) {
    const Cell cell = cell_at(p, index);
    // Packed, a row past its end has no place.
    if (!cell.alive && p.offsets != nullptr) continue;
    const int before = cell.direction == 1 ? cell.t + 1 : cell.t - 1;
    const int length = length_of(p.lengths, cell.batch_row, p.batch, p.time);
    Number h = 0;
    if (cell.alive && before >= 0 && before < length)
      h = p.output[row_of(p.offsets, before, p.time) * p.output_time +
                   cell.batch_row * p.output_batch + cell.direction * HIDDEN + cell.unit];
    else if (cell.alive && p.h_0 != nullptr)
      h = p.h_0[(cell.direction * p.batch + cell.batch_row) * HIDDEN + cell.unit];
    p.previous[cell.row * HIDDEN + cell.unit] = h;
    if (p.kept == nullptr) continue;
    const float keep = cell.alive
                           ? read(p.keep[cell.t * p.keep_time + cell.batch_row * p.keep_batch +
                                         cell.unit * p.keep_unit])
                           : 0.0f;
    p.kept[cell.row * HIDDEN + cell.unit] = written(keep * read(h));
  }
}

struct Coefficients {
  const Number* x_gates;  // IN  [time, batch, direction, 3, hidden] by strides
  i64 x_gates_time, x_gates_batch;
  const Number* h_gates;  // IN  [direction, row, 3 or 2, hidden]: W_h times the state before
  const Number* h_candidate;  // IN  [direction, row, hidden]: W_hn (r * h), with RESET_BEFORE
  const Number* bias_hh[2];  // IN  [3 * hidden] of each direction, or null
  const Number* previous;  // IN  [direction, row, hidden], kept
  const i64* lengths;  // IN  [batch] or null
  const i64* offsets;  // IN  [time] or null
  Number* product;  // OUT [direction, row, hidden]: r * h
  Number* coefficients;  // OUT [direction, row, 5, hidden]
  i64 time, batch;
  i64 rows, row_step;
};

// The sum that a gate's function is taken of, but for what the candidate adds of the state.
DEVICE float gate_sum(const Coefficients& p, const Cell& cell, int gate) {
  constexpr int FROM_STATE = RESET_BEFORE ? 2 : 3;
  const Number* bias_hh = p.bias_hh[cell.direction];
  const i64 row = row_of(p.offsets, cell.t, p.time);
  const float x = read(p.x_gates[row * p.x_gates_time + cell.batch_row * p.x_gates_batch +
                                 (cell.direction * 3 + gate) * HIDDEN + cell.unit]);
  const float h = read(p.h_gates[(cell.row * FROM_STATE + gate) * HIDDEN + cell.unit]);
  return x + (h + (bias_hh == nullptr ? 0.0f : read(bias_hh[gate * HIDDEN + cell.unit])));
}

#if RESET_BEFORE
// r * h, which the candidate's matrix is multiplied with.
ELEMENTWISE(gru_reset, Coefficients) {
  FOR_EACH_CELL(p) {
    const Cell cell = cell_at(p, index);
    if (!cell.alive && p.offsets != nullptr) continue;
    const i64 at = cell.row * HIDDEN + cell.unit;
    const float r = cell.alive ? sigmoid(gate_sum(p, cell, 0)) : 0.0f;
    p.product[at] = written(r * read(p.previous[at]));
  }
}
#endif

ELEMENTWISE(gru_coefficients, Coefficients) {
  FOR_EACH_CELL(p) {
    const Cell cell = cell_at(p, index);
    if (!cell.alive && p.offsets != nullptr) continue;
    float c[COEFFICIENTS] = {};
    if (cell.alive) {
      const Number* bias_hh = p.bias_hh[cell.direction];
      const float bias = bias_hh == nullptr ? 0.0f : read(bias_hh[2 * HIDDEN + cell.unit]);
      const float x_n = read(p.x_gates[row_of(p.offsets, cell.t, p.time) * p.x_gates_time +
                                       cell.batch_row * p.x_gates_batch +
                                       (cell.direction * 3 + 2) * HIDDEN + cell.unit]);
      const float h = read(p.previous[cell.row * HIDDEN + cell.unit]);
      const float r = sigmoid(gate_sum(p, cell, 0)), z = sigmoid(gate_sum(p, cell, 1));
#if RESET_BEFORE
      const float h_n = read(p.h_candidate[cell.row * HIDDEN + cell.unit]) + bias;
      const float n = hyperbolic_tangent(x_n + h_n);
#else
      const float h_n = read(p.h_gates[(cell.row * 3 + 2) * HIDDEN + cell.unit]) + bias;
      const float n = hyperbolic_tangent(x_n + r * h_n);
#endif
      c[C_N] = (1.0f - z) * (1.0f - n * n);
      c[C_Z] = (h - n) * z * (1.0f - z);
      c[C_R] = (RESET_BEFORE ? h : c[C_N] * h_n) * r * (1.0f - r);
      c[C_H] = RESET_BEFORE ? r : c[C_N] * r;
      c[C_OLD] = z;
    }
#pragma unroll
    for (int i = 0; i < COEFFICIENTS; ++i)
      p.coefficients[(cell.row * COEFFICIENTS + i) * HIDDEN + cell.unit] = written(c[i]);
  }
}
