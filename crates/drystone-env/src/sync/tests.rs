use super::{Mutex, Rank, RwLock};

const OUTER: Rank = Rank::new(1, "outer");
const INNER: Rank = Rank::new(2, "inner");

#[test]
fn locks_are_taken_in_the_order_of_their_ranks() {
    let (outer, inner) = (RwLock::new(OUTER, 1), Mutex::new(INNER, 2));
    for _ in 0..2 {
        let first = outer.read();
        let second = inner.lock();
        assert_eq!(*first + *second, 3);
    }
    *outer.write() = 5;
    assert_eq!(*outer.read(), 5);
}

#[test]
#[should_panic(expected = "lock outer (rank 1) is taken while inner (rank 2) is held")]
#[cfg(debug_assertions)]
fn a_lower_rank_is_refused() {
    let (outer, inner) = (RwLock::new(OUTER, ()), Mutex::new(INNER, ()));
    let _second = inner.lock();
    let _first = outer.read();
}

#[test]
#[should_panic(expected = "lock outer (rank 1) is taken while outer (rank 1) is held")]
#[cfg(debug_assertions)]
fn a_second_reader_of_one_thread_is_refused() {
    let outer = RwLock::new(OUTER, ());
    let _first = outer.read();
    let _second = outer.read();
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    let (outer, inner) = (Mutex::new(OUTER, ()), Mutex::new(INNER, ()));
    let first = outer.lock();
    let second = inner.lock();
    drop(first);
    drop(second);
    drop(outer.lock());
}

#[test]
fn a_lock_whose_holder_panicked_is_handed_on() {
    let lock = std::sync::Arc::new(Mutex::new(OUTER, 7));
    let inner = std::sync::Arc::clone(&lock);
    let ended = std::panic::catch_unwind(move || {
        let _held = inner.lock();
        panic!("as the test wants");
    });
    assert!(ended.is_err());
    assert_eq!(*lock.lock(), 7);
    assert!(lock.try_lock().is_some());
}
