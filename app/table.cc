#include "app/table.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace fastmax::app {
namespace {

constexpr std::string_view kReset = "\033[0m", kBold = "\033[1m", kFaintCode = "\033[2m";

std::string_view tone_code(Tone tone) {
  switch (tone) {
    case Tone::kPlain:
      return "";
    case Tone::kGood:
      return "\033[32m";
    case Tone::kBad:
      return "\033[31m";
    case Tone::kFaint:
      return kFaintCode;
  }
  return "";
}

/// `text` in a field of `width`; a left-aligned last column gets no trailing blanks.
std::string padded(const std::string& text, std::size_t width, Align align, bool last) {
  const std::string blanks(width - std::min(width, display_width(text)), ' ');
  if (align == Align::kRight) return blanks + text;
  return last ? text : text + blanks;
}

std::string coloured(const std::string& text, std::string_view code) {
  return code.empty() ? text : std::string(code) + text + std::string(kReset);
}

/// A bar inside a cell would start a new one.
std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

Table& Table::row(std::vector<std::string> cells, Tone tone) {
  if (cells.size() != columns_.size())
    throw std::invalid_argument("table: need " + std::to_string(columns_.size()) + " cells, got " +
                                std::to_string(cells.size()));
  rows_.push_back({std::move(cells), tone});
  return *this;
}

Table& Table::rule() {
  rows_.emplace_back();
  return *this;
}

std::vector<std::size_t> Table::widths() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = display_width(columns_[c].title);
    for (const Row& row : rows_)
      if (!row.cells.empty()) width = std::max(width, display_width(row.cells[c]));
    widths.push_back(width);
  }
  return widths;
}

std::string Table::terminal(bool colour) const {
  const std::vector<std::size_t> width = widths();
  const auto line = [&](const auto& text_of) {
    std::string out;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const bool last = c + 1 == columns_.size();
      out += padded(text_of(c), width[c], columns_[c].align, last) + (last ? "" : "  ");
    }
    return out;
  };
  std::string rule;
  for (std::size_t c = 0; c < width.size(); ++c) {
    for (std::size_t i = 0; i < width[c]; ++i) rule += "─";
    if (c + 1 < width.size()) rule += "──";
  }
  rule = coloured(rule, colour ? kFaintCode : "") + "\n";

  std::string out;
  const auto titled = [](const Column& column) { return !column.title.empty(); };
  if (std::any_of(columns_.begin(), columns_.end(), titled)) {
    out += coloured(line([&](std::size_t c) { return columns_[c].title; }), colour ? kBold : "");
    out += "\n" + rule;
  }
  for (const Row& row : rows_) {
    out += row.cells.empty() ? rule
                             : coloured(line([&](std::size_t c) { return row.cells[c]; }),
                                        colour ? tone_code(row.tone) : "") +
                                   "\n";
  }
  return out;
}

std::string Table::markdown() const {
  const auto line = [&](const auto& text_of) {
    std::string out = "|";
    for (std::size_t c = 0; c < columns_.size(); ++c)
      out.append(" ").append(text_of(c)).append(" |");
    return out.append("\n");
  };
  std::string out = line([&](std::size_t c) { return markdown_cell(columns_[c].title); });
  out += line([&](std::size_t c) { return columns_[c].align == Align::kRight ? "---:" : "---"; });
  for (const Row& row : rows_)
    if (!row.cells.empty()) out += line([&](std::size_t c) { return markdown_cell(row.cells[c]); });
  return out;
}

bool colour_wanted(int file_descriptor) {
  const char* terminal = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  return isatty(file_descriptor) && terminal && std::string_view(terminal) != "dumb" &&
         !(no_colour && *no_colour);
}

std::size_t display_width(std::string_view text) {
  // Continuation bytes of UTF-8 are 10xxxxxx.
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string formatted(const char* pattern, double x) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), pattern, x);
  return buffer.data();
}

std::string percent(double share) { return formatted("%.1f %%", 100 * share); }

std::string short_number(double x) {
  const double size = std::abs(x);
  if (x == 0) return "0";
  if (!std::isfinite(x) || size < 1e-3 || size >= 1e7) return formatted("%.2e", x);
  // The exponent after rounding to three digits tells how many of them follow the point.
  const std::string rounded = formatted("%.2e", size);
  const int digits = std::clamp(2 - std::stoi(rounded.substr(rounded.find('e') + 1)), 0, 5);
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, x);
  return buffer.data();
}

std::string short_bytes(double bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (std::abs(bytes) >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return (bytes == std::floor(bytes) ? formatted("%.0f", bytes) : short_number(bytes)) + " " +
         kUnits[unit];
}

std::string short_seconds(double seconds) {
  if (seconds < 1e-6) return short_number(seconds * 1e9) + " ns";
  if (seconds < 1e-3) return short_number(seconds * 1e6) + " µs";
  if (seconds < 1) return short_number(seconds * 1e3) + " ms";
  if (seconds < 100) return short_number(seconds) + " s";
  const auto whole = static_cast<long long>(std::llround(seconds));
  std::array<char, 64> buffer{};
  if (whole < 3600)
    std::snprintf(buffer.data(), buffer.size(), "%lld min %02lld s", whole / 60, whole % 60);
  else
    std::snprintf(buffer.data(), buffer.size(), "%lld h %02lld min", whole / 3600,
                  whole % 3600 / 60);
  return buffer.data();
}

std::string short_length(long long n) {
  if (n != 0 && n % (1 << 20) == 0) return std::to_string(n >> 20) + "M";
  if (n != 0 && n % (1 << 10) == 0) return std::to_string(n >> 10) + "k";
  return std::to_string(n);
}

}  // namespace fastmax::app
