// Checks that the CPU and CUDA kernels share. They run on shapes, types and devices alone, never on values, so that
// they cost no host synchronisation. Each failure is one sentence that names the argument.
#pragma once

#include "rouge_l.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <tuple>

namespace rlseq2seq {

// `like` is the tensor whose device all the arguments must share.
inline void check_int64(const at::Tensor& tensor, const at::Tensor& like, const char* op, const char* name,
                        int64_t dimensions) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == at::kLong && tensor.dim() == dimensions, op, ": ", name,
                    " must be an int64 tensor of ", dimensions, dimensions == 1 ? " dimension" : " dimensions",
                    ", not ", tensor.scalar_type(), " of shape ", tensor.sizes(), ".");
  TORCH_CHECK_VALUE(tensor.device() == like.device(), op, ": ", name, " is on ", tensor.device(),
                    " but the hypotheses are on ", like.device(), ".");
}

inline RougeLShape check_rouge_l(const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                                 const at::Tensor& references, const at::Tensor& reference_lengths) {
  const char* op = "rouge_l";
  check_int64(hypotheses, hypotheses, op, "hypotheses", 2);
  check_int64(hypothesis_lengths, hypotheses, op, "hypothesis_lengths", 1);
  check_int64(references, hypotheses, op, "references", 2);
  check_int64(reference_lengths, hypotheses, op, "reference_lengths", 1);
  const RougeLShape shape{hypotheses.size(0), hypotheses.size(1), references.size(0), references.size(1),
                          references.size(0) == 0 ? 0 : hypotheses.size(0) / references.size(0)};
  TORCH_CHECK_VALUE(hypothesis_lengths.size(0) == shape.hypotheses, op, ": hypothesis_lengths has ",
                    hypothesis_lengths.size(0), " entries for ", shape.hypotheses, " hypotheses.");
  TORCH_CHECK_VALUE(reference_lengths.size(0) == shape.references, op, ": reference_lengths has ",
                    reference_lengths.size(0), " entries for ", shape.references, " references.");
  TORCH_CHECK_VALUE(shape.shared * shape.references == shape.hypotheses, op, ": the number of hypotheses, ",
                    shape.hypotheses, ", must be a multiple of the number of references, ", shape.references, ".");
  constexpr int64_t limit = int64_t{1} << 30;
  TORCH_CHECK_VALUE(shape.time < limit && shape.reference_time < limit, op,
                    ": sequences must be shorter than 2^30 tokens, not ", shape.time, " and ", shape.reference_time,
                    ".");
  return shape;
}

using RougeLResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

inline RougeLResult empty_rouge_l(const at::Tensor& hypotheses, bool prefixes) {
  const auto sizes = prefixes ? hypotheses.sizes() : hypotheses.sizes().slice(0, 1);
  const auto scores = [&] { return at::empty(sizes, hypotheses.options().dtype(at::kFloat)); };
  return {at::empty(sizes, hypotheses.options().dtype(at::kInt)), scores(), scores(), scores()};
}

inline RougeLScores addresses(RougeLResult& result) {
  auto& [lcs, precision, recall, fmeasure] = result;
  return {lcs.mutable_data_ptr<int32_t>(), precision.mutable_data_ptr<float>(), recall.mutable_data_ptr<float>(),
          fmeasure.mutable_data_ptr<float>()};
}

}  // namespace rlseq2seq
