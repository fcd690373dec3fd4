#include "app/recall_data.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/files.h"
#include "app/made_set.h"

namespace fastmax::app::recall {

Sequence sequence(const Options& options, Split split, std::uint64_t seed, std::int64_t i) {
  // A recipe's seed is smaller than these.
  const std::uint64_t key = split == Split::kTrain ? seed : split == Split::kVal ? ~1ull : ~2ull;
  return generate(options, Random(key, static_cast<std::uint64_t>(i)));
}

std::int64_t evaluation_count(const Options& options) {
  constexpr std::int64_t kTokens = 4'000'000;
  return std::clamp<std::int64_t>(kTokens / options.length, 100, 1000);
}

nlohmann::ordered_json make(const Options& options, std::uint64_t seed, const Counts& counts,
                            const std::filesystem::path& folder,
                            const std::function<void(std::int64_t)>& progress) {
  struct Part {
    const char* file;
    Split split;
    std::int64_t count;
  };
  const Part parts[] = {{"train.tsv", Split::kTrain, counts.train},
                        {"val.tsv", Split::kVal, counts.val},
                        {"test.tsv", Split::kTest, counts.test}};
  const auto write = [&](const std::filesystem::path& made) {
    std::vector<Sequence> test;
    std::int64_t done = 0;
    for (const Part& part : parts) {
      NewFile file(made / part.file);
      file.write("Tokens\tTargets\n");
      for (std::int64_t i = 0; i < part.count; ++i) {
        Sequence s = sequence(options, part.split, seed, i);
        std::string line;
        for (const std::int64_t token : s.tokens) {
          if (!line.empty()) line += ' ';
          line += std::to_string(token);
        }
        char before = '\t';
        for (const std::int64_t target : s.targets) {
          line += before + (target == kNotAsked ? "-" : std::to_string(target));
          before = ' ';
        }
        file.write(line + "\n");
        if (part.split == Split::kTest) test.push_back(std::move(s));
        if (++done % 100 == 0) progress(done);
      }
      file.commit();
    }
    progress(done);
    nlohmann::ordered_json statistics = {{"examples", done}, {"vocabulary", vocabulary(options)}};
    for (const auto& [name, accuracy] : baselines(options, test)) statistics[name] = accuracy;
    return statistics;
  };
  nlohmann::ordered_json described = {{"length", options.length}};
  if (options.task == "mqar") described.update({{"pairs", options.pairs}, {"keys", options.keys}});
  described.update(
      {{"train", counts.train}, {"val", counts.val}, {"test", counts.test}, {"seed", seed}});
  return make_set({options.task, described, {{"*", 0.5}}, write}, folder);
}

}  // namespace fastmax::app::recall
