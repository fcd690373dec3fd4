#include "app/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/fetch.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;

constexpr std::int64_t kTooMuch = std::int64_t{1} << 60;

class Space : public testing::Test {
 protected:
  Space() : folder_(fs::temp_directory_path() / ("fastmax-space-" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~Space() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(Space, IsRequired) {
  EXPECT_NO_THROW(require_space(folder_, 1000, "it"));
  try {
    require_space(folder_, kTooMuch, "pictures");
    FAIL();
  } catch (const WorkError& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find("1152921504606846 kB of pictures in " + folder_.string()),
              std::string::npos)
        << what;
  }
}

TEST_F(Space, IsRequiredBeforeADownloadBegins) {
  DataSet set = *find_data_set("image");
  set.files[0].bytes = kTooMuch;
  try {
    fetch(set, folder_, {.from = "http://127.0.0.1:1/a", .any_hash = true});
    FAIL();
  } catch (const WorkError& e) {
    EXPECT_EQ(std::string(e.what()).find("expected room for "), 0u) << e.what();
  }
  EXPECT_FALSE(fs::exists(folder_ / "image"));
  EXPECT_TRUE(fs::is_empty(folder_ / "downloads"));
}

TEST_F(Space, OfAPipeOrALinkIsNotTaken) {
  const fs::path pipe = folder_ / "pipe", link = folder_ / "link", file = folder_ / "file";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  write_file(pipe, "to the pipe");
  char bytes[16] = {};
  EXPECT_EQ(::read(reader, bytes, sizeof bytes), 11);
  EXPECT_STREQ(bytes, "to the pipe");
  ::close(reader);
  EXPECT_TRUE(fs::is_fifo(pipe));
  write_file(file, "something longer");
  fs::create_symlink(file, link);
  write_file(link, "through the link");
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(read_file(file, "a file"), "through the link");
}

}  // namespace
}  // namespace fastmax::app
