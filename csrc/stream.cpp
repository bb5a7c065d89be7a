// Streams on the instruction set of this machine, their rows split over threads.
#include <omp.h>

#include <algorithm>
#include <new>

#include "dispatch.hpp"

namespace tidegate {

template <class T>
Stream<T>::Stream(std::vector<StreamOp<T>> ops, index input, index batch, int threads)
    : ops_(std::move(ops)), plan_{}, batch_(batch), memory_(nullptr, &std::free) {
  const Kernels<T>& k = kernels_of<T>();
  const index blocks = (batch + stream_block - 1) / stream_block;
  threads_ = int(std::min<index>(std::max(threads, 1), blocks));
  plan_.ops = ops_.data();
  plan_.count = index(ops_.size());
  plan_.input = input;
  plan_.output = ops_.back().output;
  plan_.batch = batch;
  k.stream_measure(plan_);
  const auto whole = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  scratch_ = whole(k.stream_scratch(plan_));
  std::size_t bytes = scratch_ * std::size_t(threads_);
  for (const StreamOp<T>& op : ops_) bytes += whole(k.stream_bytes(op));
  memory_.reset(static_cast<char*>(std::aligned_alloc(64, bytes + 64)));
  if (!memory_) throw std::bad_alloc();
  char* at = memory_.get() + scratch_ * std::size_t(threads_);
  for (StreamOp<T>& op : ops_) {
    if (op.kind != stream_linear) continue;
    op.packed = reinterpret_cast<T*>(at);
    at += whole(k.stream_bytes(op));
    k.stream_pack(op);
  }
}

template <class T>
void Stream<T>::run(index steps, const T* x, const std::int64_t* symbols, T* y) {
  const Kernels<T>& k = kernels_of<T>();
  const auto block = [&](index row, int thread) {
    const index rows = std::min(stream_block, batch_ - row);
    k.stream_run(plan_, row, rows, steps, x, symbols, y,
                 Arena{memory_.get() + scratch_ * std::size_t(thread), 0});
  };
  // In a forked child OpenMP's threads are gone, and default_threads() says so.
  const int threads = threads_ == 1 ? 1 : default_threads() == 1 ? 1 : threads_;
  if (threads == 1) {
    const FlushDenormals flush;
    for (index row = 0; row < batch_; row += stream_block) block(row, 0);
    plan_.turned ^= steps % 2 == 1;
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const FlushDenormals flush;
#pragma omp for schedule(static)
    for (index row = 0; row < batch_; row += stream_block) block(row, omp_get_thread_num());
  }
}

template class Stream<float>;
template class Stream<double>;

}  // namespace tidegate
