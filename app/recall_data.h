// Which sequences of mqar and needle a run sees, and the same as files.
//
// Sequence i of a part is a pure function of options, part, i and, of the training part, the seed. So training makes its
// sequences itself, new ones for each step, without files and whatever came before; validation and test are the same
// for every seed. `fastmax data make` writes those that a run sees, for programs that want files.
#pragma once
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "app/recall.h"
#include "app/task.h"

namespace fastmax::app::recall {

Sequence sequence(const Options& options, Split split, std::uint64_t seed, std::int64_t i);

struct Counts {
  std::int64_t train = 0, val = 0, test = 0;
};
/// 1,000 of validation and test each, fewer, but 100, where they have more than 4 million tokens.
std::int64_t evaluation_count(const Options& options);

/// Makes FOLDER with train.tsv, val.tsv and test.tsv, unless they are there, and returns its description (made_set.h). After
/// a header "Tokens\tTargets", a line is a sequence: its token ids, a tab, and the token asked for at each place, - where none
/// is. `progress(done)` is called now and then.
nlohmann::ordered_json make(const Options& options, std::uint64_t seed, const Counts& counts,
                            const std::filesystem::path& folder,
                            const std::function<void(std::int64_t)>& progress);

}  // namespace fastmax::app::recall
