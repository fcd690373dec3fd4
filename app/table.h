// A small table that prints aligned for a terminal and as markdown for a file.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace fastmax::app {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kRight;
};

/// How a row is coloured where colour is asked for; never carries meaning that the text lacks.
enum class Tone { kPlain, kGood, kBad, kFaint };

class Table {
 public:
  explicit Table(std::vector<Column> columns);

  /// One cell a column; throws std::invalid_argument otherwise.
  Table& row(std::vector<std::string> cells, Tone tone = Tone::kPlain);
  /// A line between groups of rows (nothing in markdown, which has no such thing).
  Table& rule();

  bool empty() const { return rows_.empty(); }
  /// Without a heading where no column has a title.
  std::string terminal(bool colour) const;
  std::string markdown() const;

 private:
  struct Row {
    std::vector<std::string> cells;  // empty: a rule
    Tone tone = Tone::kPlain;
  };
  std::vector<std::size_t> widths() const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

/// True where escape codes are welcome: a terminal that is not "dumb", and NO_COLOR is not set.
bool colour_wanted(int file_descriptor);

/// Columns that a text takes up: its UTF-8 code points.
std::size_t display_width(std::string_view text);

/// snprintf of one number.
std::string formatted(const char* pattern, double x);
/// "37.2 %" of 0.372.
std::string percent(double share);
/// 3 significant digits, never an exponent inside 1e-3 .. 1e7: "0.0123", "4.56", "123", "45600".
std::string short_number(double x);
/// Powers of 1024: "960 B", "1.5 KiB", "4.23 MiB", "2 GiB".
std::string short_bytes(double bytes);
/// "853 ns", "1.25 ms", "12.3 s", "4 min 05 s", "1 h 02 min".
std::string short_seconds(double seconds);
/// Multiples of 1024 as people name sequence lengths: "64k", "1M"; other numbers as they are.
std::string short_length(long long n);

}  // namespace fastmax::app
