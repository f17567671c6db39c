// The launcher of the CUDA kernel of pointer_loss.
#pragma once

#include "../pointer_loss.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace rlseq2seq {

// Turns `count` rows of logits, the first of which is row `first`, into log-probabilities and, where `outputs` has room
// for them, entropies and means of the log-softmax; where `outputs.grad` is given, the logits into their gradients in
// place. `logits` and the bias start at, and `stride` (in elements) is, a multiple of 16 bytes. `scratch` [count, 2, S]
// is needed for gradients with entropy. For <float, float>, <double, double> and <__nv_bfloat16, float>.
template <class Scalar, class Real>
cudaError_t launch_pointer_rows(const PointerShape& shape, const PointerInputs<Scalar>& inputs,
                                const PointerOutputs<Scalar, Real>& outputs, Scalar* logits, int64_t stride,
                                int64_t first, int64_t count, Real* scratch, cudaStream_t stream);

}  // namespace rlseq2seq
