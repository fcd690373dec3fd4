// Text: is a review for or against its film, from its bytes? IMDB's reviews, as the Long Range Arena uses them.
#pragma once
#include <filesystem>
#include <memory>

#include "app/examples.h"
#include "app/task.h"

namespace fastmax::app {

/// FOLDER/aclImdb/{train,test}/{neg,pos}/ID_RATING.txt, the first `longest` bytes of each, in the order of their
/// names. Every tenth training review is for validation: the Arena has none and selects on the test part.
/// Throws UsageError that names the file: a name of another form, a rating that is not its folder's, an empty file; or the
/// folder where the IDs are not 0, 1, .., each once.
Parts read_imdb(const std::filesystem::path& folder, std::int64_t longest);

/// Byte b is token b + 1; 0 is padding, which gets no weight.
std::unique_ptr<Task> load_text(const Recipe& recipe);

}  // namespace fastmax::app
