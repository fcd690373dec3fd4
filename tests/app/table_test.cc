#include "app/table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fastmax::app {
namespace {

Table sample() {
  Table table({{"method", Align::kLeft}, {"N"}, {"note", Align::kLeft}});
  table.row({"fastmax2", "64µ", "µ|x"}).rule().row({"sdpa", "256", ""}, Tone::kBad);
  return table;
}

TEST(Table, AlignsColumnsByWhatTheEyeSees) {
  EXPECT_EQ(sample().terminal(/*colour=*/false),
            "method      N  note\n"
            "───────────────────\n"
            "fastmax2  64µ  µ|x\n"
            "───────────────────\n"
            "sdpa      256  \n");
}

TEST(Table, ColoursWholeLinesAndOnlyWhenAsked) {
  const std::string text = sample().terminal(/*colour=*/true);
  EXPECT_NE(text.find("\033[1mmethod      N  note\033[0m"), std::string::npos);
  EXPECT_NE(text.find("\033[31msdpa      256  \033[0m"), std::string::npos);
  EXPECT_EQ(sample().terminal(false).find('\033'), std::string::npos);
}

TEST(Table, MarkdownEscapesBarsAndAlignsNumbers) {
  EXPECT_EQ(sample().markdown(),
            "| method | N | note |\n"
            "| --- | ---: | --- |\n"
            "| fastmax2 | 64µ | µ\\|x |\n"
            "| sdpa | 256 |  |\n");
}

TEST(Table, RefusesARowOfAnotherWidth) {
  Table table({{"a"}, {"b"}});
  EXPECT_THROW(table.row({"1"}), std::invalid_argument);
  EXPECT_TRUE(table.empty());
}

TEST(ShortNumber, KeepsThreeDigits) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(0.012345), "0.0123");
  EXPECT_EQ(short_number(1.2345), "1.23");
  EXPECT_EQ(short_number(-12.345), "-12.3");
  EXPECT_EQ(short_number(9.999), "10.0");
  EXPECT_EQ(short_number(123456), "123456");
  EXPECT_EQ(short_number(1.5e-9), "1.50e-09");
  EXPECT_EQ(short_number(NAN), "nan");
}

TEST(ShortBytes, CountsInPowersOf1024) {
  EXPECT_EQ(short_bytes(960), "960 B");
  EXPECT_EQ(short_bytes(1024), "1 KiB");
  EXPECT_EQ(short_bytes(1536), "1.50 KiB");
  EXPECT_EQ(short_bytes(std::pow(2.0, 31)), "2 GiB");
}

TEST(ShortSeconds, PicksTheUnit) {
  EXPECT_EQ(short_seconds(8.53e-7), "853 ns");
  EXPECT_EQ(short_seconds(1.25e-3), "1.25 ms");
  EXPECT_EQ(short_seconds(12.34), "12.3 s");
  EXPECT_EQ(short_seconds(245), "4 min 05 s");
  EXPECT_EQ(short_seconds(3725), "1 h 02 min");
}

TEST(ShortLength, NamesMultiplesOf1024) {
  EXPECT_EQ(short_length(0), "0");
  EXPECT_EQ(short_length(256), "256");
  EXPECT_EQ(short_length(65536), "64k");
  EXPECT_EQ(short_length(1 << 20), "1M");
  EXPECT_EQ(short_length(1000000), "1000000");
}

}  // namespace
}  // namespace fastmax::app
