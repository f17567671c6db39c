// The launchers of the CUDA kernels of rouge_l and rouge_n.
#pragma once

#include "../rouge.h"

#include <cuda_runtime_api.h>

namespace rlseq2seq {

// Words of 32 bits that the kernels keep for each hypothesis between two stretches of its reference; 0 where every
// reference fits into one stretch.
int64_t rouge_carry_words(const RougeShape& shape);

// Score all hypotheses in one launch on the stream, without waiting for it. `carries` is scratch, [N, carry words].
cudaError_t launch_rouge_l(const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores,
                           bool prefixes, uint32_t* carries, cudaStream_t stream);
cudaError_t launch_rouge_n(const RougeShape& shape, const RougeInputs& inputs, const RougeScores& scores, int32_t n,
                           bool prefixes, uint32_t* carries, cudaStream_t stream);

}  // namespace rlseq2seq
