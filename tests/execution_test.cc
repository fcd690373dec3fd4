// Where the work runs changes nothing: threads, order of tasks, callers at the same time, memory
// kept or not.
#include "fastmax/execution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/half.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

/// Calls of operator new and aligned_alloc (the library's two ways to memory) in this program, of which the library must
/// make none in a hot call.
std::atomic<long> allocations = 0;

/// The last task first, on the caller's thread.
void run_backwards(int n, const std::function<void(int)>& task) {
  for (int i = n - 1; i >= 0; --i) task(i);
}
/// Every task on a thread of its own, all at the same time.
void run_at_once(int n, const std::function<void(int)>& task) {
  std::vector<std::thread> threads;
  for (int i = 0; i < n; ++i) threads.emplace_back(task, i);
  for (std::thread& thread : threads) thread.join();
}

template <class T>
struct Everything {
  Outputs<T> out;
  Gradients<T> gradients;

  bool operator==(const Everything& b) const {
    return same_bits(out.o, b.out.o) && same_bits(out.g, b.out.g) &&
           same_bits(out.final_state, b.out.final_state) &&
           same_bits(gradients.dq, b.gradients.dq) && same_bits(gradients.dk, b.gradients.dk) &&
           same_bits(gradients.dv, b.gradients.dv) &&
           same_bits(gradients.d_initial_state, b.gradients.d_initial_state);
  }
};

template <class T>
Everything<T> compute(Problem<T>& problem, Form form, const Execution& execution) {
  Everything<T> all{problem.outputs(), problem.gradients()};
  forward(problem.args(all.out), problem.options(form), execution);
  backward(problem.args(all.out, all.gradients), problem.options(form), execution);
  return all;
}

struct Work {
  Form form;
  Case c;
  Normalize normalize = Normalize::kStandardize;
  bool states = false;
};

/// One head (work must be split inside it), fewer heads than threads, many heads in groups with
/// weights; each large enough that the planner wakes all threads. Each order meets every normalisation, alone and with
/// states.
std::vector<Work> works() {
  std::vector<Work> works;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true})
      for (const Form form : {Form::kDirect, Form::kFactorised}) {
        // Tokens for 7e6 multiply-adds, a thread's worth seven times: N M (D + E), or (N + M) F E.
        const std::int64_t dims[] = {0, 17, 17, 9, 6}, features[] = {0, 18, 171, 220, 210};
        const std::int64_t D = dims[p], E = 16;
        const std::int64_t N =
            form == Form::kDirect ? (causal ? 680 : 480) : 3700000 / (features[p] * E);
        const Case one{.N = N, .M = N + 30, .D = D, .E = E, .p = p, .causal = causal};
        const Case few{.B = 2,
                       .H = 2,
                       .Hkv = 1,
                       .N = N / 2,
                       .M = N / 2,
                       .D = D,
                       .E = E,
                       .p = p,
                       .causal = causal,
                       .weights = Weights::kMask};
        const Case many{.B = 2,
                        .H = 6,
                        .Hkv = 2,
                        .N = N / 6,
                        .M = N / 3,
                        .D = D,
                        .E = E,
                        .p = p,
                        .causal = causal,
                        .weights = Weights::kFractional,
                        .layout = Layout::kBnhd};
        works.push_back({form, one});
        works.push_back({form, few, Normalize::kL2});
        works.push_back({form, many, Normalize::kNone});
        if (!causal) works.push_back({form, few, Normalize::kMaxNorm});
        if (form == Form::kDirect) continue;
        works.push_back({form, one, Normalize::kNone, true});
        works.push_back({form, few, Normalize::kStandardize, true});
        works.push_back({form, many, Normalize::kL2, true});
      }
  return works;
}
std::string work_name(const testing::TestParamInfo<Work>& info) {
  const Work& work = info.param;
  return std::string(form_name(work.form)) + "_" + case_name(work.c) +
         options_name({.normalize = work.normalize}) + (work.states ? "_states" : "");
}

class AnyExecution : public testing::TestWithParam<Work> {};

/// Which thread runs a task is the same code on every instruction set, so the best one stands for all.
template <class T>
void changes_nothing(const Work& work) {
  Problem<T> problem(work.c);
  problem.base.normalize = work.normalize;
  if (work.normalize == Normalize::kNone) problem.base.scale = 0.02;
  if (work.states) problem.add_states();
  const auto one = compute(problem, work.form, serial());
  EXPECT_TRUE(one == compute(problem, work.form, serial())) << "twice";
  EXPECT_TRUE(one == compute(problem, work.form, {})) << "defaults";
  for (const int threads : {1, 2, 3, 7}) {
    EXPECT_TRUE(one == compute(problem, work.form, {.threads = threads}))
        << threads << " threads of the pool";
    EXPECT_TRUE(one == compute(problem, work.form, {.threads = threads, .run = run_backwards}))
        << threads << " backwards";
  }
  EXPECT_TRUE(one == compute(problem, work.form, {.threads = 5, .run = run_at_once})) << "at once";
}
TEST_P(AnyExecution, ChangesNothingInFloat) { changes_nothing<float>(GetParam()); }
TEST_P(AnyExecution, ChangesNothingInDouble) { changes_nothing<double>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Core, AnyExecution, testing::ValuesIn(works()), work_name);

TEST(Execution, ChangesNothingOnAnyTarget) {
  Problem<float> problem({.H = 3, .Hkv = 3, .N = 300, .M = 300, .D = 16, .E = 16, .causal = true});
  for_each_target([&] {
    for (const Form form : {Form::kDirect, Form::kFactorised})
      EXPECT_TRUE(compute(problem, form, serial()) ==
                  compute(problem, form, {.threads = 3, .run = run_backwards}));
  });
}

// The caller's run is what runs, and it is asked for no more tasks than threads.
TEST(Execution, UsesTheCallersThreads) {
  for (const Work& work : works()) {
    SCOPED_TRACE(case_name(work.c));
    Problem<float> problem(work.c);
    int most = 0;
    const ParallelRun count = [&](int n, const std::function<void(int)>& task) {
      most = std::max(most, n);
      run_backwards(n, task);
    };
    compute(problem, work.form, {.threads = 4, .run = count});
    EXPECT_GT(most, 1);
    EXPECT_LE(most, 4);
  }
}

TEST(Execution, KeptWorkspaceStopsGrowing) {
  for (const Form form : {Form::kDirect, Form::kFactorised}) {
    SCOPED_TRACE(form_name(form));
    Problem<float> problem(
        {.H = 2, .Hkv = 2, .N = 200, .M = 200, .D = 16, .E = 16, .causal = true});
    Workspace workspace;
    const auto first = compute(problem, form, {.threads = 2, .workspace = &workspace});
    const std::size_t size = workspace.size();
    EXPECT_TRUE(first == compute(problem, form, {.threads = 2, .workspace = &workspace}));
    EXPECT_EQ(workspace.size(), size);

    Outputs<float> out = problem.outputs();
    Gradients<float> gradients = problem.gradients();
    const std::size_t said =
        std::max(plan(problem.args(out), problem.options(form), 2).workspace_bytes,
                 plan(problem.args(out, gradients), problem.options(form), 2).workspace_bytes);
    EXPECT_GE(size, said);
    EXPECT_LT(size, said + 4096);  // whole pages
  }
}

// Kernels read of the workspace only what they wrote there.
TEST(Execution, ContentsOfTheWorkspaceChangeNothing) {
  for (const int p : {1, 2, 3})
    for (const bool causal : {false, true})
      for (const std::int64_t N : {1, 5, 21, 70, 130})
        for (const Form form : {Form::kDirect, Form::kFactorised}) {
          SCOPED_TRACE(testing::Message()
                       << form_name(form) << " p " << p << " N " << N << (causal ? " causal" : ""));
          Problem<float> problem(
              {.H = 2, .Hkv = 1, .N = N, .M = N + 3, .D = 7, .E = 5, .p = p, .causal = causal});
          for_each_target([&] {
            Workspace workspace;
            const Execution execution{.threads = 1, .workspace = &workspace};
            const auto first = compute(problem, form, execution);
            std::ranges::fill(workspace.reserve(workspace.size()), std::byte{0xFF});  // NaN
            EXPECT_TRUE(first == compute(problem, form, execution));
          });
        }
}

/// With memory of the caller's, the second call of a size allocates nothing.
void hot_calls(Problem<float>& problem) {
  const Case& c = problem.c;
  Outputs<float> out = problem.outputs();
  Gradients<float> gradients = problem.gradients();
  Tensor<float> a = Tensor<float>::nan({c.B, c.H, c.N, c.M});
  const bool factorised_only =
      !problem.initial_state.empty() || drops_features(problem.base.dropout);
  Workspace workspace;
  for (Execution execution : {serial(), Execution{.threads = 2}}) {
    execution.workspace = &workspace;
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      if (form == Form::kDirect && factorised_only) continue;
      const Options options = problem.options(form);
      const auto call = [&] {
        forward(problem.args(out), options, execution);
        backward(problem.args(out, gradients), options, execution);
        attention_weights<float>({.q = problem.q.view(),
                                  .k = problem.k.view(),
                                  .key_weight = problem.key_weight(),
                                  .a = a.view()},
                                 options, execution);
      };
      call();
      const long before = allocations;
      call();
      EXPECT_EQ(allocations, before) << form_name(form) << options_name(options);
    }
  }
}

TEST(Execution, AllocationsAreCounted) {
  const long before = allocations;
  Workspace workspace;
  workspace.reserve(1);
  EXPECT_EQ(allocations, before + 1);
}

// Whatever it asks for.
TEST(Execution, HotCallsAllocateNothing) {
  for (const int p : {1, 2, 3})
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(testing::Message() << "p " << p << (causal ? " causal" : ""));
      Problem<float> plain({.B = 2,
                            .H = 4,
                            .Hkv = 2,
                            .N = 300,
                            .M = 300,
                            .D = p == 3 ? 6 : 16,
                            .E = 16,
                            .p = p,
                            .causal = causal,
                            .weights = Weights::kFractional});
      plain.base.coefficients = {{1, 1, 0.5, 0.1, 0}};  // so that denominators are looked at
      plain.base.scale = 0.01;
      hot_calls(plain);
      for (const DropoutMode mode :
           {DropoutMode::kQuadratic, DropoutMode::kStandard, DropoutMode::kToken}) {
        Problem<float> dropped = plain;
        dropped.base.dropout = {.rate = 0.1, .mode = mode, .seed = 3};
        hot_calls(dropped);
      }
      Problem<float> states = plain;
      states.add_states();
      hot_calls(states);
      if (causal) continue;
      Problem<float> max_norm = plain;
      max_norm.base.normalize = Normalize::kMaxNorm;
      hot_calls(max_norm);
    }
}
/// Sequences that threads share whole, or that they compute together.
std::vector<std::int32_t> offsets(std::int32_t sequences, std::int32_t length) {
  std::vector<std::int32_t> cu;
  for (std::int32_t i = 0; i <= sequences; ++i) cu.push_back(i * length);
  return cu;
}

/// With memory of the caller's, of which a call takes what its plan said.
template <class Forward, class Backward>
void hot_packed_calls(const Forward& forward_args, const Backward& backward_args,
                      const Options& options) {
  const auto fits = [](std::size_t size, std::size_t said) {
    return size >= said && size < said + 4096;  // whole pages
  };
  for (const auto& cu : {offsets(3, 100), offsets(30, 10)}) {
    SCOPED_TRACE(testing::Message() << form_name(options.form) << " " << cu.size() - 1);
    const Sequences sequences{cu, cu};
    Workspace memory[2];
    const std::array<char, 100> large = {};  // more than std::function holds without allocating
    Execution execution{.threads = 2, .run = [large](int n, const std::function<void(int)>& task) {
                          for (int i = 0; i < n; ++i) task(i + large[0]);
                        }};
    const auto call = [&] {
      execution.workspace = &memory[0];
      forward(forward_args, sequences, options, execution);
      execution.workspace = &memory[1];
      backward(backward_args, sequences, options, execution);
    };
    call();
    const long before = allocations;
    call();
    EXPECT_EQ(allocations, before);
    EXPECT_TRUE(fits(memory[0].size(), plan(forward_args, sequences, options, 2).workspace_bytes));
    EXPECT_TRUE(fits(memory[1].size(), plan(backward_args, sequences, options, 2).workspace_bytes));
  }
}
TEST(Execution, HotPackedCallsAllocateNothing) {
  for (const int p : {1, 2, 3})
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      const Case c{.H = 4, .Hkv = 2, .N = 300, .M = 300, .D = 6, .E = 16, .p = p, .causal = true};
      Problem<float> problem(c);
      problem.base.scale = 0.01;  // so that denominators of odd p are looked at
      Outputs<float> out = problem.outputs();
      Gradients<float> gradients = problem.gradients();
      hot_packed_calls(problem.args(out), problem.args(out, gradients), problem.options(form));
      LowPrecision<BFloat16> low(c);
      hot_packed_calls(low.forward_args(), low.backward_args(), low.problem.options(form));
    }
}
TEST(Execution, HotStepsAllocateNothing) {
  for (const int p : {1, 2, 3}) {
    Problem<float> problem({.B = 2, .H = 4, .Hkv = 2, .N = 1, .M = 1, .D = 16, .E = 16, .p = p});
    State<float> state(2, 2, 16, 16, problem.options());
    Outputs<float> out = problem.outputs();
    Workspace workspace;
    for (Execution execution : {serial(), Execution{.threads = 2}}) {
      execution.workspace = &workspace;
      const auto call = [&] {
        state.step(problem.q.view(), problem.k.view(), problem.v.view(), out.o.view(), execution);
        state.extend(problem.q.view(), problem.k.view(), problem.v.view(), out.o.view(), {},
                     execution);
        state.query(problem.q.view(), out.o.view(), execution);
        state.add(problem.k.view(), problem.v.view(), {}, execution);
      };
      call();
      const long before = allocations;
      call();
      EXPECT_EQ(allocations, before) << p;
    }
  }
}

/// Runs a call on memory of its own: it takes what its plan said, in whole pages.
template <class Run>
void takes(const Plan& said, const Run& run) {
  Workspace workspace;
  run(Execution{.threads = 2, .workspace = &workspace});
  EXPECT_GT(workspace.size(), 0u);
  EXPECT_GE(workspace.size(), said.workspace_bytes);
  EXPECT_LT(workspace.size(), said.workspace_bytes + 4096);
}

TEST(Execution, RowsOfTheMatrixTakeWhatTheirPlanSaid) {
  for (const int p : {1, 2})
    for (const DropoutMode mode : {DropoutMode::kToken, DropoutMode::kStandard}) {
      Problem<float> problem(
          {.B = 2, .H = 4, .Hkv = 2, .N = 70, .M = 90, .p = p, .weights = Weights::kFractional});
      problem.base.normalize = Normalize::kMaxNorm;
      problem.base.dropout = {.rate = 0.2, .mode = mode};
      Tensor<float> a = Tensor<float>::nan({2, 4, 70, 90});
      const WeightsArgs<float> args{.q = problem.q.view(),
                                    .k = problem.k.view(),
                                    .key_weight = problem.key_weight(),
                                    .a = a.view()};
      const Plan said = plan(args, problem.options(), 2);
      EXPECT_EQ(said.form, mode == DropoutMode::kToken ? Form::kDirect : Form::kFactorised);
      takes(said, [&](const Execution& e) { attention_weights(args, problem.options(), e); });
    }
}

// What include/fastmax/state.h says: a State's calls are plans of forward and step.
TEST(Execution, CallsOfAStateTakeWhatTheirPlanSaid) {
  for (const int p : {1, 2, 3}) {
    Problem<float> problem({.B = 2, .H = 4, .Hkv = 2, .N = 70, .M = 70, .D = 6, .E = 5, .p = p});
    State<float> state(2, 2, 6, 5, problem.options());
    Outputs<float> out = problem.outputs();
    const BhndView<const float> q = problem.q.view(), k = problem.k.view(), v = problem.v.view();
    const BhndView<float> o = out.o.view();
    const Options options = state.options();
    Options causal = options;
    causal.causal = true;
    const ForwardArgs<float> extend{
        .q = q, .k = k, .v = v, .o = o, .initial_state = state.view(), .final_state = state.view()};
    takes(plan(extend, causal, 2), [&](const Execution& e) { state.extend(q, k, v, o, {}, e); });
    ForwardArgs<float> add = extend, query = extend;
    add.q = part(q, 0, 0);
    add.o = part(o, 0, 0);
    takes(plan(add, options, 2), [&](const Execution& e) { state.add(k, v, {}, e); });
    query.k = part(k, 0, 0);
    query.v = part(v, 0, 0);
    query.final_state = {};
    takes(plan(query, options, 2), [&](const Execution& e) { state.query(q, o, e); });
    const StepArgs<float> step{.q = part(q, 0, 1),
                               .k = part(k, 0, 1),
                               .v = part(v, 0, 1),
                               .state = state.view(),
                               .o = part(o, 0, 1)};
    takes(plan(step, options, 2),
          [&](const Execution& e) { state.step(step.q, step.k, step.v, step.o, e); });
  }
}

TEST(Execution, WorkspaceIsAligned) {
  Workspace workspace;
  for (const std::size_t bytes : {1, 64, 1000, 10}) {
    const auto memory = workspace.reserve(bytes);
    EXPECT_GE(memory.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 64, 0u);
  }
  EXPECT_GE(workspace.size(), 1000u);
}

TEST(Execution, CallersMayComeAtTheSameTime) {
  Problem<float> problem({.H = 3, .Hkv = 3, .N = 150, .M = 150, .D = 8, .E = 8, .causal = true});
  const auto right = compute(problem, Form::kFactorised, serial());
  std::atomic<int> same = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 5; ++repeat)
        same += right == compute(problem, Form::kFactorised, {});
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(same, 20);
}

}  // namespace
}  // namespace fastmax

// Not inlined: g++ would then see free() meet what operator new gave, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++fastmax::allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
// In the place of the C library's.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++fastmax::allocations;
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, size) == 0 ? memory : nullptr;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
