//! The member as its shell sees it: alone, and as a group under a seeded scheduler.

mod corpus;
mod fuzzed;
mod groups;
mod sim;
mod single;
