// Arguments of packed_linear, checked on every device alike.
#pragma once

#include "checks.h"

namespace rlseq2seq {

inline void check_weight(const at::Tensor& weight) {
  const auto type = weight.scalar_type();
  const bool known = type == at::kFloat || type == at::kDouble || (type == at::kBFloat16 && weight.is_cuda());
  TORCH_CHECK_VALUE(known && weight.dim() == 2,
                    "pack_weight: weight must be float32 or float64, or on CUDA bfloat16, [outputs, inputs], not ",
                    described(type, weight.sizes(), weight.device()), ".");
}

// One panel of all outputs, for the library's product: always a copy, as an operator's result must be.
inline at::Tensor pack_plainly(const at::Tensor& weight) {
  return weight.t().clone(at::MemoryFormat::Contiguous).unsqueeze(0);
}

// `width` is how many outputs a panel has; 0 for one panel that has them all.
inline void check_packed_linear(const at::Tensor& inputs, const at::Tensor& packed, const at::Tensor& start,
                                int64_t width) {
  const char* op = "packed_linear";
  const auto type = inputs.scalar_type();
  const bool known = type == at::kFloat || type == at::kDouble || (type == at::kBFloat16 && inputs.is_cuda());
  TORCH_CHECK_VALUE(known && inputs.dim() == 2, op,
                    ": inputs must be float32 or float64, or on CUDA bfloat16, [rows, inputs], not ",
                    described(type, inputs.sizes(), inputs.device()), ".");
  if (start.dim() == 1) {
    check_tensor(op, "start", start, type, {kAnySize}, inputs.device());
  } else {
    check_tensor(op, "start", start, type, {inputs.size(0), kAnySize}, inputs.device());
  }
  const int64_t outputs = start.size(-1);
  const int64_t panels = width == 0 ? 1 : (outputs + width - 1) / width;
  check_tensor(op, "packed", packed, type, {panels, inputs.size(1), width == 0 ? outputs : width}, inputs.device());
}

}  // namespace rlseq2seq
