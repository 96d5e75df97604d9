use super::*;

fn entry(units: u32, runs: usize) -> IndexEntry {
    let runs = (0..runs as u32).map(|n| Run {
        arena: n,
        first: 3,
        units,
    });
    IndexEntry {
        placement: PlacementIndex(5),
        epoch: Epoch(1),
        state: EntryState::Sealed,
        runs: Runs::of(runs.collect()),
        length: 10_000,
        stored: 10_000,
        checksum: 77,
        tail_at: 12_288,
    }
}

fn filled(count: u64) -> Leaf {
    let mut leaf = Leaf::new();
    for chunk in 0..count {
        let runs = if chunk % 5 == 0 { 3 } else { 1 };
        leaf.add(LeafEntry::of(ChunkId(chunk * 3), &entry(1, runs)).unwrap());
    }
    leaf
}

fn encoded(leaf: &Leaf) -> (Vec<u8>, LeafImage) {
    let mut place = vec![9; LEAF_BYTES];
    let checksum = leaf.encode(&mut place);
    (place, LeafImage { place: 4, checksum })
}

#[test]
fn a_leaf_is_read_back() {
    let leaf = filled(200);
    let (place, image) = encoded(&leaf);
    let found = Leaf::decode(&place, image, ChunkId(0), Some(ChunkId(598))).unwrap();
    assert_eq!((&found.entries, &found.several), (&leaf.entries, &leaf.several));
    assert_eq!(found.get(ChunkId(15)), Some(entry(1, 3)));
    assert_eq!(found.get(ChunkId(18)), Some(entry(1, 1)));
    assert_eq!(found.get(ChunkId(19)), None);
    assert_eq!(found.image(), Some(image));
}

#[test]
fn the_bytes_of_a_leaf_do_not_change() {
    let (place, _) = encoded(&filled(2));
    let text: String = place[..122].iter().map(|b| format!("{b:02x}")).collect();
    let golden = "44534c46020000007a000000b51515d300000000000000000500000000000000";
    assert_eq!(&text[..golden.len()], golden);
    assert!(place[122..].iter().all(|byte| *byte == 0));
}

#[test]
fn every_damaged_bit_and_every_other_leaf_is_found() {
    let (place, image) = encoded(&filled(4));
    let bytes = u32::from_le_bytes(place[8..12].try_into().unwrap()) as usize;
    let read = |place: &[u8], image| Leaf::decode(place, image, ChunkId(0), None).map(|_| ());
    assert_eq!(read(&place, image), Ok(()));
    for bit in 0..bytes * 8 {
        let mut damaged = place.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&damaged, image).is_err(), "bit {bit}");
    }
    let (older, _) = encoded(&filled(3));
    assert_eq!(read(&older, image), Err("it is another leaf, or an older one"));
    assert_eq!(read(&[0; LEAF_BYTES], image), Err("it is no leaf"));
    for (first, end) in [(1, None), (0, Some(9))] {
        let found = Leaf::decode(&place, image, ChunkId(first), end.map(ChunkId));
        assert!(found.is_err(), "chunks 0 to 9 are not from {first} to {end:?}");
    }
}

#[test]
fn what_a_leaf_cannot_say_is_not_for_leaves() {
    let sealed = entry(1, 1);
    assert!(LeafEntry::of(ChunkId(1), &sealed).is_some());
    let others = [
        IndexEntry {
            state: EntryState::Fenced,
            ..sealed.clone()
        },
        IndexEntry {
            stored: 4096,
            ..sealed.clone()
        },
        IndexEntry {
            epoch: Epoch(1 << 32),
            ..sealed.clone()
        },
        entry(1, 2050),
    ];
    for entry in others {
        assert!(LeafEntry::of(ChunkId(1), &entry).is_none(), "{entry:?}");
    }
}
