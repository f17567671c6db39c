// The launchers of the CUDA kernels of copy_attention.
#pragma once

#include "../copy_attention.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace rlseq2seq {

// How the positions of a source are shared out among blocks: `splits` runs of `chunk` positions, the last one shorter.
struct AttentionPlan {
  int splits;
  int chunk;
  bool vectors;  // rows start at multiples of 16 bytes, and are multiples of 16 bytes long
};

// Forward, a block takes a group of the rows of a source, backward all of them, group after group. Numbers of keys and
// values have `bytes` bytes. Both ask the current device for its size.
AttentionPlan plan_attention(const AttentionShape& shape, bool vectors);
AttentionPlan plan_attention_backward(const AttentionShape& shape, bool vectors, int64_t bytes, bool wants_rows);

// Numbers of type W that the launchers need as scratch.
int64_t attention_scratch(const AttentionShape& shape, const AttentionPlan& plan);
int64_t attention_backward_scratch(const AttentionShape& shape, const AttentionPlan& plan, bool wants_rows);

// For T, W = float, float; __nv_bfloat16, float; double, double. On the stream, without waiting for it.
template <class T, class W>
cudaError_t launch_copy_attention(const AttentionShape& shape, const AttentionPlan& plan,
                                  const AttentionInputs<T, W>& in, const AttentionOutputs<T, W>& out, W* scratch,
                                  cudaStream_t stream);

template <class T, class W>
cudaError_t launch_copy_attention_backward(const AttentionShape& shape, const AttentionPlan& plan,
                                           const AttentionInputs<T, W>& in, const AttentionSaved<T, W>& saved,
                                           const AttentionGradients<T, W>& out, W* scratch, cudaStream_t stream);

}  // namespace rlseq2seq
