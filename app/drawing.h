// What all pictures share: gnuplot draws them, their data stands beside them as csv, and one file suits light and dark
// pages: axes and text are neutral, the background is transparent.
#pragma once
#include <string>

namespace fastmax::app {

/// A picture to be: gnuplot's commands after the terminal is set, its size in pixels, and the data that it shows.
struct Drawing {
  std::string commands, csv;
  int width = 0, height = 0;
};

/// The picture's bytes; `kind` is ".svg" or ".png". Throws WorkError when gnuplot is missing or fails.
std::string render(const Drawing& drawing, const std::string& kind);

/// Writes the picture to `file`, whose ending picks the kind, and its data beside it as .csv. Both appear complete or not
/// at all. Throws UsageError for another ending, and as render().
void write_drawing(const Drawing& drawing, const std::string& file);

/// Throws what write_drawing would, before the work whose result it is to draw.
void require_plot(const std::string& file);

// ---- for those who make drawings ----

inline constexpr const char* kInk = "#808080";  // contrast 3.9 on white, 5.3 on black
inline constexpr const char* kGrid =
    "#b0808080";  // #AARRGGBB, where gnuplot's A counts transparency

/// The shortest text that reads back as the same number.
std::string shortest(double x);
std::string csv_field(const std::string& field);
/// gnuplot's single-quoted string, on one line.
std::string gnuplot_string(const std::string& text);

}  // namespace fastmax::app
