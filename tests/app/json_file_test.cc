#include "app/json_file.h"

#include <gtest/gtest.h>

#include "app/error.h"

namespace fastmax::app {
namespace {

using Json = nlohmann::ordered_json;

std::string complaint(const std::string& bytes, const Json& form) {
  try {
    parse_json(bytes, "f.json", form);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "nothing";
}

TEST(JsonFile, HasTheKindsOfItsForm) {
  const Json form = {
      {"name", ""}, {"count", 0}, {"rate", 0.5}, {"learnt", false}, {"loss", nullptr}};
  const auto with = [&](const std::string& key, const std::string& value) {
    Json json = {{"name", "a"},    {"count", 1}, {"rate", 2},
                 {"learnt", true}, {"loss", 3},  {"more", {}}};
    json[key] = Json::parse(value);
    return complaint(json.dump(), form);
  };
  EXPECT_EQ(with("rate", "0.5"), "nothing");
  EXPECT_EQ(with("loss", "null"), "nothing");
  EXPECT_EQ(with("name", "7"), "f.json: name: expected a string, got 7");
  EXPECT_EQ(with("count", "1.5"), "f.json: count: expected a whole number, got 1.5");
  EXPECT_EQ(with("rate", "\"fast\""), "f.json: rate: expected a number, got \"fast\"");
  EXPECT_EQ(with("rate", "null"), "f.json: rate: expected a number, got null");
  EXPECT_EQ(with("learnt", "[]"), "f.json: learnt: expected true or false, got a list");
  EXPECT_EQ(with("loss", "{}"), "f.json: loss: expected a number or null, got an object");
  EXPECT_EQ(complaint("[]", form), "f.json: expected an object, got a list");
}

TEST(JsonFile, HasTheKeysOfItsForm) {
  const Json form = {{"rows", {{{"name", ""}}}}, {"shares?", {{"*", 0.5}}}};
  EXPECT_EQ(complaint(R"({"rows": []})", form), "nothing");
  EXPECT_EQ(complaint(R"({"rows": [{"name": "a"}], "shares": {"x": 1}})", form), "nothing");
  EXPECT_EQ(complaint("{}", form), "f.json: rows: expected a list, got nothing");
  EXPECT_EQ(complaint(R"({"rows": [{"name": "a"}, {}]})", form),
            "f.json: rows.1.name: expected a string, got nothing");
  EXPECT_EQ(complaint(R"({"rows": [], "shares": {"x": 1, "y": true}})", form),
            "f.json: shares.y: expected a number, got true");
}

TEST(JsonFile, IsJson) {
  for (const std::string bytes : {"", "{", "{\"a\": 1e999}", "{\"a\": \"\xFF\"}"}) {
    EXPECT_EQ(complaint(bytes, Json::object()).rfind("f.json: expected JSON, got ", 0), 0u)
        << bytes;
  }
  EXPECT_NE(complaint("{\n\"a\": ,", Json::object()).find("line 2, column 6"), std::string::npos);
}

}  // namespace
}  // namespace fastmax::app
