#include "app/listops_data.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "app/error.h"
#include "app/files.h"
#include "app/made_set.h"

namespace fastmax::app::listops {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kHeader = "Source\tTarget";
constexpr int kOperators = 4;

// How often each answer comes, over all examples and after each first operator.
struct Counts {
  std::array<std::int64_t, kClasses> label{};
  std::array<std::array<std::int64_t, kClasses>, kOperators + 1> by_root{};  // last: no operator

  static int root(std::span<const std::uint8_t> tokens) {
    return tokens[0] >= kMin ? tokens[0] - kMin : kOperators;
  }
  void add(const Examples& examples) {
    for (std::int64_t i = 0; i < examples.size(); ++i) {
      ++label[examples.labels[i]];
      ++by_root[root(examples[i])][examples.labels[i]];
    }
  }
};

template <class Array>
int commonest(const Array& counts) {
  return static_cast<int>(std::max_element(counts.begin(), counts.end()) - counts.begin());
}

Baselines measure_with(const Counts& learnt, const std::vector<const Examples*>& parts) {
  std::int64_t majority = 0, root = 0, all = 0;
  for (const Examples* part : parts) {
    for (std::int64_t i = 0; i < part->size(); ++i, ++all) {
      majority += part->labels[i] == commonest(learnt.label);
      root += part->labels[i] == commonest(learnt.by_root[Counts::root((*part)[i])]);
    }
  }
  const double n = static_cast<double>(std::max<std::int64_t>(all, 1));
  return {static_cast<double>(majority) / n, static_cast<double>(root) / n};
}

nlohmann::ordered_json describe(const Options& options) {
  return {{"max_depth", options.max_depth},
          {"max_args", options.max_args},
          {"min_length", options.min_length},
          {"max_length", options.max_length},
          {"train", options.train},
          {"val", options.val},
          {"test", options.test},
          {"seed", options.seed}};
}

}  // namespace

Examples read_tsv(const fs::path& file, std::int64_t longest) {
  const std::string bytes = read_file(file, "a ListOps file");
  Examples examples;
  std::string_view left = bytes;
  for (std::int64_t line = 1; line == 1 || !left.empty(); ++line) {
    const auto refuse = [&, at = bytes.size() - left.size()](const std::string& what) {
      throw UsageError(text(file.string(), ":", line, ": byte ", at, ": ", what));
    };
    const std::size_t end = left.find('\n');
    if (end == std::string_view::npos) refuse("expected a whole line, the file ends inside it");
    std::string_view record = left.substr(0, end);
    left.remove_prefix(end + 1);
    if (!record.empty() && record.back() == '\r') record.remove_suffix(1);
    if (line == 1) {
      if (record != kHeader) refuse("expected the header Source<tab>Target");
      continue;
    }
    const std::size_t tab = record.find('\t');
    if (tab == std::string_view::npos) refuse("expected SOURCE<tab>TARGET, got no tab");
    const std::string_view target = record.substr(tab + 1);
    if (target.size() != 1 || target[0] < '0' || target[0] > '9') {
      refuse("expected a target from 0 to 9, got \"" + std::string(target.substr(0, 20)) + "\"");
    }
    std::vector<std::uint8_t> tokens;
    try {
      tokens = from_text(record.substr(0, tab));
    } catch (const std::invalid_argument& e) {
      refuse(e.what());
    }
    const int value = evaluate(tokens), label = target[0] - '0';
    if (value < 0) refuse("expected one complete expression, its brackets do not match");
    if (value != label) refuse(text("expected the target ", value, " (its value), got ", label));
    if (static_cast<std::int64_t>(tokens.size()) > longest) {
      refuse(text("expected at most data.length = ", longest, " tokens, got ", tokens.size()));
    }
    examples.add(tokens, label);
  }
  return examples;
}

Statistics statistics(const std::vector<const Examples*>& parts) {
  Statistics s;
  Counts counts;
  std::vector<std::int64_t> lengths;
  std::int64_t all_tokens = 0;
  for (const Examples* part : parts) {
    counts.add(*part);
    for (std::int64_t i = 0; i < part->size(); ++i) {
      lengths.push_back(static_cast<std::int64_t>((*part)[i].size()));
    }
    for (const std::uint8_t token : part->tokens) s.tokens[token] += 1;
    all_tokens += static_cast<std::int64_t>(part->tokens.size());
  }
  if (lengths.empty()) return s;
  std::sort(lengths.begin(), lengths.end());
  s.examples = static_cast<std::int64_t>(lengths.size());
  s.shortest = lengths.front();
  s.median = lengths[lengths.size() / 2];
  s.p90 = lengths[lengths.size() * 9 / 10];
  s.longest = lengths.back();
  s.mean = static_cast<double>(all_tokens) / static_cast<double>(s.examples);
  for (double& share : s.tokens) share /= static_cast<double>(all_tokens);
  for (int c = 0; c < kClasses; ++c) {
    s.labels[c] = static_cast<double>(counts.label[c]) / static_cast<double>(s.examples);
  }
  const Baselines known = measure_with(counts, parts);
  s.majority = known.majority;
  s.root_operator = known.root_operator;
  return s;
}

Baselines baselines(const Examples& learn, const Examples& measure) {
  Counts counts;
  counts.add(learn);
  return measure_with(counts, {&measure});
}

nlohmann::ordered_json to_json(const Statistics& s) {
  nlohmann::ordered_json labels = s.labels;
  nlohmann::ordered_json tokens = nlohmann::ordered_json::object();
  for (int t = 1; t < kVocabulary; ++t) {
    const std::uint8_t token = static_cast<std::uint8_t>(t);
    tokens[readable({&token, 1})] = s.tokens[t];
  }
  return {{"examples", s.examples},
          {"length",
           {{"min", s.shortest},
            {"mean", s.mean},
            {"median", s.median},
            {"p90", s.p90},
            {"max", s.longest}}},
          {"draws_per_tree", s.draws_per_tree},
          {"labels", labels},
          {"tokens", tokens},
          {"majority", s.majority},
          {"root_operator", s.root_operator}};
}

nlohmann::ordered_json make(const Options& options, const fs::path& folder,
                            const std::function<void(std::int64_t)>& progress) {
  const auto write = [&](const fs::path& made) {
    Generator generator(options);
    std::int64_t done = 0;
    Examples parts[3];
    const std::int64_t counts[3] = {options.train, options.val, options.test};
    for (int part = 0; part < 3; ++part) {
      NewFile file(made / kFiles[part]);
      file.write(std::string(kHeader) + "\r\n");
      for (std::int64_t i = 0; i < counts[part]; ++i) {
        const auto tokens = generator.next();
        const int value = evaluate(tokens);
        file.write(to_text(tokens) + '\t' + std::to_string(value) + "\r\n");
        parts[part].add(tokens, value);
        if (++done % 100 == 0) progress(done);
      }
      file.commit();
    }
    progress(done);
    Statistics found = statistics({&parts[0], &parts[1], &parts[2]});
    found.draws_per_tree = static_cast<double>(generator.draws()) / static_cast<double>(done);
    return to_json(found);
  };
  return make_set({"listops", describe(options), to_json(Statistics{}), write}, folder);
}

}  // namespace fastmax::app::listops
