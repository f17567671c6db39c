// A row of the search steps on CUDA: what the kernels of search.cu and beam_step.cu share. For nvcc alone.
//
// A block takes a row. Its logits are read once, 16 bytes a load, a warp a chunk of 256 tokens; the maximum of each
// chunk and the sum of exp(z - maximum) stay in shared memory. What is asked for next looks at few chunks: the arg-max
// and the best K at those with the largest maxima, sampling at the one in which the noise falls.
//
// Copies of a token are added up by comparing each position of the source with all others, S comparisons a thread. The
// extended token first seen at position i has the column V + i; a position that is no first has nothing there.
//
// Everything is added up in an order that does not depend on timing, so results do not either.
#pragma once

#include "../search.h"

#include <cmath>

namespace rlseq2seq {

constexpr int kLanes = 32;
constexpr int kWarps = 16;
constexpr int kThreads = kWarps * kLanes;
constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ __forceinline__ float value_of(float x) { return x; }
__device__ __forceinline__ double value_of(double x) { return x; }
__device__ __forceinline__ float value_of(Bfloat16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }

// Arguments are never above 0. In float32 the relative error, 2 + 1.2 |x| units in the last place, grows as the term
// loses weight: a sum is right to 1e-6.
__device__ __forceinline__ float exp_of(float x) { return __expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }

template <class T>
__device__ __forceinline__ constexpr T smallest_normal() {
  return sizeof(T) == 4 ? static_cast<T>(1.17549435e-38f) : static_cast<T>(2.2250738585072014e-308);
}

template <class T>
__device__ __forceinline__ T never() {
  return -static_cast<T>(INFINITY);
}

struct Larger {
  template <class V>
  __device__ __forceinline__ V operator()(V a, V b) const {
    return b > a ? b : a;
  }
};

struct Sum {
  template <class V>
  __device__ __forceinline__ V operator()(V a, V b) const {
    return a + b;
  }
};

template <class V, class Op>
__device__ __forceinline__ V warp_reduce(V value, Op op) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

// All threads of the block take part and get the result. `scratch` has kWarps entries.
template <class V, class Op>
__device__ V block_reduce(V value, V identity, Op op, V* scratch) {
  const int lane = threadIdx.x % kLanes;
  value = warp_reduce(value, op);
  if (lane == 0) scratch[threadIdx.x / kLanes] = value;
  __syncthreads();
  value = warp_reduce(lane < kWarps ? scratch[lane] : identity, op);
  __syncthreads();  // the scratch may be written again
  return value;
}

// A column, by value and, of equals, by the lower token.
template <class T>
struct Best {
  T value;
  int64_t token, column;

  __device__ static Best none() { return {never<T>(), INT64_MAX, 0}; }
  __device__ bool beats(const Best& other) const {
    return value > other.value || (value == other.value && token < other.token);
  }
};

template <class T>
__device__ __forceinline__ Best<T> warp_best(Best<T> best) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    const Best<T> other{__shfl_xor_sync(kAllLanes, best.value, offset), __shfl_xor_sync(kAllLanes, best.token, offset),
                        __shfl_xor_sync(kAllLanes, best.column, offset)};
    if (other.beats(best)) best = other;
  }
  return best;
}

__device__ __forceinline__ double log_sigmoid(double x) { return fmin(x, 0.0) - log1p(exp(-fabs(x))); }

template <class T>
struct Copy {
  int64_t column;  // -1 for none
  T mass;
};

template <class In, class T>
struct Row {
  T* logits;
  T* extended;
  const In* attention;
  const int64_t* ids;
  int64_t vocabulary;
  int width;
  int chunks;  // of the vocabulary; the chunk behind them has the extended columns
  double gate, log_generate, log_sum;
  T largest;

  __device__ Row(const SearchRows<In, T>& rows, int64_t n) {
    const SearchShape& shape = rows.shape;
    logits = rows.logits + n * shape.stride;
    extended = rows.extended + n * shape.width;
    attention = rows.attention + n * shape.width;
    ids = shape.width == 0 ? rows.source_ids : rows.source_ids + n / shape.shared * shape.width;
    vocabulary = shape.vocabulary;
    width = static_cast<int>(shape.width);
    chunks = static_cast<int>(shape.chunks());
    gate = rows.gate_logits == nullptr ? 0.0 : static_cast<double>(value_of(rows.gate_logits[n]));
    log_generate = rows.gate_logits == nullptr ? 0.0 : log_sigmoid(gate);
  }

  __device__ T* column(int64_t c) const { return c < vocabulary ? logits + c : extended + (c - vocabulary); }
  __device__ int64_t token(int64_t c) const { return c < vocabulary ? c : ids[c - vocabulary]; }
  __device__ int chunk_of(int64_t c) const { return c < vocabulary ? static_cast<int>(c / kChunk) : chunks; }
  __device__ int64_t first_column(int chunk) const { return chunk < chunks ? chunk * kChunk : vocabulary; }
  __device__ int chunk_size(int chunk) const {
    if (chunk == chunks) return width;
    const int64_t left = vocabulary - chunk * kChunk;
    return static_cast<int>(left < kChunk ? left : kChunk);
  }
  __device__ double log_prob(T effective_logit) const {
    return log_generate + (static_cast<double>(effective_logit) - log_sum);
  }

  // Reads all logits: the maxima and sums of chunks, and from them `largest` and `log_sum`.
  __device__ void read(T* maxima, T* sums, double* scratch) {
    const int lane = threadIdx.x % kLanes;
    for (int chunk = threadIdx.x / kLanes; chunk < chunks; chunk += kWarps) {
      T values[kChunk / kLanes];
      load(chunk, lane, values);
      T most = values[0];
#pragma unroll
      for (int i = 1; i < kChunk / kLanes; ++i) most = Larger()(most, values[i]);
      most = warp_reduce(most, Larger());
      T sum = 0;
#pragma unroll
      for (int i = 0; i < kChunk / kLanes; ++i) sum += exp_of(values[i] - most);
      sum = warp_reduce(sum, Sum());
      if (lane == 0) {
        maxima[chunk] = most;
        sums[chunk] = most == never<T>() ? T{0} : sum;  // where all are impossible it is nan
      }
    }
    __syncthreads();
    double most = -INFINITY, sum = 0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += kThreads) {
      most = fmax(most, static_cast<double>(maxima[chunk]));
    }
    most = block_reduce(most, -static_cast<double>(INFINITY), Larger(), scratch);
    for (int chunk = threadIdx.x; chunk < chunks; chunk += kThreads) {
      sum += static_cast<double>(sums[chunk]) * exp(static_cast<double>(maxima[chunk]) - most);
    }
    sum = block_reduce(sum, 0.0, Sum(), scratch);
    largest = static_cast<T>(most);
    log_sum = most + log(sum);
  }

  // What position i of the source can be copied as: all copies of its token together, at the first of them.
  __device__ Copy<T> copy_at(int i) const {
    constexpr int at_once = 8;  // loads in flight: one that may come after a return would wait for the one before
    const int64_t id = ids[i];
    if (id < 0) return {-1, T{0}};
    T mass = 0;
    for (int j = 0; j < width; j += at_once) {
      int64_t others[at_once];
#pragma unroll
      for (int u = 0; u < at_once; ++u) others[u] = j + u < width ? ids[j + u] : -1;
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        if (others[u] != id) continue;
        if (j + u < i) return {-1, T{0}};
        mass += value_of(attention[j + u]);
      }
    }
    // A token that the vocabulary has is generated too; one that it lacks keeps a finite log-probability.
    if (id < vocabulary) return {mass < smallest_normal<T>() ? -1 : id, mass};
    return {vocabulary + i, Larger()(mass, smallest_normal<T>())};
  }

  // The logit that would give the token its probability by generating alone.
  __device__ T effective_logit(const Copy<T>& copy) const {
    const T generated = copy.column < vocabulary ? logits[copy.column] : never<T>();
    const T copied = log(copy.mass) + static_cast<T>(log_sum - gate);
    const T more = Larger()(generated, copied), less = generated > copied ? copied : generated;
    return more + log1p(exp(less - more));
  }

  // Puts effective logits into their columns; `seen(column, logit)` is called for each by the thread that does so.
  template <class Seen>
  __device__ void patch(const Seen& seen) {
    for (int i = threadIdx.x; i < width; i += kThreads) {
      const Copy<T> copy = copy_at(i);
      T logit = never<T>();
      if (copy.column >= 0) {
        logit = effective_logit(copy);
        seen(copy.column, logit);
      }
      const bool is_extended = copy.column >= vocabulary;
      extended[i] = is_extended ? logit : never<T>();
      if (copy.column >= 0 && !is_extended) logits[copy.column] = logit;
    }
  }

  // The best column of a chunk; a whole warp takes part and gets it.
  __device__ Best<T> chunk_best(int chunk) const {
    const int64_t first = first_column(chunk);
    const int size = chunk_size(chunk);
    const T* const values = column(first);
    Best<T> best = Best<T>::none();
    for (int i = threadIdx.x % kLanes; i < size; i += kLanes) {
      const Best<T> other{values[i], token(first + i), first + i};
      if (other.beats(best)) best = other;
    }
    return warp_best(best);
  }

 private:
  __device__ void load(int chunk, int lane, T* values) const {
    constexpr int vector = 16 / sizeof(T);
    struct alignas(16) Vector {
      T x[vector];
    };
#pragma unroll
    for (int l = 0; l < kChunk / kLanes / vector; ++l) {
      const int64_t at = chunk * kChunk + (l * kLanes + lane) * vector;
      Vector loaded;
#pragma unroll
      for (int i = 0; i < vector; ++i) loaded.x[i] = never<T>();
      if (at < vocabulary) loaded = *reinterpret_cast<const Vector*>(logits + at);
#pragma unroll
      for (int i = 0; i < vector; ++i) values[l * vector + i] = at + i < vocabulary ? loaded.x[i] : never<T>();
    }
  }
};

// The first of the chunks with the largest maximum; a whole warp takes part and gets it.
template <class T>
__device__ __forceinline__ Best<T> best_chunk(const T* maxima, int chunks) {
  Best<T> best = Best<T>::none();
  for (int chunk = threadIdx.x % kLanes; chunk < chunks; chunk += kLanes) {
    const Best<T> other{maxima[chunk], chunk, chunk};
    if (other.beats(best)) best = other;
  }
  return warp_best(best);
}

}  // namespace rlseq2seq
