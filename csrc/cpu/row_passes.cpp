#include "row_passes.h"

#include "../search.h"
#include "simd.h"

#include <algorithm>
#include <limits>

namespace rlseq2seq {
namespace {

// log(x) to 1 unit in the last place, for normal numbers (Cephes logf).
RLSEQ2SEQ_INLINE float fast_log(float x) {
  constexpr int32_t root_half = 0x3f3504f3;  // the bits of sqrt(1/2): x = 2^n m with m from there to sqrt(2)
  const int32_t bits = bit_cast<int32_t>(x) - root_half;
  const auto n = static_cast<float>(bits >> 23);
  const float f = bit_cast<float>((bits & 0x7fffff) + root_half) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * f + -1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f + -1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f + -1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f + -2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float square = f * f;
  return (f + (p * f * square + n * -2.12194440e-4f - 0.5f * square)) + n * 0.693359375f;
}
RLSEQ2SEQ_INLINE double fast_log(double x) { return std::log(x); }

template <class T>
RLSEQ2SEQ_INLINE T largest_of(const T* x, int64_t size) {
  T most = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < size; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

template <class T>
RLSEQ2SEQ_INLINE void chunk_maxima_of(const T* row, int64_t size, T* maxima) {
  for (int64_t at = 0; at < size; at += kChunk) *maxima++ = largest_of(row + at, std::min(kChunk, size - at));
}

template <class T>
RLSEQ2SEQ_INLINE void chunk_sums_of(const T* row, int64_t size, T subtracted, T* sums) {
  for (int64_t at = 0; at < size; at += kChunk) {
    const int64_t end = std::min(at + kChunk, size);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = at; i < end; ++i) sum += fast_exp(row[i] - subtracted);
    *sums++ = sum;
  }
}

template <class T>
RLSEQ2SEQ_INLINE void chunk_weights_of(T* row, int64_t size, T subtracted, T scale, T* sums) {
  for (int64_t at = 0; at < size; at += kChunk) {
    const int64_t end = std::min(at + kChunk, size);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = at; i < end; ++i) {
      row[i] = fast_exp((row[i] - subtracted) * scale);
      sum += row[i];
    }
    *sums++ = sum;
  }
}

template <class T>
RLSEQ2SEQ_INLINE Above above_of(const T* weights, int64_t size, T threshold) {
  Above above{0, 0};
  for (int64_t at = 0; at < size; at += kChunk) {
    const int64_t end = std::min(at + kChunk, size);
    int32_t count = 0;
    T mass = 0;
#pragma omp simd reduction(+ : count, mass)
    for (int64_t i = at; i < end; ++i) {
      count += weights[i] > threshold;
      mass += weights[i] > threshold ? weights[i] : T{0};
    }
    above.count += count;
    above.mass += static_cast<double>(mass);
  }
  return above;
}

template <class T>
RLSEQ2SEQ_INLINE void add_copies_of(T* logits, const T* masses, int64_t size, T offset) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const T generated = logits[i], copied = fast_log(masses[i]) + offset;
    const T more = generated > copied ? generated : copied, less = generated > copied ? copied : generated;
    logits[i] = more + fast_log(T{1} + fast_exp(less - more));
  }
}

}  // namespace

#define RLSEQ2SEQ_ROW_PASSES(T)                                                                              \
  RLSEQ2SEQ_SIMD T largest(const T* x, int64_t size) { return largest_of(x, size); }                         \
  RLSEQ2SEQ_SIMD void chunk_maxima(const T* row, int64_t size, T* maxima) { chunk_maxima_of(row, size, maxima); } \
  RLSEQ2SEQ_SIMD void chunk_sums(const T* row, int64_t size, T subtracted, T* sums) {                        \
    chunk_sums_of(row, size, subtracted, sums);                                                              \
  }                                                                                                          \
  RLSEQ2SEQ_SIMD void chunk_weights(T* row, int64_t size, T subtracted, T scale, T* sums) {                  \
    chunk_weights_of(row, size, subtracted, scale, sums);                                                    \
  }                                                                                                          \
  RLSEQ2SEQ_SIMD Above above(const T* weights, int64_t size, T threshold) {                               \
    return above_of(weights, size, threshold);                                                               \
  }                                                                                                          \
  RLSEQ2SEQ_SIMD void add_copies(T* logits, const T* masses, int64_t size, T offset) {                       \
    add_copies_of(logits, masses, size, offset);                                                             \
  }

RLSEQ2SEQ_ROW_PASSES(float)
RLSEQ2SEQ_ROW_PASSES(double)

}  // namespace rlseq2seq
