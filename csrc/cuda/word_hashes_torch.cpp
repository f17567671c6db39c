// Hands the tensors of word_hashes to its CUDA launcher. A .cpp file, so that the kernel's .cu knows nothing of torch.
#include "../word_hashes_checks.h"
#include "word_hashes.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

WordHashResult word_hashes_cuda(const at::Tensor& tokens, const at::Tensor& pieces, const at::Tensor& segments,
                                const at::Tensor& copies, const at::Tensor& copy_segments,
                                const at::Tensor& copy_starts, int64_t most, bool prefixes) {
  const WordHashTensors given{tokens, pieces, segments, copies, copy_segments, copy_starts};
  const WordHashShape shape = check_word_hashes(given, most);
  const c10::cuda::CUDAGuard guard(tokens.device());
  const WordHashTensors held = given.contiguous();
  WordHashResult result = empty_word_hashes(shape, tokens, prefixes);
  C10_CUDA_CHECK(launch_word_hashes(shape, held.addresses(), addresses(result), prefixes,
                                    c10::cuda::getCurrentCUDAStream()));
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) { m.impl("word_hashes", &word_hashes_cuda); }

}  // namespace rlseq2seq
