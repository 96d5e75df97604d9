use crate::limits::Limit;
use crate::meter::Spent;
use crate::report::{Report, Setting};
use crate::rules::Subject;
use crate::sample::{Book, Sample};
use std::collections::BTreeMap;
use std::time::Duration;

fn spent(millis: u64, own: u64, cluster: Option<u64>) -> Spent {
    Spent {
        elapsed: Duration::from_millis(millis),
        own: Duration::from_millis(own),
        cluster: cluster.map(Duration::from_millis),
    }
}

fn report() -> Report {
    let (mut book, mut subjects) = (Book::default(), BTreeMap::new());
    let size = 1 << 30;
    book.record(
        &Limit::CopyThree { size }.name(),
        Sample::transfer(size, spent(4000, 2400, None)),
    );
    let write = Subject::Write { streams: 1 };
    for millis in [5000, 2000, 2500] {
        book.record(
            &write.name(),
            Sample::transfer(size, spent(millis, 500, Some(1000))).noted("3 replicas"),
        );
    }
    let stat = Subject::Stat { clients: 1 };
    book.record(
        &stat.name(),
        Sample::operations("stats/s", 0, vec![100, 200, 5000], spent(30, 1, None)),
    );
    subjects.insert(write.name(), write);
    subjects.insert(stat.name(), stat);
    let setting = Setting {
        cluster: Some("http://127.0.0.1:9700".to_owned()),
        policy: Some("3 replicas, acknowledged by all".to_owned()),
        voters: Some(3),
        directory: "/tmp".to_owned(),
        size_bytes: size,
        repeat: 3,
        processors: 2,
        started: 0,
    };
    Report::of(setting, &book, &subjects)
}

#[test]
fn the_table_has_every_figure_beside_its_limit() {
    let expected = "\
http://127.0.0.1:9700: 3 replicas, acknowledged by all; 3 metadata voters
limits in /tmp; large file 1GiB; median of 3; 2 processors

measured                  median                 p50 ms    p99 ms  CPU (own + nodes)
limit: cp x3 + sync          268 MB/s                 -         -  2.40 s/GiB
write, 1 stream              429 MB/s                 -         -  0.50 + 1.00 s/GiB  [3 replicas]
    1.60 x 268 MB/s of cp x3 + sync; required >= 1 met; goal >= 1.5 met
stat, 1 client               100 stats/s           0.20      5.00  333.33 us each
";
    assert_eq!(super::render(&report()), expected);
}

#[test]
fn the_document_has_the_same_figures() {
    let document = serde_json::to_value(report()).unwrap();
    assert_eq!(document["setting"]["repeat"], 3);
    let write = &document["rows"][1];
    assert_eq!(
        (&write["name"], &write["unit"]),
        (&"write, 1 stream".into(), &"MB/s".into())
    );
    assert_eq!(write["runs"].as_array().unwrap().len(), 3);
    assert_eq!(write["value"], write["runs"][2]);
    assert_eq!(write["cpu"]["cluster_seconds_per_gib"], 1.0);
    assert_eq!(write["against"][0]["required"]["met"], true);
    assert_eq!(write["against"][0]["required"]["at_least"], 1.0);
    assert!(write.get("p50_ms").is_none());
    assert_eq!(document["rows"][2]["p99_ms"], 5.0);
    assert!(report().required_is_met());
}
