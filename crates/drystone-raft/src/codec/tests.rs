use super::*;
use proptest::prelude::*;

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

prop_compose! {
    fn any_append()(
        term in 5..9u64, (index, log_term) in prop_oneof![Just((0, 0)), (1..100u64, 1..5u64)], commit in 0..1_u64 << 62, context in any_bytes(),
        datas in proptest::collection::vec((any_bytes(), any::<bool>()), 0..5), priority in any::<i64>(),
    ) -> RaftMessage {
        let entries = datas.into_iter().enumerate().map(|(i, (data, conf))| RaftEntry {
            kind: u32::from(conf), term, index: index + 1 + i as u64, data, context: Bytes::new(),
        }).collect();
        RaftMessage { kind: 3, to: 1, from: 2, term, log_term, index, entries, commit, context, priority,
            ..Default::default() }
    }
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_went(message in any_append()) {
        let there = message_from_proto(message.clone()).unwrap();
        prop_assert_eq!(message_to_proto(&there), message);
    }

    #[test]
    fn a_change_comes_back_as_it_went(
        kinds in proptest::collection::vec((0..3u32, 1..9u64), 0..4), context in any_bytes(),
    ) {
        let steps = kinds.into_iter().map(|(kind, node)| ConfChangeStep { kind, node }).collect();
        let change = ConfChange { steps, context, transition: 0 };
        prop_assert_eq!(decode_change(&encode_change(&change)).unwrap(), change.clone());
        prop_assert!(change_to_raft(&change).is_ok());
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in any_bytes()) {
        let _ = decode_change(&bytes);
        if let Ok(message) = RaftMessage::decode(bytes) {
            let _ = message_from_proto(message);
        }
    }
}

#[test]
fn what_does_not_travel_is_refused() {
    let good = RaftMessage {
        kind: 8,
        to: 1,
        from: 2,
        term: 3,
        ..Default::default()
    };
    assert!(message_from_proto(good.clone()).is_ok());
    for kind in [0, 1, 2, 7, 10, 11, 12, 13, 19, u32::MAX] {
        assert!(
            message_from_proto(RaftMessage { kind, ..good.clone() }).is_err(),
            "{kind}"
        );
    }
    assert!(
        message_from_proto(RaftMessage {
            from: 0,
            ..good.clone()
        })
        .is_err()
    );
    assert!(
        message_from_proto(RaftMessage {
            term: 0,
            ..good.clone()
        })
        .is_err()
    );
    for beyond in [1 << 62, u64::MAX] {
        let message = RaftMessage {
            commit: beyond,
            ..good.clone()
        };
        assert!(message_from_proto(message).is_err(), "{beyond}");
    }
    let entry = RaftEntry {
        index: 9,
        term: 3,
        ..Default::default()
    };
    assert!(
        message_from_proto(RaftMessage {
            kind: 3,
            entries: vec![entry],
            ..good
        })
        .is_err()
    );
}

#[test]
fn empty_data_ends_a_joint_change() {
    assert_eq!(decode_change(&Bytes::new()).unwrap(), ConfChange::default());
}
