//! Formatted directories: who a node or disk is, its boot counter and its lock.
