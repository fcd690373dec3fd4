// The one exception of the library, and the one way to raise it.
#pragma once
#include <sstream>
#include <stdexcept>

#include "fastmax/export.h"

namespace fastmax {

/// Names the argument, the rule and the value that came. Thrown before any work is done; after it only by
/// Floor::kError, where a denominator turned out too small. What is no argument's fault is another exception's:
/// std::bad_alloc where memory lacks, std::runtime_error for files.
struct FASTMAX_API Error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// require(q.D == k.D, "q.D == k.D, got ", q.D, " and ", k.D) throws "fastmax: need q.D == k.D, got
/// 8 and 4".
template <class... Parts>
void require(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream text;
  text << "fastmax: need ";
  (text << ... << parts);
  throw Error(text.str());
}

}  // namespace fastmax
