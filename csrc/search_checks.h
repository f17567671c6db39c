// What the CPU and CUDA sides of the search steps do around their kernels: checks of the arguments, scratch, room for
// results.
#pragma once

#include "checks.h"
#include "search.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>
#include <optional>
#include <tuple>

namespace rlseq2seq {

using ChosenTensors = std::tuple<at::Tensor, at::Tensor>;
using BeamTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Sums and results are in float32 at least.
inline at::ScalarType result_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

inline SearchShape check_mixture(const char* op, const at::Tensor& features, const at::Tensor& weight,
                                 const at::Tensor& bias, const std::optional<at::Tensor>& gate_logits,
                                 const at::Tensor& attention, const at::Tensor& source_ids) {
  const at::ScalarType type = features.scalar_type();
  const at::Device device = features.device();
  TORCH_CHECK_VALUE(type == at::kFloat || type == at::kDouble || (type == at::kBFloat16 && device.is_cuda()), op,
                    ": features must be float32, float64 or, on CUDA, bfloat16, not ", type, " on ", device, ".");
  check_tensor(op, "features", features, type, {kAnySize, kAnySize}, device);
  check_tensor(op, "weight", weight, type, {kAnySize, features.size(1)}, device);
  const int64_t rows = features.size(0), vocabulary = weight.size(0);
  TORCH_CHECK_VALUE(vocabulary > 0, op, ": weight must have a row for each token, but it has none.");
  check_tensor(op, "bias", bias, type, {vocabulary}, device);
  check_tensor(op, "attention", attention, type, {rows, kAnySize}, device);
  check_tensor(op, "source_ids", source_ids, at::kLong, {kAnySize, attention.size(1)}, device);
  if (gate_logits.has_value()) check_tensor(op, "gate_logits", *gate_logits, type, {rows}, device);
  const int64_t shared = rows_per_source(op, rows, source_ids.size(0));
  const auto vector = static_cast<int64_t>(16 / c10::elementSize(result_type(type)));
  const int64_t stride = (vocabulary + vector - 1) / vector * vector;
  return {rows, vocabulary, stride, source_ids.size(0), shared, gate_logits.has_value() ? attention.size(1) : 0};
}

// The arguments of a mixture as kernels want them, and their scratch.
struct PreparedMixture {
  at::Tensor logits, extended, gate_logits, attention, source_ids;

  template <class In, class T = In>
  SearchRows<In, T> rows(const SearchShape& shape) {
    return {shape,
            logits.mutable_data_ptr<T>(),
            extended.mutable_data_ptr<T>(),
            gate_logits.defined() ? static_cast<const In*>(gate_logits.const_data_ptr()) : nullptr,
            static_cast<const In*>(attention.const_data_ptr()),
            source_ids.const_data_ptr<int64_t>()};
  }
};

// `multiply(logits)` fills logits [N, V], whose rows are `stride` apart.
template <class Multiply>
PreparedMixture prepare(const SearchShape& shape, const at::Tensor& features,
                        const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                        const at::Tensor& source_ids, const Multiply& multiply) {
  const at::AutoDispatchBelowADInplaceOrView no_gradients;  // lest the product be recorded
  const auto options = features.options().dtype(result_type(features.scalar_type()));
  PreparedMixture prepared;
  prepared.logits = at::empty({shape.rows, shape.stride}, options);
  multiply(prepared.logits.narrow(1, 0, shape.vocabulary));
  prepared.extended = at::empty({shape.rows, shape.width}, options);
  if (gate_logits.has_value()) prepared.gate_logits = gate_logits->contiguous();
  prepared.attention = attention.contiguous();
  prepared.source_ids = source_ids.contiguous();
  return prepared;
}

// On CUDA, where to look would wait for the device, ids below 0 are taken for tokens that no one can copy.
inline void check_source_ids(const char* op, const SearchShape& shape, const int64_t* ids) {
  for (int64_t i = 0; i < shape.sources * shape.width; ++i) {
    TORCH_CHECK_VALUE(ids[i] >= 0, op, ": source_ids[", i / shape.width, ", ", i % shape.width, "] is ", ids[i],
                      ", below 0.");
  }
}

inline ChosenTensors empty_chosen(const at::Tensor& features) {
  const auto options = features.options();
  const auto type = result_type(features.scalar_type());
  return {at::empty({features.size(0)}, options.dtype(at::kLong)), at::empty({features.size(0)}, options.dtype(type))};
}

inline SamplingOptions check_sampling(const SearchShape& shape, const at::Tensor& features, const at::Tensor& noise,
                                      double temperature, int64_t top_k, double top_p) {
  const char* op = "sample_step";
  TORCH_CHECK_VALUE(noise.scalar_type() == at::kFloat || noise.scalar_type() == at::kDouble, op,
                    ": noise must be float32 or float64, not ", noise.scalar_type(), ".");
  check_tensor(op, "noise", noise, noise.scalar_type(), {shape.rows}, features.device());
  TORCH_CHECK_VALUE(temperature > 0 && std::isfinite(temperature), op, ": temperature must be above 0 and finite, not ",
                    temperature, ".");
  TORCH_CHECK_VALUE(top_k >= 0, op, ": top_k must be 0 (all tokens) or above, not ", top_k, ".");
  TORCH_CHECK_VALUE(top_p > 0, op, ": top_p must be above 0, not ", top_p, ".");
  return {temperature, top_k, top_p};
}

inline BeamShape check_beams(const SearchShape& shape, const at::Tensor& features, const at::Tensor& tokens,
                             const at::Tensor& scores, const at::Tensor& finished_tokens,
                             const at::Tensor& finished_scores, int64_t step, const BeamRules& rules) {
  const char* op = "beam_step";
  const at::Device device = features.device();
  const at::ScalarType type = result_type(features.scalar_type());
  check_tensor(op, "tokens", tokens, at::kLong, {kAnySize, kAnySize, kAnySize}, device);
  const int64_t sources = tokens.size(0), beam = tokens.size(1), time = tokens.size(2);
  TORCH_CHECK_VALUE(sources * beam == shape.rows, op, ": tokens has ", sources, " x ", beam,
                    " hypotheses but the mixture has ", shape.rows, " rows.");
  TORCH_CHECK_VALUE(beam <= kMostBeams, op, ": tokens has ", beam, " hypotheses a source, more than the ", kMostBeams,
                    " that are searched at most.");
  check_tensor(op, "scores", scores, type, {sources, beam}, device);
  check_tensor(op, "finished_tokens", finished_tokens, at::kLong, {sources, beam, time}, device);
  check_tensor(op, "finished_scores", finished_scores, type, {sources, beam}, device);
  TORCH_CHECK_VALUE(shape.vocabulary > kEndToken, op, ": weight must have a row for each reserved token, not ",
                    shape.vocabulary, " rows.");
  TORCH_CHECK_VALUE(step >= 0 && step < time, op, ": step must be in 0 to ", time - 1,
                    ", the room that tokens has, not ", step, ".");
  TORCH_CHECK_VALUE(std::isfinite(rules.length_penalty), op, ": length_penalty must be finite, not ",
                    rules.length_penalty, ".");
  TORCH_CHECK_VALUE(rules.block_ngrams >= 0, op, ": block_ngrams must be 0 (none) or above, not ", rules.block_ngrams,
                    ".");
  return {sources, beam, time, step};
}

// What scores of hypotheses that end at this step are divided by.
inline double divisor_of(const BeamShape& shape, const BeamRules& rules) {
  return std::pow(static_cast<double>(shape.step + 1), rules.length_penalty);
}

inline BeamTensors empty_beams(const at::Tensor& tokens, const at::Tensor& scores) {
  const auto contiguous = at::MemoryFormat::Contiguous;
  const auto like = [&](const at::Tensor& tensor) { return at::empty_like(tensor, tensor.options(), contiguous); };
  const auto flat = [&] { return at::empty({tokens.size(0) * tokens.size(1)}, tokens.options()); };
  return {like(tokens), like(scores), like(tokens), like(scores), flat(), flat()};
}

template <class T>
BeamOutputs<T> addresses(BeamTensors& tensors) {
  auto& [tokens, scores, finished_tokens, finished_scores, rows, chosen] = tensors;
  return {tokens.mutable_data_ptr<int64_t>(),          scores.mutable_data_ptr<T>(),
          finished_tokens.mutable_data_ptr<int64_t>(), finished_scores.mutable_data_ptr<T>(),
          rows.mutable_data_ptr<int64_t>(),            chosen.mutable_data_ptr<int64_t>()};
}

}  // namespace rlseq2seq
