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

// Waits until all threads of the slice have come this far. Each writes its own flag (release) and
// reads the others' (acquire), so what was written before the barrier is seen after it. A thread
// spins for some microseconds and then yields: where a neighbour holds the core, spinning would
// keep the very thread away that is waited for.
inline void wait(Slice& slice) {
  if (slice.ranks == 1) return;
  const int epoch = ++slice.epoch;
  Barrier::Flag* flags = slice.barrier->flags;
  __atomic_store_n(&flags[slice.rank].epoch, epoch, __ATOMIC_RELEASE);
  for (int other = 0; other < slice.ranks; ++other) {
    const int& flag = flags[other].epoch;
    int spins = 0;
    while (__atomic_load_n(&flag, __ATOMIC_ACQUIRE) < epoch && ++spins < 2000) relax();
    if (spins < 2000) continue;
    const double begin = seconds();
    for (spins = 0; __atomic_load_n(&flag, __ATOMIC_ACQUIRE) < epoch; ++spins)
      spins % 1000 ? relax() : void(sched_yield());
    slice.waited += seconds() - begin;
  }
}

}  // namespace tidegate::TIDEGATE_ISA
