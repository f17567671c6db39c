// Hands the tensors of rouge_l to its CUDA launcher. A .cpp file, so that the kernel's .cu knows nothing of torch.
#include "../common.h"
#include "rouge_l.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

RougeLResult rouge_l_cuda(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                          const at::Tensor& references, const at::Tensor& reference_lengths, bool prefixes) {
  const RougeLShape shape = check_rouge_l(hypotheses, hypothesis_lengths, references, reference_lengths);
  const c10::cuda::CUDAGuard guard(hypotheses.device());
  const auto h = hypotheses.expect_contiguous(), hl = hypothesis_lengths.expect_contiguous();
  const auto r = references.expect_contiguous(), rl = reference_lengths.expect_contiguous();
  RougeLResult result = empty_rouge_l(hypotheses, prefixes);
  const at::Tensor carries =
      at::empty({shape.hypotheses, rouge_l_carry_words(shape)}, hypotheses.options().dtype(at::kUInt32));
  C10_CUDA_CHECK(launch_rouge_l(shape,
                                {h->const_data_ptr<int64_t>(), hl->const_data_ptr<int64_t>(),
                                 r->const_data_ptr<int64_t>(), rl->const_data_ptr<int64_t>()},
                                addresses(result), prefixes, carries.mutable_data_ptr<uint32_t>(),
                                c10::cuda::getCurrentCUDAStream()));
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) { m.impl("rouge_l", &rouge_l_cuda); }

}  // namespace rlseq2seq
