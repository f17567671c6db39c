// beam_step on the CPU: the best extensions of each row, rows shared out among threads, and then of each source.
#include "search_mixture.h"
#include "search_row.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <numeric>

namespace rlseq2seq {
namespace {

// The best K extensions of one row after another, after what the rules forbid is taken out.
template <class T>
class Extender {
 public:
  Extender(const SearchRows<T, T>& rows, const BeamShape& shape, const BeamInputs<T>& beams, const BeamRules& rules,
           const BeamCandidates<T>& candidates)
      : row_(rows), shape_(shape), beams_(beams), rules_(rules), candidates_(candidates) {}

  void extend(int64_t n) {
    T* const totals = candidates_.totals + n * shape_.beam;
    int64_t* const tokens = candidates_.tokens + n * shape_.beam;
    std::fill_n(totals, shape_.beam, kNever);
    std::fill_n(tokens, shape_.beam, int64_t{0});
    const T score = beams_.scores[n];
    if (score == kNever) return;
    row_.read(n);
    dirty_.assign(static_cast<size_t>(row_.chunks()), false);
    if (!row_.copies().empty()) {
      row_.patch();
      for (const int64_t column : row_.copies()) dirty_[row_.chunk_of(column)] = true;
    }
    dirty_.back() = true;  // no pass has been there
    const T end = *row_.column(kEndToken);
    forbid(n);
    for (int64_t c = 0; c < row_.chunks(); ++c) {
      if (dirty_[c]) find_maximum(c);
    }
    for (int64_t k = 0; k < shape_.beam; ++k) {
      T logit;
      int64_t token = take_best(logit);
      // Where nothing is left the end token is allowed: blocking ends a hypothesis, it never empties it.
      if (k == 0 && !(logit > kNever)) {
        logit = end;
        token = kEndToken;
      }
      if (!(logit > kNever)) break;
      totals[k] = score + static_cast<T>(row_.log_prob(logit));
      tokens[k] = token;
    }
  }

 private:
  static constexpr T kNever = -std::numeric_limits<T>::infinity();

  void forbid_token(int64_t token) {
    const int64_t column = row_.column_of(token);
    if (column < 0) return;
    *row_.column(column) = kNever;
    dirty_[row_.chunk_of(column)] = true;
  }

  // What would complete an n-gram that the hypothesis holds, and an end that would come too early.
  void forbid(int64_t n) {
    if (shape_.step < rules_.min_tokens) forbid_token(kEndToken);
    const int64_t size = rules_.block_ngrams;
    if (size == 0 || size > shape_.step) return;  // no whole n-gram yet
    const int64_t* const tokens = beams_.tokens + n * shape_.time;
    const int64_t* const last = tokens + shape_.step - (size - 1);
    for (int64_t start = 0; start + size <= shape_.step; ++start) {
      if (std::equal(tokens + start, tokens + start + size - 1, last)) forbid_token(tokens[start + size - 1]);
    }
  }

  void find_maximum(int64_t chunk) {
    row_.maxima()[chunk] = largest(row_.column(row_.first_column(chunk)), row_.chunk_size(chunk));
  }

  // Takes the largest logit out of the row, of equals the one of the lowest token.
  int64_t take_best(T& logit) {
    const std::vector<T>& maxima = row_.maxima();
    const int64_t chunk = std::max_element(maxima.begin(), maxima.end()) - maxima.begin();  // the first of equals
    logit = maxima[chunk];
    if (!(logit > kNever)) return 0;
    T* const logits = row_.column(row_.first_column(chunk));
    T* const found = std::find(logits, logits + row_.chunk_size(chunk), logit);
    *found = kNever;
    find_maximum(chunk);
    return row_.token(row_.first_column(chunk) + (found - logits));
  }

  SearchRow<T> row_;
  const BeamShape shape_;
  const BeamInputs<T> beams_;
  const BeamRules rules_;
  const BeamCandidates<T> candidates_;
  std::vector<char> dirty_;  // chunks whose maximum is not known
};

// Chooses among the extensions of all rows of a source, moves those that end to the pool, and copies the tokens.
template <class T>
class Merger {
 public:
  Merger(const BeamShape& shape, const BeamInputs<T>& beams, double divisor, const BeamCandidates<T>& candidates,
         const BeamOutputs<T>& outputs)
      : shape_(shape), beams_(beams), divisor_(static_cast<T>(divisor)), candidates_(candidates), outputs_(outputs) {
    const auto beam = static_cast<size_t>(shape.beam);
    best_.resize(beam);
    pool_.resize(2 * beam);
    order_.resize(2 * beam);
  }

  void merge(int64_t source) {
    first_row_ = source * shape_.beam;
    choose();
    // Only as many go on as the pool still lacks.
    int64_t lacking = shape_.beam;
    for (int64_t k = 0; k < shape_.beam; ++k) lacking -= std::isfinite(beams_.finished_scores[first_row_ + k]);
    for (int64_t k = 0; k < shape_.beam; ++k) {
      Extension& extension = best_[k];
      if (k >= lacking) extension.total = kNever;
      const bool ended = extension.token == kEndToken;
      pool_[k] = beams_.finished_scores[first_row_ + k];
      pool_[shape_.beam + k] = ended ? extension.total / divisor_ : kNever;
      outputs_.scores[first_row_ + k] = ended ? kNever : extension.total;
      outputs_.rows[first_row_ + k] = first_row_ + extension.parent;
      outputs_.chosen[first_row_ + k] = extension.token;
      copy_extended(extension, outputs_.tokens + (first_row_ + k) * shape_.time);
    }
    fill_pool();
  }

 private:
  static constexpr T kNever = -std::numeric_limits<T>::infinity();
  struct Extension {
    T total;
    int64_t parent, token;
  };

  // Each row's extensions are in order, so the best of all is the head of some row; of equals the lower row's.
  void choose() {
    heads_.assign(static_cast<size_t>(shape_.beam), 0);
    for (Extension& extension : best_) {
      extension = {kNever, 0, 0};
      for (int64_t k = 0; k < shape_.beam; ++k) {
        if (heads_[k] == shape_.beam) continue;
        const int64_t at = (first_row_ + k) * shape_.beam + heads_[k];
        if (candidates_.totals[at] > extension.total) extension = {candidates_.totals[at], k, candidates_.tokens[at]};
      }
      if (extension.total > kNever) ++heads_[extension.parent];
    }
  }

  void copy_extended(const Extension& extension, int64_t* to) const {
    std::copy_n(beams_.tokens + (first_row_ + extension.parent) * shape_.time, shape_.time, to);
    to[shape_.step] = extension.token;
  }

  // The best of what was in the pool and of what has just ended; of equals what was there earlier.
  void fill_pool() {
    std::iota(order_.begin(), order_.end(), int64_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return pool_[a] > pool_[b]; });
    for (int64_t k = 0; k < shape_.beam; ++k) {
      const int64_t from = order_[k];
      int64_t* const to = outputs_.finished_tokens + (first_row_ + k) * shape_.time;
      outputs_.finished_scores[first_row_ + k] = pool_[from];
      if (from < shape_.beam) {
        std::copy_n(beams_.finished_tokens + (first_row_ + from) * shape_.time, shape_.time, to);
      } else {
        copy_extended(best_[from - shape_.beam], to);
      }
    }
  }

  const BeamShape shape_;
  const BeamInputs<T> beams_;
  const T divisor_;
  const BeamCandidates<T> candidates_;
  const BeamOutputs<T> outputs_;
  int64_t first_row_ = 0;
  std::vector<Extension> best_;
  std::vector<int64_t> heads_, order_;
  std::vector<T> pool_;
};

template <class T>
void run_beam_step(const SearchRows<T, T>& rows, const BeamShape& shape, const BeamInputs<T>& beams,
                   const BeamRules& rules, const BeamCandidates<T>& candidates, const BeamOutputs<T>& outputs) {
  at::parallel_for(0, rows.shape.rows, rows_a_thread(rows.shape), [&](int64_t begin, int64_t end) {
    Extender<T> extender(rows, shape, beams, rules, candidates);
    for (int64_t n = begin; n < end; ++n) extender.extend(n);
  });
  const int64_t grain = 1 + 20000 / (1 + shape.beam * (shape.beam + shape.time));
  at::parallel_for(0, shape.sources, grain, [&](int64_t begin, int64_t end) {
    Merger<T> merger(shape, beams, divisor_of(shape, rules), candidates, outputs);
    for (int64_t source = begin; source < end; ++source) merger.merge(source);
  });
}

BeamTensors beam_step_cpu(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                          const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                          const at::Tensor& source_ids, const at::Tensor& tokens, const at::Tensor& scores,
                          const at::Tensor& finished_tokens, const at::Tensor& finished_scores, int64_t step,
                          double length_penalty, int64_t block_ngrams, int64_t min_tokens,
                          const std::optional<at::Tensor>& packed) {
  const char* const op = "beam_step";
  const SearchShape shape = check_mixture(op, features, weight, bias, gate_logits, attention, source_ids);
  const BeamRules rules{length_penalty, block_ngrams, min_tokens};
  const BeamShape beam = check_beams(shape, features, tokens, scores, finished_tokens, finished_scores, step, rules);
  PreparedMixture mixture =
      prepare_on_cpu(op, shape, features, weight, bias, gate_logits, attention, source_ids, packed);
  const auto t = tokens.expect_contiguous(), s = scores.expect_contiguous();
  const auto ft = finished_tokens.expect_contiguous(), fs = finished_scores.expect_contiguous();
  const at::Tensor totals = at::empty({shape.rows, beam.beam}, scores.options());
  const at::Tensor extensions = at::empty({shape.rows, beam.beam}, tokens.options());
  BeamTensors result = empty_beams(tokens, scores);
  AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "beam_step", [&] {
    run_beam_step<scalar_t>(mixture.rows<scalar_t>(shape), beam,
                            {t->const_data_ptr<int64_t>(), s->const_data_ptr<scalar_t>(),
                             ft->const_data_ptr<int64_t>(), fs->const_data_ptr<scalar_t>()},
                            rules, {totals.mutable_data_ptr<scalar_t>(), extensions.mutable_data_ptr<int64_t>()},
                            addresses<scalar_t>(result));
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("beam_step", &beam_step_cpu); }

}  // namespace rlseq2seq
