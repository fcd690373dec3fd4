// Which program this is.
#pragma once

namespace fastmax::app {

/// "0.1.0".
const char* version();
/// The commit it was built from, with "-dirty" when tracked files had changed; "unknown" without git.
const char* commit();

}  // namespace fastmax::app
