// Runs layers on the instruction set of this machine, split over threads.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "layer.hpp"

namespace tidegate {

// The kernels in use: the widest this machine has, or the one that TIDEGATE_ISA names.
const KernelSet& kernels();
std::vector<std::string> available_isas();

template <class T>
const Kernels<T>& kernels_of() {
  if constexpr (sizeof(T) == 4)
    return kernels().f32;
  else
    return kernels().f64;
}

// Threads that a call may use when nobody says: OpenMP's number, one in a forked child.
int default_threads();

// Pack weights, over up to `threads` threads where they are many.
template <class T>
void run_pack(const Packed<T>& to, const Given<T>& from, int threads);

// One or two directions of one layer, over up to `threads` threads, side by side.
template <class T>
void run_forward(Call<T>* calls, int directions, int threads);
template <class T>
void run_backward(Call<T>* calls, int directions, int threads);

// One direction of a minGRU, over up to `threads` threads that never meet.
template <class T>
void run_min_gru(const MinGru<T>& call, int threads, bool backward);

// The losses of a large softmax and its gradients, over up to `threads` threads.
template <class T>
void run_cross_entropy(const CrossEntropy<T>& call, int threads);

// A stack of layers, one step at a time, with every buffer its own: a step allocates nothing.
template <class T>
class Stepper {
 public:
  Stepper(const std::vector<const Packed<T>*>& layers, index batch, int threads);
  ~Stepper();
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;
  void step(const T* x, T* h);  // x (batch, input); h (layers, batch, hidden), in place

 private:
  struct Layer;
  std::vector<Layer> layers_;
  std::vector<T> next_;  // the new state, while the old one is still read
};

// A whole model, one step at a time: what each layer needs is allocated when it is made.
template <class T>
class Stream {
 public:
  Stream(std::vector<StreamOp<T>> ops, index input, index batch, int threads);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  // x (steps, batch, input), or symbols (steps, batch); y (steps, batch, output)
  void run(index steps, const T* x, const std::int64_t* symbols, T* y);

 private:
  std::vector<StreamOp<T>> ops_;
  StreamPlan<T> plan_;
  index batch_;
  int threads_;
  std::size_t scratch_;  // of one thread
  std::unique_ptr<char, decltype(&std::free)> memory_;
};

// Flush denormals to zero for a scope, and give the caller's floating-point state back.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();

 private:
  std::uint64_t before_;
};

}  // namespace tidegate
