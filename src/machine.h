// What the planner needs to know of the machine.
#pragma once
#include "src/plan.h"

namespace fastmax {

/// Cache sizes as the system reports them, read once; matrix tiles as the CPU and the system offer them.
Machine this_machine(int threads);

}  // namespace fastmax
