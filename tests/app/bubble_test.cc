#include "app/bubble.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <vector>

namespace fastmax::app {
namespace {

TEST(Bubble, LabelsStandAboveAndWhereTwoWouldMeetElsewhere) {
  const std::vector<Bubble> bubbles = {
      {.name = "a", .label = "informer, 40.8 MiB", .x = 1.9, .y = 57.7, .area = 40.8},
      {.name = "b", .label = "fastmax1, 40.3 MiB", .x = 2.5, .y = 57.3, .area = 40.3},
      {.name = "c", .label = "reformer, 302 MiB", .x = 0.35, .y = 51.3, .area = 302}};
  const std::string commands = bubble_drawing("", "", "", "", bubbles).commands;
  const std::regex offset("offset ([-.0-9]+),([-.0-9]+)");
  std::vector<double> y;
  for (std::sregex_iterator it(commands.begin(), commands.end(), offset), end; it != end; ++it) {
    y.push_back(std::stod((*it)[2]));
  }
  ASSERT_EQ(y.size(), 3);
  EXPECT_GT(y[0], 0);
  EXPECT_LT(y[1], 0);  // b's would meet a's above it
  EXPECT_GT(y[2], y[0]);
}

}  // namespace
}  // namespace fastmax::app
