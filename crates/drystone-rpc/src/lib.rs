//! Connections over the wire: framing, deadlines, retry budget, admission control.
