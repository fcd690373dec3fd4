// The program: parses the command line, runs one command, and turns failures into one line and an
// exit code (0 success, 1 failed at work, 2 wrong usage or input, 128 + signal when interrupted).
#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "app/commands.h"
#include "app/error.h"
#include "app/threads.h"
#include "app/version.h"
#include "fastmax/error.h"

namespace {

// Commands that keep torch's threads busy.
bool computes(std::string_view command) {
  for (const char* name :
       {"train", "compare", "eval", "generate", "maps", "bench", "accuracy", "scaling", "demo"}) {
    if (command == name) return true;
  }
  return false;
}

int report(const std::string& what, int code) {
  std::string line = what.substr(0, what.find("\n  "));  // CLI11 and torch add more, indented
  for (char& c : line) c = c == '\n' || c == '\r' ? ' ' : c;
  while (!line.empty() && line.back() == ' ') line.pop_back();
  if (line.rfind("fastmax: ", 0) == 0) line.erase(0, 9);  // the core's own prefix
  std::fprintf(stderr, "fastmax: error: %s\n", line.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace fastmax::app;
  if (argc > 1 && computes(argv[1])) spin_briefly(argv);
  CLI::App app("Fastmax: factorizable attention in linear time", "fastmax");
  app.set_version_flag("--version", std::string("fastmax ") + version() + " (" + commit() + ")");
  app.require_subcommand(1);
  add_info(app);
  add_data(app);
  add_train(app);
  add_compare(app);
  add_eval(app);
  add_generate(app);
  add_maps(app);
  add_plot(app);
  add_export(app);
  add_bench(app);
  add_accuracy(app);
  add_scaling(app);
  add_report(app);
  add_demo(app);
  try {
    app.parse(argc, argv);
    std::cout.flush();
    return std::cout ? 0 : report("cannot write to the standard output", 1);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    // Of a word that is no command CLI11 says only that one is missing.
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    const bool untold = e.get_name() == "RequiredError" && !unknown.empty();
    return report(text(e.what(), untold ? ", got '" + unknown[0] + "'" : "",
                       " (fastmax --help lists what there is)"),
                  2);
  } catch (const UsageError& e) {
    return report(e.what(), 2);
  } catch (const fastmax::Error& e) {
    return report(e.what(), 2);
  } catch (const Interrupted& e) {
    std::fprintf(stderr, "fastmax: %s\n", e.what());
    return 128 + e.signal;
  } catch (const std::bad_alloc&) {
    return report("out of memory", 1);
  } catch (const c10::Error& e) {
    return report(e.what_without_backtrace(), 1);
  } catch (const std::exception& e) {
    return report(e.what(), 1);
  }
}
