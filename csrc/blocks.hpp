// Large blocks of memory that serve again: each training step packs its weights anew and keeps gates for
// its backward pass, and fresh pages from the system cost several times what packing does.
#pragma once

#include <cstddef>

namespace tidegate {

// `bytes` of memory at an address divisible by 64; throws std::bad_alloc.
void* take_block(std::size_t bytes);
void give_block(void* block, std::size_t bytes);

}  // namespace tidegate
