// Every command of the program: each function registers one subcommand, its options and its callback.
#pragma once

namespace CLI {
class App;
}

namespace fastmax::app {

void add_info(CLI::App& app);
void add_data(CLI::App& app);
void add_train(CLI::App& app);
void add_compare(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_maps(CLI::App& app);
void add_plot(CLI::App& app);
void add_export(CLI::App& app);
void add_bench(CLI::App& app);
void add_accuracy(CLI::App& app);
void add_scaling(CLI::App& app);
void add_report(CLI::App& app);
void add_demo(CLI::App& app);

}  // namespace fastmax::app
