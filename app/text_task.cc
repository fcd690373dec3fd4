#include "app/text_task.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

#include "app/error.h"
#include "app/files.h"
#include "app/sequence_task.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kValidation = 10;  // one training review in so many

// "ID_RATING.txt": 1 to 4 is against, 7 to 10 for a film; others are in no folder. Returns ID.
int require_name(const fs::path& file, int label) {
  const std::string name = file.filename().string();
  const char* const end = name.data() + name.size();
  int id = -1, rating = 0;
  const auto first = std::from_chars(name.data(), end, id);
  std::from_chars_result second{first.ptr, first.ec};
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '_') {
    second = std::from_chars(first.ptr + 1, end, rating);
  }
  const bool formed = id >= 0 && std::string_view(second.ptr, end) == ".txt";
  if (formed && (label == 1 ? rating >= 7 && rating <= 10 : rating >= 1 && rating <= 4)) return id;
  throw UsageError(text("expected a review named ID_RATING.txt with a rating ",
                        label == 1 ? "from 7 to 10" : "from 1 to 4", ", got ", file.string()));
}

// An evaluation shows few examples of a part in even steps, so parts may be sorted by label.
void read_folder(const fs::path& folder, int label, std::int64_t longest, Examples& most,
                 Examples* held_out) {
  if (!fs::is_directory(folder)) {
    throw UsageError("expected a folder of reviews, there is no " + folder.string());
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<int> ids;
  std::string review(static_cast<std::size_t>(longest), '\0');
  for (std::size_t i = 0; i < files.size(); ++i) {
    ids.push_back(require_name(files[i], label));
    std::ifstream in(files[i], std::ios::binary);
    in.read(review.data(), longest);
    if (!in.is_open() || in.bad()) {
      throw UsageError("expected a review, cannot read " + files[i].string() + ": " +
                       std::strerror(errno));
    }
    const std::size_t size = static_cast<std::size_t>(in.gcount());
    if (size == 0) throw UsageError("expected a review, " + files[i].string() + " is empty");
    Examples& into = held_out && i % kValidation == kValidation - 1 ? *held_out : most;
    into.add({reinterpret_cast<const std::uint8_t*>(review.data()), size}, label);
  }
  std::ranges::sort(ids);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == static_cast<int>(i)) continue;
    throw UsageError(text("expected each of the reviews 0 to ", ids.size() - 1, " once in ",
                          folder.string(), ", got ", ids[i], " where ", i, " should be"));
  }
}

}  // namespace

Parts read_imdb(const fs::path& folder, std::int64_t longest) {
  Parts parts;
  for (const int label : {0, 1}) {
    const std::string kind = label == 1 ? "pos" : "neg";
    read_folder(folder / "aclImdb" / "train" / kind, label, longest, parts.train, &parts.val);
    read_folder(folder / "aclImdb" / "test" / kind, label, longest, parts.test, nullptr);
  }
  return parts;
}

std::unique_ptr<Task> load_text(const Recipe& recipe) {
  const fs::path folder = require_data(recipe);
  Parts parts = read_imdb(folder, recipe.data.longest());
  require_examples(parts, recipe, folder);
  const double commonest = majority(parts);
  return std::make_unique<SequenceTask>(recipe, std::move(parts), TokenForm{.first = 1},
                                        Accuracies{{"majority class", commonest}});
}

}  // namespace fastmax::app
