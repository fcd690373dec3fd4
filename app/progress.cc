#include "app/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/table.h"

namespace fastmax::app {
namespace {

constexpr double kRedraw = 0.1, kPlainLine = 10;  // seconds
constexpr int kBar = 28;                          // columns

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

std::string clock_time(double s) {
  const long whole = std::lround(s);
  char buffer[32];
  if (whole >= 3600) {
    std::snprintf(buffer, sizeof buffer, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60,
                  whole % 60);
  } else {
    std::snprintf(buffer, sizeof buffer, "%ld:%02ld", whole / 60, whole % 60);
  }
  return buffer;
}

std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// The first `width` columns of a UTF-8 text.
std::string cut(const std::string& text, std::size_t width) {
  std::size_t columns = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xc0) != 0x80 && columns++ == width) return text.substr(0, i);
  }
  return text;
}

}  // namespace

Progress::Progress(std::string label, std::string unit, std::int64_t total, std::int64_t done)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      start_(done),
      terminal_(colour_wanted(STDERR_FILENO)),
      began_(Clock::now()),
      last_(began_ - std::chrono::hours(1)) {
  if (!terminal_) last_ = began_;
}

Progress::~Progress() {
  if (drawn_) std::fputs("\n", stderr);
}

void Progress::update(std::int64_t done, const std::string& note, bool important) {
  const auto now = Clock::now();
  const bool due = seconds(now - last_) >= (terminal_ ? kRedraw : kPlainLine);
  if (!due && !important && !(terminal_ && done == total_)) return;
  last_ = now;
  const double elapsed = seconds(now - began_);
  draw(done, note, elapsed > 0 ? static_cast<double>(done - start_) / elapsed : 0);
}

void Progress::draw(std::int64_t done, const std::string& note, double rate) {
  std::string text = std::to_string(done) + "/" + std::to_string(total_) + " " + unit_;
  if (!note.empty()) text += "  " + note;
  if (rate > 0) text += "  " + short_number(rate) + " " + unit_ + "/s";
  if (rate > 0) {
    text += done < total_ ? "  " + clock_time(static_cast<double>(total_ - done) / rate) + " left"
                          : "  in " + clock_time(static_cast<double>(total_ - start_) / rate);
  }
  if (!terminal_) {
    std::fprintf(stderr, "%s  %s\n", label_.c_str(), text.c_str());
    return;
  }
  const int full = total_ > 0 ? static_cast<int>(kBar * done / total_) : kBar;
  std::string filled, rest;
  for (int i = 0; i < kBar; ++i) (i < full ? filled : rest) += i < full ? "━" : "─";
  const std::size_t used = display_width(label_) + kBar + 4;
  const std::size_t width = terminal_width();
  text = cut(text, width > used + 1 ? width - used - 1 : 0);
  std::fprintf(stderr, "\r\033[K%s  \033[32m%s\033[2m%s\033[0m  %s", label_.c_str(), filled.c_str(),
               rest.c_str(), text.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace fastmax::app
