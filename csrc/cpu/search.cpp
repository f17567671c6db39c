// greedy_step and sample_step on the CPU: logits by one matrix product, then two passes over each row while it is in
// the cache. Rows are shared out among threads.
#include "search_mixture.h"
#include "search_row.h"
#include "simd.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <numeric>
#include <type_traits>

namespace rlseq2seq {
namespace {

template <class T>
void greedy_row(SearchRow<T>& row, int64_t& token, T& log_prob) {
  const std::vector<T>& maxima = row.maxima();
  int64_t best = 0;
  const T most = row.largest();
  // The most probable token is the one generated with the largest probability or one that can be copied.
  for (int64_t chunk = 0; chunk + 1 < row.chunks(); ++chunk) {
    if (maxima[chunk] != most) continue;
    best = row.first_column(chunk);
    const T* const logits = row.column(best);
    const int64_t size = row.chunk_size(chunk);
    const T* const found = std::find(logits, logits + size, most);
    if (found != logits + size) best += found - logits;  // it is in no chunk of a row of nan
    break;
  }
  T value = *row.column(best);
  if (!row.copies().empty()) {
    const std::vector<T>& effective = row.effective();
    for (size_t i = 0; i < effective.size(); ++i) {
      const int64_t column = row.copies()[i];
      if (effective[i] < value || (effective[i] == value && column > best)) continue;
      value = effective[i];
      best = column;
    }
  }
  token = row.token(best);
  log_prob = static_cast<T>(row.log_prob(value));
}

// Inverts the cumulative distribution of one row after another.
template <class T>
class Sampler {
 public:
  Sampler(const SearchRows<T, T>& rows, const SamplingOptions& options) : row_(rows), options_(options) {}

  void sample(int64_t n, double noise, int64_t& token, T& log_prob) {
    row_.read(n);
    probabilities_.assign(static_cast<size_t>(row_.chunks()), 0.0);
    if (options_.shaped()) {
      shape_row();
    } else {
      add_up_chunks();
    }
    const double total = std::accumulate(probabilities_.begin(), probabilities_.end(), 0.0);
    const double target = std::max(noise, 0.0) * total;
    // The last chunk that is possible is taken if the target is at the end of all.
    double before = 0, sum = 0, probability = 0;
    int64_t chunk = 0;
    for (int64_t c = 0; c < row_.chunks() && sum <= target; ++c) {
      if (!(probabilities_[c] > 0)) continue;
      chunk = c;
      before = sum;
      sum += probabilities_[c];
    }
    token = row_.token(scan(chunk, target - before, probability));
    log_prob = static_cast<T>(std::log(options_.shaped() ? probability / total : probability));
  }

 private:
  using Key = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

  // The probability of each chunk of the plain mixture: no token is looked at again unless it is in the chunk chosen.
  void add_up_chunks() {
    generated_ = std::exp(row_.log_generate() - (row_.log_sum() - static_cast<double>(row_.largest())));
    copied_ = row_.copies().empty() ? 0 : std::exp(row_.log_copy());
    for (int64_t c = 0; c + 1 < row_.chunks(); ++c) {
      probabilities_[c] = generated_ * static_cast<double>(row_.sums()[c]);
    }
    for (size_t i = 0; i < row_.copies().size(); ++i) {
      probabilities_[row_.chunk_of(row_.copies()[i])] += copied_ * static_cast<double>(row_.masses()[i]);
    }
  }

  // Every column becomes a weight in proportion to its probability under temperature, top-k and top-p.
  void shape_row() {
    T most = row_.largest();
    for (const T logit : row_.patch()) most = std::max(most, logit);
    using Limits = std::numeric_limits<T>;
    const double scale = std::clamp<double>(1 / options_.temperature, Limits::min(), Limits::max());
    for (int64_t c = 0; c < row_.chunks(); ++c) {
      T sum = 0;
      chunk_weights(row_.column(row_.first_column(c)), row_.chunk_size(c), most, static_cast<T>(scale),
                    &sum);
      probabilities_[c] = static_cast<double>(sum);
    }
    if (options_.filtered()) filter(most);
  }

  Above above(T threshold) {
    const int64_t vocabulary = row_.first_column(row_.chunks() - 1);
    const Above first = rlseq2seq::above(row_.column(0), vocabulary, threshold);
    const Above second = rlseq2seq::above(row_.column(vocabulary), row_.extended_size(), threshold);
    return {first.count + second.count, first.mass + second.mass};
  }

  // What is kept is a stretch of the tokens in descending order of weight, then ascending order of ids. The weight
  // where it ends is found by bisection on the bits of weights, which are in the same order.
  void filter(T largest) {
    // The sum of weights that is a probability of 1: with no temperature, what a row without attention lacks counts.
    double whole = std::exp(-row_.log_prob(largest));
    if (options_.temperature != 1) whole = std::accumulate(probabilities_.begin(), probabilities_.end(), 0.0);
    const int64_t most = options_.top_k > 0 ? options_.top_k : std::numeric_limits<int64_t>::max();
    const double mass = options_.top_p < 1 ? options_.top_p * whole : std::numeric_limits<double>::infinity();
    Key low = 0, high = bit_cast<Key>(T{1});
    while (low < high) {
      const Key middle = low + (high - low) / 2;
      const Above before = above(bit_cast<T>(middle));
      if (before.count == 0 || (before.count < most && before.mass < mass)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const T last = bit_cast<T>(low);
    const Above before = above(last);
    double equals = static_cast<double>(most - before.count);
    if (last > 0) equals = std::min(equals, std::max(1.0, std::ceil((mass - before.mass) / static_cast<double>(last))));
    drop(last, equals);
  }

  // Leaves what is above `last` and the first few that equal it.
  void drop(T last, double equals) {
    for (int64_t c = 0; c < row_.chunks(); ++c) {
      T* const weights = row_.column(row_.first_column(c));
      double sum = 0;
      for (int64_t i = 0; i < row_.chunk_size(c); ++i) {
        if (weights[i] < last || (weights[i] == last && --equals < 0)) weights[i] = 0;
        sum += static_cast<double>(weights[i]);
      }
      probabilities_[c] = sum;
    }
  }

  // The first column of the chunk at which its cumulative probability exceeds the target, or the last possible one.
  int64_t scan(int64_t chunk, double target, double& probability) {
    const int64_t first = row_.first_column(chunk), size = row_.chunk_size(chunk);
    const T* const values = row_.column(first);
    scanned_.assign(values, values + size);
    if (!options_.shaped()) probabilities_of(chunk);
    double sum = 0;
    int64_t chosen = first;
    for (int64_t i = 0; i < size; ++i) {
      if (!(scanned_[i] > 0)) continue;
      chosen = first + i;
      probability = scanned_[i];
      sum += scanned_[i];
      if (sum > target) break;
    }
    return chosen;
  }

  void probabilities_of(int64_t chunk) {
    const bool extended = chunk + 1 == row_.chunks();
    for (double& value : scanned_) {
      // In the type of the sums, so that what the sums hold is found again.
      const T weight = extended ? 0 : std::exp(static_cast<T>(value) - row_.largest());
      value = generated_ * static_cast<double>(weight);
    }
    for (size_t i = 0; i < row_.copies().size(); ++i) {
      const int64_t column = row_.copies()[i];
      if (row_.chunk_of(column) != chunk) continue;
      scanned_[column - row_.first_column(chunk)] += copied_ * static_cast<double>(row_.masses()[i]);
    }
  }

  SearchRow<T> row_;
  const SamplingOptions options_;
  double generated_ = 0, copied_ = 0;
  std::vector<double> probabilities_;  // of each chunk
  std::vector<double> scanned_;        // of each column of a chunk
};

ChosenTensors greedy_step_cpu(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                              const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                              const at::Tensor& source_ids, const std::optional<at::Tensor>& packed) {
  const char* const op = "greedy_step";
  const SearchShape shape = check_mixture(op, features, weight, bias, gate_logits, attention, source_ids);
  PreparedMixture mixture =
      prepare_on_cpu(op, shape, features, weight, bias, gate_logits, attention, source_ids, packed);
  ChosenTensors chosen = empty_chosen(features);
  auto& [tokens, log_probs] = chosen;
  AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "greedy_step", [&] {
    const auto rows = mixture.rows<scalar_t>(shape);
    int64_t* const token = tokens.mutable_data_ptr<int64_t>();
    scalar_t* const log_prob = log_probs.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, shape.rows, rows_a_thread(shape), [&](int64_t begin, int64_t end) {
      SearchRow<scalar_t> row(rows);
      for (int64_t n = begin; n < end; ++n) {
        row.read(n);
        greedy_row(row, token[n], log_prob[n]);
      }
    });
  });
  return chosen;
}

ChosenTensors sample_step_cpu(const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                              const std::optional<at::Tensor>& gate_logits, const at::Tensor& attention,
                              const at::Tensor& source_ids, const at::Tensor& noise, double temperature,
                              int64_t top_k, double top_p, const std::optional<at::Tensor>& packed) {
  const char* const op = "sample_step";
  const SearchShape shape = check_mixture(op, features, weight, bias, gate_logits, attention, source_ids);
  const SamplingOptions options = check_sampling(shape, features, noise, temperature, top_k, top_p);
  PreparedMixture mixture =
      prepare_on_cpu(op, shape, features, weight, bias, gate_logits, attention, source_ids, packed);
  const at::Tensor noise_of_rows = noise.to(at::kDouble).contiguous();
  ChosenTensors chosen = empty_chosen(features);
  auto& [tokens, log_probs] = chosen;
  AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "sample_step", [&] {
    const auto rows = mixture.rows<scalar_t>(shape);
    const double* const draws = noise_of_rows.const_data_ptr<double>();
    int64_t* const token = tokens.mutable_data_ptr<int64_t>();
    scalar_t* const log_prob = log_probs.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, shape.rows, rows_a_thread(shape), [&](int64_t begin, int64_t end) {
      Sampler<scalar_t> sampler(rows, options);
      for (int64_t n = begin; n < end; ++n) sampler.sample(n, draws[n], token[n], log_prob[n]);
    });
  });
  return chosen;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) {
  m.impl("greedy_step", &greedy_step_cpu);
  m.impl("sample_step", &sample_step_cpu);
}

}  // namespace rlseq2seq
