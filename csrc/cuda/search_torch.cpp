// Hands the tensors of the search steps to their CUDA launchers. A .cpp file, so that the .cu files know nothing of
// torch.
#include "../search_checks.h"
#include "beam_step.h"
#include "search.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace rlseq2seq {
namespace {

// Calls `run` with a value of the type of the tensors and one of the type of the sums.
template <class Run>
void with_types(at::ScalarType type, const Run& run) {
  if (type == at::kDouble) {
    run(double{}, double{});
  } else if (type == at::kFloat) {
    run(float{}, float{});
  } else {
    run(Bfloat16{}, float{});
  }
}

SearchShape check_on_cuda(const char* op, const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                          const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                          const at::Tensor& source_ids) {
  const SearchShape shape = check_mixture(op, features, weight, bias, gate_logits, attention, source_ids);
  TORCH_CHECK_VALUE(shape.vocabulary <= kMostTokens, op, ": weight has ", shape.vocabulary, " rows, more than the ",
                    kMostTokens, " that the CUDA kernel takes.");
  TORCH_CHECK_VALUE(shape.width < (int64_t{1} << 30), op, ": source_ids has ", shape.width,
                    " columns, more than the CUDA kernel takes.");
  return shape;
}

PreparedMixture prepare_on_cuda(const SearchShape& shape, const at::Tensor& features, const at::Tensor& weight,
                                const at::Tensor& bias, const std::optional<at::Tensor>& gate_logits,
                                const at::Tensor& attention, const at::Tensor& source_ids) {
  return prepare(shape, features, gate_logits, attention, source_ids, [&](at::Tensor logits) {
    if (features.scalar_type() == at::kBFloat16) {
      // In float32, lest tokens of nearly the same probability become equals. The bias apart: torch may hand it to
      // cuBLASLt, which takes it for numbers of the type of the logits and reads past its end.
      at::mm_out(logits, features, weight.t(), at::kFloat);
      logits.add_(bias);
    } else {
      at::addmm_out(logits, bias, features, weight.t());
    }
  });
}

ChosenTensors greedy_step_cuda(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                               const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                               const at::Tensor& source_ids, const std::optional<at::Tensor>&) {
  const SearchShape shape = check_on_cuda("greedy_step", features, weight, bias, gate_logits, attention, source_ids);
  const c10::cuda::CUDAGuard guard(features.device());
  PreparedMixture mixture = prepare_on_cuda(shape, features, weight, bias, gate_logits, attention, source_ids);
  ChosenTensors chosen = empty_chosen(features);
  auto& [tokens, log_probs] = chosen;
  with_types(features.scalar_type(), [&](auto in, auto sum) {
    using T = decltype(sum);
    C10_CUDA_CHECK(launch_greedy_step(mixture.rows<decltype(in), T>(shape), tokens.mutable_data_ptr<int64_t>(),
                                      log_probs.mutable_data_ptr<T>(), c10::cuda::getCurrentCUDAStream()));
  });
  return chosen;
}

ChosenTensors sample_step_cuda(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                               const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                               const at::Tensor& source_ids, const at::Tensor& noise, double temperature,
                               int64_t top_k, double top_p, const std::optional<at::Tensor>&) {
  const SearchShape shape = check_on_cuda("sample_step", features, weight, bias, gate_logits, attention, source_ids);
  const SamplingOptions options = check_sampling(shape, features, noise, temperature, top_k, top_p);
  const c10::cuda::CUDAGuard guard(features.device());
  PreparedMixture mixture = prepare_on_cuda(shape, features, weight, bias, gate_logits, attention, source_ids);
  const at::Tensor draws = noise.to(at::kDouble).contiguous();
  ChosenTensors chosen = empty_chosen(features);
  auto& [tokens, log_probs] = chosen;
  with_types(features.scalar_type(), [&](auto in, auto sum) {
    using T = decltype(sum);
    C10_CUDA_CHECK(launch_sample_step(mixture.rows<decltype(in), T>(shape), options, draws.const_data_ptr<double>(),
                                      tokens.mutable_data_ptr<int64_t>(), log_probs.mutable_data_ptr<T>(),
                                      c10::cuda::getCurrentCUDAStream()));
  });
  return chosen;
}

BeamTensors beam_step_cuda(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                           const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                           const at::Tensor& source_ids, const at::Tensor& tokens, const at::Tensor& scores,
                           const at::Tensor& finished_tokens, const at::Tensor& finished_scores, int64_t step,
                           double length_penalty, int64_t block_ngrams, int64_t min_tokens,
                           const std::optional<at::Tensor>&) {
  const SearchShape shape = check_on_cuda("beam_step", features, weight, bias, gate_logits, attention, source_ids);
  const BeamRules rules{length_penalty, block_ngrams, min_tokens};
  const BeamShape beam = check_beams(shape, features, tokens, scores, finished_tokens, finished_scores, step, rules);
  const c10::cuda::CUDAGuard guard(features.device());
  PreparedMixture mixture = prepare_on_cuda(shape, features, weight, bias, gate_logits, attention, source_ids);
  const auto t = tokens.expect_contiguous(), s = scores.expect_contiguous();
  const auto ft = finished_tokens.expect_contiguous(), fs = finished_scores.expect_contiguous();
  const at::Tensor totals = at::empty({shape.rows, beam.beam}, scores.options());
  const at::Tensor extensions = at::empty({shape.rows, beam.beam}, tokens.options());
  BeamTensors result = empty_beams(tokens, scores);
  with_types(features.scalar_type(), [&](auto in, auto sum) {
    using T = decltype(sum);
    const BeamInputs<T> inputs{t->const_data_ptr<int64_t>(), s->const_data_ptr<T>(), ft->const_data_ptr<int64_t>(),
                               fs->const_data_ptr<T>()};
    const BeamCandidates<T> candidates{totals.mutable_data_ptr<T>(), extensions.mutable_data_ptr<int64_t>()};
    C10_CUDA_CHECK(launch_beam_step(mixture.rows<decltype(in), T>(shape), beam, inputs, rules, divisor_of(beam, rules),
                                    candidates, addresses<T>(result), c10::cuda::getCurrentCUDAStream()));
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CUDA, m) {
  m.impl("greedy_step", &greedy_step_cuda);
  m.impl("sample_step", &sample_step_cuda);
  m.impl("beam_step", &beam_step_cuda);
}

}  // namespace rlseq2seq
