// The functions of device.cuh for a CPU, and a watch over shared memory.
//
// Every thread of a block, or of a cluster of blocks, is a fiber of one thread of the system: it
// runs until it waits, for the others of its warp or at a barrier, and the schedule says who is
// next. Between two barriers a place in shared memory that one fiber writes may not be read or
// written by another, in whatever order they ran: that is a race, and it is reported.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#define DEVICE static inline
#define KERNEL(name, Arguments) static void name([[maybe_unused]] const Arguments& p)
#define ELEMENTWISE(name, Arguments) static void name([[maybe_unused]] const Arguments& p)

namespace emulation {

enum Order { ASCENDING, DESCENDING, SHUFFLED, HASTY };  // hasty: a warp runs as far as it can

// How the threads run, and which barriers are taken away, to see that they are missed: of barriers
// counted from 0, those after the first whose number is `missing_phase` modulo `missing_period`.
struct Schedule {
  std::int64_t order, seed, missing_period, missing_phase;
};

struct Fiber {
  int block, thread;
  int epoch = 0, barriers = 0;
  bool ready = true, done = false, arrived = false;  // arrived: at a barrier, but not waited
  jmp_buf place;
  ucontext_t context;
  std::unique_ptr<char[]> stack;
};

// What the lanes of a warp bring to an operation that they do together.
struct Warp {
  int arrived = 0;
  const char* operation = "";
  u32 a[32][4], b[32][2], places[32], words[32][4];
  float d[32][4];
};

struct Cell {  // two bytes of shared memory
  int writer = -1, written = -1;  // fiber and epoch
  int reader = -1, read = -1;     // reader -2: several
};

struct Block {
  std::vector<unsigned char> memory;
  std::vector<Cell> cells;
};

constexpr std::size_t STACK = 64 * 1024;

inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline std::vector<Block> blocks;
inline Fiber* current = nullptr;
inline Schedule schedule;
inline jmp_buf scheduler;
inline std::string error;
inline std::size_t at_barrier = 0;
inline int first_block = 0, y = 0, z = 0, depth = 1, block_threads = 0;

inline void complain(const std::string& what) {
  if (error.empty()) error = what;
}

inline int number(const Fiber* fiber) { return static_cast<int>(fiber - fibers.data()); }

inline void wait() {
  if (!_setjmp(current->place)) _longjmp(scheduler, 1);
}

inline Warp& warp() { return warps[number(current) / 32]; }

// Wait for all lanes; the last to come does what they do together.
template <class Together>
void together(const char* operation, Together act) {
  Warp& mine = warp();
  if (mine.arrived == 0) mine.operation = operation;
  if (std::strcmp(mine.operation, operation)) complain("lanes of a warp part ways");
  if (++mine.arrived < 32) {
    current->ready = false;
    wait();
    return;
  }
  mine.arrived = 0;
  act(mine);
  const int first = number(current) / 32 * 32;
  for (int lane = 0; lane < 32; ++lane) fibers[first + lane].ready = true;
}

inline void note_write(int block, u32 place, int bytes) {
  const int me = number(current);
  if (current->arrived) return complain("a write between arrival and wait");
  if (place + bytes > blocks[block].memory.size()) return complain("a write past shared memory");
  for (u32 at = place / 2; at < (place + bytes) / 2; ++at) {
    Cell& cell = blocks[block].cells[at];
    if (cell.written == current->epoch && cell.writer != me) complain("a race of two writes");
    if (cell.read == current->epoch && cell.reader != me) complain("a race of a read and a write");
    cell.writer = me;
    cell.written = current->epoch;
  }
}

inline void note_read(int block, u32 place, int bytes) {
  const int me = number(current);
  if (current->arrived) return complain("a read between arrival and wait");
  if (place + bytes > blocks[block].memory.size()) return complain("a read past shared memory");
  for (u32 at = place / 2; at < (place + bytes) / 2; ++at) {
    Cell& cell = blocks[block].cells[at];
    if (cell.writer < 0) complain("a read of what was never written");
    if (cell.written == current->epoch && cell.writer != me)
      complain("a race of a write and a read");
    cell.reader = cell.read == current->epoch && cell.reader != me ? -2 : me;
    cell.read = current->epoch;
  }
}

inline void store(int block, u32 place, const void* from, int bytes) {
  if (block != current->block && !current->barriers)
    complain("a write into a block that may not have begun");
  note_write(block, place, bytes);
  if (error.empty()) std::memcpy(&blocks[block].memory[place], from, bytes);
}

inline void load(int block, u32 place, void* to, int bytes) {
  note_read(block, place, bytes);
  if (error.empty()) std::memcpy(to, &blocks[block].memory[place], bytes);
}

}  // namespace emulation

DEVICE int thread() { return emulation::current->thread; }
DEVICE int threads() { return emulation::block_threads; }
DEVICE int block_x() { return emulation::first_block + emulation::current->block; }
DEVICE int block_y() { return emulation::y; }
DEVICE int block_z() { return emulation::z; }
DEVICE int blocks_z() { return emulation::depth; }

DEVICE float as_float(u32 bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

DEVICE u32 as_bits(float value) {
  u32 bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

DEVICE u32 unforeseen(u32 bits) { return bits; }

DEVICE float from_half(u16 bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

DEVICE u32 to_pair(float first, float second) {
  const float numbers[2] = {first, second};
  u32 pair = 0;
  for (int k = 0; k < 2; ++k) {
#if TYPE == FLOAT16
    const _Float16 rounded = static_cast<_Float16>(numbers[k]);
    u16 number;
    std::memcpy(&number, &rounded, 2);
#else
    const u32 bits = as_bits(numbers[k]);
    const u32 number = std::isnan(numbers[k]) ? 0x7fff : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
#endif
    pair |= static_cast<u32>(number) << (16 * k);
  }
  return pair;
}

namespace emulation {

inline void require_aligned(const void* at, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(at) % bytes) complain("an address between two words");
}

}  // namespace emulation

template <int COUNT>
DEVICE void get_aligned(u32 (&words)[COUNT], const void* from) {
  emulation::require_aligned(from, 4 * COUNT);
  std::memcpy(words, from, 4 * COUNT);
}

DEVICE void get_one(u32& word, const u16* from) { word = *from; }
DEVICE void get_one(u32& word, const float* from) { word = as_bits(*from); }

template <class Number>
DEVICE void put_one(Number* to, Number number) {
  *to = number;
}

template <class T>
DEVICE T* kept_address(T* address) {
  return address;
}

template <int COUNT>
DEVICE void put_aligned(void* to, const u32 (&words)[COUNT]) {
  emulation::require_aligned(to, 4 * COUNT);
  std::memcpy(to, words, 4 * COUNT);
}

// No better than the GPU's: the exponent is rounded before a power of two is taken of it, and the
// last bits are cut.
DEVICE float exponential(float x) { return as_float(as_bits(std::exp2(x * 1.44269504f)) & ~3u); }
DEVICE float reciprocal_of_one_plus(float e) { return as_float(as_bits(1.0f / (1.0f + e)) & ~1u); }

// Good to 2^-11, as the GPU's.
DEVICE float rough_tanh(float x) { return as_float((as_bits(std::tanh(x)) + 0x800u) & ~0xfffu); }

// One of the two numbers of a word, or the one number of a word of 32 bits as the tensor cores see
// it, which is without its last 13 bits.
DEVICE float factor_in(u32 word, [[maybe_unused]] int half) {
#if TYPE == FLOAT16
  return from_half(static_cast<u16>(word >> (16 * half)));
#elif TYPE == BFLOAT16
  return as_float(half ? word & 0xffff0000u : word << 16);
#else
  return as_float(word & 0xffffe000u);
#endif
}

// The float next to a sum on the side of zero: tensor cores add exact products, and cut.
DEVICE float cut(double sum) {
  const float nearest = static_cast<float>(sum);
  return std::fabs(nearest) > std::fabs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}

DEVICE void tensor_product(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  constexpr int HALVES = TYPE == FLOAT16 || TYPE == BFLOAT16 ? 2 : 1;
  const int lane = emulation::current->thread % 32;
  emulation::Warp& warp = emulation::warp();
  std::copy(d, d + 4, warp.d[lane]);
  std::copy(a, a + 4, warp.a[lane]);
  warp.b[lane][0] = b0;
  warp.b[lane][1] = b1;
  emulation::together("tensor_product", [](emulation::Warp& all) {
    float right[8][16];
    for (int column = 0; column < 8; ++column)
      for (int k = 0; k < 8 * HALVES; ++k)
        right[column][k] =
            factor_in(all.b[column * 4 + k / HALVES % 4][k / (4 * HALVES)], k % HALVES);
    for (int row = 0; row < 16; ++row) {
      float left[16];
      for (int k = 0; k < 8 * HALVES; ++k)
        left[k] = factor_in(all.a[row % 8 * 4 + k / HALVES % 4][row / 8 + k / (4 * HALVES) * 2],
                            k % HALVES);
      for (int column = 0; column < 8; ++column) {
        float& cell = all.d[row % 8 * 4 + column / 2][row / 8 * 2 + column % 2];
        double sum = cell;
        for (int k = 0; k < 8 * HALVES; ++k) sum += static_cast<double>(left[k]) * right[column][k];
        cell = cut(sum);
      }
    }
  });
  std::copy(warp.d[lane], warp.d[lane] + 4, d);
}

DEVICE void load_matrices(u32 (&r)[4], u32 place) {
  const int lane = emulation::current->thread % 32;
  emulation::Warp& warp = emulation::warp();
  unsigned char row[16] = {};
  emulation::load(emulation::current->block, place, row, 16);
  std::memcpy(warp.words[lane], row, 16);
  emulation::together("load_matrices", [](emulation::Warp&) {});
  for (int matrix = 0; matrix < 4; ++matrix)
    r[matrix] = warp.words[matrix * 8 + lane / 4][lane % 4];
  // No lane may bring its row of the next matrices before all have read these.
  emulation::together("load_matrices", [](emulation::Warp&) {});
}

DEVICE void put_words(u32 place, const u32 (&words)[4]) {
  emulation::store(emulation::current->block, place, words, 16);
}

DEVICE void get_words(u32 (&words)[4], u32 place) {
  emulation::load(emulation::current->block, place, words, 16);
}

template <int COUNT>
DEVICE void put_everywhere(u32 place, const u32 (&words)[COUNT]) {
  if (place % (4 * COUNT)) emulation::complain("a place between two words");
  for (int block = 0; block < CLUSTER; ++block) emulation::store(block, place, words, 4 * COUNT);
}

DEVICE void arrive() { emulation::current->arrived = true; }

DEVICE void wait() {
  using namespace emulation;
  if (!current->arrived) complain("a wait without arrival");
  current->arrived = false;
  const int passed = current->barriers++;
  if (passed > 0 && schedule.missing_period > 0 &&
      passed % schedule.missing_period == schedule.missing_phase)
    return;
  if (++at_barrier < fibers.size()) {
    current->ready = false;
    emulation::wait();
    return;
  }
  at_barrier = 0;
  for (Fiber& fiber : fibers) {
    fiber.ready = true;
    ++fiber.epoch;
  }
}
