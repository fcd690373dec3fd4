#include "app/drawing.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "app/error.h"
#include "app/files.h"
#include "app/subprocess.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

std::string beginning(const Drawing& drawing, const std::string& kind, const fs::path& output) {
  std::ostringstream out;
  out << (kind == ".svg" ? "set terminal svg noenhanced dynamic font 'sans-serif,13'"
                         : "set terminal pngcairo noenhanced transparent font 'sans,11'")
      << " size " << drawing.width << "," << drawing.height << "\n"
      << "set output " << gnuplot_string(output.string()) << "\n"
      << "set border 3 lc rgb '" << kInk << "'\nset tics nomirror textcolor rgb '" << kInk << "'\n"
      << "set key tc rgb '" << kInk << "'\n";
  for (const char* what : {"title", "xlabel", "ylabel", "label 1"})
    out << "set " << what << " tc rgb '" << kInk << "'\n";
  return out.str();
}

void require_gnuplot(const std::string& what) {
  if (find_program("gnuplot").empty())
    throw WorkError(
        text("drawing ", what, " needs the program gnuplot: install the package gnuplot-nox"));
}

}  // namespace

Drawing panels_drawing(const std::string& before, const std::vector<std::string>& panels,
                       int columns, int width, int height, std::string csv) {
  const int rows = (static_cast<int>(panels.size()) + columns - 1) / columns;
  std::string commands = before;
  if (panels.size() > 1) commands += text("set multiplot layout ", rows, ",", columns, "\n");
  for (const std::string& panel : panels) commands += panel;
  if (panels.size() > 1) commands += "unset multiplot\n";
  return {.commands = commands,
          .csv = std::move(csv),
          .width = columns * width,
          .height = rows * height};
}

std::string shortest(double x) {
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), x).ptr};
}

std::string csv_field(const std::string& field) {
  if (field.find_first_of(",\"\n") == std::string::npos) return field;
  std::string quoted = "\"";
  for (const char c : field) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string gnuplot_string(const std::string& text) {
  std::string out = "'";
  for (const char c : text)
    out += c == '\'' ? std::string("''") : std::string(1, c == '\n' ? ' ' : c);
  return out + "'";
}

std::string render(const Drawing& drawing, const std::string& kind) {
  require_gnuplot("a " + kind.substr(1));
  const NewFolder scratch(fs::temp_directory_path() / "fastmax-drawing");  // removed in the end
  const fs::path picture = scratch.path() / ("picture" + kind),
                 commands = scratch.path() / "commands";
  write_file(commands, beginning(drawing, kind, picture) + drawing.commands + "unset output\n");
  const Finished gnuplot = run_program({"gnuplot", commands.string()}, true);
  // gnuplot ends with 0 after some errors; the picture is the proof.
  std::error_code missing;
  if (gnuplot.exit_code != 0 || fs::file_size(picture, missing) == 0 || missing)
    throw WorkError(text("gnuplot could not draw: ", gnuplot.output));
  return read_file(picture, "a picture");
}

void require_plot(const std::string& file) {
  const std::string kind = fs::path(file).extension().string();
  if (kind != ".svg" && kind != ".png")
    throw UsageError(text("a plot is drawn to FILE.svg or FILE.png, got '", file, "'"));
  require_gnuplot(file);
}

void write_drawing(const Drawing& drawing, const std::string& file) {
  require_plot(file);
  const std::string picture = render(drawing, fs::path(file).extension().string());
  write_file(fs::path(file).replace_extension(".csv"), drawing.csv);
  write_file(file, picture);
}

}  // namespace fastmax::app
