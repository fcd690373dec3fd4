#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/image_task.h"
#include "app/retrieval_task.h"
#include "app/text_task.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;

std::string complaint(const std::function<void()>& work) {
  try {
    work();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "nothing";
}

std::string four_bytes(int value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}

class ReadersTest : public testing::Test {
 protected:
  ReadersTest()
      : folder_(fs::temp_directory_path() / ("fastmax-readers-" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~ReadersTest() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_ / name).parent_path());
    write_file(folder_ / name, bytes);
  }
  // Says where and what, after the folder's name.
  void expect(const std::string& complaint, const std::string& start, const std::string& part) {
    EXPECT_EQ(complaint.rfind((folder_ / start).string(), 0), 0u) << complaint;
    EXPECT_NE(complaint.find(part), std::string::npos) << complaint;
  }
  Recipe recipe(const std::string& task, const std::vector<std::string>& settings = {}) {
    std::vector<std::string> all = {"data.path=" + folder_.string(), "train.batch=2"};
    all.insert(all.end(), settings.begin(), settings.end());
    return parse_recipe("task = \"" + task + "\"\n", "r.toml", all);
  }

  // Image i is all grey level i, its label i % 10.
  void write_cifar() {
    const auto file = [&](const std::string& name, int first, int count) {
      std::string bytes;
      for (int i = first; i < first + count; ++i) {
        bytes += static_cast<char>(i % 10) + std::string(3072, static_cast<char>(i));
      }
      write("cifar-10-batches-bin/" + name + ".bin", bytes);
    };
    for (int i = 0; i < 5; ++i) file("data_batch_" + std::to_string(i + 1), 4 * i, 4);
    file("test_batch", 200, 3);
  }
  // Pixel j of image i is (i + j) % 256.
  void write_mnist(int train = 20, int test = 3) {
    for (const auto& [name, count] : {std::pair("train", train), std::pair("t10k", test)}) {
      std::string images = four_bytes(0x803) + four_bytes(count) + four_bytes(28) + four_bytes(28);
      std::string labels = four_bytes(0x801) + four_bytes(count);
      for (int i = 0; i < count; ++i) {
        for (int j = 0; j < 784; ++j) images += static_cast<char>(i + j);
        labels += static_cast<char>(i % 10);
      }
      write(std::string(name) + "-images-idx3-ubyte", images);
      write(std::string(name) + "-labels-idx1-ubyte", labels);
    }
  }
  void write_imdb() {
    for (const std::string part : {"train", "test"}) {
      for (int i = 0; i < 20; ++i) {
        const std::string id = std::to_string(i);
        write("aclImdb/" + part + "/neg/" + id + "_1.txt", "bad " + id);
        write("aclImdb/" + part + "/pos/" + id + "_10.txt", "a good film, " + id);
      }
    }
  }
  void write_papers(const std::string& train) {
    write("new_aan_pairs.train.tsv", train);
    write("new_aan_pairs.eval.tsv", "1.0\tA\tB\talpha\tbeta\n");
    write("new_aan_pairs.test.tsv", "0.0\tB\tC\tbeta\tgamma!\n1\tC\tA\tgamma!\talpha\n");
  }
  fs::path folder_;
};

constexpr const char* kPairs =
    "1.0\tA\tB\talpha\tbeta\n0.0\tA\tC\talpha\tgamma!\n0\tC\tB\tgamma!\tbeta\n";

TEST(GreyLevel, OfGreyIsThatGrey) {
  for (int level = 0; level < 256; ++level) EXPECT_EQ(grey_level(level, level, level), level);
  // .2989 255.5, .5870 255.5, .1140 255.5: of each colour alone, cut off.
  EXPECT_EQ(grey_level(255, 0, 0), 76);
  EXPECT_EQ(grey_level(0, 255, 0), 149);
  EXPECT_EQ(grey_level(0, 0, 255), 29);
}

TEST_F(ReadersTest, Cifar10HasItsTenthForValidation) {
  write_cifar();
  const Parts parts = read_cifar10(folder_);
  EXPECT_EQ(parts.train.size(), 18);
  EXPECT_EQ(parts.val.size(), 2);
  EXPECT_EQ(parts.test.size(), 3);
  EXPECT_EQ(parts.val.labels[1], 9);
  EXPECT_EQ(parts.val[1].size(), 1024u);
  EXPECT_EQ(parts.val[1][1023], 19);
  EXPECT_EQ(parts.test[2][0], 202);
}

TEST_F(ReadersTest, DamagedCifar10NamesFileAndByte) {
  write_cifar();
  const std::string file = "cifar-10-batches-bin/data_batch_3.bin";
  std::string bytes = read_file(folder_ / file, "");
  write(file, bytes.substr(0, bytes.size() - 1));
  expect(complaint([&] { read_cifar10(folder_); }), file + ": byte 9219: ", "3073 bytes, got 3072");
  bytes[3073] = 10;
  write(file, bytes);
  expect(complaint([&] { read_cifar10(folder_); }), file + ": byte 3073: ", "from 0 to 9, got 10");
  fs::remove(folder_ / file);
  EXPECT_NE(complaint([&] { read_cifar10(folder_); }).find("data_batch_3.bin"), std::string::npos);
}

TEST_F(ReadersTest, MnistIsReadAsPixelsAndAsPatches) {
  write_mnist();
  const auto pixels = load_task(recipe("mnist"))->evaluation(Split::kTest, 0);
  EXPECT_EQ(pixels[0].N, 784);
  EXPECT_EQ(pixels[0].tokens[784 + 5], 6);  // the second image's
  const Recipe in_patches = recipe("mnist", {"data.patch=4"});
  EXPECT_EQ(in_patches.data.length, 49);
  const auto patches = load_task(in_patches)->evaluation(Split::kTest, 0);
  EXPECT_EQ(patches[0].N, 49);
  EXPECT_TRUE(patches[0].tokens.empty());
  // Patch 8 is the second of the second row; its value 6 the third pixel of its second row.
  const int row = 4 + 1, column = 4 + 2;
  EXPECT_FLOAT_EQ(patches[0].values[8 * 16 + 6], float((row * 28 + column) % 256) / 255);
  EXPECT_EQ(to_tensors(patches[0]).tokens.sizes(), (std::vector<std::int64_t>{2, 49, 16}));
}

TEST_F(ReadersTest, DamagedMnistNamesFileAndByte) {
  write_mnist();
  const std::string images = "train-images-idx3-ubyte", labels = "train-labels-idx1-ubyte";
  const std::string good_images = read_file(folder_ / images, ""),
                    good_labels = read_file(folder_ / labels, "");
  const auto with = [&](const std::string& file, const std::string& bytes) {
    write_mnist();
    write(file, bytes);
    return complaint([&] { read_mnist(folder_); });
  };
  const auto changed = [](std::string bytes, int at, char to) {
    bytes[at] = to;
    return bytes;
  };
  expect(with(images, good_images.substr(0, 10)), images + ": byte 10: ", "header of 16 bytes");
  expect(with(images, changed(good_images, 3, 4)), images + ": byte 0: ", "2051, got 2052");
  expect(with(images, changed(good_images, 15, 27)), images + ": byte 12: ", "28, got 27");
  expect(with(images, good_images.substr(0, 1000)), images + ": byte 1000: ", "15696 bytes");
  expect(with(images, good_images + "x"), images + ": byte 15696: ", "got 15697");
  expect(with(labels, changed(good_labels, 9, 11)), labels + ": byte 9: ", "got 11");
  expect(with(labels, four_bytes(0x801) + four_bytes(1) + "x"), labels + ": byte 4: ", "20 labels");
}

TEST_F(ReadersTest, BlackPixelsAreMaskedWhereAskedFor) {
  write_cifar();
  const auto weights = [&](const std::string& mask) {
    const auto task = load_task(recipe("image", {"data.mask_zero_pixels=" + mask}));
    Batch batch = task->evaluation(Split::kTest, 0)[0];
    std::fill(batch.tokens.begin(), batch.tokens.begin() + 1024, 0);  // black altogether
    batch.tokens[1024 + 7] = 0;                                       // one pixel of the second
    return to_tensors(batch).key_weight;
  };
  EXPECT_FALSE(weights("false").defined());
  const at::Tensor masked = weights("true");
  EXPECT_EQ(masked.sum().item<double>(), 2047);  // a picture with nothing in it keeps all
  EXPECT_EQ(masked[1][7].item<double>(), 0);
}

TEST_F(ReadersTest, FetchedFilesMustBeAsLargeAsTheyWere) {
  write_cifar();
  const std::string file = "cifar-10-batches-bin/data_batch_2.bin";
  const auto with = [&](const std::string& source) {
    write("source.json", source);
    return complaint([&] { load_task(recipe("image")); });
  };
  EXPECT_EQ(with("{\"known_copy\": false, \"sizes\": {\"" + file + "\": 12292}}"), "nothing");
  // Cut between two records, which no reader of records could tell.
  EXPECT_EQ(
      with("{\"known_copy\": false, \"sizes\": {\"" + file + "\": 15365}}"),
      (folder_ / file).string() + ": expected the 15365 bytes that were fetched, there are 12292");
  EXPECT_NE(with("{\"known_copy\": true}").find("expected the 30730000 bytes"), std::string::npos);
  EXPECT_EQ(with("{\"known_copy\": false}"), "nothing");  // another copy, of which nothing is known
}

TEST_F(ReadersTest, FetchedReviewsAreCounted) {
  write_imdb();
  write("source.json", R"({"sizes": {"aclImdb/train/neg": 20, "aclImdb/test/pos": 21}})");
  EXPECT_EQ(complaint([&] { load_task(recipe("text")); }),
            (folder_ / "aclImdb/test/pos").string() +
                ": expected the 21 files that were fetched, there are 20");
}

TEST_F(ReadersTest, RecipesOfImagesFitTheirPixels) {
  EXPECT_NE(complaint([&] { recipe("image", {"data.patch=5"}); }).find("a divisor of 32"),
            std::string::npos);
  EXPECT_NE(complaint([&] { recipe("image", {"data.length=1000"}); }).find("expected 1024"),
            std::string::npos);
  EXPECT_NE(complaint([&] { recipe("text", {"data.patch=4"}); }).find("data.patch"),
            std::string::npos);
  EXPECT_NE(complaint([&] { recipe("text", {"data.mask_zero_pixels=true"}); }).find("false"),
            std::string::npos);
}

TEST_F(ReadersTest, ReviewsAreBytesPlusOneCutToLength) {
  write_imdb();
  const auto task = load_task(recipe("text", {"data.length=6"}));
  EXPECT_EQ(task->examples(Split::kVal, 0), 4);
  EXPECT_EQ(task->examples(Split::kTest, 0), 40);
  EXPECT_EQ(task->baselines()[0].second, 0.5);
  std::int64_t answers[2] = {};
  for (const Batch& batch : task->evaluation(Split::kTest, 10)) {
    for (std::int64_t b = 0; b < batch.B; ++b) {
      EXPECT_EQ(batch.tokens[b * batch.N], (batch.targets[b] ? 'a' : 'b') + 1);
      EXPECT_LE(batch.lengths[b], 6);
      ++answers[batch.targets[b]];
    }
  }
  EXPECT_EQ(answers[0], 5);  // ten of a part that is sorted by label show both
  EXPECT_EQ(answers[1], 5);
}

TEST_F(ReadersTest, DamagedReviewsAreNamed) {
  write_imdb();
  const auto with = [&](const std::string& name, const std::string& bytes) {
    write("aclImdb/train/neg/" + name, bytes);
    const std::string found = complaint([&] { read_imdb(folder_, 100); });
    fs::remove(folder_ / "aclImdb/train/neg" / name);
    return found;
  };
  EXPECT_NE(with("7_9.txt", "good").find("from 1 to 4, got " + folder_.string()),
            std::string::npos);
  EXPECT_NE(with("x_1.txt", "bad").find("x_1.txt"), std::string::npos);
  EXPECT_NE(with("7_1.txt.tmp", "bad").find("7_1.txt.tmp"), std::string::npos);
  EXPECT_NE(with("99_1.txt", "").find("99_1.txt is empty"), std::string::npos);
  const fs::path neg = folder_ / "aclImdb/train/neg";
  fs::create_symlink(folder_ / "nowhere", neg / "20_1.txt");
  EXPECT_NE(complaint([&] {
              read_imdb(folder_, 100);
            }).find("cannot read " + (neg / "20_1.txt").string() + ": No such file"),
            std::string::npos);
  fs::remove(neg / "20_1.txt");
  EXPECT_EQ(with("7_2.txt", "bad"), "expected each of the reviews 0 to 20 once in " + neg.string() +
                                        ", got 7 where 8 should be");
  fs::remove(neg / "7_1.txt");
  EXPECT_NE(complaint([&] { read_imdb(folder_, 100); }).find("got 8 where 7 should be"),
            std::string::npos);
  write("aclImdb/train/neg/7_1.txt", "bad 7");
  fs::remove_all(folder_ / "aclImdb/test/pos");
  EXPECT_NE(complaint([&] { read_imdb(folder_, 100); }).find("test/pos"), std::string::npos);
}

TEST_F(ReadersTest, PapersAreKeptOnceAndCutToLength) {
  write_papers(kPairs);
  const Papers papers = read_papers(folder_, 5);
  EXPECT_EQ(papers.documents, (std::vector<std::string>{"alpha", "beta", "gamma"}));
  ASSERT_EQ(papers.parts[0].size(), 3u);
  EXPECT_EQ(papers.parts[0][1].two, 2);
  EXPECT_EQ(papers.parts[0][0].cites, 1);
  EXPECT_EQ(papers_name(papers), "AAN-proxy");
  EXPECT_EQ(fetched_papers_name(folder_), "AAN-proxy");
  const auto task = load_task(recipe("retrieval"));
  EXPECT_EQ(task->data_name(), "AAN-proxy");
  const Batch batch = task->evaluation(Split::kTest, 0)[0];
  EXPECT_EQ(batch.B, 4);
  EXPECT_EQ(batch.targets, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(batch.lengths, (std::vector<std::int64_t>{4, 6, 6, 5}));
  EXPECT_EQ(batch.tokens[0], 'b' + 1);
  EXPECT_EQ(batch.tokens[4], 0);
}

TEST_F(ReadersTest, DamagedPapersNameFileLineAndByte) {
  const auto with = [&](const std::string& train) {
    write_papers(train);
    return complaint([&] { read_papers(folder_, 100); });
  };
  const std::string good = "1.0\tA\tB\talpha\tbeta\n", at = "new_aan_pairs.train.tsv:2: byte 19: ";
  ASSERT_EQ(good.size(), 19u);
  expect(with(good + "2.0\tA\tB\talpha\tbeta\n"), at, "got \"2.0\"");
  expect(with(good + "1.0\tA\tB\talpha\n"), at, "TEXT and TEXT");
  expect(with(good + "1.0\tA\tB\talpha\tbeta\tmore\n"), at, "TEXT and TEXT");
  expect(with(good + "1.0\tA\tB\t\tbeta\n"), at, "one is empty");
  expect(with(good + "1.0\tA\tB\talpha\tbe"), at, "ends inside");
  expect(with(good + "1.0\tA\tB\talpha\tbeta 2\n"), at, "the text that B had before");
  expect(with(good + "1.0\tC\tC\tgamma!\tdelta\n"), at, "the text that C had before");
}

TEST_F(ReadersTest, APairIsJudgedTheSameWhateverItsPadding) {
  write_papers(kPairs);
  const Recipe r = recipe("retrieval", {"data.length=16", "model.dim=8", "model.mlp=8"});
  const Model model(
      {.dim = 8, .mlp = 8, .vocabulary = 257, .length = 16, .classes = 2, .pairs = true}, 1);
  const auto logits = [&](const Batch& batch) {
    const Tensors t = to_tensors(batch);
    return model.forward(t.tokens, t.key_weight, false).detach();
  };
  const auto task = load_task(r);
  const Batch both = task->evaluation(Split::kTest, 0)[0],
              one = task->evaluation(Split::kTest, 1)[0];
  EXPECT_EQ(logits(both).sizes(), (std::vector<std::int64_t>{2, 2}));
  EXPECT_TRUE(at::allclose(logits(both)[0], logits(one)[0], 1e-4, 1e-6));
  // a - b tells which paper cites which.
  Batch swapped = one;
  std::swap_ranges(swapped.tokens.begin(), swapped.tokens.begin() + one.N,
                   swapped.tokens.begin() + one.N);
  std::swap(swapped.lengths[0], swapped.lengths[1]);
  EXPECT_FALSE(at::allclose(logits(swapped), logits(one), 1e-4, 1e-6));
}

TEST_F(ReadersTest, MissingDataSaysHowToFetchIt) {
  for (const std::string task : {"text", "retrieval", "image", "mnist", "shakespeare"}) {
    const Recipe r = recipe(task, {"data.path=" + (folder_ / "nowhere").string()});
    EXPECT_NE(complaint([&] { load_task(r); }).find("fastmax data fetch " + task),
              std::string::npos);
  }
}

}  // namespace
}  // namespace fastmax::app
