// The launcher of the CUDA kernel of word_hashes.
#pragma once

#include "../word_hashes.h"

#include <cuda_runtime_api.h>

namespace rlseq2seq {

// Hashes the words of all rows in one launch on the stream, without waiting for it.
cudaError_t launch_word_hashes(const WordHashShape& shape, const WordHashInputs& inputs,
                               const WordHashOutputs& outputs, bool prefixes, cudaStream_t stream);

}  // namespace rlseq2seq
