#include "app/heat_map.h"

#include <gtest/gtest.h>

#include <string>

namespace fastmax::app {
namespace {

// One weight of 1 among 99 small ones and many zeros: the small ones get the colours.
TEST(HeatMap, ColoursEndAtThe99thPercentileOfWhatIsNotZero) {
  HeatMap map{.title = "a map", .x_label = "key", .y_label = "query", .rows = {}};
  for (int n = 0; n < 20; ++n) map.rows.emplace_back(20, 0.0F);
  for (int i = 0; i < 99; ++i) map.rows[i / 20][i % 20] = 0.25F;
  map.rows[19][19] = 1;
  const Drawing drawing = heat_drawing({map, map}, 2, "data");
  EXPECT_NE(drawing.commands.find("set cbrange [0:0.25]"), std::string::npos);
  EXPECT_EQ(drawing.csv, "data");
  map.rows[0][0] = -0.5F;
  EXPECT_NE(heat_drawing({map}, 1, "").commands.find("set cbrange [-0.5:0.25]"), std::string::npos);
  EXPECT_NE(render(drawing, ".svg").find("a map"), std::string::npos);
}

}  // namespace
}  // namespace fastmax::app
