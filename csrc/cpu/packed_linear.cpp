// packed_linear on the CPU: in float32 by panels, which are shared out among threads; float64, which is there to check
// by, is the library's.
#include "../packed_linear_checks.h"
#include "packed_product.h"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

namespace rlseq2seq {

at::Tensor pack_weight_cpu(const at::Tensor& weight) {
  check_weight(weight);
  if (weight.scalar_type() == at::kDouble) return pack_plainly(weight);
  const int64_t outputs = weight.size(0), inputs = weight.size(1), panels = panels_of(outputs);
  at::Tensor packed = at::empty({panels, inputs, kPanel}, weight.options());
  const float* const from = weight.const_data_ptr<float>();
  float* const to = packed.mutable_data_ptr<float>();
  const int64_t output_stride = weight.stride(0), input_stride = weight.stride(1);
  at::parallel_for(0, panels, 1 + 16384 / (1 + kPanel * inputs), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      pack_panel(from + p * kPanel * output_stride, output_stride, input_stride,
                 std::min(kPanel, outputs - p * kPanel), inputs, to + p * kPanel * inputs);
    }
  });
  return packed;
}

namespace {

at::Tensor packed_linear_cpu(const at::Tensor& inputs, const at::Tensor& packed, const at::Tensor& start) {
  const bool library = inputs.scalar_type() == at::kDouble;
  check_packed_linear(inputs, packed, start, library ? 0 : kPanel);
  if (library) return at::addmm(start, inputs, packed.squeeze(0));
  const auto x = inputs.expect_contiguous(), weights = packed.expect_contiguous();
  const at::Tensor from = start.stride(-1) == 1 ? start : start.contiguous();
  const int64_t rows = inputs.size(0), width = inputs.size(1), outputs = start.size(-1);
  at::Tensor out = at::empty({rows, outputs}, inputs.options());
  const PanelRows all{x->const_data_ptr<float>(), rows, width, from.const_data_ptr<float>(),
                      from.dim() == 1 ? 0 : from.stride(0), out.mutable_data_ptr<float>(), outputs};
  multiply_panels(weights->const_data_ptr<float>(), outputs, all);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) {
  m.impl("pack_weight", &pack_weight_cpu);
  m.impl("packed_linear", &packed_linear_cpu);
}

}  // namespace rlseq2seq
