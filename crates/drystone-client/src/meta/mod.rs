//! Metadata servers: who leads, commands repeated safely, look-ups.
