// One SIMD vector type for each instruction set, and exp, sigmoid and tanh on it.
//
// Included by kernels.cpp once for each of its objects, inside a namespace of the object's name, so that
// no function is shared between objects compiled with different flags.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(TIDEGATE_ISA_avx2) || defined(TIDEGATE_ISA_avx512)
#include <immintrin.h>
#elif defined(TIDEGATE_ISA_neon)
#include <arm_neon.h>
#endif

#define TIDEGATE_INLINE inline __attribute__((always_inline))
#define TIDEGATE_APART __attribute__((noinline))  // what a call does once or twice: one copy of it
#define TIDEGATE_INLINED __attribute__((always_inline))  // after the parameters of a lambda
// for (int i = begin; i < end; ++i), written out by the compiler.
#define TIDEGATE_UNROLLED(i, begin, end) _Pragma("GCC unroll 32") for (int i = begin; i < end; ++i)

namespace tidegate::TIDEGATE_ISA {

using index = std::ptrdiff_t;

// Registers and tile shapes: `group_vectors` vectors of units form a group (panels.hpp), and
// `tile_rows(v)` rows by v vectors fill the register file without spilling.
#if defined(TIDEGATE_ISA_avx512)
constexpr int vector_bytes = 64, group_vectors = 1, gate_panel = 3, max_panel = 4;
constexpr int gate_rows = 4;
constexpr bool fused = true;  // a product and a sum with one rounding
constexpr int tile_rows(int vectors) { return vectors == 4 ? 6 : 8; }
#elif defined(TIDEGATE_ISA_avx2)
constexpr int vector_bytes = 32, group_vectors = 2, gate_panel = 2, max_panel = 2;
constexpr int gate_rows = 2;
constexpr bool fused = true;
constexpr int tile_rows(int) { return 6; }
#else  // NEON, and the portable build that the compiler lowers to whatever it has
constexpr int vector_bytes = 16, group_vectors = 2, gate_panel = 2, max_panel = 2;
constexpr int gate_rows = 2;
#if defined(TIDEGATE_ISA_neon)
constexpr bool fused = true;
#else
constexpr bool fused = false;
#endif
constexpr int tile_rows(int) { return 6; }
#endif

template <class T>
constexpr int lanes = vector_bytes / int(sizeof(T));

// Compiler vectors: + - * / and comparisons work on them on every target.
typedef float F32 __attribute__((vector_size(vector_bytes)));
typedef double F64 __attribute__((vector_size(vector_bytes)));
typedef std::int32_t I32 __attribute__((vector_size(vector_bytes)));
typedef std::int16_t Half __attribute__((vector_size(vector_bytes / 2)));  // as many as F32 has

template <class T>
using Vec = std::conditional_t<sizeof(T) == 4, F32, F64>;
typedef std::uint32_t U32 __attribute__((vector_size(vector_bytes)));
typedef std::uint64_t U64 __attribute__((vector_size(vector_bytes)));
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, U32, U64>;

template <class T>
TIDEGATE_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

template <class T>
TIDEGATE_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
TIDEGATE_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

#if defined(TIDEGATE_ISA_avx512)

TIDEGATE_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps(a, b, c); }
TIDEGATE_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm512_fmadd_pd(a, b, c); }
TIDEGATE_INLINE F32 fnma(F32 a, F32 b, F32 c) { return (F32)_mm512_fnmadd_ps(a, b, c); }
TIDEGATE_INLINE F64 fnma(F64 a, F64 b, F64 c) { return (F64)_mm512_fnmadd_pd(a, b, c); }
// The second operand is returned when either is NaN: clamp(NaN) stays NaN.
TIDEGATE_INLINE F32 min(F32 a, F32 b) { return (F32)_mm512_min_ps(a, b); }
TIDEGATE_INLINE F64 min(F64 a, F64 b) { return (F64)_mm512_min_pd(a, b); }
TIDEGATE_INLINE F32 max(F32 a, F32 b) { return (F32)_mm512_max_ps(a, b); }
TIDEGATE_INLINE F64 max(F64 a, F64 b) { return (F64)_mm512_max_pd(a, b); }
// 14 bits and one Newton step: 28 bits, an ulp or less in float32, a third of a division's time.
TIDEGATE_INLINE F32 reciprocal(F32 a) {
  const F32 guess = (F32)_mm512_rcp14_ps(a);
  return fma(guess, fnma(a, guess, broadcast(1.0f)), guess);
}
TIDEGATE_INLINE F64 reciprocal(F64 a) { return 1.0 / a; }
TIDEGATE_INLINE F32 load_n(const float* p, index n) {
  return n >= 16 ? load(p) : (F32)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
TIDEGATE_INLINE F64 load_n(const double* p, index n) {
  return n >= 8 ? load(p) : (F64)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
}
TIDEGATE_INLINE void store_n(float* p, F32 v, index n) {
  n >= 16 ? store(p, v) : _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v);
}
TIDEGATE_INLINE void store_n(double* p, F64 v, index n) {
  n >= 8 ? store(p, v) : _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), v);
}
TIDEGATE_INLINE F32 where_less(F32 a, F32 b, F32 yes, F32 no) {
  return (F32)_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
TIDEGATE_INLINE F64 where_less(F64 a, F64 b, F64 yes, F64 no) {
  return (F64)_mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), no, yes);
}

#else

#if defined(TIDEGATE_ISA_avx2)
TIDEGATE_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps(a, b, c); }
TIDEGATE_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)_mm256_fmadd_pd(a, b, c); }
TIDEGATE_INLINE F32 fnma(F32 a, F32 b, F32 c) { return (F32)_mm256_fnmadd_ps(a, b, c); }
TIDEGATE_INLINE F64 fnma(F64 a, F64 b, F64 c) { return (F64)_mm256_fnmadd_pd(a, b, c); }
#elif defined(TIDEGATE_ISA_neon)
TIDEGATE_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32(c, a, b); }
TIDEGATE_INLINE F64 fma(F64 a, F64 b, F64 c) { return (F64)vfmaq_f64(c, a, b); }
TIDEGATE_INLINE F32 fnma(F32 a, F32 b, F32 c) { return (F32)vfmsq_f32(c, a, b); }
TIDEGATE_INLINE F64 fnma(F64 a, F64 b, F64 c) { return (F64)vfmsq_f64(c, a, b); }
#else
template <class V>
TIDEGATE_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
template <class V>
TIDEGATE_INLINE V fnma(V a, V b, V c) {
  return c - a * b;
}
#endif

// The second operand is returned when either is NaN: clamp(NaN) stays NaN.
template <class V>
TIDEGATE_INLINE V min(V a, V b) {
  return a < b ? a : b;
}
template <class V>
TIDEGATE_INLINE V max(V a, V b) {
  return a > b ? a : b;
}
template <class V>
TIDEGATE_INLINE V where_less(V a, V b, V yes, V no) {
  return a < b ? yes : no;
}
template <class V>
TIDEGATE_INLINE V reciprocal(V a) {
  return 1 / a;
}

#if defined(TIDEGATE_ISA_avx2)
// The first n lanes: of the loops below, compilers make a fifth more code, and slower.
TIDEGATE_INLINE __m256i first(const float*, index n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TIDEGATE_INLINE __m256i first(const double*, index n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
TIDEGATE_INLINE F32 load_n(const float* p, index n) {
  return n >= 8 ? load(p) : (F32)_mm256_maskload_ps(p, first(p, n));
}
TIDEGATE_INLINE F64 load_n(const double* p, index n) {
  return n >= 4 ? load(p) : (F64)_mm256_maskload_pd(p, first(p, n));
}
TIDEGATE_INLINE void store_n(float* p, F32 v, index n) {
  n >= 8 ? store(p, v) : _mm256_maskstore_ps(p, first(p, n), v);
}
TIDEGATE_INLINE void store_n(double* p, F64 v, index n) {
  n >= 4 ? store(p, v) : _mm256_maskstore_pd(p, first(p, n), v);
}
#else
template <class T>
TIDEGATE_INLINE Vec<T> load_n(const T* p, index n) {
  if (n >= lanes<T>) return load(p);
  Vec<T> v{};
  for (index i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T>
TIDEGATE_INLINE void store_n(T* p, Vec<T> v, index n) {
  if (n >= lanes<T>) return store(p, v);
  for (index i = 0; i < n; ++i) p[i] = v[i];
}
#endif

#endif

template <class T>
TIDEGATE_INLINE Vec<T> absolute(Vec<T> a) {
  constexpr auto sign = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>(1)
                        << (8 * sizeof(T) - 1);
  return (Vec<T>)((Bits<T>)a & ~(Bits<T>{} + sign));
}

template <class T>
TIDEGATE_INLINE Vec<T> copy_sign(Vec<T> magnitude, Vec<T> sign_of) {
  const Bits<T> mask = (Bits<T>)broadcast(T(-0.0));
  return (Vec<T>)((Bits<T>)magnitude | ((Bits<T>)sign_of & mask));
}

// Weights may be stored narrower than they are used; arithmetic stays in T.
struct BFloat16Pair {  // upper halves of two floats that follow each other along k
  std::uint16_t first, second;
};
using Int8 = std::int8_t;  // times a scale for each column, panels.hpp
struct Int8Pair {  // two that follow each other along k
  std::int8_t first, second;
};

TIDEGATE_INLINE F32 load_weight(const float* p) { return load(p); }
TIDEGATE_INLINE F64 load_weight(const double* p) { return load(p); }
#if defined(TIDEGATE_ISA_avx512)
TIDEGATE_INLINE F32 load_weight(const Int8* p) {
  return (F32)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
#elif defined(TIDEGATE_ISA_avx2)
TIDEGATE_INLINE F32 load_weight(const Int8* p) {
  return (F32)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
#else
TIDEGATE_INLINE F32 load_weight(const Int8* p) {
  std::int8_t bytes __attribute__((vector_size(vector_bytes / 4)));
  __builtin_memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, I32), F32);
}
#endif

// Whether a processor multiplies pairs of bfloat16 by itself, and then
// sum + second * words.second + first * words.first of each lane, each step rounded as float32 is.
#if defined(TIDEGATE_ISA_avx512)
inline bool multiplies_bfloat16() { return __builtin_cpu_supports("avx512bf16"); }
TIDEGATE_INLINE F32 add_products(F32 sum, const BFloat16Pair* w, std::uint32_t words) {
  const I32 pair = I32{} + std::int32_t(words);
  const I32 weights = (I32)_mm512_loadu_si512(w);
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(pair));
  return sum;
}
#else
constexpr bool multiplies_bfloat16() { return false; }
#endif

// sum + first * pair.first + second * pair.second of each lane, whole numbers: the same on every target.
#if defined(TIDEGATE_ISA_avx512)
TIDEGATE_INLINE I32 add_products(I32 sum, const Int8Pair* w, std::int32_t pair) {
  const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)w));
  return sum + (I32)_mm512_madd_epi16(wide, _mm512_set1_epi32(pair));
}
#elif defined(TIDEGATE_ISA_avx2)
TIDEGATE_INLINE I32 add_products(I32 sum, const Int8Pair* w, std::int32_t pair) {
  const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w));
  return sum + (I32)_mm256_madd_epi16(wide, _mm256_set1_epi32(pair));
}
#else
TIDEGATE_INLINE I32 add_products(I32 sum, const Int8Pair* w, std::int32_t pair) {
  const std::int32_t first = std::int16_t(pair), second = pair >> 16;
  for (int i = 0; i < lanes<float>; ++i) sum[i] += w[i].first * first + w[i].second * second;
  return sum;
}
#endif

// Each lane's neighbour: 1, 0, 3, 2 and so on.
template <std::size_t... i>
TIDEGATE_INLINE F32 swap_neighbours(F32 v, std::index_sequence<i...>) {
  return __builtin_shufflevector(v, v, (i ^ 1)...);
}
TIDEGATE_INLINE F32 swap_neighbours(F32 v) {
  return swap_neighbours(v, std::make_index_sequence<lanes<float>>());
}

// One stage of a transpose: blocks of `size` lanes change places between two rows.
template <class T, int size, std::size_t... j>
TIDEGATE_INLINE void swap_blocks(Vec<T>& a, Vec<T>& b, std::index_sequence<j...>) {
  const Vec<T> first = a;
  a = __builtin_shufflevector(first, b, (j & size ? lanes<T> + j - size : j)...);
  b = __builtin_shufflevector(first, b, (j & size ? lanes<T> + j : j + size)...);
}

template <class T, int size = lanes<T> / 2>
TIDEGATE_INLINE void transpose(Vec<T> (&rows)[lanes<T>]) {
  TIDEGATE_UNROLLED(i, 0, lanes<T>)
  if (!(i & size))
    swap_blocks<T, size>(rows[i], rows[i + size], std::make_index_sequence<lanes<T>>());
  if constexpr (size > 1) transpose<T, size / 2>(rows);
}

// Where exp still has a normal result and a normal reciprocal.
template <class T>
constexpr T exp_limit = sizeof(T) == 4 ? T(87.336) : T(708.396);

template <class T>
constexpr int mantissa_bits = sizeof(T) == 4 ? 23 : 52;

// What follows takes n vectors side by side, one operation of all before the next: each waits for
// the latency of its own steps, and the processor fills that with the steps of the others.

// `factor` times y = m ln 2 + r with m whole, |factor * y| <= exp_limit: y becomes r, |r| <= ln 2 / 2,
// and `exponent` m where a number has its exponent. `exact` is r too; where float has fused products,
// y lacks what the rounding of ln 2 leaves, which moves e^r - 1 - r by an ulp at most: all but the
// last sum need not wait for it.
template <class T, int factor = 1, int n>
TIDEGATE_INLINE void reduce(Vec<T> (&y)[n], Bits<T> (&exponent)[n], Vec<T> (&exact)[n]) {
  // Beside 1.5 * 2^mantissa_bits there is room for whole numbers only, and m stands in the last bits.
  constexpr T big = T(3ll << (mantissa_bits<T> - 1)), per = T(factor * 1.44269504088896340736);
  constexpr bool f32 = sizeof(T) == 4, late = f32 && fused;
  constexpr T high = late  ? T(0.693147182464599609375)
                     : f32 ? T(0.693359375)
                           : T(0.693147180369123816490);
  constexpr T low = late  ? T(-1.904654299957768e-9)
                    : f32 ? T(-2.12194440e-4)
                          : T(1.90821492927058770002e-10);
  Vec<T> m[n];
  TIDEGATE_UNROLLED(i, 0, n) m[i] = fma(y[i], broadcast(per), broadcast(big));
  TIDEGATE_UNROLLED(i, 0, n) y[i] *= broadcast(T(factor));
  TIDEGATE_UNROLLED(i, 0, n) exponent[i] = (Bits<T>)m[i] << mantissa_bits<T>;
  TIDEGATE_UNROLLED(i, 0, n) m[i] -= broadcast(big);
  TIDEGATE_UNROLLED(i, 0, n) y[i] = fnma(m[i], broadcast(high), y[i]);
  TIDEGATE_UNROLLED(i, 0, n) exact[i] = fnma(m[i], broadcast(low), y[i]);
  if constexpr (!late) TIDEGATE_UNROLLED(i, 0, n) y[i] = exact[i];
}

// A polynomial, coefficients from the lowest power, pairs of them side by side.
template <class T, int n, int size>
TIDEGATE_INLINE void in_pairs(const T (&c)[size], const Vec<T> (&r)[n], const Vec<T> (&r_2)[n],
                              Vec<T> (&q)[n]) {
  constexpr int top = (size - 1) / 2 * 2;
  TIDEGATE_UNROLLED(i, 0, n) q[i] = broadcast(c[top]);
  if constexpr (size % 2 == 0)
    TIDEGATE_UNROLLED(i, 0, n) q[i] = fma(r[i], broadcast(c[size - 1]), q[i]);
  TIDEGATE_UNROLLED(k, 1, top / 2 + 1) {
    Vec<T> pair[n];
    TIDEGATE_UNROLLED(i, 0, n)
    pair[i] = fma(r[i], broadcast(c[top - 2 * k + 1]), broadcast(c[top - 2 * k]));
    TIDEGATE_UNROLLED(i, 0, n) q[i] = fma(q[i], r_2[i], pair[i]);
  }
}

// expm1 = e^r - 1, r as reduce() gives it. float: our minimax fit, whose error in e^r is 3e-9; double:
// the series to r^13, whose rest is below 1e-17.
template <class T, int n>
TIDEGATE_INLINE void expm1_each(const Vec<T> (&r)[n], const Vec<T> (&exact)[n],
                                Vec<T> (&expm1)[n]) {
  Vec<T> r_2[n], q[n];
  TIDEGATE_UNROLLED(i, 0, n) r_2[i] = r[i] * r[i];
  if constexpr (sizeof(T) == 4) {
    constexpr float c[] = {0.49999994f, 0.16666521f, 0.04166839f, 0.008368717f, 0.0013814599f};
    in_pairs<T>(c, r, r_2, q);
  } else {
    constexpr double c[] = {1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,
                            1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                            1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
    in_pairs<T>(c, r, r_2, q);
  }
  TIDEGATE_UNROLLED(i, 0, n) expm1[i] = fma(q[i], r_2[i], exact[i]);
}

// exp(factor * y) = scale + scale * expm1.
template <class T, int factor = 1, int n>
TIDEGATE_INLINE void exp_parts(Vec<T> (&y)[n], Vec<T> (&scale)[n], Vec<T> (&expm1)[n]) {
  Bits<T> exponent[n];
  Vec<T> exact[n];
  reduce<T, factor>(y, exponent, exact);
  expm1_each<T>(y, exact, expm1);
  TIDEGATE_UNROLLED(i, 0, n) scale[i] = (Vec<T>)(exponent[i] + (Bits<T>)broadcast(T(1)));
}

// 1 / (1 + exp(-x)); 0 where that is below the smallest normal number.
template <class T, int n>
TIDEGATE_INLINE void sigmoid_each(Vec<T> (&x)[n]) {
  const Vec<T> limit = broadcast(exp_limit<T>), one = broadcast(T(1));
  Vec<T> y[n], scale[n], e[n];
  TIDEGATE_UNROLLED(i, 0, n) y[i] = -min(limit, x[i]);
  exp_parts<T>(y, scale, e);
  TIDEGATE_UNROLLED(i, 0, n) e[i] = fma(scale[i], e[i], scale[i] + one);
  TIDEGATE_UNROLLED(i, 0, n) e[i] = reciprocal(e[i]);
  TIDEGATE_UNROLLED(i, 0, n) x[i] = where_less(x[i], -limit, Vec<T>{}, e[i]);
}

// With e = exp(2|x|): (e - 1) / (e + 1) near zero, 1 - 2 / (e + 1) farther out, where the error of
// the quotient is small against one, so that tanh rises to exactly one without a wiggle.
template <class T, int n>
TIDEGATE_INLINE void tanh_each(Vec<T> (&x)[n]) {
  const Vec<T> one = broadcast(T(1)), two = broadcast(T(2));
  Vec<T> y[n], scale[n], expm1[n], inverse[n], far[n];
  TIDEGATE_UNROLLED(i, 0, n) y[i] = min(broadcast(T(20)), absolute<T>(x[i]));
  exp_parts<T, 2>(y, scale, expm1);
  TIDEGATE_UNROLLED(i, 0, n) inverse[i] = reciprocal(fma(scale[i], expm1[i], scale[i] + one));
  TIDEGATE_UNROLLED(i, 0, n) far[i] = fnma(two, inverse[i], one);
  TIDEGATE_UNROLLED(i, 0, n) {
    const Vec<T> near = fma(scale[i], expm1[i], scale[i] - one) * inverse[i];
    x[i] = copy_sign<T>(where_less(absolute<T>(x[i]), broadcast(T(0.6)), near, far[i]), x[i]);
  }
}

template <class T>
TIDEGATE_INLINE Vec<T> sigmoid(Vec<T> x) {
  Vec<T> only[] = {x};
  sigmoid_each<T>(only);
  return only[0];
}

template <class T>
TIDEGATE_INLINE Vec<T> tanh(Vec<T> x) {
  Vec<T> only[] = {x};
  tanh_each<T>(only);
  return only[0];
}

}  // namespace tidegate::TIDEGATE_ISA
