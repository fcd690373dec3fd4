// Where the work runs changes nothing: threads, order of tasks, callers at the same time, memory
// kept or not.
#include "fastmax/execution.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

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
           same_bits(gradients.dq, b.gradients.dq) && same_bits(gradients.dk, b.gradients.dk) &&
           same_bits(gradients.dv, b.gradients.dv);
  }
};

template <class T>
Everything<T> compute(Problem<T>& problem, Form form, const Execution& execution) {
  Everything<T> all{problem.outputs(), problem.gradients()};
  forward(problem.args(all.out), problem.options(form), execution);
  backward(problem.args(all.out, all.gradients), problem.options(form), execution);
  return all;
}

/// One head (work must be split inside it), a few (fewer than threads) and many, grouped and
/// weighted.
std::vector<Case> execution_cases() {
  std::vector<Case> cases;
  for (const int p : {1, 2, 3})
    for (const bool causal : {false, true}) {
      cases.push_back({.N = 700, .M = 700, .D = 8, .E = 9, .p = p, .causal = causal});
      cases.push_back(
          {.N = 90, .M = 400, .D = 5, .E = 3, .p = p, .causal = causal, .weights = Weights::kMask});
      cases.push_back({.B = 2,
                       .H = 6,
                       .Hkv = 2,
                       .N = 130,
                       .M = 150,
                       .D = 7,
                       .E = 8,
                       .p = p,
                       .causal = causal,
                       .weights = Weights::kFractional,
                       .layout = Layout::kBnhd});
    }
  return cases;
}

class AnyExecution : public testing::TestWithParam<Case> {};

template <class T>
void does_not_depend_on_threads(const Case& c) {
  Problem<T> problem(c);
  for_each_target([&] {
    for (const Form form : forms(c)) {
      SCOPED_TRACE(form_name(form));
      const auto one = compute(problem, form, serial());
      EXPECT_TRUE(one == compute(problem, form, serial())) << "twice";
      EXPECT_TRUE(one == compute(problem, form, {})) << "defaults";
      for (const int threads : {1, 2, 3, 7}) {
        EXPECT_TRUE(one == compute(problem, form, {.threads = threads}))
            << threads << " threads of the pool";
        EXPECT_TRUE(one == compute(problem, form, {.threads = threads, .run = run_backwards}))
            << threads << " backwards";
      }
      EXPECT_TRUE(one == compute(problem, form, {.threads = 5, .run = run_at_once})) << "at once";
    }
  });
}
TEST_P(AnyExecution, DoesNotChangeFloat) { does_not_depend_on_threads<float>(GetParam()); }
TEST_P(AnyExecution, DoesNotChangeDouble) { does_not_depend_on_threads<double>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Core, AnyExecution, testing::ValuesIn(execution_cases()),
                         [](const auto& info) { return case_name(info.param); });

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
    EXPECT_EQ(size, said);
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

TEST(Execution, RunsEachTaskOnce) {
  Problem<float> problem({.B = 2, .H = 3, .Hkv = 3, .N = 40, .M = 40, .D = 8, .E = 8});
  bool called = false;
  const ParallelRun count = [&](int n, const std::function<void(int)>& task) {
    called = true;
    ASSERT_GE(n, 1);
    run_backwards(n, task);
  };
  compute(problem, Form::kDirect, {.threads = 4, .run = count});
  EXPECT_TRUE(called);
}

}  // namespace
}  // namespace fastmax
