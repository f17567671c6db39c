// What the CPU and CUDA kernels of pointer_loss share: sizes, addresses and the arithmetic of a row's few numbers. No
// torch, so that nvcc compiles it by itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#ifdef __CUDACC__
#define RLSEQ2SEQ_HOST_DEVICE __host__ __device__
#else
#define RLSEQ2SEQ_HOST_DEVICE
#endif

namespace rlseq2seq {

constexpr int64_t kUnknown = 1;  // rlseq2seq/token_ids.py; it is in every vocabulary

// Device code may not call the functions of numeric_limits, but may use constants.
template <class Real>
constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
template <class Real>
constexpr Real kSmallest = std::numeric_limits<Real>::min();

struct PointerShape {
  int64_t rows;        // N
  int64_t vocabulary;  // V
  int64_t time;        // S, places of a source
  int64_t shared;      // rows that share a source, N / B
};

// What the rows read beside their logits. Scalar is what tensors hold, Real what is computed in.
template <class Scalar>
struct PointerInputs {
  const Scalar* bias;         // [V]
  const Scalar* gate_logits;  // [N], or null for a model that cannot copy
  const Scalar* attention;    // [N, S]
  const int64_t* source_ids;  // [B, S]
  const int64_t* targets;     // [N]
};

// What the rows write beside the gradients of their logits. All but log_probs may be null: not asked for.
template <class Scalar, class Real>
struct PointerOutputs {
  Real* log_probs;             // [N]
  Real* entropy;               // [N]
  Real* mean_log_softmax;      // [N]
  const Real* grad;            // [N], that of log_probs
  const Real* entropy_grad;    // [N], that of the entropy, given where both are asked for
  const Real* smoothing_grad;  // [N], that of the mean, likewise
  Scalar* grad_gate_logits;    // [N]
  Scalar* grad_attention;      // [N, S]
};

// Label smoothing (Szegedy et al. 2016, arXiv:1512.00567) weighs, beside log p(y), the mean over the vocabulary of
// log s_v, s being the softmax of the logits; the gate and the attention have no part in it. Of a mean that weighs w,
// d / dz_v = w / V - w s_v: `everywhere` - `taken` s_v.
template <class Real>
struct SmoothingSlopes {
  Real everywhere, taken;
};

// Nothing where it is not asked for.
template <class Scalar, class Real>
RLSEQ2SEQ_HOST_DEVICE inline SmoothingSlopes<Real> smoothing_slopes(const PointerOutputs<Scalar, Real>& out, int64_t n,
                                                                   int64_t vocabulary) {
  if (out.smoothing_grad == nullptr) return {0, 0};
  const Real grad = out.smoothing_grad[n];
  return {grad / static_cast<Real>(vocabulary), grad};
}

// log p(y) of a row and what each part of the mixture has in p(y); the shares sum to 1.
template <class Real>
struct PointerRow {
  Real log_prob;
  Real generated;
  Real copied;
};

template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline Real log_sigmoid(Real x) {
  return (x < 0 ? x : Real(0)) - std::log1p(std::exp(x < 0 ? x : -x));
}

// `mass` is the attention on the target's copies, `generated` its log-probability in the softmax, of which a target
// outside the vocabulary has none. Where only a copy can give the target, less mass than the smallest normal number
// counts as that number, so that the logarithm stays finite. Comparisons are made so that nan stays nan.
template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline PointerRow<Real> pointer_row(Real generated, bool known, Real gate_logit, Real mass) {
  const Real g = known ? generated + log_sigmoid(gate_logit) : -kInfinity<Real>;
  Real c = -kInfinity<Real>;
  if (!(mass < kSmallest<Real>)) {
    c = std::log(mass) + log_sigmoid(-gate_logit);
  } else if (!known) {
    c = std::log(kSmallest<Real>) + log_sigmoid(-gate_logit);
  }
  const Real larger = g > c ? g : c;
  const Real smaller = g > c ? c : g;
  if (larger == -kInfinity<Real> && smaller == -kInfinity<Real>) return {-kInfinity<Real>, 0, 0};
  const Real log_prob = larger + std::log1p(std::exp(smaller - larger));
  return {log_prob, std::exp(g - log_prob), std::exp(c - log_prob)};
}

// d log p(y) / d gate logit.
template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline Real gate_slope(const PointerRow<Real>& row, Real gate_logit) {
  return row.generated / (1 + std::exp(gate_logit)) - row.copied / (1 + std::exp(-gate_logit));
}

// d log p(y) / d attention, the same at every place that holds the target; none where the mass does not count.
template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline Real attention_slope(const PointerRow<Real>& row, Real mass) {
  return mass < kSmallest<Real> ? Real(0) : row.copied / mass;
}

}  // namespace rlseq2seq
