// One file from the network, whole or to be continued.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace fastmax::app {

/// Fetches `address` (http, https or file) into `file`. Until all of it is there it is FILE.part, which stays when
/// the transfer breaks off and which the next call continues (HTTP range) if the server can; one that cannot is
/// asked for all of it.
///
/// FILE.version says which state of the server's file the part is of, by its ETag or date: of another the part is not continued.
///
/// Throws WorkError that names the address and what went wrong, also when `most` bytes are exceeded or the disk is
/// full; Interrupted while a StopRequest is pending. `progress(done, all)`, all = 0 while unknown, is called now and then.
void download(const std::string& address, const std::filesystem::path& file, std::int64_t most,
              const std::function<void(std::int64_t, std::int64_t)>& progress);

}  // namespace fastmax::app
