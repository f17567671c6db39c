// Checks that the CPU and CUDA kernels of rouge_l and rouge_n share. They run on shapes, types and devices alone, never
// on values, so that they cost no host synchronisation. Each failure is one sentence that names the argument.
#pragma once

#include "rouge.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <optional>
#include <tuple>

namespace rlseq2seq {

// `like` is the tensor whose device all the arguments must share.
inline void check_rows(const at::Tensor& tensor, const at::Tensor& like, const char* op, const char* name,
                       at::ScalarType type, int64_t dimensions) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == type && tensor.dim() == dimensions, op, ": ", name, " must be ",
                    type == at::kLong ? "an int64" : "a bool", " tensor of ", dimensions,
                    dimensions == 1 ? " dimension" : " dimensions", ", not ", tensor.scalar_type(), " of shape ",
                    tensor.sizes(), ".");
  TORCH_CHECK_VALUE(tensor.device() == like.device(), op, ": ", name, " is on ", tensor.device(),
                    " but the hypotheses are on ", like.device(), ".");
}

using OptionalTensor = std::optional<at::Tensor>;

// Returns the columns of the ends.
inline int64_t check_growth(const char* op, const at::Tensor& hypotheses, const OptionalTensor& continues,
                            const OptionalTensor& ends, bool prefixes) {
  TORCH_CHECK_VALUE(continues.has_value() == ends.has_value(), op, ": continues and ends go together.");
  if (!continues) return 0;
  TORCH_CHECK_VALUE(prefixes, op, ": continues and ends are for prefixes alone.");
  check_rows(*continues, hypotheses, op, "continues", at::kBool, 2);
  check_rows(*ends, hypotheses, op, "ends", at::kLong, 2);
  TORCH_CHECK_VALUE(continues->sizes() == hypotheses.sizes(), op, ": continues is of shape ", continues->sizes(),
                    " but the hypotheses are of shape ", hypotheses.sizes(), ".");
  TORCH_CHECK_VALUE(ends->size(0) == hypotheses.size(0), op, ": ends has ", ends->size(0), " rows for ",
                    hypotheses.size(0), " hypotheses.");
  return ends->size(1);
}

inline RougeShape check_rouge(const char* op, const at::Tensor& hypotheses, const at::Tensor& hypothesis_lengths,
                              const at::Tensor& references, const at::Tensor& reference_lengths, bool prefixes,
                              const OptionalTensor& continues, const OptionalTensor& ends) {
  check_rows(hypotheses, hypotheses, op, "hypotheses", at::kLong, 2);
  check_rows(hypothesis_lengths, hypotheses, op, "hypothesis_lengths", at::kLong, 1);
  check_rows(references, hypotheses, op, "references", at::kLong, 2);
  check_rows(reference_lengths, hypotheses, op, "reference_lengths", at::kLong, 1);
  const RougeShape shape{hypotheses.size(0), hypotheses.size(1), references.size(0), references.size(1),
                         references.size(0) == 0 ? 0 : hypotheses.size(0) / references.size(0),
                         check_growth(op, hypotheses, continues, ends, prefixes)};
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

inline void check_gram(int64_t n) {
  TORCH_CHECK_VALUE(n >= 1 && n <= kMostGram, "rouge_n: n must be in 1 to ", kMostGram, ", not ", n, ".");
}

using RougeResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

inline RougeResult empty_rouge(const at::Tensor& hypotheses, bool prefixes, const at::Tensor& ends) {
  const auto all = ends.defined() ? ends.sizes() : hypotheses.sizes();
  const auto sizes = prefixes ? all : all.slice(0, 1);
  const auto scores = [&] { return at::empty(sizes, hypotheses.options().dtype(at::kFloat)); };
  return {at::empty(sizes, hypotheses.options().dtype(at::kInt)), scores(), scores(), scores()};
}

inline RougeScores addresses(RougeResult& result) {
  auto& [common, precision, recall, fmeasure] = result;
  return {common.mutable_data_ptr<int32_t>(), precision.mutable_data_ptr<float>(), recall.mutable_data_ptr<float>(),
          fmeasure.mutable_data_ptr<float>()};
}

// Contiguous arguments, held as long as the kernel is given their addresses.
struct RougeArguments {
  c10::MaybeOwned<at::Tensor> hypotheses, hypothesis_lengths, references, reference_lengths;
  at::Tensor continues, ends;

  RougeArguments(const at::Tensor& h, const at::Tensor& hl, const at::Tensor& r, const at::Tensor& rl,
                 const OptionalTensor& c, const OptionalTensor& e)
      : hypotheses(h.expect_contiguous()),
        hypothesis_lengths(hl.expect_contiguous()),
        references(r.expect_contiguous()),
        reference_lengths(rl.expect_contiguous()),
        continues(c ? c->contiguous() : at::Tensor()),
        ends(e ? e->contiguous() : at::Tensor()) {}

  RougeInputs addresses() const {
    return {hypotheses->const_data_ptr<int64_t>(), hypothesis_lengths->const_data_ptr<int64_t>(),
            references->const_data_ptr<int64_t>(), reference_lengths->const_data_ptr<int64_t>(),
            continues.defined() ? continues.const_data_ptr<bool>() : nullptr,
            ends.defined() ? ends.const_data_ptr<int64_t>() : nullptr,
            ends.defined()};
  }
};

}  // namespace rlseq2seq
