//! Benchmarks and the limit programs beside which every figure is printed.
