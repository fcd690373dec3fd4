// Packed sequences: one call each on a part of the views.
#include <cstddef>
#include <cstdint>
#include <span>

#include "src/check.h"
#include "src/cpu/team.h"
#include "src/parts.h"

namespace fastmax {
namespace {

template <class View>
View part(View x, std::span<const std::int32_t> cu, std::size_t i) {
  x.data += cu[i] * x.stride_n;
  x.N = cu[i + 1] - cu[i];
  return x;
}
template <class T>
BhnView<T> part(BhnView<T> x, std::span<const std::int32_t> cu, std::size_t i) {
  if (x.data) x.data += cu[i];
  x.N = cu[i + 1] - cu[i];
  return x;
}
template <class T>
BnView<T> part(BnView<T> x, std::span<const std::int32_t> cu, std::size_t i) {
  if (x.data) x.data += cu[i];
  x.N = cu[i + 1] - cu[i];
  return x;
}
template <class T>
ForwardArgs<T> part(const ForwardArgs<T>& a, const Sequences& s, std::size_t i) {
  return {.q = part(a.q, s.cu_q, i),
          .k = part(a.k, s.cu_k, i),
          .v = part(a.v, s.cu_k, i),
          .key_weight = part(a.key_weight, s.cu_k, i),
          .o = part(a.o, s.cu_q, i),
          .g = part(a.g, s.cu_q, i),
          .initial_state = entry(a.initial_state, i),
          .final_state = entry(a.final_state, i)};
}
template <class T>
BackwardArgs<T> part(const BackwardArgs<T>& a, const Sequences& s, std::size_t i) {
  return {.q = part(a.q, s.cu_q, i),
          .k = part(a.k, s.cu_k, i),
          .v = part(a.v, s.cu_k, i),
          .key_weight = part(a.key_weight, s.cu_k, i),
          .o = part(a.o, s.cu_q, i),
          .g = part(a.g, s.cu_q, i),
          .d_o = part(a.d_o, s.cu_q, i),
          .dq = part(a.dq, s.cu_q, i),
          .dk = part(a.dk, s.cu_k, i),
          .dv = part(a.dv, s.cu_k, i),
          .initial_state = entry(a.initial_state, i),
          .d_final_state = entry(a.d_final_state, i),
          .d_initial_state = entry(a.d_initial_state, i)};
}

/// Every sequence a part, as it lies.
template <class Args>
class SequenceParts {
 public:
  SequenceParts(const Args& args, const Sequences& sequences)
      : args_(args), sequences_(sequences) {}

  std::size_t size() const { return sequences_.cu_q.size() - 1; }
  Args planned(std::size_t i) const { return part(args_, sequences_, i); }
  std::size_t bytes(std::size_t) const { return 0; }
  template <class Body>
  void run(std::size_t i, std::byte*, const cpu::Team&, const Body& body) const {
    body(planned(i));
  }

 private:
  const Args& args_;
  const Sequences& sequences_;
};

}  // namespace

template <class T>
Report forward(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options,
               const Execution& execution) {
  check(args, sequences, options, execution.threads);
  return forward_parts(SequenceParts(args, sequences), args, options, execution);
}

template <class T>
void backward(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options,
              const Execution& execution) {
  check(args, sequences, options, execution.threads);
  backward_parts(SequenceParts(args, sequences), options, execution);
}

template <class T>
Plan plan(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options,
          int threads) {
  check(args, sequences, options, threads);
  return share(SequenceParts(args, sequences), options, threads).plan();
}
template <class T>
Plan plan(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options,
          int threads) {
  check(args, sequences, options, threads);
  return share(SequenceParts(args, sequences), options, threads).plan();
}

#define FASTMAX_INSTANTIATE_SEQUENCES(T)                                            \
  template Report forward(const ForwardArgs<T>&, const Sequences&, const Options&,  \
                          const Execution&);                                        \
  template void backward(const BackwardArgs<T>&, const Sequences&, const Options&,  \
                         const Execution&);                                         \
  template Plan plan(const ForwardArgs<T>&, const Sequences&, const Options&, int); \
  template Plan plan(const BackwardArgs<T>&, const Sequences&, const Options&, int);
FASTMAX_INSTANTIATE_SEQUENCES(float)
FASTMAX_INSTANTIATE_SEQUENCES(double)
FASTMAX_INSTANTIATE_SEQUENCES(BFloat16)
FASTMAX_INSTANTIATE_SEQUENCES(Float16)

}  // namespace fastmax
