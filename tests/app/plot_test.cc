#include "app/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "app/error.h"

namespace fastmax::app {
namespace {

namespace fs = std::filesystem;

class PlotTest : public testing::Test {
 protected:
  PlotTest()
      : folder_(fs::path(testing::TempDir()) /
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~PlotTest() override { fs::remove_all(folder_); }

  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  std::string content(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
  Plot plot_{.title = "time's cost, measured",
             .x_label = "tokens N",
             .y_label = "seconds",
             .log_x = true,
             .log_y = true,
             .series = {{"softmax", {256, 1024, 65536}, {1e-4, 1e-3, 4}},
                        {"fast_max2", {256, 1024, 65536}, {2e-4, 8e-4, 5e-2}}}};
};

TEST_F(PlotTest, DrawsSvgWithItsDataBeside) {
  line_plot(plot_, file("a.svg"));
  const std::string svg = content("a.svg");
  EXPECT_NE(svg.find("<svg"), std::string::npos);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  for (const char* text : {"softmax", "fast_max2", "time's cost, measured", "tokens N", ">64k<"})
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  EXPECT_EQ(content("a.csv"),
            "panel,series,x_label,x,y_label,y\n"
            "\"time's cost, measured\",softmax,tokens N,256,seconds,1e-04\n"
            "\"time's cost, measured\",softmax,tokens N,1024,seconds,0.001\n"
            "\"time's cost, measured\",softmax,tokens N,65536,seconds,4\n"
            "\"time's cost, measured\",fast_max2,tokens N,256,seconds,2e-04\n"
            "\"time's cost, measured\",fast_max2,tokens N,1024,seconds,8e-04\n"
            "\"time's cost, measured\",fast_max2,tokens N,65536,seconds,0.05\n");
  EXPECT_EQ(files(), 2u);  // nothing temporary is left
}

TEST_F(PlotTest, DrawsPng) {
  line_plot({plot_, plot_}, 2, file("a.png"));
  const std::string png = content("a.png");
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  // Width and height follow the header's name at byte 16: two panels side by side.
  EXPECT_GT(static_cast<unsigned char>(png[18]) * 256 + static_cast<unsigned char>(png[19]), 1000);
}

TEST_F(PlotTest, LeavesOutPointsThatCannotBeDrawn) {
  plot_.series = {{"a", {1, 2, 4, 8}, {0, NAN, INFINITY, 1}}, {"nothing", {1}, {-1}}};
  line_plot(plot_, file("a.svg"));
  EXPECT_NE(content("a.svg").find("</svg>"), std::string::npos);
  EXPECT_EQ(content("a.svg").find("nothing"), std::string::npos);
  plot_.series = {};
  line_plot(plot_, file("empty.svg"));
  EXPECT_NE(content("empty.svg").find("no data"), std::string::npos);
}

TEST_F(PlotTest, DrawsBands) {
  plot_.series[0].low = {5e-5, 5e-4, 2};
  plot_.series[0].high = {2e-4, 2e-3, 8};
  line_plot(plot_, file("a.svg"));
  const std::string csv = content("a.csv");
  EXPECT_EQ(csv.substr(0, csv.find('\n')), "panel,series,x_label,x,y_label,y,low,high");
  EXPECT_NE(csv.find(",4,2,8\n"), std::string::npos);
  EXPECT_NE(csv.find(",0.05,,\n"), std::string::npos);  // the other has none
  const auto polygons = [&] {
    const std::string svg = content("a.svg");
    std::size_t count = 0;
    for (std::size_t at = 0; (at = svg.find("fill-opacity", at + 1)) != std::string::npos;) ++count;
    return count;
  };
  const std::size_t with_band = polygons();
  plot_.series[0].low.clear();
  plot_.series[0].high.clear();
  line_plot(plot_, file("a.svg"));
  EXPECT_EQ(with_band, polygons() + 1);
}

TEST_F(PlotTest, GivesANameOneColourWhateverItsNote) {
  const std::string commands =
      line_drawing({{.title = "a", .series = {{"softmax", {0, 1}, {1, 2}, {}, {}, "3 seeds"}}},
                    {.title = "b", .series = {{"softmax", {0, 1}, {1, 2}}}}},
                   2)
          .commands;
  EXPECT_NE(commands.find("title 'softmax, 3 seeds' with linespoints ls 1\n"), std::string::npos);
  EXPECT_NE(commands.find("title 'softmax' with linespoints ls 1\n"), std::string::npos);
}

TEST_F(PlotTest, PutsTheLegendWhereCurvesAreNot) {
  const auto legend = [](std::vector<double> x, std::vector<double> y, bool log = false) {
    return line_drawing({{.title = "a", .log_x = log, .log_y = log, .series = {{"softmax", x, y}}}},
                        1)
        .commands;
  };
  // Where a curve goes up and down everywhere, there is no such place within.
  std::vector<double> x, y;
  for (int i = 0; i < 20; ++i) {
    x.push_back(i);
    y.push_back(i % 2);
  }
  EXPECT_NE(legend(x, y).find("set key below "), std::string::npos);
  EXPECT_NE(legend({0, 1}, {1, 0}).find("set key inside vertical top right "), std::string::npos);
  EXPECT_NE(legend({0, 1}, {0, 1}).find("set key inside vertical bottom right "),
            std::string::npos);
  EXPECT_NE(legend({0, 0.1, 1}, {0, 1, 1}).find("set key inside vertical bottom right "),
            std::string::npos);
  EXPECT_NE(legend({0, 0.9, 1}, {0, 0, 1}).find("set key inside vertical top left "),
            std::string::npos);
  EXPECT_NE(legend({1, 10, 100}, {1, 10, 100}, true).find("set key inside vertical bottom right "),
            std::string::npos);
  // A curve that hugs the bottom does so no longer where both axes are logarithmic.
  EXPECT_NE(legend({1, 500, 1000}, {1, 50, 1000}).find("set key inside vertical top left "),
            std::string::npos);
  EXPECT_NE(
      legend({1, 500, 1000}, {1, 50, 1000}, true).find("set key inside vertical bottom right "),
      std::string::npos);
  EXPECT_NE(legend({0, 0, 1, 1}, {1, 0, 0, 1}).find("set key inside vertical top center "),
            std::string::npos);
}

TEST_F(PlotTest, RefusesAnotherKindOfFile) {
  try {
    line_plot(plot_, file("a.pdf"));
    FAIL() << "no error";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find(".svg"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("a.pdf"), std::string::npos);
  }
  EXPECT_EQ(files(), 0u);
}

TEST_F(PlotTest, MissingGnuplotNamesThePackage) {
  const std::string path = std::getenv("PATH");
  setenv("PATH", folder_.c_str(), 1);
  try {
    line_plot(plot_, file("a.svg"));
    ADD_FAILURE() << "no error";
  } catch (const WorkError& e) {
    EXPECT_NE(std::string(e.what()).find("gnuplot-nox"), std::string::npos);
  }
  setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(files(), 0u);
}

TEST_F(PlotTest, FailureLeavesNothing) {
  const std::string path = std::getenv("PATH");
  std::ofstream(file("gnuplot")) << "#!/bin/sh\necho cannot; exit 1\n";
  fs::permissions(file("gnuplot"), fs::perms::owner_all);
  setenv("PATH", folder_.c_str(), 1);
  EXPECT_THROW(line_plot(plot_, file("a.svg")), WorkError);
  setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(files(), 1u);  // the false gnuplot
}

}  // namespace
}  // namespace fastmax::app
