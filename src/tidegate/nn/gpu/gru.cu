// A GRU over a whole sequence in one launch, its weights on the chip from first step to last.
//
//   r = sigmoid(x_r + W_hr h + b_hr)      x_r, x_z, x_n: the product of all inputs with their
//   z = sigmoid(x_z + W_hz h + b_hz)      weights, made before by one library product
//   n = tanh(x_n + r * (W_hn h + b_hn))   with RESET_BEFORE: n = tanh(x_n + W_hn (r * h) + b_hn)
//   h_t = (1 - z) * n + z * h             h is keep_t * h_{t-1}
//
// A block, or a cluster of blocks, owns 8 rows of the batch and one direction. A warp owns 16 units,
// the same of every gate, so that the gates of a cell meet in one thread; a thread owns 2 units of
// 2 rows. The weights are the left factor of tensor-core products, held as fragments: the first
// HELD tiles in registers, the rest in shared memory. The state is the right factor: 8 rows in
// shared memory, twice, so that one is read while the other is written: one barrier a step.
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
#if TYPE == FLOAT16
  return to_half(value);
#elif TYPE == BFLOAT16
  return to_bfloat(value);
#else
  return value;
#endif
}

// The bits of a number; of what is not one, those that rounding leaves so. A GPU's own NaN has all
// bits set, and would be rounded up to zero.
DEVICE u32 plain_bits(float value) { return value == value ? as_bits(value) : 0x7fc00000u; }

// The nearest number of 11 significant bits; of plain bits.
DEVICE u32 to_tf32(u32 bits) { return (bits + 0x1000u) & 0xffffe000u; }

// A number as the tensor cores read it.
DEVICE Number as_factor(float value) {
#if TYPE == TF32
  return as_float(to_tf32(plain_bits(value)));
#elif TYPE == FLOAT32
  return as_float(plain_bits(value));
#else
  return written(value);
#endif
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

// Of the four cells of a thread, cell e is row `row + e % 2` and unit `unit + e / 2 * 8`.
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
  me.unit = me.rank * UNITS + me.warp * 16 + me.lane / 4;
  me.steps = 0;
  for (int row = first; row < first + ROWS; ++row) {
    const int length = length_of(lengths, row, batch, time);
    if (length > me.steps) me.steps = length;
  }
  for (int j = 0; j < 2; ++j) me.length[j] = length_of(lengths, me.row + j, batch, time);
  return me;
}

DEVICE bool has_unit(const Place& me, int e) {
  return PADDED == HIDDEN || me.unit + e / 2 * 8 < HIDDEN;
}

// Whether the thread's cell e takes part in step t.
DEVICE bool is_alive(const Place& me, int e, int t) {
  return t >= 0 && t < me.length[e % 2] && has_unit(me, e);
}

// Step number i in the order of the direction, which in reverse begins at the longest row's end.
DEVICE int step_at(const Place& me, int i, bool backwards) {
  return backwards ? me.steps - 1 - i : i;
}

// The number by which step t goes in memory: packed rows are counted from the sequence's beginning.
DEVICE int row_of(const i64* offsets, int t, i64 time) {
  return offsets == nullptr || t < 0 || t >= time ? t : static_cast<int>(offsets[t]);
}

// Offsets in the serial kernels are 32 bits wide: half the registers. The caller sees to it that no
// array is longer.
DEVICE int narrow(i64 number) { return static_cast<int>(number); }

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
    words[j] = word<TRANSPOSED>(weight, gate, me.unit + j % 2 * 8, k);
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

DEVICE void clear(Sum& sum) {
#pragma unroll
  for (int part = 0; part < PARTS; ++part)
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.parts[part][e] = 0.0f;
}

DEVICE float total(const Sum& sum, int e) {
  float all = sum.parts[PARTS - 1][e];
#pragma unroll
  for (int part = PARTS - 2; part >= 0; --part) all += sum.parts[part][e];
  return all;
}

DEVICE void add_product(Sum& sum, const u32 (&a)[4], u32 b0, u32 b1) {
#if TYPE == FLOAT32
  // Each number is a TF32 number and what is left, itself of about 11 bits. The product of what is
  // left of both is below float32's rounding.
  u32 high[4], low[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    high[j] = to_tf32(a[j]);
    low[j] = to_tf32(as_bits(as_float(a[j]) - as_float(high[j])));
  }
  const u32 high0 = to_tf32(b0), high1 = to_tf32(b1);
  const u32 low0 = to_tf32(as_bits(as_float(b0) - as_float(high0)));
  const u32 low1 = to_tf32(as_bits(as_float(b1) - as_float(high1)));
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

// Put the thread's cell e into the rows at `factor`, in every block of the cluster.
DEVICE void put_factor(const Place& me, u32 factor, int e, float value) {
  const u32 unit = me.unit + e / 2 * 8, row = me.lane % 4 * 2 + e % 2;
  put_everywhere(factor + row * ROW + unit * SIZE, as_factor(value));
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

// What the inputs give to the gates of the thread's cells at a step.
DEVICE void load_inputs(Number (&x)[3][4], const Forward& p, const Place& me, int t, int row) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const bool alive = is_alive(me, e, t);
    const Number* from = p.x_gates + row * narrow(p.x_gates_time) +
                         (me.row + e % 2) * narrow(p.x_gates_batch) + me.direction * 3 * HIDDEN +
                         me.unit;
#pragma unroll
    for (int gate = 0; gate < 3; ++gate)
      x[gate][e] = alive ? from[gate * HIDDEN + e / 2 * 8] : Number(0);
  }
}

template <class Arguments>
DEVICE float load_keep(const Arguments& p, const Place& me, int e, int t) {
  if (p.keep == nullptr || !is_alive(me, e, t)) return 1.0f;
  return read(p.keep[t * narrow(p.keep_time) + (me.row + e % 2) * narrow(p.keep_batch) +
                     (me.unit + e / 2 * 8) * narrow(p.keep_unit)]);
}

KERNEL(gru_forward, Forward) {
  const Place me = find_place(p.lengths, p.batch, p.time);
  const bool reverse = me.direction == 1;
  Weights weights;
  load_weights<false>(weights, me, p.weight_hh[me.direction]);
  const Number* bias_hh = p.bias_hh[me.direction];
  float bias[3][2];
#pragma unroll
  for (int gate = 0; gate < 3; ++gate)
#pragma unroll
    for (int j = 0; j < 2; ++j)
      bias[gate][j] = bias_hh != nullptr && has_unit(me, 2 * j)
                          ? read(bias_hh[gate * HIDDEN + me.unit + j * 8])
                          : 0.0f;

#if CLUSTER > 1
  barrier();  // every block of the cluster has begun, and can be written to
#endif
  float h[4], kept[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const i64 row = me.row + e % 2, unit = me.unit + e / 2 * 8;
    const bool there = p.h_0 != nullptr && row < p.batch && has_unit(me, e);
    h[e] = there ? read(p.h_0[(me.direction * p.batch + row) * HIDDEN + unit]) : 0.0f;
    kept[e] = h[e] * load_keep(p, me, e, step_at(me, 0, reverse));
    put_factor(me, FACTORS, e, kept[e]);
  }
  // The row of a step is known a step before its numbers are asked for.
  int this_row = row_of(p.offsets, step_at(me, 0, reverse), p.time);
  int next_row = row_of(p.offsets, step_at(me, 1, reverse), p.time);
  Number x[3][4];
  load_inputs(x, p, me, step_at(me, 0, reverse), this_row);
  barrier();

#pragma unroll 1
  for (int i = 0; i < me.steps; ++i) {
    const int t = step_at(me, i, reverse), next = step_at(me, i + 1, reverse);
    const u32 now = FACTORS + (i & 1) * FACTOR, then = FACTORS + ((i + 1) & 1) * FACTOR;
    float x_gate[3][4], keep_next[4];
#pragma unroll
    for (int gate = 0; gate < 3; ++gate)
#pragma unroll
      for (int e = 0; e < 4; ++e) x_gate[gate][e] = read(x[gate][e]);
    // In flight while the products are made.
    load_inputs(x, p, me, next, next_row);
#pragma unroll
    for (int e = 0; e < 4; ++e) keep_next[e] = load_keep(p, me, e, next);

    Sum sums[3];
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) clear(sums[gate]);
#if RESET_BEFORE
    multiply<0, 2>(sums, weights, me, now, 0);
    float r[4];
    const u32 reset = FACTORS + 2 * FACTOR;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      r[e] = sigmoid(x_gate[0][e] + (total(sums[0], e) + bias[0][e / 2]));
      put_factor(me, reset, e, r[e] * kept[e]);
    }
    barrier();
    multiply<2, 3>(sums, weights, me, reset, 0);
#else
    multiply<0, 3>(sums, weights, me, now, 0);
#endif

#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float h_n = total(sums[2], e) + bias[2][e / 2];
      const float z = sigmoid(x_gate[1][e] + (total(sums[1], e) + bias[1][e / 2]));
#if RESET_BEFORE
      const float n = hyperbolic_tangent(x_gate[2][e] + h_n);
#else
      float r[4];
      r[e] = sigmoid(x_gate[0][e] + (total(sums[0], e) + bias[0][e / 2]));
      const float n = hyperbolic_tangent(x_gate[2][e] + r[e] * h_n);
#endif
      const bool alive = is_alive(me, e, t);
      if (alive) h[e] = n + z * (kept[e] - n);
      kept[e] = h[e] * keep_next[e];
      put_factor(me, then, e, kept[e]);
      if (alive) {
        const int cell = me.direction * HIDDEN + me.unit, row = me.row + e % 2;
        Number* output =
            p.output + this_row * narrow(p.output_time) + row * narrow(p.output_batch) + cell;
        output[e / 2 * 8] = written(h[e]);
        if (p.gates != nullptr) {
          Number* gates = p.gates + this_row * narrow(p.gates_time) + row * narrow(p.gates_batch) +
                          cell + e / 2 * 8;
          gates[0] = written(r[e]);
          gates[narrow(p.gates_gate)] = written(z);
          gates[2 * narrow(p.gates_gate)] = written(n);
        }
      }
    }
    this_row = next_row;
    next_row = row_of(p.offsets, step_at(me, i + 2, reverse), p.time);
    barrier();
  }

#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const i64 row = me.row + e % 2, unit = me.unit + e / 2 * 8;
    if (row < p.batch && has_unit(me, e))
      p.h_n[(me.direction * p.batch + row) * HIDDEN + unit] = written(h[e]);
  }
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

struct Inflow {
  Number c[4][4];  // r, z, h, share of the old state; of each cell
  Number d_output[4];
};

// Where the unit of the thread's cell 0 or 1 lies in an array [direction, row, hidden].
DEVICE int cell_of(const Backward& p, const Place& me, int e, int row) {
  return (me.direction * narrow(p.rows) + row * narrow(p.row_step) + me.row + e % 2) * HIDDEN +
         me.unit;
}

DEVICE const Number* coefficients_of(const Backward& p, const Place& me, int e, int row) {
  return p.coefficients + cell_of(p, me, e, row) * COEFFICIENTS - me.unit * (COEFFICIENTS - 1);
}

DEVICE void load_inflow(Inflow& in, const Backward& p, const Place& me, int t, int row) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const bool alive = is_alive(me, e, t);
    const Number* from = coefficients_of(p, me, e, row);
#pragma unroll
    for (int c = 0; c < 4; ++c) in.c[c][e] = alive ? from[(c + 1) * HIDDEN + e / 2 * 8] : Number(0);
    const Number* d_output = p.d_output + row * narrow(p.d_output_time) +
                             (me.row + e % 2) * narrow(p.d_output_batch) + me.direction * HIDDEN +
                             me.unit;
    in.d_output[e] = alive && p.d_output != nullptr ? d_output[e / 2 * 8] : Number(0);
  }
}

#if RESET_BEFORE
DEVICE void load_candidate(Number (&c_n)[4], const Backward& p, const Place& me, int t, int row) {
#pragma unroll
  for (int e = 0; e < 4; ++e)
    c_n[e] = is_alive(me, e, t) ? coefficients_of(p, me, e, row)[e / 2 * 8] : Number(0);
}
#endif

KERNEL(gru_backward, Backward) {
  const Place me = find_place(p.lengths, p.batch, p.time);
  const bool forth = me.direction == 1;  // against the order of the forward pass
  Weights weights;
  load_weights<true>(weights, me, p.weight_hh[me.direction]);
  float d_h[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const i64 row = me.row + e % 2, unit = me.unit + e / 2 * 8;
    const bool there = p.d_h_n != nullptr && row < p.batch && has_unit(me, e);
    d_h[e] = there ? read(p.d_h_n[(me.direction * p.batch + row) * HIDDEN + unit]) : 0.0f;
  }
  int this_row = row_of(p.offsets, step_at(me, 0, !forth), p.time);
  int next_row = row_of(p.offsets, step_at(me, 1, !forth), p.time);
  Inflow inflow;
  load_inflow(inflow, p, me, step_at(me, 0, !forth), this_row);
#if RESET_BEFORE
  Number c_n[4];
  load_candidate(c_n, p, me, step_at(me, 0, !forth), this_row);
#endif
  if (CLUSTER > 1 || TILES > HELD) barrier();  // the fragments in shared memory are there

#pragma unroll 1
  for (int i = 0; i < me.steps; ++i) {
    const int t = step_at(me, i, !forth), next = step_at(me, i + 1, !forth);
    const u32 now = FACTORS + (i & 1) * 3 * FACTOR;
    float d_state[4], c[4][4], keep[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool alive = is_alive(me, e, t);
#pragma unroll
      for (int j = 0; j < 4; ++j) c[j][e] = read(inflow.c[j][e]);
      d_state[e] = alive ? d_h[e] + read(inflow.d_output[e]) : 0.0f;
      keep[e] = load_keep(p, me, e, t);
#if RESET_BEFORE
      put_factor(me, now + 2 * FACTOR, e, read(c_n[e]) * d_state[e]);
      put_factor(me, now + FACTOR, e, c[1][e] * d_state[e]);
#else
#pragma unroll
      for (int gate = 0; gate < 3; ++gate)
        put_factor(me, now + gate * FACTOR, e, c[gate][e] * d_state[e]);
#endif
      if (alive) p.d_state[cell_of(p, me, e, this_row) + e / 2 * 8] = written(d_state[e]);
    }
    load_inflow(inflow, p, me, next, next_row);
#if RESET_BEFORE
    load_candidate(c_n, p, me, next, next_row);
#endif
    barrier();

    Sum sums[3];
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) clear(sums[gate]);
    float d_kept[4];
#if RESET_BEFORE
    multiply<1, 3>(sums, weights, me, now, FACTOR);
    float d_reset[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      d_reset[e] = total(sums[2], e);
      put_factor(me, now, e, c[0][e] * d_reset[e]);
    }
    barrier();
    multiply<0, 1>(sums, weights, me, now, FACTOR);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      d_kept[e] =
          c[3][e] * d_state[e] + c[2][e] * d_reset[e] + (total(sums[0], e) + total(sums[1], e));
      if (is_alive(me, e, t))
        p.d_reset[cell_of(p, me, e, this_row) + e / 2 * 8] = written(d_reset[e]);
    }
#else
    multiply<0, 3>(sums, weights, me, now, FACTOR);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      d_kept[e] =
          c[3][e] * d_state[e] + (total(sums[0], e) + total(sums[1], e) + total(sums[2], e));
#endif
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (!is_alive(me, e, t)) continue;
      d_h[e] = keep[e] * d_kept[e];
      if (p.d_kept != nullptr)
        p.d_kept[cell_of(p, me, e, this_row) + e / 2 * 8] = written(d_kept[e]);
    }
    this_row = next_row;
    next_row = row_of(p.offsets, step_at(me, i + 2, !forth), p.time);
  }
#if CLUSTER > 1
  barrier();  // no block leaves while another may still write to it
#endif

#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const i64 row = me.row + e % 2, unit = me.unit + e / 2 * 8;
    if (p.d_h_0 != nullptr && row < p.batch && has_unit(me, e))
      p.d_h_0[(me.direction * p.batch + row) * HIDDEN + unit] = written(d_h[e]);
  }
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
