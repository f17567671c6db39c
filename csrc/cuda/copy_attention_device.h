// What the forward and backward CUDA kernels of copy_attention share: numbers, loads of 16 bytes, and the plan.
#pragma once

#include "copy_attention.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rlseq2seq::attention {

constexpr int kLanes = 32;
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kLanes;
constexpr int kRowGroup = 4;  // rows of a source that a block takes through its positions together
constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ inline float number(float x) { return x; }
__device__ inline float number(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline double number(double x) { return x; }

template <class T>
__device__ T rounded(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 rounded(float x) {
  return __float2bfloat16_rn(x);
}
template <class T>
__device__ T rounded(double x) {
  return x;
}

__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline double exp_of(double x) { return exp(x); }
__device__ inline float expm1_of(float x) { return expm1f(x); }
__device__ inline double expm1_of(double x) { return expm1(x); }
__device__ inline float log1p_of(float x) { return log1pf(x); }
__device__ inline double log1p_of(double x) { return log1p(x); }

// T is the type that the number came from.
template <class T>
struct Tanh;

// 1 - 2 / (e^2x + 1) with the hardware's exponential and reciprocal: absolute error below 3e-7, and 0, +-1 and nan come
// out right (e^2x overflows to infinity, whose reciprocal is 0).
template <>
struct Tanh<float> {
  static __device__ float of(float x) { return 1.0f - __fdividef(2.0f, __expf(2.0f * x) + 1.0f); }
};

// One instruction, relative error 2^-11: a quarter of what rounding to bfloat16 does.
template <>
struct Tanh<__nv_bfloat16> {
  static __device__ float of(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
};

template <>
struct Tanh<double> {
  static __device__ double of(double x) { return tanh(x); }
};

template <int kBytes>
struct Word;
template <>
struct Word<2> {
  using Type = unsigned short;
};
template <>
struct Word<4> {
  using Type = unsigned int;
};
template <>
struct Word<8> {
  using Type = uint2;
};
template <>
struct Word<16> {
  using Type = uint4;
};

// V numbers that are loaded and stored in one instruction.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T x[V];

  static __device__ Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }

  // From what no kernel writes while this one runs, so that the compiler may load it before earlier stores.
  static __device__ Pack read(const T* from) {
    const auto word = __ldg(reinterpret_cast<const typename Word<sizeof(T) * V>::Type*>(from));
    Pack pack;
    memcpy(&pack, &word, sizeof pack);
    return pack;
  }

  __device__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
};

template <class W>
__device__ W warp_sum(W x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

template <class W>
__device__ W warp_max(W x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    const W other = __shfl_xor_sync(kAllLanes, x, step);
    x = other > x ? other : x;
  }
  return x;
}

template <class W>
__device__ constexpr W minus_infinity() {
  return -static_cast<W>(__builtin_huge_valf());
}

inline unsigned blocks_of(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

// Calls launch<V, R, kAdditive>: numbers a load, rows a group, and the kind of scores.
template <class T, class Launch>
cudaError_t with_variant(const AttentionShape& shape, bool vectors, bool additive, const Launch& launch) {
  constexpr int wide = sizeof(T) == 8 ? 1 : 16 / sizeof(T);  // double precision is there to check by
  const auto rows = [&](auto v, auto kind) {
    constexpr int V = decltype(v)::value;
    constexpr bool kAdditive = decltype(kind)::value;
    return shape.shared <= 1 ? launch.template run<V, 1, kAdditive>() : launch.template run<V, kRowGroup, kAdditive>();
  };
  const auto kinds = [&](auto v) {
    return additive ? rows(v, std::true_type{}) : rows(v, std::false_type{});
  };
  if (vectors && wide > 1) return kinds(std::integral_constant<int, wide>{});
  return kinds(std::integral_constant<int, 1>{});
}

}  // namespace rlseq2seq::attention
