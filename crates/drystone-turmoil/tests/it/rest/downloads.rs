//! Files that go out.

use super::{PATIENCE, content, holds_after_cut, put, scenario};
use crate::cluster::chunk_name;
use crate::user::{self, Got, User, whole};
use http::Method;

/// A download that cannot be finished is cut, one that another replica can finish is whole.
#[test]
fn a_download_is_whole_or_seen_as_cut() {
    scenario(3, |host, cluster, seed| async move {
        let file = content(seed, 24 << 20);
        let got = put(&host, "/file", whole(file.clone())).await.expect("an answer");
        assert_eq!(got.status, 201);
        let begin = async || {
            let mut user = User::connect(&host).await.expect("the door listens");
            let answer = user
                .begin(Method::GET, "/files/file", &[], whole(""))
                .await
                .expect("it begins");
            assert_eq!(answer.headers()["content-length"], file.len().to_string());
            let got = Got {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                body: Vec::new(),
                whole: false,
            };
            (got, answer.into_body(), user)
        };
        // One server is gone: the others have what it had.
        let (mut got, body, _user) = begin().await;
        turmoil::partition("door", chunk_name(1));
        user::read(&host, body, &mut got, PATIENCE).await;
        assert!(
            got.whole && got.body == file,
            "{} bytes, whole: {}",
            got.body.len(),
            got.whole
        );
        turmoil::repair("door", chunk_name(1));
        host.pass(12_000).await;
        // All are gone: what came is not all, and the user sees it.
        let (mut got, body, _user) = begin().await;
        for name in cluster.chunk_names() {
            turmoil::partition("door", name);
        }
        user::read(&host, body, &mut got, 60_000).await;
        assert!(
            !got.whole && got.body.len() < file.len(),
            "{} bytes, whole: {}",
            got.body.len(),
            got.whole
        );
        assert!(file.starts_with(&got.body), "and what came is right");
        for name in cluster.chunk_names() {
            turmoil::repair("door", name);
        }
        holds_after_cut(&host, "/file", &file).await;
        // The user's own link is gone: nothing says that it is over.
        let (mut got, body, _user) = begin().await;
        turmoil::partition("user", "door");
        user::read(&host, body, &mut got, 5_000).await;
        assert!(!got.whole && got.body.len() < file.len());
    });
}
