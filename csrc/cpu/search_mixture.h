// A mixture on the CPU: logits and scratch for the rows of search_row.h.
#pragma once

#include "../packed_linear_checks.h"
#include "../search_checks.h"
#include "packed_product.h"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>

namespace rlseq2seq {

// Each number is added up in the same order whatever the number of rows is. `packed` is the weight as pack_weight_cpu has
// it, if someone kept it from an earlier step.
inline void multiply_on_cpu(const at::Tensor& features, const at::Tensor& weight, const std::optional<at::Tensor>& packed,
                            const at::Tensor& bias, at::Tensor logits) {
  if (features.scalar_type() == at::kDouble) {  // there to check by
    at::addmm_out(logits, bias, features, weight.t());
    return;
  }
  const at::Tensor panels = packed.has_value() ? packed->contiguous() : pack_weight_cpu(weight);
  const auto f = features.expect_contiguous(), b = bias.expect_contiguous();
  multiply_panels(panels.const_data_ptr<float>(), logits.size(1),
                  {f->const_data_ptr<float>(), features.size(0), features.size(1), b->const_data_ptr<float>(), 0,
                   logits.mutable_data_ptr<float>(), logits.stride(0)});
}

inline PreparedMixture prepare_on_cpu(const char* op, const SearchShape& shape, const at::Tensor& features,
                                      const at::Tensor& weight, const at::Tensor& bias,
                                      const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                                      const at::Tensor& source_ids, const std::optional<at::Tensor>& packed) {
  if (packed.has_value()) {
    TORCH_CHECK_VALUE(features.scalar_type() == at::kFloat, op, ": a packed weight is for float32 on the CPU.");
    check_packed_linear(features, *packed, bias, kPanel);
  }
  const auto multiply = [&](const at::Tensor& logits) { multiply_on_cpu(features, weight, packed, bias, logits); };
  PreparedMixture mixture = prepare(shape, features, gate_logits, attention, source_ids, multiply);
  check_source_ids(op, shape, mixture.source_ids.const_data_ptr<int64_t>());
  return mixture;
}

}  // namespace rlseq2seq
