// gru.cu on a CPU: the kernels under emulation.hpp, and one function that runs a launch.
#define TIDEGATE_EMULATION
#include "gru.cu"

namespace emulation {

using Body = void (*)(const void*);

template <class Arguments, void (*kernel)(const Arguments&)>
void run(const void* arguments) {
  kernel(*static_cast<const Arguments*>(arguments));
}

struct Kernel {
  const char* name;
  Body body;
  bool alone;  // its threads never wait
};

const Kernel KERNELS[] = {
    {"gru_forward", run<Forward, gru_forward>, false},
    {"gru_backward", run<Backward, gru_backward>, false},
    {"gru_previous", run<Previous, gru_previous>, true},
    {"gru_coefficients", run<Coefficients, gru_coefficients>, true},
#if RESET_BEFORE
    {"gru_reset", run<Coefficients, gru_reset>, true},
#endif
};

Body body;
const void* arguments;

void begin() {
  body(arguments);
  current->done = true;
  current->ready = false;
  _longjmp(scheduler, 1);
}

void make_fibers(int count, int per_block, bool alone) {
  fibers.resize(count);
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = fibers[i];
    fiber.block = i / per_block;
    fiber.thread = i % per_block;
    fiber.epoch = fiber.barriers = 0;
    fiber.ready = true;
    fiber.done = fiber.arrived = false;
    if (alone) continue;
    if (!fiber.stack) fiber.stack.reset(new char[STACK]);
    getcontext(&fiber.context);
    fiber.context.uc_stack = {fiber.stack.get(), 0, STACK};
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, begin, 0);
  }
}

void resume(Fiber& fiber, bool fresh) {
  current = &fiber;
  if (_setjmp(scheduler)) return;
  if (fresh)
    setcontext(&fiber.context);
  else
    _longjmp(fiber.place, 1);
}

// Run every fiber to its end, warp by warp in the order of the schedule.
void run_cluster() {
  std::mt19937 random(static_cast<unsigned>(schedule.seed));
  std::vector<bool> fresh(fibers.size(), true);
  std::vector<int> order(fibers.size() / 32);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  if (schedule.order == DESCENDING) std::reverse(order.begin(), order.end());
  for (bool moved = true; moved && error.empty();) {
    moved = false;
    if (schedule.order >= SHUFFLED) std::shuffle(order.begin(), order.end(), random);
    for (const int warp : order) {
      for (bool again = true; again && error.empty();) {
        again = false;
        for (int lane = 0; lane < 32; ++lane) {
          const int i = warp * 32 + (schedule.order == DESCENDING ? 31 - lane : lane);
          if (!fibers[i].ready || !error.empty()) continue;
          const bool first = fresh[i];
          fresh[i] = false;
          resume(fibers[i], first);
          moved = true;
          again = schedule.order == HASTY;
        }
      }
    }
  }
  for (const Fiber& fiber : fibers)
    if (!fiber.done) complain("a thread waits for ever");
}

void run_block(const Kernel& kernel, int cluster, int per_block, int shared) {
  make_fibers(cluster * per_block, per_block, kernel.alone);
  blocks.assign(cluster, {});
  for (Block& block : blocks) {
    block.memory.assign(shared, 0xff);
    block.cells.assign(shared / 2, {});
  }
  warps.assign(fibers.size() / 32, {});
  at_barrier = 0;
  if (!kernel.alone) return run_cluster();
  for (Fiber& fiber : fibers) {
    current = &fiber;
    body(arguments);
  }
}

}  // namespace emulation

// Run a launch; the answer is empty, or says what went wrong.
extern "C" const char* launch(const char* name, const void* arguments, int x, int y, int z,
                              int threads, int shared, const emulation::Schedule* schedule) {
  using namespace emulation;
  error.clear();
  emulation::schedule = *schedule;
  emulation::arguments = arguments;
  for (const Kernel& kernel : KERNELS) {
    if (std::strcmp(kernel.name, name)) continue;
    const int cluster = kernel.alone ? 1 : CLUSTER;
    body = kernel.body;
    block_threads = threads;
    depth = z;
    for (emulation::z = 0; emulation::z < z; ++emulation::z)
      for (emulation::y = 0; emulation::y < y; ++emulation::y)
        for (first_block = 0; first_block < x && error.empty(); first_block += cluster)
          run_block(kernel, cluster, threads, shared);
    return error.c_str();
  }
  return "no such kernel";
}

extern "C" int argument_size(const char* name) {
  if (!std::strcmp(name, "Forward")) return sizeof(Forward);
  if (!std::strcmp(name, "Backward")) return sizeof(Backward);
  if (!std::strcmp(name, "Previous")) return sizeof(Previous);
  if (!std::strcmp(name, "Coefficients")) return sizeof(Coefficients);
  return -1;
}
