//! Sessions and idempotency keys.
