// The launchers of the CUDA kernels of lstm_cell, for float, double and bfloat16.
#pragma once

#include "../lstm_cell.h"

#include <cuda_runtime_api.h>

namespace rlseq2seq {

// One launch each on the stream, without waiting for it.
template <class T>
cudaError_t launch_lstm_cell(const LstmShape& shape, const LstmForward<T>& at, cudaStream_t stream);

template <class T>
cudaError_t launch_lstm_cell_backward(const LstmShape& shape, const LstmBackward<T>& at, cudaStream_t stream);

}  // namespace rlseq2seq
