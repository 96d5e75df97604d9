//! What a run says: the servers' own log and the harness' notes, with the world's time and the host's name.

use drystone_env::sim::world::current;
use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Once;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Lines kept of one run; older ones are dropped, their digest stays.
const MOST_LINES: usize = 200_000;

#[derive(Default)]
struct Trace {
    names: Vec<String>,
    lines: std::collections::VecDeque<String>,
    digest: u32,
    count: u64,
    verbose: bool,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Begins the trace of a run on this thread; `verbose` takes debug lines too and prints all at once.
pub fn begin(verbose: bool) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // Whoever embeds the simulator in a process that logs elsewhere keeps his own.
        let _ = tracing::subscriber::set_global_default(Capture);
    });
    TRACE.set(Some(Trace {
        verbose,
        ..Trace::default()
    }));
}

/// Host number `names.len()` is called `name` from now on.
pub fn name_host(name: &str) {
    TRACE.with_borrow_mut(|trace| {
        trace
            .iter_mut()
            .for_each(|trace| trace.names.push(name.to_owned()))
    });
}

/// Adds a line of the harness.
pub fn note(now_micros: u64, line: &str) {
    push(format!("{} -- {line}", seconds(now_micros)));
}

/// Ends the trace: its last lines, and a checksum over all of them.
pub fn end() -> (Vec<String>, u32) {
    let trace = TRACE.take().unwrap_or_default();
    (trace.lines.into(), trace.digest)
}

fn seconds(micros: u64) -> String {
    format!("{:3}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn push(line: String) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        trace.digest = crc32c::crc32c_append(trace.digest, line.as_bytes());
        trace.count += 1;
        if trace.verbose {
            println!("{line}");
        }
        if trace.lines.len() >= MOST_LINES {
            trace.lines.pop_front();
        }
        trace.lines.push_back(line);
    });
}

/// The subscriber of the whole process: it writes to the trace of the thread.
struct Capture;

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = TRACE.with_borrow(|trace| match trace {
            Some(trace) if trace.verbose => Level::DEBUG,
            Some(_) => Level::INFO,
            None => Level::ERROR,
        });
        *metadata.level() <= most && metadata.target().starts_with("drystone")
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn event(&self, event: &Event<'_>) {
        let (host, now) = match current() {
            Some((host, now)) => (usize::from(host.0), now.0),
            None => (usize::MAX, 0),
        };
        let name = TRACE.with_borrow(|trace| trace.as_ref()?.names.get(host).cloned());
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = name.unwrap_or_else(|| "--".to_owned());
        push(format!(
            "{} {name} {}{}",
            seconds(now),
            event.metadata().level(),
            fields.0
        ));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
