// packed_linear on CUDA: a library call, whose weights lie as it likes them.
#include "../packed_linear_checks.h"

#include <ATen/ops/addmm.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

at::Tensor pack_weight_cuda(const at::Tensor& weight) {
  check_weight(weight);
  return pack_plainly(weight);
}

at::Tensor packed_linear_cuda(const at::Tensor& inputs, const at::Tensor& packed, const at::Tensor& start) {
  check_packed_linear(inputs, packed, start, 0);
  return at::addmm(start, inputs, packed.squeeze(0));
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) {
  m.impl("pack_weight", &pack_weight_cuda);
  m.impl("packed_linear", &packed_linear_cuda);
}

}  // namespace rlseq2seq
