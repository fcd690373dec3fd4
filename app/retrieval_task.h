// Retrieval: does one paper cite the other? Pairs of documents, byte by byte, in the layout of the Long Range Arena.
//
// A batch of P pairs has 2 P sequences, each pair's two side by side; the model reads every one with the same weights
// and answers from [a, b, a b, a - b] of their means.
//
// The Arena's list has 147,086, 18,090 and 17,437 pairs. A set of another size is a proxy made of the same corpus, the
// ACL Anthology Network: data_name() calls it AAN-proxy, and its accuracies do not compare with the Arena's.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "app/task.h"

namespace fastmax::app {

/// Documents, each once, and pairs of them.
struct Papers {
  struct Pair {
    std::int32_t one, two;
    std::uint8_t cites;
  };
  std::vector<std::string> documents;
  std::vector<Pair> parts[3];  ///< training, validation, test
};

/// Lines "LABEL\tID\tID\tTEXT\tTEXT" of FOLDER/new_aan_pairs.{train,eval,test}.tsv; the first `longest` bytes of each
/// text. Throws UsageError that names the file, and the line and byte where a damaged record begins.
Papers read_papers(const std::filesystem::path& folder, std::int64_t longest);

/// "AAN", or "AAN-proxy" for another set than the Arena's.
std::string papers_name(const Papers& papers);
/// The same by the numbers of lines in a folder, whose records are not checked.
std::string fetched_papers_name(const std::filesystem::path& folder);

std::unique_ptr<Task> load_retrieval(const Recipe& recipe);

}  // namespace fastmax::app
