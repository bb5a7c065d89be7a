"""Side by side: each peer in a process of its own, all given the same numbers, taken in turns."""
