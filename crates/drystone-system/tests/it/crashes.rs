//! Everything dies at once, in the midst of writes.

use drystone_system::files::{Seed, bytes};
use drystone_system::{Cluster, Options};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WRITERS: u64 = 4;

/// The content that a file's number stands for: most are small, some are larger than fits in the namespace.
fn content(number: u64) -> Vec<u8> {
    let mut seed = Seed(number);
    let length = match seed.draw() % 8 {
        0 => seed.draw() % 3_000_000,
        1 => 0,
        _ => seed.draw() % 20_000,
    };
    bytes(number, length as usize)
}

/// Writes until the cluster is gone. Answers which files were acknowledged, and which one nobody knows about.
fn write_until_the_end(cluster: &Cluster, next: &AtomicU64) -> (Vec<u64>, u64) {
    let mut http = cluster.http();
    let mut done = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let body = content(number);
        match http.try_ask(
            "PUT",
            &format!("/files/f{number}"),
            &[],
            body.len() as u64,
            &mut &body[..],
        ) {
            Ok(answer) if answer.status == 201 => done.push(number),
            // The death of another node is met before one's own.
            Ok(answer) => {
                println!("f{number}: {}", answer.status);
                return (done, number);
            }
            Err(_) => return (done, number),
        }
    }
}

fn crash(options: Options, rounds: u64) {
    let mut cluster = Cluster::start(options);
    let next = AtomicU64::new(0);
    let (mut done, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let known = done.len();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| scope.spawn(|| write_until_the_end(&cluster, &next)))
                .collect();
            // Not at the same point of their work every time.
            std::thread::sleep(Duration::from_millis(900 + 137 * round));
            cluster.kill_processes();
            for writer in writers {
                let (acknowledged, last) = writer.join().expect("writers do not panic");
                done.extend(acknowledged);
                unknown.push(last);
            }
        });
        println!(
            "round {round}: killed with {WRITERS} writes under way, {} acknowledged",
            done.len() - known
        );
        assert!(done.len() > known, "nothing was written before the kill");
        cluster.kill_all();
        cluster.up();
        let mut http = cluster.http();
        for number in &done {
            let body = http.get(&format!("/files/f{number}")).expect(200);
            assert!(
                body == content(*number),
                "f{number} was acknowledged and came back otherwise"
            );
        }
        for number in &unknown {
            let answer = http.get(&format!("/files/f{number}"));
            let is_whole = answer.status == 200 && answer.body == content(*number);
            assert!(
                is_whole || answer.status == 404,
                "f{number} is neither whole nor absent: {}",
                answer.status
            );
        }
    }
}

#[test]
fn the_death_of_one_process_loses_nothing_acknowledged() {
    crash(Options::single(), 4);
}

#[test]
fn the_death_of_all_processes_loses_nothing_acknowledged() {
    crash(Options::processes(), 2);
}
