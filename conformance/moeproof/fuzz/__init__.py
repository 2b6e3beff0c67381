"""The fuzzer: cases nobody listed, drawn by hypothesis, until the time is over."""
