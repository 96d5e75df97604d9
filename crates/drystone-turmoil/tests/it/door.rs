//! The HTTP server of the doors, without a cluster behind it: peers that vanish, stall or stay; shutdown.

use crate::seams::{Host, seeds, world};
use crate::user::{self, DOOR, User, pieces, whole};
use bytes::Bytes;
use drystone_gateway::response::{BodyError, full};
use drystone_gateway::{HttpOptions, HttpServer, Metrics, Pace, RequestBody, Response};
use futures_util::io::AsyncWriteExt;
use futures_util::{StreamExt, stream};
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A body of which nothing comes, an answer of which nothing is taken, a connection without a request: 30 s each.
const PATIENCE: u64 = 30_000;
/// What a peer that was fast has saved here, at 1 KiB/s: 16 s.
const CREDIT_BYTES: u64 = 16 << 10;
const CREDIT: u64 = 16_000;
/// hyper finds out by timers of its own and of ours.
const LATE: u64 = 1_000;
const LARGE: usize = 16 << 20;

#[derive(Clone, Default)]
struct Door(Arc<Mutex<Option<(HttpServer, Host)>>>);

impl Door {
    fn host(&self) -> Host {
        self.0.lock().unwrap().as_ref().expect("it runs").1.clone()
    }

    async fn up(&self, host: &Host) {
        assert!(host.wait(100, || self.0.lock().unwrap().is_some()).await);
    }

    fn shutdown(&self) {
        self.0.lock().unwrap().as_ref().expect("it runs").0.shutdown();
    }

    fn connections(&self) -> usize {
        self.host().tasks.live("http-connection")
    }
}

/// `PUT` answers with the number of bytes that came, `GET /large` with a large body, `GET /slow` after two seconds.
fn start(sim: &mut turmoil::Sim<'static>, seed: u64, options: HttpOptions) -> Door {
    let door = Door::default();
    let out = door.clone();
    sim.host("door", move || {
        let (out, options) = (out.clone(), options.clone());
        async move {
            let host = Host::new("door", seed);
            let env = host.env.clone();
            let handler =
                move |request: http::Request<RequestBody>| -> futures_util::future::BoxFuture<'static, Response> {
                    let clock = Arc::clone(&env.clock);
                    Box::pin(async move {
                        match (request.method().as_str(), request.uri().path()) {
                            ("GET", "/large") => {
                                let part = Bytes::from(vec![7; 1 << 16]);
                                let parts = stream::iter(0..LARGE >> 16)
                                    .map(move |_| Ok::<_, BodyError>(Frame::data(part.clone())));
                                Response::new(StreamBody::new(parts).boxed_unsync())
                            }
                            ("GET", _) => {
                                clock.sleep(Duration::from_secs(2)).await;
                                Response::new(full("slow"))
                            }
                            _ => match request.into_body().collect().await {
                                Ok(body) => Response::new(full(body.to_bytes().len().to_string())),
                                Err(error) => Response::new(full(format!("broken: {error}"))),
                            },
                        }
                    })
                };
            let address = ([0, 0, 0, 0], 9700).into();
            let server = HttpServer::start(&host.env, address, options, Arc::new(handler)).await?;
            *out.0.lock().unwrap() = Some((server, host));
            std::future::pending().await
        }
    });
    door
}

fn options() -> HttpOptions {
    HttpOptions {
        hosts: vec![DOOR.to_owned()],
        pace: Pace {
            credit_bytes: CREDIT_BYTES,
            ..Pace::default()
        },
        ..HttpOptions::new("test", Metrics::default())
    }
}

/// Runs `scenario` against a door in a handful of worlds.
fn scenario<F: Future<Output = ()> + 'static>(options: HttpOptions, scenario: fn(Host, Door) -> F) {
    seeds(|seed| {
        let mut sim = world(seed);
        let door = start(&mut sim, seed, options.clone());
        sim.client("user", async move {
            let host = Host::new("user", seed);
            door.up(&host).await;
            scenario(host, door).await;
            Ok(())
        });
        sim.run().unwrap();
    });
}

/// The link goes silent in the middle of a body: the server hears nothing more, not even an end.
#[test]
fn a_user_that_vanishes_in_the_middle_of_a_body_frees_its_connection() {
    scenario(options(), |host, door| async move {
        let content = Bytes::from(vec![1; 1 << 20]);
        let body = pieces(&host, content, 1, 1 << 19, || {
            turmoil::partition("user", "door");
            false
        });
        let sent = user::ask(&host, Method::PUT, "/", &[], body, 3_000).await;
        assert!(sent.is_err(), "nobody can answer: {sent:?}");
        assert_eq!(door.connections(), 1, "it waits for a while");
        let gone = host
            .wait(PATIENCE + CREDIT + LATE, || door.connections() == 0)
            .await;
        assert!(gone, "it waits for ever");
    });
}

#[test]
fn a_user_that_vanishes_in_the_middle_of_an_answer_frees_its_connection() {
    scenario(options(), |host, door| async move {
        let mut user = User::connect(&host).await.expect("the link is whole");
        let answer = user
            .begin(Method::GET, "/large", &[], whole(""))
            .await
            .expect("it begins");
        let _body = answer.into_body();
        turmoil::partition("user", "door");
        let gone = host
            .wait(PATIENCE + CREDIT + LATE, || door.connections() == 0)
            .await;
        assert!(gone, "it writes for ever");
    });
}

/// It is alive and takes the answer slowly, or pauses before it goes on: both are fine.
#[test]
fn a_slow_user_is_served() {
    scenario(options(), |host, door| async move {
        let content = Bytes::from(vec![1; 1 << 20]);
        let paced = pieces(&host, content, 2_000, 0, || false);
        let got = user::ask(&host, Method::PUT, "/", &[], paced, 120_000)
            .await
            .expect("an answer");
        assert_eq!((got.status, got.body.as_slice()), (200, b"1048576".as_slice()));
        let mut user = User::connect(&host).await.expect("the link is whole");
        let answer = user
            .begin(Method::GET, "/large", &[], whole(""))
            .await
            .expect("it begins");
        let (mut body, mut count, mut pause_at) = (answer.into_body(), 0, 4 << 20);
        while let Some(frame) = body.frame().await {
            count += frame.expect("not cut").data_ref().map_or(0, Bytes::len);
            host.pass(2).await;
            if count >= pause_at {
                host.pass(10_000).await;
                pause_at += 4 << 20;
            }
        }
        assert_eq!(count, LARGE);
        drop(user);
        assert!(host.wait(200, || door.connections() == 0).await);
    });
}

/// It connects, or has had an answer, and then nothing comes.
#[test]
fn a_connection_without_a_request_is_closed_in_time() {
    scenario(options(), |host, door| async move {
        let _silent = host.env.net.connect(DOOR).await.expect("it listens");
        let mut half = host.env.net.connect(DOOR).await.expect("it listens");
        half.write_all(b"GET /large HT").await.expect("it reads");
        let mut user = User::connect(&host).await.expect("it listens");
        let got = user
            .ask(Method::PUT, "/", &[], whole("abc"), 1_000)
            .await
            .expect("an answer");
        assert_eq!(got.body, b"3");
        turmoil::partition("user", "door");
        assert_eq!(door.connections(), 3);
        let gone = host.wait(PATIENCE + LATE, || door.connections() == 0).await;
        assert!(gone, "{} connections are kept", door.connections());
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let options = HttpOptions {
        connections: 3,
        ..options()
    };
    scenario(options, |host, door| async move {
        let asks = (0..12).map(|_| user::ask(&host, Method::GET, "/slow", &[], whole(""), 60_000));
        let asks = futures_util::future::join_all(asks);
        let watch = async {
            for _ in 0..4_000 {
                assert!(door.connections() <= 3, "{} at once", door.connections());
                host.pass(2).await;
            }
        };
        let (got, ()) = tokio::join!(asks, watch);
        assert!(
            got.iter().all(|got| got.as_ref().is_ok_and(|got| got.whole)),
            "{got:?}"
        );
    });
}

/// A request under way is answered, an idle connection closed, a new one refused, and no task is left.
#[test]
fn shutdown_finishes_what_is_under_way_and_takes_nothing_new() {
    scenario(options(), |host, door| async move {
        let mut idle = User::connect(&host).await.expect("it listens");
        idle.ask(Method::PUT, "/", &[], whole("abc"), 1_000)
            .await
            .expect("an answer");
        let content = Bytes::from(vec![1; 1 << 20]);
        let upload = pieces(&host, content, 50, 0, || false);
        let upload = user::ask(&host, Method::PUT, "/", &[], upload, 10_000);
        let slow = user::ask(&host, Method::GET, "/slow", &[], whole(""), 10_000);
        let stop = async {
            host.pass(500).await;
            door.shutdown();
            host.pass(100).await;
            assert!(User::connect(&host).await.is_err(), "nobody listens");
            assert!(
                idle.ask(Method::PUT, "/", &[], whole("abc"), 1_000)
                    .await
                    .is_err()
            );
            assert_eq!(door.connections(), 2);
        };
        let (upload, slow, ()) = tokio::join!(upload, slow, stop);
        assert_eq!(upload.expect("under way before").body, b"1048576");
        assert_eq!(slow.expect("under way before").body, b"slow");
        host.pass(100).await;
        assert_eq!(door.host().tasks.all().len(), 0, "{:?}", door.host().tasks.all());
        assert_eq!(door.host().faults.open(), 0);
    });
}

/// An answer whose source fails is cut: nobody may take what came for all of it.
#[test]
fn an_answer_that_is_cut_is_seen_as_cut() {
    scenario(options(), |host, door| async move {
        let mut user = User::connect(&host).await.expect("it listens");
        let answer = user
            .begin(Method::GET, "/large", &[], whole(""))
            .await
            .expect("it begins");
        door.host().faults.cut_all();
        let mut got = user::Got {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: Vec::new(),
            whole: false,
        };
        user::read(&host, answer.into_body(), &mut got, 5_000).await;
        assert!(
            !got.whole && got.body.len() < LARGE,
            "{} bytes, whole: {}",
            got.body.len(),
            got.whole
        );
    });
}
