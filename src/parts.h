// A call as several of its own: packed sequences (sequences.cc), or batch entries without their padding (padding.cc).
// Several run at a time where there are enough, in one workspace that is cut among the workers.
//
// Parts has size(), planned(i), the call i as far as a plan looks at it, bytes(i), what it takes to make that call, and
// run(i, memory, team, body), which makes it there, calls body(args) and brings home what that wrote.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "src/cpu/layout.h"
#include "src/cpu/team.h"
#include "src/denominator.h"
#include "src/pool.h"
#include "src/run.h"

namespace fastmax {

/// Batch entry i alone.
template <class View>
View entry(View x, std::size_t i) {
  if (x.data) x.data += static_cast<std::int64_t>(i) * x.stride_b;
  x.B = 1;
  return x;
}
template <class T>
StateView<T> entry(StateView<T> x, std::size_t i) {
  return {x.head(static_cast<std::int64_t>(i), 0), x.data ? 1 : 0, x.H, x.F, x.E};
}

/// How the parts share the threads and the workspace, and the plan of the longest of them.
struct Sharing {
  std::size_t workers = 1;  ///< parts at a time
  int threads = 1;          ///< on each
  std::size_t reports = 0;  ///< bytes at the start of the workspace
  std::size_t each = 0;     ///< bytes a worker, behind them
  Plan longest = {.form = Form::kAuto};

  std::size_t bytes() const { return reports + workers * each; }
  Plan plan() const { return {longest.form, longest.chunk, bytes(), longest.why}; }
};

inline constexpr std::size_t kCacheLine = 64;  // bytes

/// Whether each thread can take whole parts: there are many, or as many for each thread, of one length.
template <class Parts>
bool parts_in_parallel(const Parts& parts, std::size_t threads) {
  const std::size_t count = parts.size();
  if (count == 0 || cpu::are_many(count, threads)) return true;
  if (!cpu::groups_in_parallel(count, threads)) return false;
  const auto lengths = [&](std::size_t i) {
    const auto one = parts.planned(i);
    return std::pair(one.q.N, one.k.N);
  };
  const auto first = lengths(0);
  for (std::size_t i = 1; i < count; ++i)
    if (lengths(i) != first) return false;
  return true;
}

template <class Parts>
Sharing share(const Parts& parts, const Options& options, int threads) {
  threads = threads_of(threads);
  const std::size_t count = parts.size();
  Sharing sharing{.reports = cpu::round_up(count * sizeof(Report), kCacheLine)};
  if (parts_in_parallel(parts, static_cast<std::size_t>(threads))) {
    sharing.workers = static_cast<std::size_t>(threads);
  } else {
    sharing.threads = threads;
  }
  std::int64_t tokens = -1;
  for (std::size_t i = 0; i < count; ++i) {
    const auto one = parts.planned(i);
    const Plan plan = run_plan(one, options, sharing.threads);
    sharing.each =
        std::max(sharing.each, cpu::round_up(parts.bytes(i) + plan.workspace_bytes, kCacheLine));
    if (one.q.N + one.k.N > tokens) {
      tokens = one.q.N + one.k.N;
      sharing.longest = plan;
    }
  }
  return sharing;
}

/// body(i, args, execution, place) for every part, in a workspace that holds all that they need.
template <class Parts, class Body>
void for_each_part(const Parts& parts, const Sharing& sharing, const Execution& execution,
                   const Body& body) {
  const Execution alone = serial(execution.workspace);
  const Execution& each = sharing.threads == 1 ? alone : execution;
  std::byte* const memory = execution.workspace->reserve(sharing.bytes()).data();
  team_of(execution, static_cast<int>(sharing.workers))
      .for_each(parts.size(), [&](std::size_t worker, std::size_t i) {
        const std::size_t taken = sharing.reports + worker * sharing.each;
        const cpu::Team team = team_of(each, sharing.threads);
        parts.run(i, memory + taken, team, [&](const auto& args) {
          body(i, args, each, Place{.first_batch = i, .taken = taken + parts.bytes(i)});
        });
      });
}

/// `whole` is the call that the parts make up.
template <class Parts, class T>
Report forward_parts(const Parts& parts, const ForwardArgs<T>& whole, const Options& options,
                     const Execution& execution) {
  const Sharing sharing = share(parts, options, execution.threads);
  const WithWorkspace with(execution);
  auto* const reports = reinterpret_cast<Report*>(with.reserve(sharing.bytes()));
  Options clamped = options;
  clamped.floor = Floor::kClamp;  // an error waits until every part is done
  for_each_part(parts, sharing, with.execution(),
                [&](std::size_t i, const auto& args, const Execution& each, const Place& place) {
                  reports[i] = run_forward(args, clamped, each, place);
                });
  Report all;
  for (const Report& report : std::span(reports, parts.size())) {
    if (report.form == Form::kAuto) continue;
    all.form = report.form;
    all.smallest_denominator = std::fmin(all.smallest_denominator, report.smallest_denominator);
  }
  require_denominators<Compute<T>>(all.smallest_denominator, options, whole.q.D);
  return all;
}

template <class Parts>
void backward_parts(const Parts& parts, const Options& options, const Execution& execution) {
  const Sharing sharing = share(parts, options, execution.threads);
  const WithWorkspace with(execution);
  for_each_part(parts, sharing, with.execution(),
                [&](std::size_t, const auto& args, const Execution& each, const Place& place) {
                  run_backward(args, options, each, place);
                });
}

}  // namespace fastmax
