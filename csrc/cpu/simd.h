// Arithmetic that the compiler turns into vector instructions: write a plain loop over arrays, mark its function
// RLSEQ2SEQ_SIMD and the loop `#pragma omp simd`. The function is then compiled for AVX-512, for AVX2 with FMA and for
// the baseline, and the processor's kind is picked when the library is loaded. Elsewhere there is one version, and under
// AddressSanitizer too, which cannot work while the loader asks for the kind.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define RLSEQ2SEQ_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RLSEQ2SEQ_SIMD
#endif
// What is called within such a function has to be inlined, lest it be compiled for the baseline alone.
#define RLSEQ2SEQ_INLINE inline __attribute__((always_inline))

namespace rlseq2seq {

// std::bit_cast, which C++17 lacks, as which older releases of PyTorch have extensions compiled.
template <class To, class From>
RLSEQ2SEQ_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// e^x to 1.3 units in the last place; 0 below -87.3 (where results would be subnormal), infinite above 88.7, nan for nan.
RLSEQ2SEQ_INLINE float fast_exp(float x) {
  const float above = -88.0f > x ? -88.0f : x;  // comparisons this way round keep nan
  const float within = 89.0f < above ? 89.0f : above;
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer
  const float shifted = within * 1.44269504f + round;
  const float n = shifted - round;
  const float r = (within - n * 0.693145752f) - n * 1.42860677e-6f;  // |r| <= ln(2) / 2
  float p = 1.9875691500e-4f;  // Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  const int32_t power = bit_cast<int32_t>(shifted) - bit_cast<int32_t>(round);
  // 2^n in two factors, since 2^128 is not a number; unsigned, since for nan n is anything.
  const int32_t half = power >> 1;
  const uint32_t low = static_cast<uint32_t>(half + 127) << 23, high = static_cast<uint32_t>(power - half + 127) << 23;
  const float scaled = p * bit_cast<float>(low) * bit_cast<float>(high);
  return x < -87.33654f ? 0.0f : scaled;
}

// tanh to 7 units in the last place, 4e-7 in absolute terms, and never above 1: a quotient of polynomials (as in Eigen), clamped where it has reached 1.
RLSEQ2SEQ_INLINE float fast_tanh(float x) {
  const float size = std::fabs(x);  // one comparison instead of two, and this way round it keeps nan
  const float c = std::copysign(7.90531111f < size ? 7.90531111f : size, x);
  const float s = c * c;
  float p = -2.76076847742355e-16f;
  p = p * s + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  float q = 1.19825839466702e-06f;
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return c * p / q;
}

RLSEQ2SEQ_INLINE float fast_sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

// Double precision is there to check by: it takes the time that the C library takes.
RLSEQ2SEQ_INLINE double fast_exp(double x) { return std::exp(x); }
RLSEQ2SEQ_INLINE double fast_tanh(double x) { return std::tanh(x); }
RLSEQ2SEQ_INLINE double fast_sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace rlseq2seq
