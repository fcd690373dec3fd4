// What a shared library shows: the rest is built hidden.
#pragma once

#define FASTMAX_API __attribute__((visibility("default")))
