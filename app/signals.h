// Ctrl-C and SIGTERM as a question that long work asks when it can stop.
#pragma once
#include <string>

namespace fastmax::app {

/// While one exists, SIGINT and SIGTERM are noted instead of ending the program.
class StopRequest {
 public:
  StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;
  ~StopRequest();

  /// The signal that came, or 0; still known when nobody listens any more, until somebody does again.
  static int pending();
  /// Throws Interrupted with `message` when a signal came.
  static void stop_if_pending(const std::string& message);
};

}  // namespace fastmax::app
