use super::*;

/// Every limit program on a small amount of work, over real files and sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_limit_program_does_its_work() {
    let directory = tempfile::tempdir().unwrap();
    let env = Env::os();
    let watch = Stopwatch::new(&env, &[]);
    let content = (0..FRAME).map(|at| (at * 7 % 251) as u8).collect();
    let scratch = Arc::new(Scratch::create(directory.path(), "limits", content).unwrap());
    let size = 3 << 20;
    let limits = [
        Limit::DirectWrite { size },
        Limit::CopyThree { size },
        Limit::Chain { size, streams: 1 },
        Limit::Chain { size, streams: 4 },
        Limit::Sendfile { size, streams: 2 },
        Limit::DirectRead { size },
        Limit::SyncBlock { operations: 3 },
        Limit::GroupCommit {
            bytes: 4096,
            clients: 1,
            operations: 3,
        },
        Limit::GroupCommit {
            bytes: 65536,
            clients: 16,
            operations: 50,
        },
        Limit::GroupCommit {
            bytes: 132,
            clients: 64,
            operations: 200,
        },
        Limit::Lookup {
            clients: 1,
            operations: 10,
        },
        Limit::Lookup {
            clients: 64,
            operations: 1000,
        },
    ];
    for limit in limits {
        let sample = run(&env, &watch, &scratch, limit).await.unwrap();
        assert!(sample.value() > 0.0, "{limit:?}");
        match limit {
            Limit::SyncBlock { operations }
            | Limit::GroupCommit { operations, .. }
            | Limit::Lookup { operations, .. } => assert_eq!(sample.operations, operations as u64),
            _ => assert_eq!(sample.bytes, size),
        }
    }
    drop(scratch);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_frame_is_noticed() {
    let mut frame = vec![1; frame::HEADER + 10];
    frame::seal(&mut frame, 7);
    assert_eq!(frame::open(&frame).unwrap(), Some((7, &[1; 10][..])));
    assert_eq!(frame::open(&frame[..frame.len() - 1]).unwrap(), None);
    assert_eq!(frame::open(&frame[..5]).unwrap(), None);
    frame[frame::HEADER] ^= 1;
    assert_eq!(
        frame::open(&frame).unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

#[test]
fn shares_are_whole_frames_and_add_up() {
    assert_eq!(shares(5 << 20, 2), [3 << 20, 2 << 20]);
    assert_eq!(shares(1 << 20, 3), [1 << 20, 0, 0]);
    assert_eq!(shares(64 << 20, 4).iter().sum::<u64>(), 64 << 20);
}

#[test]
fn names_are_as_people_say_them() {
    assert_eq!(size_of(4096), "4 KiB");
    assert_eq!(size_of(132), "132 B");
    assert_eq!(
        Limit::Lookup {
            clients: 1,
            operations: 5
        }
        .name(),
        "limit: batched look-ups, 1 client"
    );
    assert_eq!(
        Limit::GroupCommit {
            bytes: 65536,
            clients: 16,
            operations: 1
        }
        .name(),
        "limit: group commit on 3, 64 KiB, 16 clients"
    );
}
