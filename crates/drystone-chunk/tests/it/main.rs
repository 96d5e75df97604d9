//! Chunk servers over real sockets and directories, with a fake metadata service.

mod append;
mod cluster;
mod faults;
mod member;
mod memory;
