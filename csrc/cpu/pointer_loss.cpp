// pointer_loss on the CPU: the products are PyTorch's, the passes over a row of logits are here.
//
// Forward and backward of N rows over V tokens and F features take 6 N V F operations in three products; between them
// the rows cost one exponential and five passes over a logit, of which two come from memory beyond the second-level
// cache. Blocks are as large as that the weight, which each product reads once a block, stays a small part.
#include "../pointer_loss_blocks.h"
#include "simd.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

namespace rlseq2seq {
namespace {

// Measured for 8,000 and 50,000 tokens of 256 features: with more scratch, the pages that the system zeroes cost what
// the weight's fewer readings save. Products with 4 MiB of weight at a time are quicker than with 50, and not so many
// that waiting for threads, which on a busy machine come late, takes over.
constexpr PointerBlocks kBlocks{128, 12 << 20, 20 << 20, 4 << 20};
constexpr int64_t kChunk = 2048;  // tokens that are summed in the tensors' type; chunks are summed in double precision

template <class T>
RLSEQ2SEQ_INLINE T largest_logit(const T* logits, const T* bias, int64_t vocabulary) {
  T largest = -kInfinity<T>;
#pragma omp simd reduction(max : largest)
  for (int64_t v = 0; v < vocabulary; ++v) {
    const T logit = logits[v] + bias[v];
    largest = logit > largest ? logit : largest;
  }
  return largest;
}

// The sum of exp(logit - largest); the terms take the places of the logits if they are to be kept.
template <bool keep, class T>
RLSEQ2SEQ_INLINE double sum_of_exponentials(T* logits, const T* bias, int64_t vocabulary, T largest) {
  double sum = 0;
  for (int64_t begin = 0; begin < vocabulary; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, vocabulary);
    T part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t v = begin; v < end; ++v) {
      const T term = fast_exp(logits[v] + bias[v] - largest);
      if constexpr (keep) logits[v] = term;
      part += term;
    }
    sum += part;
  }
  return sum;
}

template <class T>
RLSEQ2SEQ_INLINE void scale(T* values, int64_t count, T factor) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) values[i] *= factor;
}

template <class T>
RLSEQ2SEQ_INLINE T mass_of(const T* attention, const int64_t* source_ids, int64_t time, int64_t target) {
  T mass = 0;
#pragma omp simd reduction(+ : mass)
  for (int64_t i = 0; i < time; ++i) mass += source_ids[i] == target ? attention[i] : T(0);
  return mass;
}

// Compiled for several kinds of processor, with what they inline.
RLSEQ2SEQ_SIMD float largest(const float* z, const float* b, int64_t n) { return largest_logit(z, b, n); }
RLSEQ2SEQ_SIMD double largest(const double* z, const double* b, int64_t n) { return largest_logit(z, b, n); }
RLSEQ2SEQ_SIMD double sum(float* z, const float* b, int64_t n, float m) {
  return sum_of_exponentials<false>(z, b, n, m);
}
RLSEQ2SEQ_SIMD double sum(double* z, const double* b, int64_t n, double m) {
  return sum_of_exponentials<false>(z, b, n, m);
}
RLSEQ2SEQ_SIMD double exponentials(float* z, const float* b, int64_t n, float m) {
  return sum_of_exponentials<true>(z, b, n, m);
}
RLSEQ2SEQ_SIMD double exponentials(double* z, const double* b, int64_t n, double m) {
  return sum_of_exponentials<true>(z, b, n, m);
}
RLSEQ2SEQ_SIMD void multiply(float* z, int64_t n, float factor) { scale(z, n, factor); }
RLSEQ2SEQ_SIMD void multiply(double* z, int64_t n, double factor) { scale(z, n, factor); }
RLSEQ2SEQ_SIMD float mass(const float* a, const int64_t* x, int64_t n, int64_t y) { return mass_of(a, x, n, y); }
RLSEQ2SEQ_SIMD double mass(const double* a, const int64_t* x, int64_t n, int64_t y) { return mass_of(a, x, n, y); }

// One row after another: log p(y), and where gradients are asked for, those of the row's logits in their place.
template <class T>
class Rows {
 public:
  Rows(const PointerShape& shape, const PointerTensors& tensors, const at::Tensor& grad, PointerResult& result)
      : shape_(shape), in_(addresses<T>(tensors)), out_(addresses<T, T>(result, grad)) {}

  void operator()(const at::Tensor& block, int64_t first) const {
    T* const logits = block.mutable_data_ptr<T>();
    const int64_t stride = block.stride(0);
    constexpr int64_t tokens_a_thread = 20000;
    at::parallel_for(0, block.size(0), 1 + tokens_a_thread / shape_.vocabulary, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) row(logits + i * stride, first + i);
    });
  }

 private:
  void row(T* logits, int64_t n) const {
    const int64_t target = in_.targets[n];
    const bool known = target < shape_.vocabulary;
    const int64_t generated = known ? target : kUnknown;
    const T top = largest(logits, in_.bias, shape_.vocabulary);
    const T logit = logits[generated] + in_.bias[generated];
    const double total = out_.grad == nullptr ? sum(logits, in_.bias, shape_.vocabulary, top)
                                              : exponentials(logits, in_.bias, shape_.vocabulary, top);
    const T log_softmax = logit - top - static_cast<T>(std::log(total));
    const int64_t* source_ids = in_.source_ids + n / shape_.shared * shape_.time;
    const bool copies = in_.gate_logits != nullptr;
    const T copied = copies ? mass(in_.attention + n * shape_.time, source_ids, shape_.time, target) : T(0);
    const PointerRow<T> mixed =
        copies ? pointer_row(log_softmax, known, in_.gate_logits[n], copied) : PointerRow<T>{log_softmax, 1, 0};
    out_.log_probs[n] = mixed.log_prob;
    if (out_.grad == nullptr) return;

    const T through = out_.grad[n] * mixed.generated;
    multiply(logits, shape_.vocabulary, static_cast<T>(-through / total));
    logits[generated] += through;
    if (out_.grad_gate_logits != nullptr) {
      out_.grad_gate_logits[n] = out_.grad[n] * gate_slope(mixed, in_.gate_logits[n]);
    }
    if (out_.grad_attention == nullptr) return;
    const T slope = out_.grad[n] * attention_slope(mixed, copied);
    T* const grad_attention = out_.grad_attention + n * shape_.time;
    for (int64_t i = 0; i < shape_.time; ++i) grad_attention[i] = source_ids[i] == target ? slope : T(0);
  }

  const PointerShape& shape_;
  const PointerInputs<T> in_;
  const PointerOutputs<T, T> out_;
};

void check_targets(const at::Tensor& targets) {
  const int64_t* ids = targets.const_data_ptr<int64_t>();
  for (int64_t n = 0; n < targets.numel(); ++n) {
    TORCH_CHECK_VALUE(ids[n] >= 0, "pointer_loss: targets[", n, "] is ", ids[n], ", below 0.");
  }
}

struct Cpu {
  static void run(const PointerTensors& tensors, const PointerShape& shape, const at::Tensor& grad,
                  const PointerNeeds& needs, PointerResult& result) {
    check_targets(tensors.targets);
    const auto walk = [&](auto&& rows) { walk_pointer_blocks(tensors, shape, kBlocks, needs, result, rows); };
    if (tensors.features.scalar_type() == at::kFloat) {
      walk(Rows<float>(shape, tensors, grad, result));
    } else {
      walk(Rows<double>(shape, tensors, grad, result));
    }
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) {
  m.impl("pointer_loss", &pointer_loss<Cpu>);
  m.impl("pointer_loss_backward", &pointer_loss_backward<Cpu>);
}

}  // namespace rlseq2seq
