//! Bodies that are held up: on their way through the door they take a bounded place in it.

use super::{content, holds, put, scenario};
use crate::cluster::DOOR_UNACKNOWLEDGED;
use crate::user::{self, Got, PIECE, USER_HOLDS, User, pieces, whole};
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What lies in the buffers of one connection in these worlds: 64 segments of 64 KiB.
const SOCKET: u64 = 4 << 20;
/// A reader's frames of 1 MiB in flight, and what hyper keeps.
const READER: u64 = 10 << 20;

/// It asks for a large file and reads nothing. Others are served, and it gets all of it when it goes on.
#[test]
fn a_user_that_does_not_read_takes_a_bounded_place() {
    scenario(2, |host, cluster, seed| async move {
        let file = content(seed, 32 << 20);
        assert_eq!(
            put(&host, "/file", whole(file.clone()))
                .await
                .expect("an answer")
                .status,
            201
        );
        let before = cluster.written();
        let mut user = User::connect(&host).await.expect("the door listens");
        let answer = user
            .begin(Method::GET, "/files/file", &[], whole(""))
            .await
            .expect("it begins");
        host.pass(5_000).await;
        let fetched = cluster.written() - before;
        let most = READER + 2 * SOCKET;
        assert!(
            (1 << 20..=most).contains(&fetched),
            "{} MiB were fetched for nobody",
            fetched >> 20
        );
        let start = host.env.clock.now();
        holds(&host, "/up", Some(&vec![1; 10_000].into())).await;
        assert!(host.since(start) < 1_000, "others are served");
        let mut got = Got {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: Vec::new(),
            whole: false,
        };
        user::read(&host, answer.into_body(), &mut got, 5_000).await;
        assert!(got.whole && got.body == file);
    });
}

/// The chunk servers take nothing for a while: the door takes no more of the user than it may have unacknowledged.
#[test]
fn an_upload_waits_while_the_chunk_servers_are_stuck() {
    scenario(2, |host, cluster, seed| async move {
        let file = content(seed, 48 << 20);
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        for name in cluster.chunk_names() {
            turmoil::hold("door", name);
        }
        let body = pieces(&host, file.clone(), 0, usize::MAX, || false);
        let body = user::counted(body, move || {
            count.fetch_add(PIECE, Ordering::Relaxed);
        });
        let upload = user::ask(&host, Method::PUT, "/files/file", &[], body, 20_000);
        let release = async {
            host.pass(700).await;
            let held = taken.load(Ordering::Relaxed) as u64;
            let most = DOOR_UNACKNOWLEDGED + USER_HOLDS + (2 << 20);
            assert!((1 << 20..=most).contains(&held), "{} MiB were taken", held >> 20);
            for name in cluster.chunk_names() {
                turmoil::release("door", name);
            }
        };
        let (upload, ()) = tokio::join!(upload, release);
        let upload = upload.expect("an answer");
        assert_eq!(upload.status, 201, "{}", String::from_utf8_lossy(&upload.body));
        holds(&host, "/file", Some(&file)).await;
    });
}
