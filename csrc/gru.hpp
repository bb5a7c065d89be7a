// The recurrence over a sequence, forward and backward, for one thread's slice of the work.
//
// Time is taken in chunks of steps whose buffers stay in the cache. Forward: the input product of a
// whole chunk, then step by step the recurrent product and the gates. Backward, from the last chunk
// to the first: all gates of the chunk again by two products (or as forward saved them), then step
// by step only what is serial, d_state <- z * d_state + d_gates W_hh, then the gradients of input
// and weights as products over the chunk.
//
// A cell is one row at one step of a chunk. Rows are sorted longest first, so the rows alive at a
// step are the first few, and the cost is the sum of the lengths.
#pragma once

#include "backward.hpp"
#include "forward.hpp"
