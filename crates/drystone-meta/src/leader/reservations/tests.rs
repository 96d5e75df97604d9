use super::*;

const K64: u64 = 64 << 10;
const M1: u64 = 1 << 20;

fn at(seconds: u64) -> Monotonic {
    Monotonic(seconds * 1_000_000)
}

#[test]
fn a_grant_counts_until_the_disk_has_told_of_the_chunk() {
    let mut reservations = Reservations::default();
    reservations.grant(1, 10, M1, at(0));
    reservations.grant(1, 20, M1, at(0));
    reservations.grant(2, 10, K64, at(0));
    assert_eq!(reservations.of_disk(10), M1 + K64 + 2 * K64);
    // A report that does not name the chunks was made before they began.
    reservations.reported(10);
    assert_eq!(reservations.of_disk(10), M1 + K64 + 2 * K64);
    reservations.begun(1, 10);
    reservations.begun(1, 10);
    assert_eq!(
        (reservations.of_disk(10), reservations.of_disk(20)),
        (2 * K64, M1 + K64)
    );
}

#[test]
fn of_a_chunk_that_is_recorded_its_length_counts_until_the_next_report() {
    let mut reservations = Reservations::default();
    reservations.grant(1, 10, 64 * M1, at(0));
    reservations.grant(1, 20, 64 * M1, at(0));
    reservations.begun(1, 20);
    reservations.committed(1, 1000);
    assert_eq!(
        (reservations.of_disk(10), reservations.of_disk(20)),
        (K64, 0),
        "the other has told of it"
    );
    reservations.committed(1, 1000);
    assert_eq!(reservations.of_disk(10), K64, "once");
    reservations.reported(10);
    assert_eq!(reservations.of_disk(10), 0);
}

#[test]
fn grants_that_nobody_begins_with_end() {
    let mut reservations = Reservations::default();
    let life = (BEGIN_WITHIN + ON_THE_WAY).as_secs();
    reservations.grant(1, 10, M1, at(0));
    reservations.grant(2, 10, M1, at(1));
    // Again, as a replacement that was asked for twice: it is counted once, and from now on.
    reservations.grant(1, 10, 2 * M1, at(2));
    assert_eq!(reservations.of_disk(10), 3 * M1 + 2 * K64);
    reservations.expire(at(life));
    assert_eq!(reservations.of_disk(10), 3 * M1 + 2 * K64);
    reservations.expire(at(life + 1));
    assert_eq!(reservations.of_disk(10), 2 * M1 + K64);
    reservations.expire(at(life + 2));
    assert_eq!(reservations.of_disk(10), 0);
    assert!(reservations.grants.is_empty() && reservations.ages.is_empty());
}

#[test]
fn as_many_grants_are_counted_as_there_is_room_for() {
    let mut reservations = Reservations::default();
    for chunk in 1..=MOST as u64 + 10 {
        reservations.grant(chunk, 10, 1, at(0));
    }
    assert_eq!(reservations.ages.len(), MOST);
    assert_eq!(reservations.of_disk(10), MOST as u64 * K64);
}
