// pointer_loss on the CPU: the products are PyTorch's, the passes over a row of logits are here.
//
// Forward and backward of N rows over V tokens and F features take 6 N V F operations in three products; between them
// the rows cost one exponential and five passes over a logit, of which two come from memory beyond the second-level
// cache. With entropy that is two exponentials and some eight operations more a logit, and looking up the tokens of the
// source, a few operations a position; with smoothing, one more pass over a row that was just read. Blocks are as large
// as that the weight, which each product reads once a block, stays a small part.
#include "../pointer_loss_blocks.h"
#include "pointer_entropy_row.h"
#include "simd.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <string>

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
RLSEQ2SEQ_INLINE double sum_of_logits(const T* logits, const T* bias, int64_t vocabulary, T largest) {
  double sum = 0;
  for (int64_t begin = 0; begin < vocabulary; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, vocabulary);
    T part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t v = begin; v < end; ++v) part += logits[v] + bias[v] - largest;
    sum += part;
  }
  return sum;
}

struct Moments {
  double total, weighted;  // the sums of e^x and e^x x, x being logit - largest
};

// A logit of -inf has no e^x, and no x that may be multiplied: e^-1000 is 0 in either type.
template <class T>
RLSEQ2SEQ_INLINE T above_nothing(T x) {
  return T(-1000) > x ? T(-1000) : x;
}

template <class T>
RLSEQ2SEQ_INLINE Moments moments_of(const T* logits, const T* bias, int64_t vocabulary, T largest) {
  Moments sums{0, 0};
  for (int64_t begin = 0; begin < vocabulary; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, vocabulary);
    T total = 0, weighted = 0;
#pragma omp simd reduction(+ : total, weighted)
    for (int64_t v = begin; v < end; ++v) {
      const T x = above_nothing(logits[v] + bias[v] - largest);
      const T term = fast_exp(x);
      total += term;
      weighted += term * x;
    }
    sums.total += total;
    sums.weighted += weighted;
  }
  return sums;
}

// e^x (level - slope x), and `added`, in the place of each logit.
template <class T>
RLSEQ2SEQ_INLINE void entropy_gradients_of(T* logits, const T* bias, int64_t vocabulary, T largest, T level, T slope,
                                           T added) {
#pragma omp simd
  for (int64_t v = 0; v < vocabulary; ++v) {
    const T x = above_nothing(logits[v] + bias[v] - largest);
    logits[v] = fast_exp(x) * (level - slope * x) + added;
  }
}

template <class T>
RLSEQ2SEQ_INLINE void scale(T* values, int64_t count, T factor, T added) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) values[i] = values[i] * factor + added;
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
RLSEQ2SEQ_SIMD double logit_sum(const float* z, const float* b, int64_t n, float m) {
  return sum_of_logits(z, b, n, m);
}
RLSEQ2SEQ_SIMD double logit_sum(const double* z, const double* b, int64_t n, double m) {
  return sum_of_logits(z, b, n, m);
}
RLSEQ2SEQ_SIMD Moments moments(const float* z, const float* b, int64_t n, float m) { return moments_of(z, b, n, m); }
RLSEQ2SEQ_SIMD Moments moments(const double* z, const double* b, int64_t n, double m) { return moments_of(z, b, n, m); }
RLSEQ2SEQ_SIMD void entropy_gradients(float* z, const float* b, int64_t n, float m, float level, float slope,
                                      float added) {
  entropy_gradients_of(z, b, n, m, level, slope, added);
}
RLSEQ2SEQ_SIMD void entropy_gradients(double* z, const double* b, int64_t n, double m, double level, double slope,
                                      double added) {
  entropy_gradients_of(z, b, n, m, level, slope, added);
}
RLSEQ2SEQ_SIMD void multiply_add(float* z, int64_t n, float factor, float added) { scale(z, n, factor, added); }
RLSEQ2SEQ_SIMD void multiply_add(double* z, int64_t n, double factor, double added) { scale(z, n, factor, added); }
RLSEQ2SEQ_SIMD float mass(const float* a, const int64_t* x, int64_t n, int64_t y) { return mass_of(a, x, n, y); }
RLSEQ2SEQ_SIMD double mass(const double* a, const int64_t* x, int64_t n, int64_t y) { return mass_of(a, x, n, y); }

// One row after another: log p(y), the entropy and the mean of the log-softmax if they are asked for, and where
// gradients are asked for, those of the row's logits in their place.
template <class T>
class Rows {
 public:
  Rows(const PointerShape& shape, const PointerTensors& tensors, const PointerWeights& weights, PointerResult& result)
      : shape_(shape), in_(addresses<T>(tensors)), out_(addresses<T, T>(result, weights)) {}

  void operator()(const at::Tensor& block, int64_t first) const {
    T* const logits = block.mutable_data_ptr<T>();
    const int64_t stride = block.stride(0);
    constexpr int64_t tokens_a_thread = 20000;
    at::parallel_for(0, block.size(0), 1 + tokens_a_thread / shape_.vocabulary, [&](int64_t begin, int64_t end) {
      PointerEntropyRow<T> source(shape_, in_);
      for (int64_t i = begin; i < end; ++i) row(logits + i * stride, first + i, source);
    });
  }

 private:
  void row(T* logits, int64_t n, PointerEntropyRow<T>& source) const {
    const int64_t target = in_.targets[n];
    const bool known = target < shape_.vocabulary;
    const int64_t generated = known ? target : kUnknown;
    const T top = largest(logits, in_.bias, shape_.vocabulary);
    const T logit = logits[generated] + in_.bias[generated];
    const bool smooths = out_.mean_log_softmax != nullptr;
    const double logits_sum = smooths ? logit_sum(logits, in_.bias, shape_.vocabulary, top) : 0;
    const Moments sums = sums_of(logits, top);
    const T log_total = static_cast<T>(std::log(sums.total));
    if (smooths) {
      out_.mean_log_softmax[n] =
          static_cast<T>(logits_sum / static_cast<double>(shape_.vocabulary) - std::log(sums.total));
    }
    const bool copies = in_.gate_logits != nullptr;
    const T copied = copies ? mass(in_.attention + n * shape_.time, source_ids(n), shape_.time, target) : T(0);
    const T log_softmax = logit - top - log_total;
    const PointerRow<T> mixed =
        copies ? pointer_row(log_softmax, known, in_.gate_logits[n], copied) : PointerRow<T>{log_softmax, 1, 0};
    out_.log_probs[n] = mixed.log_prob;
    MixtureEntropy<T> entropy{};
    if (out_.entropy != nullptr) {
      entropy = source.read(n, logits, top, log_total, static_cast<T>(sums.weighted / sums.total) - log_total);
      out_.entropy[n] = entropy.entropy;
    }
    if (out_.grad == nullptr) return;

    const T through = out_.grad[n] * mixed.generated;
    const SmoothingSlopes<T> smoothing = smoothing_slopes(out_, n, shape_.vocabulary);
    const T taken = through + smoothing.taken;
    if (out_.entropy == nullptr) {
      multiply_add(logits, shape_.vocabulary, static_cast<T>(-taken / sums.total), smoothing.everywhere);
    } else {
      const T factor = out_.entropy_grad[n] * entropy.through;
      entropy_gradients(logits, in_.bias, shape_.vocabulary, top,
                        static_cast<T>((factor * entropy.level - taken) / sums.total),
                        static_cast<T>(factor / sums.total), smoothing.everywhere);
      source.lower(logits, factor);
    }
    logits[generated] += through;
    if (copies) copy_gradients(n, mixed, copied, entropy, source);
  }

  Moments sums_of(T* logits, T top) const {
    if (out_.entropy != nullptr) return moments(logits, in_.bias, shape_.vocabulary, top);
    return {out_.grad == nullptr ? sum(logits, in_.bias, shape_.vocabulary, top)
                                 : exponentials(logits, in_.bias, shape_.vocabulary, top),
            0};
  }

  void copy_gradients(int64_t n, const PointerRow<T>& mixed, T copied, const MixtureEntropy<T>& entropy,
                      const PointerEntropyRow<T>& source) const {
    const T grad = out_.grad[n], entropy_grad = out_.entropy == nullptr ? T(0) : out_.entropy_grad[n];
    if (out_.grad_gate_logits != nullptr) {
      out_.grad_gate_logits[n] = grad * gate_slope(mixed, in_.gate_logits[n]) + entropy_grad * entropy.gate_slope;
    }
    if (out_.grad_attention == nullptr) return;
    const T slope = grad * attention_slope(mixed, copied);
    const int64_t target = in_.targets[n], *const ids = source_ids(n);
    T* const grad_attention = out_.grad_attention + n * shape_.time;
    for (int64_t i = 0; i < shape_.time; ++i) grad_attention[i] = ids[i] == target ? slope : T(0);
    if (out_.entropy == nullptr) return;
    for (int64_t i = 0; i < shape_.time; ++i) grad_attention[i] += entropy_grad * source.attention_slope(i);
  }

  const int64_t* source_ids(int64_t n) const { return in_.source_ids + n / shape_.shared * shape_.time; }

  const PointerShape& shape_;
  const PointerInputs<T> in_;
  const PointerOutputs<T, T> out_;
};

void check_ids(const char* name, const at::Tensor& ids) {
  const int64_t* const values = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    if (values[i] >= 0) continue;
    const std::string place = ids.dim() == 1 ? std::to_string(i)
                                             : std::to_string(i / ids.size(1)) + ", " + std::to_string(i % ids.size(1));
    TORCH_CHECK_VALUE(false, "pointer_loss: ", name, "[", place, "] is ", values[i], ", below 0.");
  }
}

struct Cpu {
  static void run(const PointerTensors& tensors, const PointerShape& shape, const PointerWeights& weights,
                  const PointerNeeds& needs, PointerResult& result) {
    check_ids("targets", tensors.targets);
    if (weights.entropy.defined()) check_ids("source_ids", tensors.source_ids);
    const auto walk = [&](auto&& rows) { walk_pointer_blocks(tensors, shape, kBlocks, needs, result, rows); };
    if (tensors.features.scalar_type() == at::kFloat) {
      walk(Rows<float>(shape, tensors, weights, result));
    } else {
      walk(Rows<double>(shape, tensors, weights, result));
    }
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) {
  m.impl("pointer_loss", &pointer_loss<Cpu>);
  m.impl("pointer_loss_backward", &pointer_loss_backward<Cpu>);
}

}  // namespace rlseq2seq
