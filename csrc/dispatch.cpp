#include "dispatch.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tidegate {

#define TIDEGATE_DECLARE(isa)             \
  namespace isa##_float {                 \
    extern const Kernels<float> kernels;  \
  }                                       \
  namespace isa##_double {                \
    extern const Kernels<double> kernels; \
  }
#define TIDEGATE_SET(isa) \
  KernelSet { #isa, isa##_float::kernels, isa##_double::kernels }
TIDEGATE_DECLARE(scalar)
#ifdef TIDEGATE_HAS_avx2
TIDEGATE_DECLARE(avx2)
#endif
#ifdef TIDEGATE_HAS_avx512
TIDEGATE_DECLARE(avx512)
#endif
#ifdef TIDEGATE_HAS_neon
TIDEGATE_DECLARE(neon)
#endif

namespace {

// ---- instruction sets ------------------------------------------------------------------------

std::vector<KernelSet> available() {
  std::vector<KernelSet> sets;
#ifdef TIDEGATE_HAS_avx512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("fma"))
    sets.push_back(TIDEGATE_SET(avx512));
#endif
#ifdef TIDEGATE_HAS_avx2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    sets.push_back(TIDEGATE_SET(avx2));
#endif
#ifdef TIDEGATE_HAS_neon
  sets.push_back(TIDEGATE_SET(neon));
#endif
  sets.push_back(TIDEGATE_SET(scalar));
  return sets;
}

KernelSet choose() {
  const auto sets = available();
  const char* wanted = std::getenv("TIDEGATE_ISA");
  if (!wanted || !*wanted) return sets.front();
  std::string names;
  for (const KernelSet& set : sets) {
    if (std::strcmp(set.name, wanted) == 0) return set;
    names += names.empty() ? set.name : std::string(", ") + set.name;
  }
  throw std::runtime_error("TIDEGATE_ISA=" + std::string(wanted) +
                           " is not available here; this machine can run " + names);
}

// ---- memory ----------------------------------------------------------------------------------

// Scratch that a thread keeps between calls; it only grows.
struct Scratch {
  char* p = nullptr;
  std::size_t size = 0;

  ~Scratch() { std::free(p); }
  char* get(std::size_t bytes) {
    if (bytes > size) {
      std::free(p);
      size = bytes;
      p = static_cast<char*>(std::aligned_alloc(4096, size));
      if (!p) {
        size = 0;
        throw std::bad_alloc();
      }
    }
    return p;
  }
};

thread_local Scratch scratch;  // of the calling thread, handed out to those that help it

std::size_t pages(std::size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

// ---- threads ---------------------------------------------------------------------------------

// OpenMP's threads do not survive a fork; a child of a process that used them works alone.
bool forked = false;
const int watch_forks = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// How one direction is shared out. By rows, threads never meet. By units they meet at each step,
// which pays only where there is no row for each of them, or where the weights are so large and the
// rows so few that a step is bound by reading the weights, which threads by units read but once. A
// normalisation takes all units of a row together, and so is always by rows. The steps of one row
// that are too small for a barrier each are one thread's, and another has the products.
struct Split {
  int ranks;
  int sharing;
};

constexpr double worth_a_thread = 2e5;     // flops of a call
constexpr double worth_a_barrier = 4e4;  // flops of a step; 64 units gain 15% at best, lose 100
constexpr double worth_products = 4e6;  // flops of the products of inputs,
constexpr double worth_product = 6e3;  // and of each of them: it comes from another core's cache
constexpr double heavy_weights = 8e6;  // bytes of weight_hh
constexpr index few_rows = 16;  // of a thread

// Where other processes want the cores, the thread waited for is often not running, and each step
// waits for the scheduler. What calls take less or more than one thread would have is kept count of:
// once more was lost than saved, small steps are taken by one thread for ten times that. A wait by
// chance is made good by the calls before it, and a neighbour that stays costs a tenth. The result
// is the same to the bit.
constexpr double too_small_when_crowded = 4e6;  // flops of a step
constexpr double crowded_for = 10;  // times what was lost,
constexpr double crowded_most = 2;  // and seconds at most
constexpr double savings_most = 5e-3;  // seconds: a wait for the scheduler
using Clock = std::chrono::steady_clock;
std::atomic<Clock::rep> crowded_until{0};
std::atomic<double> savings{0};

bool crowded() {
  return Clock::now().time_since_epoch().count() < crowded_until.load(std::memory_order_relaxed);
}

template <class T>
Split choose_split(const Call<T>& c, int threads) {
  const Shape& shape = c.weights->shape;
  const double weights = double(gates_of(shape.reset)) * shape.hidden * shape.hidden;
  const double step = 2 * weights * c.batch;
  const index groups = (shape.hidden + kernels_of<T>().group - 1) / kernels_of<T>().group;
  const Split alone{1, share_rows};
  if (threads <= 1 || step * c.time < worth_a_thread) return alone;
  const bool heavy = weights * sizeof(T) > heavy_weights && c.batch < few_rows * threads;
  const int useful = int(std::min<index>(threads, groups));
  const bool few = c.batch < threads || heavy;
  if (few && useful > 1 && step >= worth_a_barrier && !shape.norm)
    return step < too_small_when_crowded && crowded() ? alone : Split{useful, share_units};
  const double product = 2.0 * gates_of(shape.reset) * shape.hidden * shape.input;
  if (c.batch == 1 && product >= worth_product && product * c.time >= worth_products && !c.tokens &&
      !shape.norm)
    return crowded() ? alone : Split{2, share_products};
  return {int(std::min<index>(threads, c.batch)), share_rows};
}

// Of this thread.
double processor_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

void notice_crowd(const std::vector<Slice>& slices, Clock::time_point begin) {
  const double ranks = double(slices.size());
  if (slices[0].sharing == share_rows) return;
  using Seconds = std::chrono::duration<double>;
  const auto now = Clock::now();
  const double took = Seconds(now - begin).count();
  double waited = 0, worked = 0;  // of all ranks but the one that was waited for; of all
  for (const Slice& slice : slices) {
    waited += slice.waited;
    worked += std::max(0.0, slice.worked - slice.waited);
  }
  const bool equal = slices[0].sharing == share_units;
  const double one = equal ? ranks * (took - waited / (ranks - 1)) : worked;
  const double left = savings.load(std::memory_order_relaxed) + one - took;
  savings.store(std::clamp(left, 0.0, savings_most), std::memory_order_relaxed);
  if (left >= 0) return;
  const Seconds rest(std::min(crowded_for * -left, crowded_most));
  const auto until = now + std::chrono::duration_cast<Clock::duration>(rest);
  crowded_until.store(until.time_since_epoch().count(), std::memory_order_relaxed);
}

// The rows of a call, longest first, and the slices that share them.
struct Shares {
  std::vector<index> rows, lengths, cells;
  std::vector<Slice> slices;
  Barrier barrier;
};

template <class T>
void share(const Call<T>& c, Split split, Shares& to) {
  const index n = c.batch;
  to.rows.resize(n);
  to.lengths.resize(n);
  std::iota(to.rows.begin(), to.rows.end(), index(0));
  const auto length = [&](index row) { return c.lengths ? index(c.lengths[row]) : c.time; };
  if (c.lengths)
    std::stable_sort(to.rows.begin(), to.rows.end(),
                     [&](index a, index b) { return length(a) > length(b); });
  const index groups =
      (c.weights->shape.hidden + kernels_of<T>().group - 1) / kernels_of<T>().group;
  const int ranks = split.ranks;
  const bool by_rows = split.sharing == share_rows, by_units = split.sharing == share_units;
  if (by_rows && c.lengths && ranks > 1) {  // dealt like cards: equal sums of lengths
    std::vector<index> dealt;
    dealt.reserve(n);
    for (int rank = 0; rank < ranks; ++rank)
      for (index i = rank; i < n; i += ranks) dealt.push_back(to.rows[i]);
    to.rows = std::move(dealt);
  }
  for (index i = 0; i < n; ++i) to.lengths[i] = length(to.rows[i]);
  std::memset(&to.barrier, 0, sizeof to.barrier);
  index begin = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const index dealt = (n - rank + ranks - 1) / ranks;
    const index count = !by_rows    ? n
                        : c.lengths ? dealt
                                    : n * (rank + 1) / ranks - n * rank / ranks;
    const index from = by_rows ? begin : 0;
    begin += count;
    to.slices.push_back({to.rows.data() + from, to.lengths.data() + from, count,
                         by_units ? groups * rank / ranks : 0,
                         by_units ? groups * (rank + 1) / ranks : groups, rank, ranks,
                         split.sharing, &to.barrier, 0, 0, 0});
  }
}

// First cell of each row among all cells, row by row: where forward leaves its gates.
template <class T>
void number_cells(Call<T>& c, std::vector<index>& cells) {
  if (!c.saved) return;
  cells.resize(c.batch);
  index next = 0;
  for (index row = 0; row < c.batch; ++row) {
    cells[row] = next;
    next += c.lengths ? index(c.lengths[row]) : c.time;
  }
  c.row_cell = cells.data();
}

template <class F>
void in_parallel(int threads, F body) {
  if (threads == 1) {
    const FlushDenormals flush;
    body(0);
    return;
  }
  const int dynamic = omp_get_dynamic();
  omp_set_dynamic(0);  // or OpenMP may grant fewer threads than meet at the barrier
#pragma omp parallel num_threads(threads)
  {
    const FlushDenormals flush;
    body(omp_get_thread_num());
  }
  omp_set_dynamic(dynamic);
}

// Threads that OpenMP will really grant.
int granted(int wanted) {
  if (wanted <= 1 || forked || omp_in_parallel() || omp_get_max_active_levels() < 1) return 1;
  return std::min({wanted, omp_get_thread_limit(), 64});
}

template <class T, class Size, class Kernel>
void run(Call<T>* calls, int directions, int threads, Size own_size, Size shared_size,
         Kernel kernel) {
  threads = granted(threads);
  const bool side_by_side = directions == 2 && threads > 1;
  const int each = side_by_side ? threads / 2 : threads;
  Shares shares[2];
  std::size_t used = 0;
  const auto reserve = [&](std::size_t bytes) {
    const std::size_t at = used;
    used += pages(bytes);
    return at;
  };
  std::vector<std::size_t> own_at[2];
  std::size_t common_at[2];
  int ranks[2] = {0, 0};
  for (int d = 0; d < directions; ++d) {
    number_cells(calls[d], shares[d].cells);
    share(calls[d], choose_split(calls[d], each), shares[d]);
    ranks[d] = int(shares[d].slices.size());
    common_at[d] = reserve(shared_size(calls[d], shares[d].slices[0]));
    for (const Slice& slice : shares[d].slices)
      own_at[d].push_back(reserve(own_size(calls[d], slice)));
  }
  char* const memory = scratch.get(pages(used + 1));
  const auto work = [&](int d, int rank) {
    Slice& slice = shares[d].slices[rank];
    const bool timed = slice.sharing == share_products;
    const double since = timed ? processor_seconds() : 0;
    kernel(calls[d], slice, Arena{memory + own_at[d][rank], 0}, Arena{memory + common_at[d], 0});
    if (timed) slice.worked = processor_seconds() - since;
  };
  const auto begin = Clock::now();
  if (side_by_side)
    in_parallel(ranks[0] + ranks[1],
                [&](int i) { i < ranks[0] ? work(0, i) : work(1, i - ranks[0]); });
  else
    for (int d = 0; d < directions; ++d) in_parallel(ranks[d], [&](int i) { work(d, i); });
  for (int d = 0; d < directions; ++d) notice_crowd(shares[d].slices, begin);
}

}  // namespace

const KernelSet& kernels() {
  static const KernelSet set = choose();
  return set;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelSet& set : available()) names.emplace_back(set.name);
  return names;
}

int default_threads() { return forked ? 1 : omp_get_max_threads(); }

template <class T>
void run_pack(const Packed<T>& to, const Given<T>& from, int threads) {
  constexpr double worth = 1 << 18;  // bytes of a thread
  const Kernels<T>& k = kernels_of<T>();
  const double bytes = double(k.packed_bytes(to.shape, to.storage, to.backward));
  threads = granted(int(std::clamp(bytes / worth, 1.0, double(threads))));
  if (to.shape.norm) in_parallel(threads, [&](int part) { k.measure(to, from, part, threads); });
  in_parallel(threads, [&](int part) { k.pack(to, from, part, threads); });
}

template void run_pack(const Packed<float>&, const Given<float>&, int);
template void run_pack(const Packed<double>&, const Given<double>&, int);

template <class T>
void run_forward(Call<T>* calls, int directions, int threads) {
  const Kernels<T>& k = kernels_of<T>();
  run(calls, directions, threads, k.forward_scratch, k.forward_shared, k.forward);
}

template <class T>
void run_backward(Call<T>* calls, int directions, int threads) {
  const Kernels<T>& k = kernels_of<T>();
  if (directions == 1 || !calls[0].d_x)
    return run(calls, directions, threads, k.backward_scratch, k.backward_shared, k.backward);
  // Both directions have a gradient of the input: the second goes to a buffer and is added.
  Call<T>& second = calls[1];
  const index input = second.weights->shape.input;
  const index rows = second.offsets
                         ? std::accumulate(second.lengths, second.lengths + second.batch, index(0))
                         : second.time * second.batch;
  std::vector<T> d_x(std::size_t(rows) * input);
  const Call<T> first = calls[0];
  second.d_x = d_x.data();
  second.d_x_batch = input;
  second.d_x_time = second.batch * input;
  run(calls, directions, threads, k.backward_scratch, k.backward_shared, k.backward);
  const auto add = [&](T* to, const T* from) {
    for (index i = 0; i < input; ++i) to[i] += from[i];
  };
  if (second.offsets)
    for (index row = 0; row < rows; ++row)
      add(first.d_x + row * first.d_x_batch, d_x.data() + row * input);
  else
    for (index t = 0; t < second.time; ++t)
      for (index b = 0; b < second.batch; ++b)
        add(first.d_x + t * first.d_x_time + b * first.d_x_batch,
            d_x.data() + (t * second.batch + b) * input);
}

template void run_forward(Call<float>*, int, int);
template void run_forward(Call<double>*, int, int);
template void run_backward(Call<float>*, int, int);
template void run_backward(Call<double>*, int, int);

template <class T>
void run_min_gru(const MinGru<T>& c, int threads, bool backward) {
  constexpr double worth = 1 << 15;  // cells of a thread
  constexpr index units = 16;  // that a thread takes at least, no two threads in one vector
  const auto kernel = backward ? kernels_of<T>().min_gru_backward : kernels_of<T>().min_gru_forward;
  const double cells = double(c.time) * c.batch * c.hidden;
  threads = granted(int(std::clamp(cells / worth, 1.0, double(threads))));
  const index groups = (c.hidden + units - 1) / units;
  const bool by_rows = c.batch >= threads || c.batch >= groups;
  threads = int(std::max<index>(std::min<index>(threads, by_rows ? c.batch : groups), 1));
  in_parallel(threads, [&](int rank) {
    const auto share = [&](index n) { return n * rank / threads; };
    const auto next = [&](index n) { return n * (rank + 1) / threads; };
    if (by_rows)
      kernel(c, {share(c.batch), next(c.batch), 0, c.hidden});
    else
      kernel(c, {0, c.batch, share(groups) * units, std::min(next(groups) * units, c.hidden)});
  });
}

template void run_min_gru(const MinGru<float>&, int, bool);
template void run_min_gru(const MinGru<double>&, int, bool);

template <class T>
void run_cross_entropy(const CrossEntropy<T>& c, int threads) {
  const Kernels<T>& k = kernels_of<T>();
  const double flops = 2.0 * c.rows * c.features * c.vocabulary;
  threads = granted(int(std::clamp(flops / worth_a_thread, 1.0, double(threads))));
  char* const memory = scratch.get(pages(k.cross_entropy_bytes(c)));
  const index chunk = k.cross_entropy_chunk(c);
  in_parallel(threads, [&](int rank) { k.cross_entropy_pack(c, memory, rank, threads); });
  for (index first = 0; first < c.rows; first += chunk) {
    const index rows = std::min(chunk, c.rows - first);
    in_parallel(threads, [&](int rank) {
      k.cross_entropy_rows(c, memory, first, rows * rank / threads, rows * (rank + 1) / threads);
    });
    if (!c.d_output) continue;
    in_parallel(threads,
                [&](int rank) { k.cross_entropy_columns(c, memory, first, rows, rank, threads); });
  }
}

template void run_cross_entropy(const CrossEntropy<float>&, int);
template void run_cross_entropy(const CrossEntropy<double>&, int);

// One layer of a stack: its share of the work and the scratch of each thread.
template <class T>
struct Stepper<T>::Layer {
  Call<T> call;
  index state_at;
  std::unique_ptr<Shares> shares;
  std::vector<std::unique_ptr<char, decltype(&std::free)>> scratch;
  std::unique_ptr<char, decltype(&std::free)> common;
};

namespace {

std::unique_ptr<char, decltype(&std::free)> aligned(std::size_t bytes) {
  char* p = static_cast<char*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64));
  if (!p) throw std::bad_alloc();
  return {p, &std::free};
}

}  // namespace

template <class T>
Stepper<T>::Stepper(const std::vector<const Packed<T>*>& layers, index batch, int threads) {
  const Kernels<T>& k = kernels_of<T>();
  index at = 0, widest = 0;
  for (const Packed<T>* weights : layers) {
    Call<T> c{};
    c.weights = weights;
    c.time = 1;
    c.batch = batch;
    c.x_batch = weights->shape.input;
    c.output_batch = weights->shape.hidden;
    static const T present{};
    c.h_0 = &present;  // what the buffers need to know; step() gives the address
    Layer layer{c, at, std::make_unique<Shares>(), {}, aligned(0)};
    Shares& shares = *layer.shares;
    share(c, choose_split(c, granted(threads)), shares);
    for (const Slice& slice : shares.slices)
      layer.scratch.push_back(aligned(k.forward_scratch(c, slice)));
    layer.common = aligned(k.forward_shared(c, shares.slices[0]));
    layers_.push_back(std::move(layer));
    at += batch * weights->shape.hidden;
    widest = std::max(widest, batch * weights->shape.hidden);
  }
  next_.resize(widest);
}

template <class T>
Stepper<T>::~Stepper() = default;

template <class T>
void Stepper<T>::step(const T* x, T* h) {
  const Kernels<T>& k = kernels_of<T>();
  for (Layer& layer : layers_) {
    Call<T>& c = layer.call;
    T* state = h + layer.state_at;
    const int ranks = int(layer.shares->slices.size());
    c.x = x;
    c.h_0 = state;
    c.output = c.h_n = next_.data();  // its first units are written while others read the old state
    if (granted(ranks) < ranks)  // in a forked child, or inside another parallel region
      run_forward(&c, 1, 1);
    else
      in_parallel(ranks, [&](int rank) {
        k.forward(c, layer.shares->slices[rank], Arena{layer.scratch[rank].get(), 0},
                  Arena{layer.common.get(), 0});
      });
    std::memcpy(state, next_.data(), c.batch * c.weights->shape.hidden * sizeof(T));
    x = state;
  }
}

template class Stepper<float>;
template class Stepper<double>;

#if defined(__x86_64__)
FlushDenormals::FlushDenormals() : before_(_mm_getcsr()) {
  _mm_setcsr(unsigned(before_) | 0x8040u);  // flush results, read denormals as zero
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(unsigned(before_)); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() {
  asm volatile("mrs %0, fpcr" : "=r"(before_));
  asm volatile("msr fpcr, %0" : : "r"(before_ | (std::uint64_t(1) << 24)));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }
#else
FlushDenormals::FlushDenormals() : before_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace tidegate
