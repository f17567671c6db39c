// greedy_step and sample_step on CUDA: cuBLAS writes the logits [N, V], then one launch, a block a row.
//
// Counted, for N rows of V tokens and S positions in float32:
//   bytes         4 N V written by cuBLAS and read once, by 16 bytes; 4 N S of attention and 8 B S of ids; the chunk
//                 chosen once more, from the cache
//   instructions  3 a logit (maximum, exp, sum) and 10 shuffles a 256 logits; 4 S^2 a row for copies, in parallel to S
//   launches      1 beside the matrix product; in bfloat16 and where rows of logits are padded 1 more, for the bias, that
//                 moves 8 N V bytes
// 128 rows of 50,000 tokens are 26 MB of logits, which stay in the 50 MB second-level cache of an H100 between the two
// launches: a block pulls some 60 bytes a cycle, so a row takes 2 us. The matrix product of F = 512 takes 6.6 GFLOP.
// Shaped sampling writes weights over the logits once, and looks at a row 30 times more (float64: 62) to find where
// top-k and top-p end.
#include "search.h"
#include "search_row.h"

namespace rlseq2seq {
namespace {

template <class In, class T>
__global__ void __launch_bounds__(kThreads)
    greedy_kernel(SearchRows<In, T> rows, int64_t* tokens, T* log_probs) {
  extern __shared__ double shared[];
  __shared__ double scratch[kWarps];
  __shared__ Best<T> bests[kWarps];
  Row<In, T> row(rows, blockIdx.x);
  T* const maxima = reinterpret_cast<T*>(shared);
  row.read(maxima, maxima + row.chunks, scratch);
  // The most probable token is the one generated with the largest probability or one that can be copied.
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  Best<T> best = Best<T>::none();
  for (int i = threadIdx.x; i < row.width; i += kThreads) {
    const Copy<T> copy = row.copy_at(i);
    if (copy.column < 0) continue;
    const Best<T> other{row.effective_logit(copy), row.token(copy.column), copy.column};
    if (other.beats(best)) best = other;
  }
  best = warp_best(best);
  if (warp == 0) {
    const Best<T> generated = row.chunk_best(static_cast<int>(best_chunk(maxima, row.chunks).column));
    if (generated.beats(best)) best = generated;
  }
  if (lane == 0) bests[warp] = best;
  __syncthreads();
  if (warp != 0) return;
  best = warp_best(lane < kWarps ? bests[lane] : Best<T>::none());
  if (lane == 0) {
    tokens[blockIdx.x] = best.token == INT64_MAX ? 0 : best.token;  // nothing is best in a row of nan
    log_probs[blockIdx.x] = static_cast<T>(row.log_prob(best.value));
  }
}

struct Above {
  long long count;
  double mass;
};

// A column that was sampled and its probability or weight.
struct Pick {
  int64_t column;
  double probability;
};

// Inverts the cumulative distribution of a row. The plain mixture has probabilities of chunks from the one pass over
// it; shaped by temperature, top-k or top-p, the row holds weights instead of logits.
template <class In, class T>
struct Sampler {
  Row<In, T> row;
  SamplingOptions options;
  double* probabilities;  // of each chunk, in shared memory
  double* scratch;        // [kWarps], in shared memory
  double generated = 0, copied = 0;

  __device__ int warp() const { return threadIdx.x / kLanes; }
  __device__ int lane() const { return threadIdx.x % kLanes; }

  // Leaves the mass of each token that can be copied at the first position that holds it.
  __device__ void add_up_chunks(const T* maxima, const T* sums) {
    generated = exp(row.log_generate - (row.log_sum - static_cast<double>(row.largest)));
    copied = exp(row.log_generate - row.gate);
    for (int i = threadIdx.x; i < row.width; i += kThreads) {
      const Copy<T> copy = row.copy_at(i);
      row.extended[i] = copy.column < 0 ? T{0} : copy.mass;
    }
    __syncthreads();
    // A warp takes the chunks that are its own, and adds up in the order of positions.
    const int own = warp() + lane() * kWarps;
    for (int chunk = own; chunk <= row.chunks; chunk += kThreads) probabilities[chunk] = 0;
    __syncwarp();
    for (int base = 0; base < row.width; base += kLanes) {
      const int i = base + lane();
      const int64_t id = i < row.width ? row.ids[i] : -1;
      const int chunk = id < 0 ? -1 : row.chunk_of(id);
      const bool mine = chunk >= 0 && chunk % kWarps == warp();
      const double mass = mine ? static_cast<double>(row.extended[i]) : 0.0;
      for (uint32_t here = __ballot_sync(kAllLanes, mine); here != 0; here &= here - 1) {
        const int from = __ffs(static_cast<int>(here)) - 1, to = __shfl_sync(kAllLanes, chunk, from);
        const double added = __shfl_sync(kAllLanes, mass, from);
        if (lane() == 0) probabilities[to] += added;
      }
    }
    __syncwarp();
    for (int chunk = own; chunk <= row.chunks; chunk += kThreads) {
      double mass = copied * probabilities[chunk];
      if (chunk < row.chunks && exp_of(maxima[chunk] - row.largest) > 0) {  // else none of it would be found again
        const double less = static_cast<double>(maxima[chunk]) - static_cast<double>(row.largest);
        mass += generated * static_cast<double>(sums[chunk]) * exp(less);
      }
      probabilities[chunk] = mass;
    }
    __syncthreads();
  }

  __device__ void shape_row() {
    double most = static_cast<double>(row.largest);
    row.patch([&](int64_t, T logit) { most = fmax(most, static_cast<double>(logit)); });
    most = block_reduce(most, -static_cast<double>(INFINITY), Larger(), scratch);  // waits for all patches too
    constexpr double largest_scale = sizeof(T) == 4 ? 3.4e38 : 1.7e308;
    const T scale = static_cast<T>(
        fmax(fmin(1 / options.temperature, largest_scale), static_cast<double>(smallest_normal<T>())));
    each_weight([&](int64_t, T logit) { return exp_of((logit - static_cast<T>(most)) * scale); });
    if (options.filtered()) filter(static_cast<T>(most));
  }

  // Every column gets a new value, and every chunk the sum of them.
  template <class Change>
  __device__ void each_weight(const Change& change) {
    for (int chunk = warp(); chunk <= row.chunks; chunk += kWarps) {
      const int64_t first = row.first_column(chunk);
      T* const values = row.column(first);
      const int size = row.chunk_size(chunk);
      double sum = 0;
      for (int i = lane(); i < size; i += kLanes) {
        values[i] = change(first + i, values[i]);
        sum += static_cast<double>(values[i]);
      }
      sum = warp_reduce(sum, Sum());
      if (lane() == 0) probabilities[chunk] = sum;
    }
    __syncthreads();
  }

  // How many columns fulfil the condition, and the sum of their weights. All threads get it.
  template <class Condition>
  __device__ Above where(const Condition& condition) {
    long long count = 0;
    double mass = 0;
    for (int64_t c = threadIdx.x; c < row.vocabulary + row.width; c += kThreads) {
      const T weight = *row.column(c);
      if (!condition(c, weight)) continue;
      ++count;
      mass += static_cast<double>(weight);
    }
    mass = block_reduce(mass, 0.0, Sum(), scratch);
    count = static_cast<long long>(block_reduce(static_cast<double>(count), 0.0, Sum(), scratch));  // below 2^53
    return {count, mass};
  }

  static __device__ T weight_of(uint64_t bits) {
    if (sizeof(T) == 4) return static_cast<T>(__uint_as_float(static_cast<uint32_t>(bits)));
    return static_cast<T>(__longlong_as_double(static_cast<long long>(bits)));
  }

  // What is kept is a stretch of the tokens in descending order of weight, then ascending order of ids. The weight
  // where it ends is found by bisection on the bits of weights, which are in the same order.
  __device__ void filter(T most) {
    double whole = exp(-row.log_prob(most));
    if (options.temperature != 1) {
      whole = 0;
      for (int chunk = 0; chunk <= row.chunks; ++chunk) whole += probabilities[chunk];
    }
    const double count = options.top_k > 0 ? static_cast<double>(options.top_k) : static_cast<double>(INFINITY);
    const double mass = options.top_p < 1 ? options.top_p * whole : static_cast<double>(INFINITY);
    uint64_t low = 0, high = sizeof(T) == 4 ? 0x3f800000ull : 0x3ff0000000000000ull;  // 1, the largest weight
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2;
      const T threshold = weight_of(middle);
      const Above before = where([&](int64_t, T weight) { return weight > threshold; });
      if (before.count == 0 || (static_cast<double>(before.count) < count && before.mass < mass)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const T last = weight_of(low);
    if (!(last > 0)) return;
    const Above before = where([&](int64_t, T weight) { return weight > last; });
    const double kept = fmin(count - static_cast<double>(before.count),
                             fmax(1.0, ceil((mass - before.mass) / static_cast<double>(last))));
    const int64_t last_token = last_of_equals(last, kept);
    __syncthreads();
    each_weight([&](int64_t c, T weight) {
      return weight > last || (weight == last && row.token(c) <= last_token) ? weight : T{0};
    });
  }

  // The token of the `kept`-th column of this weight, in the order of ids.
  __device__ int64_t last_of_equals(T weight, double kept) {
    if (static_cast<double>(where([&](int64_t, T w) { return w == weight; }).count) <= kept) return INT64_MAX;
    int64_t low = 0, high = INT64_MAX;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      const Above found = where([&](int64_t c, T w) { return w == weight && row.token(c) <= middle; });
      if (static_cast<double>(found.count) >= kept) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  // Of the lanes, in order, the one at which the sum of `mine` exceeds the target, or the last possible one; `before`
  // becomes the sum of those before it.
  static __device__ int crossing(double mine, double target, double& before) {
    const int lane = threadIdx.x % kLanes;
    double sum = mine;
#pragma unroll
    for (int offset = 1; offset < kLanes; offset *= 2) {
      const double other = __shfl_up_sync(kAllLanes, sum, offset);
      if (lane >= offset) sum += other;
    }
    const uint32_t beyond = __ballot_sync(kAllLanes, mine > 0 && sum > target);
    const uint32_t possible = __ballot_sync(kAllLanes, mine > 0);
    const int found = beyond != 0 ? __ffs(beyond) - 1 : possible != 0 ? kLanes - 1 - __clz(possible) : 0;
    before = found == 0 ? 0.0 : __shfl_sync(kAllLanes, sum, found == 0 ? 0 : found - 1);
    return found;
  }

  // One warp. The chunk in which the target falls, and what is left of the target in it.
  __device__ int find_chunk(double noise, double& target, double& total) const {
    const int chunks = row.chunks + 1, each = (chunks + kLanes - 1) / kLanes;
    const int begin = lane() * each, end = begin + each < chunks ? begin + each : chunks;
    double mine = 0, before;
    for (int chunk = begin; chunk < end; ++chunk) mine += probabilities[chunk];
    total = warp_reduce(mine, Sum());
    target = fmax(noise, 0.0) * total;
    const int owner = crossing(mine, target, before);
    int found = begin;
    double sum = before, until = before;
    bool passed = false;
    for (int chunk = begin; chunk < end && !passed; ++chunk) {
      if (!(probabilities[chunk] > 0)) continue;
      found = chunk;
      until = sum;
      sum += probabilities[chunk];
      passed = sum > target;
    }
    target -= __shfl_sync(kAllLanes, until, owner);
    return __shfl_sync(kAllLanes, found, owner);
  }

  // One warp. Adds what is copied to the probabilities of a chunk of the vocabulary, of which a lane has a stretch.
  template <int each>
  __device__ void add_copies(int chunk, double (&values)[each]) const {
    for (int base = 0; base < row.width; base += kLanes) {
      const int j = base + lane();
      const int64_t id = j < row.width ? row.ids[j] : -1;
      const bool inside = id >= 0 && row.chunk_of(id) == chunk;
      const int at = inside ? static_cast<int>(id - row.first_column(chunk)) : 0;
      const double mass = inside ? copied * static_cast<double>(row.extended[j]) : 0.0;
      for (uint32_t here = __ballot_sync(kAllLanes, inside); here != 0; here &= here - 1) {
        const int from = __ffs(static_cast<int>(here)) - 1;
        const int place = __shfl_sync(kAllLanes, at, from) - lane() * each;
        const double added = __shfl_sync(kAllLanes, mass, from);
#pragma unroll
        for (int i = 0; i < each; ++i) {
          if (place == i) values[i] += added;
        }
      }
    }
  }

  // One warp, a stretch of the chunk a lane.
  __device__ Pick pick_generated(int chunk, double target) const {
    constexpr int each = static_cast<int>(kChunk) / kLanes;
    const int64_t first = row.first_column(chunk) + lane() * each;
    double values[each], mine = 0, before;
    const bool plain = !options.shaped();
#pragma unroll
    for (int i = 0; i < each; ++i) {
      values[i] = 0;
      if (first + i >= row.vocabulary) continue;
      const T value = row.logits[first + i];
      values[i] = plain ? generated * static_cast<double>(exp_of(value - row.largest)) : static_cast<double>(value);
    }
    if (plain) add_copies(chunk, values);
#pragma unroll
    for (int i = 0; i < each; ++i) mine += values[i];
    const int owner = crossing(mine, target, before);
    Pick pick{first, 0.0};
    bool passed = false;
#pragma unroll
    for (int i = 0; i < each; ++i) {
      if (passed || !(values[i] > 0)) continue;
      pick = {first + i, values[i]};
      before += values[i];
      passed = before > target;
    }
    return {__shfl_sync(kAllLanes, pick.column, owner), __shfl_sync(kAllLanes, pick.probability, owner)};
  }

  // One warp. Extended tokens one after another, by their ids; they are few.
  __device__ Pick pick_extended(double target) const {
    const double scale = options.shaped() ? 1.0 : copied;
    Pick pick{row.vocabulary, 0.0};
    double sum = 0;
    int64_t last = row.vocabulary - 1;
    do {  // rounding may leave a target just below 0
      // The best is the one of the lowest id: values are not looked at.
      Best<T> next = Best<T>::none();
      for (int i = lane(); i < row.width; i += kLanes) {
        const Best<T> other{T{0}, row.ids[i], row.vocabulary + i};
        if (other.token > last && row.extended[i] > 0 && other.beats(next)) next = other;
      }
      next = warp_best(next);
      if (next.token == INT64_MAX) break;
      last = next.token;
      pick = {next.column, scale * static_cast<double>(*row.column(next.column))};
      sum += pick.probability;
    } while (!(sum > target));
    return pick;
  }
};

template <class In, class T>
__global__ void __launch_bounds__(kThreads)
    sample_kernel(SearchRows<In, T> rows, SamplingOptions options, const double* noise, int64_t* tokens, T* log_probs) {
  extern __shared__ double shared[];
  __shared__ double scratch[kWarps];
  const int64_t n = blockIdx.x;
  Sampler<In, T> sampler{Row<In, T>(rows, n), options, shared, scratch};
  Row<In, T>& row = sampler.row;
  T* const maxima = reinterpret_cast<T*>(shared + row.chunks + 1);
  T* const sums = maxima + row.chunks;
  row.read(maxima, sums, scratch);
  if (options.shaped()) {
    sampler.shape_row();
  } else {
    sampler.add_up_chunks(maxima, sums);
  }
  if (threadIdx.x >= kLanes) return;
  double target, total;
  const int chunk = sampler.find_chunk(noise[n], target, total);
  const Pick pick = chunk < row.chunks ? sampler.pick_generated(chunk, target) : sampler.pick_extended(target);
  if (threadIdx.x != 0) return;
  tokens[n] = row.token(pick.column);
  log_probs[n] = static_cast<T>(log(options.shaped() ? pick.probability / total : pick.probability));
}

}  // namespace

template <class In, class T>
cudaError_t launch_greedy_step(const SearchRows<In, T>& rows, int64_t* tokens, T* log_probs, cudaStream_t stream) {
  if (rows.shape.rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(rows.shape.rows);
  const size_t bytes = 2 * sizeof(T) * static_cast<size_t>(rows.shape.chunks());
  greedy_kernel<<<blocks, kThreads, bytes, stream>>>(rows, tokens, log_probs);
  return cudaGetLastError();
}

template <class In, class T>
cudaError_t launch_sample_step(const SearchRows<In, T>& rows, const SamplingOptions& options, const double* noise,
                               int64_t* tokens, T* log_probs, cudaStream_t stream) {
  if (rows.shape.rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(rows.shape.rows);
  const auto chunks = static_cast<size_t>(rows.shape.chunks());
  const size_t bytes = sizeof(double) * (chunks + 1) + 2 * sizeof(T) * chunks;
  sample_kernel<<<blocks, kThreads, bytes, stream>>>(rows, options, noise, tokens, log_probs);
  return cudaGetLastError();
}

#define RLSEQ2SEQ_SEARCH_STEPS(In, T)                                                                             \
  template cudaError_t launch_greedy_step(const SearchRows<In, T>&, int64_t*, T*, cudaStream_t);                  \
  template cudaError_t launch_sample_step(const SearchRows<In, T>&, const SamplingOptions&, const double*,        \
                                          int64_t*, T*, cudaStream_t);

RLSEQ2SEQ_SEARCH_STEPS(float, float)
RLSEQ2SEQ_SEARCH_STEPS(double, double)
RLSEQ2SEQ_SEARCH_STEPS(Bfloat16, float)

}  // namespace rlseq2seq
