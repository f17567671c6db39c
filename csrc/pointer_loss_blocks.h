// What the CPU and CUDA sides of pointer_loss do alike: the checks, and the walk over blocks of rows.
//
// The logits of a block of rows are made in scratch of a bounded size, a kernel turns each row into log p(y) and, in
// place, into d log p(y) / d logits, and two products make gradients of that. So nothing ever has N x V elements, the
// softmax is never stored, and a step costs three matrix products where gradients are made at once.
#pragma once

#include "checks.h"
#include "pointer_loss.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

namespace rlseq2seq {

struct PointerTensors {
  at::Tensor features, weight, bias, gate_logits, attention, source_ids, targets;  // gate_logits may be undefined
};

// Which gradients are asked for, in the order of PointerTensors. One that is not asked for has no elements.
using PointerNeeds = std::array<bool, 5>;

// log_probs, entropy, mean_log_softmax, then the gradients of features, weight, bias, gate_logits and attention.
using PointerResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// What the log-probabilities, the entropies and the means of the log-softmax weigh in what gradients are of. Undefined:
// log-probabilities alone, no entropy, no mean.
struct PointerWeights {
  at::Tensor log_probs, entropy, smoothing;
};

// Log-probabilities and the gradients that enter are single for bfloat16, in which log p(y) has two digits.
inline at::ScalarType pointer_real(at::ScalarType type) { return type == at::kBFloat16 ? at::kFloat : type; }

inline PointerShape check_pointer_loss(const PointerTensors& t) {
  const char* op = "pointer_loss";
  const at::ScalarType type = t.features.scalar_type();
  const at::Device device = t.features.device();
  const bool types = type == at::kFloat || type == at::kDouble || (type == at::kBFloat16 && device.is_cuda());
  TORCH_CHECK_VALUE(types && t.features.dim() == 2, op, ": features must be float32 or float64 [*, *] (on CUDA also ",
                    "bfloat16), not ", described(type, t.features.sizes(), device), ".");
  const int64_t rows = t.features.size(0);
  check_tensor(op, "weight", t.weight, type, {kAnySize, t.features.size(1)}, device);
  const int64_t vocabulary = t.weight.size(0);
  TORCH_CHECK_VALUE(vocabulary > kUnknown, op, ": weight must have a row for the unknown token, ", kUnknown,
                    ", but has ", vocabulary, " rows.");
  check_tensor(op, "bias", t.bias, type, {vocabulary}, device);
  if (t.gate_logits.defined()) check_tensor(op, "gate_logits", t.gate_logits, type, {rows}, device);
  check_tensor(op, "attention", t.attention, type, {rows, kAnySize}, device);
  const int64_t time = t.attention.size(1);
  check_tensor(op, "source_ids", t.source_ids, at::kLong, {kAnySize, time}, device);
  check_tensor(op, "targets", t.targets, at::kLong, {rows}, device);
  return {rows, vocabulary, time, rows_per_source(op, rows, t.source_ids.size(0))};
}

// The tensors as the kernels read them; products take features and weight however they lie.
inline PointerTensors readable(const PointerTensors& t) {
  return {t.features,
          t.weight,
          t.bias.contiguous(),
          t.gate_logits.defined() ? t.gate_logits.contiguous() : t.gate_logits,
          t.attention.contiguous(),
          t.source_ids.contiguous(),
          t.targets.contiguous()};
}

template <class Scalar>
PointerInputs<Scalar> addresses(const PointerTensors& t) {
  return {t.bias.const_data_ptr<Scalar>(), t.gate_logits.defined() ? t.gate_logits.const_data_ptr<Scalar>() : nullptr,
          t.attention.const_data_ptr<Scalar>(), t.source_ids.const_data_ptr<int64_t>(),
          t.targets.const_data_ptr<int64_t>()};
}

template <class Scalar, class Real>
PointerOutputs<Scalar, Real> addresses(PointerResult& result, const PointerWeights& weights) {
  const auto asked = [](at::Tensor& x) { return x.numel() == 0 ? nullptr : x.mutable_data_ptr<Scalar>(); };
  const auto given = [](const at::Tensor& x) { return x.defined() ? x.const_data_ptr<Real>() : nullptr; };
  return {std::get<0>(result).mutable_data_ptr<Real>(),
          weights.entropy.defined() ? std::get<1>(result).mutable_data_ptr<Real>() : nullptr,
          weights.smoothing.defined() ? std::get<2>(result).mutable_data_ptr<Real>() : nullptr,
          given(weights.log_probs),
          given(weights.entropy),
          given(weights.smoothing),
          asked(std::get<6>(result)),
          asked(std::get<7>(result))};
}

inline PointerResult empty_pointer_result(const PointerTensors& t, const PointerWeights& weights,
                                          const PointerNeeds& needs) {
  const auto like = [&](const at::Tensor& x, bool needed) {
    return needed ? at::empty(x.sizes(), x.options()) : at::empty({0}, t.features.options());
  };
  const at::ScalarType real = pointer_real(t.features.scalar_type());
  // Sums over blocks of rows are kept in single precision for bfloat16, and rounded once at the end.
  const auto sums = [&](const at::Tensor& x, bool needed) {
    return at::empty(needed ? x.sizes() : at::IntArrayRef{0}, x.options().dtype(real));
  };
  const auto of_rows = [&](bool asked) {
    return at::empty({asked ? t.features.size(0) : 0}, t.features.options().dtype(real));
  };
  return {of_rows(true),
          of_rows(weights.entropy.defined()),
          of_rows(weights.smoothing.defined()),
          like(t.features, needs[0]),
          sums(t.weight, needs[1]),
          sums(t.bias, needs[2]),
          like(t.gate_logits.defined() ? t.gate_logits : t.bias, needs[3] && t.gate_logits.defined()),
          like(t.attention, needs[4] && t.gate_logits.defined())};
}

// Sizes of what the walk has in hand at a time.
struct PointerBlocks {
  int64_t rows;                         // of logits at a time,
  int64_t least_scratch, most_scratch;  // but so many bytes of them, and one row at least
  int64_t weight_bytes;                 // weight that is multiplied at once
};

// Scratch [R, V] whose rows start at multiples of 64 bytes: for wide loads, and for products in bfloat16.
inline at::Tensor pointer_scratch(const PointerTensors& t, const PointerShape& shape,
                                  const PointerBlocks& sizes) {
  const int64_t step = 64 / static_cast<int64_t>(t.features.element_size());
  const int64_t stride = (shape.vocabulary + step - 1) / step * step;
  const int64_t row_bytes = 64 * (stride / step);
  const int64_t bytes = std::clamp(sizes.rows * row_bytes, sizes.least_scratch, sizes.most_scratch);
  const int64_t most = std::max<int64_t>(bytes / row_bytes, 1);
  const int64_t blocks = std::max<int64_t>((shape.rows + most - 1) / most, 1);
  const int64_t rows = (shape.rows + blocks - 1) / blocks;  // blocks of about the same size
  return at::empty({rows, stride}, t.features.options()).narrow(1, 0, shape.vocabulary);
}

// sums (+)= a b, in the type of `sums`, which for bfloat16 is single.
inline void add_product(at::Tensor& sums, const at::Tensor& a, const at::Tensor& b, bool first) {
  if (sums.scalar_type() == a.scalar_type()) {
    first ? at::mm_out(sums, a, b) : at::addmm_out(sums, sums, a, b);
  } else if (first) {
    at::mm_out(sums, a, b, sums.scalar_type());
  } else {
    sums.add_(at::mm(a, b, sums.scalar_type()));
  }
}

// Calls rows(logits [R, V], the block's first row) for each block; with gradients, it leaves those of the logits.
template <class Rows>
void walk_pointer_blocks(const PointerTensors& t, const PointerShape& shape, const PointerBlocks& sizes,
                         const PointerNeeds& needs, PointerResult& result, const Rows& rows) {
  auto& [log_probs, entropy, mean, grad_features, grad_weight, grad_bias, grad_gate_logits, grad_attention] = result;
  const at::Tensor scratch = pointer_scratch(t, shape, sizes), transposed = t.weight.t();
  const int64_t feature_bytes = t.features.size(1) * static_cast<int64_t>(t.features.element_size());
  const int64_t tile = std::max<int64_t>(sizes.weight_bytes / std::max<int64_t>(feature_bytes, 64), 64);
  if (shape.rows == 0) {
    grad_weight.zero_();
    grad_bias.zero_();
  }
  for (int64_t begin = 0; begin < shape.rows; begin += scratch.size(0)) {
    const int64_t count = std::min(scratch.size(0), shape.rows - begin);
    const at::Tensor features = t.features.narrow(0, begin, count);
    const at::Tensor logits = scratch.narrow(0, 0, count);
    for (int64_t v = 0; v < shape.vocabulary; v += tile) {
      const int64_t width = std::min(tile, shape.vocabulary - v);
      at::Tensor out = logits.narrow(1, v, width);
      at::mm_out(out, features, transposed.narrow(1, v, width));
    }
    rows(logits, begin);
    if (needs[0]) {
      at::Tensor out = grad_features.narrow(0, begin, count);
      at::mm_out(out, logits, t.weight);
    }
    if (needs[1]) add_product(grad_weight, logits.t(), features, begin == 0);
    if (needs[2]) {
      const at::Tensor sum = at::sum(logits, 0, false, grad_bias.scalar_type());
      begin == 0 ? grad_bias.copy_(sum) : grad_bias.add_(sum);
    }
  }
  grad_weight = grad_weight.to(t.weight.scalar_type());
  grad_bias = grad_bias.to(t.bias.scalar_type());
}

// The operators for a kind of device, of which Device::run has the kernels: run(tensors, shape, weights, needs,
// result).
template <class Device>
PointerResult run_pointer_loss(const PointerTensors& given, const PointerWeights& weights, const PointerNeeds& needs) {
  const char* op = "pointer_loss";
  const PointerShape shape = check_pointer_loss(given);
  const at::ScalarType real = pointer_real(given.features.scalar_type());
  const auto check = [&](const char* name, const at::Tensor& x) {
    if (x.defined()) check_tensor(op, name, x, real, {shape.rows}, given.features.device());
    return x.defined() ? x.contiguous() : x;
  };
  PointerWeights checked{check("weights", weights.log_probs), check("entropy_weights", weights.entropy),
                         check("smoothing_weights", weights.smoothing)};
  // Where no gradient is asked for, there is none to weigh.
  if (std::find(needs.begin(), needs.end(), true) == needs.end()) checked.log_probs.reset();
  const PointerTensors tensors = readable(given);
  PointerResult result = empty_pointer_result(tensors, checked, needs);
  Device::run(tensors, shape, checked, needs, result);
  return result;
}

template <class Device>
at::Tensor pointer_loss(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                        const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                        const at::Tensor& source_ids, const at::Tensor& targets) {
  return std::get<0>(run_pointer_loss<Device>(
      {features, weight, bias, gate_logits.value_or(at::Tensor()), attention, source_ids, targets}, {}, {}));
}

template <class Device>
PointerResult pointer_loss_backward(const at::Tensor& weights, const std::optional<at::Tensor>& entropy_weights,
                                    const std::optional<at::Tensor>& smoothing_weights, const at::Tensor& features,
                                    const at::Tensor& weight, const at::Tensor& bias,
                                    const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                                    const at::Tensor& source_ids, const at::Tensor& targets, PointerNeeds needs) {
  return run_pointer_loss<Device>(
      {features, weight, bias, gate_logits.value_or(at::Tensor()), attention, source_ids, targets},
      {weights, entropy_weights.value_or(at::Tensor()), smoothing_weights.value_or(at::Tensor())}, needs);
}

}  // namespace rlseq2seq
