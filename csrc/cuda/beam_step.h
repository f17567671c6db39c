// The launcher of the CUDA kernels of beam_step.
#pragma once

#include "../search.h"

#include <cuda_runtime_api.h>

namespace rlseq2seq {

// Two launches on the stream, without waiting for them. `divisor` is the length to the power of the penalty.
template <class In, class T>
cudaError_t launch_beam_step(const SearchRows<In, T>& rows, const BeamShape& shape, const BeamInputs<T>& beams,
                             const BeamRules& rules, double divisor, const BeamCandidates<T>& candidates,
                             const BeamOutputs<T>& outputs, cudaStream_t stream);

}  // namespace rlseq2seq
