// The launchers of the CUDA kernels of greedy_step and sample_step. None waits for the device.
#pragma once

#include "../search.h"

#include <cuda_runtime_api.h>

namespace rlseq2seq {

constexpr int64_t kMostTokens = int64_t{1} << 18;  // of a vocabulary: the facts of its chunks are in shared memory

template <class In, class T>
cudaError_t launch_greedy_step(const SearchRows<In, T>& rows, int64_t* tokens, T* log_probs, cudaStream_t stream);

template <class In, class T>
cudaError_t launch_sample_step(const SearchRows<In, T>& rows, const SamplingOptions& options, const double* noise,
                               int64_t* tokens, T* log_probs, cudaStream_t stream);

}  // namespace rlseq2seq
