#include "app/threads.h"

#include <unistd.h>

#include <cstdlib>

namespace fastmax::app {

void spin_briefly(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  if (setenv("GOMP_SPINCOUNT", "3000", /*replace=*/1) == 0) execv("/proc/self/exe", argv);
  // Where that is not possible the program works as it is.
}

}  // namespace fastmax::app
