// What the CPU and CUDA kernels of copy_attention share: sizes and addresses. No torch, so that nvcc compiles it by
// itself.
#pragma once

#include <cstdint>

namespace rlseq2seq {

struct AttentionShape {
  int64_t rows;           // N
  int64_t sources;        // B
  int64_t shared;         // rows that share a source, N / B
  int64_t positions;      // S
  int64_t score_size;     // A
  int64_t value_size;     // C
  int64_t keys_stride;    // from a source's keys to the next one's: they may be the first S of a longer row
  int64_t values_stride;  // the same of its values
};

// T is the type of what the model computes, W that of what is kept a position: T again, but float where T is bfloat16,
// in which a sum of attention over many steps would stop growing.
template <class T, class W>
struct AttentionInputs {
  const T* query;            // [N, A]
  const T* keys;             // [B, S, A]
  const T* values;           // [B, S, C]
  const bool* mask;          // [B, S]
  const T* score_weight;     // [A], or null for bilinear scores
  const W* coverage;         // [N, S], or null
  const T* coverage_weight;  // [A], or null
  const W* past;             // [N, S], or null
};

template <class T, class W>
struct AttentionOutputs {
  T* context;    // [N, C]
  W* attention;  // [N, S]
  W* past;       // [N, S], or null
};

// What the backward operator is given beside the inputs.
template <class T, class W>
struct AttentionSaved {
  const T* grad_context;    // [N, C]
  const W* grad_attention;  // [N, S]
  const W* grad_past;       // [N, S], or null
  const T* context;         // [N, C], as the forward operator returned it, and so on
  const W* attention;       // [N, S]
  const W* new_past;        // [N, S], or null
};

// Null where there is nothing to give a gradient to, or nobody who asks: for keys, for values, or for what belongs to a
// row, which is query, coverage and past.
template <class T, class W>
struct AttentionGradients {
  T* query;            // [N, A]
  T* keys;             // [B, S, A]
  T* values;           // [B, S, C]
  T* score_weight;     // [A]
  W* coverage;         // [N, S]
  T* coverage_weight;  // [A]
  W* past;             // [N, S]
};

}  // namespace rlseq2seq
