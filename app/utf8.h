// Bytes that may be anything: whether they are UTF-8, and made printable, for what is not becomes U+FFFD.
#pragma once
#include <cstddef>
#include <string>

namespace fastmax::app {

class Utf8Filter {
 public:
  /// The characters that this byte completes; a byte that cannot go on the one before it shows that one as
  /// U+FFFD.
  std::string feed(char byte);
  /// What is still incomplete, as U+FFFD.
  std::string finish();

 private:
  std::string pending_;     // the beginning of a character
  std::size_t length_ = 0;  // bytes it will have
};

bool is_utf8(const std::string& bytes);

}  // namespace fastmax::app
