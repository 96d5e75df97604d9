//! Named cases of single commands.
