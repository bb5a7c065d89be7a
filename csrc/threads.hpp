// The barrier between threads that share a step, for one instruction set.
#pragma once

#include <sched.h>
#include <time.h>

#include "layer.hpp"
#include "vec.hpp"

namespace tidegate::TIDEGATE_ISA {

TIDEGATE_INLINE void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline double seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// Flags are written with release and read with acquire, so what a thread wrote before it raised its
// flag is seen by whoever has waited for that.
inline int read(const int& flag) { return __atomic_load_n(&flag, __ATOMIC_ACQUIRE); }
inline void raise(int& flag, int to) { __atomic_store_n(&flag, to, __ATOMIC_RELEASE); }

// A thread spins for some microseconds and then yields: where a neighbour holds the core, spinning
// would keep the very thread away that is waited for.
inline void wait_for(Slice& slice, const int& flag, int at_least) {
  int spins = 0;
  while (read(flag) < at_least && ++spins < 2000) relax();
  if (spins < 2000) return;
  const double begin = seconds();
  for (spins = 0; read(flag) < at_least; ++spins) spins % 1000 ? relax() : void(sched_yield());
  slice.waited += seconds() - begin;
}

// Waits until all threads of the slice have come this far.
inline void wait(Slice& slice) {
  if (slice.ranks == 1) return;
  const int epoch = ++slice.epoch;
  Barrier::Flag* flags = slice.barrier->flags;
  raise(flags[slice.rank].epoch, epoch);
  for (int other = 0; other < slice.ranks; ++other) wait_for(slice, flags[other].epoch, epoch);
}

// Chunk `chunk` becomes this thread's, unless it was another's before.
inline bool claim(Slice& slice, int chunk) {
  return __atomic_compare_exchange_n(&slice.barrier->claimed, &chunk, chunk + 1, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

}  // namespace tidegate::TIDEGATE_ISA
