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
