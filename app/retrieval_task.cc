#include "app/retrieval_task.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <numeric>
#include <span>
#include <unordered_map>

#include "app/error.h"
#include "app/random.h"
#include "app/retrieval_baselines.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFiles[3] = {"new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv",
                                   "new_aan_pairs.test.tsv"};
constexpr std::array<std::size_t, 3> kArena = {147'086, 18'090, 17'437};

std::string name_of(const std::array<std::size_t, 3>& pairs) {
  return pairs == kArena ? "AAN" : "AAN-proxy";
}

class Reader {
 public:
  explicit Reader(std::int64_t longest) : longest_(static_cast<std::size_t>(longest)) {}

  void read(const fs::path& file, std::vector<Papers::Pair>& pairs) {
    std::ifstream in(file, std::ios::binary);
    if (!in)
      throw UsageError(text("expected pairs of papers, cannot read ", file.string(), ": ",
                            std::strerror(errno)));
    std::string line;
    for (std::int64_t number = 1, at = 0; std::getline(in, line); ++number) {
      const auto refuse = [&](const std::string& what) {
        throw UsageError(text(file.string(), ":", number, ": byte ", at, ": ", what));
      };
      if (in.eof()) refuse("expected a whole line, the file ends inside it");
      std::array<std::string_view, 5> field;
      std::string_view left = line;
      for (std::size_t i = 0; i < field.size(); ++i) {
        const std::size_t tab = left.find('\t');
        if ((tab == std::string_view::npos) != (i == 4)) {
          refuse("expected LABEL, ID, ID, TEXT and TEXT with a tab between them");
        }
        field[i] = left.substr(0, tab);
        if (i < 4) left.remove_prefix(tab + 1);
      }
      const bool yes = field[0] == "1" || field[0] == "1.0";
      if (!yes && field[0] != "0" && field[0] != "0.0") {
        refuse("expected a label 0.0 or 1.0, got \"" + std::string(field[0].substr(0, 20)) + "\"");
      }
      for (std::size_t i = 3; i < 5; ++i) {
        if (field[i].empty()) refuse("expected two texts, one is empty");
      }
      std::int32_t both[2];
      for (const int i : {0, 1}) {
        both[i] = document(field[1 + i], field[3 + i]);
        if (both[i] < 0)
          refuse("expected the text that " + std::string(field[1 + i].substr(0, 20)) +
                 " had before");
      }
      pairs.push_back({both[0], both[1], yes});
      at += static_cast<std::int64_t>(line.size()) + 1;
    }
  }

  std::vector<std::string> documents;

 private:
  // A paper's place among the documents, and the hash of its whole text.
  struct Known {
    std::int32_t document;
    std::size_t hash;
  };

  // -1 when this paper had another text before.
  std::int32_t document(std::string_view id, std::string_view text) {
    const std::size_t hash = std::hash<std::string_view>()(text);
    const auto [found, fresh] = known_.try_emplace(
        std::string(id), Known{static_cast<std::int32_t>(documents.size()), hash});
    if (fresh) documents.emplace_back(text.substr(0, longest_));
    return found->second.hash == hash ? found->second.document : -1;
  }

  std::size_t longest_;
  std::unordered_map<std::string, Known> known_;
};

class Retrieval : public Task {
 public:
  Retrieval(const Recipe& recipe, Papers papers)
      : seed_(static_cast<std::uint64_t>(recipe.seed)),
        batch_(recipe.train.batch),
        papers_(std::move(papers)) {}

  Batch train_batch(std::int64_t step) override {
    const auto& pairs = part(Split::kTrain);
    const std::int64_t batches = static_cast<std::int64_t>(pairs.size()) / batch_;
    if (step / batches != epoch_) {
      epoch_ = step / batches;
      order_.resize(pairs.size());
      std::iota(order_.begin(), order_.end(), 0);
      Random(seed_, static_cast<std::uint64_t>(epoch_)).shuffle(order_);
    }
    return collect(pairs, std::span(order_).subspan(step % batches * batch_, batch_));
  }

  std::int64_t examples(Split split, std::int64_t limit) const override {
    const std::int64_t all = static_cast<std::int64_t>(part(split).size());
    return limit > 0 ? std::min(limit, all) : all;
  }

  std::vector<Batch> evaluation(Split split, std::int64_t limit) const override {
    const std::vector<std::int64_t> order =
        evenly(examples(split, limit), static_cast<std::int64_t>(part(split).size()));
    std::vector<Batch> batches;
    for (std::size_t first = 0; first < order.size(); first += batch_) {
      const std::size_t count = std::min<std::size_t>(batch_, order.size() - first);
      batches.push_back(collect(part(split), std::span(order).subspan(first, count)));
    }
    return batches;
  }

  std::vector<std::pair<std::string, double>> baselines() const override {
    return retrieval_baselines(papers_);
  }

  std::string data_name() const override { return papers_name(papers_); }

 private:
  const std::vector<Papers::Pair>& part(Split split) const {
    return papers_.parts[split == Split::kTrain ? 0 : split == Split::kVal ? 1 : 2];
  }

  Batch collect(const std::vector<Papers::Pair>& pairs, std::span<const std::int64_t> which) const {
    Batch batch{.B = 2 * static_cast<std::int64_t>(which.size())};
    std::vector<const std::string*> texts;
    for (const std::int64_t i : which) {
      batch.targets.push_back(pairs[i].cites);
      for (const std::int32_t document : {pairs[i].one, pairs[i].two}) {
        texts.push_back(&papers_.documents[document]);
        batch.lengths.push_back(static_cast<std::int64_t>(texts.back()->size()));
      }
    }
    batch.N = *std::max_element(batch.lengths.begin(), batch.lengths.end());
    batch.tokens.assign(batch.B * batch.N, 0);
    for (std::size_t b = 0; b < texts.size(); ++b) {
      std::transform(texts[b]->begin(), texts[b]->end(), batch.tokens.begin() + b * batch.N,
                     [](char c) { return static_cast<unsigned char>(c) + 1; });
    }
    return batch;
  }

  std::uint64_t seed_;
  std::int64_t batch_;
  Papers papers_;
  std::int64_t epoch_ = -1;
  std::vector<std::int64_t> order_;
};

}  // namespace

Papers read_papers(const fs::path& folder, std::int64_t longest) {
  Papers papers;
  Reader reader(longest);
  for (int i = 0; i < 3; ++i) reader.read(folder / kFiles[i], papers.parts[i]);
  papers.documents = std::move(reader.documents);
  return papers;
}

std::string papers_name(const Papers& papers) {
  return name_of({papers.parts[0].size(), papers.parts[1].size(), papers.parts[2].size()});
}

std::string fetched_papers_name(const fs::path& folder) {
  std::array<std::size_t, 3> lines{};
  for (int i = 0; i < 3; ++i) {
    std::ifstream in(folder / kFiles[i], std::ios::binary);
    lines[i] = static_cast<std::size_t>(
        std::count(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>(), '\n'));
  }
  return name_of(lines);
}

std::unique_ptr<Task> load_retrieval(const Recipe& recipe) {
  const fs::path folder = require_data(recipe);
  Papers papers = read_papers(folder, recipe.data.longest());
  const std::size_t batch = static_cast<std::size_t>(recipe.train.batch);
  if (papers.parts[0].size() < batch || papers.parts[1].empty() || papers.parts[2].empty()) {
    throw UsageError(text("expected at least train.batch = ", batch,
                          " training pairs and one of validation and test each, ", folder.string(),
                          " has ", papers.parts[0].size(), ", ", papers.parts[1].size(), " and ",
                          papers.parts[2].size()));
  }
  return std::make_unique<Retrieval>(recipe, std::move(papers));
}

}  // namespace fastmax::app
