// Random choices, one for each number of a large array, from a seed alone.
//
// Word k of a seed is SplitMix64's (Steele, Lea & Flood 2014): a mix of seed + (k + 1) * golden. Its
// four quarters decide for the numbers k, k + words, k + 2 * words and k + 3 * words, so that no
// number waits for another, and the result is the same on every machine.
#pragma once

#include "layer.hpp"

namespace tidegate::TIDEGATE_ISA {

inline std::uint64_t random_word(std::uint64_t seed, std::uint64_t k) {
  std::uint64_t z = seed + (k + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// numbers (size,) <- one with the chance parts / 65536, else zero.
template <class T>
void draw(std::uint64_t seed, index size, int parts, T* numbers) {
  const index words = (size + 3) / 4;
  for (index quarter = 0; quarter < 4; ++quarter) {
    T* to = numbers + quarter * words;
    const index rest = size - quarter * words, count = rest < words ? rest : words;
    for (index k = 0; k < count; ++k)
      to[k] = T(int(random_word(seed, k) >> (16 * quarter) & 0xffff) < parts);
  }
}

}  // namespace tidegate::TIDEGATE_ISA
