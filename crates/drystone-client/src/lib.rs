//! The client library: the only public API, and the only thing that doors use.
