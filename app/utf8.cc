#include "app/utf8.h"

namespace fastmax::app {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

// Bytes of a character that begins with this one; 0 where none does.
std::size_t length_of(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;  // inside a character, or a longer form of a shorter one
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

// Some second bytes would spell a longer form of a shorter character, a surrogate or one beyond U+10FFFF.
bool may_follow(unsigned char first, unsigned char second) {
  const unsigned char least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  return second >= least && second <= most;
}

}  // namespace

std::string Utf8Filter::feed(char byte) {
  const unsigned char b = static_cast<unsigned char>(byte);
  std::string out;
  if (!pending_.empty()) {
    const bool second = pending_.size() == 1;
    const unsigned char first = static_cast<unsigned char>(pending_[0]);
    if (second ? may_follow(first, b) : (b & 0xC0) == 0x80) {
      pending_ += byte;
      if (pending_.size() < length_) return "";
      out.swap(pending_);
      return out;
    }
    out = finish();
  }
  length_ = length_of(b);
  if (length_ == 0) return out + kReplacement;
  if (length_ == 1) return out + byte;
  pending_ = byte;
  return out;
}

std::string Utf8Filter::finish() {
  if (pending_.empty()) return "";
  pending_.clear();
  return kReplacement;
}

bool is_utf8(const std::string& bytes) {
  Utf8Filter filter;
  std::string kept;
  for (const char byte : bytes) kept += filter.feed(byte);
  return kept + filter.finish() == bytes;
}

}  // namespace fastmax::app
