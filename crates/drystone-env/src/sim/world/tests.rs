use super::*;
use crate::net::BoxStream;
use crate::{Env, Monotonic};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PORT: u16 = 9;

type Log = Arc<Mutex<Vec<String>>>;

fn say(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

fn said(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

/// Echoes what every connection brings.
fn echo(world: &World, host: HostId) -> Env {
    let env = world.env(host);
    let inner = env.clone();
    let serve = async move {
        let mut listener = inner.net.bind((host.ip(), PORT).into()).await.unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = async move {
                let mut buffer = [0; 100];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            inner.spawn.spawn("echo", Box::pin(answer));
        }
    };
    env.spawn.spawn("listen", Box::pin(serve));
    env
}

async fn connect(env: &Env, host: HostId) -> std::io::Result<BoxStream> {
    env.net.connect(&format!("{}:{PORT}", host.ip())).await
}

/// Sends `rounds` bytes one by one and says what came back, or how it ended.
fn talk(env: &Env, to: HostId, rounds: u8, log: &Log) {
    let (env, log) = (env.clone(), Arc::clone(log));
    let spawn = Arc::clone(&env.spawn);
    let task = async move {
        let mut stream = match connect(&env, to).await {
            Ok(stream) => stream,
            Err(error) => return say(&log, format!("connect: {:?}", error.kind())),
        };
        for round in 0..rounds {
            let mut buffer = [0];
            let result = match stream.write_all(&[round]).await {
                Ok(()) => stream.read_exact(&mut buffer).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => say(&log, format!("got {}", buffer[0])),
                Err(error) => return say(&log, format!("lost: {:?}", error.kind())),
            }
            env.clock.sleep(Duration::from_millis(10)).await;
        }
        say(&log, "done");
    };
    spawn.spawn("talk", Box::pin(task));
}

fn two_hosts(seed: u64) -> (World, HostId, HostId, Log) {
    let world = World::new(seed);
    let (a, b) = (world.add_host("a"), world.add_host("b"));
    (world, a, b, Log::default())
}

#[test]
fn bytes_travel_both_ways_in_order_and_take_time() {
    let (world, a, b, log) = two_hosts(1);
    let (_b, a_env) = (echo(&world, b), world.env(a));
    world.run_for(Duration::from_millis(1));
    talk(&a_env, b, 3, &log);
    world.run_for(Duration::from_secs(1));
    assert_eq!(said(&log), ["got 0", "got 1", "got 2", "done"]);
    assert!(world.net_stats().bytes == 6 && world.now() >= Monotonic(1_000_000));
}

#[test]
fn nothing_passes_a_cut_link_and_everything_arrives_when_it_heals() {
    for (from, to) in [(0, 1), (1, 0)] {
        let (world, a, b, log) = two_hosts(2);
        let (_b, a_env) = (echo(&world, b), world.env(a));
        world.run_for(Duration::from_millis(1));
        talk(&a_env, b, 2, &log);
        world.run_for(Duration::from_millis(5));
        assert_eq!(said(&log), ["got 0"]);
        world.cut(HostId(from), HostId(to));
        world.run_for(Duration::from_secs(3600));
        assert_eq!(said(&log), ["got 0"], "silence, for as long as it takes");
        assert_eq!(world.net_stats().stalls, 1);
        world.heal(HostId(from), HostId(to));
        world.run_for(Duration::from_secs(2));
        assert_eq!(said(&log), ["got 0", "got 1", "done"]);
    }
}

#[test]
fn connecting_is_refused_by_a_live_host_and_unanswered_by_a_dark_one() {
    let (world, a, b, log) = two_hosts(3);
    let env = world.env(a);
    talk(&env, b, 1, &log);
    world.run_for(Duration::from_secs(1));
    assert_eq!(said(&log), ["connect: ConnectionRefused"]);
    world.power_off(b);
    talk(&env, b, 1, &log);
    world.run_for(Duration::from_secs(50));
    assert_eq!(said(&log).len(), 1);
    world.run_for(Duration::from_secs(50));
    assert_eq!(said(&log)[1], "connect: TimedOut");
}

#[test]
fn a_killed_process_is_noticed_and_a_power_cut_is_not() {
    for seed in 0..20 {
        let (world, a, b, log) = two_hosts(seed);
        let env = echo(&world, b);
        let a_env = world.env(a);
        world.run_for(Duration::from_millis(1));
        talk(&a_env, b, 100, &log);
        world.run_for(Duration::from_millis(25));
        world.kill(b);
        drop(env);
        world.run_for(Duration::from_millis(30));
        let last = said(&log).pop().unwrap();
        assert!(last.starts_with("lost: "), "{last}");

        let env = echo(&world, b);
        talk(&a_env, b, 100, &log);
        world.run_for(Duration::from_millis(25));
        world.power_off(b);
        drop(env);
        let before = said(&log).len();
        world.run_for(Duration::from_secs(100));
        assert_eq!(said(&log).len(), before, "half-open");
        world.power_on(b);
        world.run_for(Duration::from_secs(1));
        assert_eq!(
            said(&log).len(),
            before + 1,
            "the next process' host knows nothing of it"
        );
    }
}

#[test]
fn a_slow_reader_holds_its_writer_back() {
    let (world, a, b, log) = two_hosts(4);
    let env = world.env(b);
    let inner = env.clone();
    let serve = async move {
        let mut listener = inner.net.bind((b.ip(), PORT).into()).await.unwrap();
        let (_stream, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    };
    env.spawn.spawn("deaf", Box::pin(serve));
    let a_env = world.env(a);
    let sent = Arc::new(AtomicU64::new(0));
    let (inner, count) = (a_env.clone(), Arc::clone(&sent));
    let flood = async move {
        inner.clock.sleep(Duration::from_millis(1)).await;
        let mut stream = connect(&inner, b).await.unwrap();
        loop {
            let wrote = stream.write(&[7; 10_000]).await.unwrap();
            count.fetch_add(wrote as u64, Ordering::Relaxed);
        }
    };
    a_env.spawn.spawn("flood", Box::pin(flood));
    world.run_for(Duration::from_secs(10));
    assert_eq!(sent.load(Ordering::Relaxed), 256 << 10);
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn a_paused_process_stands_still_and_goes_on() {
    let (world, a, _, log) = two_hosts(5);
    let env = world.env(a);
    let (inner, ours) = (env.clone(), Arc::clone(&log));
    let tick = async move {
        loop {
            inner.clock.sleep(Duration::from_secs(1)).await;
            say(&ours, "tick");
        }
    };
    env.spawn.spawn("tick", Box::pin(tick));
    world.run_for(Duration::from_millis(2500));
    world.pause(a);
    world.run_for(Duration::from_secs(100));
    assert_eq!(said(&log).len(), 2);
    world.resume(a);
    world.run_for(Duration::from_millis(500));
    assert_eq!(said(&log).len(), 3);
}

#[test]
fn clocks_drift_and_step_on_their_own() {
    let (world, a, b, log) = two_hosts(6);
    let (a_env, b_env) = (world.env(a), world.env(b));
    world.set_drift(a, 100_000);
    let begun = a_env.clock.now();
    let (inner, ours) = (a_env.clone(), Arc::clone(&log));
    let nap = async move {
        inner.clock.sleep(Duration::from_millis(1100)).await;
        say(&ours, "awake");
    };
    a_env.spawn.spawn("nap", Box::pin(nap));
    world.run_for(Duration::from_millis(999));
    assert!(said(&log).is_empty());
    world.run_for(Duration::from_millis(2));
    assert_eq!(said(&log), ["awake"]);
    let passed = a_env.clock.now().since(begun);
    assert!((1_100_000..1_101_500).contains(&passed.as_micros()), "{passed:?}");
    world.set_wall_error(b, -86_400_000_000);
    assert_eq!(a_env.clock.wall().0 - b_env.clock.wall().0, 86_400_000_000);
}

#[test]
fn panics_are_told_and_end_one_task_only() {
    let (world, a, _, log) = two_hosts(7);
    let env = world.env(a);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    env.spawn
        .thread("bad", Box::pin(async { panic!("number {}", 5) }));
    let ours = Arc::clone(&log);
    env.spawn
        .spawn("good", Box::pin(async move { say(&ours, "good") }));
    world.run_for(Duration::from_millis(1));
    std::panic::set_hook(hook);
    let panics = world.take_panics();
    assert_eq!(
        (panics.len(), panics[0].message.as_str(), panics[0].task.as_str()),
        (1, "number 5", "bad")
    );
    assert_eq!(said(&log), ["good"]);
}

#[test]
fn a_task_that_goes_round_without_waiting_is_a_panic() {
    let (world, a, _, log) = two_hosts(9);
    let (env, ours) = (world.env(a), Arc::clone(&log));
    let clock = Arc::clone(&env.clock);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let round = async move {
        let until = clock.now().plus(Duration::from_secs(1));
        while clock.now() < until {}
    };
    env.spawn.spawn("round", Box::pin(round));
    env.spawn
        .spawn("good", Box::pin(async move { say(&ours, "good") }));
    world.run_for(Duration::from_secs(2));
    std::panic::set_hook(hook);
    assert_eq!(world.take_panics().len(), 1);
    assert_eq!(said(&log), ["good"]);
}

#[test]
fn what_a_dead_process_starts_is_dropped() {
    let (world, a, _, log) = two_hosts(8);
    let old = world.env(a);
    world.kill(a);
    let _new = world.env(a);
    let ours = Arc::clone(&log);
    old.spawn
        .spawn("ghost", Box::pin(async move { say(&ours, "boo") }));
    world.run_for(Duration::from_millis(1));
    assert!(said(&log).is_empty());
}

#[test]
fn one_seed_is_one_history() {
    let run = |seed| {
        let (world, a, b, log) = two_hosts(seed);
        let (_b, a_env) = (echo(&world, b), world.env(a));
        for _ in 0..5 {
            talk(&a_env, b, 20, &log);
        }
        world.run_for(Duration::from_millis(50));
        world.cut(a, b);
        world.run_for(Duration::from_millis(50));
        world.heal(a, b);
        world.run_for(Duration::from_secs(5));
        (world.digest(), world.polls(), said(&log))
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9).0, run(10).0);
    assert_ne!(run(9).2, run(10).2, "seeds choose different orders");
}
