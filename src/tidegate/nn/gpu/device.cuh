// All that the kernels ask of a GPU, as functions. The tests have the same functions for a CPU.
//
// Shared memory is spoken of in bytes from its beginning, so that a place in it means the same in
// every block of a cluster.
#pragma once

#define DEVICE __device__ __forceinline__
#if CLUSTER > 1
#define KERNEL(name, Arguments)                                                            \
  extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1) \
      name(const __grid_constant__ Arguments p)
#else
#define KERNEL(name, Arguments) \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) name(const __grid_constant__ Arguments p)
#endif
#define ELEMENTWISE(name, Arguments) \
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ Arguments p)

extern __shared__ __align__(16) unsigned char shared_memory[];

DEVICE int thread() { return threadIdx.x; }
DEVICE int threads() { return blockDim.x; }
DEVICE int block_x() { return blockIdx.x; }
DEVICE int block_y() { return blockIdx.y; }
DEVICE int block_z() { return blockIdx.z; }
DEVICE int blocks_z() { return gridDim.z; }

DEVICE u32 address(u32 place) {
  return static_cast<u32>(__cvta_generic_to_shared(shared_memory)) + place;
}

DEVICE float as_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 as_bits(float value) { return __float_as_uint(value); }

// The same number; but what is made of it is made anew at every step, not kept in registers.
DEVICE u32 unforeseen(u32 bits) {
  asm volatile("" : "+r"(bits));
  return bits;
}

DEVICE float from_half(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Two numbers in half precision, in a word as they lie in memory.
DEVICE u32 to_pair(float first, float second) {
  u32 pair;
#if TYPE == FLOAT16
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
#else
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
#endif
  return pair;
}

// The same address; but it stays in registers, and is not made anew from what it was made of.
template <class T>
DEVICE T* kept_address(T* address) {
  asm("" : "+l"(address));
  return address;
}

// From and to global memory. What is read does not change while the kernel runs. Several words lie
// at a multiple of their length.
DEVICE void get_aligned(u32 (&words)[1], const void* from) {
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(words[0]) : "l"(__cvta_generic_to_global(from)));
}

DEVICE void get_aligned(u32 (&words)[2], const void* from) {
  asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "l"(__cvta_generic_to_global(from)));
}

DEVICE void get_one(u32& word, const u16* from) {
  asm volatile("{ .reg .u16 half; ld.global.nc.u16 half, [%1]; cvt.u32.u16 %0, half; }"
               : "=r"(word)
               : "l"(__cvta_generic_to_global(from)));
}

DEVICE void get_one(u32& word, const float* from) {
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(word) : "l"(__cvta_generic_to_global(from)));
}

DEVICE void put_aligned(void* to, const u32 (&words)[1]) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(words[0])
               : "memory");
}

DEVICE void put_aligned(void* to, const u32 (&words)[2]) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)),
               "r"(words[0]), "r"(words[1])
               : "memory");
}

DEVICE void put_one(u16* to, u16 number) {
  asm volatile("st.global.u16 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "h"(number)
               : "memory");
}

DEVICE void put_one(float* to, float number) {
  asm volatile("st.global.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "f"(number)
               : "memory");
}

// 1 / (1 + e), for e >= 0, infinity too; to 2 units in the last place.
DEVICE float reciprocal_of_one_plus(float e) { return __fdividef(1.0f, 1.0f + e); }
DEVICE float exponential(float x) { return __expf(x); }

// To 2^-11: for bfloat16 alone.
DEVICE float rough_tanh(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// d += a b on the tensor cores, by a whole warp. `a` is 16 rows of 32 bytes, `b` 8 rows of 32 bytes
// (that is, 8 columns), `d` 16 by 8; which thread holds what is in the PTX manual, "mma.m16n8k16".
DEVICE void tensor_product(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if TYPE == FLOAT16
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#elif TYPE == BFLOAT16
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
#endif
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 by 8 matrices of 16 bytes a row; thread i gives the place of row i % 8 of matrix i / 8.
DEVICE void load_matrices(u32 (&r)[4], u32 place) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address(place))
               : "memory");
}

DEVICE void put_words(u32 place, const u32 (&words)[4]) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address(place)), "r"(words[0]),
               "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}

// Of what never changes once the first barrier is passed.
DEVICE void get_words(u32 (&words)[4], u32 place) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address(place)));
}

#if CLUSTER > 1
// Where the shared memory of another block of the cluster begins.
DEVICE u32 start_of(int rank) {
  u32 there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address(0)), "r"(rank));
  return there;
}
#endif

// Store words at the same place of every block in the cluster.
DEVICE void put_everywhere(u32 place, const u32 (&words)[1]) {
#if CLUSTER == 1
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address(place)), "r"(words[0]) : "memory");
#else
#pragma unroll
  for (int rank = 0; rank < CLUSTER; ++rank) {
    asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(start_of(rank) + place), "r"(words[0])
                 : "memory");
  }
#endif
}

DEVICE void put_everywhere(u32 place, const u32 (&words)[2]) {
#if CLUSTER == 1
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(address(place)), "r"(words[0]),
               "r"(words[1])
               : "memory");
#else
#pragma unroll
  for (int rank = 0; rank < CLUSTER; ++rank) {
    asm volatile("st.shared::cluster.v2.u32 [%0], {%1, %2};" ::"r"(start_of(rank) + place),
                 "r"(words[0]), "r"(words[1])
                 : "memory");
  }
#endif
}

// A barrier in two halves. Once every thread of the cluster has arrived, what it had stored is seen
// by all that waited. What a cluster's thread has on its way to global memory holds its arrival up:
// the place for such stores is between the halves.
DEVICE void arrive() {
#if CLUSTER > 1
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

DEVICE void wait() {
#if CLUSTER == 1
  __syncthreads();
#else
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
