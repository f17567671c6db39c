// beam_step on CUDA: cuBLAS writes the logits [B K, V], a block a row finds the best K extensions, and a block a source
// chooses among those of its rows.
//
// Counted, for B sources of K hypotheses, V tokens, S positions and room for T tokens, in float32:
//   bytes         4 B K V written by cuBLAS and read once, by 16 bytes; chunks of 256 in which a token is copied or
//                 blocked are read once more, and 2 K chunks, from the cache; 32 B K T of tokens
//   instructions  3 a logit and 10 shuffles a 256 logits; 4 S^2 a row for copies, in parallel to S; K V / 8192 and 40 K
//                 a row for the best K, by one warp
//   launches      2 beside the matrix product
// No row of a free place is read: at the first step that is all but one a source. 64 rows of 50,000 tokens are 13 MB,
// which stay in the second-level cache between the launches: 2 us a row, and 1 us for each of the K.
#include "beam_step.h"
#include "search_row.h"

namespace rlseq2seq {
namespace {

// Takes out of the row what would complete an n-gram that the hypothesis holds, and an end that would come too early.
template <class In, class T>
__device__ void forbid(Row<In, T>& row, const int64_t* tokens, int64_t step, const BeamRules& rules, uint8_t* dirty) {
  const auto forbid_column = [&](int64_t column) {
    *row.column(column) = never<T>();  // several threads may write it, all the same
    dirty[row.chunk_of(column)] = 1;
  };
  if (step < rules.min_tokens && threadIdx.x == 0) forbid_column(kEndToken);
  const int64_t size = rules.block_ngrams;
  if (size == 0 || size > step) return;  // no whole n-gram yet
  const int64_t* const last = tokens + step - (size - 1);  // not read unless there is a whole n-gram
  for (int64_t start = threadIdx.x; start + size <= step; start += kThreads) {
    bool same = true;
    for (int64_t i = 0; same && i < size - 1; ++i) same = tokens[start + i] == last[i];
    if (!same) continue;
    const int64_t token = tokens[start + size - 1];
    if (token < 0) continue;
    if (token < row.vocabulary) forbid_column(token);
    // An extended token has its column at one of the positions that hold it; the others have nothing to take out.
    for (int i = 0; token >= row.vocabulary && i < row.width; ++i) {
      if (row.ids[i] == token) forbid_column(row.vocabulary + i);
    }
  }
}

// One warp. The best extensions one after another: the best column of the best chunk is written down and taken out.
template <class In, class T>
__device__ void write_best(const Row<In, T>& row, T* maxima, T score, T end, int64_t beam, T* totals, int64_t* tokens) {
  const int lane = threadIdx.x % kLanes;
  bool more = true;
  for (int64_t k = 0; k < beam; ++k) {
    Best<T> best = Best<T>::none();
    if (more) best = best_chunk(maxima, row.chunks + 1);
    more = more && best.value > never<T>();
    if (more) {
      const int chunk = static_cast<int>(best.column);
      best = row.chunk_best(chunk);
      if (lane == 0) *row.column(best.column) = never<T>();
      __syncwarp();
      const T next = row.chunk_best(chunk).value;
      if (lane == 0) maxima[chunk] = next;
      __syncwarp();
    } else if (k == 0 && end > never<T>()) {
      // Nothing is left: blocking ends a hypothesis, it never empties it.
      best = {end, kEndToken, kEndToken};
    } else {
      best = {never<T>(), 0, 0};
    }
    if (lane != 0) continue;
    totals[k] = best.value > never<T>() ? score + static_cast<T>(row.log_prob(best.value)) : never<T>();
    tokens[k] = best.token;
  }
}

template <class In, class T>
__global__ void __launch_bounds__(kThreads)
    extend_kernel(SearchRows<In, T> rows, BeamShape shape, BeamInputs<T> beams, BeamRules rules,
                  BeamCandidates<T> candidates) {
  extern __shared__ double shared[];
  __shared__ double scratch[kWarps];
  const int64_t n = blockIdx.x;
  T* const totals = candidates.totals + n * shape.beam;
  int64_t* const tokens = candidates.tokens + n * shape.beam;
  const T score = beams.scores[n];
  if (!(score > never<T>())) {
    for (int64_t k = threadIdx.x; k < shape.beam; k += kThreads) {
      totals[k] = never<T>();
      tokens[k] = 0;
    }
    return;
  }
  Row<In, T> row(rows, n);
  T* const maxima = reinterpret_cast<T*>(shared);
  T* const sums = maxima + row.chunks + 1;
  auto* const dirty = reinterpret_cast<uint8_t*>(sums + row.chunks);  // chunks whose maximum is not known
  for (int chunk = threadIdx.x; chunk <= row.chunks; chunk += kThreads) dirty[chunk] = chunk == row.chunks;
  row.read(maxima, sums, scratch);
  row.patch([&](int64_t column, T) { dirty[row.chunk_of(column)] = 1; });
  __syncthreads();
  const T end = row.logits[kEndToken];
  __syncthreads();
  forbid(row, beams.tokens + n * shape.time, shape.step, rules, dirty);
  __syncthreads();
  for (int chunk = threadIdx.x / kLanes; chunk <= row.chunks; chunk += kWarps) {
    if (dirty[chunk] == 0) continue;
    const Best<T> best = row.chunk_best(chunk);
    if (threadIdx.x % kLanes == 0) maxima[chunk] = best.value;
  }
  __syncthreads();
  if (threadIdx.x < kLanes) write_best(row, maxima, score, end, shape.beam, totals, tokens);
}

constexpr int kMergers = 128;  // threads of a block that merges

template <class T>
struct Extensions {
  // In shared memory, K entries each but for the pool's 2 K.
  T* totals;
  T* pool;
  int64_t* tokens;
  int* parents;
  int* heads;
  int* order;

  static size_t bytes(int64_t beam) { return static_cast<size_t>(beam) * (3 * sizeof(T) + 8 + 3 * sizeof(int)); }

  __device__ Extensions(void* memory, int64_t beam) {
    tokens = static_cast<int64_t*>(memory);
    totals = reinterpret_cast<T*>(tokens + beam);
    pool = totals + beam;
    parents = reinterpret_cast<int*>(pool + 2 * beam);
    heads = parents + beam;
    order = heads + beam;
  }
};

// One warp. Each row's extensions are in order, so the best of all is the head of some row; of equals the lower row's.
template <class T>
__device__ void choose(const Extensions<T>& best, const BeamCandidates<T>& candidates, int64_t first_row, int beam) {
  const int lane = threadIdx.x % kLanes;
  for (int k = lane; k < beam; k += kLanes) best.heads[k] = 0;  // only this lane looks at them
  for (int place = 0; place < beam; ++place) {
    Best<T> mine = Best<T>::none();
    for (int k = lane; k < beam; k += kLanes) {
      if (best.heads[k] == beam) continue;
      const Best<T> other{candidates.totals[(first_row + k) * beam + best.heads[k]], k, best.heads[k]};
      if (other.beats(mine)) mine = other;
    }
    mine = warp_best(mine);
    const bool any = mine.value > never<T>();
    const int parent = any ? static_cast<int>(mine.token) : 0;
    if (any && parent % kLanes == lane) ++best.heads[parent];
    if (lane != 0) continue;
    best.totals[place] = any ? mine.value : never<T>();
    best.parents[place] = parent;
    best.tokens[place] = any ? candidates.tokens[(first_row + parent) * beam + mine.column] : 0;
  }
}

// Places [0, 2 K) of the pool and of what has just ended, in descending order; of equals the one that was earlier.
template <class T>
__device__ void sort_pool(const Extensions<T>& best, int beam) {
  for (int e = threadIdx.x; e < 2 * beam; e += kMergers) {
    const T score = best.pool[e];
    int rank = 0;
    for (int other = 0; other < 2 * beam; ++other) {
      rank += best.pool[other] > score || (best.pool[other] == score && other < e);
    }
    if (rank < beam) best.order[rank] = e;
  }
}

template <class T>
__global__ void __launch_bounds__(kMergers)
    merge_kernel(BeamShape shape, BeamInputs<T> beams, T divisor, BeamCandidates<T> candidates,
                 BeamOutputs<T> outputs) {
  extern __shared__ double shared[];
  const int beam = static_cast<int>(shape.beam);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * beam;
  const Extensions<T> best(shared, beam);
  if (threadIdx.x < kLanes) choose(best, candidates, first_row, beam);
  __syncthreads();
  // Only as many go on as the pool still lacks.
  int lacking = beam;
  for (int k = 0; k < beam; ++k) lacking -= isfinite(beams.finished_scores[first_row + k]) ? 1 : 0;
  for (int k = threadIdx.x; k < beam; k += kMergers) {
    const T total = k < lacking ? best.totals[k] : never<T>();
    const bool ended = best.tokens[k] == kEndToken;
    best.pool[k] = beams.finished_scores[first_row + k];
    best.pool[beam + k] = ended ? total / divisor : never<T>();
    best.order[k] = k;  // scores that are nan have no rank
    outputs.scores[first_row + k] = ended ? never<T>() : total;
    outputs.rows[first_row + k] = first_row + best.parents[k];
    outputs.chosen[first_row + k] = best.tokens[k];
  }
  __syncthreads();
  sort_pool(best, beam);
  __syncthreads();
  // A warp a hypothesis: K that go on, K of the pool.
  for (int row = threadIdx.x / kLanes; row < 2 * beam; row += kMergers / kLanes) {
    const bool pooled = row >= beam;
    const int from = pooled ? best.order[row - beam] - beam : row;  // below 0: it was in the pool
    const int64_t* const source = from < 0 ? beams.finished_tokens + (first_row + from + beam) * shape.time
                                           : beams.tokens + (first_row + best.parents[from]) * shape.time;
    int64_t* const to = pooled ? outputs.finished_tokens + (first_row + row - beam) * shape.time
                               : outputs.tokens + (first_row + row) * shape.time;
    if (pooled && threadIdx.x % kLanes == 0) outputs.finished_scores[first_row + row - beam] = best.pool[from + beam];
    for (int64_t t = threadIdx.x % kLanes; t < shape.time; t += kLanes) {
      to[t] = from >= 0 && t == shape.step ? best.tokens[from] : source[t];
    }
  }
}

}  // namespace

template <class In, class T>
cudaError_t launch_beam_step(const SearchRows<In, T>& rows, const BeamShape& shape, const BeamInputs<T>& beams,
                             const BeamRules& rules, double divisor, const BeamCandidates<T>& candidates,
                             const BeamOutputs<T>& outputs, cudaStream_t stream) {
  if (rows.shape.rows == 0) return cudaSuccess;
  const auto chunks = static_cast<size_t>(rows.shape.chunks());
  const size_t bytes = sizeof(T) * (2 * chunks + 1) + chunks + 1;
  const auto blocks = static_cast<unsigned>(rows.shape.rows);
  extend_kernel<<<blocks, kThreads, bytes, stream>>>(rows, shape, beams, rules, candidates);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  merge_kernel<<<static_cast<unsigned>(shape.sources), kMergers, Extensions<T>::bytes(shape.beam), stream>>>(
      shape, beams, static_cast<T>(divisor), candidates, outputs);
  return cudaGetLastError();
}

#define RLSEQ2SEQ_BEAM_STEP(In, T)                                                                               \
  template cudaError_t launch_beam_step(const SearchRows<In, T>&, const BeamShape&, const BeamInputs<T>&,        \
                                        const BeamRules&, double, const BeamCandidates<T>&, const BeamOutputs<T>&, \
                                        cudaStream_t);

RLSEQ2SEQ_BEAM_STEP(float, float)
RLSEQ2SEQ_BEAM_STEP(double, double)
RLSEQ2SEQ_BEAM_STEP(Bfloat16, float)

}  // namespace rlseq2seq
