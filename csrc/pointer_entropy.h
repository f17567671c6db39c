// The entropy of a mixture over the extended vocabulary and its slopes, without the distribution. No torch, so that
// nvcc compiles it by itself.
//
// Let s be the softmax of the logits, x_v = z_v - max z, Z = sum_v e^(x_v), g the sigmoid of the gate, c_v the attention
// on all copies of v, and L = sum_v s_v log s_v = sum_v e^(x_v) x_v / Z - log Z. A model that only generates has -H = L.
// In a mixture, p_v = g s_v wherever the source does not hold v, and
//   -H = g (log g + L) + sum over the source's distinct v of p_v log p_v - g s_v log(g s_v).
// With r_v = log p_v - log(g s_v), what the copies add to a token's log-probability, and A = L + sum_v s_v r_v,
//   dH / dz_v  = g s_v (A - log s_v - r_v)
//   dH / dgate = g (1 - g) (sum_v c_v (log p_v + 1) - A - log g - 1)
//   dH / da_i  = -(1 - g) (log p_v + 1),  v being what position i holds.
// The sums over the source are all that copying adds. As in pointer_row, attention on a token that is less than the
// smallest normal number counts for nothing.
#pragma once

#include "pointer_loss.h"

namespace rlseq2seq {

// p log p, of which 0 has none.
template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline Real probability_times_log(Real log_prob) {
  const Real p = std::exp(log_prob);
  return p == 0 ? Real(0) : p * log_prob;
}

// Sums over the distinct tokens of a source.
template <class Real>
struct CopiedEntropy {
  Real entropy = 0;  // of p log p - g s log(g s), with its sign turned
  Real raised = 0;   // of s r
  Real slope = 0;    // of c (log p + 1)

  RLSEQ2SEQ_HOST_DEVICE void add(const CopiedEntropy& other) {
    entropy += other.entropy;
    raised += other.raised;
    slope += other.slope;
  }
};

// One such token. `log_softmax` is log s, of which a token outside the vocabulary has none.
template <class Real>
struct SourceTokenEntropy {
  Real log_prob;  // log p
  CopiedEntropy<Real> terms;
};

template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline SourceTokenEntropy<Real> source_token_entropy(Real log_softmax, bool known,
                                                                          Real gate_logit, Real mass) {
  SourceTokenEntropy<Real> token;
  token.log_prob = pointer_row(log_softmax, known, gate_logit, mass).log_prob;
  if (mass < kSmallest<Real>) return token;
  const Real generated = known ? log_softmax + log_sigmoid(gate_logit) : -kInfinity<Real>;
  const Real softmax = known ? std::exp(log_softmax) : Real(0);
  token.terms.entropy = probability_times_log(generated) - probability_times_log(token.log_prob);
  token.terms.raised = softmax == 0 ? Real(0) : softmax * (token.log_prob - generated);
  token.terms.slope = mass * (token.log_prob + 1);
  return token;
}

// A row's entropy, and what its slopes are made of.
template <class Real>
struct MixtureEntropy {
  Real entropy;
  Real through;  // g
  Real level;    // A + log Z: dH / dz_v = g s_v (level - x_v - r_v)
  Real gate_slope;
};

// `mean` is L and `log_total` log Z. A model that cannot copy has the gate logit infinity and no copies.
template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline MixtureEntropy<Real> mixture_entropy(Real mean, Real log_total, Real gate_logit,
                                                                 const CopiedEntropy<Real>& copied) {
  const Real log_gate = log_sigmoid(gate_logit), gate = std::exp(log_gate);
  const Real level = mean + copied.raised;
  const Real both = gate / (1 + std::exp(gate_logit));  // g (1 - g)
  return {copied.entropy - gate * (log_gate + mean), gate, level + log_total,
          both * (copied.slope - level - log_gate - 1)};
}

// d H / d attention at a position, given what it holds; none where the mass does not count.
template <class Real>
RLSEQ2SEQ_HOST_DEVICE inline Real entropy_attention_slope(Real log_prob, Real gate_logit, Real mass) {
  return mass < kSmallest<Real> ? Real(0) : -(log_prob + 1) / (1 + std::exp(gate_logit));
}

}  // namespace rlseq2seq
