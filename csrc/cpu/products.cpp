// A matrix product for few rows. A library packs the weights anew in each call, 16 MB for 8,000 tokens of 512 features,
// which takes as long as the products of 32 rows. Here both sides are read as they lie: a tile of 4 rows and 6 tokens
// is 24 sums in registers (of 2 rows and 6 tokens, 12, without AVX-512), ten loads for 24 multiplications, and the
// weights come from memory once for 128 rows.
#include "products.h"

#include "simd.h"

#include <algorithm>

namespace rlseq2seq {
namespace {

typedef float Vector16 __attribute__((vector_size(64), aligned(4)));
typedef float Vector8 __attribute__((vector_size(32), aligned(4)));
typedef float Vector4 __attribute__((vector_size(16), aligned(4)));

// A tile is kRows x kTokens sums in registers: 24 of the 32 of AVX-512, 12 of the 16 of AVX2 and of 8 of SSE. Vectors
// wider than the registers would be taken apart in memory.
struct Wide {
  typedef Vector16 Vector;
  static constexpr int kRows = 4, kTokens = 6;
};
struct Middle {
  typedef Vector8 Vector;
  static constexpr int kRows = 2, kTokens = 6;
};
struct Narrow {
  typedef Vector4 Vector;
  static constexpr int kRows = 2, kTokens = 6;
};

constexpr int64_t kRowsAtOnce = 128;  // of 512 features: 256 KiB, in the second-level cache

// By reference: how vectors are returned depends on the processor.
template <class Whole, class Half>
RLSEQ2SEQ_INLINE void halve(const Whole& x, Half& sum) {
  Half high;
  std::memcpy(&sum, &x, sizeof sum);
  std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof sum, sizeof high);
  sum += high;
}

RLSEQ2SEQ_INLINE float sum_of(const Vector4& x) { return (x[0] + x[2]) + (x[1] + x[3]); }
RLSEQ2SEQ_INLINE float sum_of(const Vector8& x) {
  Vector4 half;
  halve(x, half);
  return sum_of(half);
}
RLSEQ2SEQ_INLINE float sum_of(const Vector16& x) {
  Vector8 half;
  halve(x, half);
  return sum_of(half);
}

template <class Vector, int kA, int kB>
RLSEQ2SEQ_INLINE void tile(const float* features, const float* weight, int64_t width, const float* bias, float* out,
                           int64_t stride) {
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  Vector sums[kA][kB];
  for (int a = 0; a < kA; ++a) {
    for (int b = 0; b < kB; ++b) sums[a][b] = Vector{};
  }
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    Vector x[kA];
    for (int a = 0; a < kA; ++a) std::memcpy(&x[a], features + a * width + i, sizeof(Vector));
    for (int b = 0; b < kB; ++b) {
      Vector w;
      std::memcpy(&w, weight + b * width + i, sizeof w);
      for (int a = 0; a < kA; ++a) sums[a][b] += x[a] * w;
    }
  }
  for (int a = 0; a < kA; ++a) {
    for (int b = 0; b < kB; ++b) {
      float sum = sum_of(sums[a][b]);
      for (int64_t k = i; k < width; ++k) sum += features[a * width + k] * weight[b * width + k];
      out[a * stride + b] = sum + bias[b];
    }
  }
}

template <class Shape, int kB>
RLSEQ2SEQ_INLINE void tiles(const float* features, int64_t rows, const float* weight, int64_t width,
                            const float* bias, float* out, int64_t stride) {
  typedef typename Shape::Vector Vector;
  constexpr int kA = Shape::kRows;
  int64_t n = 0;
  for (; n + kA <= rows; n += kA) {
    tile<Vector, kA, kB>(features + n * width, weight, width, bias, out + n * stride, stride);
  }
  for (; n < rows; ++n) tile<Vector, 1, kB>(features + n * width, weight, width, bias, out + n * stride, stride);
}

template <class Shape>
RLSEQ2SEQ_INLINE void products_of(const float* features, int64_t rows, const float* weight, const float* bias,
                                  int64_t tokens, int64_t width, float* out, int64_t stride) {
  constexpr int kTokens = Shape::kTokens;
  for (int64_t n = 0; n < rows; n += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, rows - n);
    const float* const x = features + n * width;
    float* const to = out + n * stride;
    int64_t v = 0;
    for (; v + kTokens <= tokens; v += kTokens) {
      tiles<Shape, kTokens>(x, count, weight + v * width, width, bias + v, to + v, stride);
    }
    for (; v < tokens; ++v) tiles<Shape, 1>(x, count, weight + v * width, width, bias + v, to + v, stride);
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target("arch=x86-64-v4"))) void wide(const float* features, int64_t rows, const float* weight,
                                                    const float* bias, int64_t tokens, int64_t width, float* out,
                                                    int64_t stride) {
  products_of<Wide>(features, rows, weight, bias, tokens, width, out, stride);
}

__attribute__((target("arch=x86-64-v3"))) void middle(const float* features, int64_t rows, const float* weight,
                                                      const float* bias, int64_t tokens, int64_t width, float* out,
                                                      int64_t stride) {
  products_of<Middle>(features, rows, weight, bias, tokens, width, out, stride);
}
#endif

}  // namespace

void products(const float* features, int64_t rows, const float* weight, const float* bias, int64_t tokens,
              int64_t width, float* out, int64_t stride) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (__builtin_cpu_supports("x86-64-v4")) return wide(features, rows, weight, bias, tokens, width, out, stride);
  if (__builtin_cpu_supports("x86-64-v3")) return middle(features, rows, weight, bias, tokens, width, out, stride);
#endif
  products_of<Narrow>(features, rows, weight, bias, tokens, width, out, stride);
}

}  // namespace rlseq2seq
