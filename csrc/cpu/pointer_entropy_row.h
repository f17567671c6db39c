// What the tokens of a row's source change in the entropy of its mixture, on the CPU. No torch.
#pragma once

#include "../pointer_entropy.h"
#include "source_tokens.h"

#include <vector>

namespace rlseq2seq {

// One row after another of those that a thread has; the tokens of a source are looked up once for the rows that share
// it.
template <class T>
class PointerEntropyRow {
 public:
  PointerEntropyRow(const PointerShape& shape, const PointerInputs<T>& in) : shape_(shape), in_(in) {}

  // The entropy of row n and what its slopes are made of, from its logits, the largest of them, log Z and L.
  MixtureEntropy<T> read(int64_t n, const T* logits, T largest, T log_total, T mean) {
    slots_.clear();
    gate_logit_ = kInfinity<T>;
    CopiedEntropy<T> copied;
    if (in_.gate_logits != nullptr) {
      gate_logit_ = in_.gate_logits[n];
      read_source(n / shape_.shared);
      source_.add_up(in_.attention + n * shape_.time, masses_);
      for (size_t slot = 0; slot < masses_.size(); ++slot) {
        const int64_t token = source_.columns()[slot];
        const bool known = token < shape_.vocabulary;
        const T log_softmax = known ? logits[token] + in_.bias[token] - largest - log_total : T(0);
        slots_.push_back(source_token_entropy(log_softmax, known, gate_logit_, masses_[slot]));
        copied.add(slots_.back().terms);
      }
    }
    return mixture_entropy(mean, log_total, gate_logit_, copied);
  }

  // Of the row read last: takes factor * s r from the gradients of the logits that the source holds.
  void lower(T* gradients, T factor) const {
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      const int64_t token = source_.columns()[slot];
      if (token < shape_.vocabulary) gradients[token] -= factor * slots_[slot].terms.raised;
    }
  }

  // Of the row read last: dH / d attention at a position.
  T attention_slope(int64_t position) const {
    const int32_t slot = source_.slot(position);
    return entropy_attention_slope(slots_[slot].log_prob, gate_logit_, masses_[slot]);
  }

 private:
  void read_source(int64_t source) {
    if (source == source_read_) return;
    source_read_ = source;
    source_.read(in_.source_ids + source * shape_.time, shape_.time, shape_.vocabulary);
  }

  const PointerShape& shape_;
  const PointerInputs<T>& in_;
  int64_t source_read_ = -1;
  SourceTokens source_;
  T gate_logit_ = 0;
  std::vector<T> masses_;  // of each slot
  std::vector<SourceTokenEntropy<T>> slots_;
};

}  // namespace rlseq2seq
