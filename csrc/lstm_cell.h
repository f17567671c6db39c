// What the CPU and CUDA kernels of lstm_cell share: sizes and addresses. No torch, so that nvcc compiles it by itself.
#pragma once

#include <cstdint>

namespace rlseq2seq {

struct LstmShape {
  int64_t rows;  // N
  int64_t size;  // D; a row of gates is 4 D: entry, forget, candidate, exit
};

template <class T>
struct LstmForward {
  const T* gates;  // [N, 4D]
  const T* cell;   // [N, D], before
  T* new_hidden;   // [N, D]
  T* new_cell;     // [N, D]
};

template <class T>
struct LstmBackward {
  const T* grad_hidden;  // [N, D]
  const T* grad_cell;    // [N, D], of the new cell
  const T* gates;        // [N, 4D]
  const T* cell;         // [N, D], before
  const T* new_cell;     // [N, D]
  T* grad_gates;         // [N, 4D]
  T* grad_old_cell;      // [N, D]
};

}  // namespace rlseq2seq
