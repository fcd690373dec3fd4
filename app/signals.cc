#include "app/signals.h"

#include <csignal>

#include "app/error.h"

namespace fastmax::app {
namespace {

volatile std::sig_atomic_t requested = 0;
int holders = 0;
void (*old_interrupt)(int) = SIG_DFL;
void (*old_terminate)(int) = SIG_DFL;

void note(int signal) { requested = signal; }

}  // namespace

StopRequest::StopRequest() {
  if (holders++ > 0) return;
  requested = 0;
  old_interrupt = std::signal(SIGINT, note);
  old_terminate = std::signal(SIGTERM, note);
}

StopRequest::~StopRequest() {
  if (--holders > 0) return;
  std::signal(SIGINT, old_interrupt);
  std::signal(SIGTERM, old_terminate);
}

int StopRequest::pending() { return requested; }

void StopRequest::stop_if_pending(const std::string& message) {
  if (const int signal = pending()) throw Interrupted(signal, message);
}

}  // namespace fastmax::app
