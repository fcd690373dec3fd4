#include "app/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "app/error.h"
#include "app/files.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsTest()
      : file_(fs::temp_directory_path() /
              ("fastmax-" + std::to_string(getpid()) + ".safetensors")) {}
  ~SafetensorsTest() override { fs::remove(file_); }

  std::string complaint(const std::string& bytes) {
    write_file(file_, bytes);
    try {
      Safetensors{file_};
      return "nothing";
    } catch (const UsageError& e) {
      return e.what();
    }
  }
  static std::string with_header(std::string header, const std::string& data) {
    std::string length(8, '\0');
    for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
    return length + header + data;
  }

  const std::vector<float> a_ = {1.5f, -2, 3, 4, 5, 6};
  const std::vector<std::int64_t> b_ = {1, -(std::int64_t{1} << 40)};
  fs::path file_;
};

TEST_F(SafetensorsTest, ReadsBackWhatItWrote) {
  write_safetensors(file_,
                    {{"a", "F32", {2, 3}, std::as_bytes(std::span(a_))},
                     {"none", "F32", {0, 4}, {}},
                     {"b", "I64", {2}, std::as_bytes(std::span(b_))}},
                    {{"step", "12"}});
  const Safetensors file(file_);
  const Array& a = file.get("a", "F32", {2, 3});
  EXPECT_EQ(0, std::memcmp(a.bytes.data(), a_.data(), a.bytes.size()));
  const Array& b = file.get("b", "I64", {2});
  EXPECT_EQ(0, std::memcmp(b.bytes.data(), b_.data(), b.bytes.size()));
  EXPECT_EQ(file.get("none", "F32", {0, 4}).bytes.size(), 0u);
  EXPECT_EQ(file.note("step"), "12");
  EXPECT_THROW(file.get("c", "F32", {1}), UsageError);
  EXPECT_THROW(file.get("a", "F32", {3, 2}), UsageError);
  EXPECT_THROW(file.get("a", "F64", {2, 3}), UsageError);
  EXPECT_THROW(file.note("seed"), UsageError);
}

TEST_F(SafetensorsTest, EveryTruncationIsRefused) {
  write_safetensors(file_, {{"a", "F32", {2, 3}, std::as_bytes(std::span(a_))}});
  const std::string whole = read_file(file_, "a file");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(complaint(whole.substr(0, size)), "nothing") << size;
  }
  EXPECT_NE(complaint(whole + "x"), "nothing");
  EXPECT_EQ(complaint(whole), "nothing");
}

TEST_F(SafetensorsTest, NonsenseIsRefused) {
  const std::string four(4, 'x');
  const auto entry = [](const char* shape, const char* offsets, const char* dtype = "F32") {
    return std::string("{\"a\":{\"dtype\":\"") + dtype + "\",\"shape\":" + shape +
           ",\"data_offsets\":" + offsets + "}}";
  };
  EXPECT_EQ(complaint(with_header(entry("[1]", "[0,4]"), four)), "nothing");
  for (const std::string& header :
       {std::string("not json"), std::string("[]"), std::string("{\"a\":{}}"),
        entry("[2]", "[0,4]"), entry("[1]", "[0,4]", "F31"), entry("[-1]", "[0,4]"),
        entry("[1]", "[4,0]"), entry("[1]", "[4,8]"), entry("[1]", "[0]"), entry("1", "[0,4]"),
        entry("[4611686018427387905]", "[0,4]"),  // wraps around to 4 bytes
        entry("[4294967296,4294967296,1]", "[0,4]")}) {
    EXPECT_NE(complaint(with_header(header, four)), "nothing") << header;
  }
  EXPECT_THROW(Safetensors("/nowhere/a.safetensors"), UsageError);
}

}  // namespace
}  // namespace fastmax::app
