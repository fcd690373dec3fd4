// What all pictures share: gnuplot draws them, their data stands beside them as csv, and one file suits light and dark
// pages: axes and text are neutral, the background is transparent.
#pragma once
#include <array>
#include <string>
#include <vector>

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

/// Okabe and Ito's palette without black and yellow, which vanish on a dark or a light page: safe for colour-blind eyes.
inline constexpr std::array kPalette = {"#0072b2", "#d55e00", "#009e73",
                                        "#cc79a7", "#e69f00", "#56b4e9"};

/// One drawing of panels, each width x height pixels, in rows of `columns`. `before` is said once, ahead of all panels'
/// commands.
Drawing panels_drawing(const std::string& before, const std::vector<std::string>& panels,
                       int columns, int width, int height, std::string csv);

/// The shortest text that reads back as the same number.
std::string shortest(double x);
std::string csv_field(const std::string& field);
/// gnuplot's single-quoted string, on one line.
std::string gnuplot_string(const std::string& text);

}  // namespace fastmax::app
