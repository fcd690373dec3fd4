// Ctrl-C and SIGTERM as a question that long work asks when it can stop.
#pragma once

namespace fastmax::app {

/// While one exists, SIGINT and SIGTERM are noted instead of ending the program.
class StopRequest {
 public:
  StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;
  ~StopRequest();

  /// The signal that came, or 0.
  static int pending();
};

}  // namespace fastmax::app
