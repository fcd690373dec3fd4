// How torch's threads wait for each other.
#pragma once

namespace fastmax::app {

/// Between parallel regions the threads of libgomp spin some 300,000 rounds before they sleep. Where another
/// process wants the core, that is time lost for both. A hundredth of it costs nothing alone and saves the
/// day in company. Training the demo's model with two threads, steps/s on two cores:
///
///   rounds                         300,000   3,000   0 (asleep at once)
///   nobody else there                  107     104      53
///   as much work beside it               4      15      22
///
/// libgomp reads its settings when it is loaded, before main(): so they are set and the program is started
/// again. Does nothing when the caller has chosen (GOMP_SPINCOUNT, OMP_WAIT_POLICY).
void spin_briefly(char** argv);

}  // namespace fastmax::app
