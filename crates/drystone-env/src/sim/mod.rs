//! The seeded seams.
