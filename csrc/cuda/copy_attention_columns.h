// The part of the backward CUDA kernel of copy_attention that stays in registers: a thread's columns of A.
#pragma once

#include "copy_attention_device.h"

#include <cstdint>

namespace rlseq2seq::attention {

template <class W>
struct Scratch {
  W* means;    // [N]
  W* query;    // [N, splits, A], or null
  W* score;    // [B, splits, A]
  W* covered;  // [B, splits, A], of the weight of coverage
};

// Rows and positions that a block is at. The group of rows changes.
struct Work {
  int64_t source, row, first;
  int rows, positions, split;
  bool add;  // to the gradients of keys and values that an earlier group wrote
};

// What a thread keeps of V columns of A while it goes through the positions.
template <class T, class W, int V, int R>
struct Columns {
  W query[R][V], score[V], weight[V];
  W query_sum[R][V], score_sum[V], weight_sum[V];

  __device__ void start(const AttentionShape& s, const AttentionInputs<T, W>& in, const Work& work, int64_t a) {
    using Numbers = Pack<T, V>;
    Numbers q{}, v{}, w{};
    if (in.score_weight != nullptr) v = Numbers::read(in.score_weight + a);
    if (in.coverage_weight != nullptr) w = Numbers::read(in.coverage_weight + a);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      score[j] = number(v.x[j]);
      weight[j] = number(w.x[j]);
      score_sum[j] = weight_sum[j] = 0;
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r < work.rows) q = Numbers::read(in.query + (work.row + r) * s.score_size + a);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        query[r][j] = number(q.x[j]);
        query_sum[r][j] = 0;
      }
    }
  }

  // Adds what row r gives at one position to the sums and to `key_sum`. Returns its part of the gradient of coverage.
  template <bool kAdditive>
  __device__ W step(const W (&key)[V], int r, W grad, W coverage, W (&key_sum)[V]) {
    W covered = 0;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      if (kAdditive) {
        const W t = Tanh<T>::of(key[j] + query[r][j] + coverage * weight[j]);
        const W g = grad * score[j] * (1 - t * t);
        key_sum[j] += g;
        query_sum[r][j] += g;
        score_sum[j] += grad * t;
        weight_sum[j] += coverage * g;
        covered += g * weight[j];
      } else {
        key_sum[j] += grad * query[r][j];
        query_sum[r][j] += grad * key[j];
      }
    }
    return covered;
  }

  // Only this thread ever touches these columns of the block's parts.
  __device__ void finish(const AttentionShape& s, const AttentionPlan& plan, const AttentionInputs<T, W>& in,
                         const Scratch<W>& scratch, const Work& work, int64_t a) const {
    const int64_t part = (work.source * plan.splits + work.split) * s.score_size + a;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      if (in.score_weight != nullptr) scratch.score[part + j] = score_sum[j] + (work.add ? scratch.score[part + j] : 0);
      if (in.coverage_weight == nullptr) continue;
      scratch.covered[part + j] = weight_sum[j] + (work.add ? scratch.covered[part + j] : 0);
    }
    if (scratch.query == nullptr) return;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r >= work.rows) break;
      W* to = scratch.query + ((work.row + r) * plan.splits + work.split) * s.score_size + a;
#pragma unroll
      for (int j = 0; j < V; ++j) to[j] = query_sum[r][j];
    }
  }
};

}  // namespace rlseq2seq::attention
