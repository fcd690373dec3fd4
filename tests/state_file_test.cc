// States in files: what is saved is loaded, damage is one error, and a failed save leaves nothing.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>

#include "fastmax/state.h"
#include "src/denominator.h"
#include "tests/problem.h"
#include "tests/states.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

struct File {
  std::string path = (std::filesystem::temp_directory_path() /
                      ("fastmax_state_test_" + std::to_string(getpid()) + ".safetensors"))
                         .string();
  ~File() { std::filesystem::remove(path); }
  std::string read() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& bytes) const {
    std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  }
};

template <class T>
void saved_is_loaded(Normalize normalize, bool coefficients) {
  File file;
  Problem<T> problem({.B = 2, .H = 4, .Hkv = 2, .N = 5, .M = 30, .D = 5, .E = 3, .p = 3});
  problem.base.normalize = normalize;
  problem.base.scale = 0.1 + 1e-17;
  if (coefficients) problem.base.coefficients = {{1, 0.1, 1.0 / 3, 0.2, 0}};
  const State<T> state = some_state(problem);
  state.save(file.path);
  const State<T> loaded = State<T>::load(file.path);
  ASSERT_EQ(loaded.view().size(), state.view().size());
  EXPECT_EQ(std::memcmp(loaded.view().data, state.view().data, state.view().size() * sizeof(T)), 0);
  EXPECT_EQ(loaded.count(), 30);
  EXPECT_EQ(loaded.D(), 5);
  EXPECT_EQ(loaded.view().B, 2);
  EXPECT_EQ(loaded.view().H, 2);
  EXPECT_EQ(loaded.view().E, 3);
  EXPECT_EQ(loaded.options().p, 3);
  EXPECT_EQ(loaded.options().normalize, normalize);
  EXPECT_EQ(loaded.options().scale, state.options().scale);
  EXPECT_EQ(loaded.options().coefficients.has_value(), coefficients);
  for (int l = 0; coefficients && l <= 3; ++l)
    EXPECT_EQ((*loaded.options().coefficients)[l], (*problem.base.coefficients)[l]);
  Tensor<T> a = Tensor<T>::nan(problem.d_o.s), b = a;
  Problem<T> asks = problem;
  state.query(std::as_const(asks.q).view(), a.view());
  loaded.query(std::as_const(asks.q).view(), b.view());
  EXPECT_TRUE(same_bits(a, b));
  State<T> sum = loaded;  // it adds up with what it was saved from
  sum += state;
  EXPECT_EQ(sum.count(), 60);
}
TEST(StateFile, SavedIsLoaded) {
  for (const Normalize normalize : {Normalize::kStandardize, Normalize::kL2, Normalize::kNone})
    for (const bool coefficients : {false, true}) {
      saved_is_loaded<float>(normalize, coefficients);
      saved_is_loaded<double>(normalize, coefficients);
    }
}

// A state that was loaded answers as the one it was saved from, also where a denominator is at its floor.
TEST(StateFile, LoadedClampsAsSaved) {
  File file;
  Problem<float> problem({.N = 1, .M = 1, .D = 6, .E = 3, .p = 1});
  problem.base = {};
  problem.k = problem.q;
  problem.k.for_each([](float& x) { x *= -1e4f; });
  const State<float> state = some_state(problem);
  state.save(file.path);
  Tensor<float> a = Tensor<float>::nan(problem.d_o.s), b = a;
  const Report report = state.query(std::as_const(problem.q).view(), a.view());
  EXPECT_LE(report.smallest_denominator, kDenominatorFloor<float>);
  State<float>::load(file.path).query(std::as_const(problem.q).view(), b.view());
  EXPECT_TRUE(same_bits(a, b));
}

// Of coefficients only c_0 .. c_p are saved, and only they count.
TEST(StateFile, LoadedAddsUpWhateverStandsBehindTheCoefficients) {
  File file;
  Problem<float> problem({.N = 1, .M = 4});
  problem.base.coefficients = {{1, 0.5, 0.25, 7, 8}};
  State<float> state = some_state(problem);
  state.save(file.path);
  EXPECT_NO_THROW(state += State<float>::load(file.path));
  EXPECT_EQ(state.count(), 8);
}

// The layout others read: eight bytes of length, JSON, the numbers.
TEST(StateFile, IsReadableSafetensors) {
  File file;
  Problem<float> problem({.N = 1, .M = 4, .D = 2, .E = 1});
  const State<float> state = some_state(problem);
  state.save(file.path);
  const std::string bytes = file.read();
  std::uint64_t length = 0;
  ASSERT_GE(bytes.size(), 8u);
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ((8 + length) % 8, 0u);
  ASSERT_EQ(bytes.size(), 8 + length + state.view().size() * 4);
  std::string header = bytes.substr(8, length);
  header.erase(header.find_last_not_of(' ') + 1);
  EXPECT_EQ(header,
            R"({"__metadata__":{"D":"2","E":"1","count":"4","normalize":"standardize","order":"2",)"
            R"("scale":"1"},"state":{"dtype":"F32","shape":[1,1,6,2],"data_offsets":[0,48]}})");
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + length, state.view().data, 48), 0);
  // Row 0 is the constant's: the sum of the values, and the number of the keys.
  double sum = 0;
  for (std::int64_t m = 0; m < 4; ++m) sum += problem.v.view().head(0, 0)[m][0];
  EXPECT_NEAR(state.view().data[0], sum, 1e-5);
  EXPECT_EQ(state.view().data[1], 4);
}

/// One Error of one line that names the file.
void refuses(const File& file, const std::string& about) {
  try {
    State<float>::load(file.path);
    ADD_FAILURE() << "loads what is damaged: " << about;
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find(file.path), std::string::npos) << what;
    EXPECT_NE(what.find(about), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
}

TEST(StateFile, DamageIsSaid) {
  File file;
  Problem<float> problem({.N = 1, .M = 4, .D = 2, .E = 1});
  some_state(problem).save(file.path);
  const std::string good = file.read();
  std::uint64_t length = 0;
  std::memcpy(&length, good.data(), 8);
  const auto with_header = [&](const std::function<void(std::string&)>& change) {
    std::string header = good.substr(8, length);
    change(header);
    const std::uint64_t size = header.size();
    file.write(std::string(reinterpret_cast<const char*>(&size), 8) + header +
               good.substr(8 + length));
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    with_header([&](std::string& header) {
      ASSERT_NE(header.find(from), std::string::npos) << from;
      header.replace(header.find(from), from.size(), to);
    });
  };
  file.write("");
  refuses(file, "safetensors");
  file.write(good.substr(0, 5));
  refuses(file, "safetensors");
  file.write(good.substr(0, 8 + length / 2));
  refuses(file, "truncated");
  file.write(good.substr(0, good.size() - 1));
  refuses(file, "bytes of data");
  file.write(good + "x");
  refuses(file, "more");
  file.write("a text file, and a long one");
  refuses(file, "safetensors");
  replaced("F32", "F16");
  refuses(file, "dtype");
  replaced("[1,1,6,2]", "[1,1,3,4]");
  refuses(file, "E == 3");
  replaced("[1,1,6,2]", "[1,2,3,2]");
  refuses(file, "C(D + p, p)");
  replaced("[1,1,6,2]", "[1,6,2]");
  refuses(file, "dimensions");
  replaced("[0,48]", "[0,40]");
  refuses(file, "data_offsets");
  replaced("\"D\":\"2\"", "\"D\":\"3\"");
  refuses(file, "C(D + p, p)");
  replaced("\"D\":\"2\"", "\"D\":\"two\"");
  refuses(file, "'D'");
  replaced("\"D\":\"2\",", "");
  refuses(file, "'D'");
  replaced("\"E\":\"1\"", "\"E\":\"2\"");
  refuses(file, "E == 1");
  replaced("standardize", "max_norm");
  refuses(file, "normalize");
  replaced("\"order\":\"2\"", "\"order\":\"9\"");
  refuses(file, "order in 1..4");
  replaced("\"scale\":\"1\"", "\"scale\":\"-1\"");
  refuses(file, "scale");
  replaced("\"count\":\"4\"", "\"count\":\"-4\"");
  refuses(file, "count");
  replaced("\"state\"", "\"weights\"");
  refuses(file, "'state'");
  with_header([](std::string& header) { header[0] = '['; });
  refuses(file, "'{'");
  file.write(good);
  EXPECT_NO_THROW(State<float>::load(file.path));
  EXPECT_THROW(State<double>::load(file.path), Error);
}

TEST(StateFile, WhatCannotBeOpenedIsSaid) {
  Problem<float> problem({.N = 1, .M = 4});
  EXPECT_THROW(State<float>::load("/nowhere/at/all"), std::runtime_error);
  EXPECT_THROW(some_state(problem).save("/nowhere/at/all"), std::runtime_error);
}

/// Nothing half-written: neither the name nor a temporary one.
TEST(StateFile, FailedSavesLeaveNothing) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("fastmax_state_folder_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder / "target" / "inside");  // a folder cannot be replaced
  Problem<float> problem({.N = 1, .M = 4});
  EXPECT_THROW(some_state(problem).save((folder / "target").string()), std::runtime_error);
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++entries;
  EXPECT_EQ(entries, 1);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace fastmax
