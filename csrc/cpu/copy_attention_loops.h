// The inner loops of copy_attention on the CPU: vectors over A or C for one position, or over the positions of a row.
// Plain C++, no torch. Sums over A or C are of one position, so their order depends on the sizes alone.
#pragma once

#include "simd.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace rlseq2seq::attention {

template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

// v . tanh(k + q), or with a weight of coverage v . tanh(k + q + c w).
template <class T>
RLSEQ2SEQ_SIMD T additive_energy(const T* key, const T* query, const T* score, T coverage, const T* weight, int64_t n) {
  T sum = 0;
  if (weight == nullptr) {
#pragma omp simd reduction(+ : sum)
    for (int64_t a = 0; a < n; ++a) sum += score[a] * fast_tanh(key[a] + query[a]);
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t a = 0; a < n; ++a) sum += score[a] * fast_tanh(key[a] + query[a] + coverage * weight[a]);
  }
  return sum;
}

// tanh(k + q) = 1 - 2 / (1 + e^2k e^2q). Rows that share a key share its exponential, and two numbers share a division,
// so that each takes 4 instructions instead of 16. Within this range the product of two denominators, below e^80, is a
// number; beyond it, and in double precision, there is tanh.
constexpr float kExponentialRange = 10;

// e^2x of each number; false if one of them is out of range. nan, which stays nan, is not.
RLSEQ2SEQ_SIMD inline bool exponentials(const float* x, float* __restrict out, int64_t n) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t a = 0; a < n; ++a) {
    const float size = std::fabs(x[a]);
    largest = size > largest ? size : largest;
    out[a] = fast_exp(2 * x[a]);
  }
  return largest <= kExponentialRange;
}

// v . tanh(k + q) of exponentials of k and q, and the sum of v.
RLSEQ2SEQ_SIMD inline float energy_of_exponentials(const float* key, const float* query, const float* score,
                                                   float score_sum, int64_t n) {
  const int64_t half = n / 2;
  const float *key2 = key + half, *query2 = query + half, *score2 = score + half;
  float sum = n % 2 == 0 ? 0 : score[n - 1] / (1 + key[n - 1] * query[n - 1]);
#pragma omp simd reduction(+ : sum)
  for (int64_t a = 0; a < half; ++a) {
    const float one = 1 + key[a] * query[a], two = 1 + key2[a] * query2[a];
    sum += (score[a] * two + score2[a] * one) / (one * two);
  }
  return score_sum - 2 * sum;
}

template <class T>
RLSEQ2SEQ_SIMD T dot(const T* x, const T* y, int64_t n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

// sum += scale x
template <class T>
RLSEQ2SEQ_SIMD void add_scaled(T* __restrict sum, const T* x, T scale, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) sum[i] += scale * x[i];
}

// The same for four at once, which reads and writes the sum once.
template <class T>
RLSEQ2SEQ_SIMD void add_four_scaled(T* __restrict sum, const T* const* x, const T* scale, int64_t n) {
  const T *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
  const T s0 = scale[0], s1 = scale[1], s2 = scale[2], s3 = scale[3];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) sum[i] = (((sum[i] + s0 * x0[i]) + s1 * x1[i]) + s2 * x2[i]) + s3 * x3[i];
}

// Returns g . x and writes scale g into `out`, or adds it to what is there.
template <class T>
RLSEQ2SEQ_SIMD T dot_and_scale(const T* g, const T* x, T scale, T* __restrict out, bool add, int64_t n) {
  T sum = 0;
  if (add) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      sum += g[i] * x[i];
      out[i] += scale * g[i];
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      sum += g[i] * x[i];
      out[i] = scale * g[i];
    }
  }
  return sum;
}

// Energies of one row become attention, in place. Where there is no token, nothing is read but the mask.
template <class T>
RLSEQ2SEQ_SIMD void softmax_of_tokens(T* __restrict row, const bool* mask, int64_t n) {
  T highest = kMinusInfinity<T>;
#pragma omp simd reduction(max : highest)
  for (int64_t i = 0; i < n; ++i) {
    row[i] = mask[i] ? row[i] : kMinusInfinity<T>;
    highest = row[i] > highest ? row[i] : highest;
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    row[i] = mask[i] ? fast_exp(row[i] - highest) : T{0};
    sum += row[i];
  }
  const T scale = sum > 0 ? 1 / sum : sum;  // 0 without tokens; nan stays nan
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) row[i] *= scale;
}

// Gradients that a row gets from one position, with g = de v (1 - tanh^2): g goes to the key and the query, de tanh to
// the score weight, c g to the weight of coverage. Returns g . w, the gradient of c.
template <class T>
struct AdditiveSums {
  T* query;
  T* score;
  T* weight;  // null without coverage
};

template <class T>
RLSEQ2SEQ_SIMD T additive_gradients(const T* key, const T* query, const T* score, T coverage, const T* weight, T grad,
                                    T* __restrict key_sum, bool add, const AdditiveSums<T>& sums, int64_t n) {
  T* __restrict query_sum = sums.query;
  T* __restrict score_sum = sums.score;
  T* __restrict weight_sum = sums.weight;
  T total = 0;
  if (weight == nullptr) {
#pragma omp simd
    for (int64_t a = 0; a < n; ++a) {
      const T t = fast_tanh(key[a] + query[a]);
      const T g = grad * score[a] * (1 - t * t);
      key_sum[a] = add ? key_sum[a] + g : g;
      query_sum[a] += g;
      score_sum[a] += grad * t;
    }
  } else {
#pragma omp simd reduction(+ : total)
    for (int64_t a = 0; a < n; ++a) {
      const T t = fast_tanh(key[a] + query[a] + coverage * weight[a]);
      const T g = grad * score[a] * (1 - t * t);
      key_sum[a] = add ? key_sum[a] + g : g;
      query_sum[a] += g;
      score_sum[a] += grad * t;
      weight_sum[a] += coverage * g;
      total += g * weight[a];
    }
  }
  return total;
}

// The same without coverage, of exponentials: with r = 1 / (1 + e^2k e^2q), t = 1 - 2 r and 1 - t^2 = 4 (r - r^2).
RLSEQ2SEQ_SIMD inline void gradients_of_exponentials(const float* key, const float* query, const float* score,
                                                     float grad, float* __restrict key_sum, bool add,
                                                     const AdditiveSums<float>& sums, int64_t n) {
  float* __restrict query_sum = sums.query;
  float* __restrict score_sum = sums.score;
  const auto put = [&](int64_t a, float r) {
    const float g = 4 * grad * score[a] * (r - r * r);
    key_sum[a] = add ? key_sum[a] + g : g;
    query_sum[a] += g;
    score_sum[a] += grad - 2 * grad * r;
  };
  const int64_t half = n / 2;
#pragma omp simd
  for (int64_t a = 0; a < half; ++a) {
    const float one = 1 + key[a] * query[a], two = 1 + key[half + a] * query[half + a];
    const float inverse = 1 / (one * two);
    put(a, inverse * two);
    put(half + a, inverse * one);
  }
  if (n % 2 == 1) put(n - 1, 1 / (1 + key[n - 1] * query[n - 1]));
}

// The same for bilinear scores q . k.
template <class T>
RLSEQ2SEQ_SIMD void bilinear_gradients(const T* key, const T* query, T grad, T* __restrict key_sum, bool add,
                                       T* __restrict query_sum, int64_t n) {
#pragma omp simd
  for (int64_t a = 0; a < n; ++a) {
    key_sum[a] = add ? key_sum[a] + grad * query[a] : grad * query[a];
    query_sum[a] += grad * key[a];
  }
}

}  // namespace rlseq2seq::attention
