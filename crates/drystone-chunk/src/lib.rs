//! A chunk server: one store per disk, the chain, registration and heartbeat.
