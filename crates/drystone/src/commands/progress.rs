//! Progress of long work, for people only.

use crate::output::note;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// What a person sees beside the output. Clones share it.
#[derive(Clone)]
pub struct Screen {
    is_watched: bool,
    bars: MultiProgress,
}

impl Screen {
    /// Of a command with `--quiet` and `--json` or without: empty unless stderr is a terminal.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self {
            is_watched: !quiet && !json && std::io::stderr().is_terminal(),
            bars: MultiProgress::new(),
        }
    }

    /// A person may be watching.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// A line above the bars.
    pub fn note(&self, line: &str) {
        self.bars.suspend(|| note(crate::output::printable(line)));
    }

    /// A bar over `bytes` (0: unknown), hidden unless a person watches.
    pub fn bar(&self, bytes: u64, what: &str) -> ProgressBar {
        if !self.is_watched {
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
        self.bars.add(bar)
    }
}
