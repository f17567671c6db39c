// Arguments of lstm_cell, checked on every device alike.
#pragma once

#include "checks.h"
#include "lstm_cell.h"

namespace rlseq2seq {

inline LstmShape check_lstm_cell(const at::Tensor& gates, const at::Tensor& cell) {
  const char* op = "lstm_cell";
  const auto type = cell.scalar_type();
  const bool known = type == at::kFloat || type == at::kDouble || (type == at::kBFloat16 && cell.is_cuda());
  TORCH_CHECK_VALUE(known && cell.dim() == 2, op,
                    ": cell must be float32 or float64, or on CUDA bfloat16, [rows, size], not ",
                    described(cell.scalar_type(), cell.sizes(), cell.device()), ".");
  check_tensor(op, "gates", gates, cell.scalar_type(), {cell.size(0), 4 * cell.size(1)}, cell.device());
  return {cell.size(0), cell.size(1)};
}

inline LstmShape check_lstm_cell_backward(const at::Tensor& grad_hidden, const at::Tensor& grad_cell,
                                          const at::Tensor& gates, const at::Tensor& cell,
                                          const at::Tensor& new_cell) {
  const char* op = "lstm_cell_backward";
  check_tensor(op, "grad_hidden", grad_hidden, cell.scalar_type(), cell.sizes(), cell.device());
  check_tensor(op, "grad_cell", grad_cell, cell.scalar_type(), cell.sizes(), cell.device());
  check_tensor(op, "new_cell", new_cell, cell.scalar_type(), cell.sizes(), cell.device());
  return check_lstm_cell(gates, cell);
}

}  // namespace rlseq2seq
