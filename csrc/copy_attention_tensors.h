// What the CPU and CUDA kernels of copy_attention share: checks of the arguments, and results as tensors.
#pragma once

#include "checks.h"
#include "copy_attention.h"

#include <ATen/ops/empty.h>

#include <optional>
#include <tuple>

namespace rlseq2seq {

using OptionalTensor = std::optional<at::Tensor>;
using AttentionResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using AttentionGradientTensors =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct AttentionArguments {
  const at::Tensor &query, &keys, &values, &mask;
  const OptionalTensor &score_weight, &coverage, &coverage_weight, &past;
};

inline at::ScalarType attention_weight_type(at::ScalarType type) { return type == at::kBFloat16 ? at::kFloat : type; }

inline void check_optional(const char* op, const char* name, const OptionalTensor& tensor, at::ScalarType type,
                           at::IntArrayRef sizes, at::Device device) {
  if (tensor.has_value()) check_tensor(op, name, *tensor, type, sizes, device);
}

inline AttentionShape check_attention(const char* op, const AttentionArguments& a) {
  const auto type = a.query.scalar_type(), weight_type = attention_weight_type(a.query.scalar_type());
  const auto device = a.query.device();
  TORCH_CHECK_VALUE(type == at::kFloat || type == at::kDouble || (type == at::kBFloat16 && device.is_cuda()), op,
                    ": query must be float32 or float64, or on CUDA bfloat16, not ", type, " on ", device, ".");
  check_tensor(op, "query", a.query, type, {kAnySize, kAnySize}, device);
  const int64_t rows = a.query.size(0), score_size = a.query.size(1);
  check_tensor(op, "keys", a.keys, type, {kAnySize, kAnySize, score_size}, device);
  const int64_t sources = a.keys.size(0), positions = a.keys.size(1);
  check_tensor(op, "values", a.values, type, {sources, positions, kAnySize}, device);
  check_tensor(op, "mask", a.mask, at::kBool, {sources, positions}, device);
  check_optional(op, "score_weight", a.score_weight, type, {score_size}, device);
  check_optional(op, "coverage", a.coverage, weight_type, {rows, positions}, device);
  check_optional(op, "coverage_weight", a.coverage_weight, type, {score_size}, device);
  check_optional(op, "past", a.past, weight_type, {rows, positions}, device);
  TORCH_CHECK_VALUE(a.coverage.has_value() == a.coverage_weight.has_value(), op,
                    ": coverage and coverage_weight go together, but only ",
                    a.coverage.has_value() ? "coverage" : "coverage_weight", " was given.");
  TORCH_CHECK_VALUE(!a.coverage.has_value() || a.score_weight.has_value(), op,
                    ": coverage belongs to additive scores, so it needs a score_weight.");
  const int64_t shared = rows_per_source(op, rows, sources);
  return {rows, sources, shared, positions, score_size, a.values.size(2), 0, 0};
}

// The tensor itself if each source's positions lie one after the other, a copy if not.
inline at::Tensor dense_positions(const at::Tensor& tensor) {
  const bool dense = (tensor.size(2) <= 1 || tensor.stride(2) == 1) &&
                     (tensor.size(1) <= 1 || tensor.stride(1) == tensor.size(2)) && tensor.stride(0) >= 0;
  return dense ? tensor : tensor.contiguous();
}

inline OptionalTensor contiguous(const OptionalTensor& tensor) {
  return tensor.has_value() ? OptionalTensor(tensor->contiguous()) : std::nullopt;
}

template <class T>
const T* address(const OptionalTensor& tensor) {
  return tensor.has_value() ? static_cast<const T*>(tensor->const_data_ptr()) : nullptr;
}

// Arguments as the kernels read them. Holds copies where there had to be any. T is the kernel's name for the type that
// was checked.
template <class T, class W>
class AttentionReader {
 public:
  explicit AttentionReader(const AttentionArguments& a)
      : query_(a.query.contiguous()),
        keys_(dense_positions(a.keys)),
        values_(dense_positions(a.values)),
        mask_(a.mask.contiguous()),
        score_weight_(contiguous(a.score_weight)),
        coverage_(contiguous(a.coverage)),
        coverage_weight_(contiguous(a.coverage_weight)),
        past_(contiguous(a.past)) {}

  AttentionInputs<T, W> addresses() const {
    return {static_cast<const T*>(query_.const_data_ptr()),
            static_cast<const T*>(keys_.const_data_ptr()),
            static_cast<const T*>(values_.const_data_ptr()),
            mask_.const_data_ptr<bool>(),
            address<T>(score_weight_),
            address<W>(coverage_),
            address<T>(coverage_weight_),
            address<W>(past_)};
  }

  AttentionShape strided(AttentionShape shape) const {
    shape.keys_stride = keys_.stride(0);
    shape.values_stride = values_.stride(0);
    return shape;
  }

 private:
  at::Tensor query_, keys_, values_, mask_;
  OptionalTensor score_weight_, coverage_, coverage_weight_, past_;
};

inline at::Tensor empty_like_weights(const at::Tensor& like, at::IntArrayRef sizes) {
  return at::empty(sizes, like.options().dtype(attention_weight_type(like.scalar_type())));
}

// [N, S], or of no elements where there is nothing to return.
inline at::Tensor empty_weights(const AttentionShape& shape, const at::Tensor& like, bool wanted) {
  return wanted ? empty_like_weights(like, {shape.rows, shape.positions}) : empty_like_weights(like, {0});
}

inline AttentionResult empty_attention(const AttentionShape& shape, const AttentionArguments& a) {
  return {at::empty({shape.rows, shape.value_size}, a.query.options()), empty_weights(shape, a.query, true),
          empty_weights(shape, a.query, a.past.has_value())};
}

template <class T, class W>
AttentionOutputs<T, W> attention_addresses(AttentionResult& result) {
  auto& [context, attention, past] = result;
  return {static_cast<T*>(context.mutable_data_ptr()), static_cast<W*>(attention.mutable_data_ptr()),
          past.dim() == 2 ? static_cast<W*>(past.mutable_data_ptr()) : nullptr};
}

// Which gradients are asked for; those of the weights always are. Rows are query, coverage and past.
struct AttentionNeeds {
  bool rows, keys, values;
};

inline AttentionGradientTensors empty_gradients(const AttentionShape& shape, const AttentionArguments& a,
                                                const AttentionNeeds& needs) {
  const auto options = a.query.options();
  const auto empty = [&](bool wanted, at::IntArrayRef sizes) {
    return wanted ? at::empty(sizes, options) : at::empty({0}, options);
  };
  return {empty(needs.rows, {shape.rows, shape.score_size}),
          empty(needs.keys, {shape.sources, shape.positions, shape.score_size}),
          empty(needs.values, {shape.sources, shape.positions, shape.value_size}),
          empty(a.score_weight.has_value(), {shape.score_size}),
          empty_weights(shape, a.query, needs.rows && a.coverage.has_value()),
          empty(a.coverage.has_value(), {shape.score_size}),
          empty_weights(shape, a.query, needs.rows && a.past.has_value())};
}

template <class T, class W>
AttentionGradients<T, W> gradient_addresses(AttentionGradientTensors& tensors, const AttentionArguments& a,
                                            const AttentionNeeds& needs) {
  auto& [query, keys, values, score_weight, coverage, coverage_weight, past] = tensors;
  const bool covered = a.coverage.has_value();
  return {needs.rows ? static_cast<T*>(query.mutable_data_ptr()) : nullptr,
          needs.keys ? static_cast<T*>(keys.mutable_data_ptr()) : nullptr,
          needs.values ? static_cast<T*>(values.mutable_data_ptr()) : nullptr,
          a.score_weight.has_value() ? static_cast<T*>(score_weight.mutable_data_ptr()) : nullptr,
          covered && needs.rows ? static_cast<W*>(coverage.mutable_data_ptr()) : nullptr,
          covered ? static_cast<T*>(coverage_weight.mutable_data_ptr()) : nullptr,
          a.past.has_value() && needs.rows ? static_cast<W*>(past.mutable_data_ptr()) : nullptr};
}

// Gradients of the results, checked, and what the forward operator returned, as the backward kernels read them.
class AttentionSavedReader {
 public:
  struct Tensors {
    at::Tensor grad_context, grad_attention, grad_past, context, attention, new_past;
  };

  AttentionSavedReader(const char* op, const AttentionShape& shape, const AttentionArguments& a, const Tensors& given)
      : temporal_(a.past.has_value()),
        tensors_{given.grad_context.contiguous(), given.grad_attention.contiguous(), given.grad_past.contiguous(),
                 given.context.contiguous(),      given.attention.contiguous(),      given.new_past.contiguous()} {
    const auto check_context = [&](const char* name, const at::Tensor& tensor) {
      check_tensor(op, name, tensor, a.query.scalar_type(), {shape.rows, shape.value_size}, a.query.device());
    };
    const auto check_weights = [&](const char* name, const at::Tensor& tensor) {
      const auto type = attention_weight_type(a.query.scalar_type());
      check_tensor(op, name, tensor, type, {shape.rows, shape.positions}, a.query.device());
    };
    check_context("grad_context", tensors_.grad_context);
    check_context("context", tensors_.context);
    check_weights("grad_attention", tensors_.grad_attention);
    check_weights("attention", tensors_.attention);
    if (temporal_) check_weights("grad_past", tensors_.grad_past);
    if (temporal_) check_weights("new_past", tensors_.new_past);
  }

  template <class T, class W>
  AttentionSaved<T, W> addresses() const {
    const auto& [grad_context, grad_attention, grad_past, context, attention, new_past] = tensors_;
    return {static_cast<const T*>(grad_context.const_data_ptr()),
            static_cast<const W*>(grad_attention.const_data_ptr()),
            temporal_ ? static_cast<const W*>(grad_past.const_data_ptr()) : nullptr,
            static_cast<const T*>(context.const_data_ptr()),
            static_cast<const W*>(attention.const_data_ptr()),
            temporal_ ? static_cast<const W*>(new_past.const_data_ptr()) : nullptr};
  }

 private:
  bool temporal_;
  Tensors tensors_;
};

}  // namespace rlseq2seq
