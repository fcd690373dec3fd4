// States of a problem.
#pragma once
#include "fastmax/state.h"
#include "tests/problem.h"

namespace fastmax::testing_support {

template <class T>
State<T> empty_state(const Problem<T>& problem) {
  const Case& c = problem.c;
  return State<T>(c.B, c.Hkv, c.D, c.E, problem.options());
}

template <class T>
State<T> some_state(Problem<T>& problem) {
  State<T> state = empty_state(problem);
  state.add(problem.k.view(), problem.v.view());
  return state;
}

}  // namespace fastmax::testing_support
