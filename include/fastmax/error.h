// The one exception of the library, and the one way to raise it.
#pragma once
#include <sstream>
#include <stdexcept>

#include "fastmax/export.h"

namespace fastmax {

/// Thrown before any work is done: names the argument, the rule and the value that came.
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
