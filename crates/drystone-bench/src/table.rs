//! The report as people read it.

use crate::report::{Cpu, Report, Row, Setting};
use crate::rules::{Against, Bound, Verdict};
use std::fmt::Write;

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = setting(&report.setting);
    let width = report
        .rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    let _ = writeln!(
        text,
        "{:width$} {:>12} {:12} {:>9} {:>9}  CPU (own + nodes)",
        "measured", "median", "", "p50 ms", "p99 ms"
    );
    for row in &report.rows {
        line(&mut text, row, width);
        for against in &row.against {
            let _ = writeln!(text, "{}", beside(against));
        }
    }
    text
}

fn setting(setting: &Setting) -> String {
    let mut text = String::new();
    if let Some(cluster) = &setting.cluster {
        let policy = setting.policy.as_deref().unwrap_or("policy not known");
        let voters = setting.voters.unwrap_or(0);
        let _ = writeln!(text, "{cluster}: {policy}; {voters} metadata voters");
    }
    let _ = writeln!(
        text,
        "limits in {}; large file {}; median of {}; {} processors\n",
        setting.directory,
        drystone_types::ByteCount(setting.size_bytes),
        setting.repeat,
        setting.processors
    );
    text
}

fn line(text: &mut String, row: &Row, width: usize) {
    let millis = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let _ = write!(
        text,
        "{:width$} {:>12} {:12} {:>9} {:>9}  {}",
        row.name,
        figure(row.value),
        row.unit,
        millis(row.p50_ms),
        millis(row.p99_ms),
        cpu(&row.cpu)
    );
    if let Some(note) = &row.note {
        let _ = write!(text, "  [{note}]");
    }
    text.push('\n');
}

/// Three digits or more, and no more decimals than that takes.
fn figure(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

fn cpu(cpu: &Cpu) -> String {
    let pair = |own: f64, nodes: Option<f64>, unit: &str| match nodes {
        Some(nodes) => format!("{own:.2} + {nodes:.2} {unit}"),
        None => format!("{own:.2} {unit}"),
    };
    match (cpu.own_seconds_per_gib, cpu.own_micros_per_operation) {
        (Some(own), _) => pair(own, cpu.cluster_seconds_per_gib, "s/GiB"),
        (None, Some(own)) => pair(own, cpu.cluster_micros_per_operation, "us each"),
        (None, None) => String::new(),
    }
}

/// Two digits that say something, also where a ratio is small.
fn ratio(value: f64) -> String {
    let decimals = if value < 0.1 { 4 } else { 2 };
    format!("{value:.decimals$}")
}

fn beside(against: &Against) -> String {
    let what = if against.compares == "p50_ms" { "p50 " } else { "" };
    let mut text = format!(
        "    {} x {what}{} {} of {}",
        ratio(against.ratio),
        figure(against.value),
        against.unit,
        against.limit.trim_start_matches("limit: ")
    );
    for (word, verdict) in [("required", against.required), ("goal", against.goal)] {
        if let Some(verdict) = verdict {
            let _ = write!(text, "; {word} {}", judged(verdict));
        }
    }
    text
}

fn judged(verdict: Verdict) -> String {
    let met = if verdict.met { "met" } else { "MISSED" };
    match verdict.bound {
        Bound::AtLeast(least) => format!(">= {least} {met}"),
        Bound::AtMost(most) => format!("<= {most} {met}"),
    }
}

#[cfg(test)]
mod tests;
