//! Progress of long work, for people only.

use super::Context;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// A bar over `bytes` (0: unknown), hidden unless a person watches.
pub fn bar(context: &Context, bytes: u64, what: &str) -> ProgressBar {
    if context.quiet || context.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        0 => (ProgressBar::new_spinner(), "{msg} {bytes} {binary_bytes_per_sec}"),
        _ => (
            ProgressBar::new(bytes),
            "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
