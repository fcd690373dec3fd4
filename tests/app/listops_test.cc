#include "app/listops.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "app/error.h"
#include "app/files.h"
#include "app/listops_data.h"

namespace fastmax::app::listops {
namespace {
namespace fs = std::filesystem;

class ListopsFiles : public testing::Test {
 protected:
  ListopsFiles() {
    folder_ = fs::temp_directory_path() / ("fastmax-listops-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~ListopsFiles() override { fs::remove_all(folder_); }

  // What reading a file with these bytes complains about, without the path.
  std::string complaint(const std::string& bytes) {
    const fs::path file = folder_ / "damaged.tsv";
    write_file(file, bytes);
    try {
      read_tsv(file, 100);
      return "nothing";
    } catch (const UsageError& e) {
      const std::string what = e.what();
      EXPECT_EQ(what.rfind(file.string(), 0), 0u) << what;
      return what.substr(file.string().size());
    }
  }
  fs::path folder_;
};

constexpr const char* kFolded = "( ( ( ( [MAX 4 ) ( ( ( [MIN 2 ) 3 ) ] ) ) 1 ) ] )";
constexpr const char* kReadable = "[MAX 4 [MIN 2 3 ] 1 ]";

TEST(Listops, KnowsTheArenasText) {
  const auto tokens = from_text(kFolded);
  EXPECT_EQ(readable(tokens), kReadable);
  EXPECT_EQ(to_text(tokens), kFolded);
  EXPECT_EQ(to_text(from_text("7")), "7");
}

TEST(Listops, Evaluates) {
  const auto value = [](const char* text) { return evaluate(from_text(text)); };
  EXPECT_EQ(value("[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]"), 5);
  EXPECT_EQ(value("[MED 1 4 ]"), 2);  // floor of 2.5
  EXPECT_EQ(value("[MED 9 0 4 ]"), 4);
  EXPECT_EQ(value("[SM 9 8 7 ]"), 4);
  EXPECT_EQ(value("[MIN 9 8 ]"), 8);
  for (const char* broken : {"", "[MAX 1 2", "[MAX ]", "1 2", "]", "[MAX 1 ] ]", "1 [MAX 2 ]"}) {
    EXPECT_EQ(value(broken), -1) << broken;
  }
  EXPECT_THROW(from_text("[AVG 1 2 ]"), std::invalid_argument);
}

TEST(Listops, TreesPassAndAreDifferentAndFollowTheSeed) {
  for (const Options& options : {lra(), short_trees()}) {
    Generator one(options), same(options);
    Options changed = options;
    changed.seed = 1;
    Generator other(changed);
    std::set<std::string> seen;
    int equal_to_other = 0;
    for (int i = 0; i < 200; ++i) {
      const auto tokens = one.next();
      EXPECT_GT(static_cast<int>(tokens.size()), options.min_length);
      EXPECT_LT(static_cast<int>(tokens.size()), options.max_length);
      const int value = evaluate(tokens);
      EXPECT_TRUE(value >= 0 && value <= 9);
      const std::string tree = to_text(tokens);
      EXPECT_TRUE(seen.insert(tree).second);
      EXPECT_EQ(to_text(from_text(tree)), tree);
      EXPECT_EQ(tree, to_text(same.next()));
      equal_to_other += tree == to_text(other.next());
    }
    EXPECT_EQ(equal_to_other, 0);
  }
}

TEST(Listops, RunsOutOfTreesWithAWord) {
  // max_depth 2, two arguments: 4 operators x 10 x 10 trees of length 4.
  Generator generator({.max_depth = 2, .max_args = 2, .min_length = 3, .max_length = 5});
  for (int i = 0; i < 400; ++i) generator.next();
  EXPECT_THROW(generator.next(), UsageError);
  EXPECT_THROW(Generator({.min_length = 5, .max_length = 6}), UsageError);
}

// The published set's figures, which another implementation's 1,000 trees gave too; spreads are for
// 3,000.
TEST(Listops, HasTheArenasStatistics) {
  Generator generator(lra());
  Examples examples;
  for (int i = 0; i < 3000; ++i) {
    const auto tokens = generator.next();
    examples.add(tokens, evaluate(tokens));
  }
  const Statistics s = statistics({&examples});
  EXPECT_EQ(s.examples, 3000);
  EXPECT_NEAR(static_cast<double>(generator.draws()) / 3000, 12.2, 0.7);
  EXPECT_NEAR(s.mean, 1046, 40);
  EXPECT_NEAR(static_cast<double>(s.median), 971, 50);
  EXPECT_NEAR(static_cast<double>(s.p90), 1649, 60);
  EXPECT_NEAR(s.tokens[kEnd], 0.142, 0.002);
  EXPECT_NEAR(s.tokens[1], 0.0715, 0.002);
  EXPECT_NEAR(s.tokens[kMin], 0.0355, 0.002);
  EXPECT_NEAR(s.labels[0], 0.174, 0.025);
  EXPECT_NEAR(s.labels[9], 0.167, 0.025);
  EXPECT_NEAR(s.majority, 0.174, 0.025);
  EXPECT_NEAR(s.root_operator, 0.366, 0.03);
}

TEST_F(ListopsFiles, MakesAndReadsBack) {
  Options options = short_trees();
  options.train = 300;
  options.val = 20;
  options.test = 10;
  const fs::path made = folder_ / "deep" / "set";
  const auto description = make(options, made, [](auto) {});
  EXPECT_EQ(description.at("statistics").at("examples"), 330);
  EXPECT_EQ(make(options, made, [](auto) {}), description);
  options.seed = 1;
  EXPECT_THROW(make(options, made, [](auto) {}), UsageError);

  const Examples train = read_tsv(made / kFiles[0], 64), val = read_tsv(made / kFiles[1], 64);
  EXPECT_EQ(train.size(), 300);
  EXPECT_EQ(val.size(), 20);
  EXPECT_EQ(read_tsv(made / kFiles[2], 64).size(), 10);
  Generator generator(short_trees());
  for (std::int64_t i = 0; i < train.size(); ++i) {
    EXPECT_EQ(readable(train[i]), readable(generator.next()));
    EXPECT_EQ(train.labels[i], evaluate(train[i]));
  }
  const std::string bytes = read_file(made / kFiles[0], "a file");
  EXPECT_EQ(bytes.rfind("Source\tTarget\r\n", 0), 0u);
  EXPECT_EQ(bytes.substr(bytes.size() - 2), "\r\n");
}

TEST_F(ListopsFiles, TwoProcessesDoNotCollide) {
  Options options = short_trees();
  options.train = 2000;
  options.val = options.test = 10;
  const fs::path made = folder_ / "set";
  // The one makes it; the other is refused, or comes late and finds it.
  const auto work = [&] {
    try {
      make(options, made, [](auto) {});
    } catch (const UsageError& e) {
      return std::string(e.what()).find("another process holds") == std::string::npos;
    }
    return false;
  };
  const pid_t child = fork();
  if (child == 0) _exit(work());
  EXPECT_FALSE(work());
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_tsv(made / kFiles[0], 64).size(), 2000);
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_EQ(names, (std::set<std::string>{".set.lock", "set"}));
}

TEST_F(ListopsFiles, DamageIsNamedByLineAndByte) {
  const std::string header = "Source\tTarget\r\n", good = std::string(kFolded) + "\t4\r\n";
  const std::string third = ":3: byte " + std::to_string(header.size() + good.size());
  EXPECT_EQ(complaint(header + good), "nothing");
  EXPECT_EQ(complaint(""), ":1: byte 0: expected a whole line, the file ends inside it");
  EXPECT_EQ(complaint(good), ":1: byte 0: expected the header Source<tab>Target");
  EXPECT_EQ(complaint(header + good + "[MAX 1 2 ]\t2"),
            third + ": expected a whole line, the file ends inside it");
  EXPECT_EQ(complaint(header + "[MAX 1 2 ] 2\r\n"),
            ":2: byte 15: expected SOURCE<tab>TARGET, got no tab");
  EXPECT_EQ(complaint(header + "[MAX 1 2 ]\tx\r\n"),
            ":2: byte 15: expected a target from 0 to 9, got \"x\"");
  EXPECT_EQ(complaint(header + good + "[MAX 1 2 ]\t1\n"),
            third + ": expected the target 2 (its value), got 1");
  EXPECT_EQ(complaint(header + "[MAX 1 2\t2\n"),
            ":2: byte 15: expected one complete expression, its brackets do not match");
  EXPECT_EQ(complaint(header + "[MAX 1 two ]\t2\n"),
            ":2: byte 15: expected a digit, [MIN, [MAX, [MED, [SM or ], got \"two\"");
  std::string longer = "[SM";
  for (int i = 0; i < 100; ++i) longer += " 0";
  EXPECT_EQ(complaint(header + longer + " ]\t0\n"),
            ":2: byte 15: expected at most data.length = 100 tokens, got 102");
  EXPECT_THROW(read_tsv(folder_ / "absent.tsv", 64), UsageError);
}

// A thousand trees by an independent implementation, checked against the Arena's own functions.
TEST(Listops, ReadsAnotherGeneratorsFile) {
  const char* shared = std::getenv("FASTMAX_SHARED_DATA");
  const fs::path archive =
      fs::path(shared ? shared : "") / "listops" / "listops_lra_sample_1000.tsv.xz";
  if (!shared || !fs::exists(archive)) GTEST_SKIP() << "FASTMAX_SHARED_DATA has no sample";
  const fs::path file =
      fs::temp_directory_path() / ("fastmax-sample-" + std::to_string(getpid()) + ".tsv");
  const std::string unpack = "xz -dc '" + archive.string() + "' > '" + file.string() + "'";
  ASSERT_EQ(std::system(unpack.c_str()), 0);
  const Examples examples = read_tsv(file, 2000);
  fs::remove(file);
  EXPECT_EQ(examples.size(), 1000);
  const Statistics s = statistics({&examples});
  EXPECT_NEAR(s.mean, 1046, 2);
  EXPECT_NEAR(s.majority, 0.174, 0.03);
  EXPECT_NEAR(s.root_operator, 0.366, 0.03);
}

}  // namespace
}  // namespace fastmax::app::listops
