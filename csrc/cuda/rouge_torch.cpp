// Hands the tensors of rouge_l and rouge_n to their CUDA launchers. A .cpp file, so that the kernels' .cu know nothing
// of torch.
#include "../rouge_checks.h"
#include "rouge.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

// `launch` is given what both launchers take; n is for one alone.
template <class Launch>
RougeResult score(const RougeShape& shape, const RougeArguments& arguments, bool prefixes, const Launch& launch) {
  const c10::cuda::CUDAGuard guard(arguments.hypotheses->device());
  RougeResult result = empty_rouge(*arguments.hypotheses, prefixes, arguments.ends);
  const at::Tensor carries = at::empty({shape.hypotheses, rouge_carry_words(shape)},
                                       arguments.hypotheses->options().dtype(at::kUInt32));
  C10_CUDA_CHECK(launch(arguments.addresses(), addresses(result), carries.mutable_data_ptr<uint32_t>(),
                        c10::cuda::getCurrentCUDAStream()));
  return result;
}

RougeResult rouge_l_cuda(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                         const at::Tensor& references, const at::Tensor& reference_lengths, bool prefixes,
                         const OptionalTensor& continues, const OptionalTensor& ends) {
  const RougeShape shape = check_rouge("rouge_l", hypotheses, hypothesis_lengths, references, reference_lengths,
                                       prefixes, continues, ends);
  const RougeArguments arguments(hypotheses, hypothesis_lengths, references, reference_lengths, continues, ends);
  return score(shape, arguments, prefixes, [&](const auto& inputs, const auto& scores, uint32_t* carries, auto stream) {
    return launch_rouge_l(shape, inputs, scores, prefixes, carries, stream);
  });
}

RougeResult rouge_n_cuda(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                         const at::Tensor& references, const at::Tensor& reference_lengths, int64_t n, bool prefixes,
                         const OptionalTensor& continues, const OptionalTensor& ends) {
  check_gram(n);
  const RougeShape shape = check_rouge("rouge_n", hypotheses, hypothesis_lengths, references, reference_lengths,
                                       prefixes, continues, ends);
  const RougeArguments arguments(hypotheses, hypothesis_lengths, references, reference_lengths, continues, ends);
  return score(shape, arguments, prefixes, [&](const auto& inputs, const auto& scores, uint32_t* carries, auto stream) {
    return launch_rouge_n(shape, inputs, scores, static_cast<int32_t>(n), prefixes, carries, stream);
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) {
  m.impl("rouge_l", &rouge_l_cuda);
  m.impl("rouge_n", &rouge_n_cuda);
}

}  // namespace rlseq2seq
