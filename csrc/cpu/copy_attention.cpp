// copy_attention on the CPU.
//
// Beside tanh, the bound is memory: keys and values are read once a step, for all rows that share a source together,
// and in the backward pass their gradients are written once. Nothing of the size of keys is kept between the two.
// Work is shared out by source; where those are few by position (energies, gradients) and by column (context), so that
// threads are busy even for one row. Sums over positions are taken in an order that depends on the sizes alone.
//
// Counted, for B sources of S positions, A = C = D, one row each: 2 B S D numbers read forward; as many read and as
// many written backward. B 32, S 200, D 512 in float32: 26 MB and 52 MB. Instructions a number of the keys are 16 for
// tanh and its sum, 22 backward, on vectors of 8 or 16 numbers; a number of the values takes one, 2 backward.
#include "../copy_attention_tensors.h"
#include "copy_attention_exponentials.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

namespace rlseq2seq {

using namespace attention;

namespace {

// Energies of all rows at one position, into the place of their attention.
template <class T>
void energies_at(const AttentionShape& s, const AttentionInputs<T, T>& in, Exponentials& exponentials, T* attention,
                 int64_t b, int64_t i) {
  const T* key = in.keys + b * s.keys_stride + i * s.score_size;
  const QueryExponentials& queries = exponentials.queries;
  const float* const powers = key_exponentials(queries, key, exponentials.room, s.score_size);
  for (int64_t n = b * s.shared; n < (b + 1) * s.shared; ++n) {
    const T* query = in.query + n * s.score_size;
    const int64_t at = n * s.positions + i;
    if constexpr (std::is_same_v<T, float>) {
      if (powers != nullptr && queries.in_range[n]) {
        attention[at] = energy_of_exponentials(powers, queries.all.data() + n * s.score_size, in.score_weight,
                                               queries.score_sum, s.score_size);
        continue;
      }
    }
    attention[at] = in.score_weight == nullptr
                        ? dot(query, key, s.score_size)
                        : additive_energy(key, query, in.score_weight, in.coverage ? in.coverage[at] : T{0},
                                          in.coverage_weight, s.score_size);
  }
}

// Temporal normalisation: divides by what earlier steps gave to each position, in log space, and adds this step to it.
template <class T>
void subtract_past(T* energies, const T* past, const bool* mask, T* new_past, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const T e = energies[i], p = past[i];
    const bool first = p == kMinusInfinity<T>;
    new_past[i] = !mask[i] ? p : first ? e : std::max(e, p) + std::log1p(std::exp(-std::abs(e - p)));
    energies[i] = first ? e : e - p;
  }
}

// Contexts of the rows of one source, columns `begin` to `end`.
template <class T>
void contexts(const AttentionShape& s, const AttentionInputs<T, T>& in, const AttentionOutputs<T, T>& out, int64_t b,
              int64_t begin, int64_t end) {
  const bool* mask = in.mask + b * s.positions;
  const T* values = in.values + b * s.values_stride + begin;
  for (int64_t n = b * s.shared; n < (b + 1) * s.shared; ++n) {
    std::fill(out.context + n * s.value_size + begin, out.context + n * s.value_size + end, T{0});
  }
  const T* four[4];
  int64_t places[4];
  int count = 0;
  const auto add = [&] {
    for (int64_t n = b * s.shared; n < (b + 1) * s.shared; ++n) {
      T* context = out.context + n * s.value_size + begin;
      T scales[4];
      for (int j = 0; j < count; ++j) scales[j] = out.attention[n * s.positions + places[j]];
      if (count == 4) {
        add_four_scaled(context, four, scales, end - begin);
      } else {
        for (int j = 0; j < count; ++j) add_scaled(context, four[j], scales[j], end - begin);
      }
    }
    count = 0;
  };
  for (int64_t i = 0; i < s.positions; ++i) {
    if (!mask[i]) continue;
    places[count] = i;
    four[count++] = values + i * s.value_size;
    if (count == 4) add();
  }
  add();
}

template <class T>
void softmax_row(const AttentionShape& s, const AttentionInputs<T, T>& in, const AttentionOutputs<T, T>& out,
                 int64_t n) {
  T* row = out.attention + n * s.positions;
  const bool* mask = in.mask + n / s.shared * s.positions;
  if (in.past != nullptr) {
    subtract_past(row, in.past + n * s.positions, mask, out.past + n * s.positions, s.positions);
  }
  softmax_of_tokens(row, mask, s.positions);
}

// A source at a time. Energies take arithmetic and contexts memory, so values are fetched while there are energies to
// be computed.
template <class T>
void whole_source(const AttentionShape& s, const AttentionInputs<T, T>& in, const AttentionOutputs<T, T>& out,
                  Exponentials& exponentials, int64_t b) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t i = 0; i < s.positions; ++i) {
    if (!in.mask[b * s.positions + i]) continue;
    const T* value = in.values + b * s.values_stride + i * s.value_size;
    for (int64_t c = 0; c < s.value_size; c += line) __builtin_prefetch(value + c, 0, 2);
    energies_at(s, in, exponentials, out.attention, b, i);
  }
  for (int64_t r = 0; r < s.shared; ++r) softmax_row(s, in, out, b * s.shared + r);
  contexts(s, in, out, b, 0, s.value_size);
}

// Few sources are cut into positions for the energies and into columns for the contexts, so that no thread is idle.
template <class T>
void cut_sources(const AttentionShape& s, const AttentionInputs<T, T>& in, const AttentionOutputs<T, T>& out,
                 const QueryExponentials& queries, int64_t energy_work, int64_t threads) {
  at::parallel_for(0, s.sources * s.positions, grain(energy_work), [&](int64_t begin, int64_t end) {
    Exponentials exponentials{queries, {}};
    for (int64_t place = begin; place < end; ++place) {
      if (in.mask[place]) energies_at(s, in, exponentials, out.attention, place / s.positions, place % s.positions);
    }
  });
  at::parallel_for(0, s.rows, grain(2 * kTanh * s.positions), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) softmax_row(s, in, out, n);
  });
  const int64_t cuts = std::clamp<int64_t>(s.value_size / 64, 1, threads);
  const int64_t context_work = s.shared * s.positions * s.value_size / cuts;
  at::parallel_for(0, s.sources * cuts, grain(context_work), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t cut = unit % cuts;
      contexts(s, in, out, unit / cuts, s.value_size * cut / cuts, s.value_size * (cut + 1) / cuts);
    }
  });
}

template <class T>
void forward(const AttentionShape& s, const AttentionInputs<T, T>& in, const AttentionOutputs<T, T>& out) {
  const int64_t energy_work = s.shared * s.score_size * (in.score_weight == nullptr ? 1 : kTanh);
  const int64_t threads = at::get_num_threads();
  const QueryExponentials queries = query_exponentials(s, in);
  if (threads > 1 && s.sources < 8 * threads) return cut_sources(s, in, out, queries, energy_work, threads);
  const int64_t work = s.positions * (energy_work + s.shared * (s.value_size + 2 * kTanh));
  at::parallel_for(0, s.sources, grain(work), [&](int64_t begin, int64_t end) {
    Exponentials exponentials{queries, {}};
    for (int64_t b = begin; b < end; ++b) whole_source(s, in, out, exponentials, b);
  });
}

// What the softmax takes from every gradient of a row's attention: their mean under it, by way of the context.
template <class T>
T mean_gradient(const AttentionShape& s, const AttentionSaved<T, T>& saved, const bool* mask, int64_t n) {
  const int64_t row = n * s.positions, columns = n * s.value_size;
  T mean = dot(saved.grad_context + columns, saved.context + columns, s.value_size);
  for (int64_t i = 0; i < s.positions; ++i) {
    if (mask[i]) mean += saved.attention[row + i] * saved.grad_attention[row + i];
  }
  return mean;
}

// Gradient of a row's energy at one token, `at` in [N, S], from that of the normalised energy. Writes that of the past.
template <class T>
T temporal_gradient(const T* past, const AttentionSaved<T, T>& saved, T* past_grad, T grad, int64_t at) {
  if (past[at] == kMinusInfinity<T>) {
    if (past_grad != nullptr) past_grad[at] = 0;
    return grad + saved.grad_past[at];
  }
  const T kept = past[at] - saved.new_past[at];  // the log of what share of the new sum the past has
  if (past_grad != nullptr) past_grad[at] = saved.grad_past[at] * std::exp(kept) - grad;
  return grad - saved.grad_past[at] * std::expm1(kept);
}

template <class T>
struct BackwardJob {
  const AttentionShape& shape;
  const AttentionInputs<T, T>& in;
  const AttentionSaved<T, T>& saved;
  const AttentionGradients<T, T>& out;
  const T* means;  // [N]
  const QueryExponentials& queries;
};

// Where a position's gradients go: rows of keys and values, and, over positions, [R, A], [A] and, unless null, [A].
template <class T>
struct PositionSums {
  T *key, *value;  // value null if nobody asks
  T *query, *score_weight, *coverage_weight;
};

// What row n gives at one token, `at` in [N, S], with the gradient of its energy; returns the gradient of coverage.
template <class T>
T energy_gradients(const BackwardJob<T>& job, const PositionSums<T>& to, const T* key, const float* key_powers, T grad,
                   int64_t n, int64_t at) {
  const auto& [s, in, saved, out, means, queries] = job;
  const T* query = in.query + n * s.score_size;
  const bool add = n % s.shared > 0;
  T* query_sum = to.query + n % s.shared * s.score_size;
  const AdditiveSums<T> sums{query_sum, to.score_weight, to.coverage_weight};
  if (in.score_weight == nullptr) {
    bilinear_gradients(key, query, grad, to.key, add, query_sum, s.score_size);
    return 0;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (key_powers != nullptr && queries.in_range[n]) {
      gradients_of_exponentials(key_powers, queries.all.data() + n * s.score_size, in.score_weight, grad, to.key, add,
                                sums, s.score_size);
      return 0;
    }
  }
  const T coverage = in.coverage == nullptr ? T{0} : in.coverage[at];
  return additive_gradients(key, query, in.score_weight, coverage, in.coverage_weight, grad, to.key, add, sums,
                            s.score_size);
}

// Everything that row r of a source, the n-th of all, gives at one token.
template <class T>
void row_gradients(const BackwardJob<T>& job, const PositionSums<T>& to, const float* key_powers, int64_t b, int64_t i,
                   int64_t r) {
  const auto& [s, in, saved, out, means, queries] = job;
  const int64_t n = b * s.shared + r, at = n * s.positions + i;
  const T* value = in.values + b * s.values_stride + i * s.value_size;
  const T* key = in.keys + b * s.keys_stride + i * s.score_size;
  const T* context_grad = saved.grad_context + n * s.value_size;
  const T reached = to.value == nullptr
                        ? dot(context_grad, value, s.value_size)
                        : dot_and_scale(context_grad, value, saved.attention[at], to.value, r > 0, s.value_size);
  T grad = saved.attention[at] * (saved.grad_attention[at] + reached - means[n]);
  if (in.past != nullptr) grad = temporal_gradient(in.past, saved, out.past, grad, at);
  const T coverage_grad = energy_gradients(job, to, key, key_powers, grad, n, at);
  if (out.coverage != nullptr) out.coverage[at] = coverage_grad;
}

template <class T>
void padding_gradients(const BackwardJob<T>& job, int64_t b, int64_t i) {
  const auto& [s, in, saved, out, means, queries] = job;
  for (int64_t n = b * s.shared; n < (b + 1) * s.shared; ++n) {
    const int64_t at = n * s.positions + i;
    if (out.coverage != nullptr) out.coverage[at] = 0;
    if (out.past != nullptr) out.past[at] = saved.grad_past[at];
  }
}

// Positions that one unit of work takes; each unit has its own sums over positions, [R + 2, A]: those of the queries,
// of the score weight and of the weight of coverage. With many rows it takes more, lest those sums be what is written.
int64_t unit_positions(const AttentionShape& s) { return std::max<int64_t>(32, 4 * s.shared); }

// Positions that read the vectors of a row together, while these are in the first-level cache.
constexpr int64_t kTogether = 2;

template <class T>
void unit_gradients(const BackwardJob<T>& job, T* sums, T* unwanted, int64_t b, int64_t begin, int64_t end) {
  const auto& [s, in, saved, out, means, queries] = job;
  std::fill(sums, sums + (s.shared + 2) * s.score_size, T{0});
  T* score_sum = sums + s.shared * s.score_size;
  T* coverage_sum = in.coverage == nullptr ? nullptr : score_sum + s.score_size;
  std::vector<float> room[kTogether];
  const float* powers[kTogether];
  const auto sums_at = [&](int64_t i) {
    const int64_t place = b * s.positions + i;
    return PositionSums<T>{out.keys == nullptr ? unwanted : out.keys + place * s.score_size,
                           out.values == nullptr ? nullptr : out.values + place * s.value_size, sums, score_sum,
                           coverage_sum};
  };
  const auto token_at = [&](int64_t i) { return in.mask[b * s.positions + i] && s.shared > 0; };
  for (int64_t first = begin; first < end; first += kTogether) {
    const int64_t last = std::min(first + kTogether, end);
    for (int64_t i = first; i < last; ++i) {
      if (token_at(i)) {
        const T* key = in.keys + b * s.keys_stride + i * s.score_size;
        powers[i - first] = key_exponentials(queries, key, room[i - first], s.score_size);
        continue;
      }
      const PositionSums<T> to = sums_at(i);
      std::fill(to.key, to.key + s.score_size, T{0});
      if (to.value != nullptr) std::fill(to.value, to.value + s.value_size, T{0});
      padding_gradients(job, b, i);
    }
    for (int64_t r = 0; r < s.shared; ++r) {
      for (int64_t i = first; i < last; ++i) {
        if (token_at(i)) row_gradients(job, sums_at(i), powers[i - first], b, i, r);
      }
    }
  }
}

// Adds up the sums of the units: queries over the units of their source, weights over all.
template <class T>
void add_sums(const AttentionShape& s, const AttentionGradients<T, T>& out, const T* sums, int64_t units) {
  const int64_t unit_size = (s.shared + 2) * s.score_size;
  const auto total = [&](T* to, const T* from, int64_t count, int64_t n) {
    std::fill(to, to + n, T{0});
    for (int64_t u = 0; u < count; ++u) add_scaled(to, from + u * unit_size, T{1}, n);
  };
  const int64_t queries = out.query == nullptr ? 0 : s.rows;
  at::parallel_for(0, queries, grain(units * s.score_size), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const T* from = sums + n / s.shared * units * unit_size + n % s.shared * s.score_size;
      total(out.query + n * s.score_size, from, units, s.score_size);
    }
  });
  constexpr int64_t columns = 64;
  const int64_t all = s.sources * units;
  at::parallel_for(0, (s.score_size + columns - 1) / columns, grain(all * columns), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * columns, n = std::min(end * columns, s.score_size) - first;
    const T* from = sums + s.shared * s.score_size + first;
    if (out.score_weight != nullptr) total(out.score_weight + first, from, all, n);
    if (out.coverage_weight != nullptr) total(out.coverage_weight + first, from + s.score_size, all, n);
  });
}

template <class T>
void backward(const AttentionShape& s, const AttentionInputs<T, T>& in, const AttentionSaved<T, T>& saved,
              const AttentionGradients<T, T>& out, const at::TensorOptions& options) {
  const at::Tensor all_means = at::empty({s.rows}, options);
  T* means = all_means.mutable_data_ptr<T>();
  at::parallel_for(0, s.rows, grain(s.positions + s.value_size), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) means[n] = mean_gradient(s, saved, in.mask + n / s.shared * s.positions, n);
  });
  const int64_t most = unit_positions(s), units = (s.positions + most - 1) / most;
  const int64_t unit_size = (s.shared + 2) * s.score_size;
  const at::Tensor all_sums = at::empty({s.sources * units, unit_size}, options);
  T* sums = all_sums.mutable_data_ptr<T>();
  const QueryExponentials queries = query_exponentials(s, in);
  const BackwardJob<T> job{s, in, saved, out, means, queries};
  at::parallel_for(0, s.sources * units, grain(kTanh * most * unit_size), [&](int64_t begin, int64_t end) {
    std::vector<T> unwanted(out.keys == nullptr ? s.score_size : 0);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t b = unit / units, cut = unit % units;
      unit_gradients(job, sums + unit * unit_size, unwanted.data(), b, s.positions * cut / units,
                     s.positions * (cut + 1) / units);
    }
  });
  add_sums(s, out, sums, units);
}

AttentionResult copy_attention_cpu(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                                   const at::Tensor& mask, const OptionalTensor& score_weight,
                                   const OptionalTensor& coverage, const OptionalTensor& coverage_weight,
                                   const OptionalTensor& past) {
  const AttentionArguments a{query, keys, values, mask, score_weight, coverage, coverage_weight, past};
  const AttentionShape shape = check_attention("copy_attention", a);
  AttentionResult result = empty_attention(shape, a);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const AttentionReader<T, T> reader(a);
    forward(reader.strided(shape), reader.addresses(), attention_addresses<T, T>(result));
  };
  query.scalar_type() == at::kFloat ? run(0.0f) : run(0.0);
  return result;
}

AttentionGradientTensors copy_attention_backward_cpu(
    const at::Tensor& grad_context, const at::Tensor& grad_attention, const at::Tensor& grad_past,
    const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& mask,
    const OptionalTensor& score_weight, const OptionalTensor& coverage, const OptionalTensor& coverage_weight,
    const OptionalTensor& past, const at::Tensor& context, const at::Tensor& attention, const at::Tensor& new_past,
    bool wants_rows, bool wants_keys, bool wants_values) {
  const AttentionArguments a{query, keys, values, mask, score_weight, coverage, coverage_weight, past};
  const char* op = "copy_attention_backward";
  const AttentionShape shape = check_attention(op, a);
  const AttentionSavedReader saved(op, shape, a,
                                   {grad_context, grad_attention, grad_past, context, attention, new_past});
  const AttentionNeeds needs{wants_rows, wants_keys, wants_values};
  AttentionGradientTensors gradients = empty_gradients(shape, a, needs);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const AttentionReader<T, T> reader(a);
    backward(reader.strided(shape), reader.addresses(), saved.addresses<T, T>(),
             gradient_addresses<T, T>(gradients, a, needs), query.options());
  };
  query.scalar_type() == at::kFloat ? run(0.0f) : run(0.0);
  return gradients;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) {
  m.impl("copy_attention", &copy_attention_cpu);
  m.impl("copy_attention_backward", &copy_attention_backward_cpu);
}

}  // namespace rlseq2seq
