//! A segmented, recycled, group-committed log that tells damage from a torn tail.
