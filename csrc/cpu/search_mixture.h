// A mixture on the CPU: logits and scratch for the rows of search_row.h.
#pragma once

#include "../packed_linear_checks.h"
#include "../search_checks.h"
#include "packed_product.h"
#include "products.h"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>

namespace rlseq2seq {

// The vocabulary is shared out among threads: each reads its part of the weights once.
inline void multiply_on_cpu(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                            at::Tensor logits) {
  if (features.scalar_type() == at::kDouble) {  // there to check by
    at::addmm_out(logits, bias, features, weight.t());
    return;
  }
  const auto f = features.expect_contiguous(), w = weight.expect_contiguous(), b = bias.expect_contiguous();
  const float* const x = f->const_data_ptr<float>();
  const float* const weights = w->const_data_ptr<float>();
  const float* const biases = b->const_data_ptr<float>();
  float* const out = logits.mutable_data_ptr<float>();
  const int64_t rows = features.size(0), width = features.size(1), tokens = weight.size(0), stride = logits.stride(0);
  constexpr int64_t block = 48;                                          // tokens: whole tiles
  const int64_t grain = 1 + 1000000 / (1 + block * rows * (width + 1));  // 1e6 products take 20 us
  at::parallel_for(0, (tokens + block - 1) / block, grain, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * block, count = std::min(end * block, tokens) - first;
    products(x, rows, weights + first * width, biases + first, count, width, out + first, stride);
  });
}

// The same by a packed weight.
inline void multiply_packed_on_cpu(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias,
                                   at::Tensor logits) {
  const auto f = features.expect_contiguous(), p = packed.expect_contiguous(), b = bias.expect_contiguous();
  multiply_panels(p->const_data_ptr<float>(), logits.size(1),
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
  const auto multiply = [&](const at::Tensor& logits) {
    if (packed.has_value()) return multiply_packed_on_cpu(features, *packed, bias, logits);
    multiply_on_cpu(features, weight, bias, logits);
  };
  PreparedMixture mixture = prepare(shape, features, gate_logits, attention, source_ids, multiply);
  check_source_ids(op, shape, mixture.source_ids.const_data_ptr<int64_t>());
  return mixture;
}

}  // namespace rlseq2seq
