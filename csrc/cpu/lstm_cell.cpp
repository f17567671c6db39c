// The LSTM cell on the CPU: one pass over the gates, which are what is read.
#include "../lstm_cell_checks.h"
#include "simd.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

namespace rlseq2seq {
namespace {

// An element takes about 2 ns; to wake a thread pays from tens of microseconds on.
constexpr int64_t kElementsAThread = 16384;

template <class T>
RLSEQ2SEQ_SIMD void forward_row(const T* gates, const T* cell, T* new_hidden, T* new_cell, int64_t size) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const T entry = fast_sigmoid(gates[i]), forget = fast_sigmoid(gates[size + i]);
    const T candidate = fast_tanh(gates[2 * size + i]), exit = fast_sigmoid(gates[3 * size + i]);
    const T kept = forget * cell[i] + entry * candidate;
    new_cell[i] = kept;
    new_hidden[i] = exit * fast_tanh(kept);
  }
}

template <class T>
RLSEQ2SEQ_SIMD void backward_row(const T* grad_hidden, const T* grad_cell, const T* gates, const T* cell,
                                 const T* new_cell, T* grad_gates, T* grad_old_cell, int64_t size) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const T entry = fast_sigmoid(gates[i]), forget = fast_sigmoid(gates[size + i]);
    const T candidate = fast_tanh(gates[2 * size + i]), exit = fast_sigmoid(gates[3 * size + i]);
    const T shown = fast_tanh(new_cell[i]);
    const T grad = grad_cell[i] + grad_hidden[i] * exit * (1 - shown * shown);
    grad_gates[i] = grad * candidate * entry * (1 - entry);
    grad_gates[size + i] = grad * cell[i] * forget * (1 - forget);
    grad_gates[2 * size + i] = grad * entry * (1 - candidate * candidate);
    grad_gates[3 * size + i] = grad_hidden[i] * shown * exit * (1 - exit);
    grad_old_cell[i] = grad * forget;
  }
}

template <class Row>
void each_row(const LstmShape& shape, Row row) {
  at::parallel_for(0, shape.rows, 1 + kElementsAThread / (1 + shape.size), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) row(n * shape.size);
  });
}

std::tuple<at::Tensor, at::Tensor> lstm_cell_cpu(const at::Tensor& gates, const at::Tensor& cell) {
  const LstmShape shape = check_lstm_cell(gates, cell);
  const auto g = gates.expect_contiguous(), c = cell.expect_contiguous();
  at::Tensor hidden = at::empty(cell.sizes(), cell.options()), new_cell = at::empty(cell.sizes(), cell.options());
  AT_DISPATCH_FLOATING_TYPES(cell.scalar_type(), "lstm_cell", [&] {
    const LstmForward<scalar_t> at{g->const_data_ptr<scalar_t>(), c->const_data_ptr<scalar_t>(),
                                   hidden.mutable_data_ptr<scalar_t>(), new_cell.mutable_data_ptr<scalar_t>()};
    each_row(shape, [&](int64_t i) {
      forward_row(at.gates + 4 * i, at.cell + i, at.new_hidden + i, at.new_cell + i, shape.size);
    });
  });
  return {hidden, new_cell};
}

std::tuple<at::Tensor, at::Tensor> lstm_cell_backward_cpu(const at::Tensor& grad_hidden, const at::Tensor& grad_cell,
                                                          const at::Tensor& gates, const at::Tensor& cell,
                                                          const at::Tensor& new_cell) {
  const LstmShape shape = check_lstm_cell_backward(grad_hidden, grad_cell, gates, cell, new_cell);
  const auto gh = grad_hidden.expect_contiguous(), gc = grad_cell.expect_contiguous();
  const auto g = gates.expect_contiguous(), c = cell.expect_contiguous(), n = new_cell.expect_contiguous();
  at::Tensor grad_gates = at::empty(gates.sizes(), cell.options()), grad_old = at::empty(cell.sizes(), cell.options());
  AT_DISPATCH_FLOATING_TYPES(cell.scalar_type(), "lstm_cell_backward", [&] {
    const LstmBackward<scalar_t> at{gh->const_data_ptr<scalar_t>(),        gc->const_data_ptr<scalar_t>(),
                                    g->const_data_ptr<scalar_t>(),         c->const_data_ptr<scalar_t>(),
                                    n->const_data_ptr<scalar_t>(),         grad_gates.mutable_data_ptr<scalar_t>(),
                                    grad_old.mutable_data_ptr<scalar_t>()};
    each_row(shape, [&](int64_t i) {
      backward_row(at.grad_hidden + i, at.grad_cell + i, at.gates + 4 * i, at.cell + i, at.new_cell + i,
                   at.grad_gates + 4 * i, at.grad_old_cell + i, shape.size);
    });
  });
  return {grad_gates, grad_old};
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) {
  m.impl("lstm_cell", &lstm_cell_cpu);
  m.impl("lstm_cell_backward", &lstm_cell_backward_cpu);
}

}  // namespace rlseq2seq
