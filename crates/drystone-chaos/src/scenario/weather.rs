//! Every server is reached through a proxy that delays, throttles, stalls and cuts in the middle of frames.

use super::{Scenario, Stage, under_way};
use crate::cluster::{Shape, proxy_address};
use crate::proxy::{Done, Proxy, Weather};
use crate::report::Round;
use drystone_system::files::Seed;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "weather",
    about: "delay, throttle, stall and cut in the middle of frames, by proxies",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io"],
    rounds_per_cluster: 20,
    shape,
    play,
};

fn shape(seed: u64) -> Shape {
    let roomy = super::roomy(seed);
    let metadata = (1..=3u16).map(|i| (format!("metadata-{i}"), proxy_address(20_000 + i)));
    let chunk = (1..=roomy.chunk_servers as u16).map(|i| (format!("chunk-{i}"), proxy_address(20_020 + i)));
    Shape {
        advertised: metadata.chain(chunk).collect(),
        ..roomy
    }
}

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let (what, weather, everywhere) = draw(seed);
    let before = done(&stage.proxies);
    let working = stage.writers.start();
    Stage::warm(&working, 10, Duration::from_millis(200));
    let one = (seed.draw() % stage.proxies.len() as u64) as usize;
    round.fault = format!(
        "{what} {}",
        if everywhere {
            "everywhere".to_owned()
        } else {
            format!("at server {one}")
        }
    );
    let at = Instant::now();
    for (number, proxy) in stage.proxies.iter().enumerate() {
        if everywhere || number == one {
            proxy.set(weather);
        }
    }
    std::thread::sleep(Duration::from_millis(1000 + seed.draw() % 2000));
    stage
        .proxies
        .iter()
        .for_each(|proxy| proxy.set(Weather::default()));
    Stage::warm(&working, 0, Duration::from_millis(500));
    let events = stage.settle(working, &mut round);
    for ((name, number), (_, before)) in done(&stage.proxies).into_iter().zip(before) {
        round.count(name, number - before);
        round.is_hit |= number > before;
    }
    round.count("unacknowledged when it began", under_way(&events, at));
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}

/// What the proxies have done in all.
fn done(proxies: &[Proxy]) -> [(&'static str, u64); 5] {
    let sum = |pick: fn(&Done) -> &AtomicU64| -> u64 {
        proxies
            .iter()
            .map(|proxy| pick(proxy.done()).load(Ordering::Relaxed))
            .sum()
    };
    [
        ("pieces delayed", sum(|done| &done.delayed)),
        ("pieces throttled", sum(|done| &done.throttled)),
        ("pieces stalled", sum(|done| &done.stalled)),
        ("cut in a frame", sum(|done| &done.cut)),
        ("silent in a frame", sum(|done| &done.hushed)),
    ]
}

fn draw(seed: &mut Seed) -> (&'static str, Weather, bool) {
    let calm = Weather::default();
    let (what, weather) = match seed.draw() % 5 {
        0 => (
            "delay",
            Weather {
                delay_ms: 1 + seed.draw() % 80,
                ..calm
            },
        ),
        1 => (
            "throttle",
            Weather {
                throttle_kib: 16 + seed.draw() % 200,
                ..calm
            },
        ),
        2 => (
            "stall",
            Weather {
                is_stalled: true,
                ..calm
            },
        ),
        3 => (
            "cuts",
            Weather {
                cut_every: 3 + seed.draw() % 30,
                ..calm
            },
        ),
        _ => (
            "silence",
            Weather {
                hush_every: 8 + seed.draw() % 40,
                ..calm
            },
        ),
    };
    (what, weather, seed.draw().is_multiple_of(2))
}
