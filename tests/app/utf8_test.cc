#include "app/utf8.h"

#include <gtest/gtest.h>

namespace fastmax::app {
namespace {

std::string filtered(const std::string& bytes) {
  Utf8Filter filter;
  std::string out;
  for (const char byte : bytes) out += filter.feed(byte);
  return out + filter.finish();
}

TEST(Utf8, LeavesTextAlone) {
  const std::string text = "plain, na\u00EFve, \u20AC, \U0001F600, \uD7FF\uE000\uFFFD\U0010FFFF";
  EXPECT_EQ(filtered(text), text);
  EXPECT_TRUE(is_utf8(text));
  EXPECT_FALSE(is_utf8(text + "\xC3"));
}

TEST(Utf8, ReplacesTheRest) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(filtered("a\x80z"), "a" + r + "z");
  EXPECT_EQ(filtered("a\xC3"), "a" + r);
  EXPECT_EQ(filtered("\xC3("), r + "(");
  EXPECT_EQ(filtered("\xE2\x82z"), r + "z");
  EXPECT_EQ(filtered("\xC0\xAF"), r + r);                  // an overlong slash
  EXPECT_EQ(filtered("\xED\xA0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(filtered("\xF4\x90\x80\x80"), r + r + r + r);  // beyond the last character
  EXPECT_EQ(filtered("\xE2\xC3\xA9"), r + "\u00E9");
}

}  // namespace
}  // namespace fastmax::app
