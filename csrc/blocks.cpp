#include "blocks.hpp"

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace tidegate {

namespace {

constexpr std::size_t worth_keeping = 1 << 20;  // bytes; what is smaller malloc keeps itself
constexpr std::size_t most_kept = 256 << 20;

struct Block {
  void* memory;
  std::size_t bytes;
};

struct Kept {
  std::mutex mutex;
  std::vector<Block> blocks;  // the oldest first
  std::size_t bytes = 0;

  Block take(std::size_t at) {
    const Block block = blocks[at];
    blocks.erase(blocks.begin() + std::ptrdiff_t(at));
    bytes -= block.bytes;
    return block;
  }
};

// Never destroyed: weights may be freed while the process ends.
Kept& kept() {
  static Kept& the = *new Kept;
  return the;
}

// Up to an eighth more, so that calls of nearly the same size share a block.
std::size_t rounded(std::size_t bytes) {
  std::size_t step = 64;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

// Whoever does not get the lock goes without: in a forked child its owner may be gone.
void* take_block(std::size_t bytes) {
  bytes = rounded(bytes);
  if (bytes >= worth_keeping) {
    const std::unique_lock lock(kept().mutex, std::try_to_lock);
    if (lock)
      for (std::size_t i = 0; i < kept().blocks.size(); ++i)
        if (kept().blocks[i].bytes == bytes) return kept().take(i).memory;
  }
  void* memory = std::aligned_alloc(64, bytes);
  if (!memory) throw std::bad_alloc();
  return memory;
}

void give_block(void* memory, std::size_t bytes) {
  bytes = rounded(bytes);
  if (bytes >= worth_keeping && bytes <= most_kept) {
    const std::unique_lock lock(kept().mutex, std::try_to_lock);
    if (lock) {
      while (kept().bytes + bytes > most_kept) std::free(kept().take(0).memory);
      kept().blocks.push_back({memory, bytes});
      kept().bytes += bytes;
      return;
    }
  }
  std::free(memory);
}

}  // namespace tidegate
