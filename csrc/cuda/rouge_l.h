// The launcher of the CUDA kernel of rouge_l.
#pragma once

#include "../rouge_l.h"

#include <cuda_runtime_api.h>

namespace rlseq2seq {

// Words of 32 carries that the kernel keeps for each hypothesis between two stretches of its reference; 0 where every
// reference fits into one stretch.
int64_t rouge_l_carry_words(const RougeLShape& shape);

// Scores all hypotheses in one launch on the stream, without waiting for it. `carries` is scratch, [N, carry words].
cudaError_t launch_rouge_l(const RougeLShape& shape, const RougeLInputs& inputs, const RougeLScores& scores,
                           bool prefixes, uint32_t* carries, cudaStream_t stream);

}  // namespace rlseq2seq
